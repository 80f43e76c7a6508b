"""Drift: what differs on a host from what its image, its manifests and its last push say."""

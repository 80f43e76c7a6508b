"""Recipe to layers to signed image."""

"""Who may sign what: the trust set, the keys of this state directory, signed statements on images, and what they allow."""

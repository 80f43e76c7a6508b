"""The documentation. What makes its site is in `docs.site`."""

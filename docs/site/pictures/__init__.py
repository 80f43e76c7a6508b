"""The pictures of the documentation, drawn as SVG. `python -m docs.site.pictures` writes them; `make schemas` calls it."""

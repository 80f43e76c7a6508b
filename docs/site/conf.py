"""Sphinx, for `python -m docs.site`. Nothing here fetches anything, when the site is built or when it is read."""

project = "qtrade"
html_title = "qtrade"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_theme_options = {"navigation_with_keys": True}
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
highlight_language = "none"
# An example host and addresses in examples answer nobody.
linkcheck_ignore = [r"https?://([a-z0-9-]+\.)*example\.org.*", r"https?://(localhost|127\.0\.0\.1|192\.0\.2\.).*"]
linkcheck_timeout = 30
linkcheck_anchors = False

"""How `make docs` builds these pages."""

from sage.version import __version__

project = "sage"
author = "The sage authors"
release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"sage {release}"
exclude_patterns = ["_build"]
autodoc_typehints = "description"
smartquotes = False

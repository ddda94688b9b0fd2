"""How sphinx builds these pages."""

import importlib.metadata

project = "Sheepdog"
copyright = "the Sheepdog maintainers"
release = importlib.metadata.version("sheepdog")
html_theme = "furo"
html_title = f"Sheepdog {release}"
extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
default_role = "code"
nitpicky = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"


def pictures(_app, what, _name, _obj, _options, lines):
    """Show the docstrings of modules as they are: they hold pictures."""
    if what == "module":
        lines[:] = ["::", "", *(f"    {line}" for line in lines), ""]


def setup(app):
    app.connect("autodoc-process-docstring", pictures)

"""How sphinx builds these pages."""

import importlib.metadata

from sphinx.util.docutils import SphinxDirective

from sheepdog.values import model

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


def table(steps):
    """Draw a table of states as reStructuredText: one row a step, each state named in its first row."""
    yield from (".. list-table::", "   :header-rows: 1", "", "   * - in this state", "     - may happen")
    yield from ("     - which leads to", "     - and means")
    order = list(type(steps[0].before))
    last = None
    for step in sorted(steps, key=lambda step: order.index(step.before)):
        before = f"**{step.before.name.lower()}**" if step.before != last else ""
        yield from (
            f"   * - {before}",
            f"     - {step.event}",
            f"     - {step.after.name.lower()}",
            f"     - {step.meaning}",
        )
        last = step.before
    yield ""


class States(SphinxDirective):
    """Show one of the two tables of states, as the program has it."""

    required_arguments = 1

    def run(self):
        steps = {"task": model.TASK_STATES, "request": model.REQUEST_STATES}[self.arguments[0]]
        return self.parse_text_to_nodes("\n".join(table(steps)))


def setup(app):
    app.add_directive("states", States)
    app.connect("autodoc-process-docstring", pictures)

"""How Sphinx builds the site; `build.py` collects the pages and calls it."""

project = "fgvc kit"
author = "the fgvc kit's authors"
root_doc = "index"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

# Notebooks are shown as they were run; the site runs nothing.
nb_execution_mode = "off"
# What a browser would fetch from elsewhere for interactive widgets: a site shows none.
nb_ipywidgets_js = {}
myst_heading_anchors = 3
# No formulas: a price or a name such as $x_1$ is text, and no script draws it.
myst_enable_extensions = []

napoleon_google_docstring = False
napoleon_use_ivar = True
# Words of a shape such as (images, classes) are no names of the package, however many it has.
suppress_warnings = ["ref.python"]
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "model_config, set"}
autodoc_typehints_format = "short"
# Defaults as the source has them, not as Python shows the objects.
autodoc_preserve_defaults = True
viewcode_follow_imported_members = False
python_use_unqualified_type_names = True
# In docstrings a `word` is code.
default_role = "literal"

html_theme = "furo"
html_title = project
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["wide.css"]


def _plain_text(app, what, name, obj, options, lines):
    """Turn headings and plain tables of docstrings, read in the source, into Sphinx's own."""
    text, new = lines[:], []
    for n, line in enumerate(text):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line and set(line) == {"-"} and len(line) == len(text[n - 1]):
            # A heading of a module's docstring is none of the page's own.
            new[-1:] = [f"**{text[n - 1]}**", ""]
        elif not line.startswith("|"):
            new.append(line)
        elif n == 0 or not text[n - 1].startswith("|"):
            new += ["", ".. list-table::", "   :header-rows: 1", "", *_row(cells)]
        elif set(line) - set("|-: "):
            new += _row(cells)
    lines[:] = new


def _row(cells):
    return [f"   {'* -' if n == 0 else '  -'} {cell}" for n, cell in enumerate(cells)]


def _skip_aliases(app, what, name, obj, skip, options):
    """Leave out what Python itself says of the fields of a NamedTuple; the class describes them."""
    return True if (getattr(obj, "__doc__", "") or "").startswith("Alias for field") else None


def setup(app):
    """Sphinx calls this."""
    app.connect("autodoc-skip-member", _skip_aliases)
    app.connect("autodoc-process-docstring", _plain_text)

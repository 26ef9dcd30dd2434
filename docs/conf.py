"""The site: `sphinx-build -W docs site`; needs the extra [docs]."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

project = "ocssl_jax"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "ocssl_jax"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
default_role = "literal"  # `x` in a docstring is code
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
myst_heading_anchors = 3


def setup(app):
    """Pages pull parts of themselves from the source."""
    import pulled  # beside this file, which the path knows by now

    app.connect("source-read", lambda app, page, text: pulled.read(page, text))

"""Sphinx's configuration of the site: ``make docs`` builds it into ``build/docs``, and a warning is an error.

Nothing on a page comes from another machine: fonts, styles and scripts are the theme's own files.
"""

from __future__ import annotations

import configparser
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_setup = configparser.ConfigParser()
_setup.read(ROOT / "setup.cfg", encoding="utf-8")

project = "TRISHULA 2"
author = _setup["metadata"]["author"]
release = _setup["metadata"]["version"]
version = release
copyright = author

# Our own extension is found as the tests find it: from the work tree's root.
sys.path.insert(0, str(ROOT))
extensions = ["deploy.docs.from_code", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
add_module_names = False
python_maximum_signature_line_length = 110
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# The type of an attribute is cut at its commas: "dict[str, str]" would be two names.
nitpick_ignore_regex = [("py:class", r"(dict|tuple)\[[^\]]*")]
default_role = None
highlight_language = "none"
language = "en"
smartquotes = False

html_theme = "furo"
html_title = f"TRISHULA {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#8a3b12", "color-brand-content": "#8a3b12"},
    "dark_css_variables": {"color-brand-primary": "#f0a070", "color-brand-content": "#f0a070"},
}

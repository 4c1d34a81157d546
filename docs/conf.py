"""Settings of the documentation. `python -m sphinx -W docs docs/_build` builds it, and fails for a broken link."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's messages at start-up
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
sys.path.insert(0, str(Path(__file__).parent))  # for reference_pages

from effnetv2_jax.version import __version__

project = "effnetv2_jax"
release = __version__
extensions = [
    "myst_parser",
    "reference_pages",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

default_role = "py:obj"  # a name between single backticks in a docstring links to its documentation, if it has one
napoleon_custom_sections = [("Source", "notes"), ("Deviation", "notes")]
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

smartquotes_action = "D"  # only dashes: "" is a value here

html_theme = "furo"
html_title = "effnetv2_jax"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_copy_source = False
html_show_copyright = False
copybutton_exclude = ".linenos, .gp, .go"

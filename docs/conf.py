"""Sphinx configuration: the look that NumPy users know, and nothing fetched while building."""

import softmax_rs

project = "softmax-rs"
author = "softmax-rs contributors"
copyright = "softmax-rs contributors"
version = release = softmax_rs.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
autosummary_generate = True
numpydoc_show_class_members = False  # a class lists its methods in its own text, where it has any worth a line
exclude_patterns = ["_build"]

# Every cross-reference must resolve (`-n`), but those into other projects' documentation: their inventories would have
# to be downloaded, and a build must not need the network.
nitpick_ignore_regex = [(r"py:.*", r"(numpy|np|scipy|ml_dtypes|torch)\..*")]

html_theme = "pydata_sphinx_theme"
html_title = f"softmax-rs {release}"
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
html_show_sourcelink = False

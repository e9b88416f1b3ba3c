"""Sphinx configuration: the look that NumPy users know, and nothing fetched while building or reading."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docutils.nodes import SkipNode
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

import softmax_rs

if TYPE_CHECKING:
    from docutils.nodes import math, math_block
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

project = "softmax-rs"
author = "softmax-rs contributors"
copyright = "softmax-rs contributors"
version = release = softmax_rs.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_parser"]
autosummary_generate = True
numpydoc_show_class_members = False  # a class lists its methods in its own text, where it has any worth a line
myst_enable_extensions = ["dollarmath"]  # $...$, which code hosts understand as well
exclude_patterns = ["_build"]

# Every cross-reference must resolve (`-n`), but those into other projects' documentation: their inventories would have
# to be downloaded, and a build must not need the network.
nitpick_ignore_regex = [(r"py:.*", r"(numpy|np|scipy|ml_dtypes|torch)\..*")]

html_theme = "pydata_sphinx_theme"
html_title = f"softmax-rs {release}"
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
html_show_sourcelink = False
html_math_renderer = "mathml"


def mathml(node: math | math_block, *, as_block: bool) -> str:
    """Return a formula in MathML; one that cannot be read is a warning that names its place."""
    try:
        formula = str(tex2mathml(node.astext(), as_block=as_block))
    except MathError as error:
        logging.getLogger(__name__).warning("formula: %s", error, location=node)
        return ""
    # TeX's thin space after the name of a function, as in log p, which MathML leaves out.
    return re.sub(r"(<mo>&ApplyFunction;</mo>)(?!\s*(?:<mo|</))", r'\1<mspace width="0.17em"/>', formula)


def write_inline(self: HTML5Translator, node: math) -> None:
    """Write a formula of the text."""
    self.body.append(mathml(node, as_block=False))
    raise SkipNode


def write_block(self: HTML5Translator, node: math_block) -> None:
    """Write a formula with a line of its own."""
    style = "overflow: auto hidden; padding: 0.3em 0"  # a narrow screen scrolls it
    self.body.append(f'<p style="{style}">{mathml(node, as_block=True)}</p>')
    raise SkipNode


def setup(app: Sphinx) -> None:
    """Write formulas as MathML, which browsers draw themselves: Sphinx's own way has them fetch MathJax from a CDN."""
    app.add_html_math_renderer("mathml", (write_inline, None), (write_block, None))

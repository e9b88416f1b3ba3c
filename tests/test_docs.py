"""Hazard: documentation that is not true. Every example of the docstrings and of the pages is executed."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import softmax_rs
from catalogue import FUNCTIONS, OTHERS, RUNTIME

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")))
EXECUTED = [page for page in PAGES if "```python" in (ROOT / page).read_text(encoding="utf-8")]
SIGNATURES = {f.name: f.signature for f in FUNCTIONS} | OTHERS
DOCUMENTED = (*SIGNATURES, *(name for name in RUNTIME if not name.startswith("__")))
OPTIONS = doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", DOCUMENTED)
def test_docstring_examples(name):
    """Each public function has examples, and they run as printed."""
    documented = getattr(softmax_rs, name)
    before = softmax_rs.get_num_threads()
    found = doctest.DocTestFinder(recurse=False).find(
        documented, name, module=False, globs={"np": np, "softmax_rs": softmax_rs, name: documented}
    )
    assert sum(len(test.examples) for test in found) > 0, f"{name} has no example"
    said = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    failed = sum(runner.run(test, out=said.append).failed for test in found)
    softmax_rs.set_num_threads(before)
    assert failed == 0, "".join(said)


@pytest.mark.parametrize("function", SIGNATURES)
def test_docstring_sections(function):
    """In NumPy's style and order: summary, parameters, returns, raises, accuracy in ULP, examples, references."""
    text = getattr(softmax_rs, function).__doc__
    summary = text.strip().splitlines()[0]
    assert summary.endswith(".") and len(summary) < 100
    sections = [
        m.start()
        for m in (re.search(rf"^ *{name}\n *-+$", text, re.MULTILINE) for name in ("Parameters", "Returns", "Raises"))
        if m
    ]
    assert len(sections) == 3 and sections == sorted(sections), f"{function}: sections are missing or out of order"
    for word in ("ULP", "NaN", "Examples", "References"):
        assert word.lower() in text.lower(), f"{function}: no {word}"
    for name in re.findall(r"(\w+)(?:=|,|\))", SIGNATURES[function]):
        if name not in ("None", "False") and not name.isdigit():
            assert re.search(rf"\b{name}\b", text), f"{function}: {name} is not documented"


@pytest.mark.parametrize("page", EXECUTED)
def test_page(page):
    """Every Python block of a page, in order, in one namespace."""
    sybil = pytest.importorskip("sybil", reason=f"sybil is not installed: {page} was not executed")
    from sybil.parsers.markdown import PythonCodeBlockParser

    document = sybil.Sybil([PythonCodeBlockParser(doctest_optionflags=OPTIONS)]).parse(ROOT / page)
    examples = list(document.examples())
    assert examples, f"{page} has no Python block"
    for example in examples:
        example.evaluate()


@pytest.mark.parametrize("page", PAGES)
def test_pictures_of_a_page(page):
    """Pictures are there, and have a text for those who do not see them."""
    for text, place in re.findall(r"!\[(.*?)\]\((.*?)\)", (ROOT / page).read_text(encoding="utf-8")):
        assert ((ROOT / page).parent / place).is_file(), place
        assert len(text) > 40, place


def test_figures(tmp_path):
    """The script draws all the committed figures; whether to the same bytes depends on matplotlib's version."""
    for package in ("matplotlib", "mpmath"):
        pytest.importorskip(package, reason=f"{package} is not installed: no figure was drawn")
    subprocess.run([sys.executable, "-W", "error", ROOT / "docs" / "figures.py", tmp_path], check=True, timeout=120)
    drawn = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(drawn) == {path.name for path in (ROOT / "docs" / "figures").iterdir()}
    for name, data in drawn.items():
        assert data.startswith(b"<?xml") and b"<svg" in data, name
        assert 10_000 < len(data) < 150_000, name

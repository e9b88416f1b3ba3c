"""Hazard: documentation that is not true. Every example of the docstrings and of README.md is executed."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

import softmax_rs
from catalogue import FUNCTIONS, OTHERS, RUNTIME

README = Path(__file__).parent.parent / "README.md"
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


def test_readme():
    """Every Python block of README.md, in order, in one namespace."""
    sybil = pytest.importorskip("sybil", reason="sybil is not installed: README.md was not executed")
    from sybil.parsers.markdown import PythonCodeBlockParser

    document = sybil.Sybil([PythonCodeBlockParser(doctest_optionflags=OPTIONS)]).parse(README)
    examples = list(document.examples())
    assert examples, "README.md has no Python block"
    for example in examples:
        example.evaluate()

"""The documentation site: what of a docstring Markdown would take for something else."""

import runpy

import pytest
from conftest import REPOSITORY


def test_examples_of_docstrings_are_shown_as_code() -> None:
    pytest.importorskip("griffe", reason="griffe is absent (pip install '.[docs]')")
    fenced = runpy.run_path(str(REPOSITORY / "recipes" / "site" / "doctests.py"))["fenced"]
    text = "Adds.\n\n>>> 1 + 1\n2\n\nArgs:\n    x: one.\n\n>>> 3\n3"
    expected = "Adds.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nArgs:\n    x: one.\n\n```pycon\n>>> 3\n3\n```\n"
    assert fenced(text) == expected

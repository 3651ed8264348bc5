"""The table of guards fits the package: `mutate.py`, which takes minutes, is run by hand."""

import ast

from conftest import REPOSITORY
from table import all_mutations

MUTATIONS = all_mutations()


def test_every_guard_stands_in_the_source_once_and_python_remains_without_it() -> None:
    for mutation in MUTATIONS:
        source = (REPOSITORY / "wavediff" / mutation.file).read_text(encoding="utf-8")
        ast.parse(mutation.applied(source))


def test_every_guard_names_a_test_that_exists() -> None:
    for mutation in MUTATIONS:
        assert f"def {mutation.name}" in (REPOSITORY / "tests" / mutation.tests).read_text(encoding="utf-8"), mutation


def test_no_guard_is_listed_twice() -> None:
    assert len({(m.file, m.snippet, m.tests) for m in MUTATIONS}) == len(MUTATIONS) >= 40

"""The examples in the package's docstrings, run as they stand."""

import doctest
import importlib
from pathlib import Path

import pytest
from conftest import REPOSITORY

import wavediff
from wavediff import audio, mel, metrics

PACKAGE = REPOSITORY / "wavediff"


def _module(path: Path) -> str:
    """`wavediff.audio` for wavediff/audio/__init__.py."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


# Only what has examples is imported.
MODULES = [_module(path) for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_say(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # examples write files
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for example in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
        runner.run(example, out=said.append)
    assert runner.tries > 0, f"{name} has '>>> ' where doctest does not find it"
    assert runner.failures == 0, "".join(said)


@pytest.mark.parametrize(
    "thing",
    [
        wavediff,
        wavediff.Vocoder,
        wavediff.Generator,
        wavediff.MelSpec.preset,
        audio.read_audio,
        audio.read_info,
        audio.write_audio,
        audio.AudioWriter,
        audio.resample,
        mel.can_convert,
        mel.convert,
        mel.diagnose,
        mel.write_mel,
        metrics.evaluate_pair,
    ],
    ids=lambda thing: thing.__name__,
)
def test_what_users_begin_with_has_an_example(thing: object) -> None:
    assert ">>> " in (thing.__doc__ or "")

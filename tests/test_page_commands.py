"""The fenced commands of the pages, run as they are written, from the top of a page to its end.

What takes a corpus, a network or hours says so in its first line, `# needs ...`, and is not run.
"""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from conftest import REPOSITORY

from wavediff.cli.main import main
from wavediff.version import __version__

pytestmark = pytest.mark.slow

NEEDS = "# needs "
PAGES = [
    "README.md",
    "egs/README.md",
    *(path.relative_to(REPOSITORY).as_posix() for path in sorted((REPOSITORY / "recipes").rglob("*.md"))),
]
PYTHON = ("README.md", "egs/README.md")  # elsewhere it shows parts of programs

SHORT = ("README.md", "egs/README.md", "recipes/README.md", "recipes/finetune/README.md")


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of each block, but for the command that runs these tests."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    text = re.sub(r"<!-- test command -->.*?<!-- /test command -->", "", text, flags=re.DOTALL)
    languages = "sh|python" if page in PYTHON else "sh"
    return re.findall(rf"^```({languages})\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_as_written(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("egs", "recipes", "wavediff"):  # as at the root of a checkout, where nothing else is touched
        Path(folder).symlink_to(REPOSITORY / folder)
    for language, text in blocks(page):
        if text.startswith(NEEDS):
            continue
        if language == "python":
            exec(compile(text, page, "exec"), {})  # noqa: S102  our own text
            continue
        for line in text.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line, comments=True) or [""]
            assert program == "wavediff", (
                f"{page}: {line}: is not run; say what it {NEEDS[2:]}in the block's first line"
            )
            assert main(arguments) == 0, f"{page}: {line}: {capsys.readouterr().err}"


def test_the_first_page_is_run() -> None:
    run = [text for _, text in blocks("README.md") if not text.startswith(NEEDS)]
    assert len(run) >= 5
    assert "wavediff demo" in run[0]


@pytest.mark.parametrize("page", SHORT)
def test_a_page_for_newcomers_has_short_sentences(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    text = re.sub(r"```.*?```|^\|[^\n]*|^#[^\n]*|<!--.*?-->", " ", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    sentences = [" ".join(one.split()) for one in re.split(r"[.!?](?:\s|$)|\n\n|\n- | · ", text)]
    assert len(sentences) > 10
    assert [sentence for sentence in sentences if len(sentence.split()) > 30] == []


def test_the_first_lines_say_what_the_package_says() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    least = project["requires-python"].removeprefix(">=")
    badges = f"`version {__version__}` · `Python {least} or later` · `licence {project['license']}`"
    assert text.splitlines()[2].startswith(badges)
    assert f"wavediff-{__version__}-py3-none-any.whl" in text

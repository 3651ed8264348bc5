"""What the pages say, held against what is there: links, commands, model cards, the citation."""

import argparse
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY

from wavediff.cli.info import describe
from wavediff.cli.main import SUBCOMMANDS, parser_of
from wavediff.cli.parser import MODEL_HELP
from wavediff.pipelines.sounds import DEFAULT_STEPS

PAGES = sorted(
    path for pattern in ("*.md", "egs/*.md", "recipes/**/*.md", "wavediff/**/*.md") for path in REPOSITORY.glob(pattern)
)
WEIGHTS = REPOSITORY / "wavediff" / "models" / "weights"
HAVE_MODELS = ("bench", "demo", "doctor", "export", "generate", "serve", "vocode")


def _name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Of a parser and of those below it (`prepare CORPUS`)."""
    found = {option for action in parser._actions for option in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found |= options_of(below)
    return found


def commands_in(page: Path) -> Iterator[list[str]]:
    """The words after `wavediff` of each command in a page: lines of its shell blocks, and code within the text."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for line in lines:
        if "wavediff" not in line:
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a quotation mark that belongs to a sentence
            continue
        for place, word in enumerate(words[:-1]):
            if Path(word).name in ("wavediff", "wavediff.cli.main") and words[place + 1] in SUBCOMMANDS:
                yield words[place + 1 :]


def test_pages_name_the_steps_that_are_the_default() -> None:
    pages = {
        "wavediff/models/weights/README.md": f"at the default {DEFAULT_STEPS} steps",
        "recipes/sfx/README.md": f"| ddpm, {DEFAULT_STEPS} (default) |",
        "wavediff/app/static/index.html": f'id="sound-steps" min="10" max="100" step="5" value="{DEFAULT_STEPS}"',
    }
    for page, words in pages.items():
        assert words in (REPOSITORY / page).read_text(encoding="utf-8"), page


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_of_a_page_have_the_options_that_it_gives_them(page: Path) -> None:
    for command, *rest in commands_in(page):
        given = {word.partition("=")[0] for word in rest if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word)}
        if command == "train":  # its options are keys of the YAML; the recipe must be there
            recipes = [rest[place + 1] for place, word in enumerate(rest[:-1]) if word == "--config"]
            assert [recipe for recipe in recipes if not (REPOSITORY / recipe).is_file()] == [], _name(page)
            continue
        unknown = given - options_of(parser_of(command))
        assert not unknown, f"{_name(page)}: wavediff {command} has no {sorted(unknown)}"


def test_the_commands_are_found() -> None:
    found = {command for page in PAGES for command, *_ in commands_in(page)}
    assert {"vocode", "train", "prepare", "bench", "search", "generate"} <= found


@pytest.mark.parametrize("command", HAVE_MODELS)
def test_help_says_what_a_checkpoint_can_be(command: str) -> None:
    helps = [action.help or "" for action in parser_of(command)._actions if action.dest == "checkpoint"]
    assert len(helps) == 1
    assert MODEL_HELP in helps[0]


def _card(file: str) -> str:
    """What the page says of a bundled file."""
    text = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^\*\*`{re.escape(file)}`\*\*.*?(?=^\*\*`|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{file} has no card"
    return found[0]


@pytest.mark.parametrize("file", sorted(path.name for path in WEIGHTS.glob("*.safetensors")))
def test_card_of_a_bundled_model_says_what_its_file_does(file: str) -> None:
    card, facts = _card(file), describe(WEIGHTS / file)
    rows = dict(re.findall(r"^\| ([\w ,]+) \| (.*) \|$", card, re.MULTILINE))
    assert {"network", "data", "training", "meant for", "not for", "limits", "licence"} <= rows.keys()
    assert f"{facts['parameters']:,} parameters" in rows["network"]
    assert f"{(WEIGHTS / file).stat().st_size / 1e6:.1f} MB" in rows["network"]
    assert f"{facts['facts']['steps']:,} steps of {facts['facts']['batch']['size']}" in rows["training"]
    assert facts["facts"]["date"] in rows["training"]
    assert rows["licence"].startswith("Apache-2.0")
    if facts.get("labels"):
        classes, _, kinds = rows["classes"].partition("; ")
        assert classes == ", ".join(dict.fromkeys(label.partition("/")[0] for label in facts["labels"]))
        assert kinds.startswith(f"{len(facts['labels'])} kinds") or "/" not in "".join(facts["labels"])
    elif "mel" in facts:
        assert f"`{facts['mel'].partition(':')[0]}`" in card


def test_the_citation_is_complete() -> None:
    citation: dict[str, Any] = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["license"] == project["license"]
    assert citation["title"].startswith(project["name"])
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]
    assert {"message", "authors", "title"} <= citation.keys()  # without which it is not valid
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= reference.keys()
        assert all({"family-names", "given-names"} <= author.keys() for author in reference["authors"])


def test_the_settings_are_timed_beside_their_default(capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(REPOSITORY / "recipes" / "settings.py"))
    script["main"](["--only", "vocoder", "--seconds", "0.5", "--repeats", "1"])
    out = capsys.readouterr().out
    rows = re.findall(r"^vocoder, (.+): rtf .+, ratio of rtf (\S+), ratio of core (\S+)$", out, re.MULTILINE)
    assert len(rows) == 9
    assert rows[0] == ("the default", "1", "1")
    delays = re.findall(r"^delay, num_steps=\d: milliseconds (\S+)$", out, re.MULTILINE)
    assert [float(delay) for delay in delays] == sorted(float(delay) for delay in delays)
    assert len(delays) == 3


def test_the_figures_of_scale_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    from wavediff.audio import write_audio
    from wavediff.data.manifest import Utterance, write_manifest

    write_audio(tmp_path / "a.wav", 0.1 * torch.randn(16_000), 16_000)
    write_manifest(tmp_path / "train.jsonl", [Utterance(tmp_path / "a.wav", 1.0, 16_000)])
    script = runpy.run_path(str(REPOSITORY / "recipes" / "scale.py"))
    script["main"]([str(tmp_path / "train.jsonl"), "--segment-length", "4096", "--items", "5", "--utterances", "100"])
    out = capsys.readouterr().out
    assert "a manifest of 100 lines" in out
    assert "segments of 0.26 s a second" in out

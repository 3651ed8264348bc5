"""What SECURITY.md says, held against the source: who may use the network, start programs, and which versions."""

import ast
import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement
from packaging.version import Version

PACKAGE = REPOSITORY / "wavediff"
TREES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_bytes()) for path in PACKAGE.rglob("*.py")}

NETWORK = {"socket", "ssl", "urllib", "http", "ftplib", "smtplib", "requests", "httpx", "aiohttp", "websockets"}
NETWORK |= {"huggingface_hub", "obstore", "uvicorn", "starlette", "webbrowser", "xmlrpc"}
HARMLESS = {"urllib.parse", "http.cookies"}  # of text
MAY_USE_THE_NETWORK = {
    "places.py": "lists, reads and writes what is named s3://",
    "models/hub.py": "fetches and pushes models that are named user/model",
    "data/corpora/sharing.py": "--download",
    "cli/serve.py": "opens a browser on request",
    "app/guard.py": "answers what it refuses",
    "app/service.py": "listens, and answers requests",
}
MAY_START_PROGRAMS = {
    "exporting/web_folder.py": "npm, which fetches the runtime of a page, unless --runtime names a folder"
}
# Facts that the floors stand for; SECURITY.md repeats none of the numbers.
FLOORS = {"torch": "2.11", "lightning": "2.6.6", "safetensors": "0.8"}


def imported(tree: ast.AST) -> set[str]:
    """Full names of what is imported anywhere in a module."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return names


def downloads(tree: ast.AST) -> bool:
    """Whether something is called with `download=` or from `torch.hub`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    given = any(k.arg == "download" and ast.unparse(k.value) != "False" for call in calls for k in call.keywords)
    return given or any(ast.unparse(call.func).startswith("torch.hub.") for call in calls)


def of_network(tree: ast.AST) -> bool:
    """Whether a module can reach the network by itself."""
    names = {name for name in imported(tree) if name not in HARMLESS and name.partition(".")[0] in NETWORK}
    return bool(names) or downloads(tree)


def starts_programs(tree: ast.AST) -> bool:
    """Whether a module can start another program."""
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return bool({"subprocess", "pty"} & imported(tree)) or any(
        re.match(r"os\.(system|popen|exec|spawn|posix_spawn)", call) for call in calls
    )


def test_only_those_with_a_reason_use_the_network() -> None:
    found = {name for name, tree in TREES.items() if of_network(tree)}
    assert found - {name for name in found if name.startswith("app/")} <= MAY_USE_THE_NETWORK.keys()
    assert MAY_USE_THE_NETWORK.keys() <= found, "a reason too many"


def test_only_those_with_a_reason_start_programs() -> None:
    assert {name for name, tree in TREES.items() if starts_programs(tree)} == MAY_START_PROGRAMS.keys()


@pytest.mark.parametrize(
    "code",
    [
        "from urllib.request import urlopen",
        "import socket",
        "def f():\n    import requests",
        "torchaudio.datasets.LJSPEECH(root, download=True)",
        "torch.hub.load_state_dict_from_url(url)",
    ],
)
def test_the_gate_sees_the_network(code: str) -> None:
    assert of_network(ast.parse(code))


def test_the_gate_sees_programs_and_lets_text_pass() -> None:
    for code in ("import subprocess", "os.execvp(name, args)", "os.system(name)"):
        assert starts_programs(ast.parse(code))
    assert not of_network(ast.parse("from urllib.parse import urlsplit"))
    assert not starts_programs(ast.parse("os.replace(a, b)"))


def requirements() -> dict[str, Requirement]:
    """What an installation asks for, by name."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {r.name: r for r in map(Requirement, project["dependencies"])}


def lowest(requirement: Requirement) -> Version:
    """The version that a requirement begins with."""
    (floor,) = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
    return floor


def test_the_floors_keep_out_versions_with_known_holes() -> None:
    for name, floor in FLOORS.items():
        assert lowest(requirements()[name]) >= Version(floor), name


def test_what_is_installed_is_what_is_asked_for() -> None:
    for name, requirement in requirements().items():
        version = Version(importlib.metadata.version(name))
        assert requirement.specifier.contains(Version(version.public).base_version), f"{name} {version}"


def test_every_requirement_has_a_floor() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for group in project["optional-dependencies"].values() for text in group]
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        assert any(part.operator in (">=", "==") for part in requirement.specifier), str(requirement)


def test_the_policy_of_security_names_every_kind_of_input() -> None:
    text = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    for word in ("audio files", "mel files", "model files", "manifests", "YAML", "requests to", "models from the Hub"):
        assert word in text, word
    assert Path(REPOSITORY / "SECURITY.md").stat().st_size < 12_000

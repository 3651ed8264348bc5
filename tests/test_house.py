"""The house rules of CONTRIBUTING.md and the promises of README.md, held against the code."""

import ast
import graphlib
import importlib.metadata
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

import wavediff
from wavediff.cli.main import SUBCOMMANDS
from wavediff.mel import PRESETS

PACKAGE = REPOSITORY / "wavediff"
MAX_LINES = 300
LAZY = {"diffwave", "jsonargparse", "librosa", "matplotlib", "pesq", "pystoi", "scipy", "soundfile", "torchmetrics"}
LAZY |= {"huggingface_hub", "litdata", "obstore", "ray", "transformers", "vocos"}
UNSAFE_LIBRARIES = {"_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
FAULTS = range(1, 87)


def _module(path: Path) -> str:
    """`wavediff.audio` for wavediff/audio.py."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


TREES = {_module(path): ast.parse(path.read_bytes()) for path in sorted(PACKAGE.rglob("*.py"))}


def _table(file: str, name: str) -> list[list[str]]:
    """The cells of the Markdown table between `<!-- name -->` and `<!-- /name -->`, without its heading."""
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    assert found is not None, f"{file} lost its <!-- {name} --> markers"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()[2:]]


def _names(cell: str) -> list[str]:
    return [name.strip() for name in cell.split(",") if name.strip()]


def _full(name: str) -> str:
    return name if name == "wavediff" else f"wavediff.{name}"


ROOMS = {room: [_full(name) for name in _names(modules)] for room, modules, _, _ in _table("CONTRIBUTING.md", "rooms")}
MAY_IMPORT = {room: _names(rooms) for room, _, rooms, _ in _table("CONTRIBUTING.md", "rooms")}
LIBRARIES = {room: set(_names(libraries)) for room, _, _, libraries in _table("CONTRIBUTING.md", "rooms")}


def _inside(module: str, prefix: str) -> bool:
    return module == prefix or (prefix != "wavediff" and module.startswith(f"{prefix}."))


def _room(module: str) -> str:
    """The room with the longest name for it: wavediff.data.datamodule is not just data."""
    fitting = [(prefix, room) for room, prefixes in ROOMS.items() for prefix in prefixes if _inside(module, prefix)]
    assert fitting, f"{module} is in no room: give it a place in the table of CONTRIBUTING.md"
    return max(fitting, key=lambda pair: len(pair[0]))[1]


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "wavediff"


def _imported(node: ast.AST) -> list[str]:
    """What an import statement imports: modules of ours in full, others by their top-level name."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        parts = [f"{node.module}.{alias.name}" for alias in node.names]
        names = [part if part in TREES else str(node.module) for part in parts]
    else:
        names = []
    return [name if _is_ours(name) else name.partition(".")[0] for name in names]


def _permitted(room: str, name: str) -> bool:
    """Whether `name`, a module of ours, is of a room that `room` may import, or in what it may import of one."""
    modules = [_full(entry) for entry in MAY_IMPORT[room] if entry not in ROOMS]
    return _room(name) in {room, *MAY_IMPORT[room]} or any(_inside(name, module) for module in modules)


def test_a_module_imports_only_what_its_room_may() -> None:
    wrong = []
    for module, tree in TREES.items():
        room = _room(module)
        for node in ast.walk(tree):
            for name in _imported(node):
                libraries = LIBRARIES[room] | sys.stdlib_module_names
                if not (_permitted(room, name) if _is_ours(name) else name in libraries):
                    wrong.append(f"{module} (room {room}) imports {name} in line {getattr(node, 'lineno', '?')}")
    assert wrong == []


def test_the_rooms_form_no_circle() -> None:
    graph = {
        room: {entry if entry in ROOMS else _room(_full(entry)) for entry in entries}
        for room, entries in MAY_IMPORT.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_every_room_has_modules_and_uses_its_libraries() -> None:
    used: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, tree in TREES.items():
        used[_room(module)].update(name for node in ast.walk(tree) for name in _imported(node))
    for room, prefixes in ROOMS.items():
        assert all(any(_inside(module, prefix) for module in TREES) for prefix in prefixes), room
        assert LIBRARIES[room] <= used[room], f"{room} does not use {LIBRARIES[room] - used[room]}"


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            for name in ("body", "orelse", "finalbody"):
                yield from _at_import(getattr(statement, name, []))


def test_slow_and_optional_libraries_are_imported_inside_functions() -> None:
    eager = {module: {n for s in _at_import(tree.body) for n in _imported(s)} & LAZY for module, tree in TREES.items()}
    assert {module: names for module, names in eager.items() if names} == {}


def test_importing_the_package_loads_no_trainer_and_no_audio_or_drawing_library() -> None:
    code = "import sys, wavediff; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    loaded = set(done.stdout.split())
    assert "wavediff" in loaded
    assert not loaded & {"lightning", "pytorch_lightning", *LAZY}


def test_the_version_is_in_one_place() -> None:
    holders = [
        path.relative_to(REPOSITORY).as_posix()
        for path in [*PACKAGE.rglob("*.py"), REPOSITORY / "pyproject.toml", REPOSITORY / "CITATION.cff"]
        if f'"{wavediff.__version__}"' in path.read_text(encoding="utf-8")
        or f"version: {wavediff.__version__}" in path.read_text(encoding="utf-8")
    ]
    assert holders == ["wavediff/version.py"]
    assert f"[{wavediff.__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_top_level_holds_the_smallest_modules_alone() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == {
        "__init__",
        "arguments",
        "environment",
        "errors",
        "files",
        "libraries",
        "places",
        "version",
    }


def test_nobody_asks_for_the_class_of_a_network_a_prior_or_a_schedule() -> None:
    """They answer for themselves, and the registries know the rest."""
    classes = {"DiffWave", "SpectralNet", "UNet", "ShapedNormal"}
    classes |= {"DiscreteSchedule", "CosineSchedule", "FlowSchedule", "DiffWaveConfig", "SpectralConfig", "UNetConfig"}
    calls = [
        (module, node)
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass")
    ]
    asked = [(module, {n.id for n in ast.walk(call.args[1]) if isinstance(n, ast.Name)}) for module, call in calls]
    assert [module for module, names in asked if names & classes] == []


def _private_names_of_ours() -> set[str]:
    """What the package itself calls by a name that begins with an underscore: functions, and fields of its objects."""
    nodes = [node for tree in TREES.values() for node in ast.walk(tree)]
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    fields = {
        n.attr
        for n in nodes
        if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store) and ast.unparse(n.value) == "self"
    }
    return functions | fields


def test_nothing_touches_a_private_part_of_lightning_or_ray() -> None:
    """In the rooms that may import them, and in what they hand to the rest."""
    known = _private_names_of_ours() | {
        "_actions",
        "_subcommands_action",
        "_replace",
    }  # argparse's, and of named tuples
    touched = [
        f"{module}: {ast.unparse(node)}"
        for module, tree in TREES.items()
        if LIBRARIES[_room(module)] & {"lightning", "ray"}
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr) and node.attr not in known
    ]
    assert touched == []


def test_no_file_is_longer_than_one_sitting() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path.name: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def _runs_what_it_reads(module: str, node: ast.AST) -> bool:
    if UNSAFE_LIBRARIES & set(_imported(node)):
        return True
    if not isinstance(node, ast.Call):
        return False
    called, arguments = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
    return (
        called in {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
        or (called == "torch.load" and arguments.get("weights_only") != "True")
        or (called.startswith("yaml.") and called != "yaml.safe_load")
        or (called == "importlib.import_module" and module != "wavediff.cli.main")  # of the names in SUBCOMMANDS
        or any(arguments.get(name, "False") != "False" for name in ("shell", "allow_pickle"))
    )


def test_nothing_that_is_read_can_run() -> None:
    nodes = [(module, node) for module, tree in TREES.items() for node in ast.walk(tree)]
    assert [f"{module}: {ast.unparse(node)}" for module, node in nodes if _runs_what_it_reads(module, node)] == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "eval(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text)",
        "subprocess.run(command, shell=True)",
        "np.load(path, allow_pickle=True)",
        "importlib.import_module(name)",
    ],
)
def test_the_gate_sees_what_would_run(code: str) -> None:
    assert any(_runs_what_it_reads("wavediff.audio", node) for node in ast.walk(ast.parse(code)))


def test_every_library_in_use_is_declared() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {
        re.split(r"[^\w-]", requirement)[0].lower()
        for group in (
            project["dependencies"],
            *(
                project["optional-dependencies"][extra]
                for extra in ("eval", "hub", "onnx", "ray", "s3", "serve", "shards")
            ),
        )
        for requirement in group
    }
    declared |= {"diffwave", "vocos", "transformers"}  # whoever compares speed with them installs them by hand
    declared |= {"triton"}  # comes with PyTorch where there can be a GPU for it
    declared |= {name.removesuffix("-python") for name in declared}  # visqol-python, where it is not installed
    providers = importlib.metadata.packages_distributions()
    used = {name for tree in TREES.values() for node in ast.walk(tree) for name in _imported(node)}
    for name in used - sys.stdlib_module_names:
        if not _is_ours(name):
            assert {name, *(provider.lower() for provider in providers.get(name, ()))} & declared, name


def _faults_guarded() -> dict[int, set[str]]:
    """Row -> test files, from the comments `# fault N` and `# faults N, M`."""
    guarded: dict[int, set[str]] = {}
    for path in sorted((REPOSITORY / "tests").rglob("*.py")):
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
            if token.type == tokenize.COMMENT:
                for rows in re.findall(r"\bfaults? (\d+(?:, \d+)*)", token.string):
                    for row in rows.split(", "):
                        guarded.setdefault(int(row), set()).add(path.name)
    return guarded


def test_every_fault_is_explained_and_guarded_by_a_test() -> None:
    """None is excused."""
    explained = [int(row) for row, *_ in _table("CONTRIBUTING.md", "faults")]
    assert explained == list(FAULTS)
    missing = sorted(set(FAULTS) - _faults_guarded().keys())
    assert not missing, f"no test carries the comment `# fault N` for rows {missing}"
    assert _faults_guarded().keys() <= set(FAULTS)


def test_the_readme_lists_every_subcommand() -> None:
    assert [row[0].strip("`").split()[1] for row in _table("README.md", "subcommands")] == list(SUBCOMMANDS)


def test_the_readme_lists_every_mel_preset() -> None:
    rows = {row[0].strip("`"): row for row in _table("README.md", "mel presets")}
    assert list(rows) == list(PRESETS)
    for name, spec in PRESETS.items():
        _, _, rate, hop, bands, edges, *_ = rows[name]
        assert (rate, hop, bands) == (str(spec.sample_rate), str(spec.hop_length), str(spec.n_mels)), name
        assert edges == f"{spec.f_min:g}-{spec.f_max:g}", name


def test_the_recipe_tests_find_every_recipe() -> None:
    recipes = REPOSITORY / "recipes"
    found = set(recipes.glob("*/*.yaml"))  # as tests/test_training.py, which runs a step of each
    assert {path for path in recipes.rglob("*.y*ml") if path.parent.name != "site"} == found

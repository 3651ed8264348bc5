"""Where the tests find real audio, and what they share."""

import gc
import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
import soundfile

# Before torch reads it, and for processes that tests start: threads that wait by spinning take the cores from others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["OMP_NUM_THREADS"] = "1"

import torch

REPOSITORY = Path(__file__).resolve().parent.parent


def load_example(name: str) -> ModuleType:
    """The module `egs/NAME.py`, which lies in no package."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "egs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_collection_finish() -> None:
    """Spare the collector of garbage what all tests and libraries hold: it would go through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real corpora; tests that need it are skipped, visibly, where it is absent."""
    root = Path(os.environ.get("WAVEDIFF_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"real audio is absent ({root}); set WAVEDIFF_DATA to its folder")
    return root


@pytest.fixture(scope="session")
def ljspeech(data_root: Path) -> Path:
    """A folder in LJSpeech's own layout (metadata.csv, wavs/, train.txt, test.txt)."""
    return data_root / "LJSpeech-1.1"


@pytest.fixture(scope="session")
def speech(ljspeech: Path) -> torch.Tensor:
    """A sentence (N,), by another reader than ours."""
    samples, rate = soundfile.read(ljspeech / "wavs" / "LJ001-0002.wav", dtype="float32")
    assert rate == 22_050
    return torch.from_numpy(samples)


def pytest_configure(config: pytest.Config) -> None:
    """Let files begin in the order of the collection, where xdist would begin with those of most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long begin first, so that no process waits for another at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The same thread count everywhere: sums, and so last bits, depend on it. Other cores have other tests to run."""
    torch.set_num_threads(1)

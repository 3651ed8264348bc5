"""What all pipelines are: a model with its configuration, from a file and on a device."""

import contextlib
import functools
import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

import torch

from wavediff.arguments import as_path, shown
from wavediff.errors import CheckpointError, ConfigError, OutputError
from wavediff.files import check_output, write_text
from wavediff.models import WEIGHTS
from wavediff.models.checkpoint import load_checkpoint, save_checkpoint
from wavediff.models.config import ModelConfig
from wavediff.models.denoiser import Denoiser
from wavediff.models.hub import CARD_FILE, MODEL_FILE, fetch_model, is_hub_id, model_card, push_model

Method = TypeVar("Method", bound=Callable[..., Any])
BUNDLED = "bundled"
"""The name of the model that comes with the package."""
_LOCK = threading.Lock()
_within: list[torch.device] = []  # of each thread that needs all bits now
_callers: list[str] = []  # the settings that come back


def exact(method: Method) -> Method:
    """Run a pipeline's method without gradients, and in the model's own precision whatever autocast says.

    What the method returns are ordinary tensors, also under a caller's `torch.inference_mode`: callers may change
    them in place and train on them.

    Of a generator function each value is made so; whoever takes it is outside again.
    """

    @functools.wraps(method)
    def run(self: "Pipeline", *args: Any, **kwargs: Any) -> Any:
        with _as_it_is(self.device):
            return _uncompiled(method)(self, *args, **kwargs)

    @functools.wraps(method)
    def iterate(self: "Pipeline", *args: Any, **kwargs: Any) -> Iterator[Any]:
        values, end = method(self, *args, **kwargs), object()
        while True:
            with _as_it_is(self.device):
                value = _uncompiled(next)(values, end)
            if value is end:
                return
            yield value

    return cast(Method, iterate if inspect.isgeneratorfunction(method) else run)


@contextlib.contextmanager
def _as_it_is(device: torch.device) -> Iterator[None]:
    as_written = torch.autocast(device.type, enabled=False)
    with torch.inference_mode(False), torch.no_grad(), as_written, whole_float32(device):
        yield


@contextlib.contextmanager
def whole_float32(device: torch.device) -> Iterator[None]:
    """Products and convolutions of float32 in all its bits, as on a CPU.

    On a GPU torch rounds the factors of convolutions to 10 bits of mantissa (TF32) unless it is told not to. The
    caller's settings come back when the last thread that needs all bits is done; for other devices nothing is set.
    """
    if device.type != "cuda":
        yield
        return
    places: list[Any] = [torch.backends.cudnn.conv, torch.backends.cuda.matmul]  # type: ignore[attr-defined]
    with _LOCK:
        if not _within:
            _callers[:] = [place.fp32_precision for place in places]
            for place in places:
                place.fp32_precision = "ieee"
        _within.append(device)
    try:
        yield
    finally:
        with _LOCK:
            _within.pop()
            if not _within:
                for place, setting in zip(places, _callers, strict=True):
                    place.fp32_precision = setting


def _uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, left out where a caller's `torch.compile` comes by: it would trace every step for minutes.

    torch takes seconds to load the compiler; where it is not loaded, nobody compiles.
    """
    return _disabled(function) if "torch._dynamo" in sys.modules else function


def uncompiled_each(values: Iterator[Any]) -> Iterator[Any]:
    """The same values, each computed outside of a caller's `torch.compile`."""
    end = object()
    while (value := _uncompiled(next)(values, end)) is not end:
        yield value


@functools.cache
def _disabled(function: Callable[..., Any]) -> Callable[..., Any]:
    return cast(Callable[..., Any], torch.compiler.disable(function))


class Pipeline:
    """A denoiser and what is known of it.

    Args:
        config: of the model.
        denoiser: the model.
        facts: how it came about.

    Raises:
        ConfigError: `config` is of another kind of model.
    """

    bundled: ClassVar[str]
    """File name of the model that comes with the package."""

    def __init__(self, config: ModelConfig, denoiser: Denoiser, facts: dict[str, Any] | None = None) -> None:
        self.config, self.denoiser, self.facts = config, denoiser, facts or {}

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike[str] | None = None, device: str = "auto", *, revision: str | None = None
    ) -> Self:
        """Load a model file.

        Args:
            source: a `.safetensors` file, or a folder that holds `model.safetensors`; None or "bundled" for the bundled
                model. What is neither here is fetched from the Hugging Face Hub, if it is a name "user/model".
            device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:N" or "mps".
            revision: branch, tag or commit of a model on the Hub.

        Raises:
            CheckpointError: the file is missing or not an intact model file of this kind, or cannot be fetched.
            ConfigError: the device is not there, or a revision is given of a file.
            MissingExtraError: the model is on the Hub, and huggingface_hub is not installed.
        """
        if source is not None:
            as_path(source, "source", CheckpointError)
        if source is not None and is_hub_id(source):
            return cls._load(fetch_model(os.fspath(source), revision), device)
        if revision is not None:
            raise ConfigError(f"revision: {revision} is for models on the Hub, not for {source or 'the bundled one'}")
        return cls._load(cls.model_path(source), device)

    @classmethod
    def model_path(cls, source: str | os.PathLike[str] | None) -> Path:
        """Where a model file lies that is not on the Hub: itself, in a folder, a run's too, or among what is bundled.

        Raises:
            CheckpointError: no model of this kind is bundled.
        """
        path = Path(BUNDLED if source is None else source)
        if source is None or (str(path) == BUNDLED and not path.exists()):
            path = WEIGHTS / cls.bundled
            if not path.is_file():
                raise CheckpointError("no model is bundled with this version; train one and pass its file")
        if not path.is_dir():
            return path
        best = path / "best.safetensors"  # of a run of training
        return best if best.exists() and not (path / MODEL_FILE).exists() else path / MODEL_FILE

    @classmethod
    def _load(cls, path: Path, device: str) -> Self:
        checkpoint = load_checkpoint(path)
        return cls(checkpoint.config, checkpoint.build(), checkpoint.facts).to(device)

    def to(self, device: str | torch.device) -> Self:
        """Move the model; "auto" takes a GPU where there is one.

        Raises:
            ConfigError: the device is not there.
        """
        self.denoiser.to(pick_device(device))
        return self

    def save(self, path: str | os.PathLike[str], *, half: bool = False, overwrite: bool = False) -> None:
        """Write a model file that `from_pretrained` reads; `half` stores float16.

        Raises:
            OutputError: the file exists and `overwrite` is not set, or it cannot be written.
        """
        save_checkpoint(path, self.config, self.denoiser.state_dict(), self.facts, half=half, overwrite=overwrite)

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        license: str | None = None,
        half: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Write a folder as the Hub keeps it, for `from_pretrained`: `model.safetensors` and a card, `README.md`.

        Args:
            folder: created where it is missing.
            license: the Hub's name of the weights' licence ("cc0-1.0"); by default what the facts say.
            half: store float16.
            overwrite: replace the two files.

        Raises:
            OutputError: one of them exists and `overwrite` is false, or cannot be written.
        """
        folder = as_path(folder, "folder", OutputError)
        model, card = folder / MODEL_FILE, folder / CARD_FILE
        for path in (model, card):  # before either is written
            check_output(path, overwrite=overwrite)
        self.save(model, half=half, overwrite=overwrite)
        write_text(card, model_card(self.config, self.facts, license), overwrite=overwrite)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        private: bool | None = None,
        message: str = "Upload a wavediff model",
        token: str | None = None,
        license: str | None = None,
        half: bool = False,
        overwrite: bool = False,
    ) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face Hub.

        Args:
            repo_id: "user/model", created where it is missing.
            revision: branch, created where it is missing; None for the main one.
            private: whether a new repository is private.
            message: of the commit.
            token: of the account; None for the one that `hf auth login` has left.
            license, half: as of `save_pretrained`.
            overwrite: replace a model that is there.

        Returns:
            Address of the commit.

        Raises:
            OutputError: there is a model already, or the Hub refuses or cannot be reached.
            MissingExtraError: huggingface_hub is not installed.
        """
        save = functools.partial(self.save_pretrained, license=license, half=half)
        options: dict[str, Any] = {"revision": revision, "private": private, "message": message, "token": token}
        return push_model(repo_id, save, overwrite=overwrite, **options)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.denoiser.parameters()).device

    @property
    def sample_rate(self) -> int:
        """Of the audio, in Hz."""
        return self.config.sample_rate


def pick_device(device: str | torch.device) -> torch.device:
    """The device of that name; "auto" takes a GPU where there is one.

    Raises:
        ConfigError: no such device.
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"device: {shown(device)} is not a device; choose auto, cpu or cuda") from error
    if target.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"device: {device} is not supported; choose auto, cpu or cuda")
    if target.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device: {device} is not there, torch sees no GPU of Apple; use auto or cpu")
    if target.type == "cuda" and (not torch.cuda.is_available() or (target.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(
            f"device: {device} is not there, torch sees {torch.cuda.device_count()} GPUs; use auto or cpu"
        )
    return target

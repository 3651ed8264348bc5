"""What callers hand over: samples and mels as tensors, arrays or lists; whole numbers and numbers of any library.

One check for each kind of argument, so that every public function takes the same things and refuses the others in the
same words. A message begins with the name of the argument.
"""

import errno
import math
import operator
import os
from collections.abc import Callable, Collection, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavediff.errors import AudioError, ConfigError, WavediffError, choice
from wavediff.places import Address, Place, place

Values = Tensor | np.ndarray | Sequence[Any]
"""What `as_floats` takes."""

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 4_000, 384_000  # Hz

_AXES = {1: "(N,)", 2: "(B, N)"}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_FULL_SCALES = {"int8": 2**7, "int16": 2**15, "int32": 2**31}


def as_floats(values: Any, name: str, error: type[WavediffError], *, cure: str) -> Tensor:
    """Floating-point values as a tensor of the same type, on the same device; of an array without a copy.

    Args:
        values: a tensor, an array, or what numpy makes one of: lists, and objects of other libraries.
        name: of the argument, for messages.
        error: what is raised.
        cure: what to do instead of handing over the name of a file.

    Raises:
        WavediffError: of the kind `error`: not numbers, not floats, or without values in memory.
    """
    if isinstance(values, str | bytes | os.PathLike):
        raise error(f"{name}: expected values, got the text {str(values)[:60]!r}; {cure}")
    if isinstance(values, Tensor):
        return _usable(values, name, error)
    try:
        if isinstance(values, list | tuple) and values and all(isinstance(item, Tensor) for item in values):
            return _usable(torch.stack(list(values)), name, error)
        array = np.asarray(values)
    except Exception as reason:  # of lists that are no table, and of other libraries' objects
        what = " ".join(str(reason).split())
        raise error(f"{name}: a {type(values).__name__} is no array of floats ({what:.100}); give a tensor") from reason
    if array.dtype.kind != "f":
        kind = (
            str(array.dtype) if isinstance(values, np.ndarray) or array.dtype.kind in "iubc" else type(values).__name__
        )
        raise error(_not_floats(name, kind, isinstance(values, np.ndarray)))
    native = array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.dtype(np.float64)
    if array.dtype != native or not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.astype(native)  # torch takes neither foreign bytes nor reversed axes, and warns of what is locked
    return torch.from_numpy(array)


def as_path(path: Any, name: str, error: type[WavediffError]) -> Path:
    """A path.

    Args:
        path: text or an object with a path.
        name: of the argument, for messages.
        error: what is raised.

    Raises:
        WavediffError: of the kind `error`: neither.
    """
    return Path(_path_text(path, name, error))


def as_place(path: Any, name: str, error: type[WavediffError]) -> Place:
    """A path, or an address in object storage, as "s3://bucket/key"; arguments and errors as of `as_path`."""
    return path if isinstance(path, Address) else place(_path_text(path, name, error))


def _path_text(path: Any, name: str, error: type[WavediffError]) -> str:
    try:
        text = os.fspath(path)
        known = isinstance(text, str) and bool(os.fsencode(text))
    except Exception:  # no path, an object whose own method fails, or characters that no file's name has
        known = False
    if not known:
        raise error(f"{name}: expected the name of a file or folder, got {shown(path)}; give text or a Path")
    if "\0" in text:
        raise error(f"{name}: {text!r} holds the character NUL, which no file's name does; correct it")
    try:
        os.lstat(text)
    except OSError as reason:  # that nothing is there is no fault of the name
        if reason.errno == errno.ENAMETOOLONG:
            raise error(f"{text}: cannot be looked at ({reason.strerror}); shorten the name") from reason
    return str(text)


def as_waveform(
    waveform: Any,
    name: str = "waveform",
    *,
    dimensions: Sequence[int] = (1, 2),
    shape: str = "",
    finite: bool = True,
) -> Tensor:
    """A waveform as a tensor of its own floating-point type, on its own device.

    Args:
        waveform: a tensor, an array or a list of floats.
        name: of the argument, for messages.
        dimensions: how many it may have; empty for any from 1 on.
        shape: how to write them in messages; by default (N,) and (B, N).
        finite: whether to look for NaN and infinity, for which a GPU waits.

    Raises:
        AudioError: not floats, another shape, no samples, or samples that are NaN, infinite or beyond float32.
    """
    samples = as_floats(waveform, name, AudioError, cure="read it with wavediff.audio.read_audio")
    shape = shape or " or ".join(_AXES[count] for count in dimensions) or "(..., N)"
    if samples.ndim not in dimensions if dimensions else samples.ndim < 1:
        raise AudioError(f"{name}: expected floats {shape}, got shape {tuple(samples.shape)}")
    if not samples.numel():
        raise AudioError(f"{name}: holds no samples, its shape is {tuple(samples.shape)}; give {shape} with N above 0")
    # Of the extremes, because `isfinite` takes more memory than the signal.
    if finite and not bool(torch.stack(samples.detach().aminmax()).float().isfinite().all()):
        bad = ~samples.detach().float().isfinite()
        first = tuple(bad.nonzero()[0].tolist())
        what = f"{int(bad.sum())} samples are NaN or infinite, the first at {first if len(first) > 1 else first[0]}"
        raise AudioError(f"{name}: {what}; repair the recording")
    return samples


def is_whole(value: Any) -> bool:
    """Whether `whole` takes it as a whole number, whatever its bounds."""
    return _whole(value) is not None


def whole(value: Any, name: str, least: int, most: int | None, error: type[WavediffError], *, unit: str = "") -> int:
    """A whole number: whatever is one by `operator.index`, and floats without a fraction; truth values are none.

    Args:
        value: of Python, numpy or torch.
        name: of the argument, for messages.
        least, most: bounds, both included; None for no upper one.
        error: what is raised.
        unit: of the number, for messages.

    Raises:
        WavediffError: of the kind `error`: not a whole number, or out of bounds.
    """
    number = _whole(value)
    if number is None or number < least or (most is not None and number > most):
        bounds = f"from {least} to {most}" if most is not None else f"of at least {least}"
        raise error(f"{name}: {shown(value)} is not a whole number {bounds}{unit and f' {unit}'}")
    return number


def check_sample_rate(rate: int, name: str = "sample_rate") -> int:
    """A rate that audio is stored at, as an int [Hz].

    Args:
        rate: 4,000 to 384,000 Hz; a float or another library's number will do if it is whole.
        name: of the argument, for messages.

    Raises:
        AudioError: it is not.
    """
    return whole(rate, name, MIN_SAMPLE_RATE, MAX_SAMPLE_RATE, AudioError, unit="Hz")


def chosen(value: Any, name: str, known: Collection[str], error: type[WavediffError]) -> str:
    """One of the names that are known.

    Args:
        value: the name.
        name: of the argument, for messages.
        known: what there is to choose from.
        error: what is raised.

    Raises:
        WavediffError: of the kind `error`: it is none of them.
    """
    if isinstance(value, str) and value in known:
        return value
    raise error(f"{name}: {shown(value)} is unknown{choice(str(value), list(known))}")


def as_list(values: Any) -> list[Any] | None:
    """The items of a list, a tuple, a range, or an array or tensor (n,); None of anything else, text among it."""
    if isinstance(values, Tensor | np.ndarray):
        return list(values.tolist()) if values.ndim == 1 else None
    return list(values) if isinstance(values, Sequence) and not isinstance(values, str | bytes) else None


def is_real(value: Any) -> bool:
    """Whether it is a number, of Python, numpy or torch; truth values and NaN are none."""
    return _real(value) is not None


def real(
    value: Any,
    name: str,
    allowed: str,
    fits: Callable[[float], bool],
    error: type[WavediffError],
    *,
    finite: bool = True,
) -> float:
    """A number that `fits`; never NaN.

    Args:
        value: of Python, numpy or torch.
        name: of the argument, for messages.
        allowed: what is, in words: "from 0 to 1".
        fits: (number) -> whether it is allowed.
        error: what is raised.
        finite: whether infinity is refused.

    Raises:
        WavediffError: of the kind `error`.
    """
    number = _real(value)
    if number is None or (finite and not math.isfinite(number)) or not fits(number):
        raise error(f"{name}: {shown(value)} is not a number {allowed}")
    return number


def check_bounds(config: object, name: str, **bounds: tuple[float, float]) -> None:
    """Hold fields of a configuration against their bounds.

    Args:
        config: an object with these fields.
        name: of the configuration, for messages: "backbone".
        bounds: least and most of each field, both included. They also tell its type: a field between whole numbers is
            a whole number, one between False and True a truth value.

    Raises:
        ConfigError: a field is of another type or out of its bounds.
    """
    for field, (least, most) in bounds.items():
        value, kind = getattr(config, field), type(least)
        if not (is_real(value) if kind is float else type(value) is kind) or not least <= value <= most:
            number = "a number" if kind is float else "a whole number"
            what = "true or false" if kind is bool else f"{number} from {least:g} to {most:g}"
            raise ConfigError(f"{name}.{field}: {shown(value)} is not {what}")


def shown(value: Any) -> str:
    """A value as messages show it: in one line of 60 characters at most."""
    try:
        text = repr(value)
    except Exception:
        text = type(value).__name__
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _usable(tensor: Tensor, name: str, error: type[WavediffError]) -> Tensor:
    if tensor.layout != torch.strided or tensor.is_nested:
        raise error(f"{name}: is a sparse or nested tensor; pass {name}.to_dense(), or one item at a time")
    if tensor.dtype not in _FLOATS:
        raise error(_not_floats(name, str(tensor.dtype).removeprefix("torch."), True))
    if tensor.device.type == "meta":
        raise error(f"{name}: is on the device meta, where it has a shape but no values; make it on the CPU")
    return tensor


def _not_floats(name: str, kind: str, has_type: bool) -> str:
    scale = f", divided by {_FULL_SCALES[kind]} if they are samples" if has_type and kind in _FULL_SCALES else ""
    return f"{name}: holds {kind} values, expected floats (16, 32 or 64 bit); convert them{scale}"


def _whole(value: Any) -> int | None:
    if isinstance(value, bool | np.bool_ | str) or getattr(value, "dtype", None) is torch.bool:
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # not whole by its type
        number = _real(value)
    return int(number) if number is not None and number.is_integer() else None


def _real(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_ | str) or getattr(value, "dtype", None) is torch.bool:
        return None
    single = isinstance(value, Tensor | np.ndarray) and value.ndim == 0
    if not single and not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # complex, huge, or without a value
        return None
    return None if math.isnan(number) else number

"""The one door for mels: what has the type and the shape of one, whatever its values."""

from torch import Tensor

from wavediff.arguments import Values, as_floats
from wavediff.errors import MelError
from wavediff.mel.spec import MelSpec


def as_mel(mel: Values, spec: MelSpec | None = None, *, source: str = "mel") -> Tensor:
    """The part of `wavediff.mel.check_mel` that does not look at the values.

    Without `spec` any number of bands will do.

    Returns:
        The mel as a tensor, of its own float type and in its own dimensions.

    Raises:
        MelError: As `wavediff.mel.check_mel`.
    """
    tensor = as_floats(mel, source, MelError, cure="read a file with wavediff.mel.read_mel")
    check_dimensions(tuple(tensor.shape), spec, source=source)
    return tensor


def check_shape(mel: Values, spec: MelSpec | None, *, source: str = "mel") -> Tensor:
    """The part of `wavediff.mel.check_mel` that does not look at the values, but for NaN and infinity.

    Without `spec` any number of bands will do.

    Returns:
        (B, n_mels, frames) in float32.

    Raises:
        MelError: As `wavediff.mel.check_mel`.
    """
    tensor = as_mel(mel, spec, source=source).float()
    finite = tensor.isfinite()
    if not bool(finite.all()):
        first = tuple((~finite).nonzero()[0].tolist())
        count = int((~finite).sum())
        raise MelError(f"{source}: {count} values are NaN or infinite, the first at {first}; compute the mel again")
    return tensor if tensor.ndim == 3 else tensor.unsqueeze(0)


def check_dimensions(shape: tuple[int, ...], spec: MelSpec | None, *, source: str = "mel") -> None:
    """The part of `check_shape` that needs no values.

    Raises:
        MelError: As `wavediff.mel.check_mel`.
    """
    if len(shape) not in (2, 3):
        raise MelError(f"{source}: shape {shape} is not (n_mels, frames) or (B, n_mels, frames)")
    if 0 in shape:
        raise MelError(f"{source}: shape {shape} holds no frames; a mel needs at least one")
    if spec is not None and shape[-2] != spec.n_mels:
        cure = f"expected {spec.n_mels} bands ({spec.name}), got {shape[-2]}; compute the mel in {spec.name}"
        if shape[-1] == spec.n_mels:
            cure = f"it looks transposed, expected ({spec.n_mels}, frames); swap its last two axes"
        raise MelError(f"{source}: shape {shape}: {cure}")

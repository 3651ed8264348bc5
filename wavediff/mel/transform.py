"""What a mel is: its dialect, type and shape; the arithmetic of the dialect, waveform -> mel and mel -> linear band
magnitudes; and the values that it can have.
"""

import contextlib
import functools
import math
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.arguments import Values, as_floats, as_waveform
from wavediff.errors import ConfigError, MelError
from wavediff.libraries import require_torchaudio
from wavediff.mel.spec import PRESETS, MelSpec

# Value of one neper (a factor e) in each logarithm.
PER_NEPER = {"ln": 1.0, "log10": 1 / math.log(10), "db": 20 / math.log(10)}

# Of matrix products: with fewer, processors round otherwise, and a frame must have the same bits in pieces of any size.
LEAST_COLUMNS = 16


def as_spec(spec: MelSpec | str, name: str = "mel_spec") -> MelSpec:
    """A dialect, which may be given by its preset's name; `name` is that of the argument, for messages.

    Raises:
        ConfigError: No preset is called so, or it is neither a dialect nor a name.
    """
    if isinstance(spec, str):
        return MelSpec.preset(spec)
    if not isinstance(spec, MelSpec):
        known = ", ".join(PRESETS)
        raise ConfigError(f"{name}: a {type(spec).__name__} is no dialect; give a MelSpec, or one of {known}")
    return spec


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
        others = ", ".join(name for name, preset in PRESETS.items() if preset.n_mels == shape[-2])
        named = f", or name its dialect, {others}: --mel-spec, Vocoder.for_mels" if others else ""
        cure = f"expected {spec.n_mels} bands ({spec.name}), got {shape[-2]}; compute the mel in {spec.name}{named}"
        if shape[-1] == spec.n_mels:
            cure = f"it looks transposed, expected ({spec.n_mels}, frames); swap its last two axes"
        raise MelError(f"{source}: shape {shape}: {cure}")


def analysis_window(spec: MelSpec) -> Tensor:
    """The dialect's window (win_length,)."""
    return torch.hann_window(spec.win_length, periodic=spec.window == "hann", dtype=torch.float32, device="cpu")


def stft_scale(spec: MelSpec) -> float:
    """What the dialect multiplies STFT magnitudes by."""
    return float(analysis_window(spec).square().sum().rsqrt()) if spec.stft_normalized else 1.0


@contextlib.contextmanager
def _default_float32() -> Iterator[None]:
    """torchaudio takes no type, only the default one, which is seldom another; then it is set for a moment."""
    default = torch.get_default_dtype()
    if default == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


@functools.lru_cache(maxsize=8)
def filterbank(spec: MelSpec) -> Tensor:
    """The dialect's triangles (n_mels, n_fft // 2 + 1) on the CPU; cached, so not to be written to."""
    require_torchaudio()
    from torchaudio.functional import melscale_fbanks

    # On the CPU and in float32 whatever the defaults are: the cache serves everybody.
    with torch.device("cpu"), _default_float32(), warnings.catch_warnings():
        # Some dialects do have bands narrower than a bin; that is theirs to choose.
        warnings.filterwarnings("ignore", message="At least one mel filterbank")
        bands = melscale_fbanks(
            n_freqs=spec.n_fft // 2 + 1,
            f_min=spec.f_min,
            f_max=spec.f_max,
            n_mels=spec.n_mels,
            sample_rate=spec.sample_rate,
            norm="slaney" if spec.mel_norm == "slaney" else None,
            mel_scale=spec.mel_scale,
        )
    return bands.T.contiguous()


def compress(bands: Tensor, spec: MelSpec) -> Tensor:
    """Linear band magnitudes (..., n_mels, frames) -> mel: floor, logarithm, normalisation."""
    floored = bands + spec.floor if spec.floor_mode == "add" else bands.clamp(min=spec.floor)
    mel = floored.log() * (PER_NEPER[spec.log] * spec.scale) + spec.offset
    if spec.clip is not None:
        mel = mel.clamp(*spec.clip)
    if spec.mean is not None and spec.std is not None:
        mel = (mel - _column(spec.mean, mel)) / _column(spec.std, mel)
    return mel


def nepers(mel: Tensor, spec: MelSpec) -> Tensor:
    """Mel (..., n_mels, frames) -> natural logarithm of what lay under the dialect's logarithm."""
    if spec.mean is not None and spec.std is not None:
        mel = mel * _column(spec.std, mel) + _column(spec.mean, mel)
    return (mel - spec.offset) / (PER_NEPER[spec.log] * spec.scale)


def expand(mel: Tensor, spec: MelSpec) -> Tensor:
    """Mel (..., n_mels, frames) -> linear band magnitudes, as far as floor and clip have left them."""
    bands = nepers(mel, spec).exp()
    return (bands - spec.floor).clamp(min=0.0) if spec.floor_mode == "add" else bands


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return _columns(values, like.dtype, like.device)


@functools.cache  # a copy to a GPU would wait for it in every decode; kept for good, because CUDA graphs read it
def _columns(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device).unsqueeze(-1)


class MelTransform(nn.Module):
    """Waveform (B, N) -> mel (B, n_mels, frames) in the dialect `spec`.

    Differentiable, also in digital silence. Computed in float32 (float64 for a float64 waveform) whatever autocast
    says: half precision cannot tell the floors of these dialects from zero. The buffers are not saved.
    """

    window: Tensor
    filterbank: Tensor

    def __init__(self, spec: MelSpec | str) -> None:
        super().__init__()
        self.spec = spec = as_spec(spec, "spec")
        self.register_buffer("window", analysis_window(spec), persistent=False)
        self.register_buffer("filterbank", filterbank(spec).clone(), persistent=False)
        self.scale = stft_scale(spec)

    def magnitude(self, waveform: Values) -> Tensor:
        """Waveform (B, N) -> linear magnitude (B, n_fft // 2 + 1, frames), without the dialect's normalisation.

        Raises:
            AudioError: The waveform is not (B, N) of floats, or shorter than `spec.min_samples`. NaN goes through, as
                it does through all modules of torch: looking for it would make a GPU wait.
        """
        spec, waveform = self.spec, as_waveform(waveform, dimensions=(2,), finite=False)
        spec.frames(waveform.shape[-1])
        dtype = torch.promote_types(waveform.dtype, torch.float32)
        with torch.autocast(waveform.device.type, enabled=False):
            padded = F.pad(waveform.to(dtype), (spec.padding, spec.padding), mode=spec.pad_mode)
            spectrum = torch.stft(
                padded,
                spec.n_fft,
                hop_length=spec.hop_length,
                win_length=spec.win_length,
                window=self.window.to(dtype),
                center=False,
                return_complex=True,
            )
            if spec.magnitude_eps:
                return (torch.view_as_real(spectrum).square().sum(-1) + spec.magnitude_eps).sqrt()
            # The gradient of abs is 0 at 0, where that of a plain root is not a number.
            return spectrum.abs()

    def forward(self, waveform: Values) -> Tensor:
        """Waveform (B, N), within +-1 -> mel (B, n_mels, frames).

        Raises:
            AudioError: As `magnitude`.
        """
        magnitude = self.magnitude(waveform)
        with torch.autocast(magnitude.device.type, enabled=False):
            bands = (self.scale * self.filterbank.to(magnitude.dtype)) @ magnitude
            return compress(bands, self.spec)


def lowest(spec: MelSpec) -> float:
    """The band magnitude below which the dialect tells nothing apart."""
    floor = spec.floor
    return floor if spec.clip is None else max(floor, _magnitude(spec.clip[0], spec))


def highest(spec: MelSpec) -> float:
    """The band magnitude above which the dialect tells nothing apart; may be infinite."""
    return math.inf if spec.clip is None else _magnitude(spec.clip[1], spec)


def _magnitude(value: float, spec: MelSpec) -> float:
    """Band magnitude at a value before mean and variance."""
    level = (value - spec.offset) / spec.scale
    return math.exp(level) if spec.log == "ln" else 10 ** (level / (20 if spec.log == "db" else 1))


# Values are judged in nepers (natural logarithm of the band magnitude as the dialect reads it), so that one set of
# limits serves every dialect. Measured on 92 clips of LJSpeech, LibriTTS, LibriSpeech and VCTK: speech spans 8.7 to
# 13.6 nepers (up to 24 with digital silence), its loudest value lies 0.5 to 3.2 below `_ceiling`; white noise at full
# scale spans at least 2.2.
MARGIN = 2.0  # beyond the floor and the ceiling that is let pass: models that predict mels overshoot (2 is 17 dB)
_BRIGHT = 1.0  # over several frames no sound has every value this close to white noise at full scale, or above it ...
_FLAT = 1.5  # ... or spans less than this
_SEVERAL_FRAMES = 8
_CACHED = 32  # dialects: more than there are presets


def value_fault(mel: Tensor, spec: MelSpec, *, whole: bool = True) -> str:
    """What is impossible about the values of a mel (..., n_mels, frames) in that dialect, or "".

    A piece of one, not `whole`, may be a pause: it is not judged by how alike its values are.
    """
    level = nepers(mel, spec)
    if float(level.min()) < math.log(lowest(spec)) - MARGIN:
        return "below its floor"
    if float((level - _ceiling(spec).to(mel.device)).max()) > MARGIN:
        return "louder than a waveform within +-1 can be"
    span = span_of(level)
    # A constant, as some hosts probe with, tells nothing, and a single frame little.
    if not whole or span == 0 or mel.shape[-1] < _SEVERAL_FRAMES:
        return ""
    if float((level - _full_scale_noise(spec).to(mel.device)).min()) > -_BRIGHT:
        return "everywhere as loud as noise at full scale"
    if span < _FLAT and float(level.max()) > math.log(lowest(spec)) + MARGIN:  # predicted silence is flat too
        return "flatter than any sound"
    return ""


def span_of(level: Tensor) -> float:
    """From the lowest value to the highest."""
    return float(level.max() - level.min())


@functools.lru_cache(maxsize=_CACHED)
def _ceiling(spec: MelSpec) -> Tensor:
    """Per band (n_mels, 1), nepers no waveform within +-1 exceeds: Cauchy-Schwarz on Parseval's theorem."""
    energy = float(analysis_window(spec).square().sum()) * spec.n_fft / 2
    bands = filterbank(spec).norm(dim=1) * stft_scale(spec) * math.sqrt(energy)
    return bands.clamp(lowest(spec), highest(spec)).log().unsqueeze(-1)


@functools.lru_cache(maxsize=_CACHED)
def _full_scale_noise(spec: MelSpec) -> Tensor:
    """Per band (n_mels, 1), nepers of white noise with power 1."""
    bands = filterbank(spec).sum(1) * stft_scale(spec) * float(analysis_window(spec).square().sum().sqrt())
    return bands.clamp(lowest(spec), highest(spec)).log().unsqueeze(-1)

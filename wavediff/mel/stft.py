"""A short-time Fourier transform with one frame for each mel frame and its exact inverse; and what the mel says of the
magnitudes of such frames: smooth in an envelope, sharp in a pseudo-inverse, and in frames of another length.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.arguments import Values, real, whole
from wavediff.errors import ConfigError
from wavediff.mel.spec import MelSpec
from wavediff.mel.transform import analysis_window, as_mel, as_spec, expand, filterbank, stft_scale


class FrameSTFT(nn.Module):
    """Waveform (B, frames * hop_length) <-> spectrum (B, frames, n_fft // 2 + 1), complex.

    Frame k is centred where the dialect centres its mel frame k, so the two describe the same moment, and
    `synthesis(analysis(x)) == x` for every length. Computed in float32 whatever autocast says.

    Args:
        spec: dialect whose n_fft, win_length, hop_length and framing are taken.

    Raises:
        ConfigError: windows overlap by less than half, so a spectrum would not determine the waveform.
    """

    window: Tensor

    def __init__(self, spec: MelSpec | str) -> None:
        super().__init__()
        spec = as_spec(spec, "spec")
        if 2 * spec.hop_length > spec.win_length:
            raise ConfigError(
                f"mel.hop_length: {spec.hop_length} is more than half of win_length, {spec.win_length}; this network "
                "needs frames that overlap by half or more"
            )
        self.spec, self.n_fft, self.hop_length = spec, spec.n_fft, spec.hop_length
        self.overlap = -(-spec.n_fft // spec.hop_length)
        """Windows that reach over one sample."""
        self._last_weight: Tensor | None = None
        self.before = spec.n_fft // 2 - (spec.hop_length // 2 if spec.framing == "same" else 0)
        edge = (spec.n_fft - spec.win_length) // 2
        hann = torch.hann_window(
            spec.win_length, dtype=torch.float32, device="cpu"
        )  # also where shapes alone are asked for
        window = F.pad(hann, (edge, spec.n_fft - spec.win_length - edge))
        self.register_buffer("window", window, persistent=False)
        # Root mean square magnitude of white noise of unit variance.
        self.noise_level = float(window.square().sum().sqrt())

    def analysis(self, waveform: Tensor) -> Tensor:
        """(B, frames * hop_length) -> (B, frames, n_fft // 2 + 1); zeros lie beyond the ends."""
        with torch.autocast(waveform.device.type, enabled=False):
            after = self.n_fft - self.hop_length - self.before
            padded = F.pad(waveform.float(), (self.before, after))
            return self.spectra(padded)

    def spectra(self, signal: Tensor) -> Tensor:
        """Of all whole windows from the first sample on: (B, N) -> (B, (N - n_fft) // hop_length + 1, bins)."""
        return torch.fft.rfft(signal.unfold(-1, self.n_fft, self.hop_length) * self.window)

    def powers(self, frames: Tensor) -> Tensor:
        """Squared magnitudes of frames (B, frames, n_fft) that are not windowed yet: (B, frames, n_fft // 2 + 1)."""
        return power(torch.fft.rfft(frames * self.window))

    def frames(self, spectrum: Tensor, out: Tensor | None = None) -> Tensor:
        """(B, frames, bins) -> windowed frames (B, frames, n_fft), to be added where they overlap."""
        return torch.mul(torch.fft.irfft(spectrum, n=self.n_fft), self.window, out=out)

    def synthesis(self, spectrum: Tensor) -> Tensor:
        """(B, frames, n_fft // 2 + 1) -> (B, frames * hop_length): least squares (Griffin and Lim 1984, eq. 6)."""
        with torch.autocast(spectrum.device.type, enabled=False):
            frames = self.frames(spectrum)
            span = slice(self.before, self.before + spectrum.shape[1] * self.hop_length)
            return overlap_add(frames, self.hop_length)[:, span] * self.weight(spectrum.shape[1])[:, span]

    def weight(self, frames: int) -> Tensor:
        """(1, N): one over the sum of the overlapping squared windows; the same at each step, so the last is kept."""
        weight, window = self._last_weight, self.window
        length = (frames - 1) * self.hop_length + self.n_fft
        if is_captured(window.device):  # a graph must own what it reads: the kept one may be replaced
            return overlap_weight(window.square().expand(1, frames, -1), self.hop_length)
        if weight is None or weight.device != window.device or weight.shape[1] != length:
            with torch.inference_mode(False):  # or training could not use what sampling has left here
                weight = overlap_weight(window.square().expand(1, frames, -1), self.hop_length)
            self._last_weight = weight
        return weight


LEAST_POWER = 1e-7  # below the quantisation of 16-bit recordings


def stft_magnitude(waveform: Tensor, n_fft: int, hop_length: int, win_length: int) -> Tensor:
    """sqrt(max(|STFT|^2, 1e-7)) of shape (..., n_fft // 2 + 1, frames): periodic Hann, centred, reflect padding."""
    window = torch.hann_window(win_length, dtype=waveform.dtype, device=waveform.device)
    spectrum = torch.stft(waveform, n_fft, hop_length, win_length, window, return_complex=True)
    return torch.view_as_real(spectrum).square().sum(-1).clamp(min=LEAST_POWER).sqrt()


def power(spectrum: Tensor) -> Tensor:
    """Squared magnitude of complex numbers (..., n); by real ones, which are faster here."""
    squares = torch.view_as_real(spectrum).square().flatten(-2)
    return squares[..., ::2] + squares[..., 1::2]


def is_captured(device: torch.device) -> bool:
    """Whether what is computed on `device` now becomes a CUDA graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64; Apple's GPUs do not."""
    return device.type != "mps"


def float64_device(device: torch.device) -> torch.device:
    """Where float64 is computed for tensors of a device: there, or on the CPU."""
    return device if has_float64(device) else torch.device("cpu")


def overlap_add(frames: Tensor, hop_length: int) -> Tensor:
    """(B, frames, n_fft) -> (B, (frames - 1) * hop_length + n_fft)"""
    count, n_fft = frames.shape[1:]
    if n_fft % hop_length == 0:  # whole hops are added, several times as fast
        overlap = n_fft // hop_length
        hops = frames.new_zeros(len(frames), count + overlap - 1, hop_length)
        for index, part in enumerate(frames.unflatten(2, (overlap, hop_length)).unbind(2)):
            hops[:, index : index + count] += part
        return hops.flatten(1)
    length = (count - 1) * hop_length + n_fft
    return F.fold(frames.transpose(1, 2), (1, length), (1, n_fft), stride=(1, hop_length))[:, 0, 0]


def overlap_weight(squared: Tensor, hop_length: int) -> Tensor:
    """Squared windows (B, frames, n_fft) -> what the overlapping frames are multiplied by: one over their sum."""
    return overlap_add(squared, hop_length).clamp(min=1e-6).reciprocal()


MAX_WIDTH = 1023  # of a mean
TOP_BANDS = 10  # whose mean level stands for what lies above the mel, where it says nothing
LEAST_LEVEL = -9.0  # natural logarithm of the lowest STFT magnitude, about -110 dB below a full-scale sine


class SpectralEnvelope(nn.Module):
    """Mel (B, n_mels, frames) -> magnitude (B, frames, n_fft // 2 + 1) of a `FrameSTFT`, smooth in time and frequency.

    Smooth, because the mel's low bands resolve harmonics: divided by those, the valleys between two harmonics would
    count as much as the harmonics themselves. SpecGrad (Koizumi et al. 2022, arXiv 2203.16749) shapes its prior by
    such an envelope.

    Args:
        spec: dialect of the mel.
        bands: width of the mean over bands, odd.
        frames: width of the mean over frames, odd.
        power: exponent of the envelope; 1 whitens wholly, 0.5 leaves half of the level differences, in decibels.

    Raises:
        ConfigError: a width is even or not positive, or the power outside [0, 1].
    """

    interpolation: Tensor
    area: Tensor

    def __init__(self, spec: MelSpec | str, bands: int = 5, frames: int = 3, power: float = 0.5) -> None:
        super().__init__()
        spec = as_spec(spec, "spec")
        bands, frames = (_odd(number, name) for number, name in ((bands, "bands"), (frames, "frames")))
        power = real(power, "power", "from 0 to 1", lambda value: 0 <= value <= 1, ConfigError)
        self.spec, self.bands, self.frames, self.power = spec, bands, frames, power
        triangles = filterbank(spec)  # (n_mels, bins)
        self.register_buffer("area", triangles.sum(1).clamp(min=1e-6).log()[:, None], persistent=False)
        self.register_buffer("interpolation", _interpolation(triangles), persistent=False)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, n_mels, frames) in the dialect `spec` -> (B, frames, n_fft // 2 + 1)."""
        return self.level(mel).mul(self.power).exp()

    def level(self, mel: Tensor) -> Tensor:
        """Natural logarithm of the envelope at power 1."""
        with torch.autocast(mel.device.type, enabled=False):
            linear = expand(mel.float(), self.spec).clamp(min=self.spec.floor) / stft_scale(self.spec)
            padding = (self.frames // 2, self.frames // 2, self.bands // 2, self.bands // 2)
            padded = F.pad(linear.square()[:, None], padding, mode="replicate")
            level = F.avg_pool2d(padded, (self.bands, self.frames), 1)[:, 0].log() / 2 - self.area
            return (self.interpolation @ level).transpose(1, 2).clamp(min=LEAST_LEVEL)


def _interpolation(triangles: Tensor) -> Tensor:
    """(n_mels, bins) -> (bins, n_mels): linear between band centres, flat beyond the outer ones."""
    bands, bins = triangles.shape
    device = triangles.device
    position = torch.arange(bins, dtype=torch.float32, device=device)
    centre = (triangles * position).sum(1) / triangles.sum(1).clamp(min=1e-6)
    high = torch.searchsorted(centre, position).clamp(1, bands - 1)
    low = high - 1
    share = ((position - centre[low]) / (centre[high] - centre[low]).clamp(min=1e-6)).clamp(0, 1)
    matrix = torch.zeros(bins, bands, dtype=torch.float32, device=device)
    rows = torch.arange(bins, device=device)
    matrix[rows, low] += 1 - share
    matrix[rows, high] += share
    above = position >= centre[-1]
    top = min(TOP_BANDS, bands)
    matrix[above] = 0.0
    matrix[above, bands - top :] = 1 / top
    return matrix


def _odd(value: int, name: str) -> int:
    number = whole(value, name, 1, MAX_WIDTH, ConfigError)
    if number % 2 == 0:
        raise ConfigError(f"{name}: {number} is even, it must be odd; take the next number")
    return number


_LEAST_MAGNITUDE = 1e-5  # of a pseudo-inverse, so that its logarithm and phase exist
MAX_ITERATIONS = 10_000


def pseudo_inverse(mel: Values, spec: MelSpec | str, *, iterations: int = 0) -> Tensor:
    """Mel (B, n_mels, frames) -> a linear magnitude (B, n_fft // 2 + 1, frames) with these bands.

    Least squares by the Moore-Penrose inverse, kept above 1e-5 because a magnitude is not negative. That cut
    changes the bands again; `iterations` multiplicative updates (Lee & Seung 2001, eq. 4) bring them back, and 50
    of them are worth 0.3 PESQ to Griffin-Lim.

    Raises:
        MelError: It is no mel of `spec.n_mels` bands; NaN goes through, as in `MelTransform`.
        ConfigError: `iterations` is not a whole number, or `spec` no dialect.
    """
    spec, iterations = as_spec(spec, "spec"), whole(iterations, "iterations", 0, MAX_ITERATIONS, ConfigError)
    mel = as_mel(mel, spec)
    with torch.autocast(mel.device.type, enabled=False):
        bands = expand(mel.float(), spec).mT.contiguous()
        inverse, weights = _inversion(spec, bands.device)
        magnitude = (bands @ inverse.T).clamp(min=_LEAST_MAGNITUDE)  # frames before bins: one product for a batch
        wanted = bands @ weights
        for _ in range(iterations):
            magnitude = (magnitude * wanted).div_(((magnitude @ weights.T) @ weights).clamp_(min=1e-30))
        beyond = spec.n_fft // 2 + 1 - len(inverse)
        return F.pad(magnitude.clamp(min=_LEAST_MAGNITUDE), (0, beyond), value=_LEAST_MAGNITUDE).mT


@functools.cache  # as `wavediff.mel.transform._columns`
def _inversion(spec: MelSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Moore-Penrose inverse (bins, n_mels) of the dialect's triangles, and the triangles (n_mels, bins), both of the
    bins below the upper end of its bands."""
    with torch.inference_mode(False):
        triangles = filterbank(spec) * stft_scale(spec)
        triangles = triangles[:, : below_the_end(triangles)].contiguous()
        inverse = torch.linalg.pinv(triangles.double()).float()
        return inverse.to(device), triangles.to(device)


def below_the_end(triangles: Tensor) -> int:
    """How many bins lie below the upper end of the bands (n_mels, bins)."""
    return int(triangles.sum(0).nonzero().max()) + 1


_KEPT = ("sample_rate", "hop_length", "n_mels", "f_min", "f_max", "mel_scale", "mel_norm", "framing", "pad_mode")
_LEAST_BAND = 1e-9  # linear, of what is nearly nothing before its logarithm


def core_spec(spec: MelSpec, n_fft: int) -> MelSpec:
    """A dialect with the bands, the hop and the rate of `spec`, of frames of `n_fft` samples.

    Its scale is plain: natural logarithm, nothing normalised. A dialect of such frames is its own.
    """
    if n_fft in (0, spec.n_fft):
        return spec
    return MelSpec(
        n_fft=n_fft,
        win_length=n_fft,
        floor=_LEAST_BAND,
        **{name: getattr(spec, name) for name in _KEPT},
    )


def in_core(mel: Tensor, spec: MelSpec, core: MelSpec) -> Tensor:
    """A mel (B, n_mels, frames) of dialect `spec` as that of the frames of `core_spec`.

    A band is a weighted sum of magnitudes. Frames of half the length have half the bins; and as the magnitude of noise
    grows with the root of the window's energy, so does that of speech, but for its lowest harmonics.
    """
    if core == spec:
        return mel
    return (_core_gain(spec, core) * expand(mel.float(), spec)).clamp(min=core.floor).log()


@functools.cache
def _core_gain(spec: MelSpec, core: MelSpec) -> float:
    energy = analysis_window(core).square().sum() / analysis_window(spec).square().sum()
    return float(energy.sqrt()) * core.n_fft / spec.n_fft / stft_scale(spec)

"""A short-time Fourier transform with one frame for each mel frame, and its exact inverse."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.errors import ConfigError
from wavediff.mel.spec import MelSpec, as_spec


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
        self.n_fft, self.hop_length = spec.n_fft, spec.hop_length
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

    def magnitudes(self, frames: Tensor) -> Tensor:
        """Of frames (B, frames, n_fft) that are not windowed yet: (B, frames, n_fft // 2 + 1)."""
        return torch.fft.rfft(frames * self.window).abs()

    def frames(self, spectrum: Tensor, out: Tensor | None = None) -> Tensor:
        """(B, frames, bins) -> windowed frames (B, frames, n_fft), to be added where they overlap."""
        return torch.mul(torch.fft.irfft(spectrum, n=self.n_fft), self.window, out=out)

    def synthesis(self, spectrum: Tensor) -> Tensor:
        """(B, frames, n_fft // 2 + 1) -> (B, frames * hop_length): least squares (Griffin and Lim 1984, eq. 6)."""
        with torch.autocast(spectrum.device.type, enabled=False):
            frames = self.frames(spectrum)
            span = slice(self.before, self.before + spectrum.shape[1] * self.hop_length)
            return overlap_add(frames, self.hop_length)[:, span] * self._weight(spectrum.shape[1])[:, span]

    def _weight(self, frames: int) -> Tensor:
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

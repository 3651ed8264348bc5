"""The octave above a sound: from 22.05 kHz to 44.1 kHz by spectral band replication.

The fine structure above 10.3 kHz is that of the bands below, copied upwards, so that attacks stay sharp and noise stays
noise; how loud each band is in each frame, a small network predicts from the bands that are there (Dietz et al. 2002,
"Spectral Band Replication, a novel approach in audio coding", AES 112, where a stream carries these levels).
"""

import dataclasses
import math
import os
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from wavediff.arguments import Values, as_path, as_waveform, check_sample_rate
from wavediff.audio import resample
from wavediff.backbones.bands import HIGH, LOW, BandConfig, BandNet
from wavediff.engine.precision import without_gradients
from wavediff.errors import AudioError, CheckpointError
from wavediff.mel import FrameSTFT, MelSpec
from wavediff.models import WEIGHTS
from wavediff.models.checkpoint import built
from wavediff.models.file import build, parse_config, read_model_file, write_model_file
from wavediff.pipelines.circular import close_loop, wrap
from wavediff.pipelines.peaks import within
from wavediff.pipelines.pipeline import pick_device

BUNDLED = WEIGHTS / "extension.safetensors"
WIDTH = 4  # bins of a band, 689 Hz at 44.1 kHz
N_FFT, HOP = 2 * WIDTH * (LOW + HIGH), 64  # of the output [samples]: 5.8 and 1.5 ms at 44.1 kHz
FIRST = WIDTH * LOW  # bin from which on all is new: 10.3 kHz. The resampler's roll-off begins at bin 56 and ends at 66
SOURCE = (26, 56)  # bins that are copied, 4.5 to 9.6 kHz
RANGE = 10.0  # decades from the floor of the levels to the loudest band of a sound
MAX_GAIN = 10 ** (40 / 20)  # of a copied band
_CUTOFF, _HALF_WIDTH, _KAISER_BETA = 0.4693877, 136, 7.0  # of the high-pass, in half cycles a sample; 10.35 kHz
_MARGIN = 2048  # samples of a loop that are repeated beyond either end; the reach is a third of that
_OVERLAP = 512  # samples of the output over which a loop closes


class BandExtension:
    """Doubles the sample rate of sounds, and fills the new octave.

    >>> extension = BandExtension.from_pretrained()
    >>> extension(torch.zeros(2, 11_025), 22_050).shape  # at extension.sample_rate
    torch.Size([2, 22050])

    Args:
        network: predicts the levels.
        facts: how it came about.
    """

    def __init__(self, network: BandNet, facts: dict[str, Any] | None = None) -> None:
        self.network, self.facts = network.eval().requires_grad_(False), facts or {}
        spec = MelSpec(self.sample_rate, N_FFT, N_FFT, HOP, n_mels=1, f_max=self.sample_rate / 2)
        self.stft = FrameSTFT(spec)
        n = torch.arange(-_HALF_WIDTH, _HALF_WIDTH + 1, dtype=torch.float64, device="cpu")
        kaiser = torch.kaiser_window(len(n), periodic=False, beta=_KAISER_BETA, dtype=torch.float64, device="cpu")
        low_pass = _CUTOFF * torch.sinc(_CUTOFF * n) * kaiser
        self.high_pass = ((n == 0).double() - low_pass / low_pass.sum()).float()
        self.to(next(network.parameters()).device)

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str] | None = None, device: str = "auto") -> Self:
        """Load a model file; None for the bundled one.

        Raises:
            CheckpointError: the file is missing, or not an intact band-extension file.
            ConfigError: the device is not there.
        """
        path = BUNDLED if source is None else as_path(source, "source", CheckpointError)
        contents = read_model_file(path, "extension")
        config = parse_config(path, lambda data: build("extension", BandConfig, data), contents.config)
        network = built(lambda: BandNet(config), contents.weights, path, lambda name: "channels and layers")
        return cls(network, contents.facts).to(device)

    def save(self, path: str | os.PathLike[str], *, half: bool = False, overwrite: bool = False) -> None:
        """Write a model file that `from_pretrained` reads; `half` stores float16.

        Raises:
            CheckpointError: a weight is NaN or infinite.
            OutputError: the file exists or cannot be written.
        """
        config, weights = dataclasses.asdict(self.network.config), self.network.state_dict()
        write_model_file(path, "extension", config, weights, self.facts, half=half, overwrite=overwrite)

    def to(self, device: str | torch.device) -> Self:
        """Move it; "auto" takes a GPU where there is one.

        Raises:
            ConfigError: the device is not there.
        """
        self.device = pick_device(device)
        self.network.to(self.device)
        self.stft.to(self.device)
        self.high_pass = self.high_pass.to(self.device)
        return self

    @property
    def source_rate(self) -> int:
        """Of the sounds that it extends [Hz]."""
        return self.network.config.sample_rate

    @property
    def sample_rate(self) -> int:
        """Of the sounds that it returns, twice that [Hz]."""
        return 2 * self.source_rate

    @without_gradients()
    def __call__(self, waveform: Values, sample_rate: int, *, loop: bool = False) -> Tensor:
        """A sound at twice its rate, the new octave filled.

        Args:
            waveform: (N,) or (B, N), a tensor, array or list of floats, nominally in [-1, 1].
            sample_rate: its rate, `source_rate` [Hz].
            loop: its end continues into its beginning, and must still do so.

        Returns:
            (2 N,) or (B, 2 N), float32. Below 10 kHz it is the sound, resampled; one that would exceed 0.98 is scaled
            down to it. The same sound always gets the same octave.

        Raises:
            AudioError: the waveform is not one, or of another rate.
        """
        samples = as_waveform(waveform)
        rate = check_sample_rate(sample_rate)
        if rate != self.source_rate:
            raise AudioError(
                f"sample_rate: {rate} Hz, this band extension takes {self.source_rate} Hz; resample the waveform with "
                "wavediff.audio.resample"
            )
        sounds = torch.atleast_2d(samples.detach().to(self.device, torch.float32))
        length = 2 * sounds.shape[1]
        if loop:
            sounds = wrap(sounds, _MARGIN)
        low = resample(sounds, rate, self.sample_rate)
        octave = self._octave(low, length if loop else 0)
        if loop:
            low = low[:, 2 * _MARGIN : 2 * _MARGIN + length]
            octave = close_loop(octave, 2 * _MARGIN, length, min(_OVERLAP, length), power=1.0)
        return within(low + octave).reshape(*samples.shape[:-1], length)

    def _octave(self, low: Tensor, loop: int) -> Tensor:
        """What is added to resampled sounds (B, N), above 10 kHz; of a loop of so many samples, of nothing else."""
        spectrum = self.stft.analysis(F.pad(low, (0, -low.shape[1] % HOP)))  # (B, frames, bins)
        power = spectrum.abs().square()
        levels, loudest = self.levels(power)
        wanted = floor_of(loudest) * torch.expm1(math.log(10) * self.network(levels))  # (B, HIGH, frames), power
        copied = self._copied(spectrum, loop)  # (B, frames, bins)
        there = bands(copied.abs().square())[..., LOW:]  # (B, frames, HIGH)
        there = F.avg_pool1d(there, 3, 1, 1, count_include_pad=False).transpose(1, 2)
        gain = (wanted / there.clamp(min=torch.finfo(there.dtype).tiny)).sqrt().clamp(max=MAX_GAIN)
        octave = self.stft.synthesis(copied * _over_bins(gain, copied.shape[2]))[:, : low.shape[1]]
        return F.conv1d(octave[:, None], self.high_pass[None, None], padding=_HALF_WIDTH)[:, 0]

    def levels(self, power: Tensor) -> tuple[Tensor, Tensor]:
        """Of power spectra (B, frames, bins): what the network is shown, (B, LOW, frames), and the power of the
        loudest band of each sound, (B, 1, 1)."""
        low = bands(power)[..., :LOW].transpose(1, 2)
        loudest = low.amax((1, 2), keepdim=True)
        return decades(low, loudest), loudest

    def _copied(self, spectrum: Tensor, loop: int) -> Tensor:
        """Of spectra (B, frames, bins), the source's bins repeated above it: each patch is the band times a carrier.

        One patch cross-fades into the next within a band: neighbouring bins of two patches do not fit together, and the
        rest is lost in the synthesis.
        """
        first, end = SOURCE
        copied = torch.zeros_like(spectrum)
        rising = ((torch.arange(WIDTH, dtype=torch.float32, device=spectrum.device) + 0.5) / WIDTH).sqrt()
        frames = torch.arange(spectrum.shape[1], dtype=torch.float64, device="cpu")
        for start in range(FIRST, spectrum.shape[2], end - first):
            shift = start - first
            lowest = start - (WIDTH if start == FIRST else WIDTH // 2)
            highest = min(start + end - first + WIDTH // 2, spectrum.shape[2])
            patch = spectrum[..., lowest - shift : highest - shift].clone()
            if start > FIRST:
                patch[..., :WIDTH] *= rising
            if highest < spectrum.shape[2]:
                patch[..., -WIDTH:] *= rising.flip(0)
            cycles = shift / N_FFT  # of the carrier, a sample: it moves bins by whole numbers
            if loop:  # and goes on where the loop closes
                cycles = round(cycles * loop) / loop
            carrier = torch.polar(torch.ones_like(frames), 2 * torch.pi * (cycles * HOP * frames % 1))
            copied[..., lowest:highest] += patch * carrier.to(spectrum.device, spectrum.dtype)[:, None]
        return copied


def bands(power: Tensor) -> Tensor:
    """Power spectra (..., bins) -> mean power of each band (..., bins // WIDTH); the last bin is left out."""
    return power[..., :-1].unflatten(-1, (-1, WIDTH)).mean(-1)


def floor_of(loudest: Tensor) -> Tensor:
    """The power, below the loudest band, from which on levels are told apart."""
    return (loudest * 10**-RANGE).clamp(min=torch.finfo(loudest.dtype).tiny)


def decades(power: Tensor, loudest: Tensor) -> Tensor:
    """Levels: log10(1 + power / floor), 0 where there is nothing."""
    return torch.log1p(power / floor_of(loudest)) / math.log(10)


def _over_bins(gain: Tensor, bins: int) -> Tensor:
    """Gains of bands (B, HIGH, frames) -> of bins (B, frames, bins), between the middles of the bands linear."""
    fine = F.interpolate(gain.transpose(1, 2), scale_factor=WIDTH, mode="linear")  # (B, frames, WIDTH HIGH)
    return F.pad(fine, (FIRST, bins - FIRST - fine.shape[2]), mode="replicate")

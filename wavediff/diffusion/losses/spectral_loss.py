"""How far two waveforms are apart to the ear: magnitudes at several resolutions and log-mel, phase left aside."""

import dataclasses

import torch
from torch import Tensor, nn

from wavediff.mel import MelSpec, MelTransform
from wavediff.mel.stft import stft_magnitude

# Window lengths [samples] of Parallel WaveGAN (Yamamoto et al. 2020, arXiv 1910.11480, section 3.2).
WINDOW_LENGTHS = (240, 600, 1200)
MEL_BANDS = 100
MEL_RESOLUTIONS = ((256, 16), (512, 40), (1024, 80), (2048, 100))  # FFT length and bands of `MelLoss`
LEAST_NORM = 1e-3  # of a magnitude spectrogram, where a segment is silent


class SpectralLoss(nn.Module):
    """Spectral convergence + log-magnitude L1 of an STFT, + log-mel L1 to half the sample rate; (B, N) pairs -> (B,).

    The logarithms of single bins alone would be met by their median, which in noise is lower than their power; bands
    average before the logarithm, also above the mel that conditions the network.

    Args:
        spec: dialect whose frames and filters the mel is made of.
    """

    resolutions = len(WINDOW_LENGTHS)

    def __init__(self, spec: MelSpec) -> None:
        super().__init__()
        plain = dataclasses.replace(spec, log="ln", scale=1.0, offset=0.0, clip=None, mean=None, std=None)
        self.mel = MelTransform(dataclasses.replace(plain, f_min=0.0, f_max=spec.sample_rate / 2, n_mels=MEL_BANDS))

    def forward(self, synthesised: Tensor, reference: Tensor, resolution: int | None = None) -> Tensor:
        """Distance of each item.

        Args:
            synthesised, reference: (B, N).
            resolution: index of the one window that is compared, which is cheaper and the same in expectation; the
                mean over all by default.
        """
        windows = WINDOW_LENGTHS if resolution is None else (WINDOW_LENGTHS[resolution],)
        with torch.autocast(reference.device.type, enabled=False):
            synthesised, reference = synthesised.float(), reference.float()
            distance = torch.stack([_stft_distance(synthesised, reference, window) for window in windows]).mean(0)
            mel = self.mel(synthesised) - self.mel(reference)
            return distance + mel.abs().mean(dim=(1, 2))


class MelLoss(nn.Module):
    """L1 of log-mels to half the sample rate, at four resolutions; (B, N) pairs -> (B,).

    Bands do not tell where in them a harmonic lies. So a plausible fine structure that is not the reference's costs
    less than in `SpectralLoss`. HiFi-GAN (Kong et al. 2020, arXiv 2010.05646, section 2.3) has one resolution of it.

    Args:
        spec: dialect whose rate is taken.
    """

    resolutions = len(MEL_RESOLUTIONS)

    def __init__(self, spec: MelSpec) -> None:
        super().__init__()
        rate = spec.sample_rate
        self.mels = nn.ModuleList(
            MelTransform(MelSpec(rate, n_fft, n_fft, n_fft // 4, n_mels=bands, f_max=rate / 2))
            for n_fft, bands in MEL_RESOLUTIONS
        )

    def forward(self, synthesised: Tensor, reference: Tensor, resolution: int | None = None) -> Tensor:
        """Distance of each item, in nepers.

        Args:
            synthesised, reference: (B, N).
            resolution: index of the one mel that is compared; the mean over all by default.
        """
        chosen = self.mels if resolution is None else [self.mels[resolution]]
        with torch.autocast(reference.device.type, enabled=False):
            pairs = [(mel(synthesised.float()), mel(reference.float())) for mel in chosen]
            return torch.stack([(made - wanted).abs().mean((1, 2)) for made, wanted in pairs]).mean(0)


def _stft_distance(synthesised: Tensor, reference: Tensor, window: int) -> Tensor:
    X, Y = _magnitude(reference, window), _magnitude(synthesised, window)
    norm = torch.linalg.vector_norm(X, dim=(1, 2)).clamp(min=LEAST_NORM)
    convergence = (Y - X).square().sum(dim=(1, 2)).add(1e-12).sqrt() / norm
    return convergence + (Y.log() - X.log()).abs().mean(dim=(1, 2))


def _magnitude(waveform: Tensor, window: int) -> Tensor:
    """(B, n_fft // 2 + 1, frames); hops of a quarter window."""
    return stft_magnitude(waveform, 1 << (window - 1).bit_length(), window // 4, window)

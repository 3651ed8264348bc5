"""Speech from a mel without any training: the classical baseline that a vocoder must beat."""

import torch
from torch import Tensor
from torch.nn import functional as F

from wavediff.errors import require_torchaudio
from wavediff.mel.harmonics import Harmonics
from wavediff.mel.spec import MelSpec
from wavediff.mel.stft import FrameSTFT
from wavediff.mel.transform import analysis_window, pseudo_inverse

# PESQ gains nothing from more.
_INVERSION_ITERATIONS = 50
_MOMENTUM = 0.99  # of `find_phase`
# Of c_n + momentum (c_n - c_{n-1}) only the phase counts, so it may be divided by 1 + momentum: c_n less this much of
# c_{n-1}. The transform is linear, so the signals may be subtracted, which have a quarter of the numbers.
STEP_BACK = _MOMENTUM / (1 + _MOMENTUM)


def griffin_lim(mel: Tensor, spec: MelSpec, *, n_iter: int = 60, momentum: float = 0.99, seed: int = 0) -> Tensor:
    """Fast Griffin-Lim (Perraudin et al. 2013) on the pseudo-inverse of the mel.

    >>> griffin_lim(torch.full((1, 80, 20), -6.0), MelSpec(), n_iter=2).shape
    torch.Size([1, 5120])

    Runs on the CPU, so that a seed gives the same samples wherever the mel lies.

    Args:
        mel: (B, n_mels, frames) of dialect `spec`.
        spec: The dialect.
        n_iter: Iterations.
        momentum: From 0 (the original method) to below 1.
        seed: Of the random initial phase; every item of the batch starts from the same.

    Returns:
        (B, frames * hop_length)
    """
    require_torchaudio()
    from torchaudio.functional import griffinlim

    hop = spec.hop_length
    # The search centres frame k on sample k * hop. One frame more in front leaves room to cut where the dialect
    # centres its first: on sample 0, or half a hop in. The frames behind make the shortest mel long enough to reflect.
    magnitude = pseudo_inverse(mel.detach().cpu(), spec, iterations=_INVERSION_ITERATIONS)
    magnitude = F.pad(magnitude, (1, 1 + spec.n_fft // (2 * hop)), mode="replicate")
    start = hop if spec.framing == "center" else hop // 2
    items = []
    with torch.random.fork_rng(devices=[]):
        for item in magnitude:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach every GPU as well
            items.append(
                griffinlim(
                    item,
                    window=analysis_window(spec),
                    n_fft=spec.n_fft,
                    hop_length=hop,
                    win_length=spec.win_length,
                    power=1.0,
                    n_iter=n_iter,
                    momentum=momentum,
                    length=None,
                    rand_init=True,
                )
            )
    return torch.stack(items)[:, start : start + mel.shape[-1] * hop].to(mel.device)


@torch.no_grad()
def find_phase(
    magnitude: Tensor, start: Tensor, stft: FrameSTFT, n_iter: int, harmonics: Harmonics | None = None
) -> Tensor:
    """A waveform of about this magnitude, found by fast Griffin-Lim from the phase of the spectrum `start`.

    Unlike `griffin_lim` on any device, for a whole batch at once, and an item's result depends on its own start
    alone: a seed that draws the start decides the result.

    Args:
        magnitude: (B, frames, n_fft // 2 + 1).
        start: (B, frames, n_fft // 2 + 1), complex.
        stft: in whose frames both are given.
        n_iter: 0 puts the magnitude on the phase of `start`.
        harmonics: what gives the magnitude finer structure, half way.

    Returns:
        (B, frames * hop_length)

    Source: Perraudin et al. 2013, A fast Griffin-Lim algorithm, algorithm 2.
    """
    spectrum = with_magnitude(start, magnitude)
    previous: Tensor | None = None
    for index in range(n_iter):
        signal = stft.synthesis(spectrum)
        step = signal if previous is None else torch.sub(signal, previous, alpha=STEP_BACK)
        previous, spectrum = signal, stft.analysis(step)
        if harmonics is not None and index == n_iter // 2:
            magnitude = harmonics(magnitude, spectrum, stft)
        spectrum = with_magnitude(spectrum, magnitude)
    return stft.synthesis(spectrum)


def with_magnitude(spectrum: Tensor, magnitude: Tensor) -> Tensor:
    """The phase of `spectrum` with another magnitude; in real numbers, which are faster than complex ones here."""
    squares = torch.view_as_real(spectrum).square().flatten(-2)
    power = squares[..., ::2] + squares[..., 1::2]
    return spectrum * power.add_(1e-18).rsqrt_().mul_(magnitude)

"""Pictures of sound: spectrograms of several signals one above the other, or a small one of a single sound."""

import io
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wavediff.errors import AudioError
from wavediff.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOW_SECONDS = 0.046  # 1,024 samples at 22,050 Hz: a voice's harmonics stay apart
DYNAMIC_RANGE = 90.0  # [dB] below the loudest bin of all panels: a studio's noise floor just shows
MAX_FRAMES = 4000  # more than a screen's columns; keeps an hour of sound within memory
SMALL_SIZE = 480, 192  # [pixels]: a card on a page at twice the density of a desktop's screen
SMALL_LEVELS = -100.0, -10.0  # [dBFS] from black to white, the same for every small picture
SMALL_TICKS = 500, 2000, 8000  # [Hz]


def spectrogram_decibels(waveform: Tensor, sample_rate: int) -> Tensor:
    """20 log10 |STFT| (n_fft // 2 + 1, frames) of a waveform (N,), scaled so that a full-scale sine is 0 dB.

    Centred periodic Hann window of about 46 ms (a power of two) with zeros beyond the ends; the hop is an eighth
    of it, or larger so that at most about 4,000 frames result.
    """
    n_fft = 2 ** round(torch.tensor(WINDOW_SECONDS * sample_rate).log2().item())
    window = torch.hann_window(n_fft)
    hop_length = max(n_fft // 8, len(waveform) // MAX_FRAMES)
    spectrum = torch.stft(
        waveform.detach().cpu().float(), n_fft, hop_length, window=window, pad_mode="constant", return_complex=True
    )
    return 20 * (spectrum.abs() * 2 / window.sum()).clamp(min=1e-7).log10()


def save_spectrogram(
    path: str | os.PathLike[str], waveforms: Mapping[str, Tensor], sample_rate: int, *, overwrite: bool = False
) -> None:
    """Draw one spectrogram panel for each signal, stacked, to a PNG.

    Args:
        path: of the PNG.
        waveforms: title -> waveform (N,), full scale 1; lengths may differ.
        sample_rate: of all of them [Hz].
        overwrite: replace an existing file.

    Raises:
        AudioError: no signal is given, or one is empty, not (N,), or not finite.
        OutputError: the file exists or cannot be written.
    """
    figure = spectrogram_figure(waveforms, sample_rate)
    with atomic_write(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def spectrogram_figure(waveforms: Mapping[str, Tensor], sample_rate: int) -> "Figure":
    """The picture that `save_spectrogram` writes.

    All panels share the time axis and one colour scale of 90 dB, so that hiss, missing partials and level
    differences show side by side.

    Raises:
        AudioError: no signal is given, or one is empty, not (N,), or not finite.
    """
    from matplotlib.figure import Figure

    for title, waveform in waveforms.items():
        if waveform.ndim != 1 or not len(waveform) or not waveform.isfinite().all():
            raise AudioError(f"{title}: expected a finite waveform (N,), got {tuple(waveform.shape)}; check the signal")
    if not waveforms:
        raise AudioError("spectrogram: no signal to draw; pass at least one waveform")

    panels = {title: spectrogram_decibels(waveform, sample_rate) for title, waveform in waveforms.items()}
    loudest = max(decibels.max().item() for decibels in panels.values())
    longest = max(len(waveform) for waveform in waveforms.values()) / sample_rate

    # A Figure made without pyplot draws with Agg and leaves the user's backend and open figures alone.
    figure = Figure(figsize=(11, 1.0 + 2.3 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, (title, decibels) in zip(axes, panels.items(), strict=True):
        levels, extent = (loudest - DYNAMIC_RANGE, loudest), (len(waveforms[title]) / sample_rate, sample_rate / 2000)
        image = _draw(axis, decibels, levels, extent)
        axis.set_title(title, loc="left", fontsize=11)
        axis.set_ylabel("frequency [kHz]")
        axis.set_xlim(0, longest)
        axis.set_facecolor("0.9")
    axes[-1].set_xlabel("time [s]")
    figure.colorbar(image, ax=list(axes), label="level [dBFS]", pad=0.01, aspect=15 * len(panels))
    return figure


def small_spectrogram(waveform: Tensor, sample_rate: int) -> bytes:
    """A WebP of 480 x 192 pixels: time from edge to edge, frequency upwards on the mel scale, marks at its left.

    WebP because every browser shows it, and it takes a tenth of a PNG's bytes.

    Args:
        waveform: (N,), finite, N > 0, full scale 1.
        sample_rate: [Hz].
    """
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    (width, height), nyquist = SMALL_SIZE, sample_rate / 2
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.axis("off")
    bands = _mel_bands(spectrogram_decibels(waveform, sample_rate), nyquist, height)
    _draw(axis, bands, SMALL_LEVELS, SMALL_SIZE)
    outline = [withStroke(linewidth=2, foreground="black", alpha=0.6)]
    for frequency in SMALL_TICKS:
        if frequency < 0.8 * nyquist:
            y = height * _mel(frequency) / _mel(nyquist)
            axis.plot([0, 8], [y, y], color="white", linewidth=2, path_effects=outline)
            label = axis.text(13, y, f"{frequency / 1000:g} kHz", color="white", fontsize=12, path_effects=outline)
            label.set_verticalalignment("center_baseline")
    axis.set(xlim=(0, width), ylim=(0, height))
    encoded = io.BytesIO()
    figure.savefig(encoded, format="webp", pil_kwargs={"quality": 80})
    return encoded.getvalue()


def _draw(axis: Any, decibels: Tensor, levels: tuple[float, float], extent: tuple[float, float]) -> Any:
    """Levels (bins, frames) as an image of that width and height, from black at `levels[0]` to white at `levels[1]`."""
    (low, high), (right, top) = levels, extent
    look = {"origin": "lower", "aspect": "auto", "cmap": "magma", "interpolation": "hanning"}
    return axis.imshow(decibels.numpy(), vmin=low, vmax=high, extent=(0, right, 0, top), **look)


def _mel_bands(decibels: Tensor, nyquist: float, num_bands: int) -> Tensor:
    """Mean power in bands equally wide on the mel scale, in dB (num_bands, frames), of dB (bins, frames)."""
    power = 10 ** (decibels.double() / 10)
    below = torch.nn.functional.pad(power.cumsum(0), (0, 0, 1, 0))  # (bins + 1, frames): the power below each edge
    edges = torch.linspace(0, _mel(nyquist), num_bands + 1, dtype=torch.float64)
    positions = 700 * ((edges / 1127).exp() - 1) / nyquist * (len(power) - 1) + 0.5  # in bins, from the first's edge
    lower = positions.long().clamp(max=len(power) - 1)
    at_edges = torch.lerp(below[lower], below[lower + 1], (positions - lower)[:, None])
    return 10 * (at_edges.diff(dim=0) / positions.diff()[:, None]).clamp(min=1e-14).log10()


def _mel(frequency: float) -> float:
    """The mel scale of HTK: 1127 ln(1 + f / 700 Hz)."""
    return 1127 * math.log1p(frequency / 700)

"""Pictures of sound: spectrograms of several signals one above the other."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wavediff.errors import AudioError
from wavediff.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOW_SECONDS = 0.046  # 1,024 samples at 22,050 Hz: a voice's harmonics stay apart
DYNAMIC_RANGE = 90.0  # [dB] below the loudest bin of all panels: a studio's noise floor just shows
MAX_FRAMES = 4000  # more than a screen's columns; keeps an hour of sound within memory


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
        image = axis.imshow(
            decibels.numpy(),
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=loudest - DYNAMIC_RANGE,
            vmax=loudest,
            extent=(0, len(waveforms[title]) / sample_rate, 0, sample_rate / 2000),
            interpolation="hanning",
        )
        axis.set_title(title, loc="left", fontsize=11)
        axis.set_ylabel("frequency [kHz]")
        axis.set_xlim(0, longest)
        axis.set_facecolor("0.9")
    axes[-1].set_xlabel("time [s]")
    figure.colorbar(image, ax=list(axes), label="level [dBFS]", pad=0.01, aspect=15 * len(panels))
    return figure

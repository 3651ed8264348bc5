"""How near the octave above 11 kHz of a band extension is to that of recordings.

Run: python recipes/sfx/band_table.py data/sfx44-families/test.jsonl --all /path/to/sfx [--picture bands.png]

Clips of the manifest are brought to 22.05 kHz and extended again: the error of the power above 11 and 8 kHz in frames
of 12 ms within 60 dB of the loudest, powers being floored 90 dB below it, against what plain resampling leaves; and
how much longer attacks take above 11 kHz. Then ten generated sounds a class are extended: the mean share of their
energy above 8 and 11 kHz, and the median of what lies above 11 kHz against what lies from 8 to 11 kHz, beside those of
all clips.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor

from wavediff import BandExtension, Generator
from wavediff.audio import read_audio, resample, trim
from wavediff.metrics.clip_sets import labelled_clips

RATE, N_FFT = 44100, 512
EDGES = (11_000, 8_000)  # Hz
ATTACK_SECONDS = 0.01  # recordings that rise as fast as this above 11 kHz have an attack


def powers(waveform: Tensor) -> Tensor:
    """Spectrogram (bins, frames)."""
    window = torch.hann_window(N_FFT)
    return (
        torch.stft(waveform, N_FFT, N_FFT // 4, window=window, pad_mode="constant", return_complex=True).abs().square()
    )


def above(power: Tensor, edge: float) -> Tensor:
    """(frames,)"""
    return power[round(edge / RATE * N_FFT) :].sum(0)


def error(real: Tensor, other: Tensor, edge: float) -> float:
    """Mean over audible frames [dB]."""
    x, y = powers(real), powers(other)
    total = x.sum(0)
    loud = total > 1e-6 * total.max()
    difference = [above(power, edge)[loud].clamp(min=1e-9 * total.max()).log10() for power in (x, y)]
    return 10 * (difference[1] - difference[0]).abs().mean().item()


def rise(waveform: Tensor) -> tuple[float, float]:
    """Seconds from a tenth to nine tenths of the highest level above 11 kHz, and when nine tenths are reached."""
    spectrum = torch.fft.rfft(waveform)
    spectrum[: round(11_000 / RATE * len(waveform))] = 0
    high = torch.fft.irfft(spectrum, n=len(waveform)).square()
    kernel = torch.hann_window(45)[None, None]  # 1 ms
    level = torch.nn.functional.conv1d(high[None, None], kernel, padding=22)[0, 0].clamp(min=0).sqrt()
    reached = int((level >= 0.9 * level.max()).nonzero()[0])
    below = (level[:reached] < 0.1 * level.max()).nonzero()
    return (reached - (int(below[-1]) if len(below) else 0)) / RATE, reached / RATE


def share(waveform: Tensor, edge: float) -> float:
    """Of the energy, what lies above an edge."""
    energy = torch.fft.rfft(waveform.double()).abs().square()
    return (energy[round(edge / RATE * len(waveform)) :].sum() / energy.sum()).item()


def levels(shares: list[list[float]]) -> tuple[float, float, float]:
    """Of sounds with shares above 11 and above 8 kHz: mean share above 8, above 11, and the median of what lies above
    11 against what lies from 8 to 11 kHz [dB]."""
    values = torch.tensor(shares, dtype=torch.float64).clamp(min=1e-12)
    high, both = values.T
    slope = (high / (both - high).clamp(min=1e-12)).median()
    means = torch.stack([both.mean(), high.mean(), slope]).log10() * 10
    return tuple(means.tolist())  # type: ignore[return-value]


def clips(source: Path) -> list[tuple[Tensor, str]]:
    """Those of 44.1 kHz and more, at 44.1 kHz."""
    found = [(read_audio(path), label) for path, label in labelled_clips(source)]
    return [(resample(clip, rate, RATE), label) for (clip, rate), label in found if rate >= RATE]


def held_out(extension: BandExtension, source: Path) -> list[tuple[Tensor, Tensor, str]]:
    """The table of clips that were not trained on; the pairs (real, extended, class)."""
    rows, rises, pairs = defaultdict(list), [], []
    for real, label in clips(source):
        low = resample(real, RATE, RATE // 2)
        plain = resample(low, RATE // 2, RATE)[: len(real)]
        new = extension(low, RATE // 2)[: len(real)]
        rows[label].append([error(real, other, edge) for edge in EDGES for other in (plain, new)])
        pairs.append((real, new, label))
        if real.abs().max() and share(real, 11_000) > 1e-6 and (ours := rise(real))[0] < ATTACK_SECONDS:
            around = slice(max(round((ours[1] - 0.03) * RATE), 0), round((ours[1] + 0.01) * RATE))
            (long, top), (real_long, real_top) = rise(new[around]), rise(real[around])
            rises.append((long - real_long, top - real_top))
    print("| class | clips | above 11 kHz: nothing added | extended | above 8 kHz: nothing added | extended |")
    print("|---|---|---|---|---|---|")
    rows["all"] = [row for group in rows.values() for row in group]
    for label, group in rows.items():
        print(f"| {label} | {len(group)} | " + " | ".join(f"{v:.1f}" for v in torch.tensor(group).mean(0)) + " |")
    longer, later = (torch.tensor(rises) * 1000).T
    print(f"{len(rises)} attacks, extended against real, above 11 kHz")
    for name, values in (("rise longer by", longer), ("top reached later by", later)):
        within = (values.abs() < 3).float().mean()
        print(f"{name} {values.median():.2f} ms (median), {values.abs().mean():.2f} off; within 3 ms: {within:.3f}")
    return pairs


def generated(extension: BandExtension, source: Path, model: str | None, count: int) -> dict[str, list[Tensor]]:
    """The table of generated sounds; the sounds."""
    generator = Generator.from_pretrained(model, device="cpu")
    real, made, sounds = defaultdict(list), defaultdict(list), defaultdict(list)
    for clip, label in clips(source):
        real[label].append([share(clip, edge) for edge in EDGES])
    seconds = drawing = extending = 0.0
    for label in generator.classes:
        began = time.process_time()
        drawn = generator.generate(count, label=label, seed=1000)
        drawing += time.process_time() - began
        began = time.process_time()
        extended = extension(drawn, generator.sample_rate)
        extending += time.process_time() - began
        seconds += extended.numel() / RATE
        for sound in extended:
            if sound.abs().max() > 10 ** (-50 / 20):
                sounds[label].append(trim(sound, RATE))
                made[label].append([share(sounds[label][-1], edge) for edge in EDGES])
    print("| class |" + "".join(f" {what}: real | generated |" for what in ("above 8 kHz", "above 11", "11 to 8-11")))
    print("|---|---|---|---|---|---|---|")
    for label in made:
        cells = [
            f"{value:.1f}" for pair in zip(levels(real[label]), levels(made[label]), strict=True) for value in pair
        ]
        print(f"| {label} | " + " | ".join(cells) + " |")
    print(
        f"{seconds:.0f} s of sound: {drawing / seconds:.3f} CPU-seconds a second drawn, "
        f"{extending / seconds:.4f} extended"
    )
    return sounds


def draw(pairs: list[tuple[Tensor, Tensor, str]], path: Path) -> None:
    """The first clip of each class, real above extended."""
    from matplotlib.figure import Figure

    first = {}
    for real, new, label in pairs:
        first.setdefault(label, (real, new))
    figure = Figure(figsize=(3 * len(first), 6), layout="constrained")
    for column, (label, sounds) in enumerate(first.items()):
        for row, sound in enumerate(sounds):
            axes = figure.add_subplot(2, len(first), 1 + column + row * len(first))
            image = 10 * powers(sound[: int(0.6 * RATE)]).clamp(min=1e-12).log10()
            axes.imshow(image, origin="lower", aspect="auto", vmin=image.max() - 80, vmax=image.max(), cmap="magma")
            axes.set_title(f"{label}, {'extended' if row else 'real'}")
            axes.axis("off")
    figure.savefig(path, dpi=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="manifest of clips that were not trained on")
    parser.add_argument("--extension", type=Path, help="model file (default: the bundled one)")
    parser.add_argument("--all", type=Path, help="folder of class folders: also measure generated sounds against it")
    parser.add_argument("--checkpoint", help="their generator (default: the bundled one)")
    parser.add_argument("--count", type=int, default=10, help="sounds of each class")
    parser.add_argument("--picture", type=Path, help="draw real and extended clips")
    args = parser.parse_args()
    extension = BandExtension.from_pretrained(args.extension, "cpu")
    pairs = held_out(extension, args.clips)
    if args.picture:
        draw(pairs, args.picture)
    if args.all:
        generated(extension, args.all, args.checkpoint, args.count)


if __name__ == "__main__":
    main()

"""Whether what a generator makes can be used as it is: sounds, loops and fillings, counted by their faults.

Run: python recipes/sfx/usable.py data/sfx/test.jsonl data/sfx/valid.jsonl

Sounds and loops are made by `wavediff generate` itself, and read from its files. The recordings of the manifests are
levelled as the sounds are, not trimmed. A sound begins where it comes within 30 dB of its peak. A loop clicks if its
wave bends more sharply at the seam than anywhere else. Fillings take the place of a span in the middle of each
recording of 0.2 to 4 s.
"""

import argparse
import contextlib
import io
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from wavediff import Generator
from wavediff.audio import centred, read_audio, with_peak
from wavediff.audio.finish import find_faults
from wavediff.cli.main import main as wavediff
from wavediff.data.manifest import read_manifest
from wavediff.errors import SamplingError
from wavediff.mel import MelSpec, MelTransform
from wavediff.metrics.clip_sets import labelled_clips

FRAME = 0.02  # of levels [s]
LATE = 0.010  # where a sound should have begun [s]
ONSET = 10 ** (-30 / 20)  # of the peak
CUT = -20.0  # a sound that is louder at its end is cut there [dB below the loudest frame]
CLICK = 1.1  # of the sharpest bend elsewhere
HOLE = 40.0  # of a loop, from its loudest 50 ms to its faintest [dB]
SPAN, SHARE = 0.2, 0.4  # of a filling: so long, or this share of what sounds, whichever is shorter [s]
SECONDS = (0.2, 4.0)  # of the part of a recording that sounds, for a filling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="+", help="JSONL of labelled recordings, or class folders")
    parser.add_argument("--checkpoint", type=Path, help="generator (default: the bundled one)")
    parser.add_argument("--sounds", type=int, default=50, metavar="N", help="of each class (default 50)")
    parser.add_argument("--loops", type=int, default=3, metavar="N", help="tried of each class (default 3)")
    parser.add_argument("--sustained", type=int, default=30, metavar="N", help="loops of --label (default 30)")
    parser.add_argument("--label", default="engine", help="class that goes on and on (default engine)")
    parser.add_argument("--fillings", type=int, default=40, metavar="N", help="at most (default 40)")
    parser.add_argument("--kinds", action="store_true", help="fillings are of the kind that a manifest names")
    parser.add_argument("--num-steps", type=int, metavar="N", help="of sampling (default: the model's)")
    parser.add_argument("--seed", type=int, default=3000, help="of the first of each class (default 3000)")
    args = parser.parse_args()
    generator = Generator.from_pretrained(args.checkpoint, "cpu")
    rate = generator.sample_rate
    clips = [clip for manifest in args.manifest for clip in labelled_clips(manifest)]
    with tempfile.TemporaryDirectory() as folder:
        if args.sounds:
            _sounds(args, Path(folder), [(label, read_audio(path, rate)[0]) for path, label in clips], rate)
        _loops(args, Path(folder), generator)
    if args.fillings:
        kinds = [str(one.label) for manifest in args.manifest for one in read_manifest(manifest)] if args.kinds else ()
        labels = kinds or [label for _, label in clips]
        _fillings(args, generator, [(path, label) for (path, _), label in zip(clips, labels, strict=True)])


def _make(args: argparse.Namespace, folder: Path, label: str, *options: str) -> tuple[list[dict[str, Any]], str]:
    """What `wavediff generate` says of its files, and of what it refuses."""
    command = ["generate", "--label", label, "--seed", str(args.seed), "-o", str(folder), *options]
    command += ["--json", "--quiet", "--overwrite", "--device", "cpu"]
    command += ["--checkpoint", str(args.checkpoint)] if args.checkpoint else []
    command += ["--num-steps", str(args.num_steps)] if args.num_steps else []
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as error:
        wavediff(command)
    return [json.loads(line) for line in out.getvalue().splitlines()], error.getvalue().strip()


def _sounds(args: argparse.Namespace, folder: Path, real: Sequence[tuple[str, Tensor]], rate: int) -> None:
    start = time.process_time()
    rows, error = _make(args, folder / "sounds", "all", "--count", str(args.sounds))
    spent = time.process_time() - start
    if error:
        print(error)
    made = [(row["label"].partition("/")[0], read_audio(row["output"], rate)[0]) for row in rows]
    again = sum(not args.seed <= row["seed"] < args.seed + args.sounds for row in rows)
    seconds = sum(len(sound) for _, sound in made) / rate
    print(f"{len(made)} sounds, {seconds:.0f} s, in {spent:.0f} s of CPU time; {again} were silent and drawn again")
    real = [(label, with_peak(centred(sound, rate))) for label, sound in real]
    print("| | generated | recordings |\n|---|---|---|")
    for name, count in (
        ("silent", lambda sound: "silent" in find_faults(sound)),
        ("clipped", lambda sound: "clipping" in find_faults(sound)),
        (f"begins after {1000 * LATE:.0f} ms", lambda sound: onset(sound, rate) > LATE),
        (f"louder than {CUT:.0f} dB at the end", lambda sound: end_level(sound, rate) > CUT),
    ):
        print(f"| {name} | {_share(made, count)} | {_share(real, count)} |")
    spreads = [spread((label, loudness(sound, rate)) for label, sound in sounds) for sounds in (made, real)]
    print(f"| spread of loudness within a class [dB] | {spreads[0]:.1f} | {spreads[1]:.1f} |")


def _loops(args: argparse.Namespace, folder: Path, generator: Generator) -> None:
    made: dict[str, int] = {}
    for label in generator.classes if args.loops else ():
        for seed in range(args.seed, args.seed + args.loops):
            try:
                generator.generate(label=label, seed=seed, loop=True, num_steps=args.num_steps)
                made[label] = made.get(label, 0) + 1
            except SamplingError as error:  # the command line prints it, and nothing else
                if len(str(error).splitlines()) != 1 or str(seed) not in str(error):
                    raise
    if args.loops:
        tried, kept = args.loops * len(generator.classes), sum(made.values())
        print(f"{tried} loops of all classes tried: {tried - kept} refused in one line; made: {made}")
    if not args.sustained:
        return
    rows, error = _make(args, folder / "loops", args.label, "--loop", "--seconds", "2", "--count", str(args.sustained))
    print(f"{len(rows)} loops of {args.label}: {error or 'none refused'}")
    if rows:
        loops = [read_audio(row["output"]) for row in rows]
        clicks = sum(seam_bend(loop, rate) > CLICK for loop, rate in loops)
        holes = sum(level_range(loop, rate) > HOLE for loop, rate in loops)
        dips = [seam_level(loop, rate) for loop, rate in loops]
        print(
            f"{clicks} with a click at the seam, {holes} with a hole; loudest tenth of a second "
            f"{min(loudness(*loop) for loop in loops):.1f} dB or more; seam beside the rest {min(dips):.1f} to "
            f"{max(dips):.1f} dB"
        )


def _fillings(args: argparse.Namespace, generator: Generator, clips: Iterable[tuple[Path, str]]) -> None:
    rate, rows, changed, beyond = generator.sample_rate, [], 0, 0
    mel = MelTransform(MelSpec(rate, 1024, 512, 128, n_mels=80, f_max=rate / 2))
    for path, label in clips:
        sound, _ = read_audio(path, rate)
        span = span_in(sound, rate)
        if span is None or len(rows) == args.fillings:
            continue
        first, last = span
        options = {"label": label, "num_steps": args.num_steps, "seed": args.seed + len(rows)}
        filled = generator.inpaint(sound, rate, first / rate, last / rate, **options)[0]
        outside = torch.cat([(filled - sound)[:first], (filled - sound)[last:]]).abs().max()
        rows.append((level(filled[first:last]) - level(sound[first:last]), *_beside(mel, sound, filled, span)))
        changed += bool(outside > 0)
        beyond += bool(filled[first:last].abs().max() > max(1, float(sound.abs().max())))
    levels = [row[0] for row in rows]
    print(f"{len(rows)} fillings: {changed} change what lies outside the span, {beyond} exceed full scale")
    print(
        f"level beside what they replace: median {statistics.median(levels):.1f} dB, "
        f"median of the absolute values {statistics.median(map(abs, levels)):.1f} dB, "
        f"{sum(abs(value) <= 3 for value in levels)} within 3 dB, {sum(value < -10 for value in levels)} below -10 dB; "
        f"log-mel {statistics.mean(row[1] for row in rows):.2f} nat from it; "
        f"change at the seams beyond that of the recording {statistics.mean(row[2] for row in rows):.2f} nat"
    )


def _share(sounds: Sequence[tuple[str, Tensor]], is_so: Callable[[Tensor], bool]) -> str:
    found = sum(map(is_so, (sound for _, sound in sounds)))
    return f"{found} of {len(sounds)}"


def frames(sound: Tensor, rate: int, seconds: float = FRAME) -> Tensor:
    """Mean power of each frame (n,), counted from the end of the sound (N,); the first is filled up with silence."""
    width = min(max(round(seconds * rate), 1), len(sound))
    return pad(sound, (-len(sound) % width, 0)).unflatten(0, (-1, width)).double().square().mean(1)


def level(sound: Tensor) -> float:
    """Of all of a sound [dB]."""
    return 10 * math.log10(float(sound.double().square().mean()) + 1e-12)


def onset(sound: Tensor, rate: int) -> float:
    """Where a sound comes within 30 dB of its peak [s]."""
    return int((sound.abs() > ONSET * sound.abs().max()).nonzero()[0]) / rate if sound.any() else math.inf


def end_level(sound: Tensor, rate: int) -> float:
    """Of the last frame but one, beside the loudest [dB]: the last one is faded at any rate."""
    power = frames(sound, rate)
    return 10 * math.log10(float(power[-2:][0] / power.max()) + 1e-12) if power.any() else -math.inf


def loudness(sound: Tensor, rate: int) -> float:
    """Of the loudest tenth of a second, filled up with silence where it is shorter [dB]."""
    width = round(0.1 * rate)
    power = pad(sound, (width, width)).double().square().cumsum(0)
    return 10 * math.log10(float((power[width:] - power[:-width]).max()) / width + 1e-12)


def spread(values: Iterable[tuple[str, float]]) -> float:
    """Standard deviation within a class, the mean of all classes of two sounds or more."""
    classes: dict[str, list[float]] = {}
    for label, value in values:
        classes.setdefault(label, []).append(value)
    return statistics.mean(statistics.stdev(group) for group in classes.values() if len(group) > 1)


def seam_bend(loop: Tensor, rate: int) -> float:
    """The sharpest bend of the wave within 1 ms of where a loop closes, beside the sharpest of the rest."""
    near = round(0.001 * rate)
    bends = torch.cat([loop[-1:], loop, loop[:1]]).double().diff(n=2).abs()  # at each sample of the loop
    return float(torch.cat([bends[:near], bends[-near:]]).max() / bends[near:-near].max().clamp(min=1e-12))


def seam_level(loop: Tensor, rate: int) -> float:
    """Level of 50 ms around where a loop closes, beside the median of such frames [dB]."""
    near = round(0.025 * rate)
    return level(torch.cat([loop[-near:], loop[:near]])) - 10 * math.log10(float(frames(loop, rate, 0.05).median()))


def level_range(loop: Tensor, rate: int) -> float:
    """From the faintest 50 ms to the loudest [dB]."""
    power = frames(loop, rate, 0.05)
    return 10 * math.log10(float(power.max() / power.min().clamp(min=1e-12)))


def span_in(sound: Tensor, rate: int) -> tuple[int, int] | None:
    """The middle of what sounds, within 40 dB of the peak; None where that is too short, too long or a gap."""
    heard = (sound.abs() > 10 ** (-40 / 20) * sound.abs().max()).nonzero()
    if not len(heard):
        return None
    start, end = int(heard[0]), int(heard[-1]) + 1
    width = min(round(SPAN * rate), round(SHARE * (end - start)))
    first = (start + end - width) // 2
    if not SECONDS[0] * rate <= end - start <= SECONDS[1] * rate or level(sound[first : first + width]) < -60:
        return None
    return first, first + width


def _beside(mel: MelTransform, sound: Tensor, filled: Tensor, span: tuple[int, int]) -> tuple[float, float]:
    """Distance of the log-mels within the span, and how much more they change over its edges, within 60 dB [nat]."""
    theirs, ours = mel(sound[None])[0], mel(filled[None])[0]
    floor = theirs.max() - 6.9
    theirs, ours = theirs.clamp(min=floor), ours.clamp(min=floor)
    first, last = (edge // mel.spec.hop_length for edge in span)

    def change(values: Tensor, edge: int) -> float:
        return float((values[:, edge + 1 : edge + 4].mean(1) - values[:, edge - 4 : edge - 1].mean(1)).abs().mean())

    seams = [change(ours, edge) - change(theirs, edge) for edge in (first, last)]
    return float((ours - theirs)[:, first:last].abs().mean()), statistics.mean(seams)


if __name__ == "__main__":
    main()

"""Spectrograms of real sounds above generated ones, a row of each for every class, as one picture.

python recipes/sfx/contact_sheet.py data/sfx/test.jsonl data/sfx/valid.jsonl -o recipes/sfx/contact_sheet.webp
"""

import argparse
import io
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from torch import Tensor

from wavediff import Generator
from wavediff.audio import read_audio, trim, with_peak
from wavediff.data.manifest import read_manifest
from wavediff.report.pictures import small_spectrogram


def main() -> None:
    """Choose the first recordings of each class, generate from the first seeds, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="+", help="JSONL of labelled recordings")
    parser.add_argument("--checkpoint", type=Path, help="generator (default: the bundled one)")
    parser.add_argument("--count", type=int, default=5, metavar="N", help="of each kind in a row (default 5)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each panel (default 1.5)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="picture")
    args = parser.parse_args()

    generator = Generator.from_pretrained(args.checkpoint)
    utterances = [utterance for manifest in args.manifest for utterance in read_manifest(manifest)]
    rows: dict[tuple[str, str], list[Tensor]] = {}
    for name in generator.classes:
        own = [utterance.path for utterance in utterances if (utterance.label or "").split("/")[0] == name]
        rows[name, "real"] = [read_audio(path, generator.sample_rate)[0] for path in own[: args.count]]
        rows[name, "generated"] = list(generator.generate(args.count, args.seconds, name).cpu())
    length = round(args.seconds * generator.sample_rate)
    figure = Figure(figsize=(2.2 * args.count, 0.75 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), args.count, squeeze=False)
    for axes, ((name, kind), sounds) in zip(panels, rows.items(), strict=True):
        axes[0].set_ylabel(f"{name}\n{kind}", rotation=0, ha="right", va="center", fontsize=8)
        for axis in axes:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_color("tab:blue" if kind == "real" else "tab:orange")
        for axis, sound in zip(axes, sounds, strict=False):
            axis.imshow(_picture(sound, length, generator.sample_rate), aspect="auto")
    figure.savefig(args.output, dpi=80, pil_kwargs={"quality": 60})


def _picture(sound: Tensor, length: int, sample_rate: int) -> Any:
    """The beginning of a sound, filled up with silence to `length`."""
    sound = with_peak(trim(sound, sample_rate))[:length]
    filled = torch.nn.functional.pad(sound, (0, length - len(sound)))
    return imread(io.BytesIO(small_spectrogram(filled, sample_rate)), format="webp")


if __name__ == "__main__":
    main()

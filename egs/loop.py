"""A seamless loop: at each step the model sees the sound with its end joined to its beginning, so it makes no edge.

Run: python egs/loop.py --label engine --seconds 2 --output loop
"""

import argparse
from pathlib import Path

import wavediff
from wavediff.audio import write_audio
from wavediff.report import save_spectrogram


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", default="engine", help="class of the sound (default engine)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of the loop (default 2)")
    parser.add_argument("--repeats", type=int, default=4, help="how often it is heard in the second file (default 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="model file (default: the bundled generator)")
    parser.add_argument("--output", type=Path, default=Path("loop"))
    args = parser.parse_args()

    generator = wavediff.Generator.from_pretrained(args.checkpoint)
    label = args.label if generator.labels else None
    loop = generator.generate(1, args.seconds, label, seed=args.seed, loop=True)[0].cpu()  # (N,)
    repeated = loop.repeat(args.repeats)
    write_audio(args.output / "loop.wav", loop, generator.sample_rate, overwrite=True)
    write_audio(args.output / "repeated.wav", repeated, generator.sample_rate, overwrite=True)
    save_spectrogram(args.output / "repeated.png", {"repeated": repeated}, generator.sample_rate, overwrite=True)
    # Largest step between two samples where the loop closes, over that of the whole loop: a click would stand out.
    steps = repeated.diff().abs()
    seam = steps[len(loop) - 8 : len(loop) + 8].max() / steps.max()
    print(f"{args.seconds:g} s of {label or 'sound'}; at the seam {seam:.0%} of the largest step between two samples")


if __name__ == "__main__":
    main()

"""A sound pack: a few sounds of every class, one folder each, cut to length, and a page to listen to all of them.

Run: python egs/sound_pack.py --count 3 --output pack
"""

import argparse
import json
from pathlib import Path

import wavediff
from wavediff.audio import centred, ended, trim, with_peak, write_audio
from wavediff.report import write_page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3, help="sounds of each class (default 3)")
    parser.add_argument("--labels", help="classes, with commas (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="model file (default: the bundled generator)")
    parser.add_argument("--output", type=Path, default=Path("pack"))
    args = parser.parse_args()

    generator = wavediff.Generator.from_pretrained(args.checkpoint)
    index = []
    for label in args.labels.split(",") if args.labels else generator.classes:
        sounds = generator.generate(args.count, label=label, seed=args.seed)  # (count, N)
        for number, sound in enumerate(sounds.cpu()):
            # A model makes sounds of one length: what would go on fades out, what lies around a short one is silence.
            sound = ended(centred(sound, generator.sample_rate), generator.sample_rate)
            sound = with_peak(trim(sound, generator.sample_rate))
            path = args.output / label / f"{label}_{number:03}.wav"
            write_audio(path, sound, generator.sample_rate, overwrite=True)
            # The seed is all it takes to make the same sound again.
            seconds = round(len(sound) / generator.sample_rate, 3)
            index.append(
                {"file": f"{label}/{path.name}", "label": label, "seed": args.seed + number, "seconds": seconds}
            )
    (args.output / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    write_page(args.output / "index.html", args.output, title="Sound pack", overwrite=True)
    print(f"{len(index)} sounds; open {args.output / 'index.html'}")


if __name__ == "__main__":
    main()

"""Variations of one recording: noise is added to it up to a time, and taken away again by the model.

Little noise leaves the sound as it is, all of it leaves nothing; in between lies the family of one sound, such as
the steps of a walk that must not all be the same. Without --clip, the model makes the sound to vary.

Run: python egs/variations.py --clip pack/wood/wood_000.wav --label wood --output variations
"""

import argparse
from pathlib import Path

import torch

import wavediff
from wavediff.audio import read_audio, write_audio
from wavediff.report import save_spectrogram

STRENGTHS = (0.2, 0.4, 0.6, 0.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, help="recording to vary")
    parser.add_argument("--label", help="class that the variations are led to (default: none)")
    parser.add_argument("--count", type=int, default=3, help="variations at each strength (default 3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="model file (default: the bundled generator)")
    parser.add_argument("--output", type=Path, default=Path("variations"))
    args = parser.parse_args()

    generator = wavediff.Generator.from_pretrained(args.checkpoint)
    if args.clip:
        sound, sample_rate = read_audio(args.clip, generator.sample_rate)
    else:
        sound, sample_rate = generator.generate(label=args.label, seed=args.seed)[0], generator.sample_rate
    write_audio(args.output / "original.wav", sound.cpu(), sample_rate, overwrite=True)
    panels = {"original": sound.cpu()}
    for strength in STRENGTHS:
        varied = generator.vary(sound, sample_rate, strength, args.count, label=args.label, seed=args.seed).cpu()
        for number, variation in enumerate(varied):
            name = f"strength{strength:g}_{number}.wav"
            write_audio(args.output / name, variation, sample_rate, overwrite=True)
        # How much of the waveform itself is left.
        kept = torch.stack([torch.cosine_similarity(v, sound.cpu(), dim=0) for v in varied]).mean().item()
        print(f"strength {strength:g}: correlation with the original {kept:.2f}")
        panels[f"strength {strength:g}"] = varied[0]
    save_spectrogram(args.output / "variations.png", panels, sample_rate, overwrite=True)
    print(f"listen to {args.output}, look at {args.output / 'variations.png'}")


if __name__ == "__main__":
    main()

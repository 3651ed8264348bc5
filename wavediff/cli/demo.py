"""Vocode a bundled clip of speech: leaves the original, the result and a picture of both in a folder."""

import argparse
import time
from pathlib import Path

from wavediff.cli import MODEL_HELP
from wavediff.models import WEIGHTS

CLIP = WEIGHTS / "clip.flac"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder (default: demo)")
    parser.add_argument("--clip", type=Path, default=CLIP, help="a recording of your own instead of the bundled one")
    parser.add_argument("--checkpoint", type=Path, help=f"{MODEL_HELP} (default: the bundled model)")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="decides the noise (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> None:
    """Recording -> mel -> noise -> speech, and what to look at."""
    from tqdm import tqdm

    from wavediff.audio import read_audio, write_audio
    from wavediff.pipelines.vocoder import Vocoder
    from wavediff.report import save_spectrogram

    vocoder = Vocoder.from_pretrained(args.checkpoint)
    waveform, sample_rate = read_audio(args.clip, vocoder.sample_rate)
    mel = vocoder.mel(waveform, sample_rate)[0]
    bands, frames = mel.shape
    print(f"{args.clip.name}: {len(waveform) / sample_rate:.1f} s of speech -> mel, {bands} bands x {frames} frames")
    if "note" in vocoder.facts:
        print(f"the model: {vocoder.facts['note']}")
    steps = len(vocoder.plan().times) - 1
    start = time.perf_counter()
    with tqdm(unit="piece", disable=args.quiet) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        speech = vocoder.decode(mel, seed=args.seed, on_step=advance).cpu()
    middle = time.perf_counter()
    vocoder.decode(mel, seed=args.seed).cpu()  # again, when nothing is loaded or made for the first time
    passes, seconds = (middle - start, time.perf_counter() - middle), len(speech) / sample_rate
    first, second = (f"{elapsed:.1f} s, real-time factor {elapsed / seconds:.2f}" for elapsed in passes)
    print(
        f"mel -> speech in {steps} denoising steps on {vocoder.device.type}, {seconds:.1f} s of sound: {first}; "
        f"a second time {second}"
    )
    names = ("original.wav", "vocoded.wav", "spectrogram.png")
    original, vocoded, picture = (args.output / name for name in names)
    write_audio(original, waveform, sample_rate, overwrite=True)
    write_audio(vocoded, speech, sample_rate, overwrite=True)
    panels = {"original": waveform, "vocoded from its mel": speech}
    save_spectrogram(picture, panels, sample_rate, overwrite=True)
    print(f"listen to {vocoded} beside {original}, look at {picture}")

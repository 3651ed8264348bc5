"""Vocode a bundled clip of speech: leaves the original, the result and a picture of both in a folder."""

import argparse
import json
import time
from pathlib import Path

from wavediff.cli.parser import add_options
from wavediff.cli.progress import Progress
from wavediff.files import check_output
from wavediff.models import WEIGHTS

CLIP = WEIGHTS / "clip.flac"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder (default: demo)")
    parser.add_argument("--clip", type=Path, default=CLIP, help="a recording of your own instead of the bundled one")
    add_options(parser, "checkpoint", "device", "overwrite", "quiet", "json", seed="decides the noise")


def run(args: argparse.Namespace) -> None:
    """Recording -> mel -> noise -> speech, and what to look at."""
    from wavediff.audio import read_audio, write_audio
    from wavediff.pipelines.vocoder import Vocoder
    from wavediff.report import save_spectrogram

    names = ("original.wav", "vocoded.wav", "spectrogram.png")
    original, vocoded, picture = (args.output / name for name in names)
    for path in (original, vocoded, picture):
        check_output(path, overwrite=args.overwrite)
    tell = (lambda line: None) if args.quiet or args.json else print
    vocoder = Vocoder.from_pretrained(args.checkpoint, args.device)
    waveform, sample_rate = read_audio(args.clip, vocoder.sample_rate)
    mel = vocoder.mel(waveform, sample_rate)[0]
    bands, frames = mel.shape
    tell(f"{args.clip.name}: {len(waveform) / sample_rate:.1f} s of speech -> mel, {bands} bands x {frames} frames")
    if "note" in vocoder.facts:
        tell(f"the model: {vocoder.facts['note']}")
    steps = len(vocoder.plan().times) - 1
    start = time.perf_counter()
    with Progress("demo", None, "pieces", quiet=args.quiet) as progress:
        speech = vocoder.decode(mel, seed=args.seed, mel_spec=vocoder.mel_spec, on_step=progress.to).cpu()
    middle = time.perf_counter()
    # Again, when nothing is loaded or made for the first time.
    vocoder.decode(mel, seed=args.seed, mel_spec=vocoder.mel_spec).cpu()
    passes, seconds = (middle - start, time.perf_counter() - middle), len(speech) / sample_rate
    first, second = (f"{elapsed:.1f} s, real-time factor {elapsed / seconds:.2f}" for elapsed in passes)
    tell(
        f"mel -> speech in {steps} denoising steps on {vocoder.device.type}, {seconds:.1f} s of sound: {first}; "
        f"a second time {second}"
    )
    write_audio(original, waveform, sample_rate, overwrite=args.overwrite)
    write_audio(vocoded, speech, sample_rate, overwrite=args.overwrite)
    panels = {"original": waveform, "vocoded from its mel": speech}
    save_spectrogram(picture, panels, sample_rate, overwrite=args.overwrite)
    tell(f"listen to {vocoded} beside {original}, look at {picture}")
    if args.json:
        facts = {"original": str(original), "vocoded": str(vocoded), "picture": str(picture)}
        print(json.dumps(facts | {"seconds": seconds, "steps": steps, "rtf": passes[1] / seconds}))

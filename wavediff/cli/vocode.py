"""Turn recordings (copy synthesis) or mel spectrograms (.npy, .safetensors) into speech."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from wavediff.diffusion import PUBLISHED, SAMPLERS, SPACINGS
from wavediff.errors import OutputError, WavediffError
from wavediff.files import check_output

MEL_SUFFIXES = (".npy", ".safetensors")
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg")
OTHER_AUDIO_SUFFIXES = (".mp3", ".m4a", ".aac", ".opus", ".aif", ".aiff", ".wma")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    inputs_help = "audio, mels, folders, or manifests (.jsonl)"
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help=inputs_help)
    parser.add_argument("-o", "--output", type=Path, required=True, help="a .wav, .flac or .ogg file, or a folder")
    parser.add_argument("--checkpoint", type=Path, help="model file (default: the bundled model)")
    parser.add_argument("--num-steps", type=int, metavar="N", help="network evaluations (default: the model's)")
    schedule_help = f"for experts: {', '.join([*SPACINGS, *PUBLISHED])}, full, or ascending betas: 0.0001,0.01,0.2"
    parser.add_argument("--schedule", help=schedule_help)
    parser.add_argument("--sampler", help=f"for experts: {', '.join(SAMPLERS)}, with options as in ddim:eta=0.5")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="decides the noise (default 0)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    parser.add_argument("--mel-spec", metavar="PRESET", help="dialect of the mels, if it may not be the model's")
    parser.add_argument("--lenient", action="store_true", help="take what is left of cut or damaged audio")
    parser.add_argument("--overwrite", action="store_true", help="replace existing outputs")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="one JSON object per file on standard output")


def run(args: argparse.Namespace) -> None:
    """Vocode each input; those that cannot be are reported, the others are not lost."""
    from tqdm import tqdm

    from wavediff.pipelines.vocoder import Vocoder

    jobs = plan(args.inputs, args.output, args.overwrite)
    vocoder = Vocoder.from_pretrained(args.checkpoint, args.device)
    schedule = parse_schedule(args.schedule)
    steps = len(vocoder.plan(args.num_steps, schedule, args.sampler).times) - 1
    failures = 0
    with tqdm(total=steps * len(jobs), unit="step", disable=args.quiet) as bar:
        for number, (source, target) in enumerate(jobs):
            try:
                row = _vocode(vocoder, source, target, args, schedule, lambda done, _: bar.update(1))
            except WavediffError as error:
                if len(jobs) == 1:
                    raise
                failures += 1
                tqdm.write(f"wavediff vocode: {' '.join(str(error).split())}", file=sys.stderr)
                bar.update(steps * (number + 1) - bar.n)
            else:
                if args.json:
                    print(json.dumps(row), flush=True)
                elif not args.quiet:
                    tqdm.write(f"{row['output']}: {row['seconds']:.2f} s of speech, real-time factor {row['rtf']:.2f}")
    if failures:
        raise WavediffError(f"{failures} of {len(jobs)} inputs could not be vocoded, for the reasons above")


def plan(inputs: list[Path], output: Path, overwrite: bool) -> list[tuple[Path, Path]]:
    """Which input becomes which output, settled before any work.

    Raises:
        OutputError: two inputs would become one file, or an output exists.
    """
    from wavediff.audio import iter_audio_files
    from wavediff.data.manifest import read_manifest

    sources: list[Path] = []
    for path in inputs:
        if path.is_dir():
            mels = (found for found in path.rglob("*") if found.suffix.lower() in MEL_SUFFIXES and found.is_file())
            sources += sorted([*iter_audio_files(path), *mels])
        elif path.suffix.lower() == ".jsonl":
            sources += [utterance.path for utterance in read_manifest(path)]
        else:
            sources.append(path)
    if not sources:
        raise OutputError(f"{inputs[0]}: holds neither audio nor mel files; check the folder")
    if output.suffix.lower() in OTHER_AUDIO_SUFFIXES and not output.is_dir():
        raise OutputError(f"{output}: {output.suffix} is not written; choose {', '.join(AUDIO_SUFFIXES)} or a folder")
    if len(sources) == 1 and output.suffix.lower() in AUDIO_SUFFIXES and not output.is_dir():
        jobs = [(sources[0], output)]
    elif output.suffix.lower() in AUDIO_SUFFIXES and not output.is_dir():
        raise OutputError(f"{output}: is one file for {len(sources)} inputs; name a folder")
    else:
        jobs = [(source, output / f"{source.stem}.wav") for source in sources]
    taken: dict[Path, Path] = {}
    for source, target in jobs:
        if target in taken:
            raise OutputError(f"{source} and {taken[target]}: would both become {target}; vocode them apart")
        taken[target] = source
        check_output(target, overwrite=overwrite)
    return jobs


def parse_schedule(text: str | None) -> str | list[float] | None:
    """A schedule's name, or its betas."""
    try:
        return None if text is None else [float(beta) for beta in text.split(",")]
    except ValueError:
        return text


def _vocode(
    vocoder: Any, source: Path, target: Path, args: argparse.Namespace, schedule: str | list[float] | None, on_step: Any
) -> dict[str, Any]:
    from wavediff.audio import read_audio, write_audio
    from wavediff.mel import read_mel

    options = {"schedule": schedule, "sampler": args.sampler, "seed": args.seed, "on_step": on_step}
    if source.suffix.lower() in MEL_SUFFIXES:
        mel, spec = read_mel(source)
        spec = args.mel_spec or spec
    else:
        waveform, sample_rate = read_audio(source, lenient=args.lenient)
        mel, spec = vocoder.mel(waveform, sample_rate)[0], None
    start = time.perf_counter()
    try:
        speech = vocoder.decode(mel, args.num_steps, mel_spec=spec, **options).cpu()
    except WavediffError as error:
        raise type(error)(f"{source}: {error}") from error
    elapsed = time.perf_counter() - start
    write_audio(target, speech, vocoder.sample_rate, overwrite=args.overwrite)
    seconds = len(speech) / vocoder.sample_rate
    return {
        "input": str(source),
        "output": str(target),
        "seconds": seconds,
        "sample_rate": vocoder.sample_rate,
        "nfe": vocoder.plan(args.num_steps, schedule, args.sampler).evaluations,
        "rtf": elapsed / seconds,
    }

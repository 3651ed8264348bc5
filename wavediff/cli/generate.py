"""Make sounds: from nothing, by class, as variations of a recording, in a gap of one, or between two."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavediff.audio import read_audio, read_info, write_audio
from wavediff.cli import pack
from wavediff.cli.candidates import Finish, Job, Judge, best_of
from wavediff.cli.parser import SAMPLER_HELP, add_options, parse_names
from wavediff.cli.progress import Progress, counted
from wavediff.cli.targets import are_seeds, folder_of, target_of
from wavediff.diffusion import SPACINGS
from wavediff.errors import ConfigError, SamplingError, choice
from wavediff.files import check_output, sweep_temporaries
from wavediff.pipelines.generator import DEFAULT_STRENGTH, Generator

BATCH, BATCH_SECONDS = 16, 60.0  # sounds drawn together, and what they last in all: memory grows with it
MAX_JOBS = 1_000_000
MAX_BEST_OF = 100
LICENCE = "CC0-1.0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("-o", "--output", type=Path, help="folder (default: generated)")
    pack_help = "a pack into this folder, all classes by default: 24 bit, UCS names, loop points (WAV), manifest.json"
    parser.add_argument("--pack", type=Path, metavar="DIR", help=pack_help)
    parser.add_argument("--licence", metavar="NAME", help="that you give the sounds of a pack (default CC0-1.0)")
    add_options(parser, checkpoint="the bundled generator")
    parser.add_argument("--count", type=int, metavar="N", help="sounds of each class (default 1, of --between 5)")
    seconds_help = "length of each (default: the model's own, with the silence around it cut off)"
    parser.add_argument("--seconds", type=float, metavar="S", help=seconds_help)
    label_help = (
        "class or kind (laser/retro), several with commas, or 'all'; a folder a class (default: drawn from all)"
    )
    parser.add_argument("--label", metavar="L", help=label_help)
    parser.add_argument("--list-labels", action="store_true", help="print the classes of the model, and stop")
    parser.add_argument("--guidance", type=float, metavar="G", help="1 as trained, above 1 clearer, less varied")
    parser.add_argument("--num-steps", type=int, metavar="N", help="steps of sampling (default: the model's)")
    parser.add_argument("--sampler", metavar="NAME", help=SAMPLER_HELP)
    parser.add_argument("--schedule", choices=list(SPACINGS), help="for experts: where the steps lie")
    add_options(parser, seed="of the first sound, others follow")
    parser.add_argument("--loop", action="store_true", help="sounds whose end continues into their beginning")
    source = parser.add_mutually_exclusive_group()
    vary_help = "variations of this recording, or of the sound that this seed makes"
    source.add_argument("--vary", type=_file_or_seed, metavar="FILE|SEED", help=vary_help)
    inpaint_help = "fill a span of this recording, see --span; of a class, the kind that fits the rest of it"
    source.add_argument("--inpaint", type=Path, metavar="FILE", help=inpaint_help)
    between_help = "from A to B, two recordings or two seeds"
    source.add_argument("--between", nargs=2, type=_file_or_seed, metavar=("A", "B"), help=between_help)
    parser.add_argument("--span", type=_span, metavar="FROM,TO", help="of --inpaint, in seconds")
    strength_help = "of --vary and --between: near 0 the sound itself, 1 something else (default 0.5)"
    parser.add_argument("--strength", type=float, metavar="T", help=strength_help)
    parser.add_argument("--best-of", type=int, metavar="N", help="draw each N times, keep the clearest of its class")
    parser.add_argument("--classifier", type=Path, help="that --best-of goes by (default: the bundled one)")
    parser.add_argument("--raw", action="store_true", help="neither cut off silence nor bring the peak to -1 dBFS")
    rate_help = "22050 or 44100, where all above 10 kHz is made anew from what lies below (default: the model's)"
    parser.add_argument("--sample-rate", type=int, metavar="HZ", help=rate_help)
    parser.add_argument("--format", choices=("wav", "flac", "ogg"), default="wav", help="of the files (default wav)")
    add_options(parser.add_mutually_exclusive_group(), "overwrite", "resume")
    add_options(parser, "device", "quiet", json="one JSON object a sound")


def _file_or_seed(text: str) -> str | int:
    return int(text) if text.isdecimal() and len(text) < 20 else text  # 2^63 has 19 digits


def _span(text: str) -> tuple[float, float]:
    """Raises SamplingError for what is not two times."""
    try:
        start, end = (float(part) for part in text.split(","))
    except ValueError as error:
        raise SamplingError(f"--span: {text!r} is not two times in seconds, such as 0.2,0.5") from error
    return start, end


def run(args: argparse.Namespace) -> None:
    """Plan the files, draw the sounds, write each as it is done."""
    count = _check(args)
    output = folder_of(args)
    if args.pack:
        check_output(output / pack.MANIFEST, overwrite=args.overwrite)
    generator = Generator.from_pretrained(args.checkpoint, args.device)
    if args.list_labels:
        known = {"classes": list(generator.classes), "labels": list(generator.labels)}
        print(json.dumps(known) if args.json else "\n".join(generator.labels))
        return
    finish = Finish.of(args, generator.sample_rate)
    if args.pack and args.label is None and generator.classes:
        args.label = "all"
    names = (
        list(generator.classes) if args.label == "all" and generator.classes else _labels(args.label, generator.labels)
    )
    if len(names) * count > MAX_JOBS:
        raise SamplingError(f"--count: {len(names) * count} sounds in all, at most {MAX_JOBS} are made; lower it")
    fitting = _fitting(generator, args, names)
    own = args.vary if isinstance(args.vary, int) else None  # seed of what is varied, of its kind
    jobs = [
        Job(target_of(args, output, kind, seed), kind, seed)
        for label in names
        for seed in range(args.seed, args.seed + count)
        for kind in (
            None if label is None else generator.kind(fitting.get(label, label), seed if own is None else own),
        )
    ]
    asked = {job.target: label for job, label in zip(jobs, (name for name in names for _ in range(count)), strict=True)}

    def redrawn(job: Job, attempt: int) -> Job:
        """A loop of the next kind of its class: a kind that ends by itself does so from every seed."""
        label = asked[job.target]
        kind = generator.kind(label, job.seed + attempt) if args.loop and label is not None else job.label
        target = target_of(args, output, kind, job.seed)
        if target in asked:
            return job
        check_output(target, overwrite=args.overwrite or args.resume)
        return Job(target, kind, job.seed)

    done = _done(args, jobs)
    jobs = [job for job in jobs if job not in done]
    judge = _judge(args, [job.label for job in jobs], generator.sample_rate)
    for job in jobs:
        check_output(job.target, overwrite=args.overwrite)
    # The sounds between two are drawn together.
    size = count if args.between else _batch_size(args, generator.seconds)
    batches = [jobs[first : first + size] for first in range(0, len(jobs), size)]
    rows: list[dict[str, Any]] = []
    drawn = elapsed = 0.0  # seconds of sound, seconds of work
    with Progress("generate", len(jobs), "sounds", quiet=args.quiet) as progress:
        for batch in batches:
            start = time.perf_counter()

            def draw(jobs: list[Job]) -> Any:
                share = len(jobs) / (args.best_of or 1)
                return _draw(generator, args, jobs, progress.steps_of(share)).cpu()

            if args.between or args.inpaint:
                sounds, made = list(draw(batch)), batch
            else:
                sounds, made = best_of(draw, batch, args.best_of or 1, judge, redrawn)
            elapsed += time.perf_counter() - start
            drawn += sum(len(sound) for sound in sounds) / generator.sample_rate
            for job, sound in zip(made, sounds, strict=True):
                sound = finish(sound)
                _write(args, job, sound, finish.sample_rate)
                rows.append(_row(job, sound, finish.sample_rate))
                if args.json:
                    print(json.dumps(rows[-1]), flush=True)
            progress.to(len(rows))
    if args.pack:
        model = str(args.checkpoint or generator.bundled)
        rows = [row | {"loop": args.loop, "sample_rate": finish.sample_rate} for row in rows]
        options = pack.options_of(args, generator)
        pack.write_manifest(output, model, args.licence or LICENCE, options, rows, overwrite=args.overwrite)
    if not args.json and not args.quiet:
        speed = f", real-time factor {elapsed / drawn:.2f} on {generator.device.type}" if jobs else ""
        there = f", {len(done)} were there already" if done else ""
        print(f"{counted(len(jobs), 'sound')} in {output}{speed}{there}")


def _done(args: argparse.Namespace, jobs: list[Job]) -> set[Job]:
    """With --resume the sounds that are there: they are written atomically, so each is whole."""
    if not args.resume:
        return set()
    for folder in {job.target.parent for job in jobs}:
        sweep_temporaries(folder, [job.target for job in jobs])
    done = {job for job in jobs if job.target.exists()}
    for job in sorted(done) if args.json else ():
        print(json.dumps({"output": str(job.target), "label": job.label, "seed": job.seed, "skipped": True}))
    return done


def _judge(args: argparse.Namespace, labels: list[str | None], sample_rate: int) -> Any:
    if args.best_of is None:
        return None
    from wavediff.metrics.classifier import load_classifier

    return Judge(load_classifier(args.classifier).classifier, sample_rate, list(dict.fromkeys(labels)))


def _write(args: argparse.Namespace, job: Job, sound: Any, sample_rate: int) -> None:
    options: dict[str, Any] = {"loop": args.loop and args.format == "wav", "overwrite": args.overwrite or args.resume}
    if args.pack:
        options["tags"] = pack.tags_of(job, args.licence or LICENCE)
        options["subtype"] = "PCM_24"
    write_audio(job.target, sound, sample_rate, **options)


def _row(job: Job, sound: Any, sample_rate: int) -> dict[str, Any]:
    seconds, peak = len(sound) / sample_rate, sound.abs().max().item()
    return {"output": str(job.target), "label": job.label, "seed": job.seed, "seconds": seconds, "peak": peak}


def _check(args: argparse.Namespace) -> int:
    """Sounds of each class, after what can be said without the model."""
    changed = args.vary is not None or args.inpaint or args.between
    count: int = (5 if args.between else 1) if args.count is None else args.count
    if count < 1:
        raise SamplingError(f"--count: {count} is below 1")
    if not 0 <= args.seed <= 2**63 - count:
        raise SamplingError(f"--seed: {args.seed} to {args.seed + count - 1} must lie in 0 to 2^63 - 1")
    if (args.span is None) != (args.inpaint is None):
        raise SamplingError("--inpaint and --span belong together: --inpaint FILE --span 0.2,0.5")
    if args.strength is not None and args.vary is None and (not args.between or are_seeds(args.between)):
        raise SamplingError("--strength: belongs to --vary and to --between of two recordings; leave it out")
    if args.pack and changed:
        raise SamplingError("--pack: holds sounds from nothing; leave out --vary, --inpaint and --between")
    if args.resume and (args.pack or args.between):
        raise SamplingError("--resume: sounds of a pack or of --between are made all at once; give --overwrite instead")
    if args.pack and args.output:
        raise SamplingError("--output: a pack lies in the folder of --pack; leave one of them out")
    if args.pack and args.format == "ogg":
        raise SamplingError("--format: a pack has 24 bits a sample, which OGG has not; give wav or flac")
    if args.pack and args.loop and args.format != "wav":
        raise SamplingError("--format: only WAV files hold loop points; leave --format or --loop out")
    if args.between and are_seeds(args.between) and args.seed:
        raise SamplingError("--seed: the two seeds of --between decide all noise; leave it out")
    if args.licence is not None and not args.pack:
        raise SamplingError("--licence: is written into a pack; give --pack DIR, or leave it out")
    if args.best_of is not None and not 1 <= args.best_of <= MAX_BEST_OF:
        raise SamplingError(f"--best-of: {args.best_of} is not a whole number from 1 to {MAX_BEST_OF}")
    if args.best_of is not None and (args.inpaint or args.between):
        raise SamplingError("--best-of: chooses among sounds from nothing or of --vary; leave it out")
    if args.classifier is not None and args.best_of is None:
        raise SamplingError("--classifier: judges for --best-of; give --best-of N, or leave it out")
    if args.guidance is not None and args.label is None and not args.list_labels:
        raise SamplingError("--guidance: leads to a class; give --label, or leave --guidance out")
    if args.loop and changed:
        raise SamplingError("--loop makes loops from nothing; leave out --vary, --inpaint and --between")
    if args.seconds is not None and (_recording(args) or (args.between and not are_seeds(args.between))):
        raise SamplingError("--seconds: a recording decides the length itself; leave --seconds out")
    return count


def _recording(args: argparse.Namespace) -> Any:
    """What --vary or --inpaint is given, unless it is a seed."""
    return args.inpaint or (None if isinstance(args.vary, int) else args.vary)


def _batch_size(args: argparse.Namespace, seconds: float) -> int:
    """Sounds that fit in memory together; how many they are changes none of them."""
    if recording := _recording(args):
        seconds = read_info(recording).seconds
    elif args.seconds is not None:
        seconds = args.seconds
    # Written so that NaN, which is refused later, and lengths far too small give a whole batch.
    return max(int(BATCH_SECONDS / seconds), 1) if seconds * BATCH > BATCH_SECONDS else BATCH


def _labels(text: str | None, known: tuple[str, ...]) -> list[str | None]:
    if text is None:
        return [None]
    labels = parse_names(text)
    unknown = [name for name in labels if name not in known]
    if unknown or not labels:
        what = choice(unknown[0] if unknown else "", known, "`wavediff generate --list-labels`")
        what = what if known else "; this model knows no classes, leave it out"
        raise ConfigError(f"--label: {', '.join(unknown) or text!r} is unknown{what}")
    return list(dict.fromkeys(labels))


def _fitting(generator: Any, args: argparse.Namespace, names: Sequence[str | None]) -> dict[str, str]:
    """The kind of each class that a recording is filled with."""
    if not args.inpaint:
        return {}
    recording = read_audio(args.inpaint)
    return {name: generator.fitting_kind(*recording, *args.span, name) for name in names if name is not None}


def _draw(generator: Any, args: argparse.Namespace, batch: list[Job], on_step: Any) -> Any:
    """The sounds (B, N) of one batch."""
    count, seeds = len(batch), [job.seed for job in batch]
    strength = DEFAULT_STRENGTH if args.strength is None else args.strength
    common = {
        "label": None if batch[0].label is None else [job.label for job in batch],
        "guidance": args.guidance,
        "num_steps": args.num_steps,
        "sampler": args.sampler,
        "schedule": args.schedule,
        "on_step": on_step,
    }
    if args.vary is not None:
        sound = (args.vary, None) if isinstance(args.vary, int) else read_audio(args.vary)
        return generator.vary(*sound, strength, count, seconds=args.seconds, seed=seeds, **common)
    if args.inpaint:
        return generator.inpaint(*read_audio(args.inpaint), *args.span, count, seed=seeds, **common)
    if args.between and are_seeds(args.between):
        return generator.interpolate(*args.between, None, count, seconds=args.seconds, **common)
    if args.between:
        rate = generator.sample_rate
        ends = [read_audio(str(end), rate)[0] for end in args.between]
        return generator.interpolate(*ends, rate, count, strength=strength, seed=args.seed, **common)
    return generator.generate(count, args.seconds, loop=args.loop, seed=seeds, **common)

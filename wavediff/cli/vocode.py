"""Turn recordings (copy synthesis) or mel spectrograms (.npy, .safetensors) into speech: one, or thousands.

Inputs and output lie in folders or in object storage (s3://bucket/folder, endpoint and keys as the environment says).
"""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from wavediff.cli.options import (
    add_checkpoint,
    add_device,
    add_json,
    add_overwrite,
    add_quiet,
    add_sampling_options,
    add_seed,
    sampling_options,
)
from wavediff.errors import ConfigError
from wavediff.places import place

if TYPE_CHECKING:
    from wavediff.bulk import Batch, Job, Outcome, Settings, Work
    from wavediff.mel import MelSpec
    from wavediff.pipelines.vocoder import Vocoder

GPU_BATCH, GPU_SECONDS = 32, 240.0  # files, and their audio
CPU_BATCH, CPU_SECONDS = 16, 4.0  # a CPU is kept busy by one file, unless it is very short
FEW_BATCHES = 8  # not worth starting processes for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    inputs_help = "audio, mels, folders, here or in object storage (s3://bucket/mels, s3://bucket/*.npy); manifests"
    output_help = "a .wav, .flac or .ogg file, or a folder, here or in object storage"
    parser.add_argument("inputs", nargs="+", type=place, metavar="INPUT", help=inputs_help)
    parser.add_argument("-o", "--output", type=place, required=True, help=output_help)
    add_checkpoint(parser)
    add_sampling_options(parser)
    add_seed(parser, "decides the noise of each file")
    add_device(parser)
    precision_help = "of DiffWave's layers: float32 (default), or bfloat16: half the time where the CPU has it"
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help=precision_help)
    parser.add_argument("--fused", action="store_true", help="on a GPU: Triton kernels and CUDA graphs")
    mel_spec_help = "format of the mels, such as tacotron2 (default: the model's); auto: as the first of them looks"
    parser.add_argument("--mel-spec", metavar="PRESET", help=mel_spec_help)
    parser.add_argument("--lenient", action="store_true", help="take what is left of cut or damaged audio")
    parser.add_argument("--keep-folders", action="store_true", help="mirror the folders below each input folder")
    existing = parser.add_mutually_exclusive_group()
    add_overwrite(existing)
    existing.add_argument("--resume", action="store_true", help="go on with a run that stopped: skip existing outputs")
    add_quiet(parser)
    add_json(parser, "one JSON object a file")
    many = parser.add_argument_group("many files")
    size_help = f"files decoded together (default: {GPU_BATCH} on a GPU, {CPU_BATCH} on a CPU)"
    many.add_argument("--batch-size", type=int, metavar="N", help=size_help)
    seconds_help = f"audio decoded together, at most (default {GPU_SECONDS:g}; on a CPU, without --batch-size, "
    seconds_help += f"{CPU_SECONDS:g}); lower it if memory runs out"
    many.add_argument("--batch-seconds", type=float, metavar="S", help=seconds_help)
    workers_help = "processes that read ahead for each device; 0 for none (default: by the number of files)"
    many.add_argument("--workers", type=int, metavar="N", help=workers_help)
    devices_help = "GPUs, or with --device cpu processes, that share the run (default 1; with --engine ray: all)"
    many.add_argument("--devices", type=int, metavar="N", help=devices_help)
    engine_help = "local: this machine (default); ray: the machines of a Ray cluster"
    many.add_argument("--engine", choices=("local", "ray"), default="local", help=engine_help)
    address_help = "head of the Ray cluster (default: $RAY_ADDRESS, or a cluster of this machine alone)"
    many.add_argument("--address", metavar="HOST:PORT", help=address_help)


def run(args: argparse.Namespace) -> None:
    """Vocode each input; those that cannot be are reported, the others are not lost."""
    from wavediff.bulk import Blueprint, Fault, find_devices, read_batches, vocode_in_processes
    from wavediff.bulk.cluster import connect, vocode_on_cluster
    from wavediff.cli.vocode_report import Report, complain, conclude, seconds_done

    for name, least in (("batch_size", 1), ("workers", 0), ("devices", 1)):
        if (value := getattr(args, name)) is not None and value < least:
            raise ConfigError(f"--{name.replace('_', '-')}: {value} is below {least}")
    if args.batch_seconds is not None and not args.batch_seconds > 0:
        raise ConfigError(f"--batch-seconds: {args.batch_seconds:g} is not above 0")
    ray = args.engine == "ray"
    if args.address is not None and not ray:
        raise ConfigError("--address: is that of a Ray cluster; pass --engine ray too, or leave it out")
    if args.workers is not None and ray:
        raise ConfigError("--workers: with --engine ray each worker reads its own files; leave it out")
    jobs = _plan(args)
    blueprint = Blueprint(args.checkpoint, _settings(args, jobs), args.precision, args.fused)
    alone = not ray and (args.devices or 1) == 1
    # Where others decode, this process has to know the model, and whether it can be sampled as is asked.
    known = blueprint if alone else Blueprint(args.checkpoint, blueprint.settings)
    decoder = known.decoder(args.device if alone else "cpu")
    vocoder = decoder.vocoder
    devices = connect(args.address, args.device, args.devices) if ray else find_devices(args.device, args.devices or 1)
    kind = vocoder.device.type if alone else devices[0].partition(":")[0]
    work = _find_work(args, jobs, vocoder, kind, len(devices))
    report, start = Report(args, alone=len(jobs) == 1), time.perf_counter()
    report.begin(work)
    workers = 0 if ray else _workers(args, work.batches, len(devices))
    try:
        # Ray prints what it hears of its nodes, from a thread.
        aside = contextlib.redirect_stdout(sys.stderr) if ray else contextlib.nullcontext()
        with aside, seconds_done(work.batches, quiet=args.quiet) as progress:
            if alone:
                decoder.advance = progress.update
                read = read_batches(work.batches, lenient=args.lenient, workers=workers)
                outcomes: Iterator[Outcome] = (outcome for batch in read for outcome in decoder(batch))
            elif ray:
                outcomes = vocode_on_cluster(blueprint, work.batches, devices)
            else:
                outcomes = vocode_in_processes(blueprint, work.batches, devices, workers=workers)
            for outcome in outcomes:
                report.tell(outcome)
                if not alone and not isinstance(outcome, Fault):
                    progress.update(outcome["seconds"])
    except BaseException:
        complain(report.faults)
        raise
    conclude(args, report, len(jobs), len(work.done), time.perf_counter() - start)


def _plan(args: argparse.Namespace) -> "list[Job]":
    from wavediff.bulk import plan_jobs

    options = {name: getattr(args, name) for name in ("overwrite", "resume", "keep_folders")}
    return plan_jobs(args.inputs, args.output, **options)


def _settings(args: argparse.Namespace, jobs: "list[Job]") -> "Settings":
    from wavediff.bulk import Settings
    from wavediff.mel import MelSpec

    mel_spec: MelSpec | None = None
    if args.mel_spec == "auto":
        mel_spec = _likeliest(jobs)
    elif args.mel_spec is not None:
        mel_spec = MelSpec.preset(args.mel_spec)
    return Settings(sampling_options(args), mel_spec, args.lenient, args.overwrite)


def _likeliest(jobs: "list[Job]") -> "MelSpec":
    """What the first mel says of itself, or looks like."""
    from wavediff.mel import read_mel
    from wavediff.mel.identify import dialect_of

    path = next((job.source for job in jobs if job.is_mel), None)
    if path is None:
        raise ConfigError("--mel-spec auto: there is no mel among the inputs; leave it out")
    mel, said = read_mel(path)
    return said or dialect_of(mel, source=str(path))


def _find_work(args: argparse.Namespace, jobs: "list[Job]", vocoder: "Vocoder", device: str, processes: int) -> "Work":
    from wavediff.bulk import find_work

    size, seconds = (
        (CPU_BATCH, CPU_SECONDS) if device == "cpu" and args.batch_size is None else (GPU_BATCH, GPU_SECONDS)
    )
    return find_work(
        jobs,
        vocoder.mel_spec,
        max_seconds=seconds if args.batch_seconds is None else args.batch_seconds,
        max_items=size if args.batch_size is None else args.batch_size,
        resume=args.resume,
        lenient=args.lenient,
        processes=processes,
    )


def _workers(args: argparse.Namespace, batches: "list[Batch]", sharing: int) -> int:
    """Processes that read ahead; `sharing` runs share the cores of this machine."""
    if args.workers is not None:
        workers: int = args.workers
        return workers
    if len(batches) < FEW_BATCHES:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, max(1, cores // (2 * sharing)))

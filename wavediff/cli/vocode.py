"""Turn recordings (copy synthesis) or mel spectrograms (.npy, .safetensors) into speech: one, or thousands."""

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from wavediff.errors import ConfigError, WavediffError

if TYPE_CHECKING:
    from wavediff.bulk import Batch, Job, Processes, Settings, Work
    from wavediff.mel import MelSpec
    from wavediff.pipelines.vocoder import Vocoder

GPU_BATCH, GPU_SECONDS = 32, 240.0  # files, and their audio
CPU_BATCH, CPU_SECONDS = 16, 4.0  # a CPU is kept busy by one file, unless it is very short
FEW_BATCHES = 8  # not worth starting processes for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    inputs_help = "audio, mels, folders, or manifests (.jsonl)"
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help=inputs_help)
    parser.add_argument("-o", "--output", type=Path, required=True, help="a .wav, .flac or .ogg file, or a folder")
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
    workers_help = "processes that read ahead; 0 reads in this one (default: by the number of files)"
    many.add_argument("--workers", type=int, metavar="N", help=workers_help)
    many.add_argument("--devices", type=int, metavar="N", help="GPUs, or with --device cpu processes, of each node")
    many.add_argument("--nodes", type=int, metavar="M", help="machines; started by srun or torchrun, both are known")
    many.add_argument("--strategy", default="ddp", help="for experts: Lightning's, for several devices (default ddp)")


def run(args: argparse.Namespace) -> None:
    """Vocode each input; those that cannot be are reported, the others are not lost."""
    from wavediff.bulk import find_processes

    for name, least in (("batch_size", 1), ("workers", 0)):
        if (value := getattr(args, name)) is not None and value < least:
            raise ConfigError(f"--{name.replace('_', '-')}: {value} is below {least}")
    if args.batch_seconds is not None and not args.batch_seconds > 0:
        raise ConfigError(f"--batch-seconds: {args.batch_seconds:g} is not above 0")
    processes = find_processes(args.devices, args.nodes)
    if processes is None:
        _run_alone(args)
    else:
        _run_shared(args, processes)


def _run_alone(args: argparse.Namespace) -> None:
    from wavediff.bulk import Decoder, read_batches
    from wavediff.cli.vocode_report import Report, complain, conclude, seconds_done
    from wavediff.pipelines.vocoder import Vocoder

    jobs = _plan(args)
    settings = _settings(args, jobs)
    vocoder = Vocoder.from_pretrained(args.checkpoint, args.device).for_mels(settings.mel_spec)
    vocoder.to(vocoder.device, **_speed(args, vocoder.device.type))
    decoder = Decoder(vocoder, settings)
    work = _find_work(args, jobs, vocoder, vocoder.device.type, 1)
    report, start = Report(args, alone=len(jobs) == 1), time.perf_counter()
    report.begin(work)
    try:
        with seconds_done(work.batches, quiet=args.quiet) as progress:
            decoder.advance = progress.update
            for batch in read_batches(work.batches, lenient=args.lenient, workers=_workers(args, work.batches, 1)):
                for outcome in decoder(batch):
                    report.tell(outcome)
    except BaseException:
        complain(report.faults)
        raise
    conclude(args, [report.summary()], len(jobs), len(work.done), time.perf_counter() - start)


def _run_shared(args: argparse.Namespace, processes: "Processes") -> None:
    from wavediff.bulk import Decoder
    from wavediff.bulk.distributed import Shared, make_trainer, predict
    from wavediff.cli.vocode_report import Report, conclude, seconds_done
    from wavediff.pipelines.vocoder import Vocoder

    trainer, settings = make_trainer(processes, args.device, args.strategy), _settings(args)
    vocoder = Vocoder.from_pretrained(args.checkpoint, "cpu").for_mels(settings.mel_spec)
    device, first = trainer.strategy.root_device, trainer.is_global_zero
    speed = _speed(args, device.type)
    report, start = Report(args), time.perf_counter()
    jobs: list[Job] = []
    work: Work | None = None
    failure: WavediffError | None = None
    if first:
        try:
            jobs = _plan(args)
            Decoder(vocoder, settings)  # refuses what cannot be sampled
            work = _find_work(args, jobs, vocoder, device.type, processes.count)
            report.begin(work)
        except WavediffError as error:
            if not processes.starter and processes.nodes == 1:
                raise  # nobody else has been started yet
            failure = error

    def decoder(mine: "list[Batch]") -> Decoder:
        progress = seconds_done(mine, quiet=args.quiet or not first)
        return Decoder(vocoder.to(device, **speed), settings, progress.update)

    module = Shared(
        failure if work is None else work.batches,
        decoder,
        tell=report.tell,
        summary=report.summary,
        workers=lambda mine: _workers(args, mine, processes.devices),
        lenient=args.lenient,
    )
    summaries = predict(trainer, module)
    if work is not None:
        conclude(args, summaries, len(jobs), len(work.done), time.perf_counter() - start)


def _speed(args: argparse.Namespace, device: str) -> dict[str, Any]:
    """How fast the network is to run, as `Vocoder.to` takes it."""
    import torch

    if args.fused and device == "cpu":
        raise ConfigError("--fused: is for a GPU, and this runs on the CPU; drop it")
    return {"precision": getattr(torch, args.precision), "fused": args.fused}


def _plan(args: argparse.Namespace) -> "list[Job]":
    from wavediff.bulk import plan_jobs

    options = {name: getattr(args, name) for name in ("overwrite", "resume", "keep_folders")}
    return plan_jobs(args.inputs, args.output, **options)


def _settings(args: argparse.Namespace, jobs: "list[Job] | None" = None) -> "Settings":
    from wavediff.bulk import Settings
    from wavediff.mel import MelSpec

    mel_spec: MelSpec | None = None
    if args.mel_spec == "auto":
        mel_spec = _likeliest(jobs)
    elif args.mel_spec is not None:
        mel_spec = MelSpec.preset(args.mel_spec)
    return Settings(sampling_options(args), mel_spec, args.lenient, args.overwrite)


def _likeliest(jobs: "list[Job] | None") -> "MelSpec":
    """What the first mel says of itself, or looks like."""
    from wavediff.mel import read_mel
    from wavediff.mel.identify import dialect_of

    if jobs is None:
        raise ConfigError("--mel-spec auto: is for one process; several need the name, which `wavediff doctor` tells")
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

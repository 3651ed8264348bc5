"""Turn recordings (copy synthesis) or mel spectrograms (.npy, .safetensors) into speech: one, or thousands.

Inputs and output lie in folders or in object storage (s3://bucket/folder, endpoint and keys as the environment says).
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from wavediff.bulk.decoding import Blueprint, Outcome, Settings, find_devices
from wavediff.bulk.jobs import Batch, Fault, Job, Work, find_work, plan_jobs
from wavediff.bulk.reading import read_batches
from wavediff.cli.parser import add_options, add_sampling_options, sampling_options
from wavediff.cli.progress import Progress, counted, say
from wavediff.errors import ConfigError, WavediffError
from wavediff.mel import MelSpec, read_mel
from wavediff.mel.check import dialect_of
from wavediff.pipelines.vocoder import Vocoder
from wavediff.places import place

GPU_BATCH, GPU_SECONDS = 32, 240.0  # files, and their audio
CPU_BATCH, CPU_SECONDS = 16, 4.0  # a CPU is kept busy by one file, unless it is very short
FEW_BATCHES = 8  # not worth starting processes for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    inputs_help = "audio, mels, folders, here or in object storage (s3://bucket/mels, s3://bucket/*.npy); manifests"
    output_help = "a .wav, .flac or .ogg file, or a folder, here or in object storage"
    parser.add_argument("inputs", nargs="+", type=place, metavar="INPUT", help=inputs_help)
    parser.add_argument("-o", "--output", type=place, required=True, help=output_help)
    add_options(parser, "checkpoint")
    add_sampling_options(parser)
    add_options(parser, "device", seed="decides the noise of each file")
    precision_help = "of the layers: float32 (default), or bfloat16: less time where the CPU has it, half with DiffWave"
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help=precision_help)
    parser.add_argument("--fused", action="store_true", help="on a GPU: Triton kernels and CUDA graphs")
    mel_spec_help = "format of the mels, such as tacotron2, also of those made of recordings (default: what a file "
    mel_spec_help += "says, or the model's); auto: as the first of the mels looks"
    parser.add_argument("--mel-spec", metavar="PRESET", help=mel_spec_help)
    parser.add_argument("--lenient", action="store_true", help="take what is left of cut or damaged audio")
    parser.add_argument("--keep-folders", action="store_true", help="mirror the folders below each input folder")
    existing = parser.add_mutually_exclusive_group()
    add_options(existing, "overwrite", "resume")
    add_options(parser, "quiet", json="one JSON object a file")
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
    existing = {"overwrite": args.overwrite, "resume": args.resume}
    jobs = plan_jobs(args.inputs, args.output, keep_folders=args.keep_folders, **existing)
    blueprint = Blueprint(args.checkpoint, _settings(args, jobs), args.precision, args.fused)
    alone = not ray and (args.devices or 1) == 1
    # Where others decode, this process has to know the model, and whether it can be sampled as is asked.
    known = blueprint if alone else Blueprint(args.checkpoint, blueprint.settings)
    decoder = known.decoder(args.device if alone else "cpu")
    vocoder = decoder.vocoder
    if ray:
        from wavediff.bulk.cluster import connect

        devices = connect(args.address, args.device, args.devices)
    else:
        devices = find_devices(args.device, args.devices or 1)
    kind = vocoder.device.type if alone else devices[0].partition(":")[0]
    work = _find_work(args, jobs, vocoder, kind, len(devices))
    report, start = Report(args), time.perf_counter()
    report.begin(work)
    workers = 0 if ray else _workers(args, work.batches, len(devices))
    try:
        # Ray prints what it hears of its nodes, from a thread.
        aside = contextlib.redirect_stdout(sys.stderr) if ray else contextlib.nullcontext()
        total = sum(item.seconds for batch in work.batches for item in batch if not item.done)
        with aside, Progress("vocode", total, "s of speech", quiet=args.quiet, digits=1) as progress:
            if alone:
                decoder.advance = progress.update
                read = read_batches(work.batches, lenient=args.lenient, workers=workers)
                outcomes: Iterator[Outcome] = (outcome for batch in read for outcome in decoder(batch))
            elif ray:
                from wavediff.bulk.cluster import vocode_on_cluster

                outcomes = vocode_on_cluster(blueprint, work.batches, devices)
            else:
                from wavediff.bulk.processes import vocode_in_processes

                outcomes = vocode_in_processes(blueprint, work.batches, devices, workers=workers)
            for outcome in outcomes:
                report.tell(outcome)
                if not alone and not isinstance(outcome, Fault):
                    progress.update(outcome["seconds"])
    except BaseException:
        report.complain()
        raise
    report.conclude(len(jobs), len(work.done), time.perf_counter() - start)


def _settings(args: argparse.Namespace, jobs: list[Job]) -> Settings:
    mel_spec: MelSpec | None = None
    if args.mel_spec == "auto":
        mel_spec = _likeliest(jobs)
    elif args.mel_spec is not None:
        mel_spec = MelSpec.preset(args.mel_spec)
    return Settings(sampling_options(args), mel_spec, args.lenient, args.overwrite)


def _likeliest(jobs: list[Job]) -> MelSpec:
    """What the first mel says of itself, or looks like."""
    path = next((job.source for job in jobs if job.is_mel), None)
    if path is None:
        raise ConfigError("--mel-spec auto: there is no mel among the inputs; leave it out")
    mel, said = read_mel(path)
    return said or dialect_of(mel, source=str(path))


def _find_work(args: argparse.Namespace, jobs: list[Job], vocoder: Vocoder, device: str, processes: int) -> Work:
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


def _workers(args: argparse.Namespace, batches: list[Batch], sharing: int) -> int:
    """Processes that read ahead; `sharing` runs share the cores of this machine."""
    if args.workers is not None:
        workers: int = args.workers
        return workers
    if len(batches) < FEW_BATCHES:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, max(1, cores // (2 * sharing)))


class Report:
    """What became of the files.

    Args:
        args: quiet, json.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.quiet, self.json = args.quiet, args.json
        self.out = sys.stdout  # of now
        self.files, self.seconds = 0, 0.0
        self.faults: list[str] = []

    def begin(self, work: Work) -> None:
        """Account for the files that will not be decoded."""
        for job in work.done:
            self._print_json({"input": str(job.source), "output": str(job.target), "skipped": True})
        for fault in work.faults:
            self.tell(fault)

    def tell(self, outcome: Outcome) -> None:
        """Account for a file; of a fault more is said at the end."""
        if isinstance(outcome, Fault):
            self.faults.append(outcome.reason)
            paths = {"input": str(outcome.job.source), "output": str(outcome.job.target)}
            self._print_json(paths | {"error": outcome.reason})
            return
        self.files, self.seconds = self.files + 1, self.seconds + outcome["seconds"]
        self._print_json(outcome)
        if not self.json and not self.quiet:
            line = f"{outcome['output']}: {outcome['seconds']:.2f} s of speech, real-time factor {outcome['rtf']:.2f}"
            say(line, self.out)

    def _print_json(self, row: dict[str, Any]) -> None:
        if self.json:
            print(json.dumps(row), file=self.out, flush=True)

    def complain(self) -> None:
        """A line on standard error for each fault."""
        for fault in self.faults:
            say(f"wavediff vocode: {' '.join(fault.split())}")

    def conclude(self, jobs: int, skipped: int, elapsed: float) -> None:
        """The end of a run of so many files, of which some were there already, and which took so many seconds.

        Raises:
            WavediffError: a file could not be vocoded.
        """
        if self.faults and jobs == 1:
            raise WavediffError(self.faults[0])
        if jobs > 1 and not self.quiet and not self.json:
            speed = f" ({self.seconds / elapsed:.1f} times as fast as it plays)" if self.files else ""
            there = f", {skipped} were there already" if skipped else ""
            what = f"{counted(self.files, 'file')}, {self.seconds:.1f} s of speech"
            print(f"{what} in {elapsed:.1f} s{speed}{there}", flush=True)
        self.complain()
        if self.faults:
            raise WavediffError(f"{len(self.faults)} of {jobs} inputs could not be vocoded, for the reasons above")

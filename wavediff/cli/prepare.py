"""Scan a corpus and write its manifests: train.jsonl, valid.jsonl, test.jsonl, and skipped.jsonl for the files that
cannot be used. With --pack, also each split decoded into one file (train.safetensors, ...) that trains faster; with
--shards, into many files in a folder or in object storage, for corpora that are too large for one. With --mels, each
recording with the mel that a vocoder is to be trained on instead of the recording's own; shards hold those mels too.
"""

import argparse
import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

from wavediff.cli.parser import add_number, add_options
from wavediff.cli.progress import counted, track
from wavediff.data.corpora import CORPORA
from wavediff.data.manifest import SPLITS, Skipped, Utterance, check_skipped, scan, write_manifest, write_skipped
from wavediff.data.packed import write_packed
from wavediff.data.paired import pair, stated_spec
from wavediff.data.shards import write_shards
from wavediff.errors import DataError
from wavediff.files import check_output
from wavediff.mel import MelSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-subcommand for each corpus; the options it has of its own are the fields of its class."""
    corpora = parser.add_subparsers(dest="corpus", required=True, metavar="CORPUS")
    for name, corpus in CORPORA.items():
        description = corpus.__doc__ or ""
        subparser = corpora.add_parser(name, help=description.partition("\n")[0], description=description)
        root, *options = dataclasses.fields(corpus)  # type: ignore[arg-type]
        subparser.add_argument(root.name, type=Path, metavar="ROOT", help="folder of the corpus")
        for option in options:
            flag, help_ = f"--{option.name.replace('_', '-')}", option.metadata["help"]
            if isinstance(option.default, bool):
                subparser.add_argument(flag, action="store_true", help=help_)
            else:
                subparser.add_argument(flag, type=type(option.default), default=option.default, help=help_)
        subparser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="where the files go")
        subparser.add_argument("--pack", action="store_true", help="also write each split as one packed file")
        shards_help = "also write each split as shards: DIR/train, ..., or s3://BUCKET/DIR/train, ..."
        subparser.add_argument("--shards", metavar="DIR", help=shards_help)
        add_number(subparser, "--processes", 1, "N", "that write shards")
        subparser.add_argument(
            "--sample-rate", type=int, metavar="HZ", help="of packed files and shards (default: the clips')"
        )
        subparser.add_argument(
            "--mels", type=Path, metavar="DIR", help="mels to train on: DIR/a/x.npy (.safetensors) for ROOT/a/x.wav"
        )
        subparser.add_argument(
            "--mel-spec", metavar="PRESET", help="their dialect (default: the one that they say; .npy says none)"
        )
        add_options(subparser, "overwrite", "quiet", "json")


def run(args: argparse.Namespace) -> None:
    """Scan, pack, write, report."""
    if args.pack and args.shards:
        raise DataError("--pack: is for one file, --shards for many; leave one of them out")
    decoded = "--pack" if args.pack else "--shards" if args.shards else None
    if args.sample_rate is not None and decoded is None:
        raise DataError("--sample-rate is the rate of packed files; pass --pack or --shards too, or leave it out")
    if args.mels is not None and args.pack:
        raise DataError("--pack: a packed corpus holds no mels; write --shards, or leave out --pack or --mels")
    if args.processes < 1 or (args.processes > 1 and not args.shards):
        raise DataError(f"--processes: {args.processes} processes write shards; give 1 or more, and --shards too")
    if args.mel_spec is not None and args.mels is None:
        raise DataError("--mel-spec is the dialect of paired mels; pass --mels too, or leave it out")
    mel_spec = None if args.mel_spec is None else MelSpec.preset(args.mel_spec)
    suffixes = (".jsonl", ".safetensors") if args.pack else (".jsonl",)
    outputs = [args.output / f"{stem}{suffix}" for stem in SPLITS for suffix in suffixes]
    for path in outputs:
        check_output(path, overwrite=args.overwrite)  # said before an hour of work, not after it

    corpus = CORPORA[args.corpus]
    options = {field.name: getattr(args, field.name) for field in dataclasses.fields(corpus)}  # type: ignore[arg-type]
    clips = corpus(**options).clips()
    skipped_path = args.output / "skipped.jsonl"
    scanned = track(clips, "prepare", "clips scanned", quiet=args.quiet)
    # Without a manifest beside it, a list of skipped files is that of a run that failed.
    splits, skipped = scan(scanned, skipped_path=skipped_path, overwrite=True)
    unpaired: list[Skipped] = []
    if args.mels is not None:
        splits, unpaired = pair(splits, args.root, args.mels, mel_spec)
        if mel_spec is None and args.shards:
            mel_spec = stated_spec(utterance.mel for utterances in splits.values() for utterance in utterances)
    if decoded is not None:
        sample_rate = args.sample_rate
        if sample_rate is None:
            sample_rate = _only_rate(splits) if mel_spec is None else mel_spec.sample_rate
        for split, utterances in splits.items():
            if not utterances:
                continue
            if args.shards:
                path = f"{args.shards.rstrip('/')}/{split}"
                more = {"processes": args.processes, "overwrite": args.overwrite}
                splits[split], broken = write_shards(path, utterances, sample_rate, mel_spec=mel_spec, **more)
            else:
                packing = track(utterances, "prepare", f"{split} clips packed", quiet=args.quiet)
                packed = args.output / f"{split}.safetensors"
                splits[split], broken = write_packed(packed, packing, sample_rate, overwrite=args.overwrite)
            skipped += broken
    write_skipped(skipped_path, skipped + unpaired, overwrite=True)
    check_skipped(skipped, len(clips))
    for split, utterances in splits.items():
        write_manifest(args.output / f"{split}.jsonl", utterances, overwrite=args.overwrite)
    _report(args, splits, len(skipped), len(unpaired))


def _only_rate(splits: dict[str, list[Utterance]]) -> int:
    rates = sorted({utterance.sample_rate for utterances in splits.values() for utterance in utterances})
    if len(rates) > 1:
        raise DataError(f"the clips have several sample rates ({', '.join(map(str, rates))} Hz); pass --sample-rate")
    return rates[0]


def _report(args: argparse.Namespace, splits: dict[str, list[Utterance]], num_skipped: int, num_unpaired: int) -> None:
    summary: dict[str, Any] = {
        split: {"clips": len(utterances), "hours": sum(utterance.seconds for utterance in utterances) / 3600}
        for split, utterances in splits.items()
    }
    rates = Counter(utterance.sample_rate for utterances in splits.values() for utterance in utterances)
    if args.json:
        print(
            json.dumps(
                summary
                | {"sample_rates": dict(sorted(rates.items())), "skipped": num_skipped, "unpaired": num_unpaired}
            )
        )
    elif not args.quiet:
        for split, row in summary.items():
            print(f"{split:<6} {row['clips']:>7} clips {row['hours']:>9.3f} h")
        print("rates  " + ", ".join(f"{counted(count, 'clip')} at {rate} Hz" for rate, count in sorted(rates.items())))
        where = f", see {args.output / 'skipped.jsonl'}"
        print(f"skipped {num_skipped:>6} files" + (where if num_skipped else ""))
        if args.mels is not None:
            print(f"without counterpart {num_unpaired} recordings or mels" + (where if num_unpaired else ""))

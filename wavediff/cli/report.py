"""Turn a folder of sounds into one self-contained HTML page: a player and a spectrogram for each, grouped by folder,
with marks on those that are silent, clip, or have a DC offset or a jump at an end.

With --compare the folders are systems that made the same clips. Put the recordings into out/original/ and what each
vocoder makes of them (wavediff vocode out/original/ -o out/NAME/) into a folder of its own, with the same file names;
then run wavediff report out/ --compare --reference original -o page.html. The page shows each clip of all systems side
by side, with metrics against the reference and their means by system; while a clip plays, the keys 1 to 9 change the
system and keep the place. Its blind test (A/B or ABX, equally loud) hides the names, counts who is preferred, and hands
out the answers as JSON and CSV.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from wavediff.cli.parser import add_options, parse_names
from wavediff.cli.progress import Progress, counted, say
from wavediff.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="folder of sounds, or of folders of sounds")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PAGE.html", help="the page")
    parser.add_argument("--title", help="heading of the page (default: the folder's name)")
    parser.add_argument("--compare", action="store_true", help="the folders of DIR are systems with the same clips")
    reference_help = (
        "folder of recorded sounds: those of a folder of the same name are shown in a second row; "
        "with --compare, the name of the system in DIR that the others are measured against"
    )
    parser.add_argument("--reference", type=Path, metavar="DIR2", help=reference_help)
    parser.add_argument(
        "--metrics",
        type=parse_names,
        metavar="NAME,...",
        help="with --compare: those of wavediff evaluate to show (default: the quick ones that are installed)",
    )
    limit_help = "show at most N sounds of each folder, at equal distances in the order of names (default: all)"
    parser.add_argument("--max-per-group", type=int, metavar="N", help=limit_help)
    add_options(parser, "overwrite", "quiet", "json")


def run(args: argparse.Namespace) -> None:
    """Write the page, then say what is on it and what is not."""
    from wavediff.report import write_comparison, write_page

    if args.metrics is not None and not args.compare:
        raise ConfigError("--metrics: are for systems; add --compare, or leave it out")
    options = {"title": args.title, "overwrite": args.overwrite}
    with Progress("report", None, "sounds", quiet=args.quiet) as progress:
        options["on_sound"] = progress.to
        if args.compare:
            reference = None if args.reference is None else str(args.reference)
            options |= {"reference": reference, "metrics": args.metrics, "max_clips": args.max_per_group}
            contents = write_comparison(args.output, args.directory, **options)
        else:
            options |= {"reference": args.reference, "max_per_group": args.max_per_group}
            contents = write_page(args.output, args.directory, **options)
    for said in (*(f"skipped: {reason}" for reason in contents.skipped), *contents.notes):
        say(f"wavediff report: {' '.join(said.split())}")
    if args.json:
        print(json.dumps({"output": str(args.output)} | dataclasses.asdict(contents)))
    elif not args.quiet:
        beside = f" beside {contents.references} recorded" if contents.references else ""
        megabytes = args.output.stat().st_size / 1e6
        groups = "system" if args.compare else "group"
        found = f"{counted(contents.sounds, 'sound')} in {counted(contents.groups, groups)}{beside}"
        print(f"{args.output}: {found}, {megabytes:.1f} MB")
        items = "clips " if args.compare else ""
        left_out = f", {contents.left_out} {items}left out by --max-per-group" if contents.left_out else ""
        print(f"{contents.faulty} with faults, {counted(len(contents.skipped), 'broken file')} skipped{left_out}")

"""Turn a folder of sounds into one self-contained HTML page: a player and a spectrogram for each, grouped by folder,
with marks on those that are silent, clip, or have a DC offset or a jump at an end.
"""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="folder of sounds, or of folders of sounds")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PAGE.html", help="the page")
    parser.add_argument("--title", help="heading of the page (default: the folder's name)")
    reference_help = "folder of recorded sounds: those of a folder of the same name are shown in a second row"
    parser.add_argument("--reference", type=Path, metavar="DIR2", help=reference_help)
    limit_help = "show at most N sounds of each folder, at equal distances in the order of names (default: all)"
    parser.add_argument("--max-per-group", type=int, metavar="N", help=limit_help)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing page")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")


def run(args: argparse.Namespace) -> None:
    """Write the page, then say what is on it and what is not."""
    from tqdm import tqdm

    from wavediff.report import write_page

    with tqdm(desc="sounds", unit="sound", disable=args.quiet) as bar:

        def on_sound(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        contents = write_page(
            args.output,
            args.directory,
            title=args.title,
            reference=args.reference,
            max_per_group=args.max_per_group,
            overwrite=args.overwrite,
            on_sound=on_sound,
        )
    for reason in contents.skipped:
        print(f"wavediff report: skipped: {' '.join(reason.split())}", file=sys.stderr)
    if not args.quiet:
        beside = f" beside {contents.references} recorded" if contents.references else ""
        megabytes = args.output.stat().st_size / 1e6
        print(f"{args.output}: {contents.sounds} sounds in {contents.groups} groups{beside}, {megabytes:.1f} MB")
        left_out = f", {contents.left_out} left out by --max-per-group" if contents.left_out else ""
        print(f"{contents.faulty} with faults, {len(contents.skipped)} broken files skipped{left_out}")

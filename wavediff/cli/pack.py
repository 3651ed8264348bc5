"""A pack of sounds for a library or a game engine: names by the Universal Category System, and a manifest."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavediff.cli.candidates import Job
from wavediff.files import write_text
from wavediff.pipelines.sounds import DEFAULT_GUIDANCE
from wavediff.version import __version__

MANIFEST = "manifest.json"
CREATOR = "WVDF"
# Class -> category of the Universal Category System 8.2 (universalcategorysystem.com).
CATEGORIES = {
    "casino": "GAMECas",
    "drum": "MUSCPerc",
    "engine": "SCIShip",
    "explosion": "EXPLDsgn",
    "footstep": "FEETHmn",
    "glass": "GLASImpt",
    "laser": "LASRGun",
    "metal": "METLImpt",
    "powerup": "GAMEVideo",
    "punch": "FGHTImpt",
    "switch": "MECHSwtch",
    "wood": "WOODImpt",
}


def name_of(label: str, seed: int) -> str:
    """CatID_FXName_CreatorID_SourceID; what is of no class in `CATEGORIES` is DSGNMisc.

    >>> name_of("glass/heavy", 7)
    'GLASImpt_Glass-Heavy-7_WVDF_wavediff'
    """
    category = CATEGORIES.get(label.partition("/")[0], "DSGNMisc")
    words = [word.capitalize() for word in label.replace("/", "-").replace("_", "-").split("-")]
    return f"{category}_{'-'.join([*words, str(seed)])}_{CREATOR}_wavediff"


def tags_of(job: Job, licence: str) -> dict[str, str]:
    """What a file of the pack says of itself."""
    comment = f"label {job.label}, seed {job.seed}"
    return {"title": job.target.stem, "software": f"wavediff {__version__}", "copyright": licence, "comment": comment}


def options_of(args: argparse.Namespace, generator: Any) -> dict[str, Any]:
    """What the sounds of a pack share; what was not given is said as it was taken."""
    plan = generator.plan(args.num_steps, args.schedule, args.sampler)
    guidance = DEFAULT_GUIDANCE if args.guidance is None and generator.labels else args.guidance
    taken = {"num_steps": args.num_steps or plan.evaluations, "sampler": plan.sampler, "guidance": guidance}
    return taken | {name: getattr(args, name) for name in ("schedule", "seconds", "raw")}


def write_manifest(
    folder: Path,
    model: str,
    licence: str,
    options: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    *,
    overwrite: bool,
) -> None:
    """Say what the pack holds, and how to make each sound of it again.

    Args:
        folder: of the pack.
        model: that made it.
        licence: of the sounds.
        options: of `wavediff generate` that make each sound again, beside its label and its seed.
        rows: a sound each: output, label, seed, seconds, peak, loop, sample_rate.
        overwrite: replace an earlier one.

    Raises:
        OutputError: it exists, or cannot be written.
    """
    sounds = [{"file": str(Path(row["output"]).relative_to(folder).as_posix())} | dict(row) for row in rows]
    for sound in sounds:
        del sound["output"]
    head: dict[str, Any] = {"made_by": f"wavediff {__version__}", "model": model, "licence": licence}
    whole = head | {"options": options, "sounds": sounds}
    write_text(folder / MANIFEST, json.dumps(whole, indent=1) + "\n", overwrite=overwrite)

"""A pack of sounds for a library or a game engine: names by the Universal Category System, and a manifest."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavediff.cli.candidates import Job
from wavediff.files import write_text
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


def write_manifest(folder: Path, model: str, licence: str, rows: Sequence[dict[str, Any]], *, overwrite: bool) -> None:
    """Say what the pack holds, and how to make each sound of it again.

    Args:
        folder: of the pack.
        model: that made it.
        licence: of the sounds.
        rows: a sound each: output, label, seed, seconds, peak, loop, sample_rate.
        overwrite: replace an earlier one.

    Raises:
        OutputError: it exists, or cannot be written.
    """
    sounds = [{"file": str(Path(row["output"]).relative_to(folder).as_posix())} | dict(row) for row in rows]
    for sound in sounds:
        del sound["output"]
    head = {"made_by": f"wavediff {__version__}", "model": model, "licence": licence, "sounds": sounds}
    write_text(folder / MANIFEST, json.dumps(head, indent=1) + "\n", overwrite=overwrite)

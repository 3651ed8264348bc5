"""What MkDocs shows: the pages where they lie in the repository, what they link to, and a reference from docstrings."""

import subprocess
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
SHOWN = (".md", ".png", ".yaml", ".ipynb", ".cff")
LINKED = ("LICENSE", "egs/", "recipes/", "wavediff/")
REFERENCE = {
    "Models to use": ["wavediff.Vocoder", "wavediff.Generator", "wavediff.BandExtension"],
    "Audio": ["wavediff.audio.read_audio", "wavediff.audio.write_audio"],
    "Mels": ["wavediff.mel.MelSpec", "wavediff.mel.read_mel", "wavediff.mel.write_mel", "wavediff.mel.diagnose"],
    "Diffusion": ["wavediff.diffusion.make_sampler", "wavediff.diffusion.samplers", "wavediff.diffusion.schedules"],
    "Metrics": ["wavediff.metrics.evaluate_pair"],
    "Errors": ["wavediff.errors"],
}


def on_files(files: Files, config: Any) -> Files:
    """Every file of the repository that a page may be, or may link to, under its own path."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if name.endswith(SHOWN) or name.startswith(LINKED):
            if name.startswith("tests/"):
                continue
            files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, "reference.md", content=_reference()))
    return files


def _reference() -> str:
    parts = ["# Python reference"]
    for title, names in REFERENCE.items():
        parts += [f"## {title}", *(f"::: {name}\n    options: {{heading_level: 3}}" for name in names)]
    return "\n\n".join(parts) + "\n"

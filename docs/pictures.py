"""Make the pictures of the README from what is bundled: `python docs/pictures.py`, from the root of a checkout."""

import tempfile
from pathlib import Path

from PIL import Image

from wavediff.cli.main import main

WIDTH, COLOURS = 1000, 96  # so that a picture stays below 200 kB


def spectrogram(target: Path) -> None:
    """The bundled clip above, vocoded from its mel below."""
    with tempfile.TemporaryDirectory() as folder:
        main(["demo", "-o", folder, "--quiet"])
        picture = Image.open(Path(folder) / "spectrogram.png").convert("RGB")
        picture.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
        picture.quantize(COLOURS).save(target, optimize=True)


if __name__ == "__main__":
    spectrogram(Path(__file__).parent / "spectrogram.png")

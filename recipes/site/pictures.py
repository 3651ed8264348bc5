"""Make the pictures of the README from what is bundled: `python recipes/site/pictures.py`, in a checkout."""

import sys
import tempfile
from pathlib import Path

from PIL import Image

from wavediff.cli.main import main

FOLDER = Path(__file__).resolve().parent
WIDTH, COLOURS = 1000, 96  # so that a picture stays below 200 kB


def spectrogram(target: Path) -> None:
    """The bundled clip above, vocoded from its mel below."""
    with tempfile.TemporaryDirectory() as folder:
        main(["demo", "-o", folder, "--quiet"])
        save(Path(folder) / "spectrogram.png", target)


def page(target: Path) -> None:
    """What `wavediff serve` shows after the example was vocoded; needs chromium, and the extras test and serve."""
    sys.path.insert(0, str(FOLDER.parents[1] / "tests"))
    from browser import browser
    from services import served
    from test_app_page import DESKTOP, FINISHED, Page

    from wavediff import Generator, Vocoder
    from wavediff.app.events import Studio
    from wavediff.app.queue import Limits
    from wavediff.app.service import make_app

    studio = Studio(Vocoder.from_pretrained(), Generator.from_pretrained(), Limits())
    with tempfile.TemporaryDirectory() as folder, served(make_app(studio)) as port, browser(Path(folder)) as window:
        shown = Page(window, f"http://127.0.0.1:{port}/")
        shown.open(DESKTOP)
        shown.run("element('example').click()")
        shown.wait(f"sides.after.src && {FINISHED}")
        picture = Path(folder) / "page.png"
        picture.write_bytes(window.screenshot())
        save(picture, target)


def save(picture: Path, target: Path) -> None:
    """Smaller, and with few colours."""
    image = Image.open(picture).convert("RGB")
    image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    image.quantize(COLOURS).save(target, optimize=True)


if __name__ == "__main__":
    spectrogram(FOLDER / "pictures" / "spectrogram.png")
    page(FOLDER / "pictures" / "page.png")

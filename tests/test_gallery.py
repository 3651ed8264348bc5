"""The gallery is what the bundled models make, whole, and small."""

import re
import runpy

import torch
from conftest import REPOSITORY

from wavediff import Generator, Vocoder
from wavediff.audio import read_audio

FOLDER = REPOSITORY / "recipes" / "site" / "gallery"
MAKES = runpy.run_path(str(FOLDER.parent / "gallery.py"))


def test_every_sound_has_a_picture_and_a_place_on_both_pages() -> None:
    names = {path.stem for path in FOLDER.glob("*.mp3")}
    assert names == {path.stem for path in FOLDER.glob("*.webp")}
    assert len(names) >= 15
    for page in ("README.md", "listen.html"):
        text = (FOLDER / page).read_text(encoding="utf-8")
        assert set(re.findall(r'src="(\w+)\.mp3"', text)) == set(re.findall(r'src="(\w+)\.webp"', text)) == names
        assert len(re.findall(r"<audio ", text)) == len(names)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000


def test_the_sounds_are_those_of_the_bundled_models() -> None:
    made = MAKES["pieces"](Vocoder.from_pretrained(device="cpu"), Generator.from_pretrained(device="cpu"))
    for wanted in ("original", "vocoded_in_1_step", "casino"):
        piece = next(piece for piece in made if piece.name == wanted)
        kept, _ = read_audio(FOLDER / f"{wanted}.mp3")
        assert len(kept) == len(piece.sound)
        assert torch.nn.functional.cosine_similarity(kept, piece.sound, dim=0) > 0.95  # MP3 loses a little

"""Make the gallery from what is bundled: `python recipes/site/gallery.py`, in a checkout.

It writes sounds (MP3), their spectrograms, the page of the documentation site (`README.md`) and the same as a page that
a browser opens by itself (`listen.html`), all into `recipes/site/gallery`.
"""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import soundfile
from torch import Tensor

from wavediff import Generator, Vocoder
from wavediff.audio import read_audio, with_peak
from wavediff.cli.demo import CLIP
from wavediff.mel.griffin_lim import griffin_lim
from wavediff.report.pictures import small_spectrogram

FOLDER = Path(__file__).resolve().parent / "gallery"
PEAK = -3.0  # [dBFS] of the sound effects, so that none is hard to hear
ABOUT = {
    "Speech": "The bundled clip, spoken by espeak-ng, and what is made of its mel spectrogram.",
    "Sound effects": "One of each class of the bundled generator. The seed is 0, so nothing was chosen by ear.",
    "More ways to make a sound": "Each is one call of the same generator.",
}
STYLE = """
.sounds { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); gap: 1rem; }
.sounds figure { margin: 0; width: auto; max-width: none; }
.sounds img { display: block; width: 100%; height: auto; border-radius: 0.5rem; background: #000; }
.sounds audio { display: block; width: 100%; margin-top: 0.5rem; }
.sounds figcaption { margin: 0.25rem 0 0; max-width: none; text-align: left; font-style: normal; font-size: 0.9rem; }
"""
ALONE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>wavediff: gallery</title>
<link rel="stylesheet" href="../../../wavediff/report/theme.css">
<style>
body {{ max-width: 74rem; }}
{}</style>
</head>
<body>
<h1>wavediff: gallery</h1>
{}
</body>
</html>
"""


class Piece(NamedTuple):
    """A sound of the gallery: its file's name, how it came about, and its samples (N,)."""

    section: str
    name: str
    made: str
    sound: Tensor


def pieces(vocoder: Vocoder, generator: Generator) -> Iterator[Piece]:
    """All of them, in order; the rates of both models are the same."""
    speech, sounds, more = ABOUT
    clip, rate = read_audio(CLIP, vocoder.sample_rate)
    mel = vocoder.mel(clip, rate)
    yield Piece(speech, "original", "the recording", clip)
    for steps in (1, 2):
        name = f"vocoded_in_{steps}_step{'s' * (steps > 1)}"
        yield Piece(speech, name, f"num_steps={steps}", vocoder.decode(mel, steps)[0])
    yield Piece(speech, "griffin_lim", "60 iterations, no model", griffin_lim(mel, vocoder.mel_spec)[0])
    for label in generator.classes:
        sound = with_peak(generator.generate(label=label)[0], PEAK)
        yield Piece(sounds, label, f'generate(label="{label}")', sound)
    engine = generator.generate(label="engine", seconds=2.0, loop=True)[0]
    yield Piece(more, "engine_loop", "loop=True, played twice", engine.repeat(2))
    glass = generator.generate(label="glass")[0]
    yield Piece(more, "glass_varied", "vary(glass, strength=0.4)", generator.vary(glass, rate, label="glass")[0])
    between = generator.interpolate(0, 1, count=3, label="laser")[1]
    yield Piece(more, "between_lasers", "half-way between seeds 0 and 1", between)


def figure(piece: Piece) -> str:
    """Its picture, player and words."""
    title = piece.name.replace("_", " ")
    return f"""<figure>
<a href="{piece.name}.mp3"><img src="{piece.name}.webp" alt="Spectrogram: {title}" width="480" height="192"></a>
<audio controls preload="none" src="{piece.name}.mp3" aria-label="{title}"></audio>
<figcaption><strong>{title}</strong> <code>{html.escape(piece.made, quote=False)}</code></figcaption>
</figure>"""


def sections(made: list[Piece], heading: str) -> str:
    """The gallery's body; `heading` is a pattern."""
    parts = []
    for section, about in ABOUT.items():
        figures = "\n".join(figure(piece) for piece in made if piece.section == section)
        parts.append(f'{heading.format(section, about)}\n\n<div class="sounds">\n{figures}\n</div>')
    return "\n\n".join(parts)


def write(folder: Path) -> None:
    """The whole gallery."""
    folder.mkdir(exist_ok=True)
    vocoder, generator = Vocoder.from_pretrained(device="cpu"), Generator.from_pretrained(device="cpu")
    made = list(pieces(vocoder, generator))
    for piece in made:
        soundfile.write(folder / f"{piece.name}.mp3", piece.sound.numpy(), vocoder.sample_rate, format="MP3")
        (folder / f"{piece.name}.webp").write_bytes(small_spectrogram(piece.sound, vocoder.sample_rate))
    note = "Made by `python recipes/site/gallery.py`. Where no player shows, a picture leads to its sound."
    body = sections(made, "## {}\n\n{}")
    page = f"# Gallery\n\n{note}\n\n<style>{STYLE}</style>\n\n{body}\n"
    (folder / "README.md").write_text(page, encoding="utf-8")
    (folder / "listen.html").write_text(ALONE.format(STYLE, sections(made, "<h2>{}</h2>\n<p>{}</p>")), encoding="utf-8")


if __name__ == "__main__":
    write(FOLDER)

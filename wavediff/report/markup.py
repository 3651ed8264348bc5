"""The HTML of a listening page, and what it shares with a comparison's.

Names of files and folders are the only foreign text in it, and pass through `text`. Should a name get by all the same,
the page's own content security policy lets no script run but the package's and lets nothing be loaded.
"""

import base64
import dataclasses
import hashlib
import html
import itertools
import math
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from wavediff.report.clips import Sound

HERE = Path(__file__).resolve().parent
THEME = HERE / "theme.css"
ABOUT_SOUNDS = """\
Spectrograms show all of a sound from left to right, frequency upwards on the mel scale, the level from
−100 dBFS (black) to −10 dBFS. Players give one channel of 16 bits, whatever the file holds."""
ABOUT_FAULTS = """\
Marked as faults: <em>silent</em>, a peak below −60 dBFS; <em>clipping</em>, three samples or more in a row at full
scale, or any beyond; <em>DC offset</em>, a mean beyond ±0.01 of full scale; <em>jump</em>, a first or last sample
beyond ±0.1, which is heard as a click."""


@dataclasses.dataclass(frozen=True)
class Group:
    """The sounds of one folder, those of the reference with its name, and how many of the folder are not shown."""

    name: str
    sounds: Sequence[Sound]
    references: Sequence[Sound]
    left_out: int


def render(title: str, groups: Sequence[Group], num_skipped: int) -> str:
    """The page. `num_skipped` files could not be read; the page says how many."""
    sounds = [sound for group in groups for sound in group.sounds]
    references = [sound for group in groups for sound in group.references]
    rows = {"generated": sounds, "recorded": references} if references else {"shown": sounds}
    facts = [count(len(groups), "group"), *(_inventory(label, row) for label, row in rows.items())]
    if num_skipped:
        facts.append(f"{count(num_skipped, 'broken file')} skipped")
    numbers = itertools.count(1)
    index = "\n".join(_index_entry(number, group) for number, group in enumerate(groups, start=1))
    sections = "\n".join(_section(number, group, numbers) for number, group in enumerate(groups, start=1))
    body = f"""<header id="top">
<h1>{text(title)}</h1>
<p class="facts">{" · ".join(facts)}</p>
<nav aria-label="Groups"><ul>
{index}
</ul></nav>
<details>
<summary>How to read this page</summary>
<p>Click a spectrogram to play from there; with a play button in focus, the space bar plays and pauses, the arrow keys
jump. {ABOUT_SOUNDS}</p>
<p>{ABOUT_FAULTS}</p>
</details>
</header>
<main>
{sections}
</main>"""
    return document(title, body, ("theme.css", "page.css"), ("page.js",))


def document(title: str, body: str, styles: Sequence[str], scripts: Sequence[str]) -> str:
    """A whole page of `body`. `styles` and `scripts` are files beside this one; no other may apply or run."""
    style, script = (
        "".join((HERE / name).read_text(encoding="utf-8") for name in names) for names in (styles, scripts)
    )
    policy = (
        "default-src 'none'; img-src data:; media-src data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
{body}
<script>{script}</script>
</body>
</html>
"""


def _inventory(label: str, sounds: Sequence[Sound]) -> str:
    inventory = f"{count(len(sounds), 'sound')} {label}, {duration(sum(sound.seconds for sound in sounds))}"
    num_faulty = sum(bool(sound.faults) for sound in sounds)
    return inventory + (f', <strong class="faulty">{num_faulty:,} with faults</strong>' if num_faulty else "")


def _index_entry(number: int, group: Group) -> str:
    faulty = any(sound.faults for sound in group.sounds)
    mark = ' <span class="faulty" role="img" aria-label="with faults">⚠</span>' if faulty else ""
    return (
        f'<li><a href="#group-{number}"><bdi>{text(group.name)}</bdi> <span>{len(group.sounds)}</span>{mark}</a></li>'
    )


def _section(number: int, group: Group, numbers: Iterator[int]) -> str:
    extent = count(len(group.sounds), "sound")
    if group.left_out:
        extent += f" of {len(group.sounds) + group.left_out}"
    if group.references:
        rows = _row("generated", group.sounds, numbers) + "\n" + _row("recorded", group.references, numbers)
    else:
        rows = _row(None, group.sounds, numbers)
    return f"""<section aria-labelledby="group-{number}">
<h2 id="group-{number}"><bdi>{text(group.name)}</bdi> <span>{extent}</span> \
<a href="#top" aria-label="To the top">↑</a></h2>
{rows}
</section>"""


def _row(label: str | None, sounds: Sequence[Sound], numbers: Iterator[int]) -> str:
    heading = f"<h3>{label}</h3>\n" if label else ""
    cards = "\n".join(card(sound, next(numbers)) for sound in sounds)
    return f'{heading}<div class="cards {label or ""}">\n{cards}\n</div>'


def card(
    sound: Sound, number: int, label: str | None = None, *, key: str = "", figures: str = "", attributes: str = ""
) -> str:
    """The player of a sound.

    Args:
        sound: what it plays and shows.
        number: of the card on its page.
        label: foreign text that names the sound; None takes the file's name.
        key: HTML before the label.
        figures: HTML below the sound's own figures.
        attributes: of the `audio` element, with a space before each.
    """
    name, top = text(sound.name if label is None else label), f"{sound.sample_rate / 2000:g} kHz"
    picture, audio = (base64.b64encode(data).decode() for data in (sound.picture, sound.audio))
    faults = "".join(f"<li>{text(fault)}</li>" for fault in sound.faults)
    return f"""<figure class="sound{" faulty" if faults else ""}" id="sound-{number}">
<div class="picture"><img alt="Spectrogram of {name}, up to {top}" width="480" height="192" loading="lazy" \
src="data:image/webp;base64,{picture}"></div>
<figcaption>
<div class="name"><button type="button" hidden aria-pressed="false" aria-label="Play {name}"></button>\
{key}<bdi>{name.replace("_", "_<wbr>")}</bdi></div>
<audio controls preload="none" data-seconds="{sound.seconds:.6f}"{attributes} aria-label="{name}" \
src="data:audio/wav;base64,{audio}"></audio>
<dl><div><dt>length</dt><dd>{duration(sound.seconds)}</dd></div><div><dt>peak</dt><dd>{_decibels(sound.peak)}</dd></div>\
<div><dt>DC</dt><dd>{_signed(sound.dc, 4)}</dd></div></dl>
{figures}{f'<ul class="faults" aria-label="Faults">{faults}</ul>' if faults else ""}
</figcaption>
</figure>"""


def text(name: str) -> str:
    """For an element or a quoted attribute; what is no character, or no printed one, is shown as U+FFFD."""
    shown = "".join("\ufffd" if unicodedata.category(character) in ("Cc", "Cs") else character for character in name)
    return html.escape(shown, quote=True)


def _hash(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02} min"


def _decibels(peak: float) -> str:
    return f"{_signed(20 * math.log10(peak), 1)} dBFS" if peak > 0 else "−∞ dBFS"


def _signed(value: float, digits: int) -> str:
    """With a sign that is as wide as a digit; zero has none."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")

"""The HTML of a page that compares systems; names pass through `markup.text` as on any page."""

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from wavediff.metrics import METRICS, Summary, summarise
from wavediff.report.clips import Sound
from wavediff.report.markup import ABOUT_FAULTS, ABOUT_SOUNDS, HERE, card, count, document, duration, text

BETTER = {True: "↑", False: "↓", None: ""}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A clip of one system, with its metrics by name; none where it was not measured."""

    sound: Sound
    figures: Mapping[str, float | None]


@dataclasses.dataclass(frozen=True)
class Gap:
    """What stands in the place of a clip that a system lacks, and why."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip as every system has it, in the order of the systems."""

    name: str
    entries: Sequence[Entry | Gap]


def render_comparison(
    title: str,
    systems: Sequence[str],
    clips: Sequence[Clip],
    metrics: Sequence[str],
    num_clips: int,
    reference: str | None,
) -> str:
    """The page, which shows `clips` of `num_clips`; `metrics` are the columns of its table."""
    numbers = itertools.count(1)
    sections = "\n".join(_clip(number, clip, systems, metrics, numbers) for number, clip in enumerate(clips, start=1))
    sounds = [entry.sound for clip in clips for entry in clip.entries if isinstance(entry, Entry)]
    num_gaps = len(systems) * len(clips) - len(sounds)
    left_out = f" of {num_clips}" if num_clips > len(clips) else ""
    facts = [count(len(systems), "system"), count(len(clips), "clip") + left_out]
    facts.append(f"{count(len(sounds), 'sound')}, {duration(sum(sound.seconds for sound in sounds))}")
    if num_gaps:
        facts.append(f'<strong class="faulty">{num_gaps:,} missing</strong>')
    orders = "".join(
        f'<option value="{_attribute(name)}" data-sign="{-1 if METRICS[name].higher_is_better else 1}">'
        f"{_label(name)}, worst first</option>"
        for name in _ranking(metrics)
    )
    digest = hashlib.sha256(sections.encode()).hexdigest()[:16]
    body = f"""<div id="page">
<header id="top">
<h1>{text(title)}</h1>
<p class="facts">{" · ".join(facts)}</p>
<p class="actions" hidden><button type="button" class="plain strong" id="begin">Blind test</button></p>
<details>
<summary>How to use this page</summary>
<p>Click a spectrogram to play from there. While a clip plays, the keys 1 to 9, the buttons in the bar below or another
play button of its row go on with another system from the same place. {ABOUT_SOUNDS}</p>
<p>Means are over the clips that a system has, with 95 % confidence intervals (Student’s t); ↓ says that lower is
better, ↑ that higher is. The best mean and the best figure of each clip are bold; small differences may be chance.</p>
<p>The blind test hides the systems behind A and B, in random order and equally loud (RMS; the louder of the two is
turned down). Its answers stay in this browser.</p>
<p>{ABOUT_FAULTS}</p>
</details>
</header>
<section aria-labelledby="systems">
<h2 id="systems">Systems</h2>
{_summary(systems, clips, metrics, reference)}
</section>
<main id="clips" data-page="{digest}">
<p class="order" hidden><label>Clips by <select id="order"><option value="">name</option>{orders}</select></label></p>
{sections}
</main>
<div id="transport" role="group" aria-label="Player" hidden>
<button type="button" id="toggle" aria-pressed="false" aria-label="Play"></button>
<div class="where"><bdi></bdi><input type="range" min="0" max="1" step="any" value="0" aria-label="Position"></div>
<label class="loop"><input type="checkbox"> loop</label>
<div class="chips"></div>
</div>
</div>
{(HERE / "blind.html").read_text(encoding="utf-8").strip()}"""
    styles, scripts = ("theme.css", "page.css", "compare.css"), ("page.js", "compare.js", "trials.js", "blind.js")
    return document(title, body, styles, scripts)


def _summary(systems: Sequence[str], clips: Sequence[Clip], metrics: Sequence[str], reference: str | None) -> str:
    """The table of means: a row for each system, a column for each metric."""
    columns = zip(*(clip.entries for clip in clips), strict=True)
    measured = [[entry.figures for entry in column if isinstance(entry, Entry)] for column in columns]
    summaries = [summarise(figures) for figures in measured]
    best = {
        name: _best(name, [summary[name].mean if name in summary else None for summary in summaries])
        for name in metrics
    }
    head = "".join(
        f'<th scope="col" data-column title="{METRICS[name].description}">{_label(name)} '
        f"<span>{METRICS[name].unit} {BETTER[METRICS[name].higher_is_better]}</span></th>"
        for name in metrics
    )
    rows = []
    for number, (system, figures, summary) in enumerate(zip(systems, measured, summaries, strict=True), start=1):
        cells = "".join(mean_cell(summary.get(name), best[name]) for name in metrics)
        have, num_gaps = len(figures), len(clips) - len(figures)
        mark = ' <span class="mark">reference</span>' if system == reference else ""
        missing = f' <span class="faulty">{num_gaps} missing</span>' if num_gaps else ""
        rows.append(
            f'<tr data-name="{text(system)}"><th scope="row">{_key(number)}<bdi>{text(system)}</bdi>{mark}'
            f'</th><td data-value="{have}">{have}{missing}</td>{cells}</tr>'
        )
    return (
        '<div class="scroll"><table id="summary">\n<thead><tr><th scope="col" data-column>system</th>'
        f'<th scope="col" data-column>clips</th>{head}</tr></thead>\n<tbody>\n' + "\n".join(rows) + "\n</tbody>\n"
        "</table></div>"
    )


def mean_cell(summary: Summary | None, best: float | None) -> str:
    """Of the table of means; bold where it is `best`."""
    if summary is None or summary.mean is None or not math.isfinite(summary.mean):
        return "<td>–</td>"
    shown = figure(summary.mean)
    if summary.interval95 is not None:
        half = (summary.interval95[1] - summary.interval95[0]) / 2
        # Two digits of the interval, but no more than four of the mean: figures that hardly differ have a tiny one.
        digits = min(_decimals(half, 2) if half else 2, _decimals(max(abs(summary.mean), half), 4))
        shown = f'{summary.mean:,.{digits}f} <span class="interval">± {half:.{digits}f}</span>'
    shown = shown.replace("-", "−")
    return f'<td data-value="{summary.mean:.9g}"{_bold(summary.mean == best)}>{shown}</td>'


def _clip(number: int, clip: Clip, systems: Sequence[str], metrics: Sequence[str], numbers: Iterator[int]) -> str:
    rows = [entry.figures for entry in clip.entries if isinstance(entry, Entry)]
    best = {name: _best(name, [row.get(name) for row in rows]) for name in metrics}
    means = "".join(
        f' {_attribute(name)}="{summary.mean:.9g}"'
        for name, summary in summarise(rows).items()
        if summary.mean is not None and name in _ranking(metrics)
    )
    cards = []
    for place, (system, entry) in enumerate(zip(systems, clip.entries, strict=True)):
        key = _key(place + 1)
        if isinstance(entry, Gap):
            cards.append(
                f'<div class="gap">{key}<p><bdi>{text(system)}</bdi><br>'
                f'<span class="faulty">{entry.reason}</span></p></div>'
            )
            continue
        figures = "".join(
            f"<div{_bold(entry.figures[name] is not None and entry.figures[name] == best[name])}>"
            f"<dt>{_label(name)}</dt><dd>{figure(entry.figures[name])}</dd></div>"
            for name in metrics
            if name in entry.figures
        )
        figures = f'<dl class="figures">{figures}</dl>\n' if figures else ""
        attributes = f' data-system="{place}"'
        cards.append(card(entry.sound, next(numbers), system, key=key, figures=figures, attributes=attributes))
    return f"""<section class="clip" data-name="{text(clip.name)}"{means} aria-labelledby="clip-{number}">
<h2 id="clip-{number}"><bdi>{text(clip.name)}</bdi> <a href="#top" aria-label="To the top">↑</a></h2>
<div class="cards">
{chr(10).join(cards)}
</div>
</section>"""


def _ranking(metrics: Sequence[str]) -> list[str]:
    """The metrics of which one end is better."""
    return [name for name in metrics if METRICS[name].higher_is_better is not None]


def _best(name: str, values: Sequence[float | None]) -> float | None:
    """The best of two or more figures; None where there is none."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    direction = METRICS[name].higher_is_better
    if direction is None or len(known) < 2:
        return None
    return max(known) if direction else min(known)


def _attribute(name: str) -> str:
    """Of a clip's section: the mean over its systems."""
    return f"data-{name.replace('_', '-')}"


def _bold(is_best: bool) -> str:
    return ' class="best"' if is_best else ""


def _key(number: int) -> str:
    return f'<span class="key">{number}</span>'


def _label(name: str) -> str:
    """A metric's name as words."""
    return name.replace("_", " ")


def figure(value: float | None) -> str:
    """Three significant digits or all before the point; a dash where there is no figure."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.{_decimals(value, 3)}f}".replace("-", "−")


def _decimals(value: float, digits: int) -> int:
    """The decimals that show so many significant digits of a number."""
    return max(0, digits - 1 - (math.floor(math.log10(abs(value))) if value else 0))

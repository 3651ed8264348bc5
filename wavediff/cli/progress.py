"""What commands print: how far they are by one policy for all of them, lines, and tables.

On a terminal a bar with an estimate; elsewhere a line every half minute, so that a log stays short; nothing with
`--quiet`. Work that succeeds ends at 100 %.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, TypeVar

INTERVAL, REDRAW = 30.0, 0.1  # seconds between two lines, between two states of a bar
_BAR = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]"
_COUNT = "{desc} [{elapsed}]"  # where nobody knows the total

Item = TypeVar("Item")


class Progress:
    """The progress of one piece of work, a context manager.

    Args:
        command: that works, "vocode".
        total: units of work; None until `to` says it.
        unit: in the plural, "files".
        quiet: say nothing.
        first: units that an earlier run did: they count, but not for the speed.
        digits: behind the point of the numbers.
        every: seconds between two lines where no terminal is (default: half a minute).
        note: what else there is to say, asked when it is shown.
    """

    def __init__(
        self,
        command: str,
        total: float | None,
        unit: str,
        *,
        quiet: bool = False,
        first: float = 0,
        digits: int = 0,
        every: float | None = None,
        note: Callable[[], str] = str,
    ) -> None:
        self.command, self.total, self.unit, self.digits, self.note = command, total, unit, digits, note
        self.done = self._first = first
        self._every = INTERVAL if every is None else every
        self._begun = self._said_at = time.monotonic()
        self._said, self._drawn_at = -1.0, 0.0
        self._bar: Any = None
        self._lines = not quiet and not sys.stderr.isatty()
        if not quiet and not self._lines:
            from tqdm import tqdm

            look = {"bar_format": _COUNT, "dynamic_ncols": True, "mininterval": REDRAW, "delay": REDRAW}
            self._bar = tqdm(initial=first, file=sys.stderr, **look)

    @property
    def speed(self) -> float:
        """Units a second since the beginning."""
        return (self.done - self._first) / max(time.monotonic() - self._begun, 1e-9)

    def update(self, units: float = 1) -> None:
        """So many units more are done."""
        self.to(self.done + units)

    def to(self, done: float, total: float | None = None) -> None:
        """So many units are done, of a total that may be known by now."""
        self.total = self.total if total is None else total
        self.done = done if self.total is None else min(done, self.total)
        self._draw()
        if time.monotonic() - self._said_at >= self._every:
            self.say()

    def steps_of(self, units: float) -> Callable[[int, int], None]:
        """What a pipeline calls as `on_step` while it does the next so many units."""
        begun = self.done
        return lambda step, steps: self.to(begun + units * step / steps)

    def say(self) -> None:
        """A line now, where lines are written, unless the last one said the same."""
        if not self._lines or self.done == self._said:
            return
        self._said_at, self._said = time.monotonic(), self.done
        facts, speed = [self._text()], self.speed
        if self.total and self.done < self.total and speed > 0:
            facts.append(f"{clock((self.total - self.done) / speed)} to go")
        say(f"wavediff {self.command}: {', '.join(facts)}")

    def close(self, *, finished: bool = True) -> None:
        """Ends the bar, at 100 % if the work is finished; a log that got lines gets the last one."""
        if finished and self.total is not None:
            self.done = self.total
        if self._bar is not None:
            self._draw()
            self._bar.close()
        elif finished and self._said >= 0:
            self.say()
        self._lines, self._bar = False, None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.close(finished=kind is None)

    def _text(self) -> str:
        of = f" of {self._number(self.total)}" if self.total else ""
        share = f" ({self.done / self.total:.0%})" if self.total and self._bar is None else ""
        note = self.note()
        return f"{self._number(self.done)}{of} {self.unit}{share}{f', {note}' if note else ''}"

    def _number(self, value: float) -> str:
        return f"{value:.{self.digits}f}" if self.digits else f"{int(value)}"

    def _draw(self) -> None:
        if self._bar is not None and (self.done == self.total or time.monotonic() - self._drawn_at >= REDRAW):
            self._drawn_at = time.monotonic()
            self._bar.total, self._bar.bar_format = self.total, _BAR if self.total else _COUNT
            self._bar.set_description_str(self._text(), refresh=False)
            self._bar.update(self.done - self._bar.n)


def track(items: Sequence[Item], command: str, unit: str, *, quiet: bool) -> Iterator[Item]:
    """The items one after another, and how far that is."""
    with Progress(command, len(items), unit, quiet=quiet) as progress:
        for item in items:
            yield item
            progress.update()


def say(line: str, file: Any = None) -> None:
    """Write a line, to standard error by default, without breaking a bar that is drawn there."""
    file = sys.stderr if file is None else file
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(line, file=file)
        file.flush()
    else:
        print(line, file=file, flush=True)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, "1:02:03" or "02:03"."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


def counted(count: int, noun: str) -> str:
    """ "1 file", "2 files"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def number(value: float | None, digits: int = 4) -> str:
    """So many significant digits; a dash where there is no figure."""
    return "-" if value is None else f"{value:.{digits}g}"


def table(rows: list[list[str]]) -> str:
    """Columns padded to their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

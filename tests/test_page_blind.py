"""A browser that compares systems: it changes between them while they sound, and judges them blindly."""

import base64
import csv
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from browser import Browser, browser
from scipy import stats

from wavediff.report import write_comparison

RATE, SECONDS = 8000, {"x": 20, "y": 21}  # a clip is known by its length
TONES = {"Zalpha": (500, 0.1), "Zbeta": (1000, 0.4), "=Zgamma": (2000, 0.2)}  # a system by its pitch


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    """A page of three systems and two clips, all of them sines."""
    for system, (frequency, level) in TONES.items():
        for clip, seconds in SECONDS.items():
            path = tmp_path / "in" / system / f"{clip}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, level * np.sin(2 * np.pi * frequency * np.arange(seconds * RATE) / RATE), RATE)
    write_comparison(
        tmp_path / "page.html", tmp_path / "in", reference="Zalpha", metrics=["peak"], title="Zbeta, Zalpha"
    )
    return tmp_path / "page.html"


WAIT = """new Promise((done, failed) => {
  const look = () => (%s) ? done() : setTimeout(look, 10);
  setTimeout(() => failed(new Error(%s)), 15_000);
  look();
})"""


def wait(chromium: Browser, condition: str) -> None:
    chromium.run(WAIT % (condition, json.dumps(condition)))


def click(chromium: Browser, selector: str) -> None:
    chromium.run(f"document.querySelector({json.dumps(selector)}).click()")


def press(chromium: Browser, key: str) -> None:
    chromium.run(f"void document.dispatchEvent(new KeyboardEvent('keydown', {{ key: {json.dumps(key)} }}))")


PLAYING = (
    "[...document.querySelectorAll('audio')].filter((player) => !player.paused).map((player) => player.dataset.system)"
)
PLACE = "[...document.querySelectorAll('audio')].find((player) => !player.paused)?.currentTime"
CLICK = """(() => {
  const picture = document.querySelector(".clip .picture");
  const box = picture.getBoundingClientRect();
  const place = { bubbles: true, clientX: box.left + box.width / 2, clientY: box.top + 9 };
  picture.dispatchEvent(new MouseEvent("click", place));
})()"""
ROWS = "[...document.querySelectorAll('#summary tbody tr')].map((row) => row.dataset.name)"


def test_another_system_goes_on_from_the_same_place(tones: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as chromium:
        chromium.open(tones, 390, 900)
        chromium.run(CLICK)
        order = {name: str(number) for number, name in enumerate(["Zalpha", "=Zgamma", "Zbeta"])}
        wait(chromium, f"{PLACE} > 10")
        ways: list[tuple[str, Callable[[], None]]] = [
            ("=Zgamma", lambda: press(chromium, "2")),
            ("Zbeta", lambda: click(chromium, ".clip .sound:nth-child(3) button")),
            ("Zalpha", lambda: click(chromium, "#transport .chips button")),
        ]
        for name, change in ways:
            before = chromium.run(PLACE)
            began = time.monotonic()
            change()
            wait(chromium, f"String({PLAYING}) === '{order[name]}'")
            assert before - 0.01 <= chromium.run(PLACE) <= before + time.monotonic() - began + 0.1
        chosen = "document.querySelector('#transport [aria-pressed=true].plain bdi').textContent"
        assert chromium.run(chosen) == "Zalpha"
        press(chromium, "9")  # no such system
        click(chromium, "#toggle")
        assert chromium.run(PLAYING) == []
        assert chromium.run("document.documentElement.scrollWidth") == 390
        assert chromium.complaints == []


def hidden(chromium: Browser, side: str) -> tuple[str, str, np.ndarray]:
    """System, clip and samples behind a side, from what it plays; the page says nothing."""
    url = chromium.run(f"document.querySelector('audio[data-which={side}]').src")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert rate == RATE
    pitch = np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples)
    (system,) = (name for name, (frequency, _) in TONES.items() if abs(frequency - pitch) < 1)
    (clip,) = (name for name, seconds in SECONDS.items() if seconds * RATE == len(samples))
    return system, clip, samples


def hear(chromium: Browser, sides: str) -> None:
    for side in sides:
        assert chromium.run("document.querySelector('[data-choice]').disabled")  # not before all were heard
        press(chromium, side)
        wait(chromium, f"!document.querySelector('audio[data-which={side}]').paused")
    wait(chromium, "!document.querySelector('[data-choice]').disabled")


def downloads(chromium: Browser, folder: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """What the two links give, as files."""
    folder.mkdir()
    chromium.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    files = [folder / "blind-test.json", folder / "blind-test.csv"]
    for file in files:
        click(chromium, f"a[download='{file.name}']")
        until = time.monotonic() + 60
        while not file.exists() or not file.stat().st_size:
            assert time.monotonic() < until, f"no {file.name}"
            time.sleep(0.02)
    with files[1].open(newline="") as file:
        return json.loads(files[0].read_text()), list(csv.DictReader(file))


def test_a_blind_test_hides_the_systems_goes_on_after_a_reload_and_counts_right(tones: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as chromium:
        chromium.open(tones, 390, 900)
        click(chromium, "#begin")
        click(chromium, "[name=system][value='1']")  # leaves Zalpha and Zbeta
        chromium.run("document.querySelector('[name=count]').value = 4")
        click(chromium, "form button")
        judged = []
        for number in range(4):
            if number == 2:
                chromium.open(tones, 390, 900)
                click(chromium, "#begin")
                assert chromium.run("document.querySelector('.resume').textContent") == "Go on (2 of 4 judged)"
                click(chromium, ".resume")
            source = chromium.run("document.documentElement.outerHTML")
            assert not [name for name in TONES if name in source]
            assert f"Trial {number + 1} of 4" in source
            hear(chromium, "ab")
            (one, clip, ours), (other, other_clip, theirs) = (hidden(chromium, side) for side in "ab")
            assert clip == other_clip
            assert {one, other} == {"Zalpha", "Zbeta"}
            assert np.std(ours) == pytest.approx(0.1 / np.sqrt(2), rel=0.01)  # both as loud as the softer
            assert np.std(theirs) == pytest.approx(np.std(ours), rel=0.01)
            choice = "none" if number == 1 else "a" if one == "Zbeta" else "b"
            judged.append((clip, one, other, choice, "" if choice == "none" else "Zbeta"))
            click(chromium, f"[data-choice={choice}]")
        assert {clip for clip, *_ in judged[:2]} == {"x", "y"}  # no pair again before all had their turn
        cells = chromium.run("[...document.querySelectorAll('#pairs td')].map((cell) => cell.textContent)")
        assert cells == ["Zalpha", "0", "1", "3", "Zbeta", "0.250"]
        results, table = downloads(chromium, tmp_path / "downloads")
        assert (results["mode"], results["planned"]) == ("preference", 4)
        assert results["pairs"] == [{"systems": ["Zalpha", "Zbeta"], "wins": [0, 3], "no_preference": 1, "p": 0.25}]
        for rows in (results["answers"], table):
            keys = ("clip", "a", "b", "choice", "preferred")
            assert [tuple(row[key] or "" for key in keys) for row in rows] == judged
        assert results["page"] == "Zbeta, Zalpha"
        click(chromium, ".leave")
        assert chromium.run("document.title") == "Zbeta, Zalpha"
        assert chromium.run(ROWS) == ["Zalpha", "=Zgamma", "Zbeta"]
        assert chromium.complaints == []


def test_abx_counts_right_answers_where_the_browser_keeps_nothing(tones: Path, tmp_path: Path) -> None:
    denied = (
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    with browser(tmp_path) as chromium:
        chromium.send("Page.addScriptToEvaluateOnNewDocument", source=denied)
        chromium.open(tones, 1280, 900)
        click(chromium, "#begin")
        click(chromium, "[name=mode][value=abx]")
        chromium.run("document.querySelector('[name=count]').value = 7")
        click(chromium, "form button")
        expected, shown = [], []
        for number in range(5):
            hear(chromium, "abx")
            one, other, same = (hidden(chromium, side)[0] for side in "abx")
            assert same in (one, other)
            choice = "a" if (same == one) == (number != 3) else "b"  # the fourth is wrong
            expected.append({"a": one, "b": other, "x": same, "choice": choice, "correct": number != 3})
            shown.append(frozenset((one, other)))
            click(chromium, f"[data-choice={choice}]")
        click(chromium, ".stop")
        results, table = downloads(chromium, tmp_path / "downloads")
        assert "5 of 7 trials judged" in chromium.run("document.querySelector('.blind').textContent")
        assert [{key: row[key] for key in expected[0]} for row in results["answers"]] == expected
        for pair in results["pairs"]:
            own = [row["correct"] for row, names in zip(expected, shown, strict=True) if names == set(pair["systems"])]
            assert (pair["correct"], pair["wrong"]) == (own.count(True), own.count(False))
            assert pair["p"] == pytest.approx(stats.binomtest(own.count(True), len(own)).pvalue)
        assert sum(pair["correct"] + pair["wrong"] for pair in results["pairs"]) == 5
        names = {row[column] for row in table for column in "abx"}
        assert names <= {"Zalpha", "Zbeta", "'=Zgamma"}  # a spreadsheet runs no name
        assert any("=Zgamma" in pair for pair in shown)
        plan = chromium.run("plan([{ clip: 0, a: 0, b: 1 }, { clip: 1, a: 0, b: 1 }], 400, 'abx')")
        for name, value in (("a", 0), ("x", "a")):  # fair coins, but for one time in 10^20
            assert 100 < sum(trial[name] == value for trial in plan) < 300
        assert 50 < sum(trial["clip"] == 0 for trial in plan[::2]) < 150
        for hits, count in ((0, 0), (5, 10), (9, 12), (0, 20), (240, 500), (130, 500)):
            p = stats.binomtest(hits, count).pvalue if count else 1
            assert chromium.run(f"binomial({hits}, {count})") == pytest.approx(p, rel=1e-9)
        assert chromium.complaints == []

"""The page that compares systems: what is on it, its figures and gaps, and the order a browser gives them."""

import base64
import hashlib
import math
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from browser import browser
from scipy import stats
from test_page import HOSTILE, Page, write_sound

from wavediff.audio import read_audio, write_audio
from wavediff.cli.demo import CLIP
from wavediff.cli.main import main
from wavediff.errors import AudioError, ConfigError, OutputError
from wavediff.metrics import METRICS, Summary, evaluate_files, select_metrics
from wavediff.report import page as page_module
from wavediff.report import write_comparison
from wavediff.report.comparison import CHEAP_METRICS
from wavediff.report.comparison_markup import figure, mean_cell

SYSTEMS = ("original", "clean", "noisy")  # the reference first, as on the page


class Comparison(Page):
    """A page with forms; `cells` are those of the table of systems, with their attributes."""

    def __init__(self, path: Path) -> None:
        self.cells: list[dict[str, str]] = []
        super().__init__(path)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "td":
            self.cells.append({name: value or "" for name, value in attrs})
        if tag not in ("input", "br"):
            super().handle_starttag(tag, attrs)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of speech, and two systems that add little and much noise."""
    folder = tmp_path_factory.mktemp("speech")
    recording, sample_rate = read_audio(CLIP)
    for number in range(3):
        piece = recording[number * 15_000 : number * 15_000 + 30_000].numpy()
        noise = np.random.default_rng(number).standard_normal(len(piece)).astype(np.float32)
        for system, level in zip(SYSTEMS, (0, 0.001, 0.02), strict=True):
            path = folder / system / "part" / f"clip {number}.{'flac' if system == 'clean' else 'wav'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, torch.from_numpy(piece + level * (1 + number) * noise).clamp(-1, 1), sample_rate)
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three systems of two clips each, quick to make."""
    for number, system in enumerate(("one", "three", "two")):
        for clip in ("a", "b"):
            write_sound(tmp_path / "in" / system / f"{clip}.wav", number, frames=3000)
    return tmp_path / "in"


# What is on the page


def test_every_clip_has_a_row_with_every_system_bit_for_bit(speech: Path, tmp_path: Path) -> None:
    contents = write_comparison(tmp_path / "page.html", speech, reference="original", metrics=["log_mel_l1"])
    page = Comparison(tmp_path / "page.html")
    assert (contents.groups, contents.sounds, contents.left_out, contents.notes) == (3, 9, 0, ())
    assert len(page.players) == len(page.pictures) == 9
    for number, player in enumerate(page.players):
        clip, place = divmod(number, 3)
        assert (player["aria-label"], player["data-system"]) == (SYSTEMS[place], str(place))
        (path,) = (speech / SYSTEMS[place] / "part").glob(f"clip {clip}.*")
        np.testing.assert_array_equal(page.decoded(number)[0], soundfile.read(path, dtype="int16")[0])
    assert [text.split(" ↑")[0] for text in page.texts["h2"]] == ["Systems", *(f"part/clip {n}" for n in range(3))]
    assert page.source.count('src="data:audio/wav') == 9  # once each, however often they are heard


def test_figures_are_those_of_the_metrics_and_means_have_students_interval(speech: Path, tmp_path: Path) -> None:
    write_comparison(tmp_path / "page.html", speech, reference="original")
    page = Comparison(tmp_path / "page.html")
    names = [name for name in CHEAP_METRICS if name in select_metrics()[0]]
    rows: dict[str, list[dict[str, float | None]]] = {}
    for system in ("clean", "noisy"):
        paths = [next((speech / system / "part").glob(f"clip {number}.*")) for number in range(3)]
        rows[system] = [
            evaluate_files(speech / "original" / "part" / path.with_suffix(".wav").name, path, names) for path in paths
        ]
    for number, text in enumerate(page.texts["figure"]):
        clip, place = divmod(number, 3)
        if place == 0:
            assert "log mel" not in text  # the reference is not measured against itself
            continue
        for name in names:
            (shown,) = re.findall(rf"{name.replace('_', ' ')}(−?[\d,]+\.?\d*)", text)
            value = rows[SYSTEMS[place]][clip][name]
            assert float(shown.replace("−", "-").replace(",", "")) == pytest.approx(value, rel=0.005)

    width = 1 + len(names)
    for column, name in enumerate(names, start=1):
        for place, system in enumerate(("clean", "noisy"), start=1):
            values = [row[name] for row in rows[system]]
            cell, text = page.cells[place * width + column], page.texts["td"][place * width + column]
            assert float(cell["data-value"]) == pytest.approx(np.mean(values), rel=1e-8)
            low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
            assert float(text.split("± ")[1]) == pytest.approx((high - low) / 2, rel=0.06)
            means = {key: np.mean([row[name] for row in rows[key]]) for key in rows}
            best = (max if METRICS[name].higher_is_better else min)(means, key=lambda key: means[key])
            assert (cell.get("class") == "best") == (system == best)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.01234, "0.0123"), (-3.14159, "−3.14"), (1234.5, "1,234"), (0.0, "0.00"), (None, "–"), (math.nan, "–")],
)
def test_a_figure_has_three_digits(value: float | None, shown: str) -> None:
    assert figure(value) == shown


@pytest.mark.parametrize(
    ("mean", "half", "shown"),
    [
        (0.97912, 0.0034, "0.9791 ± 0.0034"),
        (-51.26, 3.24, "−51.3 ± 3.2"),
        (1.0, 1e-12, "1.000 ± 0.000"),  # no endless digits
        (0.0, 0.0, "0.00 ± 0.00"),
    ],
)
def test_a_mean_has_as_many_digits_as_its_interval(mean: float, half: float, shown: str) -> None:
    cell = mean_cell(Summary(3, mean, half, (mean - half, mean + half)), None)
    assert re.sub("<[^>]*>", "", cell) == shown


def test_a_missing_clip_is_a_gap_and_named(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (small / "three" / "b.wav").unlink()
    (small / "two" / "b.wav").write_bytes(b"\x7fELF" + bytes(100))
    write_sound(small / "two" / "only.wav", frames=3000)
    write_sound(small / "beside.wav", frames=3000)
    write_sound(small / "three" / "a.wav", frames=3000, rate=16_000)  # cannot be compared, only heard
    command = ["report", str(small), "--compare", "--reference", "one", "--metrics", "peak"]
    assert main([*command, "-o", str(tmp_path / "page.html")]) == 0
    out, err = capsys.readouterr()
    assert "5 sounds in 3 systems" in out
    for line in (
        f"skipped: {small / 'two' / 'b.wav'}",
        f"{small / 'three'}: has no clip b,",
        f"{small / 'three'}: has no clip only,",
        f"{small / 'one'}: has no clip only,",
        f"{small / 'beside.wav'}: is in no system's folder",
        f"no metrics: {small / 'three' / 'a.wav'}: 16000 Hz",
    ):
        assert err.count(f"wavediff report: {line}") == 1
    page = Comparison(tmp_path / "page.html")
    assert len(page.players) == 5
    assert "4 missing" in page.texts["header"][0]
    gaps = [text for text in page.texts["p"] if text.endswith(("no such clip", "cannot be read"))]
    assert gaps == ["threeno such clip", "twocannot be read", "oneno such clip", "threeno such clip"]
    assert [page.texts["td"][number] for number in (0, 2, 4)] == ["2 1 missing", "1 2 missing", "2 1 missing"]
    assert page.texts["td"][3] == "–"


def test_no_name_becomes_markup_and_only_its_own_script_may_run(tmp_path: Path) -> None:
    for number, system in enumerate((HOSTILE, '"><script>alert(1)<script>', "two\nlines")):
        write_sound(tmp_path / "in" / system / f"{number}.wav", frames=3000)  # a gap for the others
        for clip in (HOSTILE, "a'b\"c&amp;<b>.wav", "' onclick='x.wav"):
            write_sound(tmp_path / "in" / system / clip, frames=3000)
    write_comparison(
        tmp_path / "page.html", tmp_path / "in", reference="two\nlines", metrics=["peak"], title="</title><b>"
    )
    page = Comparison(tmp_path / "page.html")  # which refuses event handlers
    assert len(page.players) == len(page.pictures) == 12
    assert page.texts["bdi"].count(HOSTILE) == 1 + 6  # in the table, and in each row
    assert page.tags.count("script") == page.tags.count("title") == 1
    assert "b" not in page.tags
    assert {"two\ufffdlines", HOSTILE, HOSTILE.removesuffix(".wav"), "a'b\"c&amp;<b>"} <= set(page.texts["bdi"])
    assert not re.search(r"https?:|@import|url\(", page.source)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page.source)
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:;")
    for tag in ("style", "script"):
        (text,) = page.texts[tag]
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy


def test_the_same_sounds_give_the_same_page_and_others_another_store(small: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_comparison(tmp_path / name, small, reference="two", metrics=["log_mel_l1"])
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    write_sound(small / "one" / "a.wav", 9, frames=3000)
    write_comparison(tmp_path / "c.html", small, reference="two", metrics=["log_mel_l1"])
    stores = [re.findall(r'data-page="(\w+)"', (tmp_path / f"{name}.html").read_text()) for name in "ac"]
    assert stores[0] != stores[1]  # answers of one page are not taken for those of another


def test_a_limit_takes_the_same_clips_of_every_system(small: Path, tmp_path: Path) -> None:
    for system in ("one", "three", "two"):
        for clip in "cdef":
            write_sound(small / system / f"{clip}.wav", frames=3000)
    contents = write_comparison(tmp_path / "page.html", small, max_clips=3)
    page = Comparison(tmp_path / "page.html")
    assert (contents.sounds, contents.left_out) == (9, 3)
    assert [text.split(" ↑")[0] for text in page.texts["h2"]] == ["Systems", "a", "c", "e"]
    assert "3 clips of 6" in page.texts["header"][0]
    assert "figures" not in page.source.split("<body>")[1].split("<script>")[0]  # no reference, no metrics


def test_what_gives_no_comparison_is_refused_with_the_cure(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "page.html"
    write_sound(tmp_path / "twice" / "x" / "a.wav")
    write_sound(tmp_path / "twice" / "y" / "a.wav")
    write_sound(tmp_path / "twice" / "y" / "a.flac")
    for folder, reason in (
        (small / "one", "no folder of sounds, .*give each system a folder"),
        (tmp_path / "twice", r"y.a\.(wav|flac): is the same clip as .*keep one"),
        (tmp_path / "nowhere", "is not a folder"),
    ):
        with pytest.raises(AudioError, match=reason):
            write_comparison(output, folder)
    (tmp_path / "twice" / "y" / "a.flac").rename(tmp_path / "twice" / "x" / "b.flac")
    (tmp_path / "twice" / "y" / "a.wav").unlink()
    with pytest.raises(AudioError, match=r"one folder of sounds \(x\), a comparison needs two"):
        write_comparison(output, tmp_path / "twice")
    with pytest.raises(ConfigError, match=r"reference four: no system .*choose from one, three, two"):
        write_comparison(output, small, reference="four")
    with pytest.raises(ConfigError, match="--reference"):
        write_comparison(output, small, metrics=["mcd"])
    with pytest.raises(OutputError, match=r"name it \.html"):
        write_comparison(tmp_path / "page.wav", small)
    assert main(["report", str(small), "-o", str(output), "--metrics", "mcd"]) == 2
    assert "add --compare" in capsys.readouterr().err
    monkeypatch.setattr(page_module, "MAX_PAGE_BYTES", 20_000)
    with pytest.raises(OutputError, match=r"\d of 6 sounds fill the .* MB .*--max-per-group"):
        write_comparison(output, small)
    assert not output.exists()


# A browser

CHOOSE = """(() => {
  const order = document.getElementById("order");
  order.selectedIndex = %d;
  order.dispatchEvent(new Event("change"));
  const shown = (clip) => Number(order.value ? clip.getAttribute(order.value) : clip.dataset.name.at(-1));
  return [...document.querySelectorAll(".clip")].map(shown);
})()"""
ROWS = "[...document.querySelectorAll('#summary tbody tr')].map((row) => row.dataset.name)"


def test_systems_and_clips_are_sorted_by_their_figures(speech: Path, tmp_path: Path) -> None:
    write_comparison(tmp_path / "page.html", speech, reference="original", metrics=["log_mel_l1", "stoi"])
    with browser(tmp_path) as chromium:
        chromium.open(tmp_path / "page.html", 1280, 900)
        for click_on, expected in (
            (2, ["clean", "noisy", "original"]),  # ascending; without a figure comes last
            (2, ["noisy", "clean", "original"]),
            (0, ["clean", "noisy", "original"]),
        ):
            chromium.run(f"document.querySelectorAll('#summary th button')[{click_on}].click()")
            assert chromium.run(ROWS) == expected
        errors, scores, names = (chromium.run(CHOOSE % number) for number in (1, 2, 0))
        assert errors == sorted(errors, reverse=True)
        assert scores == sorted(scores)
        assert names == [0, 1, 2]
        assert chromium.complaints == []

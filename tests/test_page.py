"""The listening page: every sound on it, exact and measured, whatever it is called; and a browser that opens it."""

import base64
import hashlib
import html.parser
import io
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from browser import browser
from matplotlib.image import imread

from wavediff.audio.finish import find_faults
from wavediff.cli.main import main
from wavediff.errors import AudioError, OutputError
from wavediff.report import page as page_module
from wavediff.report import write_page
from wavediff.report.page import spread
from wavediff.report.pictures import small_spectrogram

RATE = 8000
HOSTILE = "<img src=x onerror=alert(1)>.wav"
VOID = {"meta", "link", "img", "wbr"}


class Page(html.parser.HTMLParser):
    """What a page holds; an element that is not closed where it was opened fails the test."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.players: list[dict[str, str]] = []
        self.pictures: list[dict[str, str]] = []
        self.texts: dict[str, list[str]] = {}  # by element
        self._open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        assert not {name for name in attributes if name.startswith("on")}
        self.tags.append(tag)
        if tag == "audio":
            self.players.append(attributes)
        if tag == "img":
            self.pictures.append(attributes)
        if tag not in VOID:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data

    def decoded(self, number: int) -> tuple[np.ndarray, int]:
        """16-bit samples and sample rate of a player."""
        return soundfile.read(io.BytesIO(_data(self.players[number]["src"], "audio/wav")), dtype="int16")


def _data(url: str, mime: str) -> bytes:
    head, _, body = url.partition(",")
    assert head == f"data:{mime};base64"
    return base64.b64decode(body, validate=True)


def write_sound(path: Path, seed: int = 0, frames: int = 900, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).integers(-3000, 3000, frames, dtype=np.int16)
    with path.open("wb") as file:  # because soundfile cannot open every name
        soundfile.write(file, samples, rate, format="FLAC" if path.suffix == ".flac" else "WAV")
    return path


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Two classes of three sounds."""
    names = ("glass/0.wav", "glass/1.wav", "glass/2.wav", "wood/0.wav", "wood/1.flac", "wood/2.wav")
    for number, name in enumerate(names):
        write_sound(tmp_path / "sounds" / name, number, rate=RATE + number)
    return tmp_path / "sounds"


# What is on the page


def test_every_sound_has_a_player_that_gives_it_bit_for_bit_and_a_picture(sounds: Path, tmp_path: Path) -> None:
    contents = write_page(tmp_path / "page.html", sounds)
    page = Page(tmp_path / "page.html")
    paths = sorted(sounds.rglob("*.*"))
    assert contents.sounds == len(page.players) == len(page.pictures) == len(paths) == 6
    for number, path in enumerate(paths):
        samples, rate = soundfile.read(path, dtype="int16")
        decoded, decoded_rate = page.decoded(number)
        assert decoded_rate == rate
        np.testing.assert_array_equal(decoded, samples)
        assert float(page.players[number]["data-seconds"]) == pytest.approx(900 / rate, abs=1e-6)
        pixels = imread(io.BytesIO(_data(page.pictures[number]["src"], "image/webp")), format="webp")
        assert pixels.shape[:2] == (192, 480)
        assert path.name in page.pictures[number]["alt"]


def test_real_recordings_are_measured_and_played_as_they_are(data_root: Path, tmp_path: Path) -> None:
    folder = data_root / "sfx" / "glass"
    write_page(tmp_path / "page.html", folder, max_per_group=3)
    page = Page(tmp_path / "page.html")
    for number, path in enumerate(spread(sorted(folder.glob("*.flac")), 3)):
        samples, rate = soundfile.read(path, always_2d=True)
        mono = samples.mean(1)
        decoded, decoded_rate = page.decoded(number)
        assert decoded_rate == rate
        assert np.abs(decoded / 32768 - mono).max() <= 0.5 / 32768  # a mean of two channels is rounded
        figures = page.texts["dl"][number]
        assert f"{len(mono) / rate:.2f} s" in figures
        assert f"{20 * math.log10(np.abs(mono).max()):.1f} dBFS".replace("-", "−") in figures


def test_folders_are_groups_with_counts_and_an_index(sounds: Path, tmp_path: Path) -> None:
    for name in ("at the top.wav", "glass/deep/a.wav", ".hidden/a.wav", "glass/._0.wav"):
        write_sound(sounds / name)
    contents = write_page(tmp_path / "page.html", sounds, title="Week 3")
    page = Page(tmp_path / "page.html")
    assert contents.groups == 4
    groups = [("sounds", 1), ("glass", 3), ("glass/deep", 1), ("wood", 3)]
    assert [text.split(" sound")[0] for text in page.texts["h2"]] == [f"{name} {count}" for name, count in groups]
    assert [text.split(" ⚠")[0] for text in page.texts["li"] if " " in text][:4] == [f"{n} {c}" for n, c in groups]
    assert page.texts["h1"] == page.texts["title"] == ["Week 3"]
    assert len(re.findall(r'id="([^"]*)"', page.source)) == len(set(re.findall(r'id="([^"]*)"', page.source)))
    assert set(re.findall(r'href="#([^"]*)"', page.source)) <= set(re.findall(r'id="([^"]*)"', page.source))


def test_no_name_becomes_markup(tmp_path: Path) -> None:
    names = [HOSTILE, "a'b\"c&amp;<b>.wav", "two\nlines.wav", "\u202eevil.wav", os.fsdecode(b"\xff.wav")]
    for number, name in enumerate(names):
        write_sound(tmp_path / "in" / '"><b onclick=x>' / name, number)
    write_page(tmp_path / "page.html", tmp_path / "in", title="</title><script>alert(1)</script>")
    page = Page(tmp_path / "page.html")  # which refuses event handlers
    assert len(page.players) == len(page.pictures) == len(names)
    assert page.tags.count("script") == page.tags.count("title") == 1
    assert "b" not in page.tags
    shown = {text for text in page.texts["bdi"] if text.endswith(".wav")}
    assert shown == {HOSTILE, "a'b\"c&amp;<b>.wav", "two\ufffdlines.wav", "\u202eevil.wav", "\ufffd.wav"}
    assert page.texts["title"] == ["</title><script>alert(1)</script>"]


def test_nothing_is_loaded_and_only_its_own_script_may_run(sounds: Path, tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", sounds)
    page = Page(tmp_path / "page.html")
    assert not re.search(r"https?:|@import|url\(", page.source)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page.source)
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:;")
    for tag in ("style", "script"):
        (text,) = page.texts[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert 'name="viewport"' in page.source


def test_the_same_sounds_give_the_same_page(sounds: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_page(tmp_path / name, sounds)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_small_spectrogram_shows_a_tone_at_its_place_on_the_mel_scale() -> None:
    tone = 0.5 * torch.sin(2 * math.pi * 3000 * torch.arange(16000) / 16000)
    pixels = imread(io.BytesIO(small_spectrogram(tone, 16000)), format="webp")
    brightness = pixels[:, 240:, :3].sum(axis=(1, 2), dtype=np.int64)  # (192,), from the top
    place = math.log1p(3000 / 700) / math.log1p(8000 / 700)
    assert abs(brightness.argmax() - 192 * (1 - place)) < 3


# Faults


def _tone(frames: int = 1000) -> torch.Tensor:
    return 0.5 * torch.sin(2 * math.pi * torch.arange(frames) / 100)


def _with(place: slice, value: float) -> torch.Tensor:
    waveform = _tone()
    waveform[place] = value
    return waveform


@pytest.mark.parametrize(
    ("waveform", "faults"),
    [
        (_tone(), ()),
        (torch.zeros(1000), ("silent",)),
        (_tone() * 0.0019, ("silent",)),
        (_tone() * 0.0021, ()),
        (_with(slice(500, 502), 1.0), ()),  # touches full scale
        (_with(slice(500, 503), 1.0), ("clipping",)),
        (_with(slice(500, 503), -1.0), ("clipping",)),
        (_with(slice(500, 501), 1.01), ("clipping",)),
        (_tone() + 0.009, ()),
        (_tone() - 0.011, ("DC offset",)),
        (_with(slice(0, 1), 0.11), ("jump at the start",)),
        (_with(slice(-1, None), -0.11), ("jump at the end",)),
        (torch.ones(1), ("DC offset", "jump at the start", "jump at the end")),
    ],
)
def test_a_fault_is_found_where_it_is_and_nowhere_else(waveform: torch.Tensor, faults: tuple[str, ...]) -> None:
    assert find_faults(waveform) == faults


def test_a_fault_is_marked_on_the_sound_and_counted(sounds: Path, tmp_path: Path) -> None:
    soundfile.write(sounds / "glass" / "1.wav", (_tone() * 4).numpy(), RATE, subtype="FLOAT")
    soundfile.write(sounds / "wood" / "0.wav", np.zeros(1), RATE)
    with pytest.warns(UserWarning, match=r"samples reach 2|silent"):
        assert write_page(tmp_path / "page.html", sounds).faulty == 2
    page = Page(tmp_path / "page.html")
    assert ["⚠" in text for text in page.texts["li"][:2]] == [True, True]  # both groups, in the index
    marked = {number for number, text in enumerate(page.texts["figure"]) if "clipping" in text or "silent" in text}
    assert marked == {1, 3}
    assert "−∞ dBFS" in page.texts["figure"][3]
    assert "2 with faults" in page.texts["header"][0]
    assert page.decoded(1)[0].max() == 32767  # clipped, not wrapped around


# Choosing


def test_a_limit_takes_sounds_at_equal_distances_and_says_what_it_left_out(sounds: Path, tmp_path: Path) -> None:
    for number in range(10):
        write_sound(sounds / "metal" / f"{number}.wav", number)
    contents = write_page(tmp_path / "page.html", sounds, max_per_group=5)
    page = Page(tmp_path / "page.html")
    assert (contents.sounds, contents.left_out) == (11, 5)
    shown = [player["aria-label"] for player in page.players]
    assert shown[3:8] == [f"{number}.wav" for number in (0, 2, 4, 6, 8)]
    assert "5 sounds of 10" in page.texts["h2"][1]
    assert "3 sounds of" not in page.texts["h2"][0]


def test_a_reference_is_a_second_row_of_as_many_sounds(sounds: Path, tmp_path: Path) -> None:
    for number in range(9):
        write_sound(tmp_path / "real" / "glass" / f"real-{number}.wav", 100 + number)
        write_sound(tmp_path / "real" / "other" / f"{number}.wav", 200 + number)
    contents = write_page(tmp_path / "page.html", sounds, reference=tmp_path / "real")
    page = Page(tmp_path / "page.html")
    assert (contents.sounds, contents.references) == (6, 3)
    assert page.texts["h3"] == ["generated", "recorded"]  # wood has none beside it
    assert [player["aria-label"] for player in page.players[3:6]] == ["real-0.wav", "real-3.wav", "real-6.wav"]
    with pytest.raises(AudioError, match=r"has no group of .*glass, wood.*same names"):
        write_page(tmp_path / "2.html", sounds, reference=tmp_path / "real" / "other")


# The command, and what it refuses


def test_broken_files_are_skipped_named_and_counted(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sounds / "glass" / "1.wav").write_bytes(b"\x7fELF" + bytes(100))
    assert main(["report", str(sounds), "-o", str(tmp_path / "page.html"), "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert f"skipped: {sounds / 'glass' / '1.wav'}" in err
    page = Page(tmp_path / "page.html")
    assert len(page.players) == 5
    assert "1 broken file skipped" in page.texts["header"][0]


def test_the_command_says_what_it_wrote(sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["report", str(sounds), "-o", str(tmp_path / "page.html"), "--max-per-group", "2", "--title", "T"]
    assert main([*command, "--reference", str(sounds)]) == 0
    out, _ = capsys.readouterr()
    assert "4 sounds in 2 groups beside 4 recorded" in out
    assert "0 broken files skipped, 2 left out by --max-per-group" in out
    assert Page(tmp_path / "page.html").texts["h1"] == ["T"]


def test_nothing_is_overwritten_unasked_nor_written_in_vain(
    sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "page.html"
    output.write_text("mine")
    command = ["report", str(sounds), "-o", str(output), "--quiet"]
    assert main(command) == 2
    assert "already exists" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert main([*command, "--overwrite"]) == 0
    assert len(Page(output).players) == 6


def test_what_gives_no_page_is_refused_with_the_cure(
    sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "page.html"
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.wav").write_bytes(b"")
    for folder, reason in (
        ("nowhere", "is not a folder"),
        ("empty", "holds no sound"),
        ("broken", r"none of .*a\.wav"),
    ):
        with pytest.raises(AudioError, match=reason):
            write_page(output, tmp_path / folder)
    with pytest.raises(OutputError, match=r"name it \.html"):
        write_page(tmp_path / "page.wav", sounds)
    with pytest.raises(OutputError, match="choose 1 or more"):
        write_page(output, sounds, max_per_group=0)
    monkeypatch.setattr(page_module, "MAX_PAGE_BYTES", 20_000)
    with pytest.raises(OutputError, match=r"\d of 6 sounds fill the .* MB .*--max-per-group"):
        write_page(output, sounds)
    assert not output.exists()


# A browser

SHOWN = """Promise.all([...document.querySelectorAll("audio")].map(async (player) => {
  const loaded = new Promise((done) => player.addEventListener("loadedmetadata", done));
  player.load(); player.preload = "metadata";
  await loaded;
  return player.duration;
})).then((durations) => ({
  durations,
  pictures: [...document.images].map((image) => image.naturalWidth),
  width: document.documentElement.scrollWidth,
}))"""
CLICK = """(async () => {
  const player = document.querySelectorAll("audio")[%d];
  const sounds = new Promise((done, failed) => {
    player.addEventListener("playing", done);
    player.addEventListener("error", () => failed(player.error.message));
  });
  const box = player.closest(".sound").querySelector(".picture").getBoundingClientRect();
  const place = { bubbles: true, clientX: box.left + box.width * %f, clientY: box.top + 9 };
  document.elementFromPoint(place.clientX, place.clientY).dispatchEvent(new MouseEvent("click", place));
  await sounds;
  return player.currentTime / player.duration;
})()"""
PRESS = "document.querySelectorAll('button')[%d].click()"
PLAY_AND_JUMP_TWICE = """(() => {
  const button = document.querySelectorAll("button")[%d];
  button.click();
  for (let jump = 0; jump < 2; jump++) button.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
})()"""
PLAYING = "[...document.querySelectorAll('audio')].flatMap((player, number) => player.paused ? [] : [number])"


def test_a_browser_shows_every_sound_and_plays_one_at_a_time_from_where_it_is_clicked(tmp_path: Path) -> None:
    with browser(tmp_path) as chromium:
        # The last is long enough not to end by itself where the machine is busy.
        for number, seconds in enumerate((20, 1, 60)):
            write_sound(tmp_path / "in" / f"{number}.wav", number, frames=int(seconds * RATE))
        write_sound(tmp_path / "in" / f"3{HOSTILE}")
        write_page(tmp_path / "page.html", tmp_path / "in")
        chromium.open(tmp_path / "page.html", 390, 1000)
        assert chromium.run(CLICK % (0, 0.5)) == pytest.approx(0.5, abs=0.1)  # before anything was loaded
        assert chromium.run(CLICK % (1, 0.75)) >= 0.7  # in a FLAC file as short as this, Chromium fails to jump
        assert 0 not in chromium.run(PLAYING)
        chromium.run(PLAY_AND_JUMP_TWICE % 2)  # faster than anything loads
        assert chromium.run(PLAYING) == [2]
        assert 12 <= chromium.run("document.querySelectorAll('audio')[2].currentTime") < 60
        chromium.run(PRESS % 2)
        assert chromium.run(PLAYING) == []
        shown = chromium.run(SHOWN)
        assert shown["durations"] == [20, 1, 60, 900 / RATE]
        assert shown["pictures"] == [480] * 4
        assert shown["width"] == 390  # nothing to scroll sideways on a phone
        assert chromium.complaints == []

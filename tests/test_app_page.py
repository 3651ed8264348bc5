"""The web page in a browser: upload, run, compare, play, generate, and what it says when something is wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import AXE, Browser, browser
from services import served
from sounds import LABELS, small_generator

from wavediff.app.events import Studio
from wavediff.app.queue import Limits
from wavediff.app.service import make_app
from wavediff.models import WEIGHTS
from wavediff.pipelines.vocoder import Vocoder

DESKTOP, PHONE = (1280, 900), (390, 844)


class Page:
    """The open page."""

    def __init__(self, window: Browser, address: str) -> None:
        self.window, self.address = window, address

    def open(self, size: tuple[int, int], *, dark: bool = False) -> None:
        self.window.open(self.address, *size, dark=dark)
        self.wait("'ready' in document.documentElement.dataset")

    def run(self, script: str) -> Any:
        return self.window.run(script)

    def wait(self, condition: str) -> None:
        """For something that holds sooner or later, or this test would be killed with the browser."""
        looks = f"const timer = setInterval(() => {{ if ({condition}) {{ clearInterval(timer); done(true); }} }}, 20)"
        assert self.run(f"new Promise((done) => {{ {looks} }})")

    def choose(self, path: Path) -> None:
        """A file in the page's file dialog."""
        document = self.window.send("DOM.getDocument")["root"]["nodeId"]
        node = self.window.send("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
        self.window.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def text(self, name: str) -> str:
        return self.run(f"element({name!r}).textContent")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    limits = Limits(upload_bytes=1_000_000, audio_seconds=10)
    studio = Studio(Vocoder.from_pretrained(None, "cpu"), small_generator("unet"), limits)
    with served(make_app(studio)) as port, browser(tmp_path_factory.mktemp("browser")) as window:
        yield Page(window, f"http://127.0.0.1:{port}/")
        assert window.complaints == []


FINISHED = "running === null && element('status').hidden"


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_an_uploaded_recording_is_heard_seen_and_compared(page: Page, size: tuple[int, int]) -> None:
    page.open(size, dark=size == PHONE)
    assert page.run("element('vocode').disabled")
    page.choose(WEIGHTS / "clip.flac")
    page.wait(f"sides.after.src && {FINISHED}")
    assert page.text("file-name") == "clip.flac"
    assert "2 steps, 22,050 Hz" in page.text("speech-numbers")
    assert page.run("element('steps').max") == "3"  # more would change nothing
    assert page.run("element('dialect-label').hidden")
    names = page.run("[...document.querySelectorAll('#speech-film .strip button')].map((button) => button.textContent)")
    assert names == ["noise", "guess", "step 1", "step 2"]
    # Both sides play, and a switch goes on where the other was.
    page.wait("sides.before.duration > 4 && sides.after.duration > 4")
    page.run("document.querySelector('#compare .play').click()")
    page.wait("sides.after.currentTime > 0.2")
    page.run("radios.find((radio) => radio.dataset.side === 'before').click()")
    assert page.run("sides.after.paused && sides.before.currentTime > 0.2")
    page.wait("!sides.before.paused && sides.before.currentTime > 0.4")
    page.run("document.querySelector('#compare .play').click()")
    assert page.run("sides.before.paused")
    # Nothing is wider than the screen.
    assert page.run("document.documentElement.scrollWidth") == size[0]
    assert page.run("element('alert').hidden")


def test_each_step_can_be_looked_at(page: Page) -> None:
    page.open(DESKTOP)
    page.run("element('example').click()")
    page.wait(f"sides.after.src && {FINISHED}")
    shown = "document.querySelector('#speech-film > img').src"
    pictures = []
    for number in range(4):
        page.run(f"document.querySelectorAll('#speech-film .strip button')[{number}].click()")
        pictures.append(page.run(shown))
    assert len(set(pictures)) == 4
    page.run("element('steps').value = 1; element('vocode').click()")
    page.wait(f"document.querySelectorAll('#speech-film .strip button').length === 3 && {FINISHED}")


def test_a_mel_has_no_original(page: Page, tmp_path: Path) -> None:
    mel = np.random.default_rng(0).uniform(-9, 0, (80, 30)).astype(np.float32)
    mel[:, 20:] = 0  # padding, which would be noise
    np.save(tmp_path / "mel.npy", mel)
    page.open(DESKTOP)
    page.choose(tmp_path / "mel.npy")
    page.wait(f"sides.after.src && {FINISHED}")
    assert page.run("figures.before.hidden && !figures.after.hidden && heard === 'after'")
    assert page.run("!element('dialect-label').hidden && element('vocode').disabled === false")
    # What is wrong stands above the result.
    assert page.run("element('speech-notes').children.length") > 0
    assert page.run("element('speech-notes').getBoundingClientRect().bottom < compare.getBoundingClientRect().top")


def test_what_is_wrong_is_said(page: Page, tmp_path: Path) -> None:
    def said(path: Path) -> str:
        page.open(PHONE)
        page.choose(path)
        page.wait(f"!element('alert').hidden && {FINISHED}")
        page.run("element('alert-close').click()")
        assert page.run("element('alert').hidden")
        return page.text("alert-text")

    complaints = len(page.window.complaints)
    (tmp_path / "text.wav").write_text("hello")
    assert said(tmp_path / "text.wav").startswith("the file: is text, not audio")
    np.save(tmp_path / "mel.npy", np.zeros((20, 80), np.float32))
    assert "80" in said(tmp_path / "mel.npy")
    (tmp_path / "<b>big.wav").write_bytes(b"x" * 1_000_001)
    assert said(tmp_path / "<b>big.wav") == "<b>big.wav: has 1 MB, 1 MB are the most; cut it."
    (tmp_path / "what.m4a").write_bytes(b"x" * 1000)
    assert said(tmp_path / "what.m4a").startswith("what.m4a: neither this browser nor wavediff reads")
    refused = page.window.complaints[complaints:]
    assert all("422" in complaint for complaint in refused)  # the browser notes them; nothing else
    del page.window.complaints[complaints:]


def test_sounds_are_made_by_class_and_pile_up(page: Page) -> None:
    page.open(PHONE)
    page.run("element('tab-sounds').click()")
    chips = page.run("[...document.querySelectorAll('#labels span')].map((chip) => chip.textContent)")
    assert chips == ["any", *LABELS]
    for number, label in enumerate(("", LABELS[1]), 1):
        page.run(f"document.querySelector('#labels input[value=\"{label}\"]').click()")
        page.run(
            f"element('seconds').value = 0.3; element('sound-steps').value = 10; element('sound-seed').value = {number}"
        )
        page.run("element('generate').click()")
        page.wait(f"document.querySelectorAll('.card').length === {number} && {FINISHED}")
    assert page.run("document.querySelector('.card .save').download") == f"{LABELS[1]}-2.wav"
    page.run("element('count').value = 2; element('generate').click()")
    page.wait(f"document.querySelectorAll('.card').length === 4 && {FINISHED}")
    assert page.run("document.querySelector('.card .save').download") == f"{LABELS[1]}-3.wav"
    cards = "element('cards').getBoundingClientRect().top"
    assert page.run(f"{cards} < element('sounds-film').getBoundingClientRect().top")  # the result first
    assert page.run("document.querySelectorAll('#sounds-film .strip button').length") == 10
    for number, (name, origin) in enumerate((("Vary", "near seed 3"), ("New end", "near seed 3, anew from ")), 5):
        buttons = "[...document.querySelector('.card .changes').children]"
        page.run(f"{buttons}.find((one) => one.textContent === '{name}').click()")
        page.wait(f"document.querySelectorAll('.card').length === {number} && {FINISHED}")
        assert page.run("document.querySelector('.card small').textContent").startswith(origin)
    assert not page.run("element('save-all').hidden")
    page.run("element('count').value = 1; element('loop').click(); element('generate').click()")
    page.wait(f"(document.querySelectorAll('.card').length === 7 || !element('alert').hidden) && {FINISHED}")
    assert page.run("document.documentElement.scrollWidth") == PHONE[0]


def test_a_run_can_be_stopped_and_another_begun(page: Page) -> None:
    page.open(DESKTOP)
    page.run("element('steps').value = 3; element('example').click(); element('cancel').click()")
    page.wait(FINISHED)
    assert page.run("element('alert').hidden")
    page.run("element('steps').value = 1; element('vocode').click()")
    page.wait(f"sides.after.src && {FINISHED}")


def test_the_tabs_answer_to_the_arrow_keys(page: Page) -> None:
    page.open(DESKTOP)
    page.run("tabs[0].focus(); tabs[0].dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }))")
    assert page.run("document.activeElement.id") == "tab-sounds"
    assert page.run("element('speech').hidden && !element('sounds').hidden")


@pytest.mark.skipif(not AXE.exists(), reason=f"axe-core is absent ({AXE})")
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_has_no_fault_that_axe_finds(page: Page, dark: bool) -> None:
    page.open(DESKTOP, dark=dark)
    page.run("element('example').click()")
    page.wait(f"sides.after.src && {FINISHED}")
    for tab in ("tab-speech", "tab-sounds"):
        page.run(f"element({tab!r}).click()")
        assert page.window.axe() == []

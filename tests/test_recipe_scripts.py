"""Scripts of the recipes that measure: what they count and mix."""

import math
import runpy
import sys
from pathlib import Path

import pytest
import torch
from sounds import LABELS, RATE, small_generator
from torch import Tensor

from wavediff.audio import write_audio
from wavediff.cli.demo import CLIP
from wavediff.data.manifest import Utterance, write_manifest

RECIPES = Path(__file__).resolve().parent.parent / "recipes"


def test_the_files_that_decode_enters_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["files_entered.py"])
    runpy.run_path(str(RECIPES / "files_entered.py"), run_name="__main__")
    head, *files = capsys.readouterr().out.splitlines()
    assert int(head.removesuffix(" files")) == len(files)
    names = {line.split(":")[0] for line in files}
    assert {"pipelines/vocoder.py", "backbones/spectral.py", "mel/stft.py"} <= names
    assert not any(name.startswith(("training/", "cli/", "search/")) for name in names)
    assert sys.getprofile() is None


def test_the_files_that_vocoding_enters_are_as_many_as_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["vocode", str(CLIP), "-o", str(tmp_path / "out.wav"), "--quiet"]
    monkeypatch.setattr("sys.argv", ["files_entered.py", *words])
    runpy.run_path(str(RECIPES / "files_entered.py"), run_name="__main__")
    count = int(capsys.readouterr().out.split()[0])
    page = (RECIPES.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"with `vocode CLIP -o OUT` behind it, {count}\n" in page
    assert sys.getprofile() is None


def sine(frequency: float) -> Tensor:
    return 0.1 * torch.sin(2 * math.pi * frequency / 22050 * torch.arange(22050))


def power_at(signal: Tensor, frequency: float) -> float:
    """Of a frequency, over that of `sine`."""
    window = torch.hann_window(len(signal))
    return float((torch.fft.rfft(signal * window)[round(frequency)].abs() / (0.025 * len(signal))) ** 2)


def test_bands_of_the_recording_take_the_place_of_our_own() -> None:
    mixtures = runpy.run_path(str(RECIPES / "universal" / "bands.py"))["mixtures"]
    found = mixtures(sine(500) + sine(3000), sine(700) + 0.5 * sine(3100), 22050)

    def powers(name: str) -> list[float]:
        return [round(power_at(found[name], frequency), 2) for frequency in (500, 700, 3000, 3100)]

    assert powers("nothing") == pytest.approx([0, 1, 0, 0.25], abs=0.02)
    assert powers("everything") == pytest.approx([1, 0, 1, 0], abs=0.02)
    assert powers("0 to 1000 Hz") == pytest.approx([1, 0, 0, 0.25], abs=0.02)
    assert powers("2000 to 4000 Hz") == pytest.approx([0, 1, 1, 0], abs=0.02)
    low = powers("0 to 1000 Hz, magnitudes alone")  # where phase and frequency are another's, little of it adds up
    assert low[0] < 0.5
    assert low[2:] == pytest.approx([0, 0.25], abs=0.02)


def test_faults_of_sounds_are_told_from_what_is_usable() -> None:
    """Each of a sound that has it beside one that has not; `start` is of half a second, its frames of 20 ms."""
    usable = runpy.run_path(str(RECIPES / "sfx" / "usable.py"))
    start = torch.cat([torch.ones(1), torch.zeros(3999)]).repeat(2)
    hum = torch.sin(2 * math.pi * 440 * torch.arange(8000) / RATE)
    assert usable["onset"](start, RATE) == 0
    late = torch.cat([0.03 * hum[:200], hum])  # a fortieth of a second, 30.5 dB below
    assert usable["onset"](late, RATE) == pytest.approx(0.025, abs=0.001)
    assert usable["end_level"](hum, RATE) == pytest.approx(0, abs=0.2)
    faded = torch.cat([hum, 0.01 * hum[:320], torch.zeros(160)])
    assert usable["end_level"](faded, RATE) == pytest.approx(-40, abs=0.2)
    assert usable["end_level"](torch.cat([hum[:50], torch.zeros(330)]), RATE) < -60  # an attack in the first frame
    assert usable["loudness"](hum, RATE) == pytest.approx(-3, abs=0.1)
    assert usable["loudness"](hum[:400], RATE) == pytest.approx(-6, abs=0.2)  # half of a tenth of a second
    assert usable["spread"]([("a", 0.0), ("a", 2.0), ("b", 5.0), ("b", 5.0), ("c", 9.0)]) == pytest.approx(2**0.5 / 2)


def test_a_click_at_the_seam_of_a_loop_is_found() -> None:
    usable = runpy.run_path(str(RECIPES / "sfx" / "usable.py"))
    closed = torch.sin(2 * math.pi * 440 * torch.arange(8000) / RATE)
    assert usable["seam_bend"](closed, RATE) == pytest.approx(1, abs=0.02)  # as everywhere
    assert usable["seam_bend"](closed[:-5], RATE) > 2
    assert usable["seam_level"](closed, RATE) == pytest.approx(0, abs=0.2)
    dip = closed.clone()
    dip[:200] *= 0.1
    dip[-200:] *= 0.1
    assert usable["seam_level"](dip, RATE) == pytest.approx(-20, abs=0.5)
    dip[4000:4400] = 1e-3
    assert usable["level_range"](dip, RATE) > 40 > usable["level_range"](closed, RATE)


def test_the_span_of_a_filling_lies_in_the_middle_of_what_sounds() -> None:
    span_in = runpy.run_path(str(RECIPES / "sfx" / "usable.py"))["span_in"]
    hum = torch.sin(2 * math.pi * 440 * torch.arange(4000) / RATE)
    sound = torch.cat([torch.zeros(1000), hum, torch.zeros(3000)])
    first, last = span_in(sound, RATE)
    assert last - first == RATE // 5
    assert (first + last) // 2 == pytest.approx(3000, abs=20)
    first, last = span_in(sound[:3000], RATE)
    assert last - first == pytest.approx(0.4 * 2000, abs=10)
    gap = sound.clone()
    gap[2000:4000] = 0
    assert span_in(gap, RATE) is None
    assert span_in(hum[:1000], RATE) is None
    assert span_in(torch.zeros(9000), RATE) is None


def test_whether_a_generator_is_usable_is_counted_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_generator("latent").save(tmp_path / "model.safetensors")
    noise = 0.1 * torch.randn(4000, generator=torch.Generator().manual_seed(0))
    clips = []
    for number in range(2):
        write_audio(tmp_path / f"{number}.wav", noise * torch.linspace(1, 0.1, 4000), RATE)
        clips.append(Utterance(tmp_path / f"{number}.wav", 0.5, RATE, label=LABELS[0]))
    write_manifest(tmp_path / "clips.jsonl", clips)
    command = ["usable.py", str(tmp_path / "clips.jsonl"), "--checkpoint", str(tmp_path / "model.safetensors")]
    command += ["--num-steps", "2", "--sounds", "2", "--loops", "1", "--sustained", "2", "--label", "wood"]
    monkeypatch.setattr(sys, "argv", command)
    runpy.run_path(str(RECIPES / "sfx" / "usable.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert out.startswith("6 sounds, ")
    assert "| silent | 0 of 6 | 0 of 2 |" in out
    assert "3 loops of all classes tried: " in out
    assert "loops of wood: " in out
    assert "2 fillings: 0 change what lies outside the span, 0 exceed full scale" in out

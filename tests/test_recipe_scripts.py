"""Scripts of the recipes that measure: what they count and mix."""

import math
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

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

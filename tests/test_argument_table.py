"""Every public function, every argument, every kind of bad value: a result or an error that names the argument."""

import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_values import BAD, waveforms, wholes
from public_functions import MEL, RATE, SOUND, Function, functions, generator, vocoder

from wavediff import MelSpec, Vocoder, audio, mel, metrics
from wavediff.errors import AudioError, WavediffError

pytestmark = pytest.mark.filterwarnings("ignore")

# What an argument is called in messages, where that is not its own name.
ALIASES = {
    "mel_lens": "lengths",
    "mel_chunks": "mel",
    "num_inference_steps": "num_steps",
    "audio_length_in_s": "seconds",
    "names": "metrics",
    "mel_spec": "mel spec",
    "name": "mel spec",
    "own": "mel spec",
    "spec": "mel",
    "given": "mel spec",
    "wanted": "mel spec",
    "source": "mel spec",
    "target": "mel spec",
}
# Kinds that are another but for a few values.
LIKE = {"host's mel": "mel", "plain mel": "mel", "any mel": "mel", "table": "mel", "any waveform": "waveform"}
LIKE |= {"batch": "waveform", "waveform or seed": "waveform", "piece": "count", "start": "count", "span": "seconds"}
LIKE |= {
    "high rate": "rate",
    "its rate": "rate",
    "some counts": "count",
    "power": "seconds",
    "max_seconds": "seconds",
    "guidance": "seconds",
}
OTHER_OBJECTS = {"text": "vocoder", "number": 5, "list": [], "module": torch.nn.Linear(1, 1), "class": Vocoder}
FINITE = ("NaN", "infinite", "beyond float32", "one NaN", "array of NaN", "NaN list")


def bad_values(kind: str) -> dict[str, Any]:
    """Values that an argument of that kind must refuse."""
    name = kind.rstrip("?!")
    values = dict(OTHER_OBJECTS if name == "other object" else BAD[LIKE.get(name, name)])
    right = {
        "plain mel": (*FINITE, "four dimensions"),  # what goes through as NaN, or has any batch
        "any mel": ("no band count",),
        "table": ("no band count", "beyond float32"),
        "piece": ("huge",),
        "any waveform": ("four dimensions",),
        "batch": FINITE,
        "waveform or seed": ("number", "float"),
        "start": ("zero",),
        "span": ("zero",),
        "max_seconds": ("infinite", "long"),
        "guidance": ("zero", "None"),
        "power": ("zero",),
    }.get(name, ())
    if kind.endswith("?"):
        right = (*right, "None")
    if kind.endswith("!"):  # a file to write
        right = (*right, "missing")
    return {key: value for key, value in values.items() if key not in right}


def named(name: str, text: str) -> bool:
    """Whether a message is of the argument of that name."""
    return re.search(rf"(^|\W){re.escape(name)}\b[^:]{{0,40}}:|mel spec: {re.escape(name)}\b", text) is not None


def outcome(function: Function, argument: str, value: Any) -> str:
    """What is wrong with how a bad value is refused, or ""."""
    try:
        result = function.call(**function.good | {argument: value})
        if isinstance(result, Iterator):
            list(result)
    except WavediffError as error:
        text = str(error)
        names = {argument, ALIASES.get(argument, argument)}
        if function.kinds[argument] == "host's mel":
            names.add("mel")
        if "\n" in text:
            return f"more than one line: {text}"
        files = [part for part in (value, function.good.get("path")) if isinstance(part, str | Path)]
        if any(str(file) in text for file in files if str(file)):
            return ""
        return "" if any(named(name, text) for name in names) else f"does not name it: {text}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "is accepted"


def test_every_cell_of_the_table_is_an_error_that_names_the_argument(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    start, cells, wrong = time.perf_counter(), 0, []
    table = functions(tmp_path)
    for name, function in table.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = function.call(**function.good)  # or the cells say nothing
            if isinstance(result, Iterator):
                list(result)
            for argument, kind in function.kinds.items():
                for key, value in bad_values(kind).items():
                    cells += 1
                    if fault := outcome(function, argument, value):
                        wrong.append(f"{name}({argument}: {key}): {fault[:200]}")
    with capsys.disabled():
        print(f"\n{len(table)} functions, {cells} cells, {time.perf_counter() - start:.1f} s")
    assert not wrong, f"{len(wrong)} of {cells} cells:\n" + "\n".join(wrong)


def test_what_is_left_out_of_the_table_is_said(tmp_path: Path) -> None:
    calls = [function.call for function in functions(tmp_path).values()]
    public = {name: getattr(module, name) for module in (audio, mel, metrics) for name in module.__all__}
    left_out = {name for name, thing in public.items() if callable(thing) and thing not in calls}
    assert left_out == {
        *(
            "AudioInfo",
            "Advice",
            "Conversion",
            "Diagnosis",
            "MelInfo",
            "advise",
            "iter_files",
            "read_mel_pieces",
        ),  # results; a lambda; a place, which `iter_audio_files` makes of its argument
        *("GeneratedReport", "Matching", "Metric", "Summary", "summarise"),
        "evaluate_generated",  # folders of sounds of many classes
        *("distillmos", "dnsmos", "pesq", "stoi", "visqol"),  # the `eval` extra
    }


@pytest.mark.parametrize("form", waveforms())
def test_every_form_of_a_waveform_is_the_same_sound(form: str) -> None:
    given, wanted = waveforms()[form], SOUND
    torch.testing.assert_close(vocoder().mel(given, RATE), vocoder().mel(wanted, RATE), atol=1e-3, rtol=0)
    made = generator().vary(given, 8000, num_steps=1, seed=1)
    torch.testing.assert_close(made, generator().vary(wanted, 8000, num_steps=1, seed=1), atol=1e-3, rtol=0)
    one = audio.resample(given, RATE, 16_000).detach().float()
    torch.testing.assert_close(one, audio.resample(wanted, RATE, 16_000), atol=1e-5, rtol=0)
    assert metrics.evaluate_pair(given, wanted, RATE, ["mr_stft"])["mr_stft"] < 1e-4
    assert metrics.peak(given, wanted, RATE) == metrics.peak(wanted, wanted, RATE)


@pytest.mark.parametrize("form", waveforms())
def test_every_form_of_a_waveform_is_written(form: str, tmp_path: Path) -> None:
    audio.write_audio(tmp_path / "a.wav", waveforms()[form], RATE)
    torch.testing.assert_close(audio.read_audio(tmp_path / "a.wav")[0], SOUND, atol=2e-5, rtol=0)


@pytest.mark.parametrize("form", wholes(1))
def test_whole_numbers_of_every_library_are_taken(form: str, tmp_path: Path) -> None:
    v, g = vocoder(), generator()

    def number(value: int) -> Any:
        return wholes(value)[form]

    assert torch.equal(v.mel(SOUND, number(16_000)), v.mel(SOUND, 16_000))
    assert torch.equal(v.decode(MEL, number(2), seed=number(7)), v.decode(MEL, 2, seed=7))
    two = MEL.repeat(2, 1, 1)
    assert torch.equal(v.decode(two, 1, lengths=[number(3), 5]), v.decode(two, 1, lengths=[3, 5]))
    assert torch.equal(g.generate(number(2), 0.1, num_steps=1), g.generate(2, 0.1, num_steps=1))
    path = tmp_path / "a.wav"
    audio.write_audio(path, SOUND, number(16_000))
    assert audio.read_audio(path, number(8000), start=number(8), frames=number(80))[0].shape == (40,)
    assert MelSpec(n_mels=number(40)) == MelSpec(n_mels=40)
    assert type(MelSpec(n_mels=number(40)).n_mels) is int


@pytest.mark.parametrize("path", ["speech.wav", b"speech.wav", Path("speech.wav")])
def test_a_path_is_no_waveform(path: str | bytes | Path) -> None:
    with pytest.raises(AudioError, match=r"waveform: expected values, got the text .*speech.wav.*; .*read_audio"):
        audio.resample(path, 8000, 16_000)  # type: ignore[arg-type]

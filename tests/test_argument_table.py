"""Every public function, every argument, every kind of bad value: a result or an error that names the argument."""

import re
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from bad_values import BAD, waveforms, wholes
from sounds import small_generator
from torch import Tensor
from vocoders import untrained

from wavediff import Generator, MelSpec, Vocoder, audio, compat, mel, metrics
from wavediff.backbones import SpectralConfig
from wavediff.diffusion import CosineSchedule, PriorConfig
from wavediff.errors import AudioError, WavediffError
from wavediff.models.config import ModelConfig

pytestmark = pytest.mark.filterwarnings("ignore")
SPEC = MelSpec()
RATE, FRAMES = 22_050, 16
SOUND = waveforms()["float32"]
MEL = -6 + 2 * torch.rand(80, FRAMES, generator=torch.Generator().manual_seed(0))
PAIR = {"reference": "waveform", "synthesised": "waveform", "sample_rate": "rate"}
OF_A_PAIR = [
    getattr(metrics, name)
    for name in (
        "log_mel_l1",
        "mr_stft",
        "mcd",
        "f0_rmse",
        "voicing_error",
        "noise_floor",
        "dc_offset",
        "peak",
        "clipped",
    )
] + [metrics.high_band_voiced, metrics.high_band_unvoiced]


class Function(NamedTuple):
    """A public function.

    Attributes:
        call: it.
        good: arguments that it takes.
        kinds: argument -> kind of its bad values, a key of `BAD`; "?" after it where None is right.
    """

    call: Callable[..., Any]
    good: dict[str, Any]
    kinds: dict[str, str]


@cache
def vocoder() -> Vocoder:
    prior = PriorConfig(power=0.8, start_time=0.3, phase_iterations=1)
    return untrained(ModelConfig(SpectralConfig(8, 4, 1), CosineSchedule(), "v", prior, SPEC, RATE))


@cache
def generator() -> Generator:
    return small_generator("unet")


def of_vocoder(v: Vocoder) -> dict[str, Function]:
    sampling = {"num_steps": "steps", "schedule": "schedule", "sampler": "sampler"}
    decoding = sampling | {"seed": "seed", "mel_spec": "spec"}
    wave = {"waveform": SOUND, "sample_rate": RATE}
    return {
        "Vocoder.mel": Function(v.mel, wave, {"waveform": "waveform", "sample_rate": "rate"}),
        "Vocoder()": Function(v, wave | {"num_steps": 1}, {"waveform": "waveform", "sample_rate": "rate"} | decoding),
        "Vocoder.decode": Function(
            v.decode,
            {"mel": MEL[None].repeat(2, 1, 1), "num_steps": 1, "lengths": [3, 5]},
            {"lengths": "lengths"} | decoding,
        ),
        "Vocoder.decode of one": Function(v.decode, {"mel": MEL, "num_steps": 1}, {"mel": "mel"}),
        "Vocoder.stream": Function(v.stream, {"mel_chunks": [MEL], "num_steps": 1}, decoding),
        "a chunk": Function(lambda mel_chunks: v.stream([mel_chunks], 1), {"mel_chunks": MEL}, {"mel_chunks": "mel"}),
        "Vocoder.states": Function(v.states, {"mel": MEL, "num_steps": 1}, {"mel": "mel"} | decoding),
        "Vocoder.delay": Function(v.delay, {"num_steps": 1}, sampling),
        "Vocoder.plan": Function(v.plan, {"num_steps": 1}, sampling),
        "Vocoder.for_mels": Function(v.for_mels, {"mel_spec": "tacotron2"}, {"mel_spec": "spec"}),
        "Vocoder.to": Function(v.to, {"device": "cpu"}, {"device": "device"}),
        "Vocoder.from_pretrained": Function(
            Vocoder.from_pretrained, {"source": None, "device": "cpu"}, {"source": "path?", "device": "device"}
        ),
    }


def of_generator(g: Generator) -> dict[str, Function]:
    options = {"num_steps": "steps", "schedule": "schedule", "sampler": "sampler", "seed": "seed", "label": "label"}
    made = {"count": 1, "num_steps": 1}
    wave = {"waveform": SOUND[:900], "sample_rate": 8000} | made
    known = {"waveform": "waveform", "sample_rate": "rate", "count": "count"} | options
    ends = {"first": SOUND[:900], "second": -SOUND[:900], "sample_rate": 8000, "count": 2, "num_steps": 1}
    return {
        "Generator.generate": Function(
            g.generate,
            made | {"seconds": 0.1},
            {"count": "count", "seconds": "seconds", "guidance": "guidance"} | options,
        ),
        "Generator.states": Function(g.states, {"seconds": 0.1, "num_steps": 1}, {"seconds": "seconds"} | options),
        "Generator.vary": Function(g.vary, wave, known | {"strength": "share"}),
        "Generator.inpaint": Function(
            g.inpaint, wave | {"start": 0.02, "end": 0.05}, known | {"start": "span", "end": "span"}
        ),
        "Generator.interpolate": Function(
            g.interpolate,
            ends,
            {"first": "waveform or seed", "second": "waveform or seed", "sample_rate": "rate", "count": "count"}
            | {"strength": "share"}
            | options,
        ),
        "Generator.from_pretrained": Function(
            Generator.from_pretrained, {"source": None, "device": "cpu"}, {"source": "path?", "device": "device"}
        ),
    }


def of_audio(folder: Path) -> dict[str, Function]:
    path = folder / "sound.wav"
    audio.write_audio(path, SOUND, RATE)
    writing = {"path": folder / "new.wav", "waveform": SOUND, "sample_rate": RATE, "overwrite": True}

    def write(waveform: Any) -> None:
        with audio.AudioWriter(folder / "pieces.wav", RATE, overwrite=True) as writer:
            writer.write(waveform)

    return {
        "read_info": Function(audio.read_info, {"path": path}, {"path": "path"}),
        "read_audio": Function(
            audio.read_audio,
            {"path": path, "sample_rate": RATE},
            {
                "path": "path",
                "sample_rate": "rate?",
                "start": "start",
                "frames": "count?",
                "max_seconds": "max_seconds",
            },
        ),
        "iter_audio_files": Function(audio.iter_audio_files, {"root": folder}, {"root": "path"}),
        "write_audio": Function(
            audio.write_audio, writing, {"path": "path!", "waveform": "waveform", "sample_rate": "rate"}
        ),
        "AudioWriter": Function(
            audio.AudioWriter,
            {"path": folder / "new.wav", "sample_rate": RATE},
            {"path": "path!", "sample_rate": "rate", "channels": "count"},
        ),
        "AudioWriter.write": Function(write, {"waveform": SOUND}, {"waveform": "waveform"}),
        "resample": Function(
            audio.resample,
            {"waveform": SOUND, "from_rate": RATE, "to_rate": 16_000},
            {"waveform": "any waveform", "from_rate": "rate", "to_rate": "rate"},
        ),
        "with_peak": Function(audio.with_peak, {"waveform": SOUND}, {"waveform": "waveform"}),
        "trim": Function(
            audio.trim, {"waveform": SOUND, "sample_rate": RATE}, {"waveform": "waveform", "sample_rate": "rate"}
        ),
    }


def of_mel(folder: Path) -> dict[str, Function]:
    path = folder / "mel.safetensors"
    mel.write_mel(path, MEL, SPEC)
    two = {"mel": MEL, "given": SPEC, "wanted": "hifigan"}
    return {
        "check_mel": Function(mel.check_mel, {"mel": MEL, "spec": SPEC}, {"mel": "mel", "spec": "spec"}),
        "in_dialect": Function(mel.in_dialect, two, {"mel": "mel", "given": "spec", "wanted": "spec"}),
        "in_dialect_pieces": Function(
            mel.in_dialect_pieces,
            {"pieces": [MEL], "given": SPEC, "wanted": SPEC},
            {"given": "spec", "wanted": "spec"},
        ),
        "convert": Function(
            mel.convert,
            {"mel": MEL, "source": "hifigan", "target": "bigvgan-22k" if "bigvgan-22k" in mel.PRESETS else "hifigan"},
            {"mel": "plain mel", "source": "spec", "target": "spec"},
        ),
        "can_convert": Function(
            mel.can_convert, {"source": SPEC, "target": SPEC}, {"source": "spec", "target": "spec"}
        ),
        "diagnose": Function(mel.diagnose, {"mel": MEL}, {"mel": "any mel", "own": "spec"}),
        "likely_dialects": Function(mel.likely_dialects, {"mel": MEL}, {"mel": "any mel", "own": "spec"}),
        "pseudo_inverse": Function(
            mel.pseudo_inverse,
            {"mel": MEL[None], "spec": SPEC},
            {"mel": "plain mel", "spec": "spec", "iterations": "start"},
        ),
        "MelTransform": Function(mel.MelTransform, {"spec": SPEC}, {"spec": "spec"}),
        "MelTransform()": Function(mel.MelTransform(SPEC), {"waveform": SOUND[None]}, {"waveform": "batch"}),
        "FrameSTFT": Function(mel.FrameSTFT, {"spec": SPEC}, {"spec": "spec"}),
        "SpectralEnvelope": Function(
            mel.SpectralEnvelope,
            {"spec": SPEC},
            {"spec": "spec", "bands": "count", "frames": "count", "power": "power"},
        ),
        "MelSpec.preset": Function(MelSpec.preset, {"name": "hifigan"}, {"name": "spec"}),
        "MelSpec": Function(
            MelSpec, {}, {"sample_rate": "rate", "n_mels": "count", "hop_length": "count", "floor": "power"}
        ),
        "read_mel": Function(mel.read_mel, {"path": path}, {"path": "path"}),
        "read_mel_info": Function(mel.read_mel_info, {"path": path}, {"path": "path"}),
        "read_mel_pieces": Function(
            lambda **options: mel.read_mel_pieces(**options)[0],
            {"path": path, "frames": 4},
            {"path": "path", "frames": "piece"},
        ),
        "write_mel": Function(
            mel.write_mel,
            {"path": folder / "new.safetensors", "mel": MEL, "spec": SPEC, "overwrite": True},
            {"path": "path!", "mel": "mel", "spec": "spec"},
        ),
    }


def of_metrics() -> dict[str, Function]:
    pair = {"reference": SOUND, "synthesised": SOUND, "sample_rate": RATE}
    alone = {"synthesised": "waveform", "sample_rate": "rate"}
    each = {
        f"metrics.{function.__name__}": Function(
            function, pair, alone if function in (metrics.dc_offset, metrics.peak, metrics.clipped) else PAIR
        )
        for function in OF_A_PAIR
    }
    cheap = {"metrics": ["peak"]}
    return each | {
        "evaluate_pair": Function(metrics.evaluate_pair, pair | cheap, PAIR | {"metrics": "metrics"}),
        "evaluate_signal": Function(
            metrics.evaluate_signal,
            {"waveform": SOUND, "sample_rate": RATE} | cheap,
            {"waveform": "waveform", "sample_rate": "rate", "metrics": "metrics"},
        ),
        "pitch_track": Function(
            metrics.pitch_track,
            {"waveform": SOUND, "sample_rate": RATE},
            {"waveform": "waveform", "sample_rate": "rate"},
        ),
        "select_metrics": Function(metrics.select_metrics, {"names": ["peak"]}, {"names": "metrics"}),
        "frechet_distance": Function(metrics.frechet_distance, {"a": MEL, "b": MEL}, {"a": "table", "b": "table"}),
        "overlap": Function(metrics.overlap, {"a": MEL, "b": MEL}, {"a": "table", "b": "table"}),
        "kernel_distance": Function(metrics.kernel_distance, {"a": MEL, "b": MEL}, {"a": "table", "b": "table"}),
        "nearest_distances": Function(metrics.nearest_distances, {"a": MEL, "b": MEL}, {"a": "table"}),
        "pairwise_diversity": Function(metrics.pairwise_diversity, {"a": MEL}, {"a": "table"}),
    }


def of_compat(v: Vocoder, g: Generator) -> dict[str, Function]:
    options = {"vocoder": v, "mel_spec": SPEC, "num_steps": 1}
    making = {"mel_spec": "spec", "num_steps": "steps", "seed": "seed", "vocoder": "other object"}
    calls: dict[str, tuple[Callable[..., Any], str, Tensor]] = {
        "HiFiGANVocoder": (compat.HiFiGANVocoder(**options), "x", MEL),
        "CoquiVocoder": (compat.CoquiVocoder(**options), "x", MEL[None]),
        "ESPnetVocoder": (compat.ESPnetVocoder(**options), "feats", MEL.T),
        "NeMoVocoder": (compat.NeMoVocoder(**options), "spec", MEL[None]),
        "SpeechBrainVocoder": (compat.SpeechBrainVocoder(**options).decode_batch, "mel", MEL[None]),
        "SpeechBrainHiFiGAN": (compat.SpeechBrainHiFiGAN(**options).decode_batch, "spectrogram", MEL[None]),
        "TorchaudioVocoder": (compat.TorchaudioVocoder(**options), "specgrams", MEL[None]),
        "TransformersVocoder": (compat.TransformersVocoder(**options), "spectrogram", MEL.T),
        "VocosVocoder.decode": (compat.VocosVocoder(**options).decode, "features_input", MEL[None]),
        "DiffusersVocoder": (compat.DiffusersVocoder(**options), "mel", MEL[None]),
    }
    functions = {
        name: Function(call, {mel: values}, {mel: "host's mel"}) for name, (call, mel, values) in calls.items()
    }
    functions |= {
        "compat.HostVocoder": Function(compat.HiFiGANVocoder, options, making),
        "VocosVocoder.feature_extractor": Function(
            compat.VocosVocoder(**options).feature_extractor, {"audio": SOUND}, {"audio": "waveform"}
        ),
        "DiffusersGenerator": Function(
            compat.DiffusersGenerator, {"generator": g}, {"generator": "other object", "seed": "seed"}
        ),
        "DiffusersGenerator()": Function(
            compat.DiffusersGenerator(g),
            {"batch_size": 1, "num_inference_steps": 1, "audio_length_in_s": 0.1},
            {"batch_size": "count", "num_inference_steps": "steps", "audio_length_in_s": "seconds", "label": "label"}
            | {"generator": "other object"},
        ),
        "speechbrain lengths": Function(
            compat.SpeechBrainVocoder(**options).decode_batch,
            {"mel": MEL[None].repeat(2, 1, 1), "mel_lens": [3, 4]},
            {"mel_lens": "lengths"},
        ),
    }
    return functions


def functions(folder: Path) -> dict[str, Function]:
    v, g = vocoder(), generator()
    return of_vocoder(v) | of_generator(g) | of_audio(folder) | of_mel(folder) | of_metrics() | of_compat(v, g)


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
OTHER_OBJECTS = {"text": "vocoder", "number": 5, "list": [], "module": torch.nn.Linear(1, 1), "class": Vocoder}
FINITE = ("NaN", "infinite", "beyond float32", "one NaN", "array of NaN", "NaN list")


def bad_values(kind: str) -> dict[str, Any]:
    """Values that an argument of that kind must refuse."""
    name = kind.rstrip("?!")
    same = {"host's mel": "mel", "plain mel": "mel", "any mel": "mel", "table": "mel", "any waveform": "waveform"}
    same |= {"batch": "waveform", "waveform or seed": "waveform", "piece": "count", "start": "count", "span": "seconds"}
    same |= {"power": "seconds", "max_seconds": "seconds", "guidance": "seconds"}
    values = dict(OTHER_OBJECTS if name == "other object" else BAD[same.get(name, name)])
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
    """Whether a message is of the argument, or the file, of that name."""
    if "/" in name or "." in name:
        return name in text
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
        if isinstance(value, str | Path):
            names.add(str(value))
        if "\n" in text:
            return f"more than one line: {text}"
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
            "read_mel_pieces",
        ),  # results; a lambda
        *("GeneratedReport", "Matching", "Metric", "Summary", "summarise"),
        *(
            "check_files",
            "evaluate_file",
            "evaluate_files",
            "evaluate_generated",
            "find_recordings",
            "match_recordings",
        ),
        *("read_ids", "distillmos", "dnsmos", "pesq", "stoi", "visqol"),  # files of files; the `eval` extra
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

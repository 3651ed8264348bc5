"""The public functions, good arguments of each, and of what kind their bad values are."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bad_values import waveforms
from sounds import small_generator
from torch import Tensor
from vocoders import untrained

from wavediff import BandExtension, Generator, MelSpec, StreamPool, Vocoder, audio, compat, mel, metrics
from wavediff.backbones import SpectralConfig
from wavediff.diffusion import CosineSchedule, PriorConfig
from wavediff.models.checkpoint import load_checkpoint
from wavediff.models.config import ModelConfig

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
        "Vocoder.mel": Function(v.mel, wave, {"waveform": "waveform", "sample_rate": "rate", "mel_spec": "spec"}),
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
        "StreamPool": Function(StreamPool, {"vocoder": v, "num_steps": 1}, sampling | {"mel_spec": "spec"}),
        "StreamPool.open": Function(StreamPool(v, 1).open, {}, {"seed": "seed"}),
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
            {"first": "waveform or seed", "second": "waveform or seed", "sample_rate": "rate", "count": "some counts"}
            | {"strength": "share"}
            | options,
        ),
        "BandExtension()": Function(
            BandExtension.from_pretrained(device="cpu"),
            {"waveform": SOUND, "sample_rate": 22_050},
            {"waveform": "waveform", "sample_rate": "its rate"},
        ),
        "BandExtension.from_pretrained": Function(
            BandExtension.from_pretrained, {"source": None, "device": "cpu"}, {"source": "path?", "device": "device"}
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
        "centred": Function(
            audio.centred, {"waveform": SOUND, "sample_rate": RATE}, {"waveform": "waveform", "sample_rate": "rate"}
        ),
        "ended": Function(
            audio.ended, {"waveform": SOUND, "sample_rate": RATE}, {"waveform": "waveform", "sample_rate": "rate"}
        ),
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
        "checked_mel": Function(
            mel.checked_mel, {"mel": MEL, "given": None, "own": SPEC}, {"mel": "mel", "given": "spec", "own": "spec"}
        ),
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
            {"spec": "spec", "bands": "some counts", "frames": "some counts", "power": "power"},
        ),
        "MelSpec.preset": Function(MelSpec.preset, {"name": "hifigan"}, {"name": "spec"}),
        "MelSpec": Function(
            MelSpec,
            {"f_max": 2000.0},
            {"sample_rate": "rate", "n_mels": "count", "hop_length": "some counts", "floor": "power"},
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
            function,
            pair,
            (alone if function in (metrics.dc_offset, metrics.peak, metrics.clipped) else PAIR)
            | ({"sample_rate": "high rate"} if "high_band" in function.__name__ else {}),
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


def of_files(folder: Path, v: Vocoder) -> dict[str, Function]:
    path, model, ids = folder / "recording.wav", folder / "model.safetensors", folder / "ids.txt"
    audio.write_audio(path, SOUND, RATE)
    v.save(model)
    ids.write_text("recording\n", encoding="utf-8")
    two, cheap = {"reference": path, "synthesised": path}, {"metrics": ["peak"]}
    both = {"reference": "path", "synthesised": "path"}
    return {
        "Vocoder.save": Function(v.save, {"path": model, "overwrite": True}, {"path": "path!"}),
        "Vocoder.save_pretrained": Function(
            v.save_pretrained, {"folder": folder / "saved", "overwrite": True}, {"folder": "path!"}
        ),
        "load_checkpoint": Function(load_checkpoint, {"path": model}, {"path": "path"}),
        "evaluate_file": Function(metrics.evaluate_file, {"path": path} | cheap, {"path": "path"}),
        "evaluate_files": Function(metrics.evaluate_files, two | cheap, both),
        "check_files": Function(metrics.check_files, two, both),
        "match_recordings": Function(metrics.match_recordings, two, both),
        "find_recordings": Function(metrics.find_recordings, {"path": path}, {"path": "path"}),
        "read_ids": Function(metrics.read_ids, {"path": ids}, {"path": "path"}),
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
    of_disk = of_audio(folder) | of_mel(folder) | of_files(folder, v)
    return of_vocoder(v) | of_generator(g) | of_disk | of_metrics() | of_compat(v, g)

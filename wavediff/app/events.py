"""What the service computes, told in events: the sound before, each step, the sound after."""

import base64
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from wavediff.app.queue import Job, Limits, RequestError
from wavediff.audio import read_audio, read_info
from wavediff.audio.resampling import resample
from wavediff.errors import AudioError, MelError
from wavediff.mel import PRESETS, MelSpec, can_convert, checked_mel, read_mel, read_mel_info
from wavediff.models import WEIGHTS
from wavediff.pipelines.generator import DEFAULT_STRENGTH, Generator
from wavediff.pipelines.mels import Clipping
from wavediff.pipelines.sounds import DEFAULT_STEPS
from wavediff.pipelines.vocoder import Vocoder
from wavediff.report.clips import encode_sound
from wavediff.report.pictures import small_spectrogram

EXAMPLE = WEIGHTS / "clip.flac"
MAX_STEPS = 100
MAX_PICTURES = 10  # of the steps, at equal distances
_NPY, _FORMATS = b"\x93NUMPY", (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS")


class Studio:
    """The models, and what is done with them.

    Args:
        vocoder, generator: on their device.
        limits: of a client.
    """

    def __init__(self, vocoder: Vocoder, generator: Generator, limits: Limits) -> None:
        self.vocoder, self.generator, self.limits = vocoder, generator, limits

    def facts(self) -> dict[str, Any]:
        """What a page must know to offer choices."""
        vocoder, generator, limits = self.vocoder, self.generator, self.limits
        return {
            "vocoder": {
                "sample_rate": vocoder.sample_rate,
                "mel_spec": vocoder.mel_spec.name,
                "default_steps": vocoder.plan().evaluations,
                "most_steps": max((vocoder.plan(number).evaluations for number, _ in vocoder.config.plans), default=16),
            },
            "generator": {
                "sample_rate": generator.sample_rate,
                "labels": list(generator.labels),
                "default_seconds": generator.seconds,
                "default_steps": DEFAULT_STEPS,
            },
            "mel_specs": [name for name, spec in PRESETS.items() if can_convert(spec, vocoder.mel_spec).kind != "no"],
            "max_steps": MAX_STEPS,
            "max_seconds": limits.audio_seconds,
            "max_bytes": limits.upload_bytes,
        }

    def vocode(self, body: bytes | None, options: dict[str, Any]) -> Callable[[Job], None]:
        """Work that turns a recording or a mel, as the bytes of its file, into speech; None is the bundled clip.

        Args:
            body: of the file.
            options: num_steps (or None), seed, mel_spec (a preset's name, or None).
        """

        def work(job: Job) -> None:
            mel, facts = self._mel(job, body, options["mel_spec"])
            own = self.vocoder.mel_spec
            sampling = {"num_steps": options["num_steps"], "seed": options["seed"], "mel_spec": own}
            plan, rate = self.vocoder.plan(options["num_steps"]), self.vocoder.sample_rate
            names = _step_names(len(plan.times) - 1, guess=self.vocoder.denoiser.start_time < 1)
            # The speech is `decode`'s, bit for bit and in its time; the states, which hold all of the signal and round
            # otherwise, are computed for their pictures alone.
            start = time.perf_counter()
            speech = self.vocoder.decode(mel, on_step=lambda done, total: job.check(), **sampling)
            elapsed = time.perf_counter() - start
            if fault := Clipping(speech).fault:
                facts["notes"].append(fault)
            states = self.vocoder.states(mel, **sampling)
            shown = set(_shown(names))
            _show(job, (state for number, state in enumerate(states) if number in shown), names, rate)
            job.tell(_sound("after", speech, rate) | {"elapsed": elapsed, "evaluations": plan.evaluations} | facts)

        return work

    def generate(self, options: dict[str, Any]) -> Callable[[Job], None]:
        """Work that makes a sound.

        Args:
            options: label (or None), seconds, num_steps (or None), guidance (or None), seed; loop; vary, the seed of
                which this is a variation of that strength (or None); fill_from, where its end begins to be made anew
                [s] by fill_seed (or None).
        """
        changes = {name: options.pop(name) for name in ("loop", "vary", "strength", "fill_from", "fill_seed")}

        def work(job: Job) -> None:
            def on_step(done: int, total: int) -> None:
                job.tell({"event": "progress", "done": done, "of": total})

            rate, start = self.generator.sample_rate, time.perf_counter()
            steps = options["num_steps"] or DEFAULT_STEPS
            made = options | {"num_steps": steps, "on_step": on_step}
            if changes["loop"] or changes["vary"] is not None or changes["fill_from"] is not None:
                sound = self._changed(made, **changes)
            else:
                names = _step_names(steps, guess=False)
                sound = _show(job, self.generator.states(at=_shown(names), **made), names, rate)
            job.tell(_sound("after", sound, rate) | {"elapsed": time.perf_counter() - start, "evaluations": steps})

        return work

    def _changed(
        self,
        options: dict[str, Any],
        loop: bool,
        vary: int | None,
        strength: float | None,
        fill_from: float | None,
        fill_seed: int,
    ) -> Tensor:
        """A sound (N,) of which no steps are shown: a loop, a variation of a seed, or one whose end is made anew."""
        if vary is None:
            sound = self.generator.generate(loop=loop, **options)[0]
        else:
            strength = DEFAULT_STRENGTH if strength is None else strength
            sound = self.generator.vary(vary, None, strength, **options)[0]
        if fill_from is None:
            return sound
        options.pop("seconds")
        rate = self.generator.sample_rate
        return self.generator.inpaint(sound, rate, fill_from, len(sound) / rate, **options | {"seed": fill_seed})[0]

    def _mel(self, job: Job, body: bytes | None, mel_spec: str | None) -> tuple[Tensor, dict[str, Any]]:
        """(n_mels, frames) in the model's dialect, and what is to be said of it."""
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            path = EXAMPLE
            if body is not None:
                path = Path(folder) / f"upload{_suffix(body)}"
                path.write_bytes(body)
            try:
                mel = self._read_mel(path, mel_spec) if path.suffix in (".npy", ".safetensors") else None
                if mel is None:
                    mel = self._read_recording(job, path)
            except (AudioError, MelError) as error:
                # The client knows its file by another name than this machine does.
                raise type(error)(str(error).replace(str(path), "the file")) from error
            notes = [str(warning.message).replace(str(path), "the file") for warning in caught]
        return mel, {"notes": notes}

    def _read_recording(self, job: Job, path: Path) -> Tensor:
        self._check_seconds(read_info(path).seconds)
        waveform, rate = read_audio(path, max_seconds=self.limits.audio_seconds)
        # Both pictures reach as high, so that the same sound is at the same place in them.
        own = self.vocoder.sample_rate
        picture = _encoded(small_spectrogram(resample(waveform, rate, own), own))
        job.tell(_sound("before", waveform, rate) | {"picture": picture})
        return self.vocoder.mel(waveform, rate)[0]

    def _read_mel(self, path: Path, mel_spec: str | None) -> Tensor:
        own = self.vocoder.mel_spec
        info = read_mel_info(path)
        given = MelSpec.preset(mel_spec) if mel_spec is not None else info.spec
        self._check_seconds(info.frames * (given or own).hop_length / (given or own).sample_rate)
        return checked_mel(read_mel(path)[0], given, own, source=str(path))[0]

    def _check_seconds(self, seconds: float) -> None:
        most = self.limits.audio_seconds
        if seconds > most:
            raise RequestError(
                413, f"{seconds:.0f} s of sound, {most:g} s are the most here; use the command line for it"
            )


def _show(job: Job, states: Iterator[Tensor], names: list[str], rate: int) -> Tensor:
    """An event with a picture for each of the states, which are those of `_shown`; returns the last (N,)."""
    for number, state in zip(_shown(names), states, strict=True):
        job.check()
        signal = state[0].cpu()
        picture = _encoded(small_spectrogram(signal.clamp(-4, 4), rate))
        job.tell({"event": "step", "number": number, "of": len(names) - 1, "name": names[number], "picture": picture})
    return signal


def _shown(names: list[str]) -> list[int]:
    """Which of so many states are shown: the first, the last, and some between at equal distances."""
    last = len(names) - 1
    return sorted({round(number * last / (MAX_PICTURES - 1)) for number in range(MAX_PICTURES)})


def _step_names(steps: int, *, guess: bool) -> list[str]:
    start = ["noise", "guess"] if guess else ["noise"]
    return [*start, *(f"step {number}" for number in range(1, steps + 1))]


def _sound(event: str, waveform: Tensor, rate: int) -> dict[str, Any]:
    waveform = waveform.cpu()
    return {
        "event": event,
        "seconds": len(waveform) / rate,
        "sample_rate": rate,
        "audio": _encoded(encode_sound(waveform, rate)),
        "picture": _encoded(small_spectrogram(waveform, rate)),
    }


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _suffix(body: bytes) -> str:
    """By what is in it: the client's name for it is not looked at."""
    if body.startswith(_NPY):
        return ".npy"
    if body[8:12].lstrip().startswith(b"{") and not body.startswith(_FORMATS):
        return ".safetensors"
    return ""  # `audio` tells its formats apart

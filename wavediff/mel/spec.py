"""MelSpec: every constant that decides what the numbers of a mel spectrogram mean, and the presets.

Two projects' "80-band log-mels" differ in framing, floor, logarithm or band edges, and a vocoder fed the
wrong ones gives noise without an error. So a dialect is a value here: compared, stored, and checked.
"""

import typing
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from wavediff.arguments import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, is_real, shown, whole
from wavediff.errors import AudioError, ConfigError, did_you_mean

# Inclusive bounds: wide enough for any real dialect, narrow enough that no stored value can exhaust memory.
_INTEGER_BOUNDS = {
    "sample_rate": (MIN_SAMPLE_RATE, MAX_SAMPLE_RATE),
    "n_fft": (16, 65_536),
    "win_length": (4, 65_536),
    "hop_length": (1, 65_536),
    "n_mels": (1, 1_024),
}
_REAL_BOUNDS = {
    "magnitude_eps": (0.0, 1e-2),
    "f_min": (0.0, 192_000.0),
    "f_max": (1.0, 192_000.0),
    "floor": (1e-30, 1.0),
    "scale": (1e-6, 1e6),
    "offset": (-1e6, 1e6),
}
_VALUE_BOUND = 1e6  # of clip, mean and std


@dataclass(frozen=True)
class MelSpec:
    """One mel dialect; the default is HiFi-GAN's at 22.05 kHz.

    A mel is computed in the order of the fields: frame and window the waveform, take the magnitude
    `sqrt(re^2 + im^2 + magnitude_eps)`, divide it by `sqrt(sum(window^2))` if `stft_normalized`, sum it into bands,
    apply the floor, take the logarithm, `scale * x + offset`, clip, `(x - mean) / std`.

    Attributes:
        sample_rate: Of the waveform [Hz].
        n_fft: FFT length, even [samples].
        win_length: Window length, centred in the FFT [samples].
        hop_length: Between frames [samples].
        framing: "center": frame t is centred on sample t * hop_length, N // hop_length + 1 frames;
            "same": on the middle of its hop, t * hop_length + hop_length / 2, N // hop_length frames.
        pad_mode: What lies beyond the ends: their reflection, or zeros ("constant").
        window: "hann" (periodic) or "hann-symmetric".
        magnitude_eps: Added to the power before the root.
        stft_normalized: Whether magnitudes are divided by the window's norm.
        n_mels: Bands.
        f_min: Lower edge of the lowest band [Hz].
        f_max: Upper edge of the highest band [Hz].
        mel_scale: "slaney" or "htk".
        mel_norm: "slaney" (triangles of equal area) or "none" (of equal height).
        floor: Smallest band magnitude that is told apart.
        floor_mode: "clamp" to the floor, or "add" it.
        log: "ln", "log10" or "db" (20 log10).
        scale: Multiplies the logarithm.
        offset: Added after that.
        clip: (lowest, highest) value kept, or None.
        mean: Per band, subtracted last, or None.
        std: Per band, divided by last, or None.

    Raises:
        ConfigError: A field of the wrong type or out of its bounds, named in the message.
    """

    sample_rate: int = 22050
    n_fft: int = 1024
    win_length: int = 1024
    hop_length: int = 256
    framing: Literal["center", "same"] = "same"
    pad_mode: Literal["reflect", "constant"] = "reflect"
    window: Literal["hann", "hann-symmetric"] = "hann"
    magnitude_eps: float = 1e-9
    stft_normalized: bool = False
    n_mels: int = 80
    f_min: float = 0.0
    f_max: float = 8000.0
    mel_scale: Literal["slaney", "htk"] = "slaney"
    mel_norm: Literal["slaney", "none"] = "slaney"
    floor: float = 1e-5
    floor_mode: Literal["clamp", "add"] = "clamp"
    log: Literal["ln", "log10", "db"] = "ln"
    scale: float = 1.0
    offset: float = 0.0
    clip: tuple[float, float] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _INTEGER_BOUNDS.items():
            value = whole(getattr(self, name), f"mel spec: {name}", lowest, highest, ConfigError)
            object.__setattr__(self, name, value)
        for name, (least, most) in _REAL_BOUNDS.items():
            value = getattr(self, name)
            if not is_real(value) or not least <= value <= most:
                raise _out_of_bounds(name, value, f"a number from {least:g} to {most:g}")
            object.__setattr__(self, name, float(value))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise _out_of_bounds(name, getattr(self, name), f"one of {', '.join(choices)}")
        if type(self.stft_normalized) is not bool:
            raise _out_of_bounds("stft_normalized", self.stft_normalized, "true or false")
        for name, length in (("clip", 2), ("mean", self.n_mels), ("std", self.n_mels)):
            self._check_vector(name, length)
        self._check_together()

    def _check_vector(self, name: str, length: int) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if not isinstance(value, tuple | list) or len(value) != length:
            raise _out_of_bounds(name, value, f"null or {length} numbers")
        if not all(is_real(item) and abs(item) <= _VALUE_BOUND for item in value):
            raise _out_of_bounds(name, value, f"{length} numbers within +-{_VALUE_BOUND:g}")
        object.__setattr__(self, name, tuple(float(item) for item in value))

    def _check_together(self) -> None:
        if self.n_fft % 2:
            raise _out_of_bounds("n_fft", self.n_fft, "even")
        for name in ("win_length", "hop_length"):
            if getattr(self, name) > self.n_fft:
                raise _out_of_bounds(name, getattr(self, name), f"at most n_fft, {self.n_fft}")
        if self.framing == "same" and (self.n_fft - self.hop_length) % 2:
            raise _out_of_bounds("hop_length", self.hop_length, "even with framing 'same' (or use framing 'center')")
        if not self.f_min < self.f_max <= self.sample_rate / 2:
            raise _out_of_bounds("f_max", self.f_max, f"above f_min, {self.f_min:g}, and at most half the sample_rate")
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise _out_of_bounds("clip", self.clip, "(lowest, highest)")
        if (self.mean is None) != (self.std is None):
            raise ConfigError("mel spec: mean and std go together; give both or neither")
        if self.std is not None and min(self.std) < 1e-6:
            raise _out_of_bounds("std", min(self.std), "positive in every band")

    @classmethod
    def preset(cls, name: str) -> "MelSpec":
        """The dialect of that name.

        >>> spec = MelSpec.preset("vocos-24k")
        >>> spec.sample_rate, spec.hop_length, spec.n_mels
        (24000, 256, 100)
        >>> replace(spec, f_max=8_000.0).name
        'custom'

        Raises:
            ConfigError: There is none; the message lists them.
        """
        if not isinstance(name, str) or name not in PRESETS:
            meant = did_you_mean(str(name), PRESETS)
            raise ConfigError(f"mel spec: no preset is named {shown(name)}{meant}; there are {', '.join(PRESETS)}")
        return PRESETS[name]

    @property
    def name(self) -> str:
        """The preset's name, or "custom"."""
        return next((name for name, spec in PRESETS.items() if spec == self), "custom")

    @property
    def padding(self) -> int:
        """Samples put before and after the waveform."""
        return self.n_fft // 2 if self.framing == "center" else (self.n_fft - self.hop_length) // 2

    @property
    def min_samples(self) -> int:
        """The shortest waveform that gives a mel: a reflection needs more samples than it adds."""
        shortest = self.padding + 1 if self.pad_mode == "reflect" else 1
        return shortest if self.framing == "center" else max(shortest, self.hop_length)

    def frames(self, num_samples: int) -> int:
        """How many frames `num_samples` samples give.

        Raises:
            AudioError: Fewer than `min_samples`.
        """
        if num_samples < self.min_samples:
            raise AudioError(
                f"waveform: {num_samples} samples are too short for a {self.name} mel, which needs at least "
                f"{self.min_samples}; pad it with zeros"
            )
        return num_samples // self.hop_length + (self.framing == "center")

    def describe(self) -> str:
        """The dialect in one line."""
        clip = f", clipped to {self.clip[0]:g}..{self.clip[1]:g}" if self.clip else ""
        statistics = ", mean-variance normalised" if self.mean else ""
        return (
            f"{self.name}: {self.sample_rate} Hz, FFT {self.n_fft}, window {self.win_length}, hop {self.hop_length}, "
            f"framing {self.framing}, {self.n_mels} {self.mel_scale} bands {self.f_min:g}-{self.f_max:g} Hz, "
            f"norm {self.mel_norm}, {self.log}, floor {self.floor:g}{clip}{statistics}"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON literals, one per field."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "MelSpec":
        """The inverse of `to_dict`. Every field must be there: a constant left out would be guessed.

        What was written before a field of `_LATER_FIELDS` existed lacks it, and means its default.

        Raises:
            ConfigError: Not a mapping, unknown or missing keys, or a value out of its bounds.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"mel spec: expected a mapping of its fields, got {type(values).__name__}")
        known = {field.name for field in fields(cls)}
        if unknown := [str(key)[:40] for key in values if key not in known]:
            raise ConfigError(f"mel spec: unknown {', '.join(unknown[:5])}; known are {', '.join(sorted(known))}")
        if missing := sorted(known - values.keys() - _LATER_FIELDS):
            raise ConfigError(f"mel spec: missing {', '.join(missing)}; give every field")
        return cls(**values)


# What mels and models written before there were these lack; they mean the defaults, which change no mel.
_LATER_FIELDS: frozenset[str] = frozenset()

_CHOICES = {
    name: typing.get_args(hint)
    for name, hint in typing.get_type_hints(MelSpec).items()
    if typing.get_origin(hint) is Literal
}


def _out_of_bounds(name: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"mel spec: {name} is {shown(value)}, it must be {allowed}")


_TACOTRON2 = MelSpec(framing="center", magnitude_eps=0.0)
_ESPNET = replace(_TACOTRON2, f_min=80.0, f_max=7600.0, log="log10", floor=1e-10)
_HTK = replace(_TACOTRON2, mel_scale="htk", mel_norm="none")
_COSYVOICE2 = MelSpec(sample_rate=24000, n_fft=1920, win_length=1920, hop_length=480)
_VOCOS = replace(_HTK, sample_rate=24000, n_mels=100, f_max=12000.0, floor=1e-7)

PRESETS: dict[str, MelSpec] = {
    "hifigan": MelSpec(),  # HiFi-GAN, BigVGAN-v2 22 kHz with f_max 8000, Matcha-TTS, PriorGrad
    "tacotron2": _TACOTRON2,  # NVIDIA Tacotron 2 and WaveGlow, torchaudio TACOTRON2_GRIFFINLIM_*, SpeechBrain
    # torchaudio TACOTRON2_WAVERNN_*
    "torchaudio-wavernn": replace(_TACOTRON2, n_fft=2048, win_length=1100, hop_length=275, f_min=40.0, f_max=11025.0),
    "coqui": replace(_TACOTRON2, floor=1e-8),  # Coqui's LJSpeech recipes
    # Coqui BaseAudioConfig: S = dB - 20, then 8 (S + 100) / 100 - 4, clipped
    "coqui-default": replace(_TACOTRON2, f_max=11025.0, floor=1e-8, log="db", scale=0.08, offset=2.4, clip=(-4.0, 4.0)),
    # lmnt-com/diffwave: S = dB - 20, then (S + 100) / 100, clipped
    "lmnt-diffwave": replace(
        _HTK, stft_normalized=True, f_min=20.0, f_max=11025.0, log="db", scale=0.01, offset=0.8, clip=(0.0, 1.0)
    ),
    # ParallelWaveGAN's and ESPnet's LJSpeech recipes, before their mean-variance normalisation: the statistics
    # belong to a trained model. (ESPnet also clamps each power at 1e-10, which only digital silence can tell.)
    "espnet": _ESPNET,
    # ParallelWaveGAN's 24 kHz recipes: VCTK, LibriTTS, JSUT
    "parallel-wavegan-24k": replace(_ESPNET, sample_rate=24000, n_fft=2048, win_length=1200, hop_length=300),
    "speecht5": replace(_ESPNET, sample_rate=16000),  # Hugging Face SpeechT5
    "vocos-24k": _VOCOS,  # charactr/vocos-mel-24khz
    "f5-tts": replace(_VOCOS, floor=1e-5),  # F5-TTS, E2-TTS
    "bigvgan-24k": MelSpec(sample_rate=24000, n_mels=100, f_max=12000.0),  # BigVGAN 24 kHz, 100 bands
    "nemo-hifigan": MelSpec(pad_mode="constant", window="hann-symmetric", magnitude_eps=0.0),  # NVIDIA NeMo HiFi-GAN
    "cosyvoice2": _COSYVOICE2,  # CosyVoice 2, Chatterbox
    "cosyvoice3": replace(_COSYVOICE2, f_max=12000.0),  # CosyVoice 3
}

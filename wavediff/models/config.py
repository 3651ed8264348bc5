"""From a configuration to a model: the one registry of concrete classes.

A configuration is plain data, so that loading one executes nothing and names no class or path.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from wavediff.arguments import check_bounds, chosen
from wavediff.backbones import (
    AdapterConfig,
    BackboneConfig,
    CodecConfig,
    DiffWave,
    DiffWaveConfig,
    InversionConfig,
    LinearCodec,
    LinearCodecConfig,
    MelAdapter,
    MelCodec,
    MelInversion,
    SpectralConfig,
    SpectralNet,
    UNet,
    UNetConfig,
)
from wavediff.diffusion.discrete import DiscreteSchedule
from wavediff.diffusion.plan import Plan
from wavediff.diffusion.priors import PriorConfig, make_prior
from wavediff.diffusion.schedules import PREDICTIONS, CosineSchedule, FlowSchedule, Prediction, Schedule
from wavediff.errors import ConfigError
from wavediff.mel import FrameSTFT, MelSpec
from wavediff.mel.stft import core_spec
from wavediff.models.denoiser import Denoiser
from wavediff.models.file import build, check_keys, completed, is_number
from wavediff.models.literals import classes_of, kind_of, plans_from, tagged, untagged

MAX_LABELS = 10_000
MAX_LENGTH = 1 << 30


@dataclass(frozen=True)
class ModelConfig:
    """Everything that makes a model besides its weights.

    Attributes:
        backbone: shape of the network; its type says which network.
        schedule: of the process.
        prediction: what the network returns: "eps", "x0", "v" or "velocity".
        prior: what the noise looks like, and what sampling starts from.
        mel: dialect of the condition, None for a model without mel.
        sample_rate: of the audio, in Hz; the mel's where there is one.
        labels: class names of a class-conditional model, in the order of their indices, those of two levels with a
            slash ("laser/retro"); none for other models.
        codec: compresses the mels of a vocoder, which thereby is an autoencoder; None for a plain vocoder.
        pretransform: the autoencoder in whose latents the model works; None for a model of waveforms.
        default_length: of sounds of a model without mel [samples], that of its training segments; 0 if not known.
        inversion: shape of the network that improves the pseudo-inverse of a mel; None for none.
        adapters: networks that make mels of frames that the vocoder was trained on, of the mels of other dialects.
        n_fft: FFT length of the frames in which a network at frame rate works; 0 for that of the mel.
        plans: the best ways to sample that a search has found, by the number of network evaluations.
    """

    backbone: BackboneConfig = field(default_factory=DiffWaveConfig)
    schedule: Schedule = field(default_factory=DiscreteSchedule)
    prediction: Prediction = "eps"
    prior: PriorConfig = field(default_factory=PriorConfig)
    mel: MelSpec | None = None
    sample_rate: int = 22050
    labels: tuple[str, ...] = ()
    codec: CodecConfig | LinearCodecConfig | None = None
    pretransform: "ModelConfig | None" = None
    default_length: int = 0
    inversion: InversionConfig | None = None
    adapters: tuple[AdapterConfig, ...] = ()
    n_fft: int = 0
    plans: tuple[tuple[int, Plan], ...] = ()

    def __post_init__(self) -> None:
        check_bounds(self, "config", sample_rate=(4_000, 384_000), default_length=(0, MAX_LENGTH), n_fft=(0, 1 << 16))
        chosen(self.prediction, "prediction", PREDICTIONS, ConfigError)
        if self.prediction == "eps" and self.schedule.trained_steps is None and self.prior.start_time == 1:
            raise ConfigError(
                "prediction: at t = 1 this schedule leaves no signal, so noise says nothing about it; choose v, x0 or "
                "velocity"
            )
        if len({number for number, _ in self.plans}) != len(self.plans):
            raise ConfigError("plans: two are for the same number of evaluations; keep one of them")
        for number, plan in self.plans:
            if not is_number(number, int) or plan.evaluations > number:
                raise ConfigError(f"plans: one for {number!r} evaluations takes {plan.evaluations}")
        if self.mel is not None and self.mel.sample_rate != self.sample_rate:
            raise ConfigError(
                f"sample_rate: {self.sample_rate} Hz differs from the mel's {self.mel.sample_rate} Hz; make them equal"
            )
        if len(set(self.labels)) != len(self.labels) or len(self.labels) > MAX_LABELS:
            raise ConfigError(f"labels: {len(self.labels)} names must be distinct and at most {MAX_LABELS}")
        if 0 < self.n_fft < 16 or self.n_fft % 2:
            raise ConfigError(f"n_fft: {self.n_fft!r} is neither 0 nor an even number from 16 to 65536")
        if self.codec is not None and self.mel is None:
            raise ConfigError("codec: compresses mels, and this model has none; give mel")
        for name in ("inversion", "adapters"):
            if getattr(self, name) and self.prior.power == 0:
                raise ConfigError(f"{name}: improves what a shaped prior reads off a mel; set prior.power above 0")
        if self.pretransform is not None:
            self._check_pretransform(self.pretransform)

    def _check_pretransform(self, pretransform: "ModelConfig") -> None:
        if pretransform.codec is None or self.mel is not None or self.codec is not None:
            raise ConfigError("pretransform: must be a vocoder with a codec, before a model without mel and codec")
        if pretransform.sample_rate != self.sample_rate:
            raise ConfigError(
                f"sample_rate: {self.sample_rate} Hz differs from the pretransform's {pretransform.sample_rate} Hz; "
                "make them equal"
            )

    def of_dialect(self, spec: MelSpec) -> "ModelConfig":
        """The same model for mels of another dialect, its network in frames as long as now.

        Raises:
            ConfigError: it has no mel; and what a configuration raises.
        """
        if self.mel is None:
            raise ConfigError("config.mel: this model takes no mel")
        n_fft = self.n_fft or self.mel.n_fft
        reach = self.prior.reach or 2 * self.mel.f_max / self.sample_rate  # the mel that it was trained on
        prior = dataclasses.replace(self.prior, reach=reach if self.prior.power else 0.0)
        n_fft = 0 if n_fft == spec.n_fft else n_fft
        return dataclasses.replace(self, mel=spec, sample_rate=spec.sample_rate, prior=prior, n_fft=n_fft)

    @property
    def adapter(self) -> int | None:
        """Which of the adapters takes the mels of this model; None for none."""
        mel = self.mel
        return next((i for i, adapter in enumerate(self.adapters) if mel is not None and adapter.takes(mel)), None)

    @property
    def inner(self) -> "ModelConfig":
        """The same model of the mels that prior and network see: those that its adapter makes."""
        if self.mel is None or self.adapter is None:
            return self
        mel, n_fft = self.adapters[self.adapter].inner, self.n_fft or self.mel.n_fft
        n_fft = 0 if n_fft == mel.n_fft else n_fft
        return dataclasses.replace(self, mel=mel, sample_rate=mel.sample_rate, n_fft=n_fft, adapters=())

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Class -> its labels: its kinds ("laser/retro", ...), or itself."""
        classes: dict[str, tuple[str, ...]] = {}
        for label in self.labels:
            owner, _, kind = label.partition("/")
            name = owner if owner and kind else label
            classes[name] = (*classes.get(name, ()), label)
        return classes

    @property
    def signal_channels(self) -> int:
        """Values of a frame of the signal that is diffused: 1 for waveforms, the channels of latents."""
        codec = None if self.pretransform is None else self.pretransform.codec
        return 1 if codec is None else codec.latent_channels

    def to_dict(self) -> dict[str, Any]:
        """JSON literals; `from_dict` reads them back."""
        return {
            "backbone": tagged(self.backbone, classes_of(BACKBONES)),
            "schedule": tagged(self.schedule, SCHEDULES),
            "prediction": self.prediction,
            "prior": dataclasses.asdict(self.prior),
            "mel": None if self.mel is None else self.mel.to_dict(),
            "sample_rate": self.sample_rate,
            "labels": list(self.labels),
            "codec": None if self.codec is None else tagged(self.codec, classes_of(CODECS)),
            "pretransform": None if self.pretransform is None else self.pretransform.to_dict(),
            "default_length": self.default_length,
            "inversion": None if self.inversion is None else dataclasses.asdict(self.inversion),
            "adapters": [
                dataclasses.asdict(adapter) | {"mel": adapter.mel.to_dict(), "inner": adapter.inner.to_dict()}
                for adapter in self.adapters
            ],
            "n_fft": self.n_fft,
            "plans": [{"evaluations": n, "sampler": plan.sampler, "times": list(plan.times)} for n, plan in self.plans],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ModelConfig":
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: a key is unknown, missing, or its value out of bounds.
        """
        data = completed(cls, data)
        check_keys("config", data, {f.name for f in dataclasses.fields(cls)})
        labels, pretransform = data["labels"], data["pretransform"]
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ConfigError("labels: is not a list of names")
        return cls(
            backbone=untagged("backbone", data["backbone"], classes_of(BACKBONES)),
            schedule=untagged("schedule", data["schedule"], SCHEDULES),
            prediction=data["prediction"],
            prior=build("prior", PriorConfig, data["prior"]),
            mel=None if data["mel"] is None else MelSpec.from_dict(data["mel"]),
            sample_rate=data["sample_rate"],
            labels=tuple(labels),
            codec=None if data["codec"] is None else _codec(data["codec"]),
            pretransform=None if pretransform is None else cls.from_dict(pretransform),
            default_length=data["default_length"],
            inversion=None if data["inversion"] is None else build("inversion", InversionConfig, data["inversion"]),
            adapters=tuple(_adapter(adapter) for adapter in data["adapters"]),
            n_fft=data["n_fft"],
            plans=plans_from(data["plans"]),
        )


def build_denoiser(config: ModelConfig) -> Denoiser:
    """A denoiser of that configuration with fresh weights.

    Raises:
        ConfigError: its parts do not fit together.
    """
    codec, (_, make) = config.codec, BACKBONES[kind_of(config.backbone, classes_of(BACKBONES))]
    inner = config.inner
    return Denoiser(
        make(inner, inner.backbone),
        config.schedule,
        config.prediction,
        make_prior(inner.prior, inner.mel, inner.n_fft),
        None
        if codec is None or config.mel is None
        else CODECS[kind_of(codec, classes_of(CODECS))][1](codec, config.mel),
        None if config.pretransform is None else build_denoiser(config.pretransform),
        None if config.inversion is None else MelInversion(config.inversion),
        [MelAdapter(adapter) for adapter in config.adapters],
        None if config.mel is None or config.adapter is None else (config.adapter, config.mel),
    )


def _diffwave(config: ModelConfig, backbone: DiffWaveConfig) -> nn.Module:
    if config.schedule.trained_steps is None:
        raise ConfigError("schedule: DiffWave embeds the steps of a discrete schedule; give num_steps and betas")
    mel = config.mel
    if backbone.whitened and (mel is None or config.prior.power == 0):
        raise ConfigError("backbone.whitened: needs a mel and noise that it shapes; set prior.power above 0, or false")
    return DiffWave(
        backbone,
        num_steps=config.schedule.trained_steps,
        n_mels=None if mel is None else mel.n_mels,
        hop_length=1 if mel is None else mel.hop_length,
        n_classes=len(config.labels),
        signal_channels=config.signal_channels,
        stft=None if mel is None or not backbone.whitened else FrameSTFT(core_spec(mel, config.n_fft)),
    )


def _unet(config: ModelConfig, backbone: UNetConfig) -> nn.Module:
    if config.mel is not None or config.schedule.trained_steps is not None:
        raise ConfigError("backbone: the U-Net takes no mel and embeds continuous time; give schedule cosine or flow")
    return UNet(backbone, signal_channels=config.signal_channels, n_classes=len(config.labels))


def _spectral(config: ModelConfig, backbone: SpectralConfig) -> nn.Module:
    if config.mel is None or config.prior.power == 0 or config.labels:
        raise ConfigError("backbone: the spectral network needs a mel and prior.power above 0, and takes no labels")
    return SpectralNet(backbone, core_spec(config.mel, config.n_fft))


# kind, as files name it -> (configuration class, how to build the network)
BACKBONES: dict[str, tuple[type, Callable[[ModelConfig, Any], nn.Module]]] = {
    "diffwave": (DiffWaveConfig, _diffwave),
    "spectral": (SpectralConfig, _spectral),
    "unet": (UNetConfig, _unet),
}
CODECS: dict[str, tuple[type, Callable[[Any, MelSpec], nn.Module]]] = {
    "learned": (CodecConfig, MelCodec),
    "linear": (LinearCodecConfig, LinearCodec),
}
SCHEDULES: dict[str, type] = {
    "discrete": DiscreteSchedule,
    "cosine": CosineSchedule,
    "flow": FlowSchedule,
}


def _adapter(data: Any) -> AdapterConfig:
    check_keys("adapters", data, {f.name for f in dataclasses.fields(AdapterConfig)})
    dialects = {name: MelSpec.from_dict(data[name]) for name in ("mel", "inner")}
    adapter: AdapterConfig = build("adapters", AdapterConfig, data | dialects)
    return adapter


def _codec(data: Any) -> CodecConfig | LinearCodecConfig:
    """Files from before there were two kinds say none."""
    data = {"kind": "learned"} | data if isinstance(data, dict) else data
    codec: CodecConfig | LinearCodecConfig = untagged("codec", data, classes_of(CODECS))
    return codec

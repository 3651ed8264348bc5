"""From a configuration to a model: the one registry of concrete classes.

A configuration is plain data, so that loading one executes nothing and names no class or path.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from wavediff.backbones.diffwave import DiffWave, DiffWaveConfig
from wavediff.denoiser import Denoiser
from wavediff.diffusion.predictions import Prediction
from wavediff.diffusion.schedules import DiscreteSchedule
from wavediff.errors import ConfigError
from wavediff.mel import MelSpec

MAX_LABELS = 10_000

# kind -> (configuration class, network class)
BACKBONES: dict[str, tuple[type[DiffWaveConfig], type[DiffWave]]] = {
    "diffwave": (DiffWaveConfig, DiffWave),
}


@dataclass(frozen=True)
class ModelConfig:
    """Everything that makes a model besides its weights.

    Attributes:
        mel: dialect of the condition, None for a model without mel.
        sample_rate: of the audio, in Hz; the mel's where there is one.
        labels: class names of a class-conditional model, in the order of their indices; none for other models.
    """

    kind: Literal["diffwave"] = "diffwave"
    backbone: DiffWaveConfig = field(default_factory=DiffWaveConfig)
    schedule: DiscreteSchedule = field(default_factory=DiscreteSchedule)
    prediction: Prediction = "eps"
    mel: MelSpec | None = None
    sample_rate: int = 22050
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in BACKBONES:
            raise ConfigError(f"kind: {self.kind!r} is unknown; choose from {', '.join(BACKBONES)}")
        if self.prediction not in ("eps", "x0", "v"):
            raise ConfigError(f"prediction: {self.prediction!r} is none of eps, x0, v")
        if self.mel is not None and self.mel.sample_rate != self.sample_rate:
            raise ConfigError(
                f"sample_rate: {self.sample_rate} Hz differs from the mel's {self.mel.sample_rate} Hz; make them equal"
            )
        if len(set(self.labels)) != len(self.labels) or len(self.labels) > MAX_LABELS:
            raise ConfigError(f"labels: {len(self.labels)} names must be distinct and at most {MAX_LABELS}")

    def to_dict(self) -> dict[str, Any]:
        """JSON literals; `from_dict` reads them back."""
        schedule = {f.name: getattr(self.schedule, f.name) for f in dataclasses.fields(self.schedule) if f.init}
        return {
            "kind": self.kind,
            "backbone": dataclasses.asdict(self.backbone),
            "schedule": schedule,
            "prediction": self.prediction,
            "mel": None if self.mel is None else self.mel.to_dict(),
            "sample_rate": self.sample_rate,
            "labels": list(self.labels),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ModelConfig":
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: a key is unknown, missing, or its value out of bounds.
        """
        _check_keys("config", data, {f.name for f in dataclasses.fields(cls)})
        kind = data["kind"]
        if not isinstance(kind, str) or kind not in BACKBONES:
            raise ConfigError(f"kind: {kind!r} is unknown; choose from {', '.join(BACKBONES)}")
        labels = data["labels"]
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ConfigError("labels: is not a list of names")
        return cls(
            kind=kind,  # type: ignore[arg-type]
            backbone=_build("backbone", BACKBONES[kind][0], data["backbone"]),
            schedule=_build("schedule", DiscreteSchedule, data["schedule"]),
            prediction=data["prediction"],
            mel=None if data["mel"] is None else MelSpec.from_dict(data["mel"]),
            sample_rate=_sample_rate(data["sample_rate"]),
            labels=tuple(labels),
        )


def build_denoiser(config: ModelConfig) -> Denoiser:
    """A denoiser of that configuration with fresh weights."""
    _, backbone = BACKBONES[config.kind]
    network: nn.Module = backbone(
        config.backbone,
        num_steps=config.schedule.num_steps,
        n_mels=None if config.mel is None else config.mel.n_mels,
        hop_length=1 if config.mel is None else config.mel.hop_length,
        n_classes=len(config.labels),
    )
    return Denoiser(network, config.schedule, config.prediction)


def _check_keys(name: str, data: Any, known: set[str]) -> None:
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: is a {type(data).__name__}, not a table of keys")
    unknown, missing = sorted(set(data) - known), sorted(known - set(data))
    if unknown or missing:
        raise ConfigError(f"{name}: unknown keys {unknown[:5]}, missing keys {missing[:5]}")


def _build(name: str, cls: Any, data: Any) -> Any:
    _check_keys(name, data, {f.name for f in dataclasses.fields(cls) if f.init})
    for f in dataclasses.fields(cls):
        if f.init and f.type in (int, float) and not _is_number(data[f.name], f.type):
            raise ConfigError(f"{name}.{f.name}: {data[f.name]!r} is not a number of the right kind")
    return cls(**data)


def _is_number(value: Any, kind: type) -> bool:
    return not isinstance(value, bool) and isinstance(value, int if kind is int else int | float)


def _sample_rate(value: Any) -> int:
    if not _is_number(value, int) or not 4_000 <= value <= 384_000:
        raise ConfigError(f"sample_rate: {value!r} is not a whole number of Hz from 4000 to 384000")
    return int(value)

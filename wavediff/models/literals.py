"""Configurations to literals and back: what is of one class among several, and the plans of a model."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from wavediff.arguments import chosen
from wavediff.diffusion.plan import Plan
from wavediff.errors import ConfigError, SamplingError
from wavediff.models.file import build, check_keys

MAX_PLANS = 100


def classes_of(registry: Mapping[str, tuple[type, Any]]) -> dict[str, type]:
    """Kind -> class, of a registry of classes and what else belongs to them."""
    return {kind: cls for kind, (cls, _) in registry.items()}


def kind_of(value: object, classes: Mapping[str, type]) -> str:
    """What the class of a value is called."""
    return next(kind for kind, cls in classes.items() if cls is type(value))


def tagged(value: Any, classes: Mapping[str, type]) -> dict[str, Any]:
    """Its fields and, under "kind", its class."""
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
    return {"kind": kind_of(value, classes), **fields}


def untagged(name: str, data: Any, classes: Mapping[str, type]) -> Any:
    """What `tagged` wrote.

    Raises:
        ConfigError: its kind is unknown, or a field no value of its class.
    """
    kind = chosen(data.get("kind") if isinstance(data, dict) else None, f"{name}.kind", classes, ConfigError)
    return build(name, classes[kind], {key: value for key, value in data.items() if key != "kind"})


def plans_from(data: Any) -> tuple[tuple[int, Plan], ...]:
    """The plans that a configuration lists, each with its number of evaluations.

    Raises:
        ConfigError: they are no such list, or one is impossible.
    """
    if not isinstance(data, list | tuple) or len(data) > MAX_PLANS:
        raise ConfigError(f"plans: is not a list of at most {MAX_PLANS}")
    plans = []
    for entry in data:
        check_keys("plans", entry, {"evaluations", "sampler", "times"})
        if not isinstance(entry["sampler"], str) or not isinstance(entry["times"], list):
            raise ConfigError("plans: needs the name of a sampler and a list of times")
        try:
            plans.append((entry["evaluations"], Plan(entry["sampler"], tuple(entry["times"]))))
        except SamplingError as error:
            raise ConfigError(f"plans: {error}") from error
    return tuple(plans)

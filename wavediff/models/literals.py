"""Configurations from the literals of a file: tables of known keys, with the defaults of what older formats lack."""

import dataclasses
from typing import Any

from wavediff.errors import ConfigError

# What files written before there were these lack; they mean the defaults.
_LATER_FIELDS = {
    "augmented",
    "causal_layers",
    "codec",
    "consistency",
    "default_length",
    "direct",
    "fold",
    "harmonics",
    "inversion",
    "n_fft",
    "partials",
    "phase_octaves",
    "plans",
    "pretransform",
    "reach",
}

# What files hold that were written while there were these; with another value they are of no use any more.
_FORMER_FIELDS = {"harmonic": False}


def completed(cls: Any, data: Any) -> Any:
    """`data` with the defaults of fields that its format did not have yet."""
    if not isinstance(data, dict):
        return data
    data = {name: value for name, value in data.items() if (name, value) not in _FORMER_FIELDS.items()}
    return {f.name: f.default for f in dataclasses.fields(cls) if f.name in _LATER_FIELDS} | data


def check_keys(name: str, data: Any, known: set[str]) -> None:
    """Refuse what is no table, or has other keys than `known`.

    Raises:
        ConfigError: it is, or has; `name` says where.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: is a {type(data).__name__}, not a table of keys")
    unknown, missing = sorted(set(data) - known), sorted(known - set(data))
    if unknown or missing:
        raise ConfigError(f"{name}: unknown keys {unknown[:5]}, missing keys {missing[:5]}")


def build(name: str, cls: Any, data: Any) -> Any:
    """A dataclass `cls` from a table of its fields.

    Raises:
        ConfigError: a key is unknown or missing, or its value no number of the field's kind.
    """
    data = completed(cls, data)
    check_keys(name, data, {f.name for f in dataclasses.fields(cls) if f.init})
    for f in dataclasses.fields(cls):
        if f.init and f.type in (int, float) and not is_number(data[f.name], f.type):
            raise ConfigError(f"{name}.{f.name}: {data[f.name]!r} is not a number of the right kind")
    return cls(**data)


def is_number(value: Any, kind: type) -> bool:
    """Whether a literal is a number of that kind, int or float; true and false are none."""
    return not isinstance(value, bool) and isinstance(value, int if kind is int else int | float)

"""What clients ask for, checked: nothing they send names a file, a model or a piece of code."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from wavediff.app.events import MAX_STEPS
from wavediff.app.queue import RequestError
from wavediff.errors import choice
from wavediff.mel import PRESETS

MAX_SEED, MAX_GUIDANCE = 2**53, 20.0
MAX_FIELDS = 20


def vocode_options(query: Mapping[str, str]) -> dict[str, Any]:
    """Options of `Studio.vocode`, from the query of the address: steps, seed, mel_spec, each optional.

    Raises:
        RequestError: a value is not possible, or there is another name.
    """
    _check_names(query, ("steps", "seed", "mel_spec", "example"))
    mel_spec = query.get("mel_spec") or None
    if mel_spec is not None and mel_spec not in PRESETS:
        raise RequestError(400, f"mel_spec: no dialect is called that; choose from {', '.join(PRESETS)}")
    numbers = {name: _parsed(name, query.get(name)) for name in ("steps", "seed")}
    return {
        "num_steps": _value(numbers, "steps", int, 1, MAX_STEPS),
        "seed": _value(numbers, "seed", int, 0, MAX_SEED) or 0,
        "mel_spec": mel_spec,
    }


def generate_options(given: Mapping[str, Any], labels: Sequence[str], max_seconds: float) -> dict[str, Any]:
    """Options of `Studio.generate`, from an object: label, seconds, steps, guidance, seed, loop, vary, strength,
    fill_from, fill_seed, each optional.

    Raises:
        RequestError: a value is not possible, or there is another name.
    """
    names = ("label", "seconds", "steps", "guidance", "seed", "loop", "vary", "strength", "fill_from", "fill_seed")
    _check_names(given, names)
    label = given.get("label")
    if label is not None and label not in labels:
        raise RequestError(400, f"label: no class is called that{choice(str(label), labels, '/api/facts')}")
    if given.get("loop") and given.get("vary") is not None:
        raise RequestError(400, "loop: a variation is as its sound is; leave out loop or vary")
    for name, owner in {"strength": "vary", "fill_seed": "fill_from"}.items():
        if given.get(name) is not None and given.get(owner) is None:
            raise RequestError(400, f"{name}: is for {owner}; give both, or neither")
    return {
        "label": label,
        "seconds": _value(given, "seconds", float, 0.05, max_seconds),
        "num_steps": _value(given, "steps", int, 1, MAX_STEPS),
        "guidance": _value(given, "guidance", float, 0.0, MAX_GUIDANCE),
        "seed": _value(given, "seed", int, 0, MAX_SEED) or 0,
        "loop": bool(_value(given, "loop", bool)),
        "vary": _value(given, "vary", int, 0, MAX_SEED),
        "strength": _value(given, "strength", float, 0.0, 1.0),
        "fill_from": _value(given, "fill_from", float, 0.0, max_seconds),
        "fill_seed": _value(given, "fill_seed", int, 0, MAX_SEED) or 0,
    }


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RequestError: it is none.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    try:
        given = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the request is no JSON object ({str(error)[:100]}); send one") from None
    if not isinstance(given, dict):
        raise RequestError(400, "the request is no JSON object; send one")
    return given


def _check_names(given: Mapping[str, Any], known: Sequence[str]) -> None:
    if len(given) > MAX_FIELDS:
        raise RequestError(400, f"{len(given)} fields; only {', '.join(known)} are known")
    for name in given:
        if name not in known:
            raise RequestError(400, f"{name[:50]!r} is not known here; only {', '.join(known)} are")


def _parsed(name: str, text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 17):
        raise RequestError(400, f"{name}: {text[:50]!r} is not a whole number")
    return int(text)


def _value(given: Mapping[str, Any], name: str, kind: type, least: float = 0, most: float = 1) -> Any:
    """A truth value, whole number or number that is asked for, within its bounds; None where nothing is said of it."""
    value = given.get(name)
    if value is None:
        return None
    if type(value) not in ((int, float) if kind is float else (kind,)) or not least <= value <= most:  # nor NaN
        bounds = f"whole number from {least} to {most}" if kind is int else f"number from {least:g} to {most:g}"
        what = "neither true nor false" if kind is bool else f"not a {bounds}"
        raise RequestError(400, f"{name}: {repr(value)[:50]} is {what}")
    return kind(value)

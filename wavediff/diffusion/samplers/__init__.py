"""Samplers: from noise to data along a grid of times. One signature for all.

A sampler is a frozen dataclass, called with

    denoise(x_t (B, N), t (B,)) -> x_0 estimate (B, N)
    x_T (B, N), the state at the first time of the grid
    schedule, which gives alpha(t) and sigma(t)
    grid (S + 1,), descending times from 1 or below to 0
    noise, from which fresh noise is drawn item by item

and returns x_0 (B, N). It knows nothing of networks or guidance and never clamps the noisy state. Each class has
`step`, or the generator `states`, which yields x after each step; and `evaluations(S)`, how often it calls `denoise`,
with its inverse `steps`, if not S times. It must be linear in x_T, in the noise and in the estimates: then numbers
stand for it.
"""

import dataclasses
from collections.abc import Callable

from wavediff.arguments import shown
from wavediff.diffusion.samplers.sampler import DDIM, DDPM, Denoise, Euler, Sampler
from wavediff.diffusion.samplers.second_order import DPMpp2M, Heun
from wavediff.errors import SamplingError, did_you_mean

__all__ = ["DDIM", "DDPM", "SAMPLERS", "DPMpp2M", "Denoise", "Euler", "Heun", "Sampler", "make_sampler"]

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "ddpm": DDPM,
    "ddim": DDIM,
    "dpmpp-2m": DPMpp2M,
    "dpmpp-2m-sde": lambda eta=1.0: DPMpp2M(eta),
    "heun": Heun,
    "euler": Euler,
}
# What can be set in the string that names one, "ddim:eta=0.5".
_OPTIONS = {name: [f.name for f in dataclasses.fields(make())] for name, make in SAMPLERS.items()}  # type: ignore[arg-type]


def make_sampler(name: str) -> Sampler:
    """The sampler of that name, with options if any are given: "ddim", "ddim:eta=0.5", "heun:churn=0.1".

    >>> make_sampler("ddim:eta=0.5")
    DDIM(eta=0.5)

    Raises:
        SamplingError: no sampler is called so, or it has no such option, or the option's value is out of bounds.
    """
    if not isinstance(name, str):
        raise SamplingError(f"sampler: {shown(name)} is no name; choose from {', '.join(SAMPLERS)}")
    kind, _, settings = name.partition(":")
    if kind not in SAMPLERS:
        meant = did_you_mean(kind, SAMPLERS)
        raise SamplingError(f"sampler: {shown(kind)} is unknown{meant}; choose from {', '.join(SAMPLERS)}")
    options = {}
    for setting in filter(None, settings.split(",")):
        key, _, value = setting.partition("=")
        if key.strip() not in _OPTIONS[kind]:
            known = ", ".join(_OPTIONS[kind]) or "none"
            raise SamplingError(f"sampler: {kind} has no option {shown(key.strip())}, only: {known}")
        try:
            options[key.strip()] = float(value)
        except ValueError:
            raise SamplingError(f"sampler: {key.strip()} of {kind} is {shown(value)}, not a number") from None
    return SAMPLERS[kind](**options)

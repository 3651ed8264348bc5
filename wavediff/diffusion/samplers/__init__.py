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

from wavediff.diffusion.samplers.sampler import DDIM, DDPM, Denoise, Euler, Sampler
from wavediff.diffusion.samplers.second_order import DPMpp2M, Heun

__all__ = ["DDIM", "DDPM", "DPMpp2M", "Denoise", "Euler", "Heun", "Sampler"]

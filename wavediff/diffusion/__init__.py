"""Gaussian diffusion on waveforms: torch and mels only, no networks, no data.

Time runs from t = 0 (data) to t = 1 (noise), x_t = alpha(t) x_0 + sigma(t) noise. `t` always has shape (B,).
"""

from wavediff.diffusion.discrete import FAST_BETAS, DiscreteSchedule
from wavediff.diffusion.grids import PUBLISHED, SPACINGS, make_grid, spaced_grid
from wavediff.diffusion.losses import MelLoss, NoiseRegression, Objective, SignalRegression, SpectralLoss
from wavediff.diffusion.noise import ItemNoise
from wavediff.diffusion.plan import SAMPLERS, Plan, SamplingOptions, make_sampler
from wavediff.diffusion.priors import PriorConfig
from wavediff.diffusion.samplers import Sampler
from wavediff.diffusion.schedules import CosineSchedule, FlowSchedule, Schedule, predict_x0
from wavediff.diffusion.walk import Terms, unroll

__all__ = [
    "FAST_BETAS",
    "PUBLISHED",
    "SAMPLERS",
    "SPACINGS",
    "CosineSchedule",
    "DiscreteSchedule",
    "FlowSchedule",
    "ItemNoise",
    "MelLoss",
    "NoiseRegression",
    "Objective",
    "Plan",
    "PriorConfig",
    "Sampler",
    "SamplingOptions",
    "Schedule",
    "SignalRegression",
    "SpectralLoss",
    "Terms",
    "make_grid",
    "make_sampler",
    "predict_x0",
    "spaced_grid",
    "unroll",
]

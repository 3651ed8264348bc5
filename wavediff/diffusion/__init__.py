"""Gaussian diffusion on waveforms: torch and mels only, no networks, no data.

Time runs from t = 0 (data) to t = 1 (noise), x_t = alpha(t) x_0 + sigma(t) noise. `t` always has shape (B,).
"""

from wavediff.diffusion.discrete import FAST_BETAS, DiscreteSchedule
from wavediff.diffusion.grids import (
    PUBLISHED,
    SPACINGS,
    align,
    full_grid,
    make_grid,
    needs_num_steps,
    published_betas,
    spaced_grid,
)
from wavediff.diffusion.losses import MelLoss, NoiseRegression, Objective, SignalRegression, SpectralLoss
from wavediff.diffusion.noise import ItemNoise
from wavediff.diffusion.plan import Plan, SamplingOptions, plan_for
from wavediff.diffusion.priors import PriorConfig
from wavediff.diffusion.samplers import SAMPLERS, Sampler, make_sampler
from wavediff.diffusion.schedules import (
    PREDICTIONS,
    CosineSchedule,
    FlowSchedule,
    Prediction,
    Schedule,
    expand,
    predict_noise,
    predict_x0,
    training_target,
)
from wavediff.diffusion.unrolled import Node, Terms, Unrolled, unroll

__all__ = [
    "FAST_BETAS",
    "PREDICTIONS",
    "PUBLISHED",
    "SAMPLERS",
    "SPACINGS",
    "CosineSchedule",
    "DiscreteSchedule",
    "FlowSchedule",
    "ItemNoise",
    "MelLoss",
    "Node",
    "NoiseRegression",
    "Objective",
    "Plan",
    "Prediction",
    "PriorConfig",
    "Sampler",
    "SamplingOptions",
    "Schedule",
    "SignalRegression",
    "SpectralLoss",
    "Terms",
    "Unrolled",
    "align",
    "expand",
    "full_grid",
    "make_grid",
    "make_sampler",
    "needs_num_steps",
    "plan_for",
    "predict_noise",
    "predict_x0",
    "published_betas",
    "spaced_grid",
    "training_target",
    "unroll",
]

"""Gaussian diffusion on waveforms: torch and mels only, no networks, no data.

Time runs from t = 0 (data) to t = 1 (noise), x_t = alpha(t) x_0 + sigma(t) noise. `t` always has shape (B,).
"""

from wavediff.diffusion.noise import ItemNoise
from wavediff.diffusion.objectives import NoiseRegression
from wavediff.diffusion.predictions import Prediction, predict_noise, predict_x0, training_target
from wavediff.diffusion.priors import PriorConfig
from wavediff.diffusion.samplers import SAMPLERS, Sampler, make_sampler
from wavediff.diffusion.schedules import FAST_BETAS, CosineSchedule, DiscreteSchedule, Schedule, expand
from wavediff.diffusion.signal_regression import SignalRegression
from wavediff.diffusion.spectral_loss import SpectralLoss

__all__ = [
    "FAST_BETAS",
    "SAMPLERS",
    "CosineSchedule",
    "DiscreteSchedule",
    "ItemNoise",
    "NoiseRegression",
    "Prediction",
    "PriorConfig",
    "Sampler",
    "Schedule",
    "SignalRegression",
    "SpectralLoss",
    "expand",
    "make_sampler",
    "predict_noise",
    "predict_x0",
    "training_target",
]

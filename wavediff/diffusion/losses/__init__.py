"""What training minimises."""

from wavediff.diffusion.losses.noise_regression import Loss, NoiseRegression
from wavediff.diffusion.losses.signal_regression import SignalRegression
from wavediff.diffusion.losses.spectral_loss import MelLoss, SpectralLoss

__all__ = ["Loss", "MelLoss", "NoiseRegression", "SignalRegression", "SpectralLoss"]

"""What training minimises."""

from wavediff.diffusion.losses.noise_regression import Distance, Loss, NoiseRegression, Objective
from wavediff.diffusion.losses.signal_regression import SignalRegression
from wavediff.diffusion.losses.spectral_loss import MelLoss, SpectralLoss

__all__ = ["Distance", "Loss", "MelLoss", "NoiseRegression", "Objective", "SignalRegression", "SpectralLoss"]

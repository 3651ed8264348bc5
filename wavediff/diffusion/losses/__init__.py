"""What training minimises."""

from wavediff.diffusion.losses.regression import Distance, Loss, NoiseRegression, Objective, SignalRegression
from wavediff.diffusion.losses.spectral_loss import MelLoss, SpectralLoss

__all__ = ["Distance", "Loss", "MelLoss", "NoiseRegression", "Objective", "SignalRegression", "SpectralLoss"]

"""Embedding of the diffusion step, and of continuous time."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEP_FREQUENCIES = 64
STEP_FEATURES = 512
TIME_FREQUENCIES = 32
TIME_FEATURES = 256

StepEncoding = Literal["rising", "falling"]


def encode_steps(step: Tensor, num_steps: int, encoding: StepEncoding) -> Tensor:
    """Sines and cosines of diffusion steps, (B,) -> (B, 128) float32. Steps count from 0 and may be fractional.

    "rising": frequencies 10^0 ... 10^4 (DiffWave, section 3.1, eq. 8). Their fast ones mean something at whole
    steps only, so that a fractional step is interpolated between its two neighbours.
    "falling": frequencies 1 ... 10^-4, smooth in the step, evaluated at the fraction itself; the author's code.
    """
    exponent = torch.arange(STEP_FREQUENCIES, device=step.device, dtype=torch.float64) * 4 / (STEP_FREQUENCIES - 1)
    if encoding == "falling":
        return _waves(step.double()[:, None] * 10**-exponent)

    # Rounded to float32 where the diffwave package rounds: at 10^4 that moves the phase by up to 0.1, and networks
    # trained there have learned these values. The functions themselves are float64, the same on every machine.
    frequency = _rounded(10 ** _rounded(exponent))
    low = step.floor().clamp(0, max(num_steps - 2, 0)).double()
    start, end = (_waves(_rounded(whole[:, None] * frequency)) for whole in (low, low + 1))
    return torch.lerp(start, end, (step - low).float()[:, None])


def _rounded(x: Tensor) -> Tensor:
    return x.float().double()


def _waves(phase: Tensor) -> Tensor:
    return torch.cat([phase.sin(), phase.cos()], dim=1).float()


class StepEmbedding(nn.Module):
    """Diffusion step (B,) -> features (B, 512): encoding, then two layers with SiLU (DiffWave, section 3.1)."""

    def __init__(self, num_steps: int, encoding: StepEncoding) -> None:
        super().__init__()
        self.num_steps, self.encoding = num_steps, encoding
        self.projection1 = nn.Linear(2 * STEP_FREQUENCIES, STEP_FEATURES)
        self.projection2 = nn.Linear(STEP_FEATURES, STEP_FEATURES)

    def forward(self, step: Tensor) -> Tensor:
        x = encode_steps(step, self.num_steps, self.encoding).to(self.projection1.weight)
        return F.silu(self.projection2(F.silu(self.projection1(x))))


class TimeEmbedding(nn.Module):
    """Time (B,) in [0, 1] -> features (B, 256), smooth in t."""

    frequency: Tensor

    def __init__(self) -> None:
        super().__init__()
        # On the CPU also where shapes alone are asked for: arithmetic on the meta device loads torch's compiler.
        frequency = torch.linspace(0, 4, TIME_FREQUENCIES, dtype=torch.float32, device="cpu").exp()
        self.register_buffer("frequency", frequency, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(2 * TIME_FREQUENCIES, TIME_FEATURES),
            nn.SiLU(),
            nn.Linear(TIME_FEATURES, TIME_FEATURES),
            nn.SiLU(),
        )

    def forward(self, t: Tensor) -> Tensor:
        phase = t.float().to(self.frequency.device)[:, None] * self.frequency
        features: Tensor = self.layers(torch.cat([phase.sin(), phase.cos()], dim=1))
        return features


def kaiming_conv1d(*args: int, **kwargs: int) -> nn.Conv1d:
    """A convolution with the paper's initialisation (its code: Kaiming normal weights)."""
    conv = nn.Conv1d(*args, **kwargs)  # type: ignore[arg-type]
    nn.init.kaiming_normal_(conv.weight)
    return conv


SQRT_HALF = math.sqrt(0.5)

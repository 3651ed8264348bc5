"""Fundamental frequency and voicing, read off the spectrum that a mel stands for, with 23 ms of look-ahead."""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.mel.stft import float64_device
from wavediff.mel.transform import LEAST_COLUMNS

LOW_BINS = 80  # of the spectrum that the network sees, without the one at 0 Hz: up to 1.7 kHz at 22.05 kHz
LOWEST_PITCH, HIGHEST_PITCH = 2.3, 34.0  # [bins]: 50 to 730 Hz at 22.05 kHz and n_fft 1024
PITCHES = 192  # classes, 24 cents apart
CHANNELS, KERNEL = 96, 4
LOOK_AHEADS = (1, 1, 0, 0)  # [frames], of each layer
REACH = tuple(KERNEL - 1 - ahead for ahead in LOOK_AHEADS)  # [frames], each layer's into the past
PAST, AHEAD = sum(REACH), sum(LOOK_AHEADS)  # [frames] of the whole network
_NEAR = 4  # classes on each side of the best whose mean is the pitch
_LEAST_MAGNITUDE = 1e-5


class PitchNet(nn.Module):
    """Magnitude (B, frames, bins) -> pitch [bins] and voicing, both (B, frames).

    The pitch is a choice among classes, refined by the mean around the best one (CREPE, Kim et al. 2018,
    arXiv 1802.06182). In bins instead of Hz, so that one network serves every sample rate. Beyond both ends of the
    signal the outermost frames are repeated.
    """

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Linear(LOW_BINS, CHANNELS)
        self.norms = nn.ModuleList(nn.LayerNorm(CHANNELS) for _ in LOOK_AHEADS)
        self.layers = nn.ModuleList(nn.Linear(KERNEL * CHANNELS, CHANNELS) for _ in LOOK_AHEADS)
        self.output = nn.Linear(CHANNELS, PITCHES + 1)

    def forward(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """Of whole signals."""
        return self.inner(F.pad(magnitude.transpose(1, 2), (PAST, AHEAD), mode="replicate").transpose(1, 2))

    def inner(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """Of the frames that have `PAST` others before and `AHEAD` others behind them: (B, PAST + n + AHEAD, bins)."""
        scores, voicing = self.scores(magnitude)
        near = torch.arange(-_NEAR, _NEAR + 1, device=scores.device)
        best = scores.argmax(-1, keepdim=True).clamp(_NEAR, PITCHES - 1 - _NEAR) + near
        # In float64, whose rounding vanishes: that of float32 depends on how many frames there are.
        exact = float64_device(scores.device)
        weights, voiced = scores.gather(-1, best).to(exact).double().softmax(-1), voicing.to(exact).double().sigmoid()
        pitch = class_pitch((weights * best.to(exact)).sum(-1))
        return pitch.float().to(scores.device), voiced.float().to(scores.device)

    def scores(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """What `inner` decides from: logits of the classes (B, n, PITCHES) and of voicing (B, n)."""
        with torch.autocast(magnitude.device.type, enabled=False):
            low = magnitude[..., 1 : LOW_BINS + 1].float().contiguous().clamp(min=_LEAST_MAGNITUDE).log()
            x = _product(self.input, F.pad(low - low.mean(-1, keepdim=True), (0, 0, 0, LEAST_COLUMNS)))
            for norm, layer, past, ahead in zip(self.norms, self.layers, REACH, LOOK_AHEADS, strict=True):
                normed, count = norm(x.contiguous()), x.shape[1] - past - ahead
                windows = torch.cat([normed[:, index : index + count] for index in range(KERNEL)], -1)
                x = x[:, past : past + count] + F.gelu(_product(layer, windows))
            output = _product(self.output, x)[:, : x.shape[1] - LEAST_COLUMNS]
            return output[..., :-1], output[..., -1]


def _product(layer: nn.Module, x: Tensor) -> Tensor:
    """A linear layer, its weights on the left: then a frame's result has the same bits whatever its neighbours."""
    weight, bias = cast(Tensor, layer.weight), cast(Tensor, layer.bias)
    return torch.matmul(weight, x.transpose(1, 2)).transpose(1, 2) + bias


def class_pitch(index: Tensor) -> Tensor:
    """Class, whole or between two -> pitch [bins]."""
    share = index / (PITCHES - 1)
    return LOWEST_PITCH * (HIGHEST_PITCH / LOWEST_PITCH) ** share


def pitch_class(pitch: Tensor) -> Tensor:
    """The inverse of `class_pitch`, whatever the pitch (0 lies far below the first class)."""
    ratio = (pitch / LOWEST_PITCH).clamp(min=1e-3).log() / math.log(HIGHEST_PITCH / LOWEST_PITCH)
    return ratio * (PITCHES - 1)

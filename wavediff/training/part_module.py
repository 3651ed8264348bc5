"""One part of a vocoder learns, and all else in its file stays."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from wavediff.diffusion.losses import Loss
from wavediff.errors import ConfigError
from wavediff.models.checkpoint import Checkpoint
from wavediff.training.module import MelDenoiserModule


class PartModule(MelDenoiserModule):
    """Trains a network that works on what a mel says, before the backbone.

    Args:
        start: model file of the vocoder; a network of that shape that it holds goes on learning.
        part: the network's name in the denoiser.
        shape: the field of the configuration that has its shape.
        options: see `TrainingModule`.

    Raises:
        ConfigError: its noise is white (`prior.power` 0), so it needs no such network; and what `MelDenoiserModule`
            raises.
    """

    def __init__(self, start: Checkpoint, part: str, shape: dict[str, Any], *options: Any) -> None:
        if start.config.prior.power == 0:
            raise ConfigError(
                f"model.init_from: {start.path} has white noise, which needs no magnitudes; give a vocoder whose "
                "prior.power is above 0"
            )
        super().__init__(dataclasses.replace(start.config, **shape), *options, False, None)
        weights, prefix = self.denoiser.state_dict(), f"{part}."
        changed = any(
            weight.shape != weights[name].shape for name, weight in start.weights.items() if name.startswith(prefix)
        )
        kept = {name: weight for name, weight in start.weights.items() if not changed or not name.startswith(prefix)}
        self.denoiser.load_state_dict(weights | kept)
        for name, weight in self.denoiser.named_parameters():
            weight.requires_grad_(name.startswith(prefix))


def mean_over_frames(distance: Tensor, lengths: Tensor, edge: int) -> Loss:
    """Distances (B, frames) -> their means over the frames of each item (B,), but for `edge` at either end."""
    frames = torch.arange(distance.shape[1], device=distance.device)
    inner = (frames >= edge) & (frames < lengths[:, None] - edge)
    per_item = (distance * inner).sum(1) / inner.sum(1).clamp(min=1)
    return Loss(per_item.mean(), per_item.detach(), torch.zeros_like(per_item))

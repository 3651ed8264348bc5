"""Checkpoints in foreign layouts, with random weights."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wavediff.diffusion import DiscreteSchedule
from wavediff.errors import CheckpointError
from wavediff.models.importing import import_checkpoint

CHANNELS, LAYERS = 4, 2


def drawn(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Random tensors of roughly unit gain; weight_g positive."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        if name.endswith("weight_g"):
            weights[name] = 0.5 + torch.rand(shape, generator=generator)
        else:
            weights[name] = torch.randn(shape, generator=generator) / max(math.prod(shape[1:]), 4) ** 0.5
    return weights


def author_state(channels: int = CHANNELS, layers: int = LAYERS) -> dict[str, Any]:
    """A file of the author's, with random weights."""
    C, shapes = channels, {}

    def plain(name: str, *shape: int) -> None:
        shapes.update({f"{name}.weight": shape, f"{name}.bias": shape[:1]})

    def normalised(name: str, *shape: int) -> None:
        norm = (shape[0], *[1] * (len(shape) - 1))
        shapes.update({f"{name}.bias": shape[:1], f"{name}.weight_g": norm, f"{name}.weight_v": shape})

    normalised("init_conv.0.conv", C, 1, 1)
    plain("residual_layer.fc_t1", 512, 128)
    plain("residual_layer.fc_t2", 512, 512)
    for n in range(layers):
        block = f"residual_layer.residual_blocks.{n}"
        plain(f"{block}.fc_t", C, 512)
        normalised(f"{block}.dilated_conv_layer.conv", 2 * C, C, 3)
        normalised(f"{block}.upsample_conv2d.0", 1, 1, 3, 32)
        normalised(f"{block}.upsample_conv2d.1", 1, 1, 3, 32)
        normalised(f"{block}.mel_conv.conv", 2 * C, 80, 1)
        normalised(f"{block}.res_conv", C, C, 1)
        normalised(f"{block}.skip_conv", C, C, 1)
    normalised("final_conv.0.conv", C, C, 1)
    plain("final_conv.2.conv", 1, C, 1)
    return {"iter": 1000, "model_state_dict": drawn(shapes), "optimizer_state_dict": {"state": {}, "param_groups": []}}


def lmnt_state(channels: int = CHANNELS, layers: int = LAYERS, **params: Any) -> dict[str, Any]:
    """A file of the `diffwave` package, with random weights."""
    C = channels
    modules = {
        "input_projection": (C, 1, 1),
        "diffusion_embedding.projection1": (512, 128),
        "diffusion_embedding.projection2": (512, 512),
        "spectrogram_upsampler.conv1": (1, 1, 3, 32),
        "spectrogram_upsampler.conv2": (1, 1, 3, 32),
        "skip_projection": (C, C, 1),
        "output_projection": (1, C, 1),
    }
    for n in range(layers):
        modules |= {
            f"residual_layers.{n}.dilated_conv": (2 * C, C, 3),
            f"residual_layers.{n}.diffusion_projection": (C, 512),
            f"residual_layers.{n}.conditioner_projection": (2 * C, 80, 1),
            f"residual_layers.{n}.output_projection": (2 * C, C, 1),
        }
    shapes = {f"{name}.weight": shape for name, shape in modules.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in modules.items()}
    table: dict[str, Any] = {
        "sample_rate": 22050,
        "n_mels": 80,
        "n_fft": 1024,
        "hop_samples": 256,
        "max_grad_norm": None,
    }
    table |= {"residual_channels": C, "residual_layers": layers, "dilation_cycle_length": 10}
    table |= {"noise_schedule": DiscreteSchedule().betas.tolist(), "inference_noise_schedule": [1e-4, 0.5]}
    return {"step": 7, "model": drawn(shapes), "optimizer": {"state": {}}, "params": table | params, "scaler": {}}


def saved(folder: Path, state: Any, *, zipped: bool = True) -> Path:
    """Write a foreign file; not `zipped` is the format before torch 1.6, the author's."""
    path = folder / "foreign.pkl"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    return path


def refused(path: Path, reason: str, **options: Any) -> None:
    """Assert that `path` cannot be imported, for `reason`, in one line that names it."""
    with pytest.raises(CheckpointError, match=reason) as caught:
        import_checkpoint(path, **({"num_steps": 50, "beta_max": 0.05} | options))
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert len(message) < 1000

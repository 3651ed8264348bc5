"""How other DiffWave implementations name and shape their weights.

lmnt    `weights.pt` of the `diffwave` package: {step, model, optimizer, params, scaler}. Ours is the same network.
author  `.pkl` of the paper's author: {iter, model_state_dict, optimizer_state_dict}. Its convolutions are weight
        normalised, the tanh half of a gate comes first, each layer has a mel upsampler, the step embedding stays in
        the residual stream and its frequencies fall.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Source:
    """Where a foreign file keeps one module of ours.

    Attributes:
        modules: their names; the weights of several are joined along the output channels.
        normalised: the weight is weight_g * weight_v / |weight_v|.
        tanh_first: the output channels of the tanh come before those of the sigmoid.
    """

    modules: tuple[str, ...]
    normalised: bool = False
    tanh_first: bool = False

    def names(self, ours: Tensor, part: str) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the foreign tensors behind `part` ("weight" or "bias") of our module."""
        shape = (ours.shape[0] // len(self.modules), *ours.shape[1:])
        if part == "bias" or not self.normalised:
            return {f"{module}.{part}": shape for module in self.modules}
        norm = (shape[0], *[1] * (len(shape) - 1))
        return {f"{module}.weight_{x}": s for module in self.modules for x, s in (("g", norm), ("v", shape))}

    def read(self, weights: Mapping[str, Tensor], part: str) -> Tensor:
        """Our tensor, float64."""

        def one(module: str) -> Tensor:
            if part == "bias" or not self.normalised:
                return weights[f"{module}.{part}"].double()
            g, v = weights[f"{module}.weight_g"].double(), weights[f"{module}.weight_v"].double()
            return g * v / torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True)

        joined = torch.cat([one(module) for module in self.modules])
        return joined.roll(len(joined) // 2, dims=0) if self.tanh_first else joined


@dataclass(frozen=True)
class Layout:
    """How one implementation saves its model.

    Attributes:
        weights_key, steps_key: where the file keeps the weights and the number of training steps.
        first_bias: a weight that only this layout has; as long as the network has channels.
        layer: pattern of a layer's weights, its number in the group.
        mel: the dialect its models are trained on.
        sources: number of layers -> our module names -> theirs.
        config_key: where the file keeps its configuration, if it does.
        backbone: what the layout fixes in `DiffWaveConfig`.
    """

    weights_key: str
    steps_key: str
    first_bias: str
    layer: re.Pattern[str]
    mel: str
    sources: Callable[[int], dict[str, Source]]
    config_key: str | None = None
    backbone: dict[str, Any] = field(default_factory=dict)


def _lmnt_sources(layers: int) -> dict[str, Source]:
    same = ("input_projection", "skip_projection", "output_projection")
    modules = {name: name for name in same}
    for index in range(2):
        modules[f"step_embedding.projection{index + 1}"] = f"diffusion_embedding.projection{index + 1}"
        modules[f"upsamplers.0.layers.{index}"] = f"spectrogram_upsampler.conv{index + 1}"
    for index in range(layers):
        ours, theirs = f"layers.{index}", f"residual_layers.{index}"
        modules[f"{ours}.step_projection"] = f"{theirs}.diffusion_projection"
        modules[f"{ours}.dilated_conv"] = f"{theirs}.dilated_conv"
        modules[f"{ours}.mel_projection"] = f"{theirs}.conditioner_projection"
        modules[f"{ours}.output_projection"] = f"{theirs}.output_projection"
    return {ours: Source((theirs,)) for ours, theirs in modules.items()}


def _author_sources(layers: int) -> dict[str, Source]:
    sources = {
        "input_projection": Source(("init_conv.0.conv",), normalised=True),
        "step_embedding.projection1": Source(("residual_layer.fc_t1",)),
        "step_embedding.projection2": Source(("residual_layer.fc_t2",)),
        "skip_projection": Source(("final_conv.0.conv",), normalised=True),
        "output_projection": Source(("final_conv.2.conv",)),
    }
    for index in range(layers):
        ours, theirs = f"layers.{index}", f"residual_layer.residual_blocks.{index}"
        sources[f"{ours}.step_projection"] = Source((f"{theirs}.fc_t",))
        for name, module in (("dilated_conv", "dilated_conv_layer.conv"), ("mel_projection", "mel_conv.conv")):
            sources[f"{ours}.{name}"] = Source((f"{theirs}.{module}",), normalised=True, tanh_first=True)
        sources[f"{ours}.output_projection"] = Source((f"{theirs}.res_conv", f"{theirs}.skip_conv"), normalised=True)
        for stage in range(2):
            upsampler = Source((f"{theirs}.upsample_conv2d.{stage}",), normalised=True)
            sources[f"upsamplers.{index}.layers.{stage}"] = upsampler
    return sources


LAYOUTS = {
    "lmnt": Layout(
        weights_key="model",
        steps_key="step",
        first_bias="input_projection.bias",
        layer=re.compile(r"residual_layers\.(\d{1,3})\."),
        mel="lmnt-diffwave",
        sources=_lmnt_sources,
        config_key="params",
    ),
    "author": Layout(
        weights_key="model_state_dict",
        steps_key="iter",
        first_bias="init_conv.0.conv.bias",
        layer=re.compile(r"residual_layer\.residual_blocks\.(\d{1,3})\."),
        mel="tacotron2",
        sources=_author_sources,
        backbone={"step_encoding": "falling", "upsampler_per_layer": True, "step_in_residual": True},
    ),
}

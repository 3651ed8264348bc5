"""Weights of other DiffWave implementations as wavediff checkpoints; `foreign_layouts` says which."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from wavediff.arguments import as_path, chosen
from wavediff.backbones import DiffWaveConfig
from wavediff.diffusion import DiscreteSchedule
from wavediff.errors import CheckpointError, ConfigError
from wavediff.mel import MelSpec
from wavediff.models.checkpoint import Checkpoint, check_weights, shapes_only
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.models.file import check_finite
from wavediff.models.layouts import LAYOUTS, Layout
from wavediff.models.torch_load import load_restricted

# Paper, section 5.1: the training schedules published, by residual channels.
SCHEDULES = {64: DiscreteSchedule(50, 1e-4, 0.05), 128: DiscreteSchedule(200, 1e-4, 0.02)}
BETA_MIN = 1e-4
DILATION_CYCLE = 10  # of every model published
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def import_checkpoint(
    path: str | os.PathLike[str],
    *,
    layout: str = "auto",
    mel: str | None = None,
    num_steps: int | None = None,
    beta_max: float | None = None,
) -> Checkpoint:
    """Read a foreign checkpoint, running nothing that it holds.

    Args:
        path: of the file.
        layout: "lmnt", "author", or "auto" to tell by the keys.
        mel: preset of the mel dialect it was trained on, by default the layout's own.
        num_steps, beta_max: T and the last beta of the training schedule, both or neither, where the file does not
            tell; by default those published for its channels. Betas start at 1e-4.

    Returns:
        Its float32 weights and configuration. `facts["assumed"]` lists what neither file nor arguments told.

    Raises:
        CheckpointError: damaged, hostile, of no known layout, or its weights and configuration disagree.
        ConfigError: an argument is out of its bounds.
    """
    path = as_path(path, "path", CheckpointError)
    if (num_steps is None) != (beta_max is None):
        raise ConfigError("num_steps and beta_max (--num-steps, --beta-max) go together; give both or neither")
    schedule = None if num_steps is None or beta_max is None else DiscreteSchedule(num_steps, BETA_MIN, beta_max)
    given_spec = None if mel is None else MelSpec.preset(mel)

    state = load_restricted(path, "DiffWave checkpoint")
    name = _detect(path, state, layout)
    found = LAYOUTS[name]
    weights: Mapping[str, Tensor] = state[found.weights_key]
    _check_tensors(path, weights)
    spec = given_spec or MelSpec.preset(found.mel)
    assumed = [] if given_spec else [f"mel dialect {spec.name}"]
    try:
        table = None if found.config_key is None else state.get(found.config_key)
        if table is None:
            backbone, schedule = _from_weights(found, weights, schedule, assumed)
        else:
            backbone, schedule = _from_table(table, spec, schedule)
        backbone = dataclasses.replace(backbone, **found.backbone)
        config = ModelConfig(backbone=backbone, schedule=schedule, mel=spec, sample_rate=spec.sample_rate)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error

    facts: dict[str, Any] = {"imported_from": path.name, "layout": name, "assumed": assumed}
    if type(steps := state.get(found.steps_key)) is int:
        facts["steps"] = steps
    with path.open("rb") as file:
        facts["source_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return Checkpoint(config, _translate(path, found, config, weights), facts, path)


def _detect(path: Path, state: Mapping[str, Any], layout: str) -> str:
    """The name of the file's layout."""
    chosen(layout, "layout", ("auto", *LAYOUTS), ConfigError)
    for name, candidate in LAYOUTS.items():
        weights = state.get(candidate.weights_key)
        if isinstance(weights, dict) and candidate.first_bias in weights and layout in ("auto", name):
            return name
    if "pytorch-lightning_version" in state:
        raise CheckpointError(f"{path}: is a training checkpoint of Lightning; convert it with `wavediff export`")
    known = "of no known layout" if layout == "auto" else f"not of the {layout} layout"
    keys = ", ".join(f"{key!r:.40}" for key in list(state)[:5] if isinstance(key, str))
    raise CheckpointError(f"{path}: is {known} ({', '.join(LAYOUTS)}), it holds {keys}; give a DiffWave checkpoint")


def _check_tensors(path: Path, weights: Mapping[str, Any]) -> None:
    """Only plain tensors, and no more of them than the file has bytes for: a view can claim any size."""
    claimed = 0
    for name, tensor in weights.items():
        plain = isinstance(name, str) and type(tensor) in (Tensor, nn.Parameter) and tensor.dtype in FLOATS
        if not plain or tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise CheckpointError(f"{path}: {name!r:.80} is not a tensor of floating-point weights; give another copy")
        claimed += tensor.nbytes
    if claimed > path.stat().st_size:
        raise CheckpointError(f"{path}: claims {claimed} bytes of weights, more than the file has; give another copy")


def _from_weights(
    layout: Layout, weights: Mapping[str, Tensor], schedule: DiscreteSchedule | None, assumed: list[str]
) -> tuple[DiffWaveConfig, DiscreteSchedule]:
    """Configuration of a file that keeps none; what is guessed is added to `assumed`."""
    channels = weights[layout.first_bias].numel()
    layers = len({match[1] for name in weights if (match := layout.layer.match(name))})
    assumed.append(f"dilation cycle {DILATION_CYCLE}")
    if schedule is None:
        if channels not in SCHEDULES:
            raise ConfigError(
                f"does not tell its training schedule, and none was published for {channels} channels; "
                "give --num-steps and --beta-max (num_steps, beta_max)"
            )
        schedule = SCHEDULES[channels]
        assumed.append(f"schedule of {schedule.num_steps} steps, beta {schedule.beta_min:g} to {schedule.beta_max:g}")
    return DiffWaveConfig(channels, layers, DILATION_CYCLE), schedule


def _from_table(
    table: Any, spec: MelSpec, schedule: DiscreteSchedule | None
) -> tuple[DiffWaveConfig, DiscreteSchedule]:
    """Configuration from the `params` of an lmnt file."""
    if not isinstance(table, dict):
        raise ConfigError("its params are not a table of keys; give another copy")
    fields = ("sample_rate", "sample_rate"), ("n_mels", "n_mels"), ("n_fft", "n_fft"), ("hop_samples", "hop_length")
    for theirs, ours in fields:
        if (value := _whole(table, theirs)) != (wanted := getattr(spec, ours)):
            raise ConfigError(
                f"params.{theirs} is {value}, mel dialect {spec.name} has {wanted}; name another by --mel"
            )
    trained = _linear(table.get("noise_schedule"))
    if schedule not in (None, trained):
        raise ConfigError(
            f"its own schedule has {trained.num_steps} steps, beta {trained.beta_min:g} to {trained.beta_max:g}; "
            "leave out --num-steps and --beta-max (num_steps, beta_max)"
        )
    channels, layers = _whole(table, "residual_channels"), _whole(table, "residual_layers")
    return DiffWaveConfig(channels, layers, _whole(table, "dilation_cycle_length")), trained


def _whole(table: Mapping[str, Any], key: str) -> int:
    value = table.get(key)
    if type(value) is not int:
        raise ConfigError(f"params.{key} is {type(value).__name__}, not a whole number; give another copy")
    return value


def _linear(betas: Any) -> DiscreteSchedule:
    """The schedule with this table of betas, if it is linear."""
    if not isinstance(betas, list) or len(betas) < 2 or not all(type(beta) is float for beta in betas):
        raise ConfigError("params.noise_schedule is not a list of numbers; give another copy")
    schedule = DiscreteSchedule(len(betas), betas[0], betas[-1])
    if not torch.allclose(torch.tensor(betas, dtype=torch.float64, device="cpu"), schedule.betas, rtol=1e-6, atol=0):
        raise ConfigError(
            "params.noise_schedule is not linear, and no other schedule is known; retrain with a linear one"
        )
    return schedule


def _translate(path: Path, layout: Layout, config: ModelConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Foreign weights under our names, after a strict check of names and shapes."""
    layers = cast(DiffWaveConfig, config.backbone).layers
    with shapes_only():  # no configuration can claim memory
        ours = build_denoiser(config).state_dict()
    sources = {f"backbone.{module}": source for module, source in layout.sources(layers).items()}
    split = {name: (sources[name.rpartition(".")[0]], name.rpartition(".")[2]) for name in ours}
    expected = {
        theirs: (torch.empty(shape, device="meta"), name)
        for name, (source, part) in split.items()
        for theirs, shape in source.names(ours[name], part).items()
    }

    def behind(theirs: str) -> str:
        name = expected[theirs][1]
        return "the mel dialect (--mel-spec)" if "mel" in name or "upsampler" in name else "backbone.channels"

    check_weights(weights, {theirs: tensor for theirs, (tensor, _) in expected.items()}, path, behind)
    translated = {name: source.read(weights, part).float() for name, (source, part) in split.items()}
    check_finite(translated, path)
    return translated

"""From a module to torch's exported program, in which batch and frames stay open, or every size is fixed.

A program is a form of a vocoder itself (`.pt2`): `torch.export.load` reads and runs it without wavediff.
"""

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from wavediff.backbones import Condition
from wavediff.diffusion import Plan
from wavediff.exporting.contract import What, check_file, contract, module_of
from wavediff.exporting.modules import Analysis, DenoiserStep, FewSteps, SoundSteps
from wavediff.exporting.real_stft import FourierSTFT
from wavediff.files import atomic_write
from wavediff.mel import MelSpec
from wavediff.pipelines.vocoder import Vocoder

MOST_ITEMS, MOST_FRAMES = 1 << 16, 1 << 24
_FRAMES = 8  # of the mel that is traced


@torch.no_grad()
def traced(module: DenoiserStep | FewSteps | Analysis, spec: MelSpec) -> ExportedProgram:
    """The program of a module, for 1 to `MOST_ITEMS` items and 1 to `MOST_FRAMES` frames.

    Args:
        module: what to trace.
        spec: dialect of its mel.
    """
    # Two items, because a size of one would be taken for a constant.
    mel = torch.zeros(2, spec.n_mels, _FRAMES)
    inputs = module.inputs(mel)
    least = 1
    if isinstance(module, Analysis):
        least = -(-spec.min_samples // spec.hop_length)
    else:
        _fill_tables(module, mel)
    batch, frames = Dim("batch", min=1, max=MOST_ITEMS), Dim("frames", min=least, max=MOST_FRAMES)
    samples = spec.hop_length * frames
    axes = {
        "mel": {0: batch, 2: frames},
        "noise": {0: batch, 2: samples},
        "x_t": {0: batch, 1: samples},
        "t": {0: batch},
        "waveform": {0: batch, 1: samples},
    }
    return _program(module, inputs, {name: axes[name] for name in inputs})


@torch.no_grad()
def traced_sounds(module: SoundSteps) -> ExportedProgram:
    """The program of a generator, for one sound of its usual length."""
    if module.vocoder is not None:
        _fill_tables(module.vocoder, module.silence.expand(2, -1, _FRAMES))
    return _program(module, module.inputs(), None)


def _fill_tables(module: DenoiserStep | FewSteps, mel: Tensor) -> None:
    """Filterbanks and tables that are kept once computed must not first be computed of tracing's tensors without data.

    Args:
        module: whose denoiser has them.
        mel: (B, n_mels, frames)
    """
    batch, _, frames = mel.shape
    module.denoiser.bind(Condition(mel))(torch.zeros(batch, frames * module.hop_length), torch.full((batch,), 0.5))


def _program(module: nn.Module, inputs: dict[str, Tensor], shapes: Any) -> ExportedProgram:
    with quiet():
        program = torch.export.export(module, (), kwargs=inputs, dynamic_shapes=shapes, strict=False)
    for part in program.graph_module.modules():  # a loop's body is one
        if isinstance(part, GraphModule):
            for node in part.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths on the exporter's machine, a third of a small file
    return program


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' remarks on themselves, which no user can do anything about."""
    least = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(least)


FACTS = "wavediff.json"
"""Name of the file's `extra_files` that holds its metadata, one JSON object of strings."""


def export_torch(
    vocoder: Vocoder,
    path: str | os.PathLike[str],
    what: What = "sampler",
    plan: Plan | None = None,
    *,
    overwrite: bool = False,
) -> dict[str, str]:
    """Write a vocoder as a program of torch, atomically.

    Args:
        vocoder, what, plan, overwrite: as `export_onnx`.
        path: `.pt2`.

    Returns:
        The file's metadata; see `contract`.

    Raises:
        ConfigError: the model takes labels, the plan has too many evaluations, or there is one for a step.
        OutputError: the name does not end in `.pt2`, the file exists or cannot be written.
    """
    check_file(path, ".pt2", overwrite=overwrite)
    module, plan = module_of(vocoder, what, plan, FourierSTFT)
    facts = contract(vocoder, module, plan)
    program = traced(module, vocoder.mel_spec)
    with quiet(), atomic_write(path, overwrite=overwrite) as temporary, open(temporary, "wb") as file:
        torch.export.save(program, file, extra_files={FACTS: json.dumps(facts)})
    return facts

"""What can be exported of a vocoder, what an exported file says of itself, and torch's exported programs.

Batch and frames stay open in a program, or every size is fixed. It is a form of a vocoder itself (`.pt2`):
`torch.export.load` reads and runs it without wavediff.
"""

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from wavediff.backbones import Condition
from wavediff.diffusion import Plan
from wavediff.errors import ConfigError, OutputError
from wavediff.exporting.modules import Analysis, DenoiserStep, FewSteps, SoundSteps, exportable
from wavediff.exporting.real_stft import FourierSTFT, PairSTFT
from wavediff.files import atomic_write, check_output
from wavediff.mel import MelSpec
from wavediff.pipelines.vocoder import Vocoder
from wavediff.version import __version__

What = Literal["step", "sampler"]
"""The denoiser alone, or all of the sampling."""
FORMAT_VERSION = 1
MOST_EVALUATIONS = 50  # written out one after the other, each as large as the network


def check_file(path: str | os.PathLike[str], suffix: str, *, overwrite: bool) -> None:
    """Refuse what cannot be written, or lacks the suffix that runtimes expect.

    Raises:
        OutputError: it is such a file.
    """
    if Path(path).suffix != suffix:
        raise OutputError(f"{path}: a file of this format ends in {suffix}; rename it")
    check_output(Path(path), overwrite=overwrite)


def module_of(
    vocoder: Vocoder, what: What, plan: Plan | None, transform: type[PairSTFT]
) -> tuple[DenoiserStep | FewSteps, Plan | None]:
    """The module to export, and the plan that it follows.

    Args:
        vocoder: without class labels.
        what: "step" or "sampler".
        plan: of the sampler; `Vocoder.plan()` by default.
        transform: which form short-time Fourier transforms take.

    Raises:
        ConfigError: neither step nor sampler, the model takes labels, the plan has too many evaluations, or there is
            one for a step.
    """
    if vocoder.config.labels:
        raise ConfigError("config.labels: a vocoder of several classes cannot be exported; use one without labels")
    denoiser = exportable(vocoder.denoiser, transform)
    if what == "step":
        if plan is not None:
            raise ConfigError("plan: a step has none, its caller chooses the times; export the sampler instead")
        return DenoiserStep(denoiser, vocoder.hop_length).eval(), None
    if what != "sampler":
        raise ConfigError(f"what: {what!r} is neither 'step' nor 'sampler'")
    plan = vocoder.plan() if plan is None else plan
    if plan.evaluations > MOST_EVALUATIONS:
        raise ConfigError(
            f"num_steps: {plan.evaluations} evaluations of the network are too many to write out, {MOST_EVALUATIONS} "
            "is the most; take fewer, or export the step"
        )
    return FewSteps(denoiser, plan, vocoder.hop_length).eval(), plan


def contract(vocoder: Vocoder, module: DenoiserStep | FewSteps, plan: Plan | None) -> dict[str, str]:
    """All that who runs an exported file without wavediff must know: names and strings, most of them JSON.

    `format_version`, `wavediff_version` and `what` ("step" or "sampler"); `mel` (an object of every constant of the
    dialect), `mel_name`, `n_mels`, `sample_rate` [Hz], `hop_length` [samples]; `draws` (noises an item takes),
    `noise_hop` (samples of each that belong to a frame: more than `hop_length` where speech is resampled),
    `evaluations` (of the network), `plan` (its sampler and times); `schedule`, `prediction` and `prior`, as a model
    file has them.
    """
    config, spec = vocoder.config.to_dict(), vocoder.mel_spec
    facts: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "wavediff_version": __version__,
        "what": "step" if plan is None else "sampler",
        "mel": config["mel"],
        "mel_name": spec.name,
        "n_mels": spec.n_mels,
        "sample_rate": spec.sample_rate,
        "hop_length": spec.hop_length,
        "draws": module.draws,
        "noise_hop": module.hop_length,
        "evaluations": module.evaluations,
        "plan": None if plan is None else {"sampler": plan.sampler, "times": list(plan.times)},
        "schedule": config["schedule"],
        "prediction": config["prediction"],
        "prior": config["prior"],
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}


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
    mel = torch.zeros(2, spec.n_mels, _FRAMES, dtype=torch.float32)
    inputs = module.inputs(mel)
    least = 1
    if isinstance(module, Analysis):
        least = -(-spec.min_samples // spec.hop_length)
    else:
        _fill_tables(module, mel)
    batch, frames = Dim("batch", min=1, max=MOST_ITEMS), Dim("frames", min=least, max=MOST_FRAMES)
    samples = (spec.hop_length if isinstance(module, Analysis) else module.hop_length) * frames
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
    x_t, t = mel.new_zeros(batch, frames * module.hop_length), mel.new_full((batch,), 0.5)
    module.denoiser.bind(Condition(mel))(x_t, t)


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
    written = io.BytesIO()  # torch ends the process where it writes to a full disk itself
    with quiet():
        torch.export.save(program, written, extra_files={FACTS: json.dumps(facts)})
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(written.getbuffer())
    return facts

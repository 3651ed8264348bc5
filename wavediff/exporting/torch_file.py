"""A vocoder as a program of torch (`.pt2`), which `torch.export.load` reads and runs without wavediff."""

import json
import os

import torch

from wavediff.diffusion import Plan
from wavediff.exporting.contract import What, check_file, contract, module_of
from wavediff.exporting.real_stft import FourierSTFT
from wavediff.exporting.tracing import quiet, traced
from wavediff.files import atomic_write
from wavediff.pipelines.vocoder import Vocoder

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

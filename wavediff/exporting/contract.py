"""What can be exported of a vocoder, and what an exported file says of itself."""

import json
import os
from pathlib import Path
from typing import Any, Literal

from wavediff.diffusion import Plan
from wavediff.errors import ConfigError, OutputError
from wavediff.exporting.modules import DenoiserStep, FewSteps, exportable
from wavediff.exporting.real_stft import PairSTFT
from wavediff.files import check_output
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
        "evaluations": module.evaluations,
        "plan": None if plan is None else {"sampler": plan.sampler, "times": list(plan.times)},
        "schedule": config["schedule"],
        "prediction": config["prediction"],
        "prior": config["prior"],
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in facts.items()}

"""Say what is in a file: a model, a training checkpoint, a mel spectrogram or audio. Without a file, say what is
installed: versions, devices, threads and extras.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from wavediff.cli.parser import add_options
from wavediff.errors import CheckpointError, WavediffError
from wavediff.version import __version__

EXTRAS = {  # what each is imported as
    "serve": ("starlette", "uvicorn"),
    "onnx": ("onnx", "onnxscript"),
    "hub": ("huggingface_hub",),
    "ray": ("ray",),
    "shards": ("litdata",),
    "s3": ("obstore",),
    "eval": ("pesq", "pystoi", "distillmos", "speechmos", "onnxruntime", "visqol"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="model (file or folder), checkpoint, mel or audio"
    )
    add_options(parser, "json")


def run(args: argparse.Namespace) -> None:
    """Describe the file, or the installation."""
    if args.file is not None and (args.file.is_dir() or not args.file.exists()):
        from wavediff.pipelines.vocoder import Vocoder

        args.file = Vocoder.model_path(args.file)
    if args.file is not None and not args.file.exists():
        raise WavediffError(f"{args.file}: does not exist; check the name")
    facts = describe_installation() if args.file is None else describe(args.file)
    if args.json:
        print(json.dumps(facts))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for name, item in value.items():
                print(f"  {name}: {item}")
        else:
            print(f"{key}: {value}")


def describe_installation() -> dict[str, Any]:
    """Versions, devices, threads, and which extras are there."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    cpu = f"{cores} cores, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    return {
        "kind": "installation",
        "wavediff": __version__,
        "path": str(Path(__file__).parents[1]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in ("torch", "torchaudio", "lightning", "numpy", "soundfile")},
        "devices": {"cpu": cpu} | {f"cuda:{number}": name for number, name in enumerate(gpus)},
        "extras": {extra: _extra(extra, packages) for extra, packages in EXTRAS.items()},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _extra(extra: str, packages: tuple[str, ...]) -> str:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} missing; pip install 'wavediff[{extra}]'" if missing else "installed"


def describe(path: Path) -> dict[str, Any]:
    """What `path` holds, by its extension and then its content."""
    suffix = path.suffix.lower()
    if suffix == ".ckpt":
        return _describe_training(path)
    if suffix == ".npy":
        return _describe_mel(path)
    if suffix == ".safetensors":
        # A mel file has one tensor, "mel"; everything else must be a model, and is refused as one.
        try:
            return _describe_mel(path)
        except WavediffError:
            return _describe_model(path)
    from wavediff.audio import read_info

    info = dataclasses.asdict(read_info(path))
    return {"kind": "audio"} | info | {"path": str(path), "seconds": info["frames"] / info["sample_rate"]}


def _describe_model(path: Path) -> dict[str, Any]:
    """What a model file of any kind says of itself."""
    from wavediff.models.file import KINDS, kind_of, read_model_file

    kind = kind_of(path)
    contents = read_model_file(path, kind if kind in KINDS else "diffusion")
    counted = [weight.numel() for name, weight in contents.weights.items() if ".running_" not in name]
    more: dict[str, Callable[[Path, Any], dict[str, Any]]] = {
        "diffusion": _say_of_model,
        "classifier": _say_of_classifier,
        "extension": lambda path, config: {"network": config},
    }
    return {
        "kind": {"diffusion": "model", "extension": "band extension"}.get(kind, kind),
        "path": str(path),
        "parameters": sum(counted),
        "bytes": path.stat().st_size,
        "use": KINDS[kind][1],
        **(more[kind](path, contents.config) if kind in more else {}),
        "facts": contents.facts,
    }


def _say_of_model(path: Path, data: Any) -> dict[str, Any]:
    from wavediff.mel import PRESETS
    from wavediff.models.config import ModelConfig
    from wavediff.models.file import parse_config

    parsed = parse_config(path, ModelConfig.from_dict, data)
    config, mel = parsed.to_dict(), parsed.mel
    return {
        **{name: config[name] for name in ("backbone", "schedule", "prediction", "prior")},
        "mel": "none" if mel is None else mel.describe(),
        "adapters": [
            ", ".join(name for name, spec in PRESETS.items() if adapter.takes(spec)) or adapter.mel.describe()
            for adapter in parsed.adapters
        ],
        "sample_rate": config["sample_rate"],
        "labels": config["labels"],
        "plans": {
            str(number): f"{plan.sampler} at {' '.join(f'{t:.4g}' for t in plan.times[:-1])}"
            for number, plan in parsed.plans
        },
    }


def _say_of_classifier(path: Path, data: Any) -> dict[str, Any]:
    from wavediff.metrics.classifier import SoundClassifierConfig
    from wavediff.models.file import parse_config

    config = parse_config(path, SoundClassifierConfig.from_dict, data)
    return config.to_dict() | {"mel": config.mel.describe()}


def _describe_mel(path: Path) -> dict[str, Any]:
    from wavediff.mel import likely_dialects, read_mel

    mel, spec = read_mel(path)
    return {
        "kind": "mel",
        "path": str(path),
        "n_mels": mel.shape[0],
        "frames": mel.shape[1],
        "dialect": spec.describe() if spec is not None else "not said; likely " + ", ".join(likely_dialects(mel)),
        "range": {"lowest": mel.min().item(), "mean": mel.mean().item(), "highest": mel.max().item()},
    }


def _describe_training(path: Path) -> dict[str, Any]:
    from wavediff.training.guards import CONFIG_KEY, load_training_checkpoint

    state = load_training_checkpoint(path)
    if CONFIG_KEY not in state:
        raise CheckpointError(f"{path}: is not a training checkpoint of wavediff; give one that it wrote")
    return {
        "kind": "training checkpoint",
        "path": str(path),
        "epoch": state["epoch"],
        "step": state["global_step"],
        "backbone": state[CONFIG_KEY]["backbone"],
    }

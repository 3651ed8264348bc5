"""A vocoder as an ONNX file, which runs wherever ONNX does: no torch, no wavediff."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from wavediff.diffusion import Plan
from wavediff.errors import require_packages
from wavediff.exporting.real_stft import MatrixSTFT
from wavediff.exporting.tracing import What, check_file, contract, module_of, quiet, traced
from wavediff.files import atomic_write
from wavediff.pipelines.vocoder import Vocoder

OPSET = 18
_LARGE = 1024  # values; what is smaller is not worth a cast
PACKAGES = ("onnx", "onnxscript")  # which torch's exporter needs


def export_onnx(
    vocoder: Vocoder,
    path: str | os.PathLike[str],
    what: What = "sampler",
    plan: Plan | None = None,
    *,
    overwrite: bool = False,
) -> dict[str, str]:
    """Write a vocoder as one ONNX file, atomically.

    Args:
        vocoder: without class labels.
        path: `.onnx`.
        what: "step", the denoiser: x_t (B, N), t (B,), mel (B, n_mels, frames) -> x_0 (B, N); or "sampler": mel,
            noise (B, draws, N) -> speech (B, N). All float32, N = frames * hop_length; see `FewSteps` for the noise.
        plan: of the sampler; `Vocoder.plan()` by default.
        overwrite: replace an existing file.

    Returns:
        The file's metadata; see `contract`.

    Raises:
        ConfigError: the model takes labels, the plan has too many evaluations, or there is one for a step.
        MissingExtraError: onnx or onnxscript is not installed.
        OutputError: the name does not end in `.onnx`, the file exists or cannot be written.
    """
    check_file(path, ".onnx", overwrite=overwrite)
    require_packages(PACKAGES, "onnx", "the ONNX export")
    module, plan = module_of(vocoder, what, plan, MatrixSTFT)
    facts = contract(vocoder, module, plan)
    with ComplexPadding():
        program = traced(module, vocoder.mel_spec)
    write_onnx(program, module.output, path, facts, overwrite=overwrite)
    return facts


def write_onnx(
    program: ExportedProgram,
    output: str,
    path: str | os.PathLike[str],
    facts: dict[str, str],
    *,
    halve: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a traced program as one ONNX file, atomically.

    Args:
        program: of one output.
        output: its name.
        path, overwrite: see `export_onnx`.
        facts: metadata of the file.
        halve: store weights that float16 holds exactly as float16, which runtimes widen when they load the file.

    Raises:
        OutputError: the file exists or cannot be written.
    """
    with quiet():
        exported = torch.onnx.export(program, output_names=[output], opset_version=OPSET, dynamo=True, verbose=False)
    if exported is None:
        raise RuntimeError("torch.onnx.export returned nothing, though it was given no file to write")
    for value in exported.model.graph.inputs:
        if value.name == "mel" and value.shape is not None:
            exported.rename_axes({str(value.shape[0]): "batch", str(value.shape[2]): "frames"})
    for node in exported.model.graph.all_nodes():
        node.metadata_props.clear()  # where in the exporter's sources it came from
        for result in node.outputs:
            result.metadata_props.clear()
    if halve:
        _halve(exported.model.graph)
    exported.model.metadata_props.update(facts)
    with atomic_write(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(exported.model_proto.SerializeToString())


def _halve(graph: Any) -> None:
    """Large weights that float16 holds exactly, as float16 behind a cast: the same numbers in half the bytes."""
    from onnxscript import ir

    for name, weight in list(graph.initializers.items()):
        wide = weight.const_value.numpy()
        if wide.dtype != "float32" or wide.size < _LARGE or (wide != (half := wide.astype("float16"))).any():
            continue
        cast = ir.node("Cast", [stored := ir.val(f"{name}.half")], {"to": ir.DataType.FLOAT})
        stored.const_value = ir.tensor(half, name=stored.name)
        ir.convenience.replace_all_uses_with(weight, cast.outputs[0])
        del graph.initializers[name]
        graph.register_initializer(stored)
        graph.insert_before(graph[0], cast)


class ComplexPadding(TorchFunctionMode):
    """Pads the two parts of complex numbers one by one: the whole is all that the ONNX exporter lacks."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.pad or not args[0].is_complex():
            return func(*args, **kwargs)
        signal: Tensor = args[0]
        return torch.complex(*(F.pad(part, *args[1:], **kwargs) for part in (signal.real, signal.imag)))

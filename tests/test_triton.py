"""The fused kernel of DiffWave's layers: what it computes, in Triton's interpreter; that it compiles for an H100.

Triton decides when it is imported whether it interprets, so this file, run as a program, computes all cases in a
process of its own.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wavediff.backbones import Condition, DiffWave, DiffWaveConfig
from wavediff.engine.registry import fused_of
from wavediff.engine.triton_diffwave import StackedWeights, TritonDiffWave, available, supports
from wavediff.errors import ConfigError

pytestmark = pytest.mark.slow

CYCLE: dict[str, Any] = {"layers": 7, "dilation_cycle": 7}  # dilations 1, 2 ... 64
TWO = {"layers": 2, "dilation_cycle": 2}
# Configuration, other arguments of the network, frames of the mel. No length is a multiple of the tile, 64 positions.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "plain": ({"channels": 64, **CYCLE}, {"n_mels": 80, "hop_length": 50}, 3),
    "labelled": ({"channels": 16, **CYCLE}, {"n_mels": 16, "hop_length": 50, "n_classes": 3}, 4),
    "step_in_residual": ({"channels": 16, **CYCLE, "step_in_residual": True}, {"n_mels": 20, "hop_length": 50}, 4),
    "upsampler_per_layer": (
        {"channels": 16, **CYCLE, "upsampler_per_layer": True},
        {"n_mels": 16, "hop_length": 50},
        4,
    ),
    "fold": ({"channels": 16, **CYCLE, "fold": 2}, {"n_mels": 16, "hop_length": 50}, 5),
    "48 channels": ({"channels": 48, **TWO, "step_in_residual": True}, {"n_mels": 16, "hop_length": 25}, 2),
    "no mel": ({"channels": 16, **TWO}, {"n_mels": None, "n_classes": 3, "signal_channels": 2}, 1),
}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
POINTERS = ["stream", "after", "skips", "mel", "taps", "mel_weight", "bias", "output", "output_bias"]
SHARED = 227 << 10  # bytes of shared memory an H100 gives one block


def made(config: dict[str, Any], arguments: dict[str, Any]) -> DiffWave:
    """A network whose last layer, zero at the start, lets through what is behind it."""
    torch.manual_seed(0)
    network = DiffWave(DiffWaveConfig(**config), **arguments).eval()
    nn.init.normal_(network.output_projection.weight, std=0.1)
    return network


def inputs(network: DiffWave, length: int, frames: int, batch: int = 2) -> tuple[Tensor, Tensor, Condition]:
    """x_t, t and the condition; no two items alike."""
    torch.manual_seed(1)
    mel = None if network.n_mels is None else 2 * torch.rand(batch, network.n_mels, frames) - 1
    label = torch.tensor([2, 3, 0, 1])[:batch] if network.n_classes else None
    return torch.randn(batch, length), torch.tensor([0.3, 0.9, 0.5, 1.0])[:batch].double(), Condition(mel, label)


@torch.inference_mode()
def error(network: DiffWave, fast: TritonDiffWave, x_t: Tensor, t: Tensor, cond: Condition) -> float:
    """Difference from the network's own output over the rms of that: the largest for float32, else its rms."""
    expected = network(x_t, t, network.prepare(cond))
    output = fast(x_t, t, fast.prepare(cond))
    assert (output.shape, output.dtype) == (x_t.shape, torch.float32)
    difference = output - expected
    size = difference.abs().max() if fast.dtype == torch.float32 else difference.square().mean().sqrt()
    return float(size / expected.square().mean().sqrt())


def case(name: str) -> tuple[DiffWave, tuple[Tensor, Tensor, Condition]]:
    """The network of a case and what it is evaluated on."""
    config, arguments, frames = CASES[name]
    network = made(config, arguments)
    return network, inputs(network, frames * arguments.get("hop_length", 75), frames)


def changed_weights() -> dict[str, float | bool]:
    """Errors after weights were written in place, and after one was replaced; what `refresh` said of these."""
    network, (x_t, t, cond) = case("labelled")
    fast = TritonDiffWave(network)
    layer: Any = network.layers[3]
    first = fast.refresh()
    before = error(network, fast, x_t, t, cond)
    with torch.no_grad():
        layer.dilated_conv.weight.mul_(1.5)
    written = error(network, fast, x_t, t, cond)
    in_place = fast.refresh() == first
    layer.output_projection.weight = nn.Parameter(layer.output_projection.weight.detach() * -1)
    replaced = error(network, fast, x_t, t, cond)
    moved = fast.refresh() != first
    with torch.inference_mode():
        network, _ = case("labelled")
        fast = TritonDiffWave(network)
        fast.refresh()
        layer = network.layers[3]
        layer.dilated_conv.weight.mul_(1.5)
    uncounted = error(network, fast, x_t, t, cond)
    errors = [before, written, replaced, uncounted]
    return {"error": max(errors), "in place": in_place, "moved": moved}


def tuned_error() -> float:
    """The error of the call in which the tiles are tried out, each more than once."""
    import triton

    from wavediff.engine import triton_kernels

    network, (x_t, t, cond) = case("labelled")
    kernel = triton_kernels.tuned(16, 16, "ieee", False)
    only = kernel.configs
    kernel.configs = [*only, triton.Config({**only[0].kwargs, "TILE": 32})]
    kernel._do_bench = lambda call, quantiles: [float(call() or call() is None)] * 3
    result = error(network, TritonDiffWave(network), x_t, t, cond)
    assert len(kernel.cache) == 1  # they were tried
    kernel.configs = only
    return result


def real_tiles() -> dict[str, float]:
    """Errors with the tiles of a GPU, at the longest dilation of BASE: over two tiles, over one and not one."""
    import triton

    from wavediff.engine import triton_kernels

    network = made({"channels": 64, "layers": 10, "dilation_cycle": 10}, {"n_mels": 80, "hop_length": 50})
    errors = {}
    for label, dtype, kind, which, frames in (
        ("float32", torch.float32, "ieee", 0, 4),
        ("bfloat16", torch.bfloat16, "half", -1, 3),
    ):
        kernel, triton.knobs.runtime.interpret = triton_kernels.tuned(64, 80, kind, False), False
        only, config = kernel.configs, triton_kernels.configs(64, 80, kind)[which]
        triton.knobs.runtime.interpret = True
        kernel.configs, tile = [config], f"{config.kwargs['TILE']} x {config.kwargs['CHUNK']}"
        kernel.cache.clear()
        x_t, t, cond = inputs(network, frames * 50, frames)
        errors[f"{label} {tile}"] = error(network, TritonDiffWave(network, dtype), x_t, t, cond)
        kernel.configs = only
        kernel.cache.clear()
    return errors


def repair_bfloat16() -> None:
    """Triton's interpreter keeps bfloat16 as the integers of its bits. It multiplies those, and rounds to zero."""
    import numpy as np
    from triton.runtime import interpreter

    plain_dot, plain_convert = interpreter.InterpreterBuilder.create_dot, interpreter._convert_float

    def widened(bits: Any) -> Any:
        return (bits.astype(np.uint32) << 16).view(np.float32)

    def dot(self: Any, *arguments: Any) -> Any:
        for factor in arguments[:2]:
            if factor.data.dtype == np.uint16:
                factor.data = widened(factor.data)
        return plain_dot(self, *arguments)

    def convert(data: Any, source: Any, target: Any, rounding: Any) -> Any:
        if source == interpreter.tl.bfloat16:
            return widened(data)
        if target == interpreter.tl.bfloat16:
            return torch.from_numpy(np.ascontiguousarray(data)).bfloat16().view(torch.int16).numpy().view(np.uint16)
        return plain_convert(data, source, target, rounding)

    interpreter.InterpreterBuilder.create_dot, interpreter._convert_float = dot, convert


def interpret() -> dict[str, Any]:
    """All that the tests below want to know of the interpreted kernel."""
    repair_bfloat16()
    torch.set_num_threads(1)
    errors = {}
    for name in CASES:
        network, (x_t, t, cond) = case(name)
        for label, dtype in DTYPES.items():
            errors[f"{name} {label}"] = error(network, TritonDiffWave(network, dtype), x_t, t, cond)
    return {"errors": errors, "changed": changed_weights(), "tuned": tuned_error(), "tiles": real_tiles()}


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 2e-3), ("bfloat16", 1.6e-2)])
def test_the_kernel_computes_the_network(interpreted: dict[str, Any], name: str, dtype: str, tolerance: float) -> None:
    assert 0 < interpreted["errors"][f"{name} {dtype}"] < tolerance


def test_half_precision_is_used_where_it_is_asked_for(interpreted: dict[str, Any]) -> None:
    found = [interpreted["errors"][f"plain {dtype}"] for dtype in ("float32", "float16", "bfloat16")]
    assert 10 * found[0] < 4 * found[1] < found[2]  # by the bits of mantissa: 24, 11 and 8


def test_weights_that_change_later_count_and_a_graph_learns_whether_they_moved(interpreted: dict[str, Any]) -> None:
    changed = interpreted["changed"]
    assert changed["error"] < 1e-5
    assert (changed["in place"], changed["moved"]) == (True, True)


def test_the_tiles_of_a_gpu_compute_the_network(interpreted: dict[str, Any]) -> None:
    found = interpreted["tiles"]
    assert list(found) == ["float32 32 x 16", "bfloat16 128 x 32"]
    assert all(0 < error < (1e-5 if name.startswith("float32") else 1.6e-2) for name, error in found.items())


def test_trying_out_tiles_leaves_the_skips_as_they_were(interpreted: dict[str, Any]) -> None:
    assert interpreted["tuned"] < 1e-5


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    triton = pytest.importorskip("triton")
    if triton.knobs.runtime.interpret:
        pytest.skip("TRITON_INTERPRET is set: there is nothing to compile")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    return triton


def configs_of(channels: int, kind: str) -> list[Any]:
    from wavediff.engine import triton_kernels

    return triton_kernels.configs(channels, 80, "half" if kind in ("fp16", "bf16") else kind)


def compiled_for_an_h100(triton: Any, channels: int, kind: str, config: Any) -> Any:
    """The kernel of a configuration, ahead of time: no GPU is needed."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from wavediff.engine import triton_kernels

    element, precision = (kind, "ieee") if kind in ("fp16", "bf16") else ("fp32", kind)
    constants = {"WIDTH": channels, "BANDS": 80, "PRECISION": precision, **config.kwargs}
    float32 = {"skips", "bias", "output_bias"}
    signature = {name: "*fp32" if name in float32 else f"*{element}" for name in POINTERS}
    signature |= {"length": "i32", "dilation": "i32"} | dict.fromkeys(constants, "constexpr")
    source = ASTSource(
        triton_kernels.residual_layer,
        signature,
        constants,
        {(index,): [["tt.divisibility", 16]] for index in range(len(POINTERS))},
    )
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)


@pytest.mark.parametrize("channels", [64, 128])
@pytest.mark.parametrize("kind", ["ieee", "tf32", "fp16", "bf16"])
def test_the_kernel_compiles_for_an_h100(channels: int, kind: str, compiler: Any) -> None:
    # The one that needs most shared memory.
    config = max(
        configs_of(channels, kind),
        key=lambda c: (c.kwargs["TILE"] + 2 * channels) * c.kwargs["CHUNK"] * c.num_stages,
    )
    compiled = compiled_for_an_h100(compiler, channels, kind, config)
    assert ".target sm_90a" in compiled.asm["ptx"]
    assert compiled.asm["cubin"]
    assert 0 < compiled.metadata.shared <= SHARED
    assert ("wgmma.mma_async" in compiled.asm["ptx"]) == (kind != "ieee")  # on tensor cores, but for whole float32


# Bytes of stack, which is memory that registers are spilled to, of 64 and of 128 channels: without tensor cores much.
STACK = {"fp16": (0, 16), "bf16": (0, 16), "tf32": (0, 64), "ieee": (320, 2_048)}


@pytest.mark.long
@pytest.mark.parametrize("width", [0, 1])
@pytest.mark.parametrize("kind", STACK)
def test_no_configuration_spills_much_or_exceeds_the_shared_memory(
    width: int, kind: str, compiler: Any, tmp_path: Path
) -> None:
    tool = Path(compiler.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    channels = (64, 128)[width]
    for config in configs_of(channels, kind):
        compiled = compiled_for_an_h100(compiler, channels, kind, config)
        assert 0 < compiled.metadata.shared <= SHARED
        binary = tmp_path / "kernel.cubin"
        binary.write_bytes(compiled.asm["cubin"])
        told = subprocess.run([tool, "--dump-resource-usage", binary], capture_output=True, text=True, check=True)
        stack = re.search(r"STACK:(\d+)", told.stdout)
        assert stack is not None
        assert int(stack[1]) <= STACK[kind][width], config


@pytest.mark.skipif(not available(torch.device("cuda")), reason="needs a GPU of CUDA and Triton")
@pytest.mark.parametrize(
    ("dtype", "allow_tf32", "tolerance"),
    [
        (torch.float32, False, 1e-4),
        (torch.float32, True, 1.6e-2),
        (torch.float16, False, 4e-3),
        (torch.bfloat16, False, 1.6e-2),
    ],
)
def test_a_gpu_computes_base(
    dtype: torch.dtype, allow_tf32: bool, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    network = made({}, {}).cuda()
    for frames in (13, 400):  # either side of BUSY
        x_t, t, cond = inputs(network, frames * 256, frames)
        assert cond.mel is not None
        fast = TritonDiffWave(network, dtype, allow_tf32=allow_tf32)
        assert error(network, fast, x_t.cuda(), t.cuda(), Condition(cond.mel.cuda())) < tolerance


@pytest.mark.parametrize(
    ("channels", "fits"), [(8, False), (16, True), (24, False), (96, True), (128, True), (256, False)]
)
def test_the_kernel_wants_whole_products_and_few_enough_channels(channels: int, fits: bool) -> None:
    network = DiffWave(DiffWaveConfig(channels=channels, layers=1), n_mels=None)
    assert supports(network) == fits
    if not fits:
        with pytest.raises(ConfigError, match=r"16, 32, 48 \.\.\. 128 channels"):
            TritonDiffWave(network)
    assert fused_of(nn.Linear(16, 16)) is None
    assert (fused_of(network) is not None) == fits


def test_other_types_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dtype: torch.float64 is none of torch.float32, torch.float16"):
        TritonDiffWave(made({"channels": 16, **TWO}, {"n_mels": None}), torch.float64)


def test_a_mel_of_another_length_is_refused_before_it_is_read_beyond_its_end() -> None:
    network, (x_t, t, cond) = case("fold")
    fast = TritonDiffWave(network)
    with pytest.raises(ConfigError, match=r"cond\.mel: 125 positions, but x_t has 126"):
        fast(torch.cat([x_t, x_t[:, :2]], 1), t, fast.prepare(cond))
    with pytest.raises(ConfigError, match=r"cond\.mel: this model needs a mel"):
        fast.prepare(Condition())


def test_filled_up_channels_are_zero() -> None:
    network = made({"channels": 48, **TWO}, {"n_mels": 20, "n_classes": 2})
    weights = StackedWeights.of(network, 64, 32, torch.float32)
    assert weights.taps.shape == (2, 3, 64, 128)
    assert weights.mel.shape == (2, 32, 128)
    for weight in (weights.taps, weights.mel, weights.output, weights.bias, weights.output_bias, weights.label):
        assert weight is not None
        assert not weight[..., 48:64].any()
        assert not weight[..., 112:].any()
        assert weight[..., :48].any()


def test_only_a_gpu_with_triton_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not available(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setitem(sys.modules, "triton", sys)  # any module
    assert not available(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert available(torch.device("cuda"))
    monkeypatch.setitem(sys.modules, "triton", None)  # as if not installed
    assert not available(torch.device("cuda"))


def test_the_package_imports_without_triton() -> None:
    code = "import sys; sys.modules['triton'] = None; import wavediff, wavediff.engine.triton_diffwave"
    subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    print(json.dumps(interpret()))

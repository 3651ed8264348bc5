"""Calls by CUDA graph: when one is captured, used again or given up; a real one gives what the function gives.

Also all of sampling as such a call, on the CPU and on a GPU that is not there.
"""

import functools
import runpy
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY
from shadow import Counts, host, shadow_device
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from vocoders import CONFIGS, SPEC, mels, untrained

from wavediff import Vocoder
from wavediff.audio import read_audio
from wavediff.backbones import DiffWaveConfig
from wavediff.bulk.decoding import Decoder, Settings
from wavediff.bulk.jobs import Item, Job
from wavediff.bulk.reading import Loaded
from wavediff.diffusion import DiscreteSchedule, noise
from wavediff.diffusion.discrete import _alphas
from wavediff.engine import GraphedWalk, graphed_walk
from wavediff.engine.graphed_walk import GraphedCall
from wavediff.errors import SamplingError
from wavediff.mel.stft import _inversion

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of CUDA")


class Recorder:
    """Stands in for `capture_cuda` on a CPU: repeats the function on the tensors it was captured with."""

    def __init__(self) -> None:
        self.captures: list[list[tuple[int, ...]]] = []
        self.replays = 0
        self.inputs: list[Tensor] = []
        self.output: Any = torch.empty(0)

    def __call__(self, function: Callable[..., Any], inputs: Sequence[Tensor]) -> tuple[Callable[[], None], Any]:
        self.captures.append([tuple(x.shape) for x in inputs])
        self.inputs, self.output = list(inputs), function(*inputs)
        output = self.output

        def replay() -> None:
            self.replays += 1
            for old, new in zip(_parts(output), _parts(function(*inputs)), strict=True):
                old.copy_(new)

        return replay, output


def _parts(output: Any) -> tuple[Tensor, ...]:
    return output if isinstance(output, tuple) else (output,)


def add(x: Tensor, y: Tensor) -> Tensor:
    return x + 2 * y


def on_cpu(function: Callable[..., Tensor], capture: Any, **options: Any) -> GraphedCall:
    return GraphedCall(function, capture=capture, device_type="cpu", **options)


def test_one_graph_serves_all_inputs_of_a_kind_whatever_their_values_and_strides() -> None:
    recorder = Recorder()
    call = on_cpu(add, recorder)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        x, y = torch.randn(4, 3, generator=generator), torch.randn(3, 4, generator=generator).T
        torch.testing.assert_close(call(x, y), add(x, y))
    assert (len(recorder.captures), recorder.replays) == (1, 3)


def test_the_callers_tensors_are_neither_kept_nor_written() -> None:
    recorder = Recorder()
    call = on_cpu(add, recorder)
    x, y = torch.ones(2), torch.ones(2)
    first = call(x, y)
    second = call(10 * x, y)
    assert (x.tolist(), first.tolist(), second.tolist()) == ([1, 1], [3, 3], [12, 12])
    assert not {tensor.data_ptr() for tensor in (x, y, first, second)} & {
        tensor.data_ptr() for tensor in (*recorder.inputs, recorder.output)
    }


def test_another_shape_or_type_is_captured_anew_and_an_old_one_is_not() -> None:
    recorder = Recorder()
    call = on_cpu(add, recorder)
    x = torch.ones(2)
    counts = []
    for step in (x, torch.ones(3), x.double(), x, torch.ones(1, 2)):
        output = call(step, step)
        assert torch.equal(output, 3 * step)
        assert output.dtype == step.dtype
        counts.append(len(recorder.captures))
    assert counts == [1, 2, 3, 3, 4]


def test_graphs_of_another_state_are_forgotten_even_if_it_comes_back() -> None:
    recorder, state = Recorder(), [0]
    call = on_cpu(add, recorder, state=lambda: state[0])
    counts = []
    for state[0] in (0, 0, 1, 1, 0):
        call(torch.ones(2), torch.ones(2))
        counts.append(len(recorder.captures))
    assert counts == [1, 1, 2, 2, 3]


def test_the_graph_that_was_not_used_for_longest_goes_first() -> None:
    recorder = Recorder()
    call = on_cpu(add, recorder)
    for length in (*range(1, 9), 1, 9, 1):  # 9 drives out 2, for 1 has been used since
        call(torch.ones(length), torch.ones(length))
    assert len(recorder.captures) == len(call._graphs) + 1 == graphed_walk.MAX_GRAPHS + 1 == 9
    call(torch.ones(2), torch.ones(2))
    assert recorder.captures[-1] == [(2,), (2,)]
    assert len(call._graphs) == graphed_walk.MAX_GRAPHS


def test_what_cannot_be_captured_runs_all_the_same_and_is_told_once() -> None:
    tried = []

    def fails(function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Any:
        tried.append(len(inputs[0]))
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    call = on_cpu(add, fails)
    x = torch.ones(2)
    with pytest.warns(
        RuntimeWarning, match=r"no CUDA graph.*: operation not permitted when stream is capturing$"
    ) as told:
        assert call(x, x).tolist() == [3, 3]
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call(10 * x, x).tolist() == [12, 12]
        assert call(torch.ones(3), torch.ones(3)).tolist() == [3, 3, 3]
    assert tried == [2, 3]  # not again for the same kind


def test_an_error_of_the_function_itself_is_passed_on() -> None:
    def refuses(x: Tensor) -> Tensor:
        raise ValueError("x: too long")

    with pytest.raises(ValueError, match="too long"):
        on_cpu(refuses, Recorder())(torch.ones(2))


def test_where_there_are_no_graphs_the_function_is_just_called() -> None:
    recorder = Recorder()
    call = GraphedCall(add, capture=recorder)
    assert call(torch.ones(2), torch.ones(2)).tolist() == [3, 3]
    mixed = GraphedCall(lambda x, y: x, capture=recorder, device_type="cpu")
    mixed(torch.ones(2), torch.ones(2, device="meta"))
    assert GraphedCall(lambda: torch.ones(1), capture=recorder)().tolist() == [1]
    assert recorder.captures == []


class Reads(TorchDispatchMode):
    """Notes the memory that is read and was not made meanwhile; all of it is held, so that no other takes its place."""

    def __init__(self) -> None:
        super().__init__()
        self.read: dict[int, tuple[str, Any]] = {}
        self._made: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [x.untyped_storage() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor) and x.ndim]
        if func is not torch.ops.aten.lift_fresh.default:  # of what was made of numbers just now
            self.read |= {x._cdata: (str(func), x) for x in given if x._cdata not in self._made}
        result = func(*args, **(kwargs or {}))
        made = [x.untyped_storage() for x in tree_leaves(result) if isinstance(x, Tensor)]
        self._made |= {x._cdata: x for x in made if x._cdata not in self.read}
        return result


@pytest.fixture
def counted_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU draws the noise of a GPU."""
    monkeypatch.setattr(noise, "counts_on", lambda device: True)


@pytest.fixture
def gpu(counted_noise: None) -> Iterator[Counts]:
    with shadow_device() as counts:
        yield counts


def graphed(name: str, capture: Any) -> Vocoder:
    vocoder = untrained(CONFIGS[name])
    options = {"capture": capture, "device_type": "cpu"}
    vocoder._graphs = GraphedWalk(vocoder.denoiser, vocoder.denoiser.backbone, SPEC.hop_length, buckets=True, **options)
    return vocoder


@pytest.mark.parametrize("name", ["frames", "folded"])
def test_one_graph_samples_mels_of_many_lengths(name: str, counted_noise: None) -> None:
    recorder, plain = Recorder(), untrained(CONFIGS[name])
    vocoder, seeds = graphed(name, recorder), [1, 2, 3]
    for frames, lengths in ((24, None), (40, None), (24, [24, 10, 17]), (64, None), (41, None)):
        mel = mels(SPEC, 3, frames)
        made = vocoder.decode(mel, seed=seeds, lengths=lengths)
        expected = plain.decode(mel, seed=seeds, lengths=lengths)
        torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)
    assert len(recorder.captures) == 2  # whole buckets need no lengths
    vocoder.decode(mels(SPEC, 3, 24), 1)
    vocoder.decode(mels(SPEC, 2, 24))
    assert len(recorder.captures) == 4  # another plan, another number of items


def test_files_of_a_run_are_sampled_by_graphs_too(counted_noise: None, tmp_path: Path) -> None:
    recorder = Recorder()
    decoder = Decoder(graphed("frames", recorder), Settings())
    for number, lengths in enumerate(([24, 24], [24, 17], [20], [9, 33])):
        batch = []
        for item, frames in enumerate(lengths):
            job = Job(Path(f"{item}.npy"), tmp_path / f"{number}-{item}.wav")
            batch.append(Loaded(Item(job, 0.2), mels(SPEC, 1, frames)[0].numpy()))
        made = [read_audio(row["output"])[0] for row in decoder(batch) if isinstance(row, dict)]
        assert [len(waveform) for waveform in made] == [frames * SPEC.hop_length for frames in lengths]
    assert recorder.captures == [[(2, 20, 64), (2, 2), (2,)], [(1, 20, 64), (1, 2), (1,)]]


def test_nan_in_a_graph_is_told(counted_noise: None) -> None:
    vocoder = graphed("frames", Recorder())
    with torch.no_grad():
        vocoder.denoiser.backbone.band_offset.fill_(torch.nan)  # type: ignore[union-attr,operator]
    for frames in (24, 64):
        with pytest.raises(SamplingError, match="step 1 of 2 gave NaN"):
            vocoder.decode(mels(SPEC, 1, frames))


@pytest.mark.parametrize("name", ["frames", "folded"])
def test_a_graph_reads_nothing_that_may_go_away(
    name: str, counted_noise: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    strangers: list[str] = []

    def capture(function: Callable[..., Any], inputs: Sequence[Tensor]) -> Any:
        denoiser, device = vocoder.denoiser, torch.device("cpu")
        function(*inputs)  # the warm-up, in which tables are made for good
        kept = [*inputs, *denoiser.parameters(), *denoiser.buffers(), *_inversion(SPEC, device)]
        if isinstance(denoiser.schedule, DiscreteSchedule):
            kept.append(_alphas(denoiser.schedule, device))
        own = {x.untyped_storage()._cdata for x in kept}
        with monkeypatch.context() as change, Reads() as reads:
            change.setattr("wavediff.mel.stft.is_captured", lambda device: True)
            output = function(*inputs)
        strangers.extend(what for storage, (what, _) in reads.read.items() if storage not in own)
        assert own & set(reads.read)
        return lambda: None, output

    vocoder = graphed(name, capture)
    for frames in (24, 64):
        vocoder.decode(mels(SPEC, 1, frames))
    assert strangers == []


@pytest.mark.parametrize("name", ["frames", "samples", "folded"])
def test_a_graph_holds_no_wait_and_no_copy(name: str, gpu: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which no capture permits; and `fused` makes one."""
    monkeypatch.setattr("wavediff.engine.registry.available", lambda device: False)  # Triton would look for a real GPU
    held = []

    def capture(function: Callable[..., Any], inputs: Sequence[Tensor]) -> Any:
        function(*inputs)
        gpu.clear()
        output = function(*inputs)
        held.append((gpu.launches.total() > 100, gpu.waits.total(), gpu.copies.total()))
        return lambda: None, output

    vocoder = untrained(CONFIGS[name])
    expected = [vocoder.decode(mels(SPEC, 2, frames)) for frames in (64, 24)]
    vocoder.to("cuda", fused=True)
    vocoder._graphs._call._capture = capture  # type: ignore[union-attr]
    for frames, speech in zip((64, 24), expected, strict=True):
        torch.testing.assert_close(host(vocoder.decode(mels(SPEC, 2, frames))), speech, atol=2e-4, rtol=0)
    assert held == [(True, 0, 0)] * 2
    launches = gpu.launches
    gpu.clear()
    vocoder.decode(mels(SPEC, 2, 64))
    assert launches.total() < 60  # beside those of the graph, which is not replayed here


@cuda
def test_a_real_graph_gives_what_the_function_gives() -> None:
    calls = []

    def function(x: Tensor, weight: Tensor) -> Tensor:
        calls.append(1)
        return torch.tanh(x @ weight).cumsum(0)

    call = GraphedCall(function)
    for seed in range(4):
        torch.manual_seed(seed)
        x, weight = torch.randn(50, 20, device="cuda"), torch.randn(20, 30, device="cuda")
        torch.testing.assert_close(call(x, weight), torch.tanh(x @ weight).cumsum(0))
    assert len(calls) == graphed_walk.WARM_UPS + 1


@cuda
def test_a_function_that_waits_for_a_value_is_not_captured() -> None:
    call = GraphedCall(lambda x: x * float(x.sum()))
    x = torch.ones(3, device="cuda")
    with pytest.warns(RuntimeWarning, match="no CUDA graph"):
        assert call(x).tolist() == [3, 3, 3]
    assert call(2 * x).tolist() == [12, 12, 12]


def test_the_script_for_a_lent_gpu_runs(gpu: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rehearsed: all but the kernels, which a machine without a GPU has not."""
    script, recorder = runpy.run_path(str(REPOSITORY / "recipes" / "gpu.py")), Recorder()
    monkeypatch.setattr("wavediff.engine.registry.available", lambda device: False)
    monkeypatch.setattr("wavediff.engine.graphed_walk.GraphedCall", functools.partial(GraphedCall, capture=recorder))
    monkeypatch.setattr("wavediff.bench.machine.launches", lambda run, device: (run(), 7)[1])
    monkeypatch.setattr("wavediff.bench.machine.peak_memory", lambda run, device: (run(), 0)[1])
    monkeypatch.setitem(script["timings"].__globals__, "ITEMS", 3)
    small = script["base"](DiffWaveConfig(8, 2, 2))
    lines = list(script["checks"]("small", small, "cuda", 1e-4))
    assert [line[:6] for line in lines] == ["right "] * 9
    assert len(recorder.captures) == 4
    assert sum("7 launches" in line for line in script["timings"]("small", small, "cuda", 0.3, 1)) == 9

"""Calls by CUDA graph: when one is captured, used again or given up; a real one gives what the function gives."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from wavediff.engine import graphs
from wavediff.engine.graphs import GraphedCall

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of CUDA")


class Recorder:
    """Stands in for `capture_cuda` on a CPU: repeats the function on the tensors it was captured with."""

    def __init__(self) -> None:
        self.captures: list[list[tuple[int, ...]]] = []
        self.replays = 0
        self.inputs: list[Tensor] = []
        self.output = torch.empty(0)

    def __call__(self, function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> tuple[Callable[[], None], Tensor]:
        self.captures.append([tuple(x.shape) for x in inputs])
        self.inputs, self.output = list(inputs), function(*inputs)
        output = self.output

        def replay() -> None:
            self.replays += 1
            output.copy_(function(*inputs))

        return replay, output


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
    assert len(recorder.captures) == len(call._graphs) + 1 == graphs.MAX_GRAPHS + 1 == 9
    call(torch.ones(2), torch.ones(2))
    assert recorder.captures[-1] == [(2,), (2,)]
    assert len(call._graphs) == graphs.MAX_GRAPHS


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
    assert len(calls) == graphs.WARM_UPS + 1


@cuda
def test_a_function_that_waits_for_a_value_is_not_captured() -> None:
    call = GraphedCall(lambda x: x * float(x.sum()))
    x = torch.ones(3, device="cuda")
    with pytest.warns(RuntimeWarning, match="no CUDA graph"):
        assert call(x).tolist() == [3, 3, 3]
    assert call(2 * x).tolist() == [12, 12, 12]

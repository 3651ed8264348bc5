"""CUDA graphs: hundreds of small kernels started by one call of the driver.

`GraphedCall` does so for any function of tensors, `GraphedWalk` for all of sampling: spectra, start, evaluations and
what lies between are one launch.
"""

import functools
import inspect
import itertools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from wavediff.backbones.conditioning import Condition
from wavediff.diffusion import ItemNoise, Plan, unroll
from wavediff.diffusion.noise import CountedDraw
from wavediff.diffusion.walk import Steps, states
from wavediff.engine.precision import without_gradients
from wavediff.engine.streaming import StreamedVocoder
from wavediff.mel.lines import Ends
from wavediff.models.denoiser import Denoiser
from wavediff.models.sampling import begin, first_state

WARM_UPS = 3  # calls before a capture, in which libraries take their workspaces and kernels are compiled and tuned
MAX_GRAPHS = 8  # each keeps the memory of a whole call

Output = Tensor | tuple[Tensor, ...]
Function = Callable[..., Output]
Captured = tuple[Callable[[], object], Output]  # run it again, and where its output is then


def capture_cuda(function: Function, inputs: Sequence[Tensor]) -> Captured:
    """A CUDA graph of `function` on these very tensors.

    Raises:
        RuntimeError: the function does what no graph can hold, such as to wait for a value, or memory is short.
    """
    with torch.cuda.device(inputs[0].device):
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                function(*inputs)
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # What other threads do meanwhile, such as loading data, must not spoil the capture.
        # On the stream of this device: torch's own would be that of the device of the first capture.
        with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local", **_liveness()):
            output = function(*inputs)
    return graph.replay, output


@functools.cache
def _liveness() -> dict[str, Any]:
    """Where torch can, a capture refuses to read memory that nobody keeps."""
    return {name: True for name in inspect.signature(torch.cuda.graph).parameters if name == "check_input_liveness"}


class GraphedCall:
    """Calls a function of tensors, by a CUDA graph for each kind of input; not for several threads at once.

    A graph repeats work, not Python: whatever the function reads beside its arguments must stay in its place, or
    `state` must tell that it moved. Runs without gradients.

    Args:
        function: (Tensor, ...) -> a tensor or a tuple of tensors.
        state: called before each call; when it returns something else than before, all graphs are forgotten.
        capture: makes a graph.
        device_type: of the devices that have graphs; on others, and on several at once, the function is just called.
    """

    def __init__(
        self,
        function: Function,
        state: Callable[[], Hashable] = lambda: None,
        *,
        capture: Callable[[Function, Sequence[Tensor]], Captured] = capture_cuda,
        device_type: str = "cuda",
    ) -> None:
        self.function, self.state = function, state
        self._capture, self._device_type = capture, device_type
        # By key, least recently used first: static inputs and the graph; None where there can be none.
        self._graphs: OrderedDict[Hashable, tuple[list[Tensor], Captured] | None] = OrderedDict()
        self._known: Hashable = None
        self._warned = False

    @without_gradients()
    def __call__(self, *inputs: Tensor, **told: Hashable) -> Any:
        """The function of `inputs` and of what it is told, in memory that later calls leave alone."""
        function = functools.partial(self.function, **told)
        devices = {x.device for x in inputs}
        if len(devices) != 1 or devices.pop().type != self._device_type:
            return function(*inputs)
        state = self.state()
        if state != self._known:
            self._graphs.clear()
            self._known = state
        key = (tuple((x.shape, x.dtype, x.device) for x in inputs), *told.items())
        if key not in self._graphs:
            # The oldest goes first, so that its memory is there for the new one.
            while len(self._graphs) >= MAX_GRAPHS:
                self._graphs.popitem(last=False)
            self._graphs[key] = self._captured(function, inputs)
        self._graphs.move_to_end(key)
        graph = self._graphs[key]
        if graph is None:
            return function(*inputs)
        static, (replay, output) = graph
        for target, x in zip(static, inputs, strict=True):
            target.copy_(x)
        replay()
        return output.clone() if isinstance(output, Tensor) else tuple(part.clone() for part in output)

    def _captured(self, function: Function, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Captured] | None:
        static = [x.clone(memory_format=torch.contiguous_format) for x in inputs]
        try:
            return static, self._capture(function, static)
        except RuntimeError as error:
            if not self._warned:
                cause = (str(error).splitlines() or [type(error).__name__])[0]
                warnings.warn(f"no CUDA graph, so calls are slower: {cause}", RuntimeWarning, stacklevel=4)
            self._warned = True
            return None


BUCKET = 64  # frames; mels are filled up to a multiple, so that few graphs serve mels of all lengths


class GraphedWalk:
    """Mels -> what is sampled of them, by a graph for each plan, batch size and filled-up length.

    Args:
        denoiser: of a vocoder.
        network: evaluates its backbone on whole signals.
        hop_length: samples a frame becomes.
        buckets: whether mels are filled up, for which the backbone needs a twin of streams; else each length has its
            own graph, and items must be of one length.
        options: `capture` and `device_type` of `GraphedCall`.
    """

    def __init__(self, denoiser: Denoiser, network: Any, hop_length: int, *, buckets: bool, **options: Any) -> None:
        self.denoiser, self.network, self.hop_length, self.buckets = denoiser, network, hop_length, buckets
        self._call = GraphedCall(self._sampled, self._places, **options)

    def takes(self, mel: Tensor, lengths: Tensor | None, most: int) -> bool:
        """Whether it computes that batch (B, n_mels, frames), of `most` frames that fit the memory or of any if 0."""
        return self._filled(mel.shape[2]) <= (most or mel.shape[2]) and (lengths is None or self.buckets)

    def _filled(self, frames: int) -> int:
        return frames + (-frames % BUCKET if self.buckets else 0)

    def __call__(self, mel: Tensor, lengths: Tensor | None, seeds: Sequence[int], plan: Plan) -> Tensor:
        """(B, n_mels, frames), and the frames (B,) of items that differ -> (B, frames * hop_length).

        Raises:
            SamplingError: a step gave NaN, or the sampler is not linear in the estimates.
        """
        frames, noise = mel.shape[2], ItemNoise(seeds, mel.device)
        more = self._filled(frames) - frames
        draws = 1 + (self.denoiser.start_time < 1) + unroll(plan, self.denoiser.schedule).draws
        beginnings = [CountedDraw(noise.draw_seeds(), mel.device).next for _ in range(draws)]
        inputs = [F.pad(mel, (0, more), mode="replicate"), torch.cat(beginnings, 1)]
        if lengths is not None or more:
            lengths = torch.full((len(mel),), frames, device="cpu") if lengths is None else lengths
            inputs.append(lengths.to(mel.device, non_blocking=True))
        signal, sums = self._call(*inputs, plan=plan)
        Steps(len(sums)).judge(sums)
        return signal[:, : frames * self.hop_length]

    def _places(self) -> Hashable:
        """Where all weights lie: a graph reads them there."""
        refresh = getattr(self.network, "refresh", tuple)
        held = itertools.chain(self.denoiser.parameters(), self.denoiser.buffers())
        return refresh(), tuple(tensor.data_ptr() for tensor in held)

    def _sampled(self, mel: Tensor, noise: Tensor, lengths: Tensor | None = None, *, plan: Plan) -> tuple[Tensor, ...]:
        """The signal (B, N), and the sum of what each step gave."""
        denoiser, drawn = self.denoiser, cast(ItemNoise, _Drawn(noise))
        if lengths is not None:
            stream = StreamedVocoder(denoiser, plan, drawn, self.hop_length, Ends(lengths, shortest=0))
            stream.steps.held = True
            return cast(Tensor, stream.push(mel, True)), stream.steps.take()
        steps, bound = Steps(len(plan.times) - 1), denoiser.bind(Condition(mel), self.network)
        steps.held = True
        start = begin(bound, drawn, mel.shape[2] * self.hop_length)
        fresh = bound.noise_of(drawn)
        *_, x = states(bound, first_state(bound, start, plan), denoiser.schedule, plan, fresh, steps)
        return denoiser.at_rate(bound.finished(x)), steps.take()


class _Drawn:
    """The `ItemNoise` whose draws begin with these states (B, draws)."""

    def __init__(self, noise: Tensor) -> None:
        self.device, self.seeds = noise.device, [0] * len(noise)
        self._columns = iter(noise.split(1, 1))

    def draw(self) -> CountedDraw:
        """The next one."""
        return CountedDraw.at(next(self._columns))

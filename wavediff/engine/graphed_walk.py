"""All of sampling as one CUDA graph: spectra, start, evaluations and what lies between are one launch."""

import itertools
from collections.abc import Hashable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from wavediff.backbones.conditioning import Condition
from wavediff.diffusion import ItemNoise, Plan, unroll
from wavediff.diffusion.noise import CountedDraw
from wavediff.diffusion.walk import Steps, states
from wavediff.engine.graphs import GraphedCall
from wavediff.engine.streaming import StreamedVocoder
from wavediff.mel.lines import Ends
from wavediff.models.denoiser import Denoiser
from wavediff.models.sampling import begin, first_state

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
        return bound.finished(x), steps.take()


class _Drawn:
    """The `ItemNoise` whose draws begin with these states (B, draws)."""

    def __init__(self, noise: Tensor) -> None:
        self.device, self.seeds = noise.device, [0] * len(noise)
        self._columns = iter(noise.split(1, 1))

    def draw(self) -> CountedDraw:
        """The next one."""
        return CountedDraw.at(next(self._columns))

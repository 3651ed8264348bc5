"""The mel at the rate of a `DiffWave`, of mels that arrive in pieces."""

import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wavediff.backbones.conditioning import Condition, MelUpsampler
from wavediff.backbones.diffwave import DiffWave
from wavediff.mel.lines import Ends

MEL_REACH = 2  # frames on either side that the mel of a sample is made of: one for each transposed convolution


class SampledMels:
    """The mel at the rate of the network, made as its frames arrive, for all evaluations to read.

    Args:
        network: the network.
        ends: of the items.
        dtype: of what is read.
    """

    def __init__(self, network: DiffWave, ends: Ends | None, dtype: torch.dtype) -> None:
        self.network, self.ends, self.dtype = network, ends, dtype
        upsamplers: list[MelUpsampler] = list(network.upsamplers)  # type: ignore[arg-type]
        self.unit = upsamplers[0].hop_length if upsamplers else 1  # positions a frame takes
        self.label: Tensor | None = None
        self._frames: Tensor | None = None  # those that still have neighbours to come, and theirs
        self._done = self._arrived = self._start = 0
        self._sampled: list[Tensor] = []

    def push(self, conditions: Sequence[Condition], last: bool) -> None:
        """Conditions of pieces of frames; the label is taken from the first."""
        network = self.network
        parts = [] if self._frames is None else [self._frames]
        for cond in conditions:
            network.check(cond)
            if network.label_embedding is not None and self.label is None:
                self.label = network.label_embedding(cond.label)
            if cond.mel is not None:
                mel = cond.mel.transpose(1, 2)
                parts.append(mel if self.ends is None else self.ends.clear(mel, self._arrived))
                self._arrived += mel.shape[1]
        if not parts:
            return
        frames = torch.cat(parts, 1)  # (B, n, n_mels) from frame `first` on
        first = self._arrived - frames.shape[1]
        done = self._arrived if last else max(self._arrived - MEL_REACH, self._done)
        if done > self._done:
            made = [self._upsample(upsampler, frames, first, done) for upsampler in network.upsamplers]
            old = self._sampled or [part[:, :0] for part in made]
            self._sampled = [torch.cat(pair, 1) for pair in zip(old, made, strict=True)]
        self._done = done
        self._frames = frames[:, max(done - MEL_REACH - first, 0) :].clone()

    def _upsample(self, upsampler: nn.Module, frames: Tensor, first: int, done: int) -> Tensor:
        """Positions of the frames from those already done to `done`; `frames` begin at frame `first`."""

        def cleared(x: Tensor, unit: int) -> Tensor:
            mask = None if self.ends is None else self.ends.mask(first * unit, x.shape[-1], unit)
            return x if mask is None else x * mask[:, None, None]

        x: Tensor = upsampler(frames.transpose(1, 2), cleared)
        x = x[..., (self._done - first) * self.unit : (done - first) * self.unit]
        return x.transpose(1, 2).to(self.dtype).contiguous()

    @property
    def ready(self) -> int:
        """Positions, from the first on, whose mel is there."""
        return self._done * self.unit if self.network.upsamplers else sys.maxsize

    def read(self, layer: int, start: int, count: int) -> Tensor | None:
        """(B, n_mels, count) from position `start` on, its channels last in memory; None without a mel."""
        if not self._sampled:
            return None
        sampled = self._sampled[layer % len(self._sampled)]
        return sampled[:, start - self._start : start - self._start + count].transpose(1, 2)

    def forget(self, before: int) -> None:
        """Nobody will read what lies before this position."""
        count = before - self._start
        if self._sampled and count > 0:
            self._sampled = [sampled[:, count:].clone() for sampled in self._sampled]
            self._start = before

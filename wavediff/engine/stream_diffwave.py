"""`DiffWave` on signals that arrive in pieces (B, n, C); no activation of the whole signal ever exists."""

import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.backbones.conditioning import Condition, Workspace
from wavediff.backbones.diffwave import DiffWave
from wavediff.backbones.diffwave_inputs import MelUpsampler
from wavediff.backbones.residual_layer import LayerProducts, ResidualLayer, pointwise
from wavediff.engine.stream_spectra import Whitening
from wavediff.engine.stream_stft import analysis_look_ahead, synthesis_look_ahead
from wavediff.engine.streams import Streams
from wavediff.mel.lines import Context, DelayLine, Ends

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


SAMPLES = 4_096  # in a piece, over all items: 64 channels of float32 fill 1 MiB


class StreamedDiffWave:
    """One evaluation of a `DiffWave` at one time t.

    Args:
        network: the network.
        t: (B,)
        products: of its layers, shared by all evaluations.
        mels: where the mel at its rate is read, shared by all evaluations.
    """

    def __init__(self, network: DiffWave, t: Tensor, products: Sequence[LayerProducts], mels: SampledMels) -> None:
        self.network, self.mels = network, mels
        layers = zip(network.layers, products, network.shifts(t), strict=True)
        self._layers = [_StreamedLayer(index, *layer, mels) for index, layer in enumerate(layers)]  # type: ignore[arg-type]
        self._line, self._samples, self._given = DelayLine(), 0, 0
        self._whitening = None if network.stft is None else Whitening(network.stft, mels.ends)

    @property
    def position(self) -> int:
        """The first position whose mel will be read again."""
        return self._layers[-1].given

    def condition(self, conditions: Sequence[Condition]) -> None:
        """Of the next pieces of frames, before the samples that need them."""
        if self._whitening is not None:
            self._whitening.conditions.extend(conditions)

    def push(self, x_t: Tensor | None, last: bool) -> Tensor | None:
        """Noisy samples (B, n) -> the prediction that is settled."""
        if self._whitening is None:
            return self._layered(x_t, last)
        return self._whitening.push(x_t, self._layered, last)

    def _layered(self, x_t: Tensor | None, last: bool) -> Tensor | None:
        network = self.network
        self._line.push(x_t)
        self._samples += 0 if x_t is None else x_t.shape[1]
        count = self._line.held
        if not last:  # the mel of a frame comes later than its noise
            count = min(count // network.frame, self.mels.ready - self._layers[0].context.taken) * network.frame
        x: Tensor | None = None
        if count > 0:
            folded = F.pad(self._line.take(count), (0, -count % network.frame)).unflatten(1, (-1, network.frame))
            x = network.entered(folded, pointwise)
        skips = None if x is None else torch.zeros_like(x)
        for layer in self._layers:
            x, skips = layer.push(x, skips, last)
        if skips is None:
            return None
        prediction = network.answered(skips, pointwise).flatten(1)[:, : self._samples - self._given]
        self._given += prediction.shape[1]
        return prediction


class _StreamedLayer:
    """A residual layer: pieces (B, n, C) of the stream and of the sum of skips, both in float32."""

    def __init__(
        self, index: int, layer: ResidualLayer, products: LayerProducts, shift: Tensor, mels: SampledMels
    ) -> None:
        self.index, self.layer, self.products, self.mels = index, layer, products, mels
        self._shift = shift[:, None]  # (B, 1, C)
        self.context = Context(layer.dilation, layer.dilation, ends=mels.ends, frame=mels.unit)
        self._skips, self.given = DelayLine(), 0

    def push(self, x: Tensor | None, skips: Tensor | None, last: bool) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Stream and skips in, stream and skips out, later by the reach of the convolution."""
        self._skips.push(skips)
        window = self.context.push(None if x is None else x + self._shift, last)
        if window is None:
            return None, None
        count = window.shape[1] - 2 * self.layer.dilation
        mel = self.mels.read(self.index, self.given, count)
        stream, skip = self.layer.step(window.transpose(1, 2), mel, self.mels.label, self.products)
        self.given += count
        return stream.transpose(1, 2), self._skips.take(count) + skip.transpose(1, 2)


class DiffWaveStreams(Streams):
    """What all evaluations of a `DiffWave` on one signal share. `dtype` is that of activations and products."""

    takes_dtype = True
    mel_reach = MEL_REACH

    def __init__(self, network: DiffWave, ends: Ends | None = None, dtype: torch.dtype = torch.float32) -> None:
        self.network = network
        workspace = Workspace(network.input_projection.weight.device)
        self.products = [LayerProducts.of(layer, dtype, workspace) for layer in network.layers]  # type: ignore[arg-type]
        self.mels = SampledMels(network, ends, dtype)
        self._evaluations: list[StreamedDiffWave] = []

    def evaluation(self, t: Tensor) -> StreamedDiffWave:
        """At times t (B,); made before the first piece."""
        self._evaluations.append(StreamedDiffWave(self.network, t, self.products, self.mels))
        return self._evaluations[-1]

    @staticmethod
    def prepare(network: DiffWave, cond: Condition) -> Condition:
        """The condition itself."""
        network.check(cond)
        return cond

    def condition(self, prepared: Sequence[Condition], last: bool) -> None:
        """Conditions of the next pieces of frames."""
        self.mels.forget(min(evaluation.position for evaluation in self._evaluations))
        self.mels.push(prepared, last)
        for evaluation in self._evaluations:
            evaluation.condition(prepared)

    @staticmethod
    def look_ahead(network: DiffWave) -> int:
        """The reach of its convolutions, and of the transforms around them."""
        reach = network.frame * sum(layer.dilation for layer in network.layers)  # type: ignore[misc]
        if network.stft is not None:
            frames = analysis_look_ahead(network.stft) + synthesis_look_ahead(network.stft)
            reach += 2 * frames * network.stft.hop_length
        return reach

    @staticmethod
    def piece(network: DiffWave, batch: int) -> int:
        """As many as the cache holds."""
        return max(SAMPLES // batch, 256) * network.frame

    @staticmethod
    def frames_at_once(network: DiffWave, hop_length: int, batch: int, streamed: bool) -> int:
        """As many as the cache holds."""
        return max(SAMPLES * network.config.fold // batch // hop_length, 1)

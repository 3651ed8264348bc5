"""`DiffWave` on signals that arrive in pieces (B, n, C); no activation of the whole signal ever exists."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from wavediff.backbones.conditioning import Condition
from wavediff.backbones.diffwave import DiffWave
from wavediff.backbones.residual_layer import LayerProducts, ResidualLayer, pointwise
from wavediff.backbones.workspace import Workspace
from wavediff.engine.sampled_mels import MEL_REACH, SampledMels
from wavediff.engine.stream_prior import Whitening
from wavediff.engine.stream_stft import analysis_look_ahead, synthesis_look_ahead
from wavediff.engine.streams import Streams
from wavediff.mel.lines import Context, DelayLine, Ends

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

"""`DiffWave` on a GPU, one kernel a residual layer.

Evaluated by torch, a layer reads and writes its activations about a dozen times; the memory of a GPU, not its
arithmetic, is then what limits it. Here it reads the stream, the mel and the sum of skips once and writes two of them.
Samples first, channels last, so that rows of a tile are the rows of a matrix product.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wavediff.backbones.conditioning import Condition
from wavediff.backbones.diffwave import DiffWave, PreparedCondition
from wavediff.engine.precision import without_gradients
from wavediff.errors import ConfigError

GRAIN = 16  # rows and columns of the smallest matrix product
MAX_CHANNELS = 128  # two tiles of accumulators of more do not fit a block's registers
BUSY = 65_536  # positions that give each of about 130 processors several tiles
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def available(device: torch.device) -> bool:
    """Whether kernels run on `device`: a GPU of CUDA, Ampere or later, and Triton installed."""
    if device.type != "cuda" or not torch.cuda.is_available() or torch.version.hip is not None:
        return False
    try:
        import triton  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def supports(network: DiffWave) -> bool:
    """Whether the kernel computes this network: of 16, 32, 48 ... 128 channels, and not whitened."""
    channels = network.config.channels
    return channels % GRAIN == 0 and channels <= MAX_CHANNELS and network.stft is None


@dataclass(frozen=True)
class StackedWeights:
    """The weights of all L layers. C is filled up with zeros to the next power of two, W; either half of 2C likewise.

    Attributes:
        taps: (L, 3, W, 2W) in the type of the products, gate and value.
        mel: (L, bands, 2W) in that type; no bands without a mel.
        output: (L, W, 2W) in that type, residual and skip.
        bias: (L, 1, 2W) of convolution, mel and label together.
        output_bias: (L, 1, 2W)
        exact_taps: (L, W, 3 * 2W) float32, for what the taps make of the step.
        step: (L, 512, W)
        step_bias: (L, 1, W)
        label: (L, 128, 2W), or None.
    """

    taps: Tensor
    mel: Tensor
    output: Tensor
    bias: Tensor
    output_bias: Tensor
    exact_taps: Tensor
    step: Tensor
    step_bias: Tensor
    label: Tensor | None

    @classmethod
    def of(cls, network: DiffWave, width: int, bands: int, dtype: torch.dtype) -> "StackedWeights":
        """From the modules, for products in `dtype`."""
        layers: Any = network.layers
        more = width - network.config.channels
        taps = _stack(layer.dilated_conv.weight.permute(2, 1, 0) for layer in layers)  # (L, 3, C, 2C)
        taps = _halves(F.pad(taps, (0, 0, 0, more)), width)
        bias = _stack(layer.dilated_conv.bias for layer in layers)
        mel = taps.new_zeros(len(layers), 0, 2 * width)
        if network.n_mels is not None:
            bias += _stack(layer.mel_projection.bias for layer in layers)
            mel = _stack(layer.mel_projection.weight[:, :, 0].T for layer in layers)
            mel = _halves(F.pad(mel, (0, 0, 0, bands - network.n_mels)), width)
        label: Tensor | None = None
        if network.n_classes:
            bias += _stack(layer.label_projection.bias for layer in layers)
            label = _halves(_stack(layer.label_projection.weight.T for layer in layers), width)
        output = F.pad(_stack(layer.output_projection.weight[:, :, 0].T for layer in layers), (0, 0, 0, more))
        output_bias = _stack(layer.output_projection.bias for layer in layers)
        step = _stack(layer.step_projection.weight.T for layer in layers)
        step_bias = _stack(layer.step_projection.bias for layer in layers)
        return cls(
            taps.to(dtype),
            mel.to(dtype),
            _halves(output, width).to(dtype),
            _halves(bias, width)[:, None],
            _halves(output_bias, width)[:, None],
            taps.transpose(1, 2).flatten(2),
            F.pad(step, (0, more)),
            F.pad(step_bias, (0, more))[:, None],
            label,
        )

    def take_over(self, other: "StackedWeights") -> bool:
        """Copy the values of other weights into these; whether they are of a kind and it was done."""
        pairs = [(mine, getattr(other, name)) for name, mine in vars(self).items() if mine is not None]
        if any(mine.shape != new.shape or mine.device != new.device for mine, new in pairs):
            return False
        for mine, new in pairs:
            mine.copy_(new)
        return True


class TritonDiffWave:
    """Evaluates a `DiffWave` without gradients.

    In float32 equal to the network within rounding. In float16 and bfloat16 the stream and the factors of products
    are of that type; sums, biases, the skips, and the layers before and after the residual ones stay float32.

    Args:
        network: a network that `supports` accepts, on a device that is `available`. A later change of its weights
            counts, unless it is made through `Tensor.data`, which tells nobody.
        dtype: of the residual layers.
        allow_tf32: for float32: let tensor cores round factors to 10 bits of mantissa.

    Raises:
        ConfigError: another network, or another type.
    """

    def __init__(self, network: DiffWave, dtype: torch.dtype = torch.float32, *, allow_tf32: bool = False) -> None:
        if not supports(network):
            raise ConfigError(
                f"backbone: the kernel computes DiffWave of 16, 32, 48 ... {MAX_CHANNELS} channels and no other network"
            )
        if dtype not in DTYPES:
            raise ConfigError(f"dtype: {dtype} is none of {', '.join(str(known) for known in DTYPES)}")
        self.network, self.dtype = network, dtype
        self.width = max(1 << (network.config.channels - 1).bit_length(), GRAIN)
        self.bands = -(-(network.n_mels or 0) // GRAIN) * GRAIN
        self._precision = "tf32" if allow_tf32 else "ieee"
        self._kind = self._precision if dtype == torch.float32 else "half"
        self._sources: tuple[Tensor, ...] = ()
        self._state: Hashable = None
        self._weights: StackedWeights | None = None

    @without_gradients()
    def prepare(self, cond: Condition) -> PreparedCondition:
        """The work that no diffusion step changes: mels as (B, n, bands), their bands filled up to whole products.

        Raises:
            ConfigError: `cond` is not what the network was built for.
        """
        prepared = self.network.prepare(cond)
        more = self.bands - (self.network.n_mels or 0)
        mels = tuple(F.pad(mel.to(self.dtype).transpose(1, 2), (0, more)).contiguous() for mel in prepared.mels)
        return PreparedCondition(mels, prepared.label)

    @without_gradients()
    def refresh(self) -> Hashable:
        """Bring the stacked weights up to date; done by each call, but not by one that a CUDA graph repeats.

        Returns:
            Where all weights lie: while that stays the same, a captured graph of a call reads the right ones.
        """
        stacked = self._stacked().taps.data_ptr()
        return (stacked, *(parameter.data_ptr() for parameter in self.network.parameters()))

    @without_gradients()
    def __call__(self, x_t: Tensor, t: Tensor, prepared: PreparedCondition) -> Tensor:
        """(B, N) at times t (B,) -> prediction (B, N), float32.

        Raises:
            ConfigError: the mel is of another length.
        """
        network, weights = self.network, self._stacked()
        folded = F.pad(x_t.float(), (0, -x_t.shape[1] % network.frame)).unflatten(1, (-1, network.frame))
        batch, length = folded.shape[:2]
        mels = [mel.expand(batch, -1, -1).contiguous() for mel in prepared.mels]
        for mel in mels:
            if mel.shape[1] != length:  # the kernel would read beyond its end
                raise ConfigError(f"cond.mel: {mel.shape[1]} positions, but x_t has {length}; give both one length")
        biases, output_biases = self._constants(weights, network.embed_time(t).expand(batch, -1), prepared.label)
        stream = F.relu_(_pointwise(network.input_projection, folded, outputs=self.width)).to(self.dtype)
        skips = self._layers(weights, stream, mels, biases, output_biases)[..., : network.config.channels]
        hidden = F.relu_(_pointwise(network.skip_projection, skips, scale=len(network.layers) ** -0.5))
        return _pointwise(network.output_projection, hidden).flatten(1)[:, : x_t.shape[1]]

    def _layers(
        self, weights: StackedWeights, stream: Tensor, mels: Sequence[Tensor], biases: Tensor, output_biases: Tensor
    ) -> Tensor:
        """Stream (B, n, W), which is overwritten -> the sum of skips (B, n, W), float32."""
        from triton import cdiv

        from wavediff.engine.triton_kernels import tuned

        batch, length, width = stream.shape
        kernel = tuned(width, self.bands, self._kind, batch * length >= BUSY)
        kernel = kernel[lambda sizes: (batch * cdiv(length, sizes["TILE"]),)]
        after, skips = torch.empty_like(stream), torch.zeros_like(stream, dtype=torch.float32)
        all_layers = (weights.taps, weights.mel, biases, weights.output, output_biases)
        with torch.cuda.device_of(stream):  # Triton launches on the current device
            for index, (layer, *each) in enumerate(
                zip(self.network.layers, *(each.unbind() for each in all_layers), strict=True)
            ):
                mel = mels[index % len(mels)] if mels else stream  # without a mel it is not read
                kernel(
                    stream,
                    after,
                    skips,
                    mel,
                    *each,
                    length,
                    layer.dilation,
                    WIDTH=width,
                    BANDS=self.bands,
                    PRECISION=self._precision,
                )
                stream, after = after, stream
        return skips

    def _constants(self, weights: StackedWeights, step: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """What does not change along the signal: `bias` (L, B, 3, 2W) and `output_bias` (L, B, 2W) of the kernel."""
        layers = len(self.network.layers)
        shift = torch.baddbmm(weights.step_bias, step.float().expand(layers, -1, -1), weights.step)
        bias = torch.bmm(shift, weights.exact_taps).unflatten(-1, (3, -1))
        bias[:, :, 1] += weights.bias
        if weights.label is not None and label is not None:
            features = label.float().expand(step.shape[0], -1)
            bias[:, :, 1] += torch.bmm(features.expand(layers, -1, -1), weights.label)
        output_bias = weights.output_bias.repeat(1, step.shape[0], 1)
        if self.network.config.step_in_residual:
            output_bias[..., : self.width] += shift
        return bias, output_bias

    def _stacked(self) -> StackedWeights:
        """The weights as they are now."""
        parameters = tuple(self.network.parameters())
        # Weights made under inference_mode do not count how often they are written, so nothing is sure about them.
        sure = not any(parameter.is_inference() for parameter in parameters)
        state = tuple((parameter.data_ptr(), parameter._version if sure else 0) for parameter in parameters)
        if self._weights is None or state != self._state or not sure:
            # Held, so that no other weights can come to lie in the same place.
            self._sources = tuple(parameter.detach() for parameter in parameters)
            new = StackedWeights.of(self.network, self.width, self.bands, self.dtype)
            # In the same memory, which a captured graph may read.
            if self._weights is None or not self._weights.take_over(new):
                self._weights = new
            self._state = state
        return self._weights


def _stack(weights: Iterable[Tensor]) -> Tensor:
    """The same weight of each layer, in float32."""
    return torch.stack(list(weights)).float()


def _halves(weight: Tensor, width: int) -> Tensor:
    """(..., 2C) -> (..., 2 * width): zeros behind either half."""
    halves = weight.unflatten(-1, (2, -1))
    return F.pad(halves, (0, width - halves.shape[-1])).flatten(-2).contiguous()


def _pointwise(conv: Any, x: Tensor, *, scale: float = 1.0, outputs: int = 0) -> Tensor:
    """A 1x1 convolution of `scale` * x (B, n, channels), followed by zeros up to `outputs` channels."""
    more = max(outputs - conv.out_channels, 0)
    return F.linear(x, F.pad(conv.weight[:, :, 0] * scale, (0, 0, 0, more)), F.pad(conv.bias, (0, more)))

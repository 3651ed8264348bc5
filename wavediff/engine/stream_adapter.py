"""The first and the last stage of a stream of mels that an adapter takes."""

import torch
from torch import Tensor

from wavediff.audio.resampling import RateChange
from wavediff.backbones import MelAdapter
from wavediff.backbones.adapter import AHEAD, BEFORE
from wavediff.engine.stream_spectra import PastBlocks
from wavediff.mel.lines import Context, Ends
from wavediff.mel.transform import LEAST_COLUMNS
from wavediff.models.denoiser import Denoiser


class AdapterStream:
    """The adapter of a denoiser: the next frames -> what is made of those that are settled.

    Args:
        denoiser: whose mels they are.
        adapter: the network.
        ends: of the items, in frames that it makes.
    """

    def __init__(self, denoiser: Denoiser, adapter: MelAdapter, ends: Ends | None) -> None:
        self._denoiser, self._adapter, self._ends, self._made = denoiser, adapter, ends, 0
        self._frames = Context(BEFORE, AHEAD, "replicate")
        self._blocks = PastBlocks(adapter.blocks, adapter.band_offset.device)
        self._latest: Tensor | None = None

    def push(self, mel: Tensor | None, last: bool) -> Tensor | None:
        """(B, n_mels, n) -> (B, inner.n_mels, pieces * m), or None."""
        frames = None if mel is None else self._denoiser.on_plain_scale(mel).transpose(1, 2)
        window = self._frames.push(frames, last)
        if window is None:
            return None
        count = window.shape[1] - BEFORE - AHEAD
        missing = max(LEAST_COLUMNS - count, 0)  # so that products round alike
        window = torch.cat([window, window[:, -1:].expand(-1, missing, -1)], 1)
        x = self._blocks.push(self._adapter.tokens(window), count)
        made = self._held(self._adapter.adapted(x, window)[:, : self._adapter.config.pieces * count])
        return made.transpose(1, 2)

    def _held(self, made: Tensor) -> Tensor:
        """Frames (B, n, n_mels), the last of each item repeated over its padding, as beyond the end of a signal."""
        if self._ends is None:
            return made
        before = made[:, :1] if self._latest is None else self._latest
        places = torch.arange(self._made, self._made + made.shape[1], device=made.device)
        places = (places.minimum(self._ends.lengths[:, None] - 1) - self._made + 1).clamp(min=0)
        made = torch.cat([before, made], 1).gather(1, places[:, :, None].expand(-1, -1, made.shape[2]))
        self._made, self._latest = self._made + made.shape[1], made[:, -1:].clone()
        return made


class RateStream:
    """The change of the sample rate: the next samples (B, n) -> those that are settled, at the rate of the speech.

    Args:
        rates: the change.
        ends: of the items.
        hop_length: samples that a frame of the ends becomes, before the change.
    """

    def __init__(self, rates: RateChange, ends: Ends | None, hop_length: int) -> None:
        self._rates = rates
        self._context = Context(rates.reach, rates.reach, ends=ends, frame=hop_length, unit=rates.unit)

    def push(self, signal: Tensor | None, last: bool) -> Tensor | None:
        """(B, n) -> (B, m), or None."""
        window = self._context.push(signal, last)
        if window is None:
            return None
        edge = self._rates.reach * self._rates.made // self._rates.unit
        count = (window.shape[1] - 2 * self._rates.reach) // self._rates.unit * self._rates.made
        changed: Tensor = self._rates(window)
        return changed[:, edge : edge + count]

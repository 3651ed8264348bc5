"""The first stage of a stream whose mel has long frames: two frames are made of each."""

import torch
from torch import Tensor

from wavediff.backbones import MelHalving
from wavediff.backbones.halving import AHEAD, BEFORE, plain
from wavediff.engine.stream_spectra import PastBlocks
from wavediff.mel import MelSpec
from wavediff.mel.lines import Context, Ends
from wavediff.mel.transform import LEAST_COLUMNS


class HalvingStream:
    """The denoiser's `halving`: the next frames -> those that are settled, twice as many.

    Args:
        halving: the network.
        dialect: of its mels.
        ends: of the items, in frames that it makes.
    """

    def __init__(self, halving: MelHalving, dialect: MelSpec, ends: Ends | None) -> None:
        self._halving, self._dialect, self._ends, self._made = halving, dialect, ends, 0
        self._frames = Context(BEFORE, AHEAD, "replicate")
        self._blocks = PastBlocks(halving.blocks, halving.band_offset.device)
        self._latest: Tensor | None = None

    def push(self, mel: Tensor | None, last: bool) -> Tensor | None:
        """(B, n_mels, n) -> (B, n_mels, 2 * m), or None."""
        frames = None if mel is None else plain(mel, self._dialect).transpose(1, 2)
        window = self._frames.push(frames, last)
        if window is None:
            return None
        count = window.shape[1] - BEFORE - AHEAD
        missing = max(LEAST_COLUMNS - count, 0)  # so that products round alike
        window = torch.cat([window, window[:, -1:].expand(-1, missing, -1)], 1)
        x = self._blocks.push(self._halving.tokens(window), count)
        made = self._held(self._halving.finer(x, window)[:, : 2 * count])
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

"""A `SpectralBlock` for sampling: the same function in operations that write over what they have read."""

import torch
from torch import Tensor
from torch.nn import functional as F

from wavediff.backbones.spectral import SpectralBlock
from wavediff.engine.workspace import Workspace

_FRAMES = 64  # more are filled up to a multiple of these, fewer to a power of two


class SpectralLayer:
    """One block of one evaluation; equal to the block within rounding.

    The hidden channels of a piece are some megabytes. Where each operation returns them anew, their pages are faulted
    in anew, which takes longer than the products.

    Args:
        block: whose weights are read here.
        time: features (B, 256).
        workspace: shared by all layers.
    """

    def __init__(self, block: SpectralBlock, time: Tensor, workspace: Workspace) -> None:
        self.depthwise, self.workspace = block.depthwise, workspace
        self.past, self.ahead = block.past, block.ahead
        scale, self._shift = block.modulation(time)[:, None, None].chunk(2, dim=-1)
        self._gain = 1 + scale
        mixing = block.band_mixing.weight
        self._mixing, self._band_bias = (
            mixing + torch.eye(len(mixing), dtype=mixing.dtype, device=mixing.device),
            block.band_mixing.bias,
        )
        self._expand, self._hidden_bias = block.expand.weight.t(), block.expand.bias
        # The scale of the residual, at the weights instead of at their products.
        self._contract = (block.contract.weight * block.scale[:, None]).t()
        self._bias = block.contract.bias * block.scale

    def __call__(self, window: Tensor) -> Tensor:
        """(B, past + n + ahead, bands, channels) -> (B, n, bands, channels)"""
        conv, padding = self.depthwise, (0, self.depthwise.kernel_size[1] // 2)
        count = window.shape[1] - self.past - self.ahead
        missing = _filled_up(count) - count
        padded = F.pad(window, (0, 0, 0, 0, 0, missing)) if missing else window
        h = F.conv2d(padded.permute(0, 3, 1, 2), conv.weight, conv.bias, padding=padding, groups=conv.groups)
        h = F.layer_norm(h.permute(0, 2, 3, 1)[:, :count], h.shape[1:2])
        torch.addcmul(self._shift, h, self._gain, out=h)
        items, _, bands, channels = h.shape
        mixed = self.workspace.get("mixed", (items * count, bands, channels), h.dtype)
        torch.bmm(self._mixing.expand(items * count, -1, -1), h.flatten(0, 1), out=mixed)
        mixed += self._band_bias[:, None]
        rows = _filled_up(items * count) * bands
        filled = self.workspace.get("hidden", (rows, self._expand.shape[1]), h.dtype)
        hidden = torch.addmm(self._hidden_bias, mixed.flatten(0, 1), self._expand, out=filled[: len(mixed) * bands])
        torch.ops.aten.gelu_(filled)
        x = window[:, self.past : self.past + count].reshape(-1, channels)
        return torch.addmm(x, hidden, self._contract).add_(self._bias).view(h.shape)


def _filled_up(count: int) -> int:
    """Frames that oneDNN is given for so many: it makes, and keeps, a program for each size that it meets."""
    return 1 << (count - 1).bit_length() if count < _FRAMES else count + -count % _FRAMES

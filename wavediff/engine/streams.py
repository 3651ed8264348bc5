"""What a network's twin offers that computes it on pieces of a signal."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from wavediff.backbones.conditioning import Condition
from wavediff.mel.lines import Ends


class Evaluation(Protocol):
    """One evaluation of the network at one time t."""

    def push(self, x_t: Tensor | None, last: bool) -> Tensor | None:
        """Noisy samples (B, n) -> the prediction (B, m) that is settled."""


class Streams(abc.ABC):
    """All evaluations of a network on one signal, which share what no step changes.

    Args:
        network: the network.
        ends: of the items.
        dtype: of the layers' products, where `takes_dtype`.
    """

    takes_dtype: ClassVar[bool] = False
    joins: ClassVar[bool] = False
    """Whether what it holds of a signal is in objects that name it as their STATE, for `StreamPool`."""
    mel_reach: ClassVar[int] = 0
    """Frames of the mel beyond its own that a sample's condition is made of."""

    @abc.abstractmethod
    def __init__(self, network: Any, ends: Ends | None = None, dtype: torch.dtype = torch.float32) -> None: ...

    @staticmethod
    @abc.abstractmethod
    def prepare(network: Any, cond: Condition) -> Any:
        """What no step changes of a piece of the condition, where that is not cheaper to repeat than to remember.

        Raises:
            ConfigError: the network was built for another condition.
        """

    @abc.abstractmethod
    def evaluation(self, t: Tensor) -> Evaluation:
        """At times t (B,); made before the first piece."""

    @abc.abstractmethod
    def condition(self, prepared: Sequence[Any], last: bool) -> None:
        """What `prepare` made of the next pieces of frames, before the samples that need them."""

    @staticmethod
    @abc.abstractmethod
    def look_ahead(network: Any) -> int:
        """Samples beyond its own that a prediction depends on, in one evaluation."""

    @staticmethod
    @abc.abstractmethod
    def piece(network: Any, batch: int) -> int:
        """Samples of one evaluation that are best computed together on a CPU."""

    @staticmethod
    @abc.abstractmethod
    def frames_at_once(network: Any, hop_length: int, batch: int, streamed: bool) -> int:
        """Frames of a mel that are best sampled together on a CPU; where the speech of a stream waits, fewer."""

    @staticmethod
    def frame_bytes(network: Any, hop_length: int) -> int:
        """Memory that a frame takes where a whole signal is computed at once, by count of what a layer holds."""
        return getattr(network.config, "channels", 64) << 14  # 1 MiB in BASE

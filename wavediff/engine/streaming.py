"""A whole vocoder on mels that arrive in pieces: prior, guess, steps of the sampler and network as one pipeline.

Every part keeps what it needs of the past and answers as soon as no later frame can change the result, so the samples
are those of the whole utterance, in memory that does not grow with its length. All steps of the sampler are under way
at once, each a little behind the one before.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.backbones import Condition, DiffWave, SpectralNet
from wavediff.diffusion import ItemNoise, Plan, Terms, unroll
from wavediff.diffusion.schedules import predict_x0
from wavediff.diffusion.walk import Steps, diffuse, levels
from wavediff.engine.stream_adapter import AdapterStream, RateStream
from wavediff.engine.stream_diffwave import DiffWaveStreams
from wavediff.engine.stream_spectra import (
    GuessStream,
    InversionStream,
    NearGuessStream,
    SpectralStreams,
    SpectrumStream,
)
from wavediff.engine.streams import Evaluation, Streams
from wavediff.errors import ConfigError
from wavediff.mel.lines import Context, DelayLine, Ends
from wavediff.mel.stft import float64_device
from wavediff.mel.transform import LEAST_COLUMNS
from wavediff.models.denoiser import Denoiser

STREAMS: dict[type[nn.Module], type[Streams]] = {DiffWave: DiffWaveStreams, SpectralNet: SpectralStreams}
OTHER_MEMORY = 8 << 30  # bytes, of devices that do not say how much they have


class StreamedVocoder:
    """Mel pieces in, speech out.

    Args:
        denoiser: the model; its backbone has a twin in `STREAMS`.
        plan: sampler and times.
        noise: of the items.
        hop_length: samples a frame becomes.
        ends: of the items, where they differ.
        dtype: of the layers' products, where the twin takes one.
        low_latency: start from a guess that looks a few frames ahead, and leave out the end, which looks ahead too.

    Raises:
        ConfigError: the backbone has no twin, or the sampler is not linear.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        plan: Plan,
        noise: ItemNoise,
        hop_length: int,
        ends: Ends | None = None,
        dtype: torch.dtype = torch.float32,
        low_latency: bool = False,
    ) -> None:
        self._adapter: AdapterStream | None = None
        if denoiser.adapter is not None:
            pieces = denoiser.adapter.config.pieces
            hop_length, ends = inner_hop(denoiser, hop_length), None if ends is None else ends.of_shorter(pieces)
            self._adapter = AdapterStream(denoiser, denoiser.adapter, ends)
        self.denoiser, self.hop_length, self.ends = denoiser, hop_length, ends
        schedule = denoiser.schedule
        unrolled = unroll(plan, schedule)
        items = len(noise.seeds)
        self._shaped = shaped = denoiser.prior
        self._draws = [noise.draw()]
        self._shapes = [
            None if shaped is None else SpectrumStream(shaped.stft, shaped.shaped, "envelope", ends)
            for _ in range(1 + unrolled.draws)
        ]
        self._guess: GuessStream | NearGuessStream | None = None
        if shaped is not None and shaped.config.start_time < 1:
            self._guess = (NearGuessStream if low_latency else GuessStream)(shaped, ends)
            self._guess_draw, self._levels = noise.draw(), levels(schedule, plan.times[0])
            self._waiting = DelayLine(), DelayLine()  # noise and guess
        for _ in range(unrolled.draws):
            self._draws.append(noise.draw())
        if self._shaped is not None:
            reach = self._shaped.envelope.frames // 2
            self._context = Context(reach, reach, "replicate")
        self._inversion: InversionStream | None = None
        if self._shaped is not None and denoiser.inversion is not None:
            self._inversion = InversionStream(denoiser.inversion, self._shaped)
        self._finish: SpectrumStream | None = None
        if self._shaped is not None and self._shaped.config.consistency and not low_latency:
            self._finish = SpectrumStream(self._shaped.stft, self._shaped.brought, "magnitude", ends)
        self._kind = twin_of(denoiser)
        self._network = self._kind(denoiser.backbone, ends, dtype)
        self._nodes: list[tuple[_Sum, _Evaluation | None]] = []
        self._rates = None if denoiser.rates is None else RateStream(denoiser.rates, ends, hop_length)
        self.steps, number = Steps(len(unrolled.times)), 0
        for node in unrolled.nodes:
            evaluation = None
            if node.time is not None:
                t = torch.full((items,), node.time, dtype=torch.float64, device=float64_device(noise.device))
                number += 1
                stream = self._network.evaluation(t)
                evaluation = _Evaluation(number, schedule.alpha(t), schedule.sigma(t), stream, DelayLine())
            self._nodes.append((_Sum(node.terms), evaluation))
        lines, signals = [terms.lines for terms, _ in self._nodes], len(self._draws) + len(self._nodes)
        self._readers = [[own[index] for own in lines if index in own] for index in range(signals)]

    def push(self, mel: Tensor | None, last: bool) -> Tensor | None:
        """The next frames (B, n_mels, n) -> the speech (B, m * hop_length) that is settled, or None.

        Args:
            mel: frames; None if there are no more.
            last: whether the mel ends here.

        Raises:
            SamplingError: an evaluation gave NaN.
        """
        conditions = self._conditions(mel if self._adapter is None else self._adapter.push(mel, last), last)
        self._network.condition([self._kind.prepare(self.denoiser.backbone, cond) for cond in conditions], last)
        frames = sum(cond.mel.shape[-1] for cond in conditions if cond.mel is not None)
        signals: list[Tensor | None] = []
        for draw, shape in zip(self._draws, self._shapes, strict=True):
            white = draw.take(frames * self.hop_length) if frames else None
            signals.append(white if shape is None else shape.push(white, conditions, last))
        if self._guess is not None:
            signals[0] = self._start(signals[0], frames, conditions, last)
        for index, signal in enumerate(signals):
            self._hand_on(index, signal)
        piece: Tensor | None = None
        for index, (terms, evaluation) in enumerate(self._nodes, len(signals)):
            piece = terms.take()
            if evaluation is not None:
                piece = self._estimate(evaluation, piece, last)
            self._hand_on(index, piece)
        speech = piece if self._finish is None else self._finish.push(piece, conditions, last)
        speech = speech if self._rates is None else self._rates.push(speech, last)
        self.steps.check()
        return speech

    def _estimate(self, evaluation: "_Evaluation", x_t: Tensor | None, last: bool) -> Tensor | None:
        """The estimate of x_0 that is settled."""
        number, alpha, sigma, stream, line = evaluation
        line.push(x_t)
        output = stream.push(x_t, last)
        if output is None:
            return None
        self.steps.see(number, output)
        return predict_x0(self.denoiser.prediction, output, line.take(output.shape[1]), alpha, sigma)

    def _conditions(self, mel: Tensor | None, last: bool) -> list[Condition]:
        """What the network is told of the frames whose neighbours are known."""
        if self._shaped is None:
            return [] if mel is None else [Condition(mel)]
        window = self._context.push(None if mel is None else mel.transpose(1, 2), last)
        if window is None:
            return []
        left, count = self._context.left, window.shape[1] - self._context.left - self._context.right
        window = F.pad(window.transpose(1, 2), (0, max(LEAST_COLUMNS - count, 0)), mode="replicate")
        inner = slice(left, left + count)
        envelope, magnitude = self._shaped.spectra(window)
        found = magnitude[:, inner] if self._inversion is None else self._inversion.push(magnitude[:, left:], count)
        return [Condition(window[..., inner], None, envelope[:, inner], found)]

    def _start(self, noise: Tensor | None, frames: int, conditions: Sequence[Condition], last: bool) -> Tensor | None:
        """Where sampling starts: the guess at the first time of the plan, with as much noise as belongs to it."""
        white = self._guess_draw.take(frames * self.hop_length) if frames else None
        guess = None if self._guess is None else self._guess.push(white, conditions, last)
        for line, piece in zip(self._waiting, (noise, guess), strict=True):
            line.push(piece)
        count = min(line.held for line in self._waiting)
        if count == 0:
            return None
        x_T, guess = (line.take(count) for line in self._waiting)
        return diffuse(guess, x_T, self._levels)

    def _hand_on(self, index: int, piece: Tensor | None) -> None:
        for line in self._readers[index]:
            line.push(piece)


def inner_hop(denoiser: Denoiser, hop_length: int) -> int:
    """Samples of the signal that a frame of the network's own becomes."""
    return hop_length if denoiser.adapter is None else denoiser.adapter.config.inner.hop_length


def frames_at_once(denoiser: Denoiser, hop_length: int, batch: int, streamed: bool = False) -> int:
    """How many frames of a mel are best computed together; where the speech of a stream waits for them, fewer."""
    if denoiser.adapter is not None:  # not so few that products of them round differently
        pieces = denoiser.adapter.config.pieces
        inner = _frames_at_once(denoiser, inner_hop(denoiser, hop_length), batch, streamed)
        return max(inner // pieces, LEAST_COLUMNS)
    return _frames_at_once(denoiser, hop_length, batch, streamed)


def _frames_at_once(denoiser: Denoiser, hop_length: int, batch: int, streamed: bool) -> int:
    device = next(denoiser.parameters()).device
    if device.type != "cpu" and not streamed:
        most = free_memory(device) // 2 // twin_of(denoiser).frame_bytes(denoiser.backbone, hop_length)
        return max(most // batch, 16)
    return twin_of(denoiser).frames_at_once(denoiser.backbone, hop_length, batch, streamed)


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU that new tensors can take."""
    if device.type != "cuda":
        return OTHER_MEMORY
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


class _Evaluation(NamedTuple):
    """One evaluation of the network.

    Attributes:
        number: which it is, from 1 on.
        alpha, sigma: (B,), at its time.
        stream: of the network.
        line: x_t that waits for its prediction.
    """

    number: int
    alpha: Tensor
    sigma: Tensor
    stream: Evaluation
    line: DelayLine


class _Sum:
    """A sum of signals that arrive at different times."""

    def __init__(self, terms: Terms) -> None:
        self.lines = {index: DelayLine() for index, _ in terms}
        self._coefficients = [coefficient for _, coefficient in terms]

    def take(self) -> Tensor | None:
        """As much of the sum (B, n) as all its terms are known for."""
        count = min(line.held for line in self.lines.values())
        if count == 0:
            return None
        first, *parts = (line.take(count) for line in self.lines.values())
        if self._coefficients == [1.0]:
            return first
        total = first * self._coefficients[0]
        for part, coefficient in zip(parts, self._coefficients[1:], strict=True):
            total.add_(part, alpha=coefficient)
        return total


def streams_of(network: nn.Module) -> type[Streams] | None:
    """How the network is computed on pieces; None if it is on whole signals alone."""
    return STREAMS.get(type(network))


def twin_of(denoiser: Denoiser) -> type[Streams]:
    """How the model's backbone is computed on pieces.

    Raises:
        ConfigError: it is on whole signals alone.
    """
    kind = streams_of(denoiser.backbone)
    if kind is None:
        name = type(denoiser.backbone).__name__
        raise ConfigError(f"backbone: {name} computes whole signals alone, so its speech is no stream; use decode")
    return kind

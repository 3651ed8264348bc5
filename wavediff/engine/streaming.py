"""A whole vocoder on mels that arrive in pieces: prior, guess, steps of the sampler and network as one pipeline.

Every part keeps what it needs of the past and answers as soon as no later frame can change the result, so the samples
are those of the whole utterance, in memory that does not grow with its length. All steps of the sampler are under way
at once, each a little behind the one before.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from wavediff.backbones import Condition
from wavediff.backbones.diffwave import DiffWave
from wavediff.backbones.spectral import SpectralNet
from wavediff.diffusion import Combination, ItemNoise, Plan, expand, unroll
from wavediff.diffusion.priors import ShapedNormal
from wavediff.engine import pieces, sampled_mels, stream_diffwave, stream_spectral, stream_stft
from wavediff.engine.lines import Context, DelayLine, Ends
from wavediff.engine.stream_diffwave import DiffWaveStreams
from wavediff.engine.stream_prior import GuessStream, ShapeStream, VoiceStream
from wavediff.engine.stream_spectral import SpectralStreams
from wavediff.errors import ConfigError, SamplingError
from wavediff.mel import pitch as pitch_net
from wavediff.models.denoiser import Denoiser

# Matrix products of fewer columns round differently, and Griffin-Lim makes much of little.
LEAST_COLUMNS = 16
CPU_FRAMES = 320  # over all items: every iteration of the guess has its overhead for each piece
GPU_FRAMES = 8_192  # over all items: enough to keep a GPU busy, and 95 s of speech


class StreamedVocoder:
    """Mel pieces in, speech out.

    Args:
        denoiser: the model; its backbone is a `DiffWave` or a `SpectralNet`.
        plan: sampler and times.
        noise: of the items.
        hop_length: samples a frame becomes.
        ends: of the items, where they differ.
        dtype: of DiffWave's layers.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        plan: Plan,
        noise: ItemNoise,
        hop_length: int,
        ends: Ends | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.denoiser, self.hop_length, self.ends = denoiser, hop_length, ends
        prior, schedule = denoiser.prior, denoiser.schedule
        unrolled = unroll(plan, schedule)
        items = len(noise.seeds)
        self._shaped = prior if isinstance(prior, ShapedNormal) else None
        self._draws = [noise.draw()]
        self._shapes = [ShapeStream(self._shaped, ends) if self._shaped else None]
        self._guess: GuessStream | VoiceStream | None = None
        if denoiser.start_time < 1 and isinstance(prior, ShapedNormal):
            self._guess = GuessStream(prior, ends) if prior.pitch is None else VoiceStream(prior, ends)
            self._guess_draw = noise.draw()
            time = plan.grid[:1].expand(items).to(noise.device)
            self._levels = schedule.alpha(time), schedule.sigma(time)
            self._waiting = DelayLine(), DelayLine()  # noise and guess
        for _ in range(unrolled.draws):
            self._draws.append(noise.draw())
            self._shapes.append(ShapeStream(self._shaped, ends) if self._shaped else None)
        if self._shaped is not None:
            reach, pitch = self._shaped.envelope.frames // 2, self._shaped.pitch is not None
            past, ahead = (pitch_net.PAST, pitch_net.AHEAD) if pitch else (0, 0)
            self._context = Context(max(reach, past), max(reach, ahead), "replicate")
        self._network = _streams(denoiser.backbone, ends, dtype)
        times = [torch.full((items,), time, dtype=torch.float64, device=noise.device) for time in unrolled.times]
        self._evaluations = [(t, self._network.evaluation(t), DelayLine()) for t in times]
        self._sums = [_Sum(combination) for combination in (*unrolled.inputs, unrolled.output)]

    def push(self, mel: Tensor | None, last: bool) -> Tensor | None:
        """The next frames (B, n_mels, n) -> the speech (B, m * hop_length) that is settled, or None.

        Args:
            mel: frames; None if there are no more.
            last: whether the mel ends here.
        """
        conditions = self._conditions(mel, last)
        self._network.condition(conditions, last)
        frames = sum(cond.mel.shape[-1] for cond in conditions if cond.mel is not None)
        signals: list[Tensor | None] = []
        for draw, shape in zip(self._draws, self._shapes, strict=True):
            white = draw.take(frames * self.hop_length) if frames else None
            signals.append(white if shape is None else shape.push(white, conditions, last))
        if self._guess is not None:
            signals[0] = self._start(signals[0], frames, conditions, last)
        for index, signal in enumerate(signals):
            self._hand_on(index, signal)
        for number, (t, evaluation, line) in enumerate(self._evaluations):
            x_t = self._sums[number].take()
            line.push(x_t)
            output = evaluation.push(x_t, last)
            if output is not None:
                if not output.isfinite().all():
                    raise SamplingError(
                        f"step {number + 1} of {len(self._evaluations)} gave NaN or infinite samples; use another "
                        "checkpoint, schedule or precision"
                    )
                x_0 = self.denoiser.x0_from(output, line.take(output.shape[1]), t)
                self._hand_on(len(signals) + number, x_0)
        return self._sums[-1].take()

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
        envelope, magnitude = self._shaped.envelope(window), self._shaped.magnitude(window)
        pitch = None
        if self._shaped.pitch is not None:
            around = magnitude[:, left - pitch_net.PAST : left + count + pitch_net.AHEAD]
            pitch = self._shaped.pitch.inner(around)
        return [Condition(window[..., inner], None, envelope[:, inner], magnitude[:, inner], pitch)]

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
        alpha, sigma = self._levels
        return expand(alpha, guess) * guess + expand(sigma, guess) * x_T

    def _hand_on(self, index: int, piece: Tensor | None) -> None:
        for combination in self._sums:
            combination.push(index, piece)


def look_ahead(denoiser: Denoiser, plan: Plan, hop_length: int) -> int:
    """Samples beyond its own that a sample of the speech depends on: how late a stream must be."""
    evaluations = len(unroll(plan, denoiser.schedule).times)
    if isinstance(denoiser.backbone, DiffWave):
        each, frames = stream_diffwave.look_ahead(denoiser.backbone), sampled_mels.MEL_REACH
    else:
        each, frames = hop_length * stream_spectral.look_ahead(_spectral(denoiser.backbone)), 0
    if isinstance(denoiser.prior, ShapedNormal):
        stft, config = denoiser.prior.stft, denoiser.prior.config
        there_and_back = stream_stft.analysis_look_ahead(stft) + stream_stft.synthesis_look_ahead(stft)
        frames = max(frames, there_and_back)
        if denoiser.start_time < 1:
            frames += config.phase_iterations * stream_stft.phase_look_ahead(stft)
            frames += 0 if config.harmonic else there_and_back  # of the noise that is shaped first
        reach = denoiser.prior.envelope.frames // 2
        frames += max(reach, pitch_net.AHEAD) if config.harmonic else reach
    return frames * hop_length + evaluations * each


def frames_at_once(denoiser: Denoiser, hop_length: int, batch: int, streamed: bool = False) -> int:
    """How many frames of a mel are best computed together; where the speech of a stream waits for them, fewer."""
    device = next(denoiser.parameters()).device.type
    if device != "cpu":
        return max(GPU_FRAMES // batch, 16)
    if isinstance(denoiser.backbone, DiffWave):
        samples = pieces.SAMPLES * denoiser.backbone.config.fold // batch
        return max(samples // hop_length, 1)
    return max((pieces.FRAMES if streamed else CPU_FRAMES) // batch, 16)


class _Sum:
    """A combination of signals that arrive at different times."""

    def __init__(self, combination: Combination) -> None:
        self._terms = {index: (coefficient, DelayLine()) for index, coefficient in combination.terms}

    def push(self, index: int, piece: Tensor | None) -> None:
        if index in self._terms:
            self._terms[index][1].push(piece)

    def take(self) -> Tensor | None:
        """As much of the sum (B, n) as all its terms are known for."""
        count = min(line.held for _, line in self._terms.values())
        if count == 0:
            return None
        total: Tensor | None = None
        for coefficient, line in self._terms.values():
            part = line.take(count)
            total = part * coefficient if total is None else total.add_(part, alpha=coefficient)
        return total


def _streams(backbone: torch.nn.Module, ends: Ends | None, dtype: torch.dtype) -> DiffWaveStreams | SpectralStreams:
    if isinstance(backbone, DiffWave):
        return DiffWaveStreams(backbone, ends, dtype)
    return SpectralStreams(_spectral(backbone), ends)


def _spectral(backbone: torch.nn.Module) -> SpectralNet:
    if not isinstance(backbone, SpectralNet):
        raise ConfigError(f"backbone: {type(backbone).__name__} is no vocoder's network")
    return backbone

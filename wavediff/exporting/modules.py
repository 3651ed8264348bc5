"""What is exported, as modules that take tensors and give one: a vocoder's denoiser or all of its sampling, its mel,
and a generator of one class and one length with all of its sampling as one loop.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from wavediff.backbones import Condition
from wavediff.backbones.conditioning import fold
from wavediff.diffusion import Plan, predict_x0, unroll
from wavediff.diffusion.schedules import Schedule
from wavediff.diffusion.walk import diffuse, levels, walk
from wavediff.errors import ConfigError
from wavediff.exporting.real_stft import MatrixSTFT, PairSTFT, exchange, find_phase, fourier_matrix
from wavediff.mel import MelSpec, MelTransform
from wavediff.mel.transform import compress
from wavediff.models.denoiser import Bound, Denoiser
from wavediff.pipelines.generator import Generator
from wavediff.pipelines.peaks import within
from wavediff.pipelines.sounds import DEFAULT_GUIDANCE


def exportable(denoiser: Denoiser, transform: type[PairSTFT]) -> Denoiser:
    """A copy whose transforms can be exported.

    Args:
        denoiser: of a vocoder.
        transform: which form they take.
    """
    denoiser = copy.deepcopy(denoiser).cpu().float().eval().requires_grad_(False)
    exchange(denoiser, transform)
    return denoiser


class DenoiserStep(nn.Module):
    """x_t (B, N), t (B,), mel (B, n_mels, frames) -> estimate of x_0 (B, N), N = frames * hop_length.

    Args:
        denoiser: see `exportable`.
        hop_length: of the mel.
    """

    output = "x_0"
    draws, evaluations = 0, 1

    def __init__(self, denoiser: Denoiser, hop_length: int) -> None:
        super().__init__()
        self.denoiser, self.hop_length = denoiser, denoiser.signal_length(hop_length)

    def forward(self, x_t: Tensor, t: Tensor, mel: Tensor) -> Tensor:
        """See the class."""
        x_t = x_t.reshape(mel.shape[0], mel.shape[2] * self.hop_length)  # lengths that do not fit fail here
        return self.denoiser.bind(Condition(mel))(x_t, t)

    def inputs(self, mel: Tensor) -> dict[str, Tensor]:
        """Something to trace with, for a mel (B, n_mels, frames)."""
        batch, _, frames = mel.shape
        return {"x_t": mel.new_zeros(batch, frames * self.hop_length), "t": mel.new_full((batch,), 0.5), "mel": mel}


class FewSteps(nn.Module):
    """mel (B, n_mels, frames), noise (B, draws, N) -> speech (B, N) within +-1, N = frames * hop_length.

    The noise is standard normal: of the start, of the guess if the prior makes one, then what the sampler draws, in
    its order. Where the speech is resampled at the end, it has more samples than the speech. The result is what
    `Vocoder.decode` computes of the same noise, within rounding. The iterations of a guess magnify rounding, in
    `decode` as here: the bundled model's 60 make 1e-3 of 1e-7, and more here and there.

    Args:
        denoiser: see `exportable`.
        plan: of the sampling.
        hop_length: of the mel.
    """

    output = "speech"

    def __init__(self, denoiser: Denoiser, plan: Plan, hop_length: int) -> None:
        super().__init__()
        self.denoiser, self.hop_length = denoiser, denoiser.signal_length(hop_length)
        self.unrolled = unroll(plan, denoiser.schedule)
        self.guesses = denoiser.start_time < 1
        self.draws, self.evaluations = 1 + self.guesses + self.unrolled.draws, len(self.unrolled.times)
        self.first = plan.times[0]
        # As numbers, or the schedule would be traced, in float64.
        self.levels = {t: levels(denoiser.schedule, t) for t in (self.first, *self.unrolled.times)}

    def forward(self, mel: Tensor, noise: Tensor) -> Tensor:
        """See the class."""
        return self.signal(mel, noise).clamp(-1, 1)

    def signal(self, mel: Tensor, noise: Tensor) -> Tensor:
        """The same, unclipped."""
        batch, _, frames = mel.shape
        length = frames * self.hop_length
        noise = noise.reshape(batch, self.draws, length)  # lengths that do not fit fail here
        bound = self.denoiser.bind(Condition(mel))
        start, *others = noise.unbind(1)
        start = bound.noise(start)
        if self.guesses:
            start = diffuse(_guess(bound, others.pop(0)), start, self.levels[self.first])

        def estimate(x_t: Tensor, t: float) -> Tensor:
            output = bound.predict(x_t, torch.tensor([t], dtype=torch.float64))  # (1,): the same for all items
            # Said anew, or the lengths of one evaluation would be traced as formulas of all those before it.
            output = output.reshape(batch, length)
            alpha, sigma = (x_t.new_full((batch,), level) for level in self.levels[t])
            return predict_x0(self.denoiser.prediction, output, x_t, alpha, sigma)

        *_, speech = walk(estimate, self.unrolled, start, map(bound.noise, others))
        return self.denoiser.at_rate(bound.finished(speech))

    def inputs(self, mel: Tensor) -> dict[str, Tensor]:
        """Something to trace with, for a mel (B, n_mels, frames)."""
        batch, _, frames = mel.shape
        return {"mel": mel, "noise": mel.new_zeros(batch, self.draws, frames * self.hop_length)}


class Analysis(nn.Module):
    """waveform (B, frames * hop_length) -> mel (B, n_mels, frames, or as many as the dialect makes of it).

    `MelTransform` with its Fourier transform as a product with a matrix, which every runtime has.

    Args:
        spec: dialect of the mel.
    """

    output = "mel"
    matrix: Tensor  # (n_fft, 2 * bins)

    def __init__(self, spec: MelSpec) -> None:
        super().__init__()
        self.transform = MelTransform(spec)
        edge = (spec.n_fft - spec.win_length) // 2
        window = F.pad(self.transform.window, (edge, spec.n_fft - spec.win_length - edge))
        self.register_buffer("matrix", fourier_matrix(window), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """See the class."""
        transform, spec = self.transform, self.transform.spec
        padded = F.pad(waveform[:, None], (spec.padding, spec.padding), mode=spec.pad_mode)[:, 0]
        real, imaginary = (padded.unfold(1, spec.n_fft, spec.hop_length) @ self.matrix).chunk(2, 2)
        magnitude = (real.square() + imaginary.square() + spec.magnitude_eps).sqrt()
        return compress((transform.scale * transform.filterbank) @ magnitude.transpose(1, 2), spec)

    def inputs(self, mel: Tensor) -> dict[str, Tensor]:
        """Something to trace with, for a mel (B, n_mels, frames)."""
        return {"waveform": mel.new_zeros(len(mel), mel.shape[2] * self.transform.spec.hop_length)}


def _guess(bound: Bound, white: Tensor) -> Tensor:
    """`Bound.guess`, its iterations as one loop: written out they would make the graph thirty times as large."""
    prior, envelope, magnitude = bound.denoiser.prior, bound.cond.envelope, bound.cond.magnitude
    if prior is None or envelope is None or magnitude is None:
        raise ConfigError("prior: white noise makes no guesses; set prior.power above 0, or start_time to 1")
    rates: list[PairSTFT] = prior.rates  # type: ignore[assignment]  # `exportable` saw to it
    config, start = prior.config, prior.shape(white, envelope)
    return find_phase(magnitude, start, rates, config.phase_iterations, prior.harmonics, config.partials)


class SoundSteps(nn.Module):
    """label (1,), noise (draws, values) -> sound (1, N) in [-1, 1], of the usual length of the model's sounds.

    It is what `Generator.generate` computes of the same noise, within rounding, at its usual guidance. The noise is
    standard normal: of the start, then what the sampler draws, in its order. A model of latents is followed by its
    vocoder, and takes the noise of that too: phases (1, vocoder_draws, samples). The label counts the model's classes.

    Args:
        generator: with classes.
        plan: of the sampling; the sampler evaluates the network once a step, and looks no further back.

    Raises:
        ConfigError: the model has no classes, or the sampler is another.
    """

    output = "sound"
    table: Tensor
    silence: Tensor
    edges: Tensor

    def __init__(self, generator: Generator, plan: Plan) -> None:
        super().__init__()
        if not generator.labels:
            raise ConfigError("config.labels: only a generator with classes can be exported; this one knows none")
        denoiser, count = generator.denoiser, len(generator.config.labels)
        self.backbone = copy.deepcopy(denoiser.backbone).cpu().float().eval().requires_grad_(False)
        self.prediction, self.free = denoiser.prediction, count
        with torch.no_grad():  # of every class, and of none
            self.prepared = self.backbone.prepare(Condition(label=torch.arange(count + 1)))  # type: ignore[operator]
        self.register_buffer("table", _table(plan, denoiser.schedule), persistent=False)
        length = max(round(generator.seconds * generator.sample_rate), 1)
        self.values, self.draws = generator.signal_length(length), len(self.table)
        self.register_buffer("edges", generator.edges(torch.zeros(length, dtype=torch.float32)), persistent=False)
        self.vocoder, coder = None, generator.autoencoder
        if coder is not None:
            self.codec = copy.deepcopy(coder.codec).cpu().float().eval().requires_grad_(False)
            self.register_buffer("silence", coder.silence.cpu(), persistent=False)
            self.vocoder = FewSteps(exportable(coder.vocoder, MatrixSTFT), coder.plan(), coder.spec.hop_length)
            self.samples = self.values // coder.channels * coder.hop_length

    def forward(self, label: Tensor, noise: Tensor, phases: Tensor | None = None) -> Tensor:
        """See the class."""
        signal = self._sampled(label, noise)
        if self.vocoder is not None and phases is not None:
            mel = self.codec.decode(fold(signal, self.codec.config.latent_channels)).maximum(self.silence)
            signal = self.vocoder.signal(mel, phases)
        return within(signal[:, : len(self.edges)]) * self.edges

    def _sampled(self, label: Tensor, noise: Tensor) -> Tensor:
        both = torch.cat([label, torch.full((1,), self.free)])
        prepared = tree_map(lambda table: table.index_select(0, both), self.prepared)
        noise = noise.reshape(self.draws, self.values)

        def goes_on(count: Tensor, x: Tensor) -> Tensor:
            return count < self.draws

        def iterate(count: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            t, alpha, sigma, of_x, of_x_0, of_draw = self.table.index_select(0, count.reshape(1)).unbind(1)
            output = self.backbone(x.expand(2, -1), t.expand(2), prepared)
            led, free = predict_x0(self.prediction, output, x.expand(2, -1), alpha.expand(2), sigma.expand(2)).chunk(2)
            x_0 = free + DEFAULT_GUIDANCE * (led - free)
            drawn = noise.index_select(0, (count + 1).clamp(max=self.draws - 1).reshape(1))
            return count + 1, of_x * x + of_x_0 * x_0 + of_draw * drawn

        _, signal = torch.while_loop(goes_on, iterate, (torch.zeros((), dtype=torch.int64), noise[:1] * 1))
        return signal

    def inputs(self) -> dict[str, Tensor]:
        """Something to trace with."""
        noise = torch.zeros(self.draws, self.values, dtype=torch.float32)
        given = {"label": torch.zeros(1, dtype=torch.int64), "noise": noise}
        if self.vocoder is not None:
            given["phases"] = noise.new_zeros(1, self.vocoder.draws, self.samples)
        return given


def _table(plan: Plan, schedule: Schedule) -> Tensor:
    """A plan as one row a step (steps, 6): time, alpha, sigma, and what the next state has of the state, of the
    estimate and of fresh noise.

    Raises:
        ConfigError: the next state is made of anything else.
    """
    unrolled, rows = unroll(plan, schedule), []
    first = 1 + unrolled.draws
    for step, (asked, made) in enumerate(zip(unrolled.nodes[::2], unrolled.nodes[1::2], strict=False)):
        state = first + 2 * step - 1 if step else 0
        terms = dict(made.terms)
        row = [terms.pop(index, 0.0) for index in (state, first + 2 * step, 1 + step)]
        if asked.time is None or asked.terms != ((state, 1.0),) or made.time is not None or terms:
            raise ConfigError(f"sampler: {plan.sampler} cannot be exported as a loop; choose ddpm or ddim")
        rows.append([asked.time, *levels(schedule, asked.time), *row])
    return torch.tensor(rows, dtype=torch.float64).float()

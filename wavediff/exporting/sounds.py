"""A generator as one module, of one class and one length: noise in, a sound out, all of its sampling as one loop."""

import copy

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from wavediff.backbones import Condition
from wavediff.backbones.folding import fold
from wavediff.diffusion import Plan, predict_x0, unroll
from wavediff.diffusion.schedules import Schedule
from wavediff.diffusion.walk import levels
from wavediff.errors import ConfigError
from wavediff.exporting.modules import FewSteps, exportable
from wavediff.exporting.real_stft import MatrixSTFT
from wavediff.pipelines.generator import Generator
from wavediff.pipelines.sounds import DEFAULT_GUIDANCE, edges, within


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
        self.register_buffer("edges", edges(length, generator.sample_rate), persistent=False)
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
        given = {"label": torch.zeros(1, dtype=torch.int64), "noise": torch.zeros(self.draws, self.values)}
        if self.vocoder is not None:
            given["phases"] = torch.zeros(1, self.vocoder.draws, self.samples)
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

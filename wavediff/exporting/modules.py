"""What is exported: a vocoder's denoiser, or all of its sampling, as modules that take tensors and give one."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavediff.backbones import Condition
from wavediff.diffusion import Plan, predict_x0, unroll
from wavediff.diffusion.walk import diffuse, levels, walk
from wavediff.errors import ConfigError
from wavediff.exporting.real_stft import PairSTFT, exchange, fourier_matrix
from wavediff.mel import MelSpec, MelTransform
from wavediff.mel.griffin_lim import STEP_BACK
from wavediff.mel.harmonics import Harmonics
from wavediff.mel.transform import compress
from wavediff.models.denoiser import Bound, Denoiser


def exportable(denoiser: Denoiser, transform: type[PairSTFT]) -> Denoiser:
    """A copy whose transforms can be exported.

    Args:
        denoiser: of a vocoder.
        transform: which form they take.
    """
    denoiser = copy.deepcopy(denoiser).cpu().float().eval().requires_grad_(False)
    if denoiser.prior.shaping is not None:
        exchange(denoiser, transform(denoiser.prior.shaping.spec))
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
        self.denoiser, self.hop_length = denoiser, hop_length

    def forward(self, x_t: Tensor, t: Tensor, mel: Tensor) -> Tensor:
        """See the class."""
        x_t = x_t.reshape(mel.shape[0], mel.shape[2] * self.hop_length)  # lengths that do not fit fail here
        return self.denoiser.bind(Condition(mel))(x_t, t)

    def inputs(self, mel: Tensor) -> dict[str, Tensor]:
        """Something to trace with, for a mel (B, n_mels, frames)."""
        batch, _, frames = mel.shape
        return {"x_t": torch.zeros(batch, frames * self.hop_length), "t": torch.full((batch,), 0.5), "mel": mel}


class FewSteps(nn.Module):
    """mel (B, n_mels, frames), noise (B, draws, N) -> speech (B, N) within +-1, N = frames * hop_length.

    The noise is standard normal: of the start, of the guess if the prior makes one, then what the sampler draws, in
    its order. It is what `Vocoder.decode` computes of the same noise, within rounding. The iterations of a guess
    magnify rounding, in `decode` as here: the bundled model's 80 make 1e-3 of 1e-7, and more here and there.

    Args:
        denoiser: see `exportable`.
        plan: of the sampling.
        hop_length: of the mel.
    """

    output = "speech"

    def __init__(self, denoiser: Denoiser, plan: Plan, hop_length: int) -> None:
        super().__init__()
        self.denoiser, self.hop_length = denoiser, hop_length
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
        return bound.finished(speech)

    def inputs(self, mel: Tensor) -> dict[str, Tensor]:
        """Something to trace with, for a mel (B, n_mels, frames)."""
        batch, _, frames = mel.shape
        return {"mel": mel, "noise": torch.zeros(batch, self.draws, frames * self.hop_length)}


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
        return {"waveform": torch.zeros(len(mel), mel.shape[2] * self.transform.spec.hop_length)}


def _guess(bound: Bound, white: Tensor) -> Tensor:
    """`Bound.guess`, its iterations as one loop: written out they would make the graph thirty times as large."""
    prior, envelope, magnitude = bound.denoiser.prior.shaping, bound.cond.envelope, bound.cond.magnitude
    if prior is None or envelope is None or magnitude is None:
        raise ConfigError("prior: white noise makes no guesses; set prior.power above 0, or start_time to 1")
    stft: PairSTFT = prior.stft  # type: ignore[assignment]  # `exportable` saw to it
    return find_phase(magnitude, prior.shape(white, envelope), stft, prior.config.phase_iterations, prior.harmonics)


def find_phase(
    magnitude: Tensor, start: Tensor, stft: PairSTFT, n_iter: int, harmonics: Harmonics | None = None
) -> Tensor:
    """As `wavediff.mel.griffin_lim.find_phase`, which explains it: in real numbers, in loops that can be exported."""
    gain = stft.gain(magnitude.shape[1])

    def with_magnitude(pairs: Tensor, magnitude: Tensor) -> Tensor:
        # Not a sum with 1e-18: the ONNX exporter takes that for nothing, and 0 / 0 comes of silence.
        power = pairs.square().sum(stft.axis).clamp(min=1e-18)
        return pairs * (magnitude * power.rsqrt()).unsqueeze(stft.axis)

    def step(pairs: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        signal = stft.added(pairs) * gain
        return stft.pairs(signal - STEP_BACK * previous), signal

    def iterated(pairs: Tensor, previous: Tensor, magnitude: Tensor, times: int) -> tuple[Tensor, Tensor]:
        def goes_on(count: Tensor, pairs: Tensor, previous: Tensor) -> Tensor:
            return count < times

        def iterate(count: Tensor, pairs: Tensor, previous: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            pairs, signal = step(pairs, previous)
            return count + 1, with_magnitude(pairs, magnitude), signal

        if times == 0:
            return pairs, previous
        _, pairs, previous = torch.while_loop(goes_on, iterate, (torch.zeros((), dtype=torch.int64), pairs, previous))
        return pairs, previous

    # The first iteration has no momentum: nothing was before it.
    pairs, previous = with_magnitude(stft.pairs(start), magnitude), torch.zeros_like(start)
    if harmonics is None or n_iter == 0:
        pairs, _ = iterated(pairs, previous, magnitude, n_iter)
        return stft.added(pairs) * gain
    half = n_iter // 2
    pairs, previous = step(*iterated(pairs, previous, magnitude, half))
    low = stft.frames_of(pairs * (harmonics.low if stft.axis == -2 else harmonics.low.unsqueeze(-1)))
    magnitude = harmonics.carried(magnitude, low[..., : stft.n_fft], stft)
    pairs, _ = iterated(with_magnitude(pairs, magnitude), previous, magnitude, n_iter - half - 1)
    return stft.added(pairs) * gain

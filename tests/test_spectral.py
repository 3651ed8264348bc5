"""The network at frame rate, its prior, and the objective that trains it."""

import dataclasses
import json
import math
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import wavediff
from wavediff.audio import read_audio
from wavediff.backbones import Condition, SpectralConfig, SpectralNet
from wavediff.backbones.conditioning import TIME_FEATURES, SpectralBlock, Workspace
from wavediff.diffusion import CosineSchedule, ItemNoise, PriorConfig, SignalRegression, SpectralLoss
from wavediff.engine import Pieces, accelerate, stream_spectra
from wavediff.errors import ConfigError
from wavediff.mel import FrameSTFT, MelSpec, MelTransform
from wavediff.mel.lines import Context
from wavediff.metrics.spectra import mr_stft
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.models.denoiser import Bound, Denoiser

SPEC = MelSpec()
TINY = SpectralConfig(bands=16, channels=8, layers=2)
CONFIG = ModelConfig(TINY, CosineSchedule(), "v", PriorConfig(power=0.8, start_time=0.5, phase_iterations=4), SPEC)


@pytest.fixture(scope="module")
def speech(ljspeech: Path) -> Tensor:
    """(2, 40 frames)"""
    waveform, _ = read_audio(ljspeech / "wavs" / "LJ001-0002.wav")
    return waveform[: 80 * 256].reshape(2, -1)


@pytest.fixture(scope="module")
def mel(speech: Tensor) -> Tensor:
    return MelTransform(SPEC)(speech)


def bound(mel: Tensor, config: ModelConfig = CONFIG) -> Bound:
    """An untrained model whose output depends on everything in it."""
    return untrained(config).requires_grad_(False).bind(Condition(mel))


def untrained(config: ModelConfig) -> Denoiser:
    """What starts at zero is random here."""
    torch.manual_seed(0)
    denoiser = build_denoiser(config)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return denoiser


def test_a_configuration_survives_json() -> None:
    assert ModelConfig.from_dict(json.loads(json.dumps(CONFIG.to_dict()))) == CONFIG


@pytest.mark.parametrize(
    "changes",
    [
        {"prior": PriorConfig()},  # nothing to whiten by
        {"mel": None},
        {"labels": ("a", "b")},
        {"backbone": SpectralConfig(bands=48)},  # does not divide 512
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict) -> None:
    with pytest.raises(ConfigError):
        build_denoiser(dataclasses.replace(CONFIG, **changes))


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"kernel_bands": 4}, {"channels": 10**6}])
def test_a_shape_out_of_bounds_is_refused_before_anything_is_built(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="backbone"):
        SpectralConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"power": 2.0}, {"start_time": 0.0}, {"phase_iterations": -1}])
def test_a_prior_out_of_bounds_is_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="prior"):
        PriorConfig(**wrong)


def test_the_cosine_schedule_is_variance_preserving_and_ends_in_noise() -> None:
    t = torch.linspace(0, 1, 11)
    for schedule in (CosineSchedule(), CosineSchedule(0.008)):
        torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones(11, dtype=torch.float64))
        assert schedule.alpha(t[:1]).item() == pytest.approx(1)
        assert schedule.alpha(t[-1:]).item() == 0
        assert (schedule.log_snr(t[1:-1]).diff() < 0).all()
    # Nichol and Dhariwal, eq. 17: alpha_bar(t) = f(t) / f(0), f(t) = cos^2((t + s) / (1 + s) pi / 2)
    expected = math.cos((0.3 + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)
    assert CosineSchedule(0.008).alpha(torch.tensor([0.3])).item() == pytest.approx(expected)
    with pytest.raises(ConfigError, match="offset"):
        CosineSchedule(1.0)


def test_the_noise_has_the_envelope_of_the_mel(mel: Tensor) -> None:
    """Whitened by the envelope, shaped noise is white again: unit variance in every bin, up to leakage."""
    process = bound(mel[:1])
    power = torch.stack(
        [
            process.whitened(process.noise(torch.randn(1, 40 * 256, generator=torch.Generator().manual_seed(seed))))
            .abs()
            .square()[:, 5:35, 10:360]
            for seed in range(20)
        ]
    )
    assert power.median().item() == pytest.approx(math.log(2), rel=0.15)  # of an exponential distribution of mean 1


def test_the_first_prediction_is_zero(mel: Tensor) -> None:
    process = build_denoiser(CONFIG).bind(Condition(mel))
    assert process.predict(torch.randn(2, 40 * 256), torch.rand(2)).abs().max() == 0


def test_the_mask_alone_can_pass_the_signal_whole(speech: Tensor, mel: Tensor) -> None:
    """A constant mask of one is the identity, at full resolution, however narrow the tokens."""
    denoiser = build_denoiser(CONFIG)
    projection = denoiser.backbone.output_projection
    with torch.no_grad():
        projection.bias[: projection.out_features // 4] = 1.0  # real part of the mask
    passed = denoiser.bind(Condition(mel)).predict(speech, torch.rand(2))
    # All but the bin at half the sample rate, which no band holds.
    torch.testing.assert_close(passed, speech, atol=1e-3, rtol=0)


def test_everything_the_network_is_told_changes_its_prediction(speech: Tensor, mel: Tensor) -> None:
    process = bound(mel)
    t = torch.tensor([0.2, 0.7])
    first = process.predict(speech, t)
    assert first.shape == speech.shape
    for other in (process.predict(speech, t.flip(0)), bound(mel - 1).predict(speech, t), process.predict(-speech, t)):
        assert (other - first).abs().max() > 1e-4 * first.abs().max()


def test_a_batch_equals_its_items(speech: Tensor, mel: Tensor) -> None:
    t = torch.tensor([0.2, 0.7])
    together = bound(mel).predict(speech, t)
    for i in range(2):
        alone = bound(mel[i : i + 1]).predict(speech[i : i + 1], t[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("frames", [1, 32, 10_000])
def test_the_evaluation_in_pieces_equals_the_plain_one(
    speech: Tensor, mel: Tensor, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_spectra, "FRAMES", frames)
    denoiser = untrained(CONFIG).requires_grad_(False)
    cond, t = denoiser.bind(Condition(mel)).cond, torch.tensor([0.2, 0.7])
    faster = Pieces(denoiser.backbone)  # type: ignore[arg-type]
    for items in (slice(0, 2), slice(0, 1)):
        part = dataclasses.replace(
            cond, mel=cond.mel[items], envelope=cond.envelope[items], magnitude=cond.magnitude[items]
        )
        plain = denoiser.backbone(speech[items], t[items], denoiser.backbone.prepare(part))
        torch.testing.assert_close(faster(speech[items], t[items], faster.prepare(part)), plain, atol=1e-5, rtol=1e-4)
    assert isinstance(accelerate(denoiser.backbone), Pieces)


def test_a_network_without_the_priors_spectra_says_so(mel: Tensor) -> None:
    with pytest.raises(ConfigError, match="shaped prior"):
        SpectralNet(TINY, SPEC).prepare(Condition(mel))


def test_the_spectral_loss_is_the_metrics_sum_and_zero_for_equal_signals(speech: Tensor) -> None:
    loss = SpectralLoss(SPEC)
    assert loss(speech, speech).abs().max() < 1e-4
    noisy = speech + 0.01 * torch.randn(speech.shape, generator=torch.Generator().manual_seed(0))
    ours = loss(noisy, speech)
    mean_of_one = torch.stack([loss(noisy, speech, resolution) for resolution in range(3)]).mean(0)
    torch.testing.assert_close(ours, mean_of_one)
    for i in range(2):  # the metric has denser frames, and sums where this averages
        whole_band = MelTransform(dataclasses.replace(SPEC, f_max=11025.0, n_mels=100))
        bands = (whole_band(noisy[i : i + 1]) - whole_band(speech[i : i + 1])).abs().mean().item()
        metric = mr_stft(speech[i], noisy[i], 22050) + bands
        assert ours[i].item() == pytest.approx(metric, rel=0.1)


class Perfect:
    """A process that knows the answer."""

    schedule = CosineSchedule()

    def __init__(self, x_0: Tensor, error: float = 0.0) -> None:
        self.x_0, self.error, self.seen = x_0, error, []

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.seen.append((x_t, t))
        return self.x_0 + self.error * torch.sin(math.pi / 2 * t)[:, None].float()

    def noise(self, white: Tensor) -> Tensor:
        return white

    def guess(self, white: Tensor, iterations: int | None = None, low_latency: bool = False) -> Tensor:
        return torch.full_like(white, 100.0)

    def whitened(self, signal: Tensor) -> Tensor:
        return signal


def run(objective: SignalRegression, process: Perfect, batch: int = 2, seed: int = 0) -> Tensor:
    length = process.x_0.shape[1]
    noise = ItemNoise(range(seed, seed + batch))
    lengths = torch.full((batch,), length)
    return objective(process, process.x_0, lengths, noise, SpectralLoss(SPEC)).mean


def test_a_perfect_estimate_has_no_loss(speech: Tensor) -> None:
    assert run(SignalRegression(), Perfect(speech)) < 1e-4


def test_the_regression_is_the_error_of_v(speech: Tensor) -> None:
    """x_0's error over sigma is v's: an estimate off by 0.1 sigma is off by 0.1 in v."""
    objective = SignalRegression(spectral_weight=0.0, guess_share=0.0)
    assert run(objective, Perfect(speech, 0.1)).item() == pytest.approx(0.01, rel=1e-3)


def test_guesses_take_the_first_items_low_times_and_no_regression(speech: Tensor) -> None:
    objective = SignalRegression(0.0, guess_share=0.5, guess_time=0.3, second_step_share=0.0)
    for seed in range(5):
        process = Perfect(speech, 0.1)
        loss = run(objective, process, seed=seed)
        x_t, t = process.seen[0]
        assert t[0] < 0.3
        assert x_t[0].mean() > 50 > x_t[1].mean()  # the guess is 100 everywhere
        assert loss.item() == pytest.approx(0.01 / 2, rel=1e-3)  # of the second item alone


def test_the_second_step_starts_from_the_first_estimate_at_a_lower_time(speech: Tensor) -> None:
    process = Perfect(speech)
    run(SignalRegression(second_step_share=1.0, guess_share=0.5), process)
    (_, t), (x_s, s) = process.seen
    assert 0 <= s[0] < t[0]
    assert s[1] == t[1]
    # The guess is gone; what is left of it in the noise of the step is scaled by sigma(s) / sigma(t).
    assert x_s[0].abs().mean() < 100


def test_padding_does_not_count(speech: Tensor) -> None:
    x_0 = torch.nn.functional.pad(speech, (0, 20 * 256))
    process = Perfect(x_0)
    process.x_0 = x_0 + torch.nn.functional.pad(torch.zeros_like(speech), (0, 20 * 256), value=0.5)
    lengths = torch.full((2,), speech.shape[1])
    loss = SignalRegression(guess_share=0.0)(process, x_0, lengths, ItemNoise([0, 1]), SpectralLoss(SPEC))
    assert loss.mean < 1e-4


def test_objectives_out_of_bounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="objective"):
        SignalRegression(guess_share=1.5)


def test_gradients_reach_every_weight(speech: Tensor, mel: Tensor) -> None:
    denoiser = untrained(CONFIG)
    noise, lengths = ItemNoise([0, 1]), torch.full((2,), speech.shape[1])
    loss = SignalRegression()(denoiser.bind(Condition(mel)), speech, lengths, noise, SpectralLoss(SPEC))
    loss.mean.backward()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_frames_are_shared_with_the_mel_of_the_dialect(speech: Tensor, mel: Tensor) -> None:
    """A click in one frame is loudest in that frame of both."""
    click = torch.zeros(1, 40 * 256)
    click[0, 20 * 256 + 128] = 1.0
    for framing, frame in (("same", 20), ("center", 20)):
        spec = MelSpec(framing=framing)
        position = click if framing == "same" else click.roll(-128, 1)
        ours = FrameSTFT(spec).analysis(position).abs().sum(2)[0].argmax()
        theirs = MelTransform(spec)(position).sum(1)[0].argmax()
        assert ours == theirs == frame


def test_sampling_meets_few_sizes_whatever_the_lengths_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what oneDNN keeps a program for each size of: vocoding files of many lengths would fill the memory."""
    vocoder, sizes = wavediff.Vocoder.from_pretrained(device="cpu"), set()
    conv2d, gelu = functional.conv2d, torch.ops.aten.gelu_

    def convolve(x: Tensor, *args: Any, **options: Any) -> Tensor:
        sizes.add(x.shape[2])
        return conv2d(x, *args, **options)

    def activate(x: Tensor) -> Tensor:
        sizes.add(len(x))
        return gelu(x)

    monkeypatch.setattr(functional, "conv2d", convolve)
    monkeypatch.setattr(torch.ops.aten, "gelu_", activate)
    for frames in range(5, 64, 3):
        vocoder.decode(torch.full((1, 80, frames), -5.0), 1, seed=0)
    counts = {2, 4, 8, 16, 32, 64}
    bands = {32 * count for count in counts} | {5 * count for count in counts}  # of the network, of that for the mel
    assert {4 + 64, 64 * 32} < sizes <= {4 + count for count in counts} | bands


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("sizes", [[30], [1] * 30, [4, 3, 1, 22]], ids=str)
def test_a_block_in_steps_is_the_block_on_the_whole(ahead: int, sizes: list[int], times: int) -> None:
    """Whose weights are those of one time for all items, or of a time for each."""
    torch.manual_seed(0)
    kernel = TINY.kernel_frames, TINY.kernel_bands
    block = SpectralBlock(TINY.bands, TINY.channels, TINY.expansion, kernel, ahead)
    context, workspace = Context(4 - ahead, ahead), Workspace(torch.device("cpu"))
    for parameter in block.parameters():  # some begin as zeros
        torch.nn.init.normal_(parameter, std=0.3)
    x, time = torch.randn(2, 30, TINY.bands, TINY.channels), torch.randn(times, TIME_FEATURES)
    with torch.no_grad():
        weights, steps = block.at(time), []
        for index, piece in enumerate(x.split(sizes, 1)):
            window = context.push(piece, index == len(sizes) - 1)
            steps += [] if window is None else [block.step(window, weights, workspace).clone()]
        torch.testing.assert_close(torch.cat(steps, 1), block(x, time), atol=1e-5, rtol=1e-5)


def test_an_evaluation_in_pieces_for_the_cache_has_the_bits_of_one_on_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vocoder = wavediff.Vocoder.from_pretrained(device="cpu")
    mel = vocoder.mel(0.1 * torch.randn(1, 150 * 256, generator=torch.Generator().manual_seed(0)), 22_050)
    speech = vocoder.decode(mel, 2)
    monkeypatch.setattr(stream_spectra.SpectralStreams, "piece", staticmethod(lambda network, batch: 1_000 * 256))
    assert torch.equal(vocoder.decode(mel, 2), speech)


def test_a_grown_vocoder_speaks_as_the_small_one_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["grow.py", str(tmp_path / "grown.safetensors"), "--layers", "2"])
    runpy.run_path(str(Path(__file__).parent.parent / "recipes" / "universal" / "grow.py"), run_name="__main__")
    grown, small = (wavediff.Vocoder.from_pretrained(path, "cpu") for path in (tmp_path / "grown.safetensors", None))
    assert grown.delay() == small.delay()
    mel = -6 + 2 * torch.rand(80, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(grown.decode(mel), small.decode(mel), atol=1e-4, rtol=0)


def test_the_spectral_loss_is_the_same_in_dialects_of_another_logarithm() -> None:
    speech, noise = 0.1 * torch.randn(2, 2, 8192, generator=torch.Generator().manual_seed(0))
    noisy = speech + 0.1 * noise
    decibels = dataclasses.replace(SPEC, log="db", scale=0.125, offset=-4.0)
    torch.testing.assert_close(SpectralLoss(decibels)(noisy, speech), SpectralLoss(SPEC)(noisy, speech))

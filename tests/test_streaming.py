"""Streams, batches of unlike items and long mels, each against the plain evaluation of the whole."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from vocoders import untrained

import wavediff
from wavediff.audio import read_audio
from wavediff.backbones import AdapterConfig, Condition, DiffWaveConfig, InversionConfig, SpectralConfig
from wavediff.cli.demo import CLIP
from wavediff.diffusion import CosineSchedule, ItemNoise, PriorConfig
from wavediff.diffusion.priors import ShapedNormal
from wavediff.engine import accelerate, streaming
from wavediff.engine.stream_spectra import GuessStream
from wavediff.errors import ConfigError, MelError, SamplingError
from wavediff.mel import MelSpec
from wavediff.mel.lines import Context, DelayLine, Window, settled
from wavediff.mel.stft import overlap_add
from wavediff.models.config import ModelConfig
from wavediff.models.sampling import begin, follow
from wavediff.pipelines.vocoder import Vocoder

pytestmark = pytest.mark.slow

FRAMES = 40
SPEC = MelSpec.preset("hifigan")
CENTRED = dataclasses.replace(MelSpec.preset("tacotron2"), hop_length=200)  # hops that do not divide the window
SPECTRAL = SpectralConfig(bands=16, channels=8, layers=2)
GUESSING = PriorConfig(power=0.8, start_time=0.5, phase_iterations=4)
FINISHED = dataclasses.replace(GUESSING, consistency=0.7, harmonics=1.0)
CONFIGS = {
    "diffwave": ModelConfig(DiffWaveConfig(channels=8, layers=6, dilation_cycle=5), mel=SPEC),
    "folded, as its author's": ModelConfig(
        DiffWaveConfig(8, 5, 3, upsampler_per_layer=True, step_in_residual=True, fold=4), mel=SPEC
    ),
    "spectral": ModelConfig(SPECTRAL, CosineSchedule(), "v", GUESSING, SPEC),
    "spectral, centred": ModelConfig(
        SPECTRAL, CosineSchedule(), "v", dataclasses.replace(GUESSING, harmonics=0.6), CENTRED
    ),
    "spectral, guess at lower rates": ModelConfig(
        SPECTRAL,
        CosineSchedule(),
        "v",
        dataclasses.replace(FINISHED, phase_iterations=9, phase_octaves=2, partials=True),
        SPEC,
    ),
    "spectral, guess as it falls": ModelConfig(
        SPECTRAL, CosineSchedule(), "v", dataclasses.replace(GUESSING, phase_iterations=0), SPEC
    ),
    "spectral, inverted by a network": ModelConfig(
        SPECTRAL, CosineSchedule(), "v", FINISHED, SPEC, inversion=InversionConfig(bands=3, channels=8, layers=2)
    ),
    "spectral, of halved frames": ModelConfig(
        SPECTRAL,
        CosineSchedule(),
        "v",
        FINISHED,
        MelSpec.preset("cosyvoice2"),
        24000,
        inversion=InversionConfig(bands=3, channels=8, layers=2),
        adapters=(AdapterConfig.of(MelSpec.preset("cosyvoice2"), 1024, channels=8, layers=2),),
        n_fft=1024,
    ),
    "spectral, of adapted bands": ModelConfig(
        SPECTRAL,
        CosineSchedule(),
        "v",
        GUESSING,
        MelSpec.preset("espnet"),
        adapters=(AdapterConfig.of(MelSpec.preset("espnet"), 1024, channels=8, layers=1),),
    ),
    "spectral, of another rate": ModelConfig(
        SPECTRAL,
        CosineSchedule(),
        "v",
        FINISHED,
        MelSpec.preset("speecht5"),
        16000,
        adapters=(AdapterConfig.of(MelSpec.preset("speecht5"), 1024, channels=8, layers=1),),
    ),
    "spectral, causal": ModelConfig(
        dataclasses.replace(SPECTRAL, layers=3, causal_layers=1), CosineSchedule(), "v", FINISHED, SPEC
    ),
    "diffwave, whitened": ModelConfig(
        DiffWaveConfig(8, 6, 5, fold=4, whitened=True), prediction="v", prior=GUESSING, mel=SPEC
    ),
    "diffwave, shaped noise": ModelConfig(
        DiffWaveConfig(channels=8, layers=6, dilation_cycle=5), mel=SPEC, prior=PriorConfig(power=0.5)
    ),
}
PLANS = ["ddim", "ddpm", "dpmpp-2m-sde"]


@pytest.fixture(scope="module", params=CONFIGS)
def vocoder(request: pytest.FixtureRequest) -> Vocoder:
    """Untrained, but with an output that depends on everything in it."""
    config = CONFIGS[request.param]
    return untrained(config)


@pytest.fixture(scope="module")
def mels(vocoder: Vocoder) -> Tensor:
    """(2, n_mels, FRAMES), of speech."""
    waveform, rate = read_audio(CLIP)
    mel = vocoder.mel(waveform, rate)[0]
    return torch.stack([mel[:, 20 : 20 + FRAMES], mel[:, 60 : 60 + FRAMES]])


def whole(vocoder: Vocoder, mel: Tensor, seeds: list[int], **options: str) -> Tensor:
    """The samplers and networks as they are, on the whole signal at once."""
    bound = vocoder.denoiser.bind(Condition(mel))
    start = begin(bound, ItemNoise(seeds), mel.shape[-1] * vocoder.hop_length)
    speech = follow(bound, start, vocoder.plan(3, **options))
    return speech.clamp(-1, 1)


@pytest.mark.parametrize("sampler", PLANS)
def test_decode_is_the_plain_sampling(  # fault 68
    vocoder: Vocoder, mels: Tensor, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole(vocoder, mels, [4, 5], sampler=sampler)
    assert expected.std() > 1e-3
    for frames in (7, 1000):
        monkeypatch.setattr("wavediff.pipelines.vocoder.frames_at_once", lambda *_, frames=frames: frames)
        got = vocoder.decode(mels, 3, sampler=sampler, seed=[4, 5])
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("low_latency", [False, True])
@pytest.mark.parametrize("size", [1, 9, FRAMES])
def test_a_stream_is_what_decode_gives(vocoder: Vocoder, mels: Tensor, size: int, low_latency: bool) -> None:
    chunks = list(vocoder.stream(mels.split(size, -1), 3, seed=[4, 5], low_latency=low_latency))
    whole = vocoder.decode(mels, 3, seed=[4, 5], low_latency=low_latency)
    torch.testing.assert_close(torch.cat(chunks, 1), whole, atol=1e-4, rtol=0)
    single = list(vocoder.stream(mels[0].split(size, -1), 3, seed=4, low_latency=low_latency))
    whole = vocoder.decode(mels[0], 3, seed=4, low_latency=low_latency)
    torch.testing.assert_close(torch.cat(single), whole, atol=1e-4, rtol=0)


def test_frames_that_settle_nothing_wait_and_delay_nothing(
    vocoder: Vocoder, mels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With low latency frames are computed in blocks; the same speech comes after the same frames as one by one."""
    pushed: list[int] = []
    push = streaming.StreamedVocoder.push

    def counted(self: streaming.StreamedVocoder, mel: Tensor | None, last: bool) -> Tensor | None:
        pushed.append(0 if mel is None else mel.shape[2])
        return push(self, mel, last)

    def given_and_got() -> list[tuple[int, int]]:
        seen, frames = [], 0

        def pieces() -> Iterator[Tensor]:
            nonlocal frames
            for frames in range(FRAMES):
                yield mels[0, :, frames : frames + 1]

        for chunk in vocoder.stream(pieces(), 1, seed=4, low_latency=True):
            seen.append((frames, len(chunk)))
        return seen

    monkeypatch.setattr(streaming.StreamedVocoder, "push", counted)
    together = given_and_got()
    assert sum(pushed) == FRAMES
    if vocoder.denoiser.start_time < 1:
        assert len(pushed) < FRAMES / (3 if vocoder.denoiser.adapter is None else 2)
    monkeypatch.setattr("wavediff.pipelines.chunks.settled_after", lambda _: (1, 1))
    assert given_and_got() == together


@pytest.mark.parametrize("low_latency", [False, True])
@pytest.mark.parametrize("lengths", [[FRAMES, 11], [1, FRAMES], [8, 23]])
def test_an_item_of_a_batch_is_its_single(
    vocoder: Vocoder, mels: Tensor, lengths: list[int], low_latency: bool
) -> None:
    """Padding is not looked at, and what is made of it is silence."""
    padded = mels.clone()
    for item, frames in zip(padded, lengths, strict=True):
        item[:, frames:] = torch.nan
    options = {"sampler": "ddpm", "low_latency": low_latency}
    speech = vocoder.decode(padded, 3, lengths=lengths, seed=[4, 5], **options)  # type: ignore[arg-type]
    for index, frames in enumerate(lengths):
        samples = frames * vocoder.hop_length
        alone = vocoder.decode(mels[index, :, :frames], 3, seed=4 + index, **options)  # type: ignore[arg-type]
        torch.testing.assert_close(speech[index, :samples], alone, atol=1e-4, rtol=0)
        assert not speech[index, samples:].any()


@pytest.mark.parametrize("frames", [13, 20])
def test_a_conversion_of_an_item_of_a_batch_is_that_of_its_single(vocoder: Vocoder, mels: Tensor, frames: int) -> None:
    """From a centred framing to another the last frame is dropped, and each item has its own."""
    source = dataclasses.replace(vocoder.mel_spec, framing="center")
    dropped = source != vocoder.mel_spec
    speech = vocoder.decode(mels, 3, lengths=[frames, FRAMES], seed=[4, 5], mel_spec=source)
    assert speech.shape[1] == (FRAMES - dropped) * vocoder.hop_length
    alone = vocoder.decode(mels[0, :, :frames], 3, seed=4, mel_spec=source)
    assert len(alone) == (frames - dropped) * vocoder.hop_length
    torch.testing.assert_close(speech[0, : len(alone)], alone, atol=1e-4, rtol=0)
    assert not speech[0, len(alone) :].any()


def test_the_speech_is_as_late_as_delay_says(vocoder: Vocoder, mels: Tensor) -> None:
    """And no later: with that much of the mel, and one frame, the first samples are there."""
    late = vocoder.delay(3, low_latency=True) / 1000 * vocoder.sample_rate / vocoder.hop_length
    frame = SPEC.hop_length if "spectral" in str(vocoder.config.backbone) else 1
    pulled = 0

    def frames() -> Iterator[Tensor]:
        nonlocal pulled
        for chunk in mels[0].repeat(1, 4).split(1, -1):
            pulled += 1
            yield chunk

    next(vocoder.stream(frames(), 3, low_latency=True))
    assert pulled - 1 <= late + 1e-6
    assert pulled >= late - 1 or frame == 1


def test_impossible_lengths_and_streams_are_refused(vocoder: Vocoder, mels: Tensor) -> None:
    for lengths in ([1], [0, 3], [1, FRAMES + 1]):
        with pytest.raises(SamplingError, match="lengths"):
            vocoder.decode(mels, lengths=lengths)
    with pytest.raises(SamplingError, match="lengths"):
        vocoder.decode(mels[0], lengths=[3])
    with pytest.raises(MelError, match="without a frame"):
        list(vocoder.stream([]))
    with pytest.raises(MelError, match="bands"):
        list(vocoder.stream([mels[0, :-1]]))


def test_the_bundled_model_streams_every_test_clip_bit_by_bit(ljspeech: Path) -> None:
    """Griffin-Lim makes much of the smallest difference, so nothing less than equality would hold."""
    vocoder = wavediff.Vocoder.from_pretrained(device="cpu")
    names = [Path(line.split("|")[0]).stem for line in (ljspeech / "test.txt").read_text().split("\n") if line]
    for number, name in enumerate(names):
        torch.set_num_threads(1 + number % 2)  # which share out the work otherwise
        waveform, rate = read_audio(ljspeech / "wavs" / f"{name}.wav")
        mel = vocoder.mel(waveform[: 4 * rate], rate)[0]
        assert torch.equal(torch.cat(list(vocoder.stream(mel.split(37, -1)))), vocoder.decode(mel)), name
        mel = mel[:, :120]
        low = torch.cat(list(vocoder.stream(mel.split(5, -1), low_latency=True)))
        assert torch.equal(low, vocoder.decode(mel, low_latency=True)), name


def test_the_bundled_model_is_less_than_300_ms_behind_its_mel() -> None:
    assert wavediff.Vocoder.from_pretrained(device="cpu").delay(low_latency=True) <= 300


def test_memory_does_not_grow_with_the_length(vocoder: Vocoder, mels: Tensor) -> None:  # fault 33
    """What a stream still holds after a long signal is what it held after a short one."""

    def held(stream: object, seen: set[int]) -> int:
        if id(stream) in seen or isinstance(stream, nn.Module | str | int | float | type(None)):
            return 0
        seen.add(id(stream))
        if isinstance(stream, Tensor):
            return stream.untyped_storage().nbytes()
        if isinstance(stream, dict):
            return sum(held(value, seen) for value in stream.values())
        if isinstance(stream, list | tuple | set) or type(stream).__name__ == "deque":
            return sum(held(value, seen) for value in stream)
        return sum(held(value, seen) for value in getattr(stream, "__dict__", {}).values())

    sizes = []
    with torch.inference_mode():
        stream = streaming.StreamedVocoder(vocoder.denoiser, vocoder.plan(3), ItemNoise([0, 1]), vocoder.hop_length)
        for _ in range(12):
            stream.push(mels[..., :30], False)
            sizes.append(held(stream, set()))
    assert max(sizes[6:]) < 1.3 * max(sizes[:6])


@pytest.mark.parametrize("octaves", [0, 2])
@pytest.mark.parametrize("harmonics", [0.0, 1.0])
@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_a_guess_lets_go_of_the_magnitudes_it_has_used(iterations: int, harmonics: float, octaves: int) -> None:
    config = dataclasses.replace(GUESSING, phase_iterations=iterations, harmonics=harmonics, phase_octaves=octaves)
    prior = ShapedNormal(config, SPEC)
    stream, mel = GuessStream(prior), torch.zeros(1, SPEC.n_mels, 30)
    envelope, magnitude = prior.spectra(mel)
    for _ in range(10):
        white = torch.zeros(1, 30 * SPEC.hop_length)
        stream.push(white, [Condition(mel, envelope=envelope, magnitude=magnitude)], False)
    for window in (stream._magnitudes, stream._finer, *stream._above):
        assert window.held < 30


def test_a_window_shows_each_reader_its_own_place() -> None:
    signal, window = torch.arange(20.0)[None], Window()
    window.push(None)
    window.push(signal[:, :5])
    assert torch.equal(window.look(0, 4), signal[:, :4])
    window.forget(3)
    window.push(signal[:, 5:])
    assert torch.equal(window.look(0, 9), signal[:, 3:12])  # places count what is held
    assert torch.equal(window.look(7, 10), signal[:, 10:])


@pytest.mark.parametrize("hop", [16, 20, 24, 32])
def test_settled_hops_have_the_bits_of_overlapping_frames_added(hop: int) -> None:
    frames, reach = torch.randn(2, 9, 64), -(-64 // hop) - 1
    whole = overlap_add(frames, hop)
    assert torch.equal(settled(frames, hop).flatten(1), whole[:, reach * hop : 9 * hop])
    padded = nn.functional.pad(frames, (0, 0, reach, reach))
    assert torch.equal(settled(padded, hop).flatten(1)[:, : whole.shape[1]], whole)


def test_a_delay_line_gives_back_what_it_was_given() -> None:
    signal, line, taken = torch.arange(20.0)[None], DelayLine(), []
    for piece in signal.split([3, 0, 10, 7], 1):
        line.push(piece)
        while line.held >= 4:
            taken.append(line.take(4))
    assert torch.equal(torch.cat(taken, 1), signal)


@pytest.mark.parametrize("mode", ["zeros", "replicate"])
@pytest.mark.parametrize("size", [1, 2, 5, 20])
def test_a_context_gives_every_position_its_neighbours(mode: str, size: int) -> None:
    signal = torch.arange(1.0, 21.0)[None]
    beyond = (0.0, 0.0) if mode == "zeros" else (1.0, 20.0)
    padded = nn.functional.pad(nn.functional.pad(signal, (2, 0), value=beyond[0]), (0, 3), value=beyond[1])
    context, seen = Context(2, 3, mode), []  # type: ignore[arg-type]
    pieces = signal.split(size, 1)
    for number, piece in enumerate(pieces, 1):
        window = context.push(piece, number == len(pieces))
        if window is not None:
            seen.append(window.unfold(1, 6, 1))
    assert torch.equal(torch.cat(seen, 1), padded.unfold(1, 6, 1))


def test_layers_in_bfloat16_stay_near_those_in_float32(vocoder: Vocoder, mels: Tensor) -> None:
    """Of one evaluation, root mean square against that of the output."""
    network = vocoder.denoiser.backbone
    outputs = []
    for dtype in (torch.float32, torch.bfloat16):
        bound = vocoder.denoiser.bind(Condition(mels), accelerate(network, dtype))
        generator = torch.Generator().manual_seed(0)
        x_t = torch.randn(2, vocoder.denoiser.signal_length(FRAMES * vocoder.hop_length), generator=generator)
        outputs.append(bound.predict(x_t, torch.tensor([0.2, 0.7])))
    exact, rounded = outputs
    assert (rounded - exact).square().mean().sqrt() < 1.6e-2 * exact.square().mean().sqrt()
    assert not torch.equal(rounded, exact)


def test_another_precision_is_refused(vocoder: Vocoder) -> None:
    with pytest.raises(ConfigError, match="float16"):
        vocoder.to("cpu", torch.float16)

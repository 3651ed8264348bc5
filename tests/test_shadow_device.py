"""What runs on a GPU, run on one that is not there: on one device alone, the CPU's results, few launches and waits."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from shadow import COUNTS, Counts, Shadow, host, shadow_device
from sounds import AUTOENCODER, LABELS, RATE, UNET, small_generator
from torch import Tensor
from vocoders import CONFIGS, FRAMES, GUESS, SPEC, mels, untrained

from wavediff import StreamPool, Vocoder, arguments
from wavediff.backbones import DiffWaveConfig
from wavediff.diffusion import CosineSchedule, SignalRegression, noise
from wavediff.engine import accelerate
from wavediff.errors import SamplingError
from wavediff.mel.lines import Ends
from wavediff.training import AdversarialModule, AutoencoderModule, ClassifierModule, SoundModule, VocoderModule
from wavediff.training.critics import CriticConfig

LENGTHS = [24, 10, 17]


def pooled(vocoder: Vocoder, mel: Tensor) -> Tensor:
    """Three streams at once."""
    pool, pieces = StreamPool(vocoder), []
    streams = [pool.open(seed) for seed in (1, 2, 3)]
    for chunk in mel.split(6, -1):
        made = pool.push(dict(zip(streams, chunk, strict=True)))
        pieces.append(torch.stack([made[stream] for stream in streams]))
    return torch.cat([*pieces, torch.stack([pool.close(stream) for stream in streams])], 1)


Way = Callable[[Vocoder, Tensor], Tensor]
WAYS: dict[str, Way] = {
    "decode": lambda vocoder, mel: vocoder.decode(mel, seed=[1, 2, 3]),
    "lengths": lambda vocoder, mel: vocoder.decode(mel, seed=[1, 2, 3], lengths=LENGTHS),
    "stream": lambda vocoder, mel: torch.cat(list(vocoder.stream(mel.split(7, -1), seed=1)), -1),
    "decode, low latency": lambda vocoder, mel: vocoder.decode(mel, seed=[1, 2, 3], low_latency=True),
    "low latency": lambda vocoder, mel: torch.cat(list(vocoder.stream(mel.split(7, -1), low_latency=True)), -1),
    "fresh noise": lambda vocoder, mel: vocoder.decode(mel, 3, sampler="ddim:eta=1"),
    "pool": pooled,
    "states": lambda vocoder, mel: torch.cat(list(vocoder.states(mel))),
}


@pytest.fixture
def gpu() -> Iterator[Counts]:
    with shadow_device() as counts:
        yield counts


@pytest.fixture(autouse=True)
def noise_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU draws it, to be compared."""
    monkeypatch.setattr(noise, "counts_on", lambda device: True)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_vocoder_computes_on_its_device_alone_what_it_computes_on_a_cpu(name: str, way: Way, gpu: Counts) -> None:
    vocoder, mel = untrained(CONFIGS[name]), mels(SPEC)
    expected = way(vocoder, mel)
    vocoder.to("cuda")
    for given in ("cpu", "cuda"):
        speech = way(vocoder, mel.to(given))
        assert speech.device.type == "cuda"
        torch.testing.assert_close(host(speech), expected, atol=2e-4, rtol=0)


def test_the_bundled_vocoder_does_too(gpu: Counts) -> None:
    vocoder = Vocoder.from_pretrained(device="cpu")
    mel = mels(vocoder.mel_spec, 2, 18)
    expected = vocoder.decode(mel, 1)
    torch.testing.assert_close(host(vocoder.to("cuda").decode(mel, 1)), expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("kind", ["unet", "latent", "diffwave"])
def test_a_generator_does_too(kind: str, gpu: Counts) -> None:
    options: dict[str, Any] = {"num_steps": 2, "seconds": 0.1, "label": LABELS[1], "seed": 3}
    sound = 0.1 * torch.randn(900, generator=torch.Generator().manual_seed(0))
    expected, made = [], []
    for generator, found in ((small_generator(kind), expected), (small_generator(kind).to("cuda"), made)):
        found.append(generator.generate(2, **options))
        found.append(generator.inpaint(sound, RATE, 0.03, 0.06, num_steps=2, label=LABELS[0]))
        found.append(generator.interpolate(1, 2, seconds=0.1, num_steps=2, label=LABELS[1], count=2))
        found.append(generator.vary(sound, RATE, num_steps=2, label=LABELS[0]))
    for ours, theirs in zip(made, expected, strict=True):
        assert ours.device.type == "cuda"
        torch.testing.assert_close(host(ours), theirs, atol=2e-4, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_device_without_float64_is_given_none(name: str, gpu: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of Apple, which "mps" stands for; what is computed in it stays on the CPU."""
    vocoder = untrained(CONFIGS[name])
    expected = [WAYS[way](vocoder, mels(SPEC)) for way in ("decode", "low latency")]
    vocoder.to("cuda")
    monkeypatch.setattr(Shadow, "without_float64", True)
    with pytest.raises(TypeError, match="float64 on a device"):
        WAYS["decode"](vocoder, mels(SPEC))
    monkeypatch.setattr("wavediff.mel.stft.has_float64", lambda device: device.type == "cpu")
    for way, speech in zip(("decode", "low latency"), expected, strict=True):
        torch.testing.assert_close(host(WAYS[way](vocoder, mels(SPEC))), speech, atol=2e-4, rtol=0)


def test_a_recording_of_another_rate_needs_no_float64_of_the_device(
    gpu: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocoder = untrained(CONFIGS["frames"])
    waveform = torch.sin(torch.arange(16_000) * 0.1)
    rates = (16_000, RATE + 1)  # the second has too many phases for a table
    expected = [vocoder.mel(waveform, rate) for rate in rates]
    monkeypatch.setattr(Shadow, "without_float64", True)
    vocoder.to("cuda")
    for rate, mel in zip(rates, expected, strict=True):
        torch.testing.assert_close(host(vocoder.mel(waveform, rate)), mel, atol=1e-3, rtol=0)


def test_a_generator_without_float64_generates(gpu: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavediff.mel.stft.has_float64", lambda device: device.type == "cpu")
    monkeypatch.setattr(Shadow, "without_float64", True)
    for kind in ("unet", "latent", "diffwave"):
        small_generator(kind).to("cuda").generate(2, 0.1, LABELS[1], num_steps=2)


def test_a_network_without_fused_layers_is_taken_as_it_is(gpu: Counts) -> None:
    backbone = small_generator("unet").to("cuda").denoiser.backbone
    assert accelerate(backbone, fused=True) is backbone


@pytest.fixture
def tf32() -> Iterator[list[Any]]:
    """The two places that permit it, which do."""
    places: list[Any] = [torch.backends.cudnn.conv, torch.backends.cuda.matmul]
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "tf32"
    yield places
    for place, setting in zip(places, before, strict=True):
        place.fp32_precision = setting


def test_float32_is_whole_on_a_gpu_and_the_callers_setting_comes_back(gpu: Counts, tf32: list[Any]) -> None:
    vocoder, seen = untrained(CONFIGS["frames"]).to("cuda"), []

    def look(*_: Any) -> None:
        seen.extend(place.fp32_precision for place in tf32)

    vocoder.denoiser.backbone.register_forward_hook(look)
    vocoder.decode(mels(SPEC))
    assert seen == ["ieee"] * 4
    assert all(place.fp32_precision == "tf32" for place in tf32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocoder, and an autoencoder of the same frames."""
    folder = tmp_path_factory.mktemp("models")
    untrained(CONFIGS["frames"]).save(folder / "vocoder.safetensors")
    untrained(AUTOENCODER).save(folder / "autoencoder.safetensors")
    return folder


REGRESSION = SignalRegression(phase_iterations=2)
MODULES: dict[str, Callable[[Path], Any]] = {
    "DiffWave": lambda _: VocoderModule(SPEC, DiffWaveConfig(8, 3, 3)),
    "frames from a guess": lambda _: VocoderModule(SPEC, FRAMES, CosineSchedule(), "v", GUESS, REGRESSION),
    "sounds": lambda _: SoundModule(RATE, list(LABELS), backbone=UNET),
    "latents": lambda files: SoundModule(RATE, list(LABELS), str(files / "autoencoder.safetensors"), UNET),
    "autoencoder": lambda files: AutoencoderModule(str(files / "autoencoder.safetensors")),
    "critics": lambda files: AdversarialModule(
        str(files / "vocoder.safetensors"), critics=CriticConfig((256, 128), (128,), 1000.0, 4), critic_lead=0
    ),
    "classifier": lambda _: ClassifierModule(list(LABELS), channels=4, sample_rate=RATE),
}


def gradients(module: Any, batch: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The loss of a training step, and what it asks of each weight."""
    module.log, module._trainer = lambda *_, **__: None, SimpleNamespace(world_size=1, global_step=0, num_nodes=1)
    loss = module.loss(batch).mean
    loss.backward()
    return loss.detach(), [weight.grad for weight in module.parameters() if weight.grad is not None]


@pytest.mark.parametrize("name", MODULES)
def test_a_training_step_computes_on_its_device_alone_what_it_computes_on_a_cpu(
    name: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments, "_usable", lambda tensor, *_: tensor)  # "meta" has values here
    torch.manual_seed(0)
    module = MODULES[name](files)
    twin = copy.deepcopy(module)
    waveform = 0.1 * torch.randn(2, 2048, generator=torch.Generator().manual_seed(1))
    batch = {"waveform": waveform, "length": torch.tensor([2048, 1500]), "seed": torch.tensor([0, 1])}
    batch["label"] = torch.tensor([0, 2])
    expected = gradients(module, batch)
    with shadow_device("meta"):
        twin.to("meta")
        there = twin.transfer_batch_to_device(batch, torch.device("meta"), 0)
        COUNTS.clear()
        loss, found = gradients(twin, there)
        assert COUNTS.waits.total() <= 1  # critics and classifiers look for NaN
        torch.testing.assert_close(host(loss), expected[0], atol=0, rtol=1e-3)  # critics have learned meanwhile
        if name == "critics":  # two of its modules share their weights, which the shadow's `to` parts
            return
        for ours, theirs in zip(found, expected[1], strict=True):
            torch.testing.assert_close(host(ours), theirs, atol=1e-5, rtol=1e-3)


LAUNCHES = {"frames": 570, "samples": 950, "folded": 850}  # of a decode in the default steps


@pytest.mark.parametrize("name", CONFIGS)
def test_a_decode_launches_little_whatever_the_number_of_items_and_waits_after_the_walk(name: str, gpu: Counts) -> None:
    vocoder = untrained(CONFIGS[name]).to("cuda")
    found = []
    for lengths in (None, [24, 10, 17, 20, 11]):
        for items in (2, 5):
            mel = mels(SPEC, items).to("cuda")
            vocoder.decode(mel)  # tables are copied at the first time
            gpu.clear()
            vocoder.decode(mel, lengths=lengths and lengths[:items])
            found.append(gpu.launches.total())
            # The mel is checked on the CPU; then one look for NaN and one for clipping.
            assert [line.split(":")[0] for line in gpu.waits] == [
                "pipelines/vocoder.py",
                "diffusion/walk.py",
                "pipelines/mels.py",
            ]
            assert (gpu.waits.total(), gpu.copies.total()) == (3, 0)
    assert found[0] == found[1] <= LAUNCHES[name]
    assert found[2] == found[3] <= 1.5 * LAUNCHES[name]


def test_lengths_that_do_not_differ_cost_nothing(gpu: Counts) -> None:
    vocoder, mel = untrained(CONFIGS["frames"]).to("cuda"), mels(SPEC)
    counts = []
    for lengths in (None, None, [24, 24, 24]):
        gpu.clear()
        vocoder.decode(mel, lengths=lengths)
        counts.append(gpu.launches.total())
    assert counts[1] == counts[2]


def test_what_does_not_fit_the_memory_is_computed_in_pieces(gpu: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    vocoder, mel = untrained(CONFIGS["frames"]).to("cuda"), mels(SPEC, 1, 200)
    whole, told = vocoder.decode(mel), []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (1 << 20, 1 << 30))
    pieces = vocoder.decode(mel, on_step=lambda _, total: told.append(total))
    torch.testing.assert_close(host(pieces), host(whole), atol=1e-4, rtol=0)
    assert told == [7] * 7


def test_a_step_that_gives_nan_is_named_after_the_walk(gpu: Counts) -> None:
    vocoder = untrained(CONFIGS["frames"]).to("cuda")
    for way in ("decode", "stream"):
        with torch.no_grad():
            vocoder.denoiser.backbone.band_offset.fill_(torch.nan)  # type: ignore[union-attr,operator]
        with pytest.raises(SamplingError, match="step 1 of 2 gave NaN"):
            WAYS[way](vocoder, mels(SPEC))


def left_on_the_cpu(self: Ends, start: int, count: int, unit: int = 1, offset: int = 0) -> Tensor:
    positions = torch.arange(start, start + count)
    return (positions >= offset) & (positions < self.lengths[:, None] * unit + offset)


def test_a_tensor_and_a_generator_of_the_cpu_are_noticed(gpu: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    vocoder = untrained(CONFIGS["frames"]).to("cuda")
    buffers = vocoder.denoiser.prior.stft._buffers  # type: ignore[union-attr]
    for patch, way in (
        (lambda change: change.setattr(Ends, "mask", left_on_the_cpu), "lengths"),
        (lambda change: change.setitem(buffers, "window", host(buffers["window"])), "decode"),
    ):
        with monkeypatch.context() as change:
            patch(change)
            with pytest.raises(RuntimeError, match="all tensors to be on the same device"):
                WAYS[way](vocoder, mels(SPEC))
    with pytest.raises(RuntimeError, match="generator of another device"):
        torch.randn(3, device="cuda", generator=torch.Generator())
    with pytest.raises(TypeError, match="can't convert"):
        vocoder.decode(mels(SPEC)).numpy()


def test_waits_and_copies_are_counted(gpu: Counts) -> None:
    x = torch.ones(3).to("cuda")
    assert (gpu.copies.total(), gpu.waits.total()) == (1, 0)
    (x + 1).view(3, 1).mul_(2)
    assert (gpu.launches["add"], gpu.launches["mul_"], gpu.launches.total()) == (1, 1, 2)
    for count, wait in enumerate((x.sum().item, x.tolist, x.cpu, lambda: bool(x[0] > 0), x.nonzero), 1):
        wait()
        assert gpu.waits.total() == count
    assert COUNTS is gpu

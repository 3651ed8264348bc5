"""A network that the package does not know, registered from outside: it trains, decodes, is searched and exported."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import losses_of_steps
from torch import Tensor, nn

from wavediff import Vocoder
from wavediff.audio import read_audio, write_audio
from wavediff.backbones import BackboneConfig, Condition
from wavediff.bulk.decoding import Decoder, Settings
from wavediff.cli.demo import CLIP
from wavediff.diffusion import CosineSchedule, ItemNoise, SamplingOptions, SignalRegression
from wavediff.engine import streaming
from wavediff.engine.streams import Streams
from wavediff.errors import ConfigError
from wavediff.exporting import export_torch
from wavediff.mel import MelSpec
from wavediff.mel.lines import DelayLine
from wavediff.models.config import BACKBONES, ModelConfig, build_denoiser
from wavediff.search.curve import search
from wavediff.training import VocoderModule

SPEC = MelSpec.preset("hifigan")


@dataclasses.dataclass(frozen=True)
class ToyConfig(BackboneConfig):
    """Shape of the network."""

    channels: int = 4


class Toy(nn.Module):
    """Each sample is multiplied by a number that the mel of its frame, the level and the time decide."""

    multiple = 1

    def __init__(self, config: ToyConfig, spec: MelSpec) -> None:
        super().__init__()
        self.config, self.hop_length = config, spec.hop_length
        self.mel, self.time = nn.Linear(spec.n_mels, config.channels), nn.Linear(1, config.channels)
        self.out = nn.Linear(config.channels, 1)

    def prepare(self, cond: Condition) -> Tensor:
        return self.mel(cond.mel.mT)  # (B, frames, channels)

    def forward(self, x_t: Tensor, t: Tensor, prepared: Tensor) -> Tensor:
        gain = self.out(torch.tanh(prepared + self.time(t.float()[:, None])[:, None]))  # (B, frames, 1)
        return x_t * gain.expand(-1, -1, self.hop_length).flatten(1)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    """Of a toy, which is registered."""
    monkeypatch.setitem(BACKBONES, "toy", (ToyConfig, lambda config, backbone: Toy(backbone, config.mel)))
    return ModelConfig(ToyConfig(), CosineSchedule(), "v", mel=SPEC)


@pytest.fixture
def vocoder(config: ModelConfig) -> Vocoder:
    """Untrained."""
    torch.manual_seed(0)
    return Vocoder(config, build_denoiser(config).eval().requires_grad_(False))


@pytest.fixture
def mel(vocoder: Vocoder) -> Tensor:
    """(2, n_mels, 12), of speech."""
    mel = vocoder.mel(*read_audio(CLIP))[0]
    return torch.stack([mel[:, 40:52], mel[:, 80:92]])


def test_it_trains_a_step(config: ModelConfig) -> None:
    torch.manual_seed(0)
    objective = SignalRegression(guess_share=0.0)
    module = VocoderModule(SPEC, config.backbone, config.schedule, "v", objective=objective)
    waveform = read_audio(CLIP)[0][8192:24576].reshape(2, 8192)
    batch = {"waveform": waveform, "length": torch.tensor([8192, 8192]), "seed": torch.tensor([0, 1])}
    losses = losses_of_steps(module, batch, torch.optim.SGD(module.parameters(), 1e-3), 2)
    assert losses[1] < losses[0]


def test_it_decodes_items_of_any_lengths_as_their_singles(vocoder: Vocoder, mel: Tensor) -> None:
    together = vocoder.decode(mel, 3, seed=[4, 5], sampler="ddpm")
    assert together.shape == (2, 12 * SPEC.hop_length)
    assert together.std() > 1e-3
    padded = mel.clone()
    padded[0, :, 7:] = torch.nan
    told: list[tuple[int, int]] = []
    options: dict[str, Any] = {"seed": [4, 5], "sampler": "ddpm", "on_step": lambda *step: told.append(step)}
    unlike = vocoder.decode(padded, 3, lengths=[7, 12], **options)
    assert told == [(done, 6) for done in range(1, 7)]
    short = vocoder.decode(mel[0, :, :7], 3, seed=4, sampler="ddpm")
    torch.testing.assert_close(unlike[0, : len(short)], short, atol=1e-6, rtol=0)
    torch.testing.assert_close(unlike[1], together[1], atol=1e-6, rtol=0)
    assert not unlike[0, len(short) :].any()


def test_it_does_not_stream_and_says_so(vocoder: Vocoder, mel: Tensor) -> None:
    with pytest.raises(ConfigError, match="Toy computes whole signals alone"):
        vocoder.stream([mel[0]])
    with pytest.raises(ConfigError, match="use decode"):
        vocoder.delay()


def test_a_file_too_long_for_a_batch_is_decoded_at_once(vocoder: Vocoder, mel: Tensor) -> None:
    decoder = Decoder(vocoder, Settings(SamplingOptions(2, seed=7)))
    speech = torch.cat(list(decoder._spoken(iter(mel[0].split(5, -1)))))
    assert torch.equal(speech, vocoder.decode(mel[0], 2, seed=7))


def test_its_files_are_read_back(vocoder: Vocoder, mel: Tensor, tmp_path: Path) -> None:
    vocoder.save_pretrained(tmp_path / "toy")
    again = Vocoder.from_pretrained(tmp_path / "toy", device="cpu")
    assert torch.equal(again.decode(mel, 2), vocoder.decode(mel, 2))


def test_it_is_searched(vocoder: Vocoder, tmp_path: Path) -> None:
    waveform, rate = read_audio(CLIP)
    write_audio(tmp_path / "clip.wav", waveform, rate)
    options: dict[str, Any] = {"budgets": [1, 2], "clips": 1, "seconds": 0.5, "draws": 1, "trials": 4}
    curve = search(vocoder, [tmp_path / "clip.wav"], tmp_path / "trials.jsonl", "toy", **options)
    assert sorted(curve.found) == [1, 2]


def test_it_is_exported(vocoder: Vocoder, mel: Tensor, tmp_path: Path) -> None:
    plan = vocoder.plan(2, sampler="ddpm")
    export_torch(vocoder, tmp_path / "toy.pt2", plan=plan)
    noise, samples = ItemNoise([4, 5]), mel.shape[-1] * SPEC.hop_length
    drawn = torch.stack([noise.draw().take(samples) for _ in range(2)], 1)
    speech = torch.export.load(tmp_path / "toy.pt2").module()(mel=mel, noise=drawn)
    expected = vocoder.decode(mel, 2, seed=[4, 5], sampler="ddpm")
    torch.testing.assert_close(speech, expected, atol=1e-5, rtol=0)


class ToyEvaluation:
    """One evaluation, on pieces."""

    def __init__(self, network: Toy, t: Tensor) -> None:
        self.network, self.t, self.conditions, self.samples = network, t, DelayLine(), DelayLine()

    def push(self, x_t: Tensor | None, last: bool) -> Tensor | None:
        self.samples.push(x_t)
        frames = min(self.conditions.held, self.samples.held // self.network.hop_length)
        if frames == 0:
            return None
        return self.network(self.samples.take(frames * self.network.hop_length), self.t, self.conditions.take(frames))


class ToyStreams(Streams):
    """All evaluations of a toy on one signal."""

    def __init__(self, network: Toy, ends: Any = None, dtype: torch.dtype = torch.float32) -> None:
        self.network, self.evaluations = network, []

    @staticmethod
    def prepare(network: Toy, cond: Condition) -> Tensor:
        return network.prepare(cond)

    def evaluation(self, t: Tensor) -> ToyEvaluation:
        self.evaluations.append(ToyEvaluation(self.network, t))
        return self.evaluations[-1]

    def condition(self, prepared: Sequence[Tensor], last: bool) -> None:
        for part in prepared:
            for evaluation in self.evaluations:
                evaluation.conditions.push(part)

    @staticmethod
    def look_ahead(network: Toy) -> int:
        return 0

    @staticmethod
    def piece(network: Toy, batch: int) -> int:
        return 5 * network.hop_length

    @staticmethod
    def frames_at_once(network: Toy, hop_length: int, batch: int, streamed: bool) -> int:
        return 5


def test_with_a_twin_it_streams_what_it_decodes(vocoder: Vocoder, mel: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = vocoder.decode(mel, 3, seed=[4, 5], sampler="ddpm")
    monkeypatch.setitem(streaming.STREAMS, Toy, ToyStreams)
    twin = Vocoder(vocoder.config, vocoder.denoiser)
    assert twin.delay(3, low_latency=True) == 0
    decoded = twin.decode(mel, 3, seed=[4, 5], sampler="ddpm")
    torch.testing.assert_close(decoded, whole, atol=1e-5, rtol=0)

    def chunks() -> Iterator[Tensor]:
        yield from mel.split(4, -1)

    streamed = torch.cat(list(twin.stream(chunks(), 3, seed=[4, 5], sampler="ddpm")), 1)
    torch.testing.assert_close(streamed, decoded, atol=1e-5, rtol=0)

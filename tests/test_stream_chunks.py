"""Mels that come to a stream in chunks: other framings, buffers that are used again, and misuse."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from vocoders import untrained

from wavediff import StreamPool
from wavediff.audio import read_audio
from wavediff.backbones import DiffWaveConfig
from wavediff.cli.demo import CLIP
from wavediff.errors import ConfigError, MelError, SamplingError
from wavediff.mel import MelSpec, in_dialect, in_dialect_pieces
from wavediff.models.config import ModelConfig
from wavediff.pipelines.vocoder import Vocoder

SPECS = {name: MelSpec.preset(name) for name in ("hifigan", "tacotron2")}
FRAMES = 23


@pytest.fixture(scope="module", params=SPECS)
def vocoder(request: pytest.FixtureRequest) -> Vocoder:
    """Untrained, of either framing."""
    return untrained(ModelConfig(DiffWaveConfig(channels=8, layers=2, dilation_cycle=2), mel=SPECS[request.param]))


@pytest.fixture(scope="module")
def mel() -> Tensor:
    """(80, FRAMES), possible in both dialects."""
    return -6 + 2 * torch.rand(80, FRAMES, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sizes", [[1] * FRAMES, [FRAMES], [1, 21, 1], [9, 0, 9, 5], [2, 21]], ids=str)
@pytest.mark.parametrize("low_latency", [False, True])
@pytest.mark.parametrize("dialect", SPECS)
def test_a_stream_of_another_framing_gives_the_samples_of_the_whole(
    vocoder: Vocoder, mel: Tensor, sizes: list[int], low_latency: bool, dialect: str
) -> None:
    whole = vocoder.decode(mel, 2, mel_spec=dialect, low_latency=low_latency)
    pieces = vocoder.stream(mel.split(sizes, -1), 2, mel_spec=dialect, low_latency=low_latency)
    torch.testing.assert_close(torch.cat(list(pieces)), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1, 2, 22, 23])
@pytest.mark.parametrize(("given", "wanted"), [("tacotron2", "hifigan"), ("hifigan", "tacotron2")])
def test_pieces_of_another_framing_are_those_of_the_whole(mel: Tensor, size: int, given: str, wanted: str) -> None:
    pieces = list(in_dialect_pieces(mel.split(size, -1), SPECS[given], SPECS[wanted]))
    assert all(piece.shape[-1] for piece in pieces)
    torch.testing.assert_close(torch.cat(pieces, -1), in_dialect(mel, SPECS[given], SPECS[wanted]))


def test_a_single_frame_that_a_framing_would_drop_is_refused(mel: Tensor) -> None:
    with pytest.raises(MelError, match=r"song\.npy: one frame"):
        list(in_dialect_pieces([mel[:, :1]], SPECS["tacotron2"], SPECS["hifigan"], source="song.npy"))


@pytest.mark.parametrize("dialect", SPECS)
def test_a_buffer_that_is_used_again_does_no_harm(vocoder: Vocoder, mel: Tensor, dialect: str) -> None:
    def reused() -> Iterator[Tensor]:
        buffer = torch.empty(80, 1)
        for frame in mel.split(1, -1):
            yield buffer.copy_(frame)

    for low_latency in (False, True):
        whole = vocoder.decode(mel, 2, mel_spec=dialect, low_latency=low_latency)
        speech = torch.cat(list(vocoder.stream(reused(), 2, mel_spec=dialect, low_latency=low_latency)))
        torch.testing.assert_close(speech, whole, atol=1e-5, rtol=0)


MISUSES: dict[str, Callable[[Vocoder, Tensor], object]] = {
    "a file": lambda vocoder, mel: vocoder.stream("mel.npy"),  # type: ignore[arg-type]
    "a number": lambda vocoder, mel: vocoder.stream(3),  # type: ignore[arg-type]
    "no preset": lambda vocoder, mel: vocoder.stream([mel], mel_spec="tacotron9"),
    "another rate": lambda vocoder, mel: vocoder.stream([mel], mel_spec="speecht5"),
    "steps": lambda vocoder, mel: vocoder.stream([mel], -3),
    "sampler": lambda vocoder, mel: vocoder.stream([mel], 2, sampler="euclid"),
    "seed": lambda vocoder, mel: vocoder.stream([mel], seed=0.5),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_a_misuse_of_stream_is_told_at_the_call(vocoder: Vocoder, mel: Tensor, misuse: str) -> None:
    with pytest.raises((MelError, SamplingError, ConfigError)):
        MISUSES[misuse](vocoder, mel)


CHUNKS: dict[str, Callable[[Tensor], list[object]]] = {
    "other batch size": lambda mel: [mel.expand(2, -1, -1), mel[None]],
    "batch after none": lambda mel: [mel, mel[None]],
    "none after batch": lambda mel: [mel[None], mel],
    "sparse": lambda mel: [mel.to_sparse()],
    "names": lambda mel: ["mel.npy"],
    "numbers": lambda mel: [1.0],
    "lists": lambda mel: [[1.0, 2.0]],
    "frames": lambda mel: list(mel.T),
    "scalars": lambda mel: [torch.tensor(1.0)],
}


@pytest.mark.parametrize("kind", CHUNKS)
def test_chunks_that_are_no_mel_are_refused(vocoder: Vocoder, mel: Tensor, kind: str) -> None:
    with pytest.raises(MelError):
        list(vocoder.stream(CHUNKS[kind](mel), 1))  # type: ignore[arg-type]


def test_a_sparse_mel_and_a_type_for_a_device_are_refused(vocoder: Vocoder, mel: Tensor) -> None:
    with pytest.raises(MelError, match="to_dense"):
        vocoder.decode(mel.to_sparse(), 1)
    with pytest.raises(ConfigError, match="float16"):
        vocoder.to(torch.float16)  # type: ignore[arg-type]


def test_dialects_that_differ_in_more_are_refused_at_the_call(vocoder: Vocoder, mel: Tensor) -> None:
    other = dataclasses.replace(vocoder.mel_spec, hop_length=200)
    with pytest.raises(MelError, match="hop_length"):
        vocoder.stream([mel], mel_spec=other)


def test_a_pause_that_is_flat_ends_no_stream() -> None:
    """Predicted silence has values more alike than any recording's, which a piece may hold and nothing else."""
    vocoder = untrained(ModelConfig(DiffWaveConfig(channels=8, layers=2, dilation_cycle=2), mel=SPECS["hifigan"]))
    mel = vocoder.mel(*read_audio(CLIP))[0, :, :60]
    pause = -9 + 0.1 * torch.randn(80, 40, generator=torch.Generator().manual_seed(0))
    whole = torch.cat([mel, pause], 1)
    expected = vocoder.decode(whole, 1)
    assert torch.cat(list(vocoder.stream(whole.split(16, -1), 1))).shape == expected.shape
    pool = StreamPool(vocoder, 1)
    stream = pool.open()
    parts = [pool.push({stream: piece})[stream] for piece in whole.split(16, -1)]
    assert len(torch.cat([*parts, pool.close(stream)])) == len(expected)

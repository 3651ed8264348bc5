"""Many streams at once: each is what it is alone, whenever it began and in whatever company."""

import dataclasses
import random
from collections.abc import Callable

import pytest
import torch
from properties import BANDS, mels, vocoder
from torch import Tensor

from wavediff import StreamPool, Vocoder
from wavediff.engine.streaming import StreamedVocoder
from wavediff.errors import ConfigError, MelError, SamplingError
from wavediff.mel.griffin_lim import BLOCK

KINDS: dict[str, Callable[[], Vocoder]] = {
    "guessed phase": lambda: vocoder("spectral", 20),
    "diffwave": lambda: vocoder("diffwave", 20),
}


def speeches(model: Vocoder, given: list[Tensor], seed: int, sizes: Callable[[], int]) -> list[Tensor]:
    """Of each mel (n_mels, frames), by a pool in which streams begin and end at different times."""
    chance = random.Random(seed)
    pool, places = StreamPool(model, 2), [0] * len(given)
    streams: dict[int, int] = {}
    made: list[list[Tensor]] = [[] for _ in given]
    waiting = list(range(len(given)))
    while waiting or streams:
        if waiting and (not streams or chance.random() < 0.3):
            item = waiting.pop()
            streams[item] = pool.open(seed=item)
        size, pushed = sizes(), {}
        for item, stream in streams.items():
            if chance.random() < 0.9:
                pushed[stream] = given[item][:, places[item] : places[item] + size]
                places[item] += size
        for stream, samples in pool.push({stream: mel for stream, mel in pushed.items() if mel.shape[1]}).items():
            made[next(item for item in streams if streams[item] == stream)].append(samples)
        for item in [item for item in streams if places[item] >= given[item].shape[1]]:
            made[item].append(pool.close(streams.pop(item)))
    return [torch.cat(pieces) for pieces in made]


@pytest.mark.parametrize("kind", KINDS)
def test_streams_of_unlike_progress_are_each_what_they_are_alone(kind: str) -> None:
    model = KINDS[kind]()
    given = [mels(item, 1, 21 + 9 * item)[0] for item in range(5)]
    chance = random.Random(0)
    for sizes in (lambda: 2, lambda: chance.randint(1, 4)):
        for item, speech in enumerate(speeches(model, given, 1, sizes)):
            alone = model.decode(given[item], 2, seed=item, low_latency=True)
            torch.testing.assert_close(speech, alone, rtol=0, atol=1e-4)


def test_streams_that_are_under_way_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    push = StreamedVocoder.push

    def counted(self: StreamedVocoder, mel: Tensor | None, last: bool) -> Tensor | None:
        batches.append(0 if mel is None else len(mel))
        return push(self, mel, last)

    model, frames = KINDS["guessed phase"](), mels(0, 1, BLOCK)[0]
    pool, streams = StreamPool(model, 1), []
    for _ in range(4):  # one begins after another
        streams.append(pool.open())
        for _ in range(3):
            pool.push(dict.fromkeys(streams, frames))
    for _ in range(10):
        pool.push(dict.fromkeys(streams, frames))
    monkeypatch.setattr(StreamedVocoder, "push", counted)
    pool.push(dict.fromkeys(streams, frames))
    assert batches == [4]
    pool.close(streams[0])
    pool.push(dict.fromkeys(streams[1:], frames))
    assert batches == [4, 0, 3]


def test_misuse_is_refused_and_pushes_nothing() -> None:
    model = vocoder("spectral", 16)
    pool = StreamPool(model, 1)
    one, frames = pool.open(), mels(0, 1, 4)[0]
    other = pool.open()
    with pytest.raises(MelError, match=r"^stream 7: there is none of that name; "):
        pool.push({one: frames, 7: frames})
    with pytest.raises(MelError, match=rf"^stream {other}: .*{BANDS}"):
        pool.push({one: frames, other: frames[:5]})
    with pytest.raises(MelError, match=rf"^stream {one}: a batch of 2 mels; "):
        pool.push({one: frames.expand(2, -1, -1)})
    pool.push({one: frames})
    assert len(pool.close(one)) == 4 * 16
    with pytest.raises(MelError, match=r"ended without a frame"):
        pool.close(other)
    with pytest.raises(MelError, match=r"there is none of that name"):
        pool.close(other)
    with pytest.raises(SamplingError, match="seed"):
        pool.open(seed=-1)
    with pytest.raises(MelError, match="framing"):
        StreamPool(model, mel_spec=dataclasses.replace(model.mel_spec, framing="center"))


def test_a_network_of_whole_signals_has_no_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavediff.engine.streaming.STREAMS", {})
    with pytest.raises(ConfigError, match="whole signals alone"):
        StreamPool(vocoder("diffwave", 16))

"""The service of many streams, over its port."""

import asyncio
import http.client
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from conftest import load_example
from services import served
from torch import Tensor

import wavediff
from wavediff.bench.scaling import example_mel

STEPS = 40  # frames


@pytest.fixture(scope="module")
def example() -> Any:
    return load_example("many_streams")


@pytest.fixture(scope="module")
def vocoder() -> wavediff.Vocoder:
    return wavediff.Vocoder.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def port(example: Any, vocoder: wavediff.Vocoder) -> Iterator[int]:
    with served(example.application(vocoder, 3)) as port:
        yield port


def post(port: int, mel: Tensor, gate: threading.Barrier | None = None) -> tuple[int, bytes]:
    """Status and samples of an answer; a piece is as long as it comes, and the gate opens in the middle of the mel."""

    def parts() -> Iterator[bytes]:
        body = mel.T.contiguous().numpy().astype("<f4").tobytes()
        yield body[:5001]
        if gate is not None:
            gate.wait(60)
        yield body[5001:]

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/speech", parts(), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_streams_at_the_same_time_each_get_their_own_speech_and_a_bad_one_ends_alone(
    port: int, vocoder: wavediff.Vocoder
) -> None:
    mels = [example_mel(vocoder, STEPS + 7 * number) + 0.1 * number for number in range(2)]
    bad = mels[0].clone()
    bad[3, 30] = torch.nan
    gate, answers = threading.Barrier(3), dict[int, Any]()

    def ask(number: int, mel: Tensor) -> None:
        try:
            answers[number] = post(port, mel, gate)
        except http.client.HTTPException as error:
            answers[number] = error

    threads = [threading.Thread(target=ask, args=pair) for pair in enumerate([*mels, bad])]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert isinstance(answers[2], http.client.HTTPException)
    for number, mel in enumerate(mels):
        status, body = answers[number]
        alone = torch.cat(list(vocoder.stream(mel.split(32, -1), low_latency=True)))
        assert status == 200
        samples = torch.frombuffer(bytearray(body), dtype=torch.int16) / 32767
        torch.testing.assert_close(samples, alone, atol=2e-4, rtol=0)


def test_one_client_too_many_is_told_to_come_again(port: int, vocoder: wavediff.Vocoder) -> None:
    mel, begun = example_mel(vocoder, STEPS), []
    for _ in range(3):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.putrequest("POST", "/speech")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        begun.append((connection, connection.getresponse()))  # the answer begins before the request ends
    assert post(port, mel)[0] == 503
    for connection, answer in begun:
        connection.send(b"0\r\n\r\n")
        assert (answer.status, answer.read()) == (200, b"")
        connection.close()
    assert post(port, mel)[0] == 200


def test_a_stream_has_one_piece_under_way(example: Any, vocoder: wavediff.Vocoder) -> None:
    given = 0

    async def pieces(mel: Tensor) -> Any:
        nonlocal given
        for piece in mel.split(8, -1):
            given += 1
            yield piece

    async def run() -> None:
        async for _ in (speech := example.Speaker(vocoder).speak(pieces(example_mel(vocoder, 64)))):
            await asyncio.sleep(0.05)  # a client that is slow to take its speech
            if given == 3:
                break
            assert given < 3
        await speech.aclose()

    asyncio.run(run())
    assert given == 3

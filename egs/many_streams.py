"""A service of many streams: frames of a mel in, speech out, while both go on; all streams are computed as one batch.

One thread owns a `StreamPool`. While it computes, frames of all streams gather, and the next push takes them together.
A stream has one piece under way at most, so its connection holds up a client that sends faster than this machine
computes; a client beyond `--most` is sent away, with 503 and `Retry-After`. A client posts float32 frames of n_mels
values to /speech, the low byte first; the answer is 16-bit samples, which begin once the first are settled.

Run: python egs/many_streams.py --port 8000
"""

import argparse
import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from torch import Tensor

import wavediff
from wavediff.mel import checked_mel

FRAMES = 32  # of a piece; long ones cost less


class Speaker:
    """Speaks for many streams at once, in one thread."""

    def __init__(self, vocoder: wavediff.Vocoder) -> None:
        self.pool, self.waiting = wavediff.StreamPool(vocoder), dict[int, tuple[Tensor, asyncio.Future[Tensor]]]()
        self.thread = functools.partial(asyncio.get_running_loop().run_in_executor, ThreadPoolExecutor(1))
        self.task = asyncio.create_task(asyncio.sleep(0))

    async def speak(self, pieces: AsyncIterator[Tensor]) -> AsyncIterator[Tensor]:
        """Pieces (n_mels, n) -> for each the speech (m,) that is settled, and at the end the rest."""
        stream, rest = await self.thread(self.pool.open), torch.zeros(0)
        try:
            async for piece in pieces:
                self.waiting[stream] = piece, (answer := asyncio.get_running_loop().create_future())
                if self.task.done():
                    self.task = asyncio.create_task(self._work())
                yield await answer
        finally:
            self.waiting.pop(stream, None)
            with contextlib.suppress(wavediff.WavediffError):  # it had no frame
                rest = await self.thread(self.pool.close, stream)
        yield rest

    async def _work(self) -> None:
        while self.waiting:
            taken, self.waiting = self.waiting, {}
            error, speech = None, dict[int, Tensor]()
            try:
                speech = await self.thread(self.pool.push, {stream: piece for stream, (piece, _) in taken.items()})
            except wavediff.WavediffError as raised:
                error = raised
            for stream, (_, answer) in taken.items():
                if not answer.done():  # its client is still there
                    answer.set_exception(error) if error else answer.set_result(speech[stream])


class Duplex(StreamingResponse):
    """An answer whose body is read off the request that still comes in."""

    async def listen_for_disconnect(self, receive: object) -> None:
        """Starlette's takes what comes in for itself; who reads the request hears of an end too."""
        await asyncio.Event().wait()


def application(vocoder: wavediff.Vocoder, most: int) -> Starlette:
    """The service, of `most` streams at the same time."""
    spec, speakers, streams = vocoder.mel_spec, list[Speaker](), list[int]()

    async def pieces(request: Request) -> AsyncIterator[Tensor]:
        held, frame = b"", spec.n_mels * 4
        async for part in request.stream():  # the last one is empty
            held += part
            whole = len(held) // (size := frame * FRAMES if part else frame) * size
            for first in range(0, whole, FRAMES * frame):
                values = torch.frombuffer(
                    bytearray(held[first : min(first + FRAMES * frame, whole)]), dtype=torch.float32
                )
                yield checked_mel(values.reshape(-1, spec.n_mels).T, None, spec, source="stream")[0]
            held = held[whole:]

    async def samples(request: Request) -> AsyncIterator[bytes]:
        try:
            async for speech in speakers[0].speak(pieces(request)):
                if len(speech):
                    yield (speech.cpu() * 32767).round().numpy().astype("<i2").tobytes()
        finally:
            streams.pop()

    async def speech(request: Request) -> Response:
        if len(streams) >= most:
            return PlainTextResponse(f"{most} streams are spoken already", 503, {"Retry-After": "1"})
        streams.append(1)
        speakers[:] = speakers or [Speaker(vocoder)]  # of the running loop
        return Duplex(samples(request), media_type=f"audio/L16; rate={vocoder.sample_rate}")

    return Starlette(routes=[Route("/speech", speech, methods=["POST"])])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--most", type=int, default=32, help="streams at the same time (default 32)")
    args = parser.parse_args(arguments)
    vocoder = wavediff.Vocoder.from_pretrained()
    uvicorn.run(application(vocoder, args.most), port=args.port, log_level="warning")


if __name__ == "__main__":
    main()

"""Speech while its mel is still being made: chunk by chunk in, 16-bit samples out, to a pipe, a file or a player.

The samples are those of `decode(mel, low_latency=True)`. `Vocoder.delay` says beforehand how far they are behind the
mel: as many frames as the network looks ahead. Here the mel is that of a recording; an acoustic model that works from
left to right would hand over its frames in the same way.

Run: python egs/stream.py --player "aplay -q -t raw -f S16_LE -c 1 -r {rate}"
     python egs/stream.py --output - | ffplay -nodisp -autoexit -f s16le -ar 22050 -
"""

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

import wavediff
from wavediff.audio import read_audio
from wavediff.cli.demo import CLIP


def chunks(mel: Tensor, frames: int, given: list[int]) -> Iterator[Tensor]:
    """Pieces (n_mels, frames) of a mel (n_mels, T), as if from an acoustic model; counts the frames given so far."""
    for piece in mel.split(frames, dim=-1):
        given[0] += piece.shape[-1]
        yield piece


def pcm(speech: Tensor) -> bytes:
    """(N,) in [-1, 1] -> 16-bit samples, the low byte first."""
    return (speech.cpu() * 32767).round().numpy().astype("<i2").tobytes()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=CLIP, help="recording whose mel is streamed (default: bundled)")
    parser.add_argument("--frames", type=int, default=8, help="of a chunk (default 8)")
    parser.add_argument("--num-steps", type=int, help="network evaluations (default: one)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="model file (default: the bundled vocoder)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--output", default="speech.pcm", help="file or pipe for raw samples (- for standard output)")
    where.add_argument("--player", help="command that plays raw samples from its input; {rate} becomes the sample rate")
    args = parser.parse_args(arguments)

    vocoder = wavediff.Vocoder.from_pretrained(args.checkpoint)
    mel = vocoder.mel(*read_audio(args.clip, vocoder.sample_rate))[0]
    player = None
    if args.player:
        command = shlex.split(args.player.replace("{rate}", str(vocoder.sample_rate)))
        player = subprocess.Popen(command, stdin=subprocess.PIPE)
    sink = player.stdin if player else sys.stdout.buffer if args.output == "-" else open(args.output, "wb")  # noqa: SIM115

    given, made, behind, start, first = [0], 0, 0, time.perf_counter(), 0.0
    stream = vocoder.stream(chunks(mel, args.frames, given), args.num_steps, low_latency=True, seed=args.seed)
    try:
        for speech in stream:
            behind = max(behind, given[0] * vocoder.hop_length - made)  # samples of mel that were there and not heard
            first, made = first or time.perf_counter() - start, made + len(speech)
            sink.write(pcm(speech))
            sink.flush()
        sink.close()
    except BrokenPipeError:
        raise SystemExit("whoever listens went away before the end; does it take raw 16-bit samples?") from None
    if player and player.wait():
        raise SystemExit(f"the player failed with exit status {player.returncode}")
    elapsed, seconds = time.perf_counter() - start, made / vocoder.sample_rate
    delay = vocoder.delay(args.num_steps, low_latency=True)
    print(
        f"{seconds:.2f} s of speech in {elapsed:.2f} s; {delay:.0f} ms behind the mel by its look-ahead, "
        f"{1000 * behind / vocoder.sample_rate:.0f} ms with the chunks; first sound after {1000 * first:.0f} ms",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()

"""What scale.md reckons with: how fast one process reads training segments, and what a long list of recordings costs.

Run: wavediff prepare ljspeech /path/to/LJSpeech-1.1 -o data/ljspeech --pack
     python recipes/scale.py data/ljspeech/train.jsonl data/ljspeech/train.safetensors
     python recipes/scale.py --shards 2 --processes 1
     python recipes/scale.py --streams 1 8 32
     python recipes/scale.py --files 50000
"""

import argparse
import asyncio
import resource
import runpy
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import wavediff
from wavediff.audio import read_audio, write_audio
from wavediff.bulk.jobs import find_work, plan_jobs
from wavediff.cli.demo import CLIP
from wavediff.data.dataset import SegmentDataset
from wavediff.data.manifest import Utterance, read_manifest, write_manifest
from wavediff.data.shards import open_decoded, write_shards
from wavediff.data.shuffling import ResumableBatchSampler
from wavediff.mel import MelSpec


def read_segments(source: Path, segment: int, items: int) -> None:
    """Prints how many random segments [samples] a second one process reads, and how much audio they are."""
    corpus: Any = open_decoded(str(source)) or read_manifest(source)
    rate = corpus[0].sample_rate if isinstance(corpus, list) else corpus.sample_rate
    data = SegmentDataset(corpus, rate, segment, seed=0, random=True)
    chosen = torch.randint(len(data), (items,), generator=torch.Generator().manual_seed(0)).tolist()
    start, cores = time.perf_counter(), time.process_time()
    for seed, index in enumerate(chosen):
        data[index, seed]
    wall, cores = time.perf_counter() - start, time.process_time() - cores
    print(
        f"{source}: {items / wall:.0f} segments of {segment / rate:.2f} s a second, {items / cores:.0f} a core-second; "
        f"{items * segment / rate / wall:.0f} s of audio a second"
    )


def write_and_read_shards(gigabytes: float, processes: int, items: int, segment: int) -> None:
    """Prints what writing shards of so much audio costs, and reading from them; the audio is one clip over and over."""
    with tempfile.TemporaryDirectory() as folder:
        clip, shards = Path(folder) / "clip.wav", Path(folder) / "shards"
        noise = torch.randn(144_870, generator=torch.Generator().manual_seed(0)) * 0.1
        write_audio(clip, noise, 22_050)
        count = round(gigabytes * 1e9 / (2 * len(noise)))
        start = time.perf_counter()
        write_shards(str(shards), [Utterance(clip, 6.57, 22_050)] * count, 22_050, processes=processes)
        wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        size = sum(path.stat().st_size for path in shards.iterdir())
        print(
            f"shards: {size / 1e9:.2f} GB of {count} clips in {len(list(shards.glob('*.bin')))} files written in "
            f"{wall:.0f} s by {processes} processes, {size / 1e6 / (used.ru_utime + used.ru_stime):.0f} MB a "
            f"core-second, at most {used.ru_maxrss / 1024:.0f} MB of memory each"
        )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(2):
            read_segments(shards, segment, items)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            print(f"memory grew by {grown:.0f} MB so far, mapped pages included")


async def latencies(vocoder: wavediff.Vocoder, count: int, seconds: float) -> list[float]:
    """Of each piece of `count` streams of egs/many_streams.py in real time: from when it is due to its answer [ms]."""
    mel = vocoder.mel(*read_audio(CLIP, vocoder.sample_rate))[0]
    example = runpy.run_path(str(Path(__file__).parent.parent / "egs" / "many_streams.py"))
    frames, speaker, late = example["FRAMES"], example["Speaker"](vocoder), list[float]()
    period, clock = frames * vocoder.hop_length / vocoder.sample_rate, asyncio.get_running_loop().time

    async def paced(begin: float) -> AsyncIterator[Tensor]:
        for place in range(round(seconds / period)):
            await asyncio.sleep(begin + place * period - clock())
            yield mel.roll(-place * frames, 1)[:, :frames]

    async def client(begin: float) -> None:
        answers = [clock() async for _ in speaker.speak(paced(begin))]
        late.extend(1000 * (answer - begin - place * period) for place, answer in enumerate(answers[:-1]))

    await asyncio.gather(*(client(clock() + period * place / count) for place in range(count)))
    return sorted(late)


def plan(files: int) -> None:
    """Prints what `wavediff vocode` does with so many mels in a folder before it decodes the first."""
    with tempfile.TemporaryDirectory() as folder:
        (made := Path(folder) / "mels").mkdir()
        for number in range(files):
            np.save(made / f"{number:08d}.npy", np.zeros((80, 1), np.float32))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cores = time.perf_counter(), time.process_time()
        work = find_work(plan_jobs([made], Path(folder) / "out"), MelSpec(), max_seconds=4.0, max_items=16)
        wall, cores = time.perf_counter() - start, time.process_time() - cores
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024  # KiB on Linux
    print(
        f"{files} mels listed and their headers read in {wall:.0f} s, {cores / files * 1e6:.0f} us of a core each, "
        f"memory grew by {grown / files:.0f} bytes each; {len(work.batches)} batches"
    )


def hold_manifest(utterances: int) -> None:
    """Prints what reading a manifest of so many lines costs, and the order of an epoch over it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.jsonl"
        rows = (
            Utterance(Path(folder) / f"speaker/{n:08d}.flac", 6.57, 22_050, text="t" * 100) for n in range(utterances)
        )
        write_manifest(path, rows)
        size = path.stat().st_size
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        held = read_manifest(path)
        seconds = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024  # KiB on Linux
    print(
        f"a manifest of {len(held)} lines: {size / utterances:.0f} bytes a line, read in {seconds:.1f} core-seconds, "
        f"memory grew by {grown / utterances:.0f} bytes a line"
    )
    start = time.process_time()
    next(iter(ResumableBatchSampler(utterances, 16, seed=0)))
    print(f"the order of an epoch over them: {time.process_time() - start:.2f} core-seconds")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sources", nargs="*", type=Path, help="manifests (.jsonl), packed corpora (.safetensors) or folders of shards"
    )
    parser.add_argument("--segment-length", type=int, default=16_384, help="samples (default 16384)")
    parser.add_argument("--items", type=int, default=1000, help="segments to read (default 1000)")
    parser.add_argument("--utterances", type=int, default=200_000, help="lines of a made-up manifest (default 200000)")
    parser.add_argument("--streams", type=int, nargs="+", metavar="N", help="latencies of N streams at the same time")
    parser.add_argument("--shards", type=float, metavar="GB", help="write and read shards of so much made-up audio")
    parser.add_argument("--processes", type=int, default=1, help="that write them (default 1)")
    parser.add_argument("--files", type=int, metavar="N", help="plan the vocoding of so many made-up mels")
    args = parser.parse_args(arguments)
    for count in args.streams or ():
        vocoder = wavediff.Vocoder.from_pretrained(device="cpu")
        begun, seconds = time.process_time(), 10.0
        late = asyncio.run(latencies(vocoder, count, seconds))
        cost = (time.process_time() - begun) / (count * seconds)
        below = [f"{edge} ms {sum(value < edge for value in late) / len(late):.0%}" for edge in (100, 200, 400, 1000)]
        print(f"{count} streams: {cost:.3f} core-seconds for a second of each", end="; ")
        print(f"median {late[len(late) // 2]:.0f} ms, below {', '.join(below)}", flush=True)
    if args.files:
        plan(args.files)
    if args.streams or args.files:
        return
    if args.shards:
        write_and_read_shards(args.shards, args.processes, args.items, args.segment_length)
        return
    hold_manifest(args.utterances)
    for source in args.sources:
        read_segments(source, args.segment_length, args.items)


if __name__ == "__main__":
    main()

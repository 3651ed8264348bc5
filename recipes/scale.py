"""What scale.md reckons with: how fast one process reads training segments, and what a long list of recordings costs.

Run: wavediff prepare ljspeech /path/to/LJSpeech-1.1 -o data/ljspeech --pack
     python recipes/scale.py data/ljspeech/train.jsonl data/ljspeech/train.safetensors
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch

from wavediff.data.dataset import SegmentDataset
from wavediff.data.manifest import Utterance, read_manifest, write_manifest
from wavediff.data.packed import PackedAudio
from wavediff.data.shuffling import ResumableBatchSampler


def read_segments(source: Path, segment: int, items: int) -> None:
    """Prints how many random segments [samples] a second one process reads, and how much audio they are."""
    corpus = PackedAudio(source) if source.suffix == ".safetensors" else read_manifest(source)
    rate = corpus.sample_rate if isinstance(corpus, PackedAudio) else corpus[0].sample_rate
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
    parser.add_argument("sources", nargs="*", type=Path, help="manifests (.jsonl) or packed corpora (.safetensors)")
    parser.add_argument("--segment-length", type=int, default=16_384, help="samples (default 16384)")
    parser.add_argument("--items", type=int, default=1000, help="segments to read (default 1000)")
    parser.add_argument("--utterances", type=int, default=200_000, help="lines of a made-up manifest (default 200000)")
    args = parser.parse_args(arguments)
    hold_manifest(args.utterances)
    for source in args.sources:
        read_segments(source, args.segment_length, args.items)


if __name__ == "__main__":
    main()

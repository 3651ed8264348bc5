"""Time the settings that settings.md weighs, in alternation, so that what else a machine does reaches all of them.

Prints for each, per second of audio, the seconds of wall clock (rtf) and of all cores together (core), and the ratios
of both to the default's: medians, of the ratios within a turn. On a machine that does other work, believe the cores.
For streams also how far the speech is behind its mel by the look-ahead alone.

Run: python recipes/settings.py --repeats 5
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

import wavediff
from wavediff.audio import read_audio
from wavediff.cli.demo import CLIP

CHUNK = 16  # frames of a stream's piece
TOGETHER = 16  # sounds or utterances of a batch
SOUND_SECONDS = 1.5

Task = tuple[Callable[[], object], float]  # what to time, and the seconds of audio that it makes


def vocoder_tasks(vocoder: wavediff.Vocoder, seconds: float) -> dict[str, Task]:
    """Ways to decode `seconds` of the bundled clip, the default first."""
    waveform, rate = read_audio(CLIP, vocoder.sample_rate)
    mel = vocoder.mel(waveform.repeat(int(seconds * rate / len(waveform)) + 1)[: int(seconds * rate)], rate)[0]
    short = mel[:, : round(rate / vocoder.hop_length)].expand(TOGETHER, -1, -1)  # (TOGETHER, n_mels, 1 s)

    def decode(steps: int | None = None, **options: object) -> Callable[[], object]:
        return lambda: vocoder.decode(mel, steps, **options)  # type: ignore[arg-type]

    def stream(**options: bool) -> Callable[[], object]:
        return lambda: list(vocoder.stream(mel.split(CHUNK, dim=-1), **options))

    def on_one_thread() -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        vocoder.decode(mel)
        torch.set_num_threads(threads)

    return {
        "the default": (decode(), seconds),
        "num_steps=1": (decode(1), seconds),
        "num_steps=3": (decode(3), seconds),
        "num_steps=6, sampler='ddim'": (decode(6, sampler="ddim"), seconds),
        "one thread": (on_one_thread, seconds),
        f"stream, pieces of {CHUNK} frames": (stream(), seconds),
        f"stream, pieces of {CHUNK} frames, low_latency=True": (stream(low_latency=True), seconds),
        f"{TOGETHER} x 1 s as a batch": (lambda: vocoder.decode(short), TOGETHER),
        f"{TOGETHER} x 1 s one by one": (lambda: [vocoder.decode(item) for item in short], TOGETHER),
    }


def generator_tasks(generator: wavediff.Generator) -> dict[str, Task]:
    """Ways to make sounds of 1.5 s, the default first."""

    def generate(count: int = 1, **options: float) -> Task:
        make = lambda: generator.generate(count, SOUND_SECONDS, "glass", **options)  # type: ignore[arg-type]  # noqa: E731
        return make, count * SOUND_SECONDS

    return {
        "the default": generate(),
        "guidance=1": generate(guidance=1.0),
        "num_steps=30": generate(num_steps=30),
        "num_steps=60": generate(num_steps=60),
        f"count={TOGETHER}": generate(TOGETHER),
    }


def measure(tasks: dict[str, Task], repeats: int) -> dict[str, dict[str, float]]:
    """Name -> rtf and core (medians), and the ratios of both to the first task's (medians within the turns)."""
    for make, _ in tasks.values():  # untimed: caches fill
        make()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}  # wall clock and cores of each turn
    for _ in range(repeats):
        for name, (make, seconds) in tasks.items():
            start, cores = time.perf_counter(), time.process_time()
            make()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            wall, cores = time.perf_counter() - start, time.process_time() - cores
            taken[name].append((wall / seconds, cores / seconds))
    first = next(iter(taken.values()))
    rows = {}
    for name, turns in taken.items():
        figures = {"rtf": [wall for wall, _ in turns], "core": [core for _, core in turns]}
        figures["ratio of rtf"] = [own[0] / default[0] for own, default in zip(turns, first, strict=True)]
        figures["ratio of core"] = [own[1] / default[1] for own, default in zip(turns, first, strict=True)]
        rows[name] = {key: statistics.median(values) for key, values in figures.items()}
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or auto")
    parser.add_argument("--seconds", type=float, default=10.0, help="of speech (default 10)")
    parser.add_argument("--repeats", type=int, default=5, help="timed turns (default 5)")
    parser.add_argument("--only", choices=("vocoder", "generator"), help="half of it")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args(arguments)

    results: dict[str, dict[str, dict[str, float]]] = {}
    if args.only != "generator":
        vocoder = wavediff.Vocoder.from_pretrained(device=args.device)
        results["vocoder"] = measure(vocoder_tasks(vocoder, args.seconds), args.repeats)
        behind = {steps: vocoder.delay(steps, low_latency=True) for steps in (1, 2, 3)}
        results["delay"] = {f"num_steps={steps}": {"milliseconds": value} for steps, value in behind.items()}
    if args.only != "vocoder":
        results["generator"] = measure(
            generator_tasks(wavediff.Generator.from_pretrained(device=args.device)), args.repeats
        )
    if args.json:
        print(json.dumps(results))
        return
    print(f"{args.device}, {torch.get_num_threads()} threads")
    for kind, rows in results.items():
        for name, row in rows.items():
            figures = ", ".join(f"{key} {value:.3g}" for key, value in row.items())
            print(f"{kind}, {name}: {figures}")


if __name__ == "__main__":
    main()

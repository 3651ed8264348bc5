"""What a command costs beside programs that take all the time they get: how threads wait decides.

    python recipes/busy.py data/ljspeech/test.jsonl --programs 0 2 6
    python recipes/busy.py data/ljspeech/test.jsonl --command train

Each run is a process of its own, on two threads with the turns of waiting that wavediff sets, with libgomp's own, and
on one thread. Prints wall and CPU time [s], start of the process included. `vocode` takes the first clips of the
manifest, `generate` makes four sounds, `train` makes ten steps of recipes/ljspeech/fast.yaml, not compiled, in float32.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

WAYS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "two threads, libgomp's own waiting": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "300000"},
}
RECIPE = Path(__file__).parent / "ljspeech" / "fast.yaml"


def vocode(manifest: Path, clips: int, folder: str) -> list[str]:
    """Copy synthesis of the first clips."""
    lines = manifest.read_text(encoding="utf-8").splitlines()[:clips]
    return ["vocode", *(json.loads(line)["path"] for line in lines), "-o", folder, "--quiet", "--device", "cpu"]


def generate(manifest: Path, clips: int, folder: str) -> list[str]:
    """Sounds of one class."""
    return ["generate", "--label", "laser", "--count", "4", "-o", folder, "--quiet", "--device", "cpu"]


def train(manifest: Path, clips: int, folder: str) -> list[str]:
    """Steps of a regression, without reading processes beside it."""
    told = {
        "data.train_manifest": manifest,
        "data.valid_manifest": manifest,
        "data.num_workers": 0,
        "model.compile": "false",
        "trainer.precision": "32-true",
        "trainer.max_steps": 10,
        "trainer.limit_val_batches": 0,
        "trainer.default_root_dir": folder,
    }
    return ["train", "--config", str(RECIPE), *(f"--{name}={value}" for name, value in told.items()), "--quiet"]


COMMANDS: dict[str, Callable[[Path, int, str], list[str]]] = {
    command.__name__: command for command in (vocode, generate, train)
}


def cost(command: Callable[[str], list[str]], way: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU time of one run, whose words are made of the folder that it writes to."""
    free = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "wavediff.cli.main", *command(folder)]
        subprocess.run(words, env=free | way, check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="of recordings")
    parser.add_argument("--command", choices=COMMANDS, default="vocode")
    parser.add_argument("--clips", type=int, default=3, help="that vocode takes")
    parser.add_argument("--programs", type=int, nargs="+", default=[0, 2, 6], help="that take all the time they get")
    args = parser.parse_args()

    def command(folder: str) -> list[str]:
        return COMMANDS[args.command](args.manifest, args.clips, folder)

    for count in args.programs:
        programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        try:
            for name, way in WAYS.items():
                print(
                    "{} programs, {}: wall {:.1f} s, CPU {:.1f} s".format(count, name, *cost(command, way)), flush=True
                )
        finally:
            for program in programs:
                program.kill()


if __name__ == "__main__":
    main()

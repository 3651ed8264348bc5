"""What `wavediff vocode` costs beside programs that take all the time they get: how threads wait decides.

    python recipes/busy.py data/ljspeech/test.jsonl --programs 0 2 6

Vocodes the first clips of a manifest in a process of its own, on two threads with the turns of waiting that wavediff
sets, with libgomp's own, and on one thread. Prints wall and CPU time [s], start of the process included.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "two threads, libgomp's own waiting": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "300000"},
}


def cost(clips: list[str], way: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU time of one run."""
    free = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "wavediff.cli.main", "vocode", *clips, "-o", folder, "--overwrite", "--quiet"]
        subprocess.run([*command, "--device", "cpu"], env=free | way, check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="of recordings")
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--programs", type=int, nargs="+", default=[0, 2, 6], help="that take all the time they get")
    args = parser.parse_args()
    lines = args.manifest.read_text(encoding="utf-8").splitlines()[: args.clips]
    clips = [json.loads(line)["path"] for line in lines]
    for count in args.programs:
        programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        try:
            for name, way in WAYS.items():
                print("{} programs, {}: wall {:.1f} s, CPU {:.1f} s".format(count, name, *cost(clips, way)), flush=True)
        finally:
            for program in programs:
                program.kill()


if __name__ == "__main__":
    main()

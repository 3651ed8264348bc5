"""Take each guard out of a copy of the package and see its tests fail: `python tests/mutation/mutate.py [WORD ...]`.

With words, only the mutations whose file, snippet or test hold one of them. First the tests must pass as things are.
Prints a line for each guard; exit status 1 if the tests of any stay green. It takes 20 to 40 minutes on two cores.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from table import Mutation, all_mutations

REPOSITORY = Path(__file__).resolve().parent.parent.parent
COPIED = ("wavediff", "tests", "recipes", "pyproject.toml", "README.md", "CONTRIBUTING.md")
PATIENCE = 240  # [s] for the tests of one guard; without it some of them would wait for ever, which is red too


def copy(folder: Path) -> None:
    """What the tests need of the repository."""
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "mutation"))
        else:
            shutil.copy(source, folder / name)


def run(folder: Path, tests: str, names: Sequence[str]) -> tuple[str, str]:
    """Outcome of those tests on the package in `folder` (green, red, hung, none), and the end of what pytest says."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/{tests}"]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [*command, "-k", " or ".join(names)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return "hung", ""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with what the tests have started
    last = output.strip().splitlines()[-1] if output.strip() else ""
    if process.returncode not in (0, 1) or (process.returncode == 0 and "passed" not in last):
        return "none", output[-2000:]
    return ("green" if process.returncode == 0 else "red"), output[-2000:]


def shown(mutation: Mutation) -> str:
    """One line."""
    return f"wavediff/{mutation.file}: {' '.join(mutation.snippet.split())[:70]} -> {mutation.tests}::{mutation.name}"


def main(words: Sequence[str]) -> int:
    """Run the table."""
    chosen = [m for m in all_mutations() if not words or any(word in part for word in words for part in m)]
    bad = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(folder)
        for tests in dict.fromkeys(m.tests for m in chosen):
            names = list(dict.fromkeys(m.name for m in chosen if m.tests == tests))
            outcome, output = run(folder, tests, names)
            print(f"{outcome:5} {tests} as it is", flush=True)
            if outcome != "green":
                print(output)
                return 1
        for mutation in chosen:
            path, start = folder / "wavediff" / mutation.file, time.monotonic()
            source = path.read_text(encoding="utf-8")
            path.write_text(mutation.applied(source), encoding="utf-8")
            outcome, output = run(folder, mutation.tests, [mutation.name])
            path.write_text(source, encoding="utf-8")
            print(f"{outcome:5} {time.monotonic() - start:4.0f} s  {shown(mutation)}", flush=True)
            if outcome not in ("red", "hung"):
                bad.append((mutation, output))
    for mutation, output in bad:
        print(f"\nNOT NOTICED: {shown(mutation)}\n{output if 'passed' not in output else ''}")
    print(f"{len(chosen) - len(bad)} of {len(chosen)} guards are held by a test")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Make one input of a campaign again and see what becomes of it: `python tests/robustness/replay.py audio 1234`."""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cases import CASES  # noqa: E402
from workers import quieten  # noqa: E402


def main() -> None:
    """Arguments: the campaign, the seed and, to keep the input, a folder."""
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in CASES:
        sys.exit(f"usage: replay.py {{{','.join(CASES)}}} SEED [FOLDER]")
    quieten()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[3] if len(sys.argv) == 4 else temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(CASES[sys.argv[1]](int(sys.argv[2]), folder.resolve()))


if __name__ == "__main__":
    main()

"""How many files of the package `decode` and a command enter: how far someone has to read who follows one clip.

python recipes/files_entered.py                          # of `Vocoder.decode`
python recipes/files_entered.py vocode clip.wav -o out.wav --quiet
"""

import sys
import threading
from functools import partial
from types import FrameType
from typing import Any

import torch

import wavediff
from wavediff.cli.main import main as command

PACKAGE = wavediff.__path__[0] + "/"


def main() -> None:
    """The count, and each file with the number of its functions that were called."""
    wavediff.Vocoder  # noqa: B018  loaded before, so that what runs while modules load does not count
    entered: dict[str, set[str]] = {}

    def see(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE) and code.co_name != "<module>":
            entered.setdefault(code.co_filename.removeprefix(PACKAGE), set()).add(code.co_name)

    if sys.argv[1:]:
        entering = partial(command, sys.argv[1:])
    else:
        vocoder = wavediff.Vocoder.from_pretrained(device="cpu")
        entering = partial(vocoder.decode, vocoder.mel(0.1 * torch.randn(8000), 22050))
    threading.setprofile(see)
    sys.setprofile(see)
    entering()
    sys.setprofile(None)
    threading.setprofile(None)
    print(f"{len(entered)} files")
    for name, functions in sorted(entered.items()):
        print(f"{name}: {len(functions)}")


if __name__ == "__main__":
    main()

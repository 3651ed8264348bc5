"""The corpora `wavediff prepare` knows: one file and one line here for each.

A corpus is a frozen dataclass. Its first field is the `root` folder, the others are its options (with a
default and a `help`); `clips()` names its files and the split each belongs to.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from wavediff.data.corpora.classes import ClassFolders
from wavediff.data.corpora.folder import Folder
from wavediff.data.corpora.fsdd import FSDD
from wavediff.data.corpora.libritts import LibriTTS
from wavediff.data.corpora.ljspeech import LJSpeech
from wavediff.data.corpora.sc09 import SC09
from wavediff.data.corpora.vctk import VCTK
from wavediff.data.manifest import Clip


class Corpus(Protocol):
    """What each corpus offers."""

    @property
    def root(self) -> Path: ...

    def clips(self) -> list[Clip]:
        """Every file of the corpus, in an order that does not depend on the file system."""


CORPORA: dict[str, Callable[..., Corpus]] = {
    "ljspeech": LJSpeech,
    "folder": Folder,
    "classes": ClassFolders,
    "sc09": SC09,
    "fsdd": FSDD,
    "vctk": VCTK,
    "libritts": LibriTTS,
}

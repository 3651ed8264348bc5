"""The errors wavediff raises on purpose.

Every message names the file (or argument), the cause and the cure, in one line. The command line prints
that line and exits with status 2; anything that is not a `WavediffError` is a bug.
"""

import difflib
import importlib.util
import re
from collections.abc import Iterable, Sequence

MANY_NAMES = 20  # more are not listed in an error


class WavediffError(Exception):
    """Base of every error raised on purpose.

    Args:
        message: line ends in it, of names of files or of values that are shown, become spaces; other control characters
            are escaped.
    """

    def __init__(self, message: str) -> None:
        line = re.sub(r"\s*[\r\n]\s*", " ", str(message))
        super().__init__(re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", line))


class AudioError(WavediffError):
    """An audio file or waveform that cannot be used."""


class MelError(WavediffError):
    """A mel spectrogram, or a mel dialect, that cannot be used."""


class CheckpointError(WavediffError):
    """A checkpoint that is damaged, hostile, foreign or too new."""


class ConfigError(WavediffError):
    """A configuration value out of its bounds."""


class SamplingError(WavediffError):
    """A schedule, a number of steps or a sampling run that cannot give sound."""


class EndingError(SamplingError):
    """Sounds that are to be loops but end by themselves.

    Args:
        message: as `WavediffError` takes it.
        places: which of the batch they are.
    """

    def __init__(self, message: str, places: Sequence[int]) -> None:
        super().__init__(message)
        self.places = tuple(places)


class DataError(WavediffError):
    """A corpus, manifest or batch that cannot be trained on."""


class TrainingError(WavediffError):
    """A training run that cannot start or go on."""


class OutputError(WavediffError):
    """A result that cannot be written."""


class ClippingWarning(UserWarning):
    """Speech was clipped, because it would have been louder than full scale."""


class InstallationError(WavediffError):
    """Libraries that do not work together."""


class MissingExtraError(WavediffError):
    """An optional dependency that is not installed."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Of a name that is wrong: " (did you mean ...?)" where a known one is much like it, else nothing."""
    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(given.lower(), names, 1, 0.6)
    return f" (did you mean {names[close[0]]}?)" if close else ""


def choice(given: str, known: Sequence[str], all_in: str = "the documentation") -> str:
    """Of a name that is wrong: the nearest, and all that could be chosen; of very many the nearest few.

    Args:
        given: the name.
        known: those there are.
        all_in: where very many are to be found.
    """
    if len(known) <= MANY_NAMES:
        return f"{did_you_mean(given, known)}; choose from {', '.join(known) or 'none'}"
    near = ", ".join(difflib.get_close_matches(given.lower(), known, 4, 0.5))
    return f"{f', the nearest are {near}' if near else ''}; all {len(known)} are in {all_in}"


def lack_of_memory(error: BaseException) -> str:
    """What an error says where there is no memory left, in one line; "" of any other."""
    kinds = {kind.__name__ for kind in type(error).__mro__}  # torch has one of its own for GPUs
    if not kinds & {"MemoryError", "OutOfMemoryError"} and "can't allocate memory" not in str(error):
        return ""
    return " ".join(str(error).split()) or type(error).__name__


def require_packages(packages: Sequence[str], extra: str | None, purpose: str, install: str = "") -> None:
    """Look for packages; none is imported.

    Args:
        packages: that are needed, by the names that they are imported by.
        extra: of wavediff that installs them; None where none does.
        purpose: that needs them, for the message.
        install: what pip is told then.

    Raises:
        MissingExtraError: one is not installed.
    """
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        command = install or f"'wavediff[{extra}]'"
        raise MissingExtraError(f"{purpose} needs {' and '.join(missing)}: pip install {command}")

"""The errors wavediff raises on purpose.

Every message names the file (or argument), the cause and the cure, in one line. The command line prints
that line and exits with status 2; anything that is not a `WavediffError` is a bug.
"""

import importlib.util
from collections.abc import Sequence


class WavediffError(Exception):
    """Base of every error raised on purpose."""


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


class DataError(WavediffError):
    """A corpus, manifest or batch that cannot be trained on."""


class TrainingError(WavediffError):
    """A training run that cannot start or go on."""


class OutputError(WavediffError):
    """A result that cannot be written."""


class ClippingWarning(UserWarning):
    """Speech was clipped, because it would have been louder than full scale."""


class MissingExtraError(WavediffError):
    """An optional dependency that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}: pip install 'wavediff[{extra}]'")


def require_packages(packages: Sequence[str], extra: str, purpose: str) -> None:
    """Raise MissingExtraError where one of an extra's packages is not installed; none is imported."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(" and ".join(missing), extra, purpose)

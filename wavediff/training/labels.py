"""The class names that a model is trained with."""

from collections.abc import Sequence
from pathlib import Path

from wavediff.data.manifest import read_manifest
from wavediff.data.shards import open_decoded
from wavediff.errors import ConfigError, DataError


def labels_of(labels: str | Sequence[str]) -> tuple[str, ...]:
    """Class names in the order of their indices.

    Args:
        labels: the names themselves, kept in their order; or a manifest (`.jsonl`), packed corpus (`.safetensors`) or
            corpus in shards, whose distinct labels are taken in alphabetical order.

    Raises:
        ConfigError: a text that names no such file.
        DataError: the file is missing or damaged, or has an utterance without a label.
    """
    if not isinstance(labels, str):
        return tuple(labels)
    if Path(labels).suffix == ".jsonl":
        found: set[str | None] = {utterance.label for utterance in read_manifest(labels)}
    elif (corpus := open_decoded(labels)) is not None:
        found = {None} if corpus.labels is None else set(corpus.labels)
    else:
        what = "is no manifest or corpus (.jsonl, .safetensors, shards)"
        raise ConfigError(f"model.labels: {labels!r} {what}; give one, or [name, ...]")
    if None in found:
        raise DataError(f"{labels}: has an utterance without a label; prepare the corpus by `wavediff prepare classes`")
    return tuple(sorted(label for label in found if label is not None))

"""The Hugging Face Hub: models fetched by name and pushed. The only place that knows huggingface_hub.

A model on the Hub is a repository with `model.safetensors`, the same file as anywhere else, and a card. Nothing else
in it is fetched.
"""

import contextlib
import json
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wavediff.errors import CheckpointError, OutputError, WavediffError, require_packages
from wavediff.models.config import ModelConfig

MODEL_FILE = "model.safetensors"
CARD_FILE = "README.md"
_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".onnx")


def is_hub_id(source: str | os.PathLike[str]) -> bool:
    """Whether `source` can only be meant as a model on the Hub: "user/model", and nothing of the sort exists here."""
    text = os.fspath(source)
    if not _ID.fullmatch(text) or text.lower().endswith(_FILES):
        return False
    # runs/typo is a wrong name in a folder of ours and no reason to use the network.
    return not Path(text).exists() and not Path(text).parent.is_dir()


def fetch_model(repo_id: str, revision: str | None = None) -> Path:
    """The model file of a repository on the Hub, from the local cache where it is there and still the newest.

    Args:
        repo_id: "user/model".
        revision: Branch, tag or commit; None for the newest.

    Raises:
        CheckpointError: The Hub cannot be reached and the model is not cached; there is no such model, revision or
            model file; or it may not be read.
        MissingExtraError: huggingface_hub is not installed.
    """
    purpose = f"{repo_id}: is no file or folder here, and fetching it from the Hugging Face Hub"
    require_packages(["huggingface_hub"], "hub", purpose)
    import huggingface_hub as hub

    named = repo_id if revision is None else f"{repo_id}, revision {revision}"
    try:
        with _quiet(repo_id):
            return Path(hub.hf_hub_download(repo_id, MODEL_FILE, revision=revision, library_name="wavediff"))
    except Exception as error:  # its own types, httpx's, OSError and ValueError alike
        raise CheckpointError(f"{named}: {_explain(error)}") from error


def push_model(
    repo_id: str,
    save: Callable[[Path], None],
    *,
    revision: str | None = None,
    private: bool | None = None,
    message: str = "Upload a wavediff model",
    token: str | None = None,
    overwrite: bool = False,
) -> str:
    """Upload the folder that `save` writes in one commit; arguments, result and errors of `Pipeline.push_to_hub`."""
    require_packages(["huggingface_hub"], "hub", "pushing a model to the Hugging Face Hub")
    import huggingface_hub as hub

    try:
        with _quiet(repo_id):
            api = hub.HfApi(token=token, library_name="wavediff")
            api.create_repo(repo_id, private=private, exist_ok=True)
            if revision is not None:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            exists = not overwrite and api.file_exists(repo_id, MODEL_FILE, revision=revision)
            if not exists:
                with tempfile.TemporaryDirectory() as folder:
                    save(Path(folder))
                    commit = api.upload_folder(
                        repo_id=repo_id, folder_path=folder, revision=revision, commit_message=message
                    )
                return str(commit.commit_url)
    except WavediffError:
        raise
    except Exception as error:  # as in fetch_model
        raise OutputError(f"{repo_id}: {_explain(error)}") from error
    raise OutputError(f"{repo_id}: holds a model already; pass overwrite=True, or push to another revision")


@contextlib.contextmanager
def _quiet(repo_id: str) -> Iterator[None]:
    """The library logs every attempt, twice where the caller logs too; that it tries again is said once."""
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    level, requests, attempts = get_verbosity(), logging.getLogger("huggingface_hub.utils._http"), _Attempts(repo_id)
    own_level = requests.level
    set_verbosity(logging.CRITICAL)
    requests.setLevel(logging.WARNING)
    requests.addFilter(attempts)
    try:
        yield
    finally:
        requests.removeFilter(attempts)
        requests.setLevel(own_level)
        set_verbosity(level)


class _Attempts(logging.Filter):
    """Lets nothing through, and warns at the first attempt that failed: the library goes on for half a minute."""

    def __init__(self, repo_id: str) -> None:
        super().__init__()
        self._repo_id, self._said = repo_id, False

    def filter(self, record: logging.LogRecord) -> bool:
        """Never."""
        if not self._said:
            self._said = True
            what = "the Hugging Face Hub does not answer, it is tried again for half a minute"
            warnings.warn(f"{self._repo_id}: {what}; HF_HUB_OFFLINE=1 asks the local cache alone", stacklevel=2)
        return False


def _explain(error: Exception) -> str:
    """Cause and cure, by what huggingface_hub has raised; the more special types come first."""
    reason = " ".join(str(error).split())[:200]
    try:
        from huggingface_hub import constants, errors
    except Exception:  # it reads numbers from the environment as it loads
        return f"huggingface_hub does not load ({type(error).__name__}: {reason}); check the variables HF_HUB_*"
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub cannot be reached"
        cure = "unset it" if constants.HF_HUB_OFFLINE else "check the connection"
        return f"is not in the local cache ({constants.HF_HUB_CACHE}) and {why}; {cure}, or give a file or folder"
    if isinstance(error, errors.GatedRepoError):
        return "its owner must admit you; ask for access on its page, then `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "is not on the Hub, or is private; check the name, or `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the Hub has no such revision; leave it out for the newest"
    if isinstance(error, errors.EntryNotFoundError):
        return f"holds no {MODEL_FILE}, and nothing else is loaded; make one with `wavediff import` or `export`"
    if isinstance(error, errors.HFValidationError):
        return f"is no name that the Hub allows ({reason}); names are user/model"
    return f"the Hub cannot be used ({type(error).__name__}: {reason}); check connection and `hf auth login`"


_TITLES = {
    "train_manifest": "trained on",
    "steps": "steps",
    "epochs": "epochs",
    "hardware": "hardware",
    "precision": "precision",
    "date": "date",
    "valid_loss": "validation loss",
}


def model_card(config: ModelConfig, facts: dict[str, Any], license: str | None = None) -> str:
    """Markdown with the Hub's front matter.

    Args:
        config: of the model.
        facts: how it came about; JSON literals.
        license: the Hub's name of a licence; by default `facts["license"]`, and left out where neither says it.
    """
    vocoder = config.mel is not None
    name, task = ("Vocoder", "text-to-speech") if vocoder else ("Generator", "text-to-audio")
    tags = ["audio", "diffusion", *(["vocoder", "speech"] if vocoder else ["sound-effects"])]
    license = license or facts.get("license")
    front = {"library_name": "wavediff", "pipeline_tag": task, "tags": tags} | ({"license": license} if license else {})
    use = (
        ["mel = vocoder.mel(waveform, sample_rate)", "speech = vocoder.decode(mel, seed=0)"]
        if vocoder
        else ["sounds = generator.generate(count=4, seed=0)"]
    )
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in front.items()),  # JSON is YAML
        "---",
        "",
        f"# A wavediff {name.lower()}",
        "",
        "```python",
        "import wavediff",
        "",
        f'{name.lower()} = wavediff.{name}.from_pretrained("...")  # the name of this repository',
        *use,
        "```",
        "",
        *_table(_model_rows(config)),
        "",
        "## Training",
        "",
        *_table(_training_rows(facts)),
    ]
    return "\n".join(lines) + "\n"


def _model_rows(config: ModelConfig) -> list[tuple[str, Any]]:
    values = config.to_dict()
    rows: list[tuple[str, Any]] = [("sample rate", f"{config.sample_rate} Hz")]
    if config.mel is not None:
        rows += [("mel dialect", config.mel.describe())]
    if config.labels:
        rows += [("classes", ", ".join(config.labels))]
    return [*rows, ("predicts", config.prediction), ("backbone", values["backbone"])]


def _training_rows(facts: dict[str, Any]) -> list[tuple[str, Any]]:
    """What is known, the usual first, whatever else there is (evaluations among it) after it."""
    rows = [(title, facts[key]) for key, title in _TITLES.items() if facts.get(key) is not None]
    rows += [(key, value) for key, value in sorted(facts.items()) if key not in _TITLES and key != "license"]
    return rows or [("training", "nothing is known of it")]


def _table(rows: list[tuple[str, Any]]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {_cell(key)} | {_cell(value)} |" for key, value in rows)]


def _cell(value: Any) -> str:
    """As text that stays in its cell: facts are whatever a model file says."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ", ".join(value)
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    text = " ".join(text.split())
    for character, safe in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("[", "&#91;"), ("`", "&#96;")):
        text = text.replace(character, safe)
    return text

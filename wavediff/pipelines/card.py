"""The card of a model on the Hub: what its file knows of it, in Markdown."""

import json
from typing import Any

from wavediff.models.config import ModelConfig

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

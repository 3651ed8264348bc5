"""Classes of one's own: the recipe that goes on from the bundled generator, without any corpus."""

from pathlib import Path

import pytest
import soundfile
import torch
from conftest import REPOSITORY
from test_training import QUIET

from wavediff import Generator
from wavediff.cli.main import main
from wavediff.models.checkpoint import load_checkpoint
from wavediff.training.module import LABELS

RATE = 22050
STILL = {  # a learning rate that changes nothing shows the weights that training starts from
    "model.learning_rate": 1e-30,
    "data.batch_size": 2,
    "trainer.max_steps": 1,
    "trainer.limit_val_batches": 0,
    "trainer.precision": "32-true",
    "trainer.callbacks": "[wavediff.training.ModelExport]",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hums and three hisses, in folders of the classes that they are."""
    root, noise = tmp_path_factory.mktemp("own") / "sounds", torch.Generator().manual_seed(0)
    for number in range(3):
        for label in ("engine", "rain"):
            sound = 0.1 * torch.randn(8000, generator=noise)
            if label == "engine":
                sound = 0.3 * torch.sin(torch.arange(8000) * (0.03 + 0.01 * number))
            (root / label).mkdir(parents=True, exist_ok=True)
            soundfile.write(root / label / f"{label}_{number}.wav", sound.numpy(), RATE)
    return root


def test_a_class_begins_as_the_mean_of_its_kinds_and_another_as_none(folders: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    prepare = ["prepare", "classes", str(folders), "-o", str(data), "--pack", "--sample-rate", str(RATE), "--quiet"]
    assert main(prepare) == 0
    files = {f"data.{split}_manifest": data / f"{split}.safetensors" for split in ("train", "valid")}
    given = STILL | files | {"model.labels": data / "train.jsonl", "trainer.default_root_dir": tmp_path / "run"}
    options = [f"--{name}={value}" for name, value in given.items()]
    assert main(["train", "--config", str(REPOSITORY / "recipes" / "sfx" / "own.yaml"), *QUIET, *options]) == 0
    own = load_checkpoint(tmp_path / "run" / "last.safetensors")
    bundled = load_checkpoint(Generator.model_path(None))
    assert own.config.labels == ("engine", "rain")
    rows = bundled.weights[LABELS].float()
    engines = [rows[place] for place, kind in enumerate(bundled.config.labels) if kind.startswith("engine/")]
    assert len(engines) > 1
    expected = torch.stack([sum(engines) / len(engines), rows[-1], rows[-1]])
    torch.testing.assert_close(own.weights[LABELS].float(), expected, rtol=0, atol=1e-6)
    for name, weight in bundled.weights.items():
        if name != LABELS:
            torch.testing.assert_close(own.weights[name].float(), weight.float(), rtol=0, atol=1e-6)
    sound = Generator.from_pretrained(tmp_path / "run" / "last.safetensors", "cpu").generate(label="rain", num_steps=1)
    assert torch.isfinite(sound).all()

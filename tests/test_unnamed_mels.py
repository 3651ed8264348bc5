"""A mel without a name is of the model's own dialect, unless its values surely are another's; "auto" asks."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from wavediff import Vocoder
from wavediff.audio import read_audio, read_info
from wavediff.cli.demo import CLIP
from wavediff.cli.main import main
from wavediff.errors import MelError
from wavediff.mel import MelSpec, MelTransform
from wavediff.mel.check import check_unnamed, dialect_of

OTHERS = ("espnet", "parallel-wavegan-24k", "speecht5", "coqui-default")


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    return Vocoder.from_pretrained(device="cpu")


def mel_of(name: str) -> torch.Tensor:
    """The bundled speech in a dialect, (n_mels, frames)."""
    spec = MelSpec.preset(name)
    return MelTransform(spec)(read_audio(CLIP, spec.sample_rate)[0][None])[0]


@pytest.mark.parametrize("name", OTHERS)
def test_values_of_another_scale_are_refused_unless_they_are_named(name: str, vocoder: Vocoder) -> None:
    mel = mel_of(name)
    with pytest.raises(MelError, match=r"mel: its values are those of .*, not of hifigan; .*mel_spec") as refusal:
        vocoder.decode(mel, 1)
    assert any(other in str(refusal.value) for other in OTHERS)
    assert vocoder.decode(mel, 1, mel_spec="hifigan").isfinite().all()
    few = vocoder.decode(mel[:, :20], 1)  # tell nothing
    assert few.shape == (20 * 256,)


@pytest.mark.parametrize("name", ["hifigan", "tacotron2", "coqui", "nemo-hifigan"])
def test_the_own_values_are_taken(name: str) -> None:
    mel = mel_of(name)
    check_unnamed(mel, MelSpec.preset("hifigan"))
    smooth = torch.nn.functional.avg_pool1d(mel, 5, 1, 2)  # as an acoustic model predicts
    check_unnamed(smooth, MelSpec.preset("hifigan"))


def test_a_dialect_of_ones_own_is_compared_by_its_scale() -> None:
    """Other bands, but the numbers of espnet: no preset is so surely another that it is refused."""
    own = dataclasses.replace(MelSpec.preset("espnet"), f_min=0.0, f_max=8000.0)
    check_unnamed(MelTransform(own)(read_audio(CLIP, own.sample_rate)[0][None]), own)


def test_auto_takes_the_likeliest(vocoder: Vocoder) -> None:
    assert dialect_of(mel_of("hifigan")).name == "hifigan"
    mel = mel_of("coqui-default")
    assert dialect_of(mel) == MelSpec.preset("coqui-default")
    with pytest.raises(MelError, match=r"for_mels\(.coqui-default.\)"):
        vocoder.decode(mel, 1, mel_spec="auto")
    other = vocoder.for_mels("coqui-default")
    named, auto = (other.decode(mel, 1, seed=0, mel_spec=spec) for spec in ("coqui-default", "auto"))
    assert torch.equal(named, auto)
    with pytest.raises(MelError, match="cannot be told"):
        vocoder.decode(torch.zeros(80, 100), 1, mel_spec="auto")


def test_files_without_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "mel.npy", mel_of("coqui-default").numpy())
    command = ["vocode", str(tmp_path / "mel.npy"), "-o", str(tmp_path / "a.wav"), "--num-steps", "1", "--quiet"]
    assert main(command) != 0
    assert "mel.npy: its values are those of coqui-default" in capsys.readouterr().err
    assert not (tmp_path / "a.wav").exists()
    assert main([*command, "--mel-spec", "auto"]) == 0
    assert read_info(tmp_path / "a.wav").seconds == pytest.approx(read_info(CLIP).seconds, abs=0.05)
    assert main(["vocode", str(CLIP), "-o", str(tmp_path / "b.wav"), "--mel-spec", "auto"]) != 0
    assert "no mel among the inputs" in capsys.readouterr().err

"""Training on mels from files: they belong to the very samples of a segment, and what does not fit is named."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wavediff.audio import read_audio, write_audio
from wavediff.cli.demo import CLIP
from wavediff.cli.main import main
from wavediff.data.augment import Augment
from wavediff.data.datamodule import AudioDataModule
from wavediff.data.dataset import SegmentDataset
from wavediff.data.manifest import Utterance, read_manifest, write_manifest
from wavediff.data.paired import FRAME_TOLERANCE, PairedMels
from wavediff.errors import ConfigError, DataError
from wavediff.mel import MelSpec, MelTransform, write_mel

SPEC = MelSpec()
RATE, HOP = SPEC.sample_rate, SPEC.hop_length
SEGMENT = 8 * HOP


def mel_of(path: Path, spec: MelSpec = SPEC) -> Tensor:
    return MelTransform(spec)(read_audio(path, spec.sample_rate)[0][None])[0]


def write_corpus(folder: Path, count: int, samples: int, spec: MelSpec = SPEC, suffix: str = ".safetensors") -> None:
    """Pieces of real speech in `folder/wavs/a`, and their mels in `folder/mels/a`."""
    speech, _ = read_audio(CLIP)
    assert len(speech) > 5000 + 1711 * count + samples
    for number in range(count):
        start = 5000 + 1711 * number
        for kind in ("wavs", "mels"):
            (folder / kind / "a").mkdir(parents=True, exist_ok=True)
        path = folder / "wavs" / "a" / f"{number}.wav"
        write_audio(path, speech[start : start + samples], RATE)
        write_mel(folder / "mels" / "a" / f"{number}{suffix}", mel_of(path, spec), spec)


def prepare(folder: Path, *extra: str) -> int:
    command = ["prepare", "folder", str(folder / "wavs"), "--mels", str(folder / "mels"), "-o", str(folder / "data")]
    return main([*command, "--quiet", *extra])


def utterances(folder: Path) -> list[Utterance]:
    return [u for split in ("train", "valid", "test") for u in read_manifest(folder / "data" / f"{split}.jsonl")]


def dataset(found: list[Utterance], spec: MelSpec = SPEC, **more: Any) -> SegmentDataset:
    return SegmentDataset(found, RATE, SEGMENT, mels=PairedMels(found, spec), **more)


def manifests(data: Path, kind: str) -> list[str]:
    return [f"--data.{split}_manifest={data / split}{kind}.jsonl" for split in ("train", "valid")]


# Pairing


def test_each_recording_is_paired_with_the_mel_of_its_place_and_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(tmp_path, 6, 12 * HOP)
    (tmp_path / "mels" / "a" / "2.safetensors").unlink()
    (tmp_path / "mels" / "b").mkdir()
    write_mel(tmp_path / "mels" / "b" / "1.npy", torch.zeros(80, 12), SPEC)
    assert prepare(tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["unpaired"] == 2
    found = {u.path.stem: u.mel for u in utterances(tmp_path)}
    assert found == {stem: tmp_path / "mels" / "a" / f"{stem}.safetensors" for stem in "01345"}
    rows = [json.loads(line) for line in (tmp_path / "data" / "skipped.jsonl").read_text().splitlines()]
    assert [Path(row["path"]).name for row in rows] == ["2.wav", "1.npy"]
    assert "no mel" in rows[0]["reason"]
    assert "no recording" in rows[1]["reason"]


def test_a_manifest_moves_with_its_mels(tmp_path: Path) -> None:
    row = Utterance(tmp_path / "x" / "1.wav", 1.0, RATE, mel=tmp_path / "x" / "1.npy")
    write_manifest(tmp_path / "x" / "m.jsonl", [row])
    (tmp_path / "x").rename(tmp_path / "y")
    assert read_manifest(tmp_path / "y" / "m.jsonl")[0].mel == tmp_path / "y" / "1.npy"


def test_what_cannot_be_paired_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path, 5, 12 * HOP, suffix=".npy")
    mels = tmp_path / "mels"

    def error(*extra: str) -> str:
        assert prepare(tmp_path, "--overwrite", *extra) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        return text

    assert "0.npy: does not say its dialect; pass --mel-spec" in error()
    assert "no preset is named 'hifi'" in error("--mel-spec", "hifi")
    assert "a packed corpus holds no mels" in error("--mel-spec", "hifigan", "--pack")
    write_mel(mels / "a" / "0.safetensors", torch.zeros(80, 12), SPEC)
    assert "0.safetensors: same name as" in error("--mel-spec", "hifigan")
    (mels / "a" / "0.safetensors").unlink()
    (mels / "a").rename(mels / "elsewhere")
    assert "no mel in it pairs" in error("--mel-spec", "hifigan")
    mels.rename(tmp_path / "gone")
    assert "is not a folder" in error("--mel-spec", "hifigan")
    command = ["prepare", "folder", str(tmp_path / "wavs"), "-o", str(tmp_path / "x"), "--mel-spec", "hifigan"]
    assert main(command) == 2
    assert "pass --mels too" in capsys.readouterr().err


@pytest.mark.parametrize("framing", ["same", "center"])
@pytest.mark.parametrize("difference", [-FRAME_TOLERANCE - 1, -FRAME_TOLERANCE, FRAME_TOLERANCE, FRAME_TOLERANCE + 1])
def test_lengths_agree_within_a_few_frames_and_are_cut_to_the_shorter(
    difference: int, framing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = dataclasses.replace(SPEC, framing=framing)
    write_corpus(tmp_path, 3, 12 * HOP + 100, spec)
    path = tmp_path / "mels" / "a" / "1.safetensors"
    mel = mel_of(tmp_path / "wavs" / "a" / "1.wav", spec)
    own = mel.shape[-1]
    assert own == 12 + (framing == "center")
    write_mel(path, torch.cat([mel, mel], dim=-1)[:, : own + difference], spec, overwrite=True)
    if abs(difference) > FRAME_TOLERANCE:
        assert prepare(tmp_path) == 2
        error = capsys.readouterr().err
        assert f"1.safetensors: has {own + difference} frames" in error
        assert "1.wav of 3172 samples" in error
        assert f"has {own} of hop 256" in error
        assert f"more than {FRAME_TOLERANCE} apart" in error
        return
    assert prepare(tmp_path) == 0
    found = [u for u in utterances(tmp_path) if u.path.stem == "1"]
    item = SegmentDataset(found, RATE, 16 * HOP, random=False, mels=PairedMels(found, spec))[0]
    frames = min(12, own + difference)
    assert item["length"] == frames * HOP
    assert item["mel"].shape == (80, 16)
    assert torch.equal(item["mel"][:, :frames], mel[:, :frames])
    assert (item["mel"][:, frames:] == MelTransform(SPEC)(torch.zeros(1, 4096))[0, :, :1]).all()  # silence


def test_mels_of_another_dialect_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path, 3, 12 * HOP)
    assert prepare(tmp_path) == 0
    found = utterances(tmp_path)
    assert prepare(tmp_path, "--mel-spec", "tacotron2", "--overwrite") == 2
    error = capsys.readouterr().err
    assert "needed is tacotron2" in error
    assert "(and 2 more" in error
    with pytest.raises(DataError, match="needed is tacotron2"):
        PairedMels(found, MelSpec.preset("tacotron2"))
    decibels = tmp_path / "mels" / "a" / "1.npy"
    (tmp_path / "mels" / "a" / "1.safetensors").unlink()
    write_mel(decibels, 20 / 2.302585 * mel_of(tmp_path / "wavs" / "a" / "1.wav"), SPEC)
    assert prepare(tmp_path, "--overwrite") == 2
    assert "1.npy: values from" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"1\.npy: values from .* are not hifigan"):
        dataset([dataclasses.replace(found[0], path=tmp_path / "wavs" / "a" / "1.wav", mel=decibels)])
    write_mel(decibels, torch.zeros(100, 12), MelSpec(n_mels=100), overwrite=True)
    with pytest.raises(DataError, match=r"1\.npy: has 100 bands, hifigan has 80"):
        dataset([dataclasses.replace(found[0], mel=decibels)])
    decibels.unlink()
    with pytest.raises(DataError, match=r"1\.npy: no such file"):
        dataset([dataclasses.replace(found[0], mel=decibels)])


# Segments


def test_a_segments_mel_is_that_part_of_the_files_and_begins_where_its_samples_do(tmp_path: Path) -> None:
    write_corpus(tmp_path, 3, 40 * HOP + 77)
    assert prepare(tmp_path) == 0
    found = utterances(tmp_path)
    for random in (True, False):
        data, starts = dataset(found, random=random), set()
        for index, utterance in enumerate(found):
            whole, mel = read_audio(utterance.path)[0], mel_of(utterance.path)
            for item_seed in range(12):
                item = data[index, 100 * index + item_seed]
                (start,) = (s for s in range(0, 33 * HOP, HOP) if torch.equal(whole[s : s + SEGMENT], item["waveform"]))
                assert torch.equal(item["mel"], mel[:, start // HOP : start // HOP + 8])
                starts.add(start // HOP)
                # Away from the edges, which computing it from the segment would have to invent.
                torch.testing.assert_close(
                    MelTransform(SPEC)(item["waveform"][None])[0, :, 2:-2], item["mel"][:, 2:-2], rtol=0, atol=1e-4
                )
        if random:
            assert len(starts) > 10
        else:
            assert starts == {16}


def test_a_recording_of_another_rate_keeps_step_with_its_mel(tmp_path: Path) -> None:
    write_corpus(tmp_path, 1, 60 * HOP)
    speech, _ = read_audio(CLIP, 16000)
    path = tmp_path / "wavs" / "a" / "0.wav"
    write_audio(path, speech[4000:24000], 16000, overwrite=True)
    spec = dataclasses.replace(SPEC, framing="center")
    write_mel(tmp_path / "0.npy", mel_of(path, spec), spec)
    found = [Utterance(path, 20000 / 16000, 16000, mel=tmp_path / "0.npy")]
    item = dataset(found, spec)[0, 3]
    own = MelTransform(spec)(item["waveform"][None])[0, :, 2:-3]
    torch.testing.assert_close(own, item["mel"][:, 2:-2], rtol=0, atol=2e-2)


def test_a_mel_that_breaks_in_mid_run_is_replaced_and_reported(tmp_path: Path) -> None:
    write_corpus(tmp_path, 22, 12 * HOP)
    assert prepare(tmp_path) == 0
    found = read_manifest(tmp_path / "data" / "train.jsonl")
    data = dataset(found)
    found[4].mel.write_bytes(b"")  # type: ignore[union-attr]
    with pytest.warns(UserWarning, match=found[4].mel.name):  # type: ignore[union-attr]
        assert data[4, 1]["index"] != 4
    assert data.skipped == [4]


# What does not go together


def test_what_would_part_the_audio_from_its_mel_is_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path, 6, 12 * HOP)
    assert prepare(tmp_path) == 0
    train, valid = (str(tmp_path / "data" / f"{split}.jsonl") for split in ("train", "valid"))

    def refused(error: type[Exception], message: str, manifests: tuple[str, str] = (train, valid), **more: Any) -> None:
        values = {"segment_length": SEGMENT, "batch_size": 1, "mel_spec": SPEC} | more
        with pytest.raises(error, match=message):
            AudioDataModule(*manifests, RATE, **values).setup()

    refused(ConfigError, "augment.share is 0.5", augment=Augment(share=0.5, gain=(-6.0, 0.0)))
    refused(ConfigError, "segments of 2000 samples", segment_length=2000)
    refused(ConfigError, "segments of 2000 samples", valid_segment_length=2000)
    refused(ConfigError, "the model takes none", mel_spec=None)
    plain = tmp_path / "plain.jsonl"
    write_manifest(plain, [dataclasses.replace(u, mel=None) for u in read_manifest(valid)])
    refused(DataError, r"names no mel .* 4 of 5 utterances", (train, str(plain)))
    assert main(["prepare", "folder", str(tmp_path / "wavs"), "-o", str(tmp_path / "p"), "--pack", "--quiet"]) == 0
    refused(
        ConfigError,
        r"one has mels and the other none \(a packed corpus holds no mels\)",
        (train, str(tmp_path / "p" / "valid.safetensors")),
    )

"""VCTK and LibriTTS: their layouts, and splits that no speaker crosses."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavediff.cli.main import main
from wavediff.data.corpora.libritts import LibriTTS
from wavediff.data.corpora.sharing import split_speakers
from wavediff.data.corpora.vctk import VCTK
from wavediff.data.manifest import Clip, read_manifest
from wavediff.errors import DataError


def write_clip(path: Path, rate: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 800), rate)
    return path


def speakers_by_split(clips: list[Clip]) -> dict[str, set[str | None]]:
    return {split: {clip.speaker for clip in clips if clip.split == split} for split in ("train", "valid", "test")}


@pytest.fixture
def vctk(tmp_path: Path) -> Path:
    """Six speakers of three sentences, one of which has no text, and one speaker without a second microphone."""
    root = tmp_path / "VCTK-Corpus-0.92"
    for speaker in ("p225", "p226", "p280", "p300", "p315", "s5"):
        for number in (1, 2, 24):
            stem = f"{speaker}_{number:03}"
            for mic in ("mic1",) if speaker == "p280" else ("mic1", "mic2"):
                write_clip(root / "wav48_silence_trimmed" / speaker / f"{stem}_{mic}.flac", 48000)
            if speaker != "p315":
                (root / "txt" / speaker).mkdir(parents=True, exist_ok=True)
                (root / "txt" / speaker / f"{stem}.txt").write_text(f"Please call {stem}.\n")
    (root / "wav48_silence_trimmed" / "log.txt").write_text("")
    return root


def test_vctk_is_one_microphone_split_by_speaker_with_its_sentences(vctk: Path) -> None:
    clips = VCTK(vctk, valid_speakers=1, test_speakers=2).clips()
    assert len(clips) == 18
    assert all(clip.path.name.endswith("_mic1.flac") for clip in clips)
    assert {clip.path.name: clip.text for clip in clips if clip.speaker == "p226"} == {
        f"p226_{number}_mic1.flac": f"Please call p226_{number}." for number in ("001", "002", "024")
    }
    assert {clip.text for clip in clips if clip.speaker == "p315"} == {None}
    splits = speakers_by_split(clips)
    assert [len(splits[split]) for split in ("train", "valid", "test")] == [3, 1, 2]
    assert not (splits["train"] & splits["valid"] | splits["train"] & splits["test"] | splits["valid"] & splits["test"])
    assert VCTK(vctk.parent, valid_speakers=1, test_speakers=2).clips() == clips
    assert len(VCTK(vctk, "mic2", 1, 2).clips()) == 15


def test_vctk_says_what_is_amiss(vctk: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"6 speakers, 8 to test on and 4 to validate on.*lower"):
        VCTK(vctk).clips()
    with pytest.raises(DataError, match="holds no SPEAKER"):
        VCTK(vctk, "mic3").clips()
    with pytest.raises(DataError, match=r"pass the folder VCTK-Corpus-0\.92"):
        VCTK(tmp_path / "nowhere").clips()
    (vctk / "txt" / "p225" / "p225_001.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"p225_001\.txt: cannot be read"):
        VCTK(vctk, "mic1", 1, 1).clips()


def write_libritts(root: Path, speakers: dict[str, list[int]]) -> Path:
    for subset, numbers in speakers.items():
        for speaker in numbers:
            for number in (0, 1):
                stem = f"{speaker}_7_{number:06}_000000"
                path = write_clip(root / subset / str(speaker) / "7" / f"{stem}.wav", 24000)
                path.with_suffix(".original.txt").write_text("Dr. No")
                path.with_suffix(".normalized.txt").write_text(f"Doctor No {stem}")
    return root


def test_libritts_has_its_own_splits(tmp_path: Path) -> None:
    subsets = {"train-clean-100": [1, 2], "train-other-500": [3], "dev-clean": [4], "dev-other": [5], "test-clean": [6]}
    root = write_libritts(tmp_path / "LibriTTS", subsets)
    clips = LibriTTS(root).clips()
    assert speakers_by_split(clips) == {"train": {"1", "2", "3"}, "valid": {"4", "5"}, "test": {"6"}}
    assert Counter(clip.speaker for clip in clips) == dict.fromkeys("123456", 2)
    assert clips[0].text == f"Doctor No {clips[0].path.stem}"
    assert LibriTTS(tmp_path).clips() == clips
    assert speakers_by_split(LibriTTS(root, clean=True).clips()) == {"train": {"1", "2"}, "valid": {"4"}, "test": {"6"}}


def test_libritts_without_a_subset_to_hold_out_holds_out_speakers(tmp_path: Path) -> None:
    root = write_libritts(tmp_path / "a", {"train-clean-100": list(range(50))})
    splits = speakers_by_split(LibriTTS(root).clips())
    assert [len(splits[split]) for split in ("train", "valid", "test")] == [46, 2, 2]
    assert not splits["valid"] & splits["test"] | splits["train"] & (splits["valid"] | splits["test"])
    root = write_libritts(tmp_path / "b", {"train-clean-100": [1, 2], "test-clean": [3]})
    splits = speakers_by_split(LibriTTS(root).clips())
    assert [len(splits[split]) for split in ("train", "valid", "test")] == [1, 1, 1]
    assert splits["test"] == {"3"}
    with pytest.raises(DataError, match="holds no train"):
        LibriTTS(tmp_path).clips()


def test_a_speaker_stays_in_its_split_whatever_the_order() -> None:
    names = [f"p{number}" for number in range(225, 325)]
    split_of = split_speakers(names, 4, 8, Path())
    assert Counter(split_of.values()) == {"train": 88, "valid": 4, "test": 8}
    assert split_speakers(names[::-1] * 2, 4, 8, Path()) == split_of


def test_prepare_writes_the_manifests_of_both(vctk: Path, tmp_path: Path) -> None:
    command = ["prepare", "vctk", str(vctk), "-o", str(tmp_path / "v"), "--test-speakers", "1", "--quiet"]
    assert main([*command, "--valid-speakers", "1"]) == 0
    assert len(read_manifest(tmp_path / "v" / "train.jsonl")) == 12
    root = write_libritts(tmp_path / "l", {"train-clean-100": [1, 2, 3]})
    assert main(["prepare", "libritts", str(root), "-o", str(tmp_path / "lm"), "--quiet", "--clean"]) == 0
    assert len(read_manifest(tmp_path / "lm" / "train.jsonl")) == 2

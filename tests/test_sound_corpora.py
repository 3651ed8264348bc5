"""Corpora of labelled sounds: Speech Commands' digits, the Free Spoken Digit Dataset, class folders."""

import hashlib
import urllib.error
from collections import Counter
from pathlib import Path

import pytest
from clips import write_clip

from wavediff.cli.main import main
from wavediff.data.corpora import CORPORA
from wavediff.data.corpora.classes import ClassFolders
from wavediff.data.corpora.fsdd import FSDD
from wavediff.data.corpora.sc09 import DIGITS, SC09
from wavediff.data.manifest import Clip, read_manifest
from wavediff.errors import AudioError, DataError

SPLITS = ("train", "valid", "test")


def names_by_split(clips: list[Clip], root: Path) -> dict[str, set[str]]:
    return {
        split: {clip.path.relative_to(root).as_posix() for clip in clips if clip.split == split} for split in SPLITS
    }


# SC09


@pytest.fixture
def speech_commands(tmp_path: Path) -> Path:
    """Two clips of each of three speakers, one for each split, for every digit; and what else the corpus holds."""
    root = tmp_path / "SpeechCommands" / "speech_commands_v0.02"
    for word in (*DIGITS, "happy"):
        for speaker in ("0a7c2a8d", "004ae714", "ffd2ba2f"):
            for number in (0, 1):
                write_clip(root / word / f"{speaker}_nohash_{number}.wav")
    write_clip(root / "_background_noise_" / "pink_noise.wav")
    for name, speaker in (("validation_list.txt", "004ae714"), ("testing_list.txt", "ffd2ba2f")):
        lines = [f"{word}/{speaker}_nohash_{number}.wav\n" for word in ("happy", *DIGITS) for number in (0, 1)]
        (root / name).write_text("".join(lines))
    return root


def test_sc09_is_the_digits_of_speech_commands_in_its_own_splits(speech_commands: Path) -> None:
    clips = SC09(speech_commands).clips()
    assert Counter((clip.label, clip.split, clip.speaker) for clip in clips) == {
        (digit, split, speaker): 2
        for digit in DIGITS
        for split, speaker in zip(SPLITS, ("0a7c2a8d", "004ae714", "ffd2ba2f"), strict=True)
    }
    assert all(clip.path.parent.name == clip.label and clip.path.is_file() for clip in clips)
    assert clips == SC09(speech_commands.parent.parent).clips()  # where torchaudio unpacked it


def test_sc09_leaves_hidden_files_out_and_names_listed_ones_that_are_gone(speech_commands: Path) -> None:
    (speech_commands / "one" / "._0a7c2a8d_nohash_0.wav").touch()
    (speech_commands / "one" / "ffd2ba2f_nohash_1.wav").unlink()
    clips = SC09(speech_commands).clips()
    assert len(clips) == 60  # the scan reports the one that is gone
    assert not any(clip.path.name.startswith(".") for clip in clips)


def test_what_is_not_sc09_is_refused_with_the_cure(speech_commands: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"validation_list\.txt.*--download"):
        SC09(tmp_path / "nowhere").clips()
    stray = write_clip(speech_commands / "two" / "mine.wav")
    with pytest.raises(DataError, match=r"two/mine\.wav: is not named SPEAKER_nohash_NUMBER"):
        SC09(speech_commands).clips()
    stray.unlink()
    with (speech_commands / "testing_list.txt").open("a") as file:
        file.write("six/004ae714_nohash_0.wav\n")
    with pytest.raises(DataError, match=r"six/004ae714_nohash_0\.wav is in both"):
        SC09(speech_commands).clips()
    for path in (speech_commands / "zero").iterdir():
        path.unlink()
    (speech_commands / "testing_list.txt").write_text("")
    with pytest.raises(DataError, match="zero: holds no recording"):
        SC09(speech_commands).clips()


def test_sc09_is_downloaded_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def no_network(root: Path, download: bool) -> None:
        calls.append((root, download))
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torchaudio.datasets.SPEECHCOMMANDS", no_network)
    with pytest.raises(DataError, match="validation_list"):
        SC09(tmp_path).clips()
    assert not calls
    for root in (tmp_path, tmp_path / "SpeechCommands" / "speech_commands_v0.02"):
        with pytest.raises(DataError, match=r"could not be downloaded.*Name or service not known"):
            SC09(root, download=True).clips()
    assert calls == [(tmp_path, True)] * 2
    (tmp_path / "testing_list.txt").touch()
    with pytest.raises(DataError, match="pass an empty folder"):
        SC09(tmp_path, download=True).clips()


# FSDD


def test_fsdd_is_split_as_its_authors_split_it(data_root: Path) -> None:
    clips = FSDD(data_root / "FSDD").clips()
    assert len(clips) == len(set(clips)) == 3000
    counts = Counter((clip.label, clip.split) for clip in clips)
    of_each = {"train": 240, "valid": 30, "test": 30}  # six speakers, 50 recordings
    assert counts == {(digit, split): of_each[split] for digit in DIGITS for split in SPLITS}
    assert {clip.speaker for clip in clips} == {"george", "jackson", "lucas", "nicolas", "theo", "yweweler"}
    for clip in clips:
        digit, speaker, index = clip.path.stem.split("_")
        assert (DIGITS[int(digit)], speaker) == (clip.label, clip.speaker)
        assert (clip.split == "test", clip.split == "valid") == (int(index) < 5, 5 <= int(index) < 10)
    assert clips == FSDD(data_root / "FSDD" / "recordings").clips()


def test_what_is_not_fsdd_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"0 recordings leave none to train on; pass the folder"):
        FSDD(tmp_path / "nowhere").clips()
    write_clip(tmp_path / "recordings" / "7_theo_9.wav")
    with pytest.raises(DataError, match="1 recordings leave none to train on"):
        FSDD(tmp_path).clips()
    write_clip(tmp_path / "recordings" / "7_theo_10.wav")
    (tmp_path / "recordings" / "._7_theo_10.wav").touch()
    assert [(clip.label, clip.split) for clip in FSDD(tmp_path).clips()] == [("seven", "valid"), ("seven", "train")]
    write_clip(tmp_path / "recordings" / "seven_theo_11.wav")
    with pytest.raises(DataError, match=r"seven_theo_11\.wav: is not named DIGIT_SPEAKER_INDEX"):
        FSDD(tmp_path).clips()


def test_prepare_fsdd_writes_the_words_as_labels(data_root: Path, tmp_path: Path) -> None:
    for digit in (0, 9):
        for index in range(15):
            name = f"{digit}_theo_{index}.wav"
            (tmp_path / "in").mkdir(exist_ok=True)
            (tmp_path / "in" / name).symlink_to((data_root / "FSDD" / "recordings" / name).resolve())
    assert main(["prepare", "fsdd", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    for split in SPLITS:
        utterances = read_manifest(tmp_path / "out" / f"{split}.jsonl")
        assert Counter(utterance.label for utterance in utterances) == {"zero": 5, "nine": 5}
        assert {(utterance.speaker, utterance.sample_rate) for utterance in utterances} == {("theo", 8000)}


def test_the_corpora_of_labelled_sounds_are_registered() -> None:
    assert (CORPORA["sc09"], CORPORA["fsdd"], CORPORA["classes"]) == (SC09, FSDD, ClassFolders)


# Class folders


def test_the_folder_of_a_sound_is_its_label_and_every_class_is_in_every_split(tmp_path: Path) -> None:
    for label, count in (("glass", 40), ("wood", 3)):
        for number in range(count):
            (tmp_path / label / "deep").mkdir(parents=True, exist_ok=True)
            (tmp_path / label / ("deep" if number % 2 else ".") / f"{number}.wav").touch()
    clips = ClassFolders(tmp_path).clips()
    counts = Counter((clip.label, clip.split) for clip in clips)
    assert counts == {
        ("glass", "train"): 34,
        ("glass", "valid"): 2,
        ("glass", "test"): 4,
        ("wood", "train"): 1,
        ("wood", "valid"): 1,
        ("wood", "test"): 1,
    }
    assert [clip.path for clip in clips] == sorted(clip.path for clip in clips)
    assert all(clip.path.relative_to(tmp_path).parts[0] == clip.label for clip in clips)


def test_real_classes_are_each_split_by_themselves(data_root: Path) -> None:
    root = data_root / "sfx"
    clips = ClassFolders(root).clips()
    labels = {clip.label for clip in clips}
    assert labels == {path.parent.name for path in root.glob("*/*.flac")}  # `licences` holds no sound
    assert len(clips) == len(list(root.glob("*/*.flac")))
    for label in labels:
        counts = Counter(clip.split for clip in clips if clip.label == label)
        total = sum(counts.values())
        assert (counts["valid"], counts["test"]) == (max(1, round(0.05 * total)), max(1, round(0.1 * total)))


def test_a_hash_of_the_names_splits_a_class_whatever_others_there_are(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for number in range(20):
            write_clip(tmp_path / folder / "glass" / f"{number}.wav")
    for number in range(20):
        write_clip(tmp_path / "b" / "wood" / f"{number}.wav")
    alone, beside = (ClassFolders(tmp_path / folder).clips() for folder in ("a", "b"))
    glass = [clip for clip in beside if clip.label == "glass"]
    splits = names_by_split(alone, tmp_path / "a")
    assert splits == names_by_split(glass, tmp_path / "b")
    ranked = sorted(set().union(*splits.values()), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert (splits["test"], splits["valid"]) == (set(ranked[:2]), set(ranked[2:3]))


def test_takes_of_one_sound_stay_in_one_split(tmp_path: Path) -> None:
    for family in ("tick", "tock", "click", "clack"):
        for number in range(5):
            write_clip(tmp_path / "switch" / f"{family}_{number:03}.wav")
    for number in range(20):
        write_clip(tmp_path / "glass" / f"{number}.wav")  # names without a family
    clips = ClassFolders(tmp_path, families=True).clips()
    splits: dict[str, set[str]] = {}
    for clip in clips:
        if clip.label == "switch":
            splits.setdefault(clip.path.stem[:-4], set()).add(clip.split)
    assert sorted(map(sorted, splits.values())) == [["test"], ["train"], ["train"], ["valid"]]
    assert Counter(clip.split for clip in clips if clip.label == "glass") == {"train": 17, "valid": 1, "test": 2}


def test_a_class_of_too_few_families_is_split_by_clips(tmp_path: Path) -> None:
    for family in ("boom", "crunch"):
        for number in range(10):
            write_clip(tmp_path / "explosion" / f"{family}{number}.wav")
    clips = ClassFolders(tmp_path, families=True).clips()
    assert Counter(clip.split for clip in clips) == {"train": 17, "valid": 1, "test": 2}


def test_kinds_come_from_what_the_names_of_a_class_have_of_their_own(tmp_path: Path) -> None:
    names = {
        "laser": [f"sci-fi_laser{kind}_{n:03}" for kind in ("Retro", "Large") for n in range(3)]
        + ["sci-fi_zap", "sci-fi_laser_1"],
        "engine": [f"sci-fi_engine_{n}" for n in range(2)],
        "drum": [
            f"pi_{name}"
            for name in ("bd_808", "bd_ada", "bd_boom", "tabla_ghe1", "tabla_ghe2", "tabla_ghe3", "tabla_re")
        ],
    }
    for label, stems in names.items():
        for stem in stems:
            write_clip(tmp_path / label / f"{stem}.wav")
    clips = ClassFolders(tmp_path, valid_fraction=0, test_fraction=0, kinds=True).clips()
    assert Counter(clip.label for clip in clips) == {
        "laser/retro": 3, "laser/large": 3, "laser/other": 2,
        "engine/other": 2,
        "drum/bd": 3, "drum/tabla-ghe": 3, "drum/tabla": 1,
    }  # fmt: skip


def test_hidden_files_and_folders_without_sounds_are_no_class(tmp_path: Path) -> None:
    for name in ("glass/0.wav", "glass/._0.wav", ".trash/0.wav", "texts/readme.txt", "glass/.cache/1.wav", "loose.wav"):
        write_clip(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (clip,) = ClassFolders(tmp_path, valid_fraction=0, test_fraction=0).clips()
    assert clip == Clip(tmp_path / "glass" / "0.wav", "train", label="glass")


def test_class_folders_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="not a folder"):
        ClassFolders(tmp_path / "nowhere").clips()
    write_clip(tmp_path / "loose.wav")
    with pytest.raises(DataError, match=r"holds no class folder.*ROOT/CLASS/\*\.wav"):
        ClassFolders(tmp_path).clips()
    for number in range(2):
        write_clip(tmp_path / "glass" / f"{number}.wav")
    with pytest.raises(DataError, match=r"glass: 2 clips leave none to train on; add more, or lower the fractions"):
        ClassFolders(tmp_path).clips()
    for fractions in ({"valid_fraction": 0.5, "test_fraction": 0.5}, {"valid_fraction": -0.1}):
        with pytest.raises(DataError, match="sum below 1"):
            ClassFolders(tmp_path, **fractions).clips()
    kept = ClassFolders(tmp_path, valid_fraction=0, test_fraction=0.1).clips()
    assert Counter(clip.split for clip in kept) == {"train": 1, "test": 1}


def test_prepare_classes_takes_the_fractions_as_options(tmp_path: Path) -> None:
    for number in range(20):
        write_clip(tmp_path / "in" / "glass" / f"{number}.wav")
    command = ["prepare", "classes", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--quiet"]
    assert main([*command, "--valid-fraction", "0.2", "--test-fraction", "0.25"]) == 0
    manifests = {split: read_manifest(tmp_path / "out" / f"{split}.jsonl") for split in SPLITS}
    assert {split: len(utterances) for split, utterances in manifests.items()} == {"train": 11, "valid": 4, "test": 5}
    assert {utterance.label for utterances in manifests.values() for utterance in utterances} == {"glass"}


def test_each_split_has_a_family_where_there_are_enough(tmp_path: Path) -> None:
    for family, takes in {"a0x": 1, "b0y": 1, "c0z": 18, "d0w": 18}.items():
        for number in range(takes):
            write_clip(tmp_path / "glass" / f"{family}_{number:03}.wav")
    for size in (3, 4):
        clips = ClassFolders(tmp_path, families=True).clips()
        assert {clip.split for clip in clips} == {"train", "valid", "test"}, size
        for path in (tmp_path / "glass").glob("d0w*"):
            path.unlink()

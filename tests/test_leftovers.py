"""What systems leave in folders is passed over, by one rule for everything that lists a folder."""

from pathlib import Path

import numpy as np
import pytest
from test_prepare import write_clip

from wavediff.audio import iter_audio_files
from wavediff.bulk.jobs import plan_jobs
from wavediff.data.corpora.classes import ClassFolders
from wavediff.data.corpora.folder import Folder
from wavediff.data.corpora.libritts import LibriTTS
from wavediff.data.corpora.vctk import VCTK
from wavediff.files import is_leftover
from wavediff.metrics.recordings import match_recordings
from wavediff.report.clips import find_sounds

LEFTOVERS = (
    "._1.wav", "glass/._2.flac", "__MACOSX/glass/1.wav", "glass/@eaDir/2.wav", "@eaDir/2.wav/a.ogg",
    "#recycle/3.wav", "$RECYCLE.BIN/4.wav", "System Volume Information/5.wav", ".Trash-1000/6.wav",
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / ".hidden" / "sounds"  # what is named is meant, hidden or not
    for number in range(1, 5):
        write_clip(folder / "glass" / f"{number}.wav")
    for name in LEFTOVERS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        ")
    for name in (".DS_Store", "Thumbs.db", "glass/desktop.ini"):
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize("name", LEFTOVERS)
def test_each_of_them_is_known(name: str) -> None:
    assert is_leftover(Path(name))


@pytest.mark.parametrize("name", ["eaDir/1.wav", "macosx/1.wav", "a.b/1.wav", "@home/1.wav", "recycle/#1.wav"])
def test_other_names_are_not(name: str) -> None:
    assert not is_leftover(Path(name))


def test_all_commands_that_list_a_folder_pass_them_over_and_count_them(root: Path, tmp_path: Path) -> None:
    expected = [root / "glass" / f"{number}.wav" for number in range(1, 5)]
    with pytest.warns(UserWarning, match=f"{len(LEFTOVERS)} hidden or system files are passed over") as caught:
        assert list(iter_audio_files(root)) == expected
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="passed over"):
        assert [job.source for job in plan_jobs([root], tmp_path / "out")] == expected
    with pytest.warns(UserWarning, match="passed over"):
        assert {clip.path for clip in Folder(root, 0, 0).clips()} == set(expected)
    with pytest.warns(UserWarning, match="passed over"):
        assert {clip.label for clip in ClassFolders(root, 0, 0).clips()} == {"glass"}
    with pytest.warns(UserWarning, match="passed over"):
        assert find_sounds(root) == {"glass": expected}
    with pytest.warns(UserWarning, match="passed over"):
        assert sorted(match_recordings(root, root).pairs) == ["1", "2", "3", "4"]


def test_a_clean_folder_is_not_warned_of(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    write_clip(tmp_path / "a.wav")
    (tmp_path / ".DS_Store").write_bytes(b"")
    assert len(list(iter_audio_files(tmp_path))) == 1
    assert not recwarn


def test_mels_in_such_folders_are_no_inputs(tmp_path: Path) -> None:
    for name in ("a.npy", "._a.npy", "__MACOSX/b.npy", "@eaDir/c.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save((tmp_path / name).open("wb"), np.zeros((80, 4), np.float32))
    assert [job.source.name for job in plan_jobs([tmp_path], tmp_path / "out")] == ["a.npy"]


def test_corpora_of_a_fixed_layout_pass_them_over(tmp_path: Path) -> None:
    for speaker in range(4):
        libri = tmp_path / "LibriTTS" / "train-clean-100" / str(speaker) / "7"
        vctk = tmp_path / "VCTK-Corpus-0.92" / "wav48_silence_trimmed" / f"p{speaker}"
        for name in (libri / "1.wav", libri / "._1.wav", vctk / "1_mic1.flac", vctk / "._1_mic1.flac"):
            write_clip(name)
    assert len(LibriTTS(tmp_path).clips()) == 4
    assert len(VCTK(tmp_path, valid_speakers=1, test_speakers=1).clips()) == 4

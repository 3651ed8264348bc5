"""What can be wrong with an audio file: one line that names the file and the cure, or a warning."""

import os
import tempfile
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from handmade import FLOAT, RATE, SAMPLES, refused, saved, wav

from wavediff import audio
from wavediff.audio import read_audio, read_info, write_audio
from wavediff.cli.main import main
from wavediff.errors import AudioError, MelError
from wavediff.mel import read_mel

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


# Impossible or unreadable content


@pytest.mark.parametrize("rate", [0, 3_999, 384_001, 2**31 - 1])
def test_impossible_sample_rates_are_refused(tmp_path: Path, rate: int) -> None:  # fault 7
    refused(saved(tmp_path, wav(rate=rate)), "sample rate|cannot be decoded")


def test_more_than_eight_channels_are_refused(tmp_path: Path) -> None:  # fault 8
    assert len(read_audio(saved(tmp_path, wav(SAMPLES[:800].tobytes(), channels=8)))[0]) == 100
    refused(saved(tmp_path, wav(SAMPLES[:900].tobytes(), channels=9)), "has 9 channels, at most 8")


def test_nan_and_infinity_are_refused_with_place_and_count(tmp_path: Path) -> None:  # fault 9
    samples = np.zeros((70_000, 2), "<f4")
    samples[66_000] = np.nan
    samples[69_000, 1] = -np.inf
    path = saved(tmp_path, wav(samples.tobytes(), encoding=FLOAT, channels=2))
    refused(path, "2 samples are NaN.*the first at 66000")
    refused(path, "1 samples are NaN.*the first at 69000", start=68_000, lenient=True)


def test_a_sample_beyond_any_scale_is_refused(tmp_path: Path) -> None:
    samples = np.zeros(50, "<f4")
    samples[7] = 3e38
    refused(saved(tmp_path, wav(samples.tobytes(), encoding=FLOAT)), "absurdly large, the first at 7")


def test_samples_beyond_one_are_kept_with_a_warning(tmp_path: Path) -> None:  # fault 11
    samples = np.array([0, 1.5, -2.25, 1], "<f4")
    with pytest.warns(UserWarning, match=r"a\.wav: samples reach 2\.25"):
        waveform, _ = read_audio(saved(tmp_path, wav(samples.tobytes(), encoding=FLOAT)))
    assert waveform.tolist() == samples.tolist()


def test_an_impossible_target_rate_is_refused(tmp_path: Path) -> None:  # fault 13
    with pytest.raises(AudioError, match="sample_rate: 100 is not"):
        read_audio(saved(tmp_path, wav()), 100)


@pytest.mark.parametrize("name", ["a.flac", "a.mp3"])
def test_a_wrong_extension_is_warned_of(tmp_path: Path, name: str) -> None:  # fault 14
    with pytest.warns(UserWarning, match=f"{name}: holds WAV in spite of its name"):
        waveform, _ = read_audio(saved(tmp_path, wav(), name))
    np.testing.assert_array_equal(waveform.numpy() * 32768, SAMPLES)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\x7fELF\2\1\1" + bytes(60), "program"),
        (b"PK\3\4" + bytes(60), "zip"),
        (b"NIST_1A\n   1024\nsample_count -i 8000\n", "NIST SPHERE, .* with ffmpeg"),
        (b"Once upon a time\nthere was no audio", "text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "an image"),
        (b"\xff\xd8\xff\xe0" + bytes(60), "an image"),
        (b"\xff\xfd\x90\x64" + bytes(60), "MPEG audio of another layer"),
        (b"\0\0\0\x20ftypM4A " + bytes(60), "M4A"),
        (b"FORM\0\0\0\x208SVX" + bytes(60), "unknown format"),
        (b"RIFF\x20\0\0\0AVI " + bytes(60), "RIFF of another kind"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (bytes(100), "unknown format"),
        (wav(encoding=(0x55, 16)), "WAV encoding 85 is neither PCM nor float"),
    ],
)
def test_what_is_not_audio_is_refused_by_name(tmp_path: Path, content: bytes, name: str) -> None:  # fault 15
    refused(saved(tmp_path, content), name)


def test_silence_is_warned_of(tmp_path: Path) -> None:  # fault 25
    path = saved(tmp_path, wav(bytes(2000)))
    with pytest.warns(UserWarning, match=r"a\.wav: is silent"):
        waveform, _ = read_audio(path)
    assert not waveform.any()
    assert len(read_audio(path, start=10, frames=20)[0]) == 20  # a pause is no fault


# Sizes


def test_ten_hours_are_read_in_parts_with_flat_memory(tmp_path: Path) -> None:  # fault 16
    hour = 3600 * RATE
    path = saved(tmp_path, wav(b"", riff_size=20 * hour + 36, data_size=20 * hour))
    with path.open("rb+") as sparse:
        sparse.truncate(44 + 20 * hour)
        sparse.seek(44 + 18 * hour)
        sparse.write(SAMPLES.tobytes())
    tracemalloc.start()
    assert read_info(path).seconds == 36_000
    np.testing.assert_array_equal(read_audio(path, start=9 * hour, frames=1000)[0].numpy() * 32768, SAMPLES)
    refused(path, "36000 s to read, the limit is max_seconds=3600; read it in parts")
    refused(path, "decodes to 2304000000 bytes, the limit is 2147483648", max_seconds=1e6)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_recording_is_held_once_while_it_is_read(tmp_path: Path) -> None:
    path, frames = tmp_path / "a.wav", 4_000_000
    write_audio(path, torch.rand(frames) - 0.5, RATE)
    tracemalloc.start()
    waveform, _ = read_audio(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(waveform) == frames
    assert peak < 1.3 * 4 * frames  # float32, and what it may grow by next


@pytest.mark.parametrize("extension", ["flac", "ogg"])
def test_a_bomb_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str
) -> None:  # fault 17
    path = tmp_path / f"a.{extension}"
    write_audio(path, torch.zeros(600 * 8000), 8000)
    assert path.stat().st_size < 600 * 8000 // 20
    monkeypatch.setattr("soundfile.SoundFile.read", lambda *_: pytest.fail("decoded samples"))
    refused(path, "600 s to read", max_seconds=599)
    monkeypatch.setattr(audio, "MAX_DECODED_BYTES", 19_199_999)
    refused(path, "decodes to 19200000 bytes")


def forged_flac(path: Path, rate: int, channels: int, frames: int) -> Path:
    """A true FLAC of a tone whose STREAMINFO claims something else."""
    soundfile.write(path, SAMPLES, RATE)
    content = bytearray(path.read_bytes())
    # rate (20 bits), channels - 1 (3), bits - 1 (5), frames (36), from byte 18 of the file on
    content[18:26] = (rate << 44 | (channels - 1) << 41 | 15 << 36 | frames).to_bytes(8, "big")
    path.write_bytes(content)
    return path


def test_a_forged_duration_meets_the_limits_and_allocates_nothing(tmp_path: Path) -> None:  # fault 18
    tracemalloc.start()
    refused(forged_flac(tmp_path / "a.flac", 384_000, 8, 3000 * 384_000), "decodes to 36864000000 bytes")
    refused(forged_flac(tmp_path / "a.flac", RATE, 1, 2**36 - 1), "s to read, the limit is")
    refused(forged_flac(tmp_path / "a.flac", RATE, 1, 3599 * RATE), "is cut or damaged after sample 0")
    refused(forged_flac(tmp_path / "a.flac", RATE, 1, 0), "does not say how long it is")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


# The file system


def test_a_name_too_long_or_with_nul_is_refused(tmp_path: Path) -> None:  # fault 20
    refused(tmp_path / ("x" * 256 + ".wav"), r"cannot be looked at .*; shorten")
    with pytest.raises(AudioError, match=r"^path: '.*a\\x00b\.wav' holds the character NUL.*; ") as caught:
        read_audio(tmp_path / "a\0b.wav")
    assert "\n" not in str(caught.value)
    refused(tmp_path / "absent.wav", "No such file")


def test_a_symlink_loop_is_refused(tmp_path: Path) -> None:  # fault 21
    (tmp_path / "a.wav").symlink_to("b.wav")
    (tmp_path / "b.wav").symlink_to("a.wav")
    refused(tmp_path / "a.wav", "symbolic links")


def test_an_unreadable_file_is_refused() -> None:  # fault 22
    with tempfile.TemporaryDirectory() as folder:  # tmp_path is closed to other users
        Path(folder).chmod(0o755)
        path = Path(folder) / "a.wav"
        path.write_bytes(wav())
        assert len(read_audio(path)[0]) == 1000
        path.chmod(0)
        was_root = os.geteuid() == 0
        if was_root:
            os.seteuid(65534)
        try:
            refused(path, "Permission denied.*check its name and permissions")
        finally:
            if was_root:
                os.seteuid(0)


def test_folders_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:  # fault 23
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "device.wav").symlink_to("/dev/zero")
    for name in ("folder", "pipe", "device"):
        refused(tmp_path / f"{name}.wav", "is a folder, pipe or device")


@pytest.mark.parametrize("rest", [0.0, 1e-5])
def test_channels_that_cancel_each_other_are_told_from_silence(tmp_path: Path, rest: float) -> None:
    left = torch.sin(torch.arange(4000) / 9) / 2
    write_audio(tmp_path / "a.wav", torch.stack([left, -left * (1 - rest)]), RATE, subtype="FLOAT")
    with pytest.warns(UserWarning, match=r"a\.wav: its channels cancel each other"):
        read_audio(tmp_path / "a.wav")
    write_audio(tmp_path / "b.wav", torch.zeros(2, 4000), RATE)
    with pytest.warns(UserWarning, match=r"b\.wav: is silent from start to end"):
        read_audio(tmp_path / "b.wav")
    write_audio(tmp_path / "c.wav", torch.stack([left, torch.zeros(4000)]), RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_audio(tmp_path / "c.wav")


@pytest.mark.parametrize("name", ["mel.pt", "mel.npz", "mel.pkl", "mel.h5", "mel.json", "mel.csv", "mel.wav"])
def test_a_mel_in_another_projects_file_is_told_how_to_become_one(tmp_path: Path, name: str) -> None:
    content = b"PK\3\4" + bytes(60) if name != "mel.wav" else b"\x93NUMPY" + bytes(60)
    for read in (read_audio, read_info):
        with pytest.raises(AudioError, match=rf"{name}: .* mel.* \.npy or \.safetensors"):
            read(saved(tmp_path, content, name))
    if name != "mel.wav":
        with pytest.raises(MelError, match=rf"{name}: a mel is kept in a \.npy or \.safetensors file; .*write_mel"):
            read_mel(tmp_path / name)


def test_standard_input_is_said_not_to_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioError, match="-: standard input is not read"):
        read_audio("-")
    with pytest.raises(MelError, match="-: standard input is not read"):
        read_mel("-")
    assert main(["vocode", "-", "-o", "out.wav", "--device", "cpu"]) == 2
    assert "-: standard input is not read; write it to a file" in capsys.readouterr().err
    write_audio("in.wav", torch.zeros(4000), RATE)
    assert main(["vocode", "in.wav", "-o", "-", "--device", "cpu"]) == 2
    assert "-: speech is not written to standard output" in capsys.readouterr().err
    assert not Path("-").exists()

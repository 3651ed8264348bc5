"""Reading and writing audio: checked against other decoders and on real speech."""

import os
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.io import wavfile

from wavediff.audio import iter_audio_files, read_audio, read_info, resample, write_audio
from wavediff.errors import AudioError, OutputError

RATE = 22_050


pytestmark = [
    pytest.mark.filterwarnings("error::UserWarning"),
    pytest.mark.filterwarnings("ignore::scipy.io.wavfile.WavFileWarning"),
]


@pytest.fixture
def speech(ljspeech: Path) -> Path:
    return ljspeech / "wavs" / "LJ001-0002.wav"


def stored(path: Path) -> np.ndarray:
    """The 16-bit samples of a mono WAV, by Python's own decoder."""
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(-1), "<i2")


def sine(rate: int, frequency: float, samples: int) -> torch.Tensor:
    return 0.5 * torch.sin(2 * torch.pi * frequency * torch.arange(samples, dtype=torch.float64) / rate)


# Reading


def test_speech_is_read_as_the_python_decoder_reads_it(speech: Path) -> None:
    waveform, sample_rate = read_audio(speech)
    assert (waveform.dtype, sample_rate) == (torch.float32, RATE)
    np.testing.assert_array_equal(waveform.numpy(), stored(speech) / np.float32(32768))


def test_info_matches_the_header_and_decodes_nothing(speech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundfile.SoundFile.read", lambda *_: pytest.fail("read_info decoded samples"))
    info = read_info(speech)
    assert (info.sample_rate, info.channels, info.frames) == (RATE, 1, len(stored(speech)))
    assert (info.format, info.subtype) == ("WAV", "PCM_16")
    assert info.seconds == info.frames / RATE


@pytest.mark.parametrize(
    ("width", "bits"), [("u8", 8), ("s16", 16), ("s24", 24), ("s32", 24), ("f32", 24), ("f64", 24)]
)
def test_every_sample_width_gives_the_same_signal(tmp_path: Path, width: str, bits: int) -> None:  # fault 10
    signal, path = sine(RATE, 440, 2000).numpy(), tmp_path / "tone.wav"
    if width == "s24":
        steps = np.rint(signal * 2**23).astype("<i4")
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 3, RATE, 0, "NONE", ""))
            file.writeframes(steps.view("u1").reshape(-1, 4)[:, :3].tobytes())
    else:
        encoded = {
            "u8": np.rint(signal * 128 + 128).astype(np.uint8),
            "s16": np.rint(signal * 2**15).astype(np.int16),
            "s32": np.rint(signal * 2**31).astype(np.int32),
            "f32": signal.astype(np.float32),
            "f64": signal,
        }
        wavfile.write(path, RATE, encoded[width])
    waveform, _ = read_audio(path)
    assert np.abs(waveform.numpy() - signal).max() <= 0.5001 / 2 ** (bits - 1)


def test_channels_are_downmixed_to_their_mean(tmp_path: Path) -> None:  # fault 12
    channels = np.random.default_rng(0).integers(-9000, 9000, (700, 3)).astype(np.int16)
    wavfile.write(tmp_path / "three.wav", RATE, channels)
    waveform, _ = read_audio(tmp_path / "three.wav")
    np.testing.assert_allclose(waveform.numpy(), channels.mean(axis=1) / 32768, atol=1e-7)


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg"])
def test_a_segment_equals_a_slice_of_the_whole(speech: Path, tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"speech.{extension}"
    write_audio(path, read_audio(speech)[0].repeat(4), RATE)  # several blocks
    whole, _ = read_audio(path)
    for start, frames in [(0, 1), (12_345, 8192), (len(whole) - 7, 7), (65_000, 70_000)]:
        torch.testing.assert_close(read_audio(path, start=start, frames=frames)[0], whole[start : start + frames])
    assert len(read_audio(path, start=100)[0]) == len(whole) - 100


@pytest.mark.parametrize(("start", "frames"), [(-1, 10), (0, 0), (0.5, 10), (0, 41_896_000), (10**9, None)])
def test_a_segment_outside_the_file_is_refused(speech: Path, start: int, frames: int | None) -> None:
    with pytest.raises(
        AudioError, match=r"LJ001-0002\.wav: has 41885 samples.*stay inside|^(start|frames): .* not a whole"
    ):
        read_audio(speech, start=start, frames=frames)


def test_another_sample_rate_is_resampled_to(speech: Path) -> None:  # fault 13
    waveform, sample_rate = read_audio(speech, 16_000)
    assert sample_rate == 16_000
    torch.testing.assert_close(waveform, resample(read_audio(speech)[0], RATE, 16_000))


# Writing


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_16"), ("a.flac", "PCM_16"), ("a.FLAC", "PCM_24")])
def test_lossless_copies_of_speech_are_bit_exact(speech: Path, tmp_path: Path, name: str, subtype: str) -> None:
    write_audio(tmp_path / name, read_audio(speech)[0], RATE, subtype=subtype)
    assert torch.equal(read_audio(tmp_path / name)[0], read_audio(speech)[0])
    assert read_info(tmp_path / name).subtype == subtype


def test_vorbis_keeps_the_length_and_the_speech(speech: Path, tmp_path: Path) -> None:
    waveform, _ = read_audio(speech)
    write_audio(tmp_path / "a.ogg", waveform, RATE)
    decoded, _ = read_audio(tmp_path / "a.ogg")
    assert decoded.shape == waveform.shape
    noise = 10 * torch.log10(waveform.square().sum() / (decoded - waveform).square().sum())
    assert noise > 12  # dB; a shift of one sample gives 4
    assert read_info(tmp_path / "a.ogg").subtype == "VORBIS"


@pytest.mark.parametrize(
    ("subtype", "dtype", "scale"),
    [("PCM_U8", "u1", 128), ("PCM_16", "i2", 2**15), ("PCM_32", "i4", 2**31), ("FLOAT", "f4", 1), ("DOUBLE", "f8", 1)],
)
def test_another_decoder_reads_what_was_written(tmp_path: Path, subtype: str, dtype: str, scale: int) -> None:
    stereo = torch.stack([sine(RATE, 440, 900), -sine(RATE, 1000, 900)])
    write_audio(tmp_path / "a.wav", stereo, RATE, subtype=subtype)
    rate, samples = wavfile.read(tmp_path / "a.wav")
    assert (rate, samples.dtype, samples.shape) == (RATE, np.dtype(dtype), (900, 2))
    expected = stereo.T.numpy() * scale + (128 if subtype == "PCM_U8" else 0)
    np.testing.assert_allclose(samples.astype(float), expected, atol=0.5 if scale > 1 else 1e-7)


def test_clipping_is_counted_and_never_wraps_around(tmp_path: Path) -> None:
    waveform = torch.tensor([0.0, 1.0, -1.0, 1.5, -7.0, 0.25])
    with pytest.warns(UserWarning, match=r"a\.wav: clipped 2 of 6 samples"):
        write_audio(tmp_path / "a.wav", waveform, RATE)
    assert stored(tmp_path / "a.wav").tolist() == [0, 32767, -32768, 32767, -32768, 8192]
    with pytest.warns(UserWarning, match="clipped"):
        write_audio(tmp_path / "a.ogg", sine(RATE, 440, 4000) * 8, RATE)
    assert np.abs(soundfile.read(tmp_path / "a.ogg")[0]).max() < 1.5
    write_audio(tmp_path / "b.wav", waveform, RATE, subtype="FLOAT")
    assert wavfile.read(tmp_path / "b.wav")[1].tolist() == waveform.tolist()


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [
        (torch.tensor([0.0, float("nan"), float("inf")]), "2 samples are NaN or infinite, the first at 1"),
        (torch.zeros(0), r"no samples, its shape is \(0,\)"),
        (torch.zeros(1, 1, 9), r"shape \(1, 1, 9\)"),
        (torch.zeros(9, dtype=torch.int16), "int16"),
        (torch.zeros(900, 2), "900 channels.*transposed"),
    ],
)
def test_what_is_no_waveform_is_not_written(tmp_path: Path, waveform: torch.Tensor, reason: str) -> None:
    with pytest.raises(AudioError, match=rf"a\.wav: .*{reason}"):
        write_audio(tmp_path / "a.wav", waveform, RATE)
    assert not list(tmp_path.iterdir())


def test_formats_and_rates_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"a\.mp3.*\.wav, \.flac or \.ogg"):
        write_audio(tmp_path / "a.mp3", torch.zeros(9), RATE)
    with pytest.raises(AudioError, match=r"a\.flac: FLAC does not hold FLOAT; choose from PCM_S8, PCM_16, PCM_24"):
        write_audio(tmp_path / "a.flac", torch.zeros(9), RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="sample_rate: 3999 is not a whole number from 4000"):
        write_audio(tmp_path / "a.wav", torch.zeros(9), 3999)
    with pytest.raises(AudioError, match=r"a\.ogg: OGG holds up to 200000 Hz"):
        write_audio(tmp_path / "a.ogg", torch.zeros(9), 200_001)
    with pytest.raises(AudioError, match=r"a\.flac: FLAC cannot hold this at 200001 Hz.*use \.wav"):
        write_audio(tmp_path / "a.flac", torch.zeros(9), 200_001)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_replaced_only_on_request(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", torch.zeros(9), RATE)
    with pytest.raises(OutputError, match=r"a\.wav: already exists"):
        write_audio(tmp_path / "a.wav", torch.ones(5) / 2, RATE)
    assert len(stored(tmp_path / "a.wav")) == 9
    write_audio(tmp_path / "a.wav", torch.ones(5) / 2, RATE, overwrite=True)
    assert stored(tmp_path / "a.wav").tolist() == [16384] * 5
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    write_audio(tmp_path / "a.wav", torch.zeros(9), RATE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"a\.wav: could not be written"):
            write_audio(tmp_path / "a.wav", torch.zeros(100_000), RATE, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(stored(tmp_path / "a.wav")) == 9
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


# Names and folders


@pytest.mark.parametrize("name", ["späße 日本.wav", "-rf.wav", "a b\nc.wav", os.fsdecode(b"caf\xe9.wav")])
def test_any_file_name_works(tmp_path: Path, name: str) -> None:  # fault 19
    write_audio(tmp_path / name, torch.full((9,), 0.5), RATE)
    assert read_audio(tmp_path / name)[0].tolist() == [0.5] * 9


def test_names_work_in_the_c_locale(tmp_path: Path) -> None:  # fault 19
    write_audio(tmp_path / "é.wav", torch.full((9,), 0.5), RATE)
    code = "import sys; from wavediff.audio import read_audio; print(len(read_audio(sys.argv[1])[0]))"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "é.wav"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "9\n", done.stderr


def test_audio_files_are_listed_in_order_and_links_end(tmp_path: Path) -> None:  # fault 21
    names = ["a/2.WAV", "a/10.wav", "a-b.flac", "b/c/d.Oga", "b/e.ogg", "b/notes.txt", "b/mp3.mp3", "z.wav/in.wav"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "c" / "up").symlink_to(tmp_path)
    (tmp_path / "self.wav").symlink_to("self.wav")
    found = [str(path.relative_to(tmp_path)) for path in iter_audio_files(tmp_path)]
    assert found == ["a/10.wav", "a/2.WAV", "a-b.flac", "b/c/d.Oga", "b/e.ogg", "b/mp3.mp3", "self.wav", "z.wav/in.wav"]


def test_listing_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="nowhere: is not a folder"):
        list(iter_audio_files(tmp_path / "nowhere"))

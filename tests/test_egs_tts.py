"""The examples of text to speech and of streaming, run as their users run them, on a small untrained model."""

import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from hosts import STEPS, small_vocoder

from wavediff.audio import read_audio, write_audio
from wavediff.compat import TorchaudioVocoder
from wavediff.mel import MelSpec, MelTransform

TEXT = "Hello there."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "vocoder.safetensors"
    small_vocoder("hifigan").save(path)
    return str(path)


def start(example: str, model: str, *options: str) -> None:
    """As from the command line, but in this process, which has loaded everything already."""
    main = runpy.run_path(str(REPOSITORY / "egs" / example))["main"]
    main(["--checkpoint", model, "--num-steps", str(STEPS), *options])


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed; apt-get install espeak-ng")
def test_text_becomes_speech_by_way_of_a_mel(model: str, tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "egs" / "tts.py"), "--checkpoint", model, "--num-steps", str(STEPS)]
    command += ["--text", TEXT, "--output", "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    subprocess.run(["espeak-ng", "-v", "en-us", "-w", tmp_path / "espeak.wav", TEXT], check=True)
    spoken, _ = read_audio(tmp_path / "espeak.wav", 22050)
    mel = MelTransform(MelSpec.preset("tacotron2"))(spoken[None])
    expected = TorchaudioVocoder(small_vocoder("hifigan"), num_steps=STEPS)(mel)[0][0]
    written, rate = read_audio(tmp_path / "out" / "speech.wav")
    assert rate == 22050
    assert (written - expected).abs().max() < 1e-3
    assert (tmp_path / "out" / "speech.png").is_file()
    assert f"{mel.shape[-1]} frames" in done.stdout


def test_without_espeak_it_says_what_to_install(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="espeak-ng is missing; apt-get install espeak-ng"):
        start("tts.py", model, "--output", str(tmp_path))


def test_without_a_network_the_pretrained_model_says_so(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torchaudio.pipelines._tts.impl.load_state_dict_from_url", unreachable)
    with pytest.raises(SystemExit, match=r"could not be downloaded .*no network.*; leave it out"):
        start("tts.py", model, "--pretrained", "--output", str(tmp_path))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    white = torch.randn(30_000, generator=torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    write_audio(path, 0.1 * white * 10 ** torch.linspace(0, -3, 30_000), 22050)
    return path


@pytest.fixture(scope="module")
def samples(clip: Path) -> np.ndarray:
    """What `decode` makes of the clip, in 16 bits."""
    vocoder = small_vocoder("hifigan")
    speech = vocoder.decode(vocoder.mel(*read_audio(clip)), STEPS)[0]
    return (speech * 32767).round().numpy().astype(np.int64)


def listen(raw: bytes) -> np.ndarray:
    return np.frombuffer(raw, dtype="<i2").astype(np.int64)


def test_a_stream_to_standard_output_is_what_decode_gives(
    model: str, clip: Path, samples: np.ndarray, tmp_path: Path
) -> None:
    command = [sys.executable, str(REPOSITORY / "egs" / "stream.py"), "--checkpoint", model, "--num-steps", str(STEPS)]
    command += ["--clip", str(clip), "--output", "-", "--frames", "5"]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == 2 * len(samples)
    assert abs(listen(done.stdout) - samples).max() <= 2
    delay = small_vocoder("hifigan").delay(STEPS, low_latency=True)
    assert f"{delay:.0f} ms behind the mel" in done.stderr.decode()


def test_a_stream_to_a_file_and_to_a_player(model: str, clip: Path, samples: np.ndarray, tmp_path: Path) -> None:
    start("stream.py", model, "--clip", str(clip), "--output", str(tmp_path / "s.pcm"))
    keep = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"
    player = shlex.join([sys.executable, "-c", keep, str(tmp_path / "heard{rate}")])
    start("stream.py", model, "--clip", str(clip), "--player", player)
    for name in ("s.pcm", "heard22050"):
        assert abs(listen((tmp_path / name).read_bytes()) - samples).max() <= 2, name


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "import sys; sys.stdin.buffer.read(); raise SystemExit(3)"])
def test_a_player_that_fails_is_told_of(model: str, clip: Path, code: str) -> None:
    with pytest.raises(SystemExit, match=r"went away before the end|failed with exit status 3"):
        start("stream.py", model, "--clip", str(clip), "--player", shlex.join([sys.executable, "-c", code]))

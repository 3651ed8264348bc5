"""Nothing is clipped without a word, and no word is said where nothing is clipped."""

import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfilt
from services import ask, events, served
from sounds import small_generator
from torch import Tensor
from torch.nn import functional as F

from wavediff.app.events import Studio
from wavediff.app.queue import Limits
from wavediff.app.service import make_app
from wavediff.audio import AudioWriter, centred, read_audio, write_audio
from wavediff.cli.main import main
from wavediff.data.augment import Variation
from wavediff.errors import ClippingWarning
from wavediff.models import WEIGHTS
from wavediff.pipelines.mels import Clipping
from wavediff.pipelines.vocoder import Vocoder

pytestmark = pytest.mark.filterwarnings("always::wavediff.errors.ClippingWarning")


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    return Vocoder.from_pretrained(None, "cpu")


@pytest.fixture(scope="module")
def loud(vocoder: Vocoder) -> Tensor:
    """A second of speech, 20 dB louder than it was; (1, n_mels, frames)."""
    waveform, rate = read_audio(WEIGHTS / "clip.flac")
    return vocoder.mel(10 * waveform[:rate], rate)


@pytest.fixture(scope="module")
def beyond(vocoder: Vocoder, loud: Tensor) -> int:
    """How many of its samples are beyond full scale before anything clips them."""
    *_, speech = vocoder.states(loud, seed=0)
    return int((speech.abs() > 1).sum())


def told(record: pytest.WarningsRecorder) -> int:
    (message,) = (str(warning.message) for warning in record if warning.category is ClippingWarning)
    assert message.startswith("mel: clipped ")
    assert " samples, the mel asks for speech beyond full scale; turn down what it is made from" in message
    return int(message.split()[2])


def test_decode_counts_what_it_clips(vocoder: Vocoder, loud: Tensor, beyond: int) -> None:
    with pytest.warns(ClippingWarning) as record:
        speech = vocoder.decode(loud, seed=0)
    # Pieces and the whole round otherwise, so that a sample may lie on the other side of the bound.
    assert told(record) == pytest.approx(beyond, rel=0.02)
    assert told(record) == int((speech.abs() == 1).sum()) > 100
    assert record[0].filename == __file__


def test_a_stream_says_so_once_at_its_end(vocoder: Vocoder, loud: Tensor) -> None:
    with pytest.warns(ClippingWarning) as record:
        speech = torch.cat(list(vocoder.stream(loud[0].split(20, dim=-1), seed=0)))
    assert told(record) == int((speech.abs() == 1).sum()) > 100


def test_padding_is_not_counted(vocoder: Vocoder, loud: Tensor) -> None:
    quiet = loud - 6
    with pytest.warns(ClippingWarning) as alone:
        vocoder.decode(loud[..., :40], seed=0)
    batch = torch.cat([loud, quiet])
    with pytest.warns(ClippingWarning) as together:
        vocoder.decode(batch, lengths=[40, loud.shape[-1]], seed=0)
    assert told(together) == pytest.approx(told(alone), rel=0.02)


def test_speech_of_ordinary_level_needs_no_warning(vocoder: Vocoder) -> None:
    waveform, rate = read_audio(WEIGHTS / "clip.flac")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vocoder(waveform, rate, seed=0)
        list(vocoder.stream([vocoder.mel(waveform, rate)], seed=0))


def test_long_speech_is_counted_in_parts_and_every_shape_is() -> None:
    speech = torch.rand(2, 700_000, generator=torch.Generator().manual_seed(0)) - 0.5
    speech[0, ::1000] = 1
    speech[1, ::7000] = -1
    assert Clipping(speech).samples == 700 + 100
    clipping = Clipping(speech[0])
    clipping.count(speech[1])
    assert clipping.samples == 800
    assert Clipping(torch.zeros(5)).fault == ""


@pytest.mark.parametrize(("share", "told"), [(0.02, False), (0.04, True)])
def test_a_large_share_of_clipped_samples_names_the_likely_cause(share: float, told: bool) -> None:
    speech = torch.full((1000,), 0.5)
    speech[: round(1000 * share)] = -1
    padded = torch.cat([speech, torch.zeros(9000)])  # what fills up a batch is no speech
    for clipping in (Clipping(speech), Clipping(padded)):
        assert ("wavediff doctor" in clipping.fault and "lengths=" in clipping.fault) == told
        assert (f"{share:.0%} of all" in clipping.fault) == told


def _tacotron(mel: Tensor) -> Tensor:
    """Scaled to -4 to 4, as Tacotrons are trained on."""
    return (8 * (20 * mel / math.log(10) + 80) / 100 - 4).clamp(-4, 4)


FOREIGN = {
    "scaled to -4 to 4": (_tacotron, "another dialect"),
    "normalised by band": (
        lambda mel: (mel - mel.mean(-1, keepdim=True)) / mel.std(-1, keepdim=True),
        "another dialect",
    ),
    "zeros": (torch.zeros_like, "100 of 100 frames, the first at 0, have one value in all bands"),
    "padded": (lambda mel: F.pad(mel, (0, 60)), "60 of 160 frames, the first at 100, .*lengths="),
    "padded by two": (
        lambda mel: F.pad(mel, (0, 2)),
        "2 of 102 frames, the first at 100, .* fill up with silence, -11.51",
    ),
    "padded in front": (lambda mel: F.pad(mel, (3, 0)), "3 of 103 frames, the first at 0"),
    "padded with ones": (lambda mel: F.pad(mel, (0, 5), value=1.0), "5 of 105 frames"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_mel_that_is_none_of_the_dialect_becomes_no_noise_without_a_word(vocoder: Vocoder, kind: str) -> None:
    waveform, rate = read_audio(WEIGHTS / "clip.flac")
    change, message = FOREIGN[kind]
    mel = change(vocoder.mel(waveform, rate)[..., :100])
    with pytest.warns(UserWarning, match="^mel: ") as record:
        vocoder.decode(mel, 1, seed=0)
    assert any(re.search(message, str(warning.message)) for warning in record), [str(w.message) for w in record]


def test_what_is_silent_or_beyond_its_length_is_no_padding(vocoder: Vocoder) -> None:
    waveform, rate = read_audio(WEIGHTS / "clip.flac")
    mel = vocoder.mel(0.9 * waveform, rate)[..., :100]  # other phases have other peaks
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vocoder.decode(F.pad(mel, (0, 40), value=float(mel.min())), 1)
        vocoder.decode(F.pad(mel, (0, 60)), 1, lengths=[100])
        vocoder.decode(F.pad(mel, (0, 60), mode="replicate"), 1)
        assert vocoder.decode(F.pad(mel, (0, 10), value=-11.5129), 1)[0, -1500:].abs().max() < 1e-3
        vocoder.mel(torch.zeros(9000), rate)
        for quiet in (torch.zeros(9000), torch.full((9000,), 0.3), torch.eye(1, 9000)[0]):
            vocoder.decode(vocoder.mel(quiet, rate), 1)


@pytest.mark.parametrize("pieces", [False, True])
def test_vocode_names_the_file(
    pieces: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if pieces:
        monkeypatch.setattr("wavediff.bulk.jobs.LONG_SECONDS", 0.5)
    waveform, rate = read_audio(WEIGHTS / "clip.flac")
    Path("in").mkdir()
    write_audio("in/fine.wav", waveform[:rate], rate)
    with AudioWriter("in/loud.wav", rate, subtype="FLOAT") as writer:
        writer.write(10 * waveform[:rate])
    assert main(["vocode", "in", "-o", "out", "--device", "cpu", "--seed", "0"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "clipped" in line]
    (line,) = lines
    number = re.fullmatch(
        r"wavediff: warning: in/loud\.wav: clipped (\d+) samples, the mel asks for speech beyond full scale; "
        "turn down what it is made from; .* another dialect .*",
        line,
    )
    assert number
    written, _ = read_audio("out/loud.wav")
    full_scale = int((written.abs() >= 32767 / 32768).sum())
    # A sample within half a step of full scale was not clipped, and is written as if it were.
    assert full_scale - 2 <= int(number[1]) <= full_scale
    assert full_scale > 100


def test_the_page_shows_it(vocoder: Vocoder, tmp_path: Path) -> None:
    waveform, rate = read_audio(WEIGHTS / "clip.flac")
    with AudioWriter(tmp_path / "loud.wav", rate, subtype="FLOAT") as writer:
        writer.write(10 * waveform[:rate])
    studio = Studio(vocoder, small_generator("unet"), Limits())
    with served(make_app(studio, hosts=("localhost", "127.0.0.1"))) as port:
        _, _, body = ask(port, "POST", "/api/vocode", (tmp_path / "loud.wav").read_bytes())
    (after,) = (event for event in events(body) if event["event"] == "after")
    assert any(note.startswith("clipped ") for note in after["notes"])


def test_a_filter_leaves_loud_sounds_their_tops() -> None:
    """torchaudio clamps what a filter makes to [-1, 1]; scipy's filter of the same order does not."""
    loud = 0.95 * torch.sign(torch.sin(2 * torch.pi * 20 * torch.arange(22_050) / 22_050))
    expected = sosfilt(butter(2, 10, "highpass", fs=22_050, output="sos"), loud.double().numpy())
    assert np.abs(expected).max() > 1.2
    np.testing.assert_allclose(centred(loud, 22_050).numpy(), expected, atol=1e-3)
    tone = 0.5 * torch.sin(torch.arange(22_050) * 0.0571)  # 200 Hz
    varied = Variation(bands=(12.0, 0.0, 0.0)).apply(tone, 22_050)
    assert (varied.abs() > 0.9999).sum() < 1000  # its peaks are full scale, and are no plateaus: 7,000 if clamped

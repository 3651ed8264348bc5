"""torchaudio's Tacotron 2 bundle, from text to speech, with random weights in the place of its download."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchaudio.pipelines._tts.impl as bundles
from conftest import REPOSITORY
from hosts import STEPS, fading_mel, small_vocoder
from torch import Tensor
from torchaudio.models import Tacotron2
from torchaudio.pipelines import TACOTRON2_GRIFFINLIM_CHAR_LJSPEECH as BUNDLE
from torchaudio.pipelines import Tacotron2TTSBundle

from wavediff.audio import read_audio
from wavediff.compat import TorchaudioVocoder
from wavediff.mel import MelSpec, convert


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Tacotron2:
    """What `get_tacotron2` makes of weights that are random, but for a mel that falls from band to band."""

    def weights(url: str) -> dict[str, Tensor]:
        assert url.endswith(".pth")
        torch.manual_seed(0)
        model = Tacotron2(**BUNDLE._tacotron2_params)
        with torch.no_grad():
            model.decoder.linear_projection.bias.copy_(torch.linspace(-1, -9, 80))
            model.decoder.gate_layer.bias.fill_(-10)  # it never stops of itself, but at the last step
        return model.state_dict()

    monkeypatch.setattr(bundles, "load_state_dict_from_url", weights)
    model = BUNDLE.get_tacotron2()
    model.decoder.decoder_max_step = 12
    return model


def speak(
    model: Tacotron2, vocoder: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]], texts: list[str]
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """As torchaudio's tutorial: (mel, its lengths, waveforms, their lengths)."""
    torch.manual_seed(0)  # Tacotron 2 drops out while it infers, too
    with torch.inference_mode():
        processed, lengths = BUNDLE.get_text_processor()(texts)
        mel, mel_lengths, _ = model.infer(processed, lengths)
        return mel, mel_lengths, *vocoder(mel, mel_lengths)


@pytest.mark.filterwarnings("ignore:Reached max decoder steps")
def test_text_becomes_speech_where_the_bundles_own_vocoder_stood(model: Tacotron2) -> None:
    ours = small_vocoder("hifigan")
    vocoder = TorchaudioVocoder(ours, num_steps=STEPS)
    assert isinstance(vocoder, Tacotron2TTSBundle.Vocoder)
    mel, frames, waveforms, lengths = speak(model, vocoder, ["Hello world!", "Well"])
    expected = ours.decode(convert(mel, MelSpec.preset("tacotron2"), ours.mel_spec), STEPS)
    assert torch.equal(waveforms, expected)
    assert waveforms.shape == (2, 11 * 256)  # twelve frames centred on their beginnings span eleven hops
    assert torch.equal(lengths, (frames - 1) * 256)
    griffin_lim = BUNDLE.get_vocoder()
    theirs = griffin_lim(mel[:, :, :8])[0]
    assert vocoder(mel[:, :, :8])[0].shape == theirs.shape
    assert vocoder.sample_rate == griffin_lim.sample_rate


@pytest.mark.filterwarnings("ignore:Reached max decoder steps")
def test_the_example_speaks_with_the_pretrained_model(
    model: Tacotron2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = runpy.run_path(str(REPOSITORY / "egs" / "tts.py"))
    monkeypatch.setattr(type(BUNDLE), "get_tacotron2", lambda bundle: torch.manual_seed(0) and model)
    small_vocoder("hifigan").save(tmp_path / "model.safetensors")
    options = {"text": "Well", "num-steps": STEPS, "checkpoint": tmp_path / "model.safetensors", "output": tmp_path}
    example["main"](["--pretrained", *(f"--{name}={value}" for name, value in options.items())])
    written, _ = read_audio(tmp_path / "speech.wav")
    *_, waveforms, _ = speak(model, TorchaudioVocoder(small_vocoder("hifigan"), num_steps=STEPS), ["Well"])
    assert (written - waveforms[0]).abs().max() < 1e-3


def test_lengths_keep_an_items_padding_out_of_its_speech() -> None:
    vocoder = TorchaudioVocoder(small_vocoder("tacotron2"), num_steps=STEPS)
    mel, lengths = fading_mel("tacotron2", 2, 24), torch.tensor([24, 10], dtype=torch.int32)
    padded = mel.clone()
    padded[1, :, 10:] = 0.0  # a sound as loud as the loudest
    waveforms, samples = vocoder(padded, lengths)
    alone, none = vocoder(mel[1:, :, :10])
    assert none is None
    assert (waveforms[1, : 10 * 256] - alone[0]).abs().max() < 1e-5
    assert not waveforms[1, 10 * 256 :].any()
    assert samples.tolist() == [24 * 256, 10 * 256]
    assert samples.dtype == lengths.dtype


def test_the_wavernn_bundles_need_a_vocoder_of_their_dialect() -> None:
    vocoder = TorchaudioVocoder(small_vocoder("torchaudio-wavernn"), "torchaudio-wavernn", STEPS)
    assert vocoder(fading_mel("torchaudio-wavernn"))[0].shape == (1, 24 * 275)

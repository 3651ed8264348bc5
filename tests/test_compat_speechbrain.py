"""SpeechBrain's own Tacotron 2, loaded from a folder as its pretrained ones are, with our vocoder behind it."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hosts import STEPS, fading_mel, small_vocoder

from wavediff import Vocoder
from wavediff.compat import SpeechBrainHiFiGAN, SpeechBrainVocoder
from wavediff.errors import MelError, SamplingError
from wavediff.mel import MelSpec, convert

HYPERPARAMETERS = """
model: !new:speechbrain.lobes.models.Tacotron2.Tacotron2
  symbols_embedding_dim: 8
  encoder_embedding_dim: 8
  encoder_n_convolutions: 1
  attention_rnn_dim: 8
  attention_dim: 8
  attention_location_n_filters: 2
  attention_location_kernel_size: 3
  decoder_rnn_dim: 8
  prenet_dim: 8
  max_decoder_steps: 12
  postnet_embedding_dim: 8
  postnet_n_convolutions: 2
modules:
  model: !ref <model>
text_to_sequence: !name:speechbrain.utils.text_to_sequence.text_to_sequence
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
"""


@pytest.fixture(scope="module", autouse=True)
def forgotten() -> Iterator[None]:
    """SpeechBrain leaves modules behind that import others, and fail, as soon as somebody looks at their file."""
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "speechbrain"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def ours() -> Vocoder:
    return small_vocoder("hifigan")


def test_text_becomes_speech_behind_its_tacotron2(ours: Vocoder, tmp_path: Path) -> None:
    tts = pytest.importorskip("speechbrain.inference.TTS")
    (tmp_path / "hyperparams.yaml").write_text(HYPERPARAMETERS)
    torch.manual_seed(0)
    tacotron2 = tts.Tacotron2.from_hparams(source=str(tmp_path), savedir=str(tmp_path / "cache"))
    decoder = tacotron2.mods.model.decoder
    with torch.no_grad():
        decoder.linear_projection.linear_layer.bias.copy_(torch.linspace(-1, -9, 80))
        decoder.gate_layer.linear_layer.bias.fill_(-10)  # it goes on to its last step
    mel, lengths, _ = tacotron2.encode_batch(["Hello world", "Well"])
    expected = ours.decode(convert(mel, MelSpec.preset("tacotron2"), ours.mel_spec), STEPS)[:, None]
    assert expected.shape == (2, 1, 11 * 256)
    hifi_gan, diffwave = SpeechBrainHiFiGAN(ours, num_steps=STEPS), SpeechBrainVocoder(ours, num_steps=STEPS)
    assert torch.equal(hifi_gan.decode_batch(mel, lengths, 256), expected)
    assert torch.equal(hifi_gan.decode_batch(mel), expected)
    assert torch.equal(diffwave.decode_batch(mel, 256, lengths), expected)


@pytest.mark.parametrize(("name", "host"), [("DiffWaveVocoder", SpeechBrainVocoder), ("HIFIGAN", SpeechBrainHiFiGAN)])
def test_the_calls_take_the_arguments_of_speechbrains_own(name: str, host: type) -> None:
    theirs = getattr(pytest.importorskip("speechbrain.inference.vocoders"), name)
    for call in ("decode_batch", "decode_spectrogram"):
        arguments = [list(inspect.signature(getattr(cls, call)).parameters) for cls in (theirs, host)]
        assert arguments[0] == arguments[1], call


def test_lengths_silence_what_is_beyond(ours: Vocoder) -> None:
    mel, lengths = fading_mel("hifigan", 2, 24), torch.tensor([24, 10])
    loud = mel.clone()
    loud[1, :, 10:] = 0.0
    alone = ours.decode(mel[1, :, :10], STEPS)
    for adapted, arguments in ((SpeechBrainVocoder, (256, lengths)), (SpeechBrainHiFiGAN, (lengths, 256))):
        waveform = adapted(ours, "hifigan", STEPS).decode_batch(loud, *arguments)[1, 0]
        assert (waveform[: 10 * 256] - alone).abs().max() < 1e-4
        assert not waveform[10 * 256 :].any()


def test_fast_sampling_takes_the_betas(ours: Vocoder) -> None:
    mel, betas = fading_mel("hifigan"), [0.0001, 0.01, 0.3]
    adapted = SpeechBrainVocoder(ours, "hifigan", num_steps=1)
    fast = adapted.decode_batch(mel, 256, None, True, betas)
    assert torch.equal(fast, ours.decode(mel, schedule=betas)[:, None])
    assert torch.equal(adapted.decode_batch(mel, 256, None, False, betas), ours.decode(mel, 1)[:, None])
    with pytest.raises(SamplingError, match="needs a schedule"):
        adapted.decode_batch(mel, 256, fast_sampling=True)


def test_one_spectrogram_at_a_time(ours: Vocoder) -> None:
    mel = fading_mel("hifigan")[0]
    for adapted, arguments in ((SpeechBrainVocoder, (256,)), (SpeechBrainHiFiGAN, ())):
        vocoder = adapted(ours, "hifigan", STEPS)
        assert torch.equal(vocoder.decode_spectrogram(mel, *arguments), ours.decode(mel, STEPS)[None])
        assert torch.equal(vocoder(mel[None]), ours.decode(mel[None], STEPS)[:, None])


def test_another_hop_and_the_other_vocoders_order_are_refused(ours: Vocoder) -> None:
    mel = fading_mel("hifigan")
    for adapted in (SpeechBrainVocoder(ours), SpeechBrainHiFiGAN(ours)):
        with pytest.raises(MelError, match="hop_len: 300 is not this vocoder's 256"):
            adapted.decode_batch(mel, hop_len=300)
    with pytest.raises(SamplingError, match="use SpeechBrainHiFiGAN"):
        SpeechBrainVocoder(ours).decode_batch(mel, torch.tensor([24]), 256)

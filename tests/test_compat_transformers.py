"""SpeechT5, FastSpeech2Conformer and the pipeline of transformers, tiny and untrained, with our vocoder."""

import pytest
import torch
from hosts import STEPS, small_vocoder
from torch import Tensor

from wavediff import Vocoder
from wavediff.compat import TransformersVocoder

transformers = pytest.importorskip("transformers")

TOKENS = torch.tensor([[4, 5, 6, 7, 8, 9, 2], [4, 5, 2, 1, 1, 1, 1]])  # the second is padded with 1
LOUD_TO_SILENT = torch.linspace(-0.5, -4, 80)  # decimal logarithms


@pytest.fixture(scope="module")
def ours() -> Vocoder:
    return small_vocoder("speecht5")


@pytest.fixture(scope="module")
def vocoder(ours: Vocoder) -> TransformersVocoder:
    return TransformersVocoder(ours, num_steps=STEPS)


@pytest.fixture(scope="module")
def speecht5() -> "transformers.SpeechT5ForTextToSpeech":
    torch.manual_seed(0)
    stack = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}
    config = transformers.SpeechT5Config(
        vocab_size=40,
        hidden_size=16,
        speaker_embedding_dim=8,
        speech_decoder_prenet_units=16,
        speech_decoder_postnet_units=16,
        speech_decoder_postnet_layers=2,
        **{f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in stack.items()},
    )
    model = transformers.SpeechT5ForTextToSpeech(config).eval()
    with torch.no_grad():
        model.speech_decoder_postnet.feat_out.bias.copy_(LOUD_TO_SILENT.repeat(config.reduction_factor))
        model.speech_decoder_postnet.prob_out.weight.mul_(20)  # so that speakers stop at times of their own
    return model


def speakers(count: int) -> Tensor:
    return 10 * torch.randn(count, 8, generator=torch.Generator().manual_seed(0))


def test_speecht5_speaks_one_text_with_our_vocoder(
    speecht5: "transformers.SpeechT5ForTextToSpeech", ours: Vocoder, vocoder: TransformersVocoder
) -> None:
    mel = speecht5.generate_speech(TOKENS[:1], speakers(1), maxlenratio=4.0)  # (T, 80)
    speech = speecht5.generate_speech(TOKENS[:1], speakers(1), maxlenratio=4.0, vocoder=vocoder)
    assert speech.shape == (len(mel) * 256,)
    assert torch.equal(speech, ours.decode(mel.T, STEPS))


@pytest.mark.parametrize("with_lengths", [False, True])
def test_speecht5_speaks_a_batch_whose_shorter_item_is_silent_after_its_end(
    speecht5: "transformers.SpeechT5ForTextToSpeech", ours: Vocoder, vocoder: TransformersVocoder, with_lengths: bool
) -> None:
    options = {
        "attention_mask": (TOKENS != 1).int(),
        "threshold": 1.2,
        "minlenratio": 2.0,
        "maxlenratio": 6.0,
        "return_output_lengths": True,
    }
    mels, frames = speecht5.generate_speech(TOKENS, speakers(2), **options)
    assert len(set(frames)) == 2, "the untrained model should stop at two times"
    speech = speecht5.generate_speech(
        TOKENS, speakers(2), vocoder=vocoder, **{**options, "return_output_lengths": with_lengths}
    )
    if with_lengths:
        speech, samples = speech
        assert samples == [256 * count for count in frames]
    assert speech.shape == (2, max(frames) * 256)
    for waveform, mel, count in zip(speech, mels, frames, strict=True):
        alone = ours.decode(mel[:count].T, STEPS)
        assert (waveform[: len(alone)] - alone).abs().max() < 1e-4
        assert not waveform[len(alone) :].any()


def test_a_batch_of_zeros_has_no_padding(vocoder: TransformersVocoder) -> None:
    assert vocoder(torch.zeros(2, 6, 80)).any(1).all()


def test_fastspeech2_conformer_takes_it_as_its_vocoder() -> None:
    torch.manual_seed(0)
    sizes = ("hidden_size", "encoder_linear_units", "decoder_linear_units", "speech_decoder_postnet_units")
    sizes += ("duration_predictor_channels", "energy_predictor_channels", "pitch_predictor_channels")
    layers = ("encoder_layers", "decoder_layers", "pitch_predictor_layers", "speech_decoder_postnet_layers")
    acoustic = transformers.FastSpeech2ConformerConfig(
        vocab_size=20, **dict.fromkeys(sizes, 8), **dict.fromkeys(layers, 1)
    )
    hifigan = transformers.FastSpeech2ConformerHifiGanConfig(upsample_initial_channel=32)
    config = transformers.FastSpeech2ConformerWithHifiGanConfig(
        model_config=acoustic.to_dict(), vocoder_config=hifigan.to_dict()
    )
    model = transformers.FastSpeech2ConformerWithHifiGan(config).eval()
    with torch.no_grad():
        postnet = model.model.speech_decoder_postnet
        postnet.layers[-1].batch_norm.weight.mul_(0.1)  # it adds to what the line below sets
        postnet.feat_out.weight.mul_(0.1)
        postnet.feat_out.bias.copy_(LOUD_TO_SILENT)
        model.model.duration_predictor.linear.bias.fill_(1.5)  # a few frames a token
    ours = small_vocoder("espnet")
    model.vocoder = TransformersVocoder(ours, "espnet", STEPS)
    model.to("cpu").eval()
    with torch.no_grad():
        output = model(TOKENS[:1], return_dict=True)
    assert output.spectrogram.shape[1] > 8
    assert torch.equal(output.waveform, ours.decode(output.spectrogram.mT, STEPS))
    assert any(name.startswith("vocoder.denoiser.") for name in model.state_dict())


class Words(transformers.PreTrainedTokenizer):
    """In the place of SpeechT5's, which is a trained sentencepiece model."""

    model_input_names = ("input_ids",)
    words = ("<s>", "<pad>", "</s>", "<unk>", "hello", "world")
    vocab_size = len(words)

    def get_vocab(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def _tokenize(self, text: str) -> list[str]:
        return text.lower().split()

    def _convert_token_to_id(self, token: str) -> int:
        return self.words.index(token)

    def _convert_id_to_token(self, index: int) -> str:
        return self.words[index]


def test_the_text_to_speech_pipeline_speaks_at_our_sample_rate(
    speecht5: "transformers.SpeechT5ForTextToSpeech", ours: Vocoder, vocoder: TransformersVocoder
) -> None:
    speak = transformers.pipeline("text-to-speech", model=speecht5, tokenizer=Words(), vocoder=vocoder, device="cpu")
    options = {"speaker_embeddings": speakers(1), "maxlenratio": 8.0}
    spoken = speak("hello world", forward_params=options)
    assert spoken["sampling_rate"] == 16000
    mel = speecht5.generate(torch.tensor([[4, 5]]), **options)
    assert torch.equal(torch.as_tensor(spoken["audio"]).squeeze(), ours.decode(mel.T, STEPS))


def test_its_configuration_is_what_hugging_faces_own_vocoder_says(vocoder: TransformersVocoder) -> None:
    theirs = transformers.SpeechT5HifiGanConfig()
    assert vocoder.config.sampling_rate == theirs.sampling_rate
    assert vocoder.config.model_in_dim == theirs.model_in_dim


def test_the_bundled_vocoder_speaks_for_speecht5_at_its_rate() -> None:
    vocoder = TransformersVocoder()
    assert (vocoder.sample_rate, vocoder.hop_length) == (16_000, 256)
    assert vocoder(torch.full((12, 80), -4.0)).shape == (12 * 256,)

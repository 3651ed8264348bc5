"""Hosts that are too heavy to install here: what they call, written down from their sources, calls ours.

Sources read: coqui-tts 0.28.0 (`TTS/utils/synthesizer.py`), espnet 202511 (`espnet2/bin/tts_inference.py`), matcha-tts
0.0.7.2 (`matcha/cli.py`, `matcha/hifigan/denoiser.py`), nemo_toolkit 3.0.0 (`nemo/collections/tts`), f5-tts 1.1.22
(`f5_tts/infer/utils_infer.py`), HiFi-GAN's `inference_e2e.py`.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hosts import STEPS, fading_mel, small_vocoder
from torch import Tensor, nn

from wavediff.compat import CoquiVocoder, ESPnetVocoder, F5TTSVocoder, HiFiGANVocoder, NeMoVocoder
from wavediff.errors import MelError


def test_hifigan_scripts_get_a_channel_and_their_ceremony() -> None:
    vocoder = small_vocoder("hifigan")
    generator = HiFiGANVocoder(vocoder, num_steps=STEPS).to("cpu")
    generator.eval()
    generator.remove_weight_norm()
    mel = torch.FloatTensor(fading_mel("hifigan")[0].numpy())
    with torch.no_grad():
        y_g_hat = generator(mel.unsqueeze(0))
    assert y_g_hat.shape == (1, 1, 24 * 256)
    audio = (y_g_hat.squeeze() * 32768.0).cpu().numpy().astype("int16")
    assert np.array_equal(audio, (vocoder.decode(mel, STEPS) * 32768.0).numpy().astype("int16"))
    assert torch.equal(generator(mel), y_g_hat)


class Denoiser(nn.Module):
    """As Matcha's: what the vocoder makes of zeros is its bias, which is taken away from the spectrum of speech."""

    def __init__(self, vocoder: nn.Module) -> None:
        super().__init__()
        weight = next(vocoder.parameters())
        with torch.no_grad():
            bias = vocoder(torch.zeros((1, 80, 88), dtype=weight.dtype, device=weight.device)).float().squeeze(0)
        self.register_buffer("bias", self.stft(bias).abs()[:, :, :1])

    def stft(self, audio: Tensor) -> Tensor:
        return torch.stft(audio, 1024, 256, 1024, torch.hann_window(1024), return_complex=True)

    def forward(self, audio: Tensor, strength: float) -> Tensor:
        spectrum = self.stft(audio)
        magnitude = (spectrum.abs() - self.bias * strength).clamp(0)
        return torch.istft(torch.polar(magnitude, spectrum.angle()), 1024, 256, 1024, torch.hann_window(1024))


def test_matchas_denoiser_probes_with_zeros_and_finds_the_same_bias_each_time() -> None:
    vocoder = HiFiGANVocoder(small_vocoder("hifigan"), num_steps=STEPS).eval()
    first, second = Denoiser(vocoder), Denoiser(vocoder)
    assert torch.equal(first.bias, second.bias)
    audio = vocoder(fading_mel("hifigan")).clamp(-1, 1).squeeze()
    assert torch.allclose(first(audio, 0.0), audio, atol=1e-4)
    assert (first(audio, 1.0) - audio).abs().max() > 1e-3


def test_espnets_text2speech_takes_frames_first_and_asks_for_fs() -> None:
    vocoder = small_vocoder("espnet")
    text2speech = SimpleNamespace(vocoder=ESPnetVocoder(vocoder, num_steps=STEPS))
    mel = fading_mel("espnet")[0]
    feat_gen_denorm = mel.T.contiguous()  # (T, odim)
    wav = text2speech.vocoder(feat_gen_denorm)
    assert torch.equal(wav, vocoder.decode(mel, STEPS))
    assert torch.equal(text2speech.vocoder(feat_gen_denorm.numpy()), wav)
    assert text2speech.vocoder.fs == 22050
    assert wav.view(-1).cpu().numpy().shape == (24 * 256,)


def test_nemo_passes_spec_by_keyword() -> None:
    vocoder = small_vocoder("nemo-hifigan")
    model = NeMoVocoder(vocoder, num_steps=STEPS).eval().to("cpu")
    mel = fading_mel("nemo-hifigan", 2)
    audio = model.convert_spectrogram_to_audio(spec=mel)
    assert torch.equal(audio, vocoder.decode(mel, STEPS))
    assert torch.equal(model(spec=mel), audio[:, None])


def test_f5_tts_decodes_what_follows_the_reference_and_scales_it() -> None:
    vocoder = small_vocoder("f5-tts")
    adapted = F5TTSVocoder(vocoder, num_steps=STEPS).eval().to("cpu")
    mel = fading_mel("f5-tts", frames=40)
    with torch.inference_mode():
        generated = mel.permute(0, 2, 1).to(torch.float32)[:, 16:, :].permute(0, 2, 1)
        wave = adapted.decode(generated) * 0.5
    assert np.allclose(wave.squeeze().cpu().numpy(), 0.5 * vocoder.decode(mel[0, :, 16:], STEPS).numpy())


class AudioProcessor:
    """As Coqui's, with decibels and a symmetric normalisation of 4, clipped: its default audio settings."""

    sample_rate = 22050

    def normalize(self, decibels: np.ndarray) -> np.ndarray:
        return np.clip(8 * (decibels - 20 + 100) / 100 - 4, -4, 4)

    def denormalize(self, values: np.ndarray) -> np.ndarray:
        return (np.clip(values, -4, 4) + 4) * 100 / 8 - 100 + 20


class Synthesizer(nn.Module):
    """As Coqui's, from the acoustic model's output on."""

    def __init__(self, mel: Tensor) -> None:
        super().__init__()
        self.vocoder_model: Any = None
        self.vocoder_config: Any = None
        self.vocoder_ap: Any = None
        self.tts_model = SimpleNamespace(ap=AudioProcessor())
        self.model_outputs = mel.mT  # (1, T, C)

    def tts(self) -> np.ndarray:
        device = next(self.vocoder_model.parameters()).device
        mel = self.model_outputs[0].detach().cpu().numpy()
        mel = self.tts_model.ap.denormalize(mel.T).T
        vocoder_input = self.vocoder_ap.normalize(mel.T)
        assert self.vocoder_config["audio"]["sample_rate"] == self.tts_model.ap.sample_rate
        waveform = self.vocoder_model.inference(torch.tensor(vocoder_input).unsqueeze(0).to(device))
        return waveform.cpu().numpy().squeeze()


def test_coquis_synthesizer_speaks_with_an_attached_vocoder() -> None:
    vocoder = small_vocoder("coqui-default")
    mel = fading_mel("coqui-default").clamp(-3.9, 3.9)
    synthesizer = Synthesizer(mel)
    CoquiVocoder(vocoder, "coqui-default", STEPS).attach(synthesizer)
    assert np.allclose(synthesizer.tts(), vocoder.decode(mel, STEPS)[0].numpy(), atol=1e-4)
    assert synthesizer.output_sample_rate == 22050


def test_coquis_synthesizer_of_another_rate_is_refused() -> None:
    synthesizer = Synthesizer(fading_mel("coqui"))
    synthesizer.tts_model.ap.sample_rate = 24000
    with pytest.raises(MelError, match="24000 Hz, this vocoder at 22050"):
        CoquiVocoder(small_vocoder("hifigan")).attach(synthesizer)
    assert synthesizer.vocoder_model is None


def test_coqui_loads_a_model_file_of_ours_and_no_other_dialect(tmp_path: Path) -> None:
    adapted = CoquiVocoder(small_vocoder("hifigan"), num_steps=STEPS)
    for dialect in ("coqui", "vocos-24k"):
        small_vocoder(dialect).save(tmp_path / f"{dialect}.safetensors")
    adapted.load_checkpoint({"model": "not looked at"}, str(tmp_path / "coqui.safetensors"), eval=True)
    mel = fading_mel("coqui")
    assert torch.equal(adapted.inference(mel), small_vocoder("coqui").decode(mel, STEPS)[:, None])
    assert adapted.denoiser is adapted.vocoder.denoiser
    with pytest.raises(MelError, match="mel: coqui cannot be turned into vocos-24k"):
        adapted.load_checkpoint(None, tmp_path / "vocos-24k.safetensors", eval=True)

"""Waveform to latents and back: shapes, statistics, silence, and model files of models within models."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from sounds import AUTOENCODER, CONFIGS, RATE, shake, small_generator

from wavediff.backbones import CodecConfig, MelCodec
from wavediff.errors import CheckpointError, ConfigError
from wavediff.mel import MelTransform
from wavediff.models.checkpoint import load_checkpoint, save_checkpoint
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.models.denoiser import Denoiser
from wavediff.pipelines.autoencoder import Autoencoder


@pytest.fixture
def vocoder() -> Denoiser:
    torch.manual_seed(0)
    denoiser = build_denoiser(AUTOENCODER).eval().requires_grad_(False)
    shake(denoiser)
    return denoiser


@pytest.mark.parametrize("length", [64, 500, 512, 1000])
def test_latents_have_their_rate_and_come_back_as_whole_frames(vocoder: Denoiser, length: int) -> None:
    autoencoder = Autoencoder(vocoder)
    assert autoencoder.hop_length == 128  # two mel frames of 64 samples
    frames = -(-length // 128)
    latents = autoencoder.encode(0.1 * torch.randn(2, length))
    assert latents.shape == (2, frames * 4)
    waveform = autoencoder.decode(latents, [0, 1])
    assert waveform.shape == (2, frames * 128)
    assert waveform.isfinite().all()


def test_an_item_is_decoded_as_if_it_were_alone(vocoder: Denoiser) -> None:
    autoencoder = Autoencoder(vocoder)
    latents = torch.randn(3, 10 * 4)
    together = autoencoder.decode(latents, [5, 6, 7])
    for index in range(3):
        alone = autoencoder.decode(latents[index : index + 1], [5 + index])
        assert (together[index] - alone[0]).abs().max() < 1e-4


def test_latents_are_standardised_channel_by_channel_while_training() -> None:
    codec = MelCodec(CodecConfig(4, 1, 8, 1), AUTOENCODER.mel)  # type: ignore[arg-type]
    latents = codec.train().encode(torch.randn(16, 20, 50) - 6)
    assert latents.mean(dim=(0, 2)).abs().max() < 1e-5
    assert (latents.std(dim=(0, 2)) - 1).abs().max() < 0.01


def test_what_is_decoded_is_nowhere_below_the_mel_of_silence(vocoder: Denoiser) -> None:
    autoencoder = Autoencoder(vocoder)
    silence = MelTransform(autoencoder.spec)(torch.zeros(1, 1000))
    autoencoder.codec.decoder[-1].bias.data -= 5  # type: ignore[union-attr,operator]
    mel = autoencoder.mel(torch.randn(1, 40))
    assert mel.min() == silence.min()


def test_a_codec_learns_to_return_the_mel_of_real_sounds(data_root: Path) -> None:
    """A few steps on one recording take it far below the error of the mean mel."""
    from wavediff.audio import read_audio

    path = next(iter(sorted((data_root / "sfx" / "glass").glob("*.flac"))))
    waveform = read_audio(path, RATE)[0][None]
    torch.manual_seed(0)
    mel = MelTransform(AUTOENCODER.mel)(waveform)  # type: ignore[arg-type]
    codec = MelCodec(CodecConfig(8, 1, 32, 1), AUTOENCODER.mel)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(codec.parameters(), 3e-3)
    for _ in range(150):
        loss = (codec.decode(codec.encode(mel)) - mel).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.25 * (mel - mel.mean()).abs().mean()


# Models within models


def test_a_vocoder_without_a_codec_is_no_autoencoder() -> None:
    plain = build_denoiser(dataclasses.replace(AUTOENCODER, codec=None))
    with pytest.raises(ConfigError, match="has no codec"):
        Autoencoder(plain)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"pretransform": dataclasses.replace(AUTOENCODER, codec=None)}, "must be a vocoder with a codec"),
        ({"sample_rate": 16000}, "differs from the pretransform's 8000"),
        ({"mel": AUTOENCODER.mel}, "before a model without mel"),
        ({"default_length": -1}, "default_length: -1"),
        ({"codec": CodecConfig(), "pretransform": None}, "codec: compresses mels"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        dataclasses.replace(CONFIGS["latent"], **changes)


def test_a_configuration_with_a_pretransform_survives_json() -> None:
    config = CONFIGS["latent"]
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_files_from_before_there_were_generators_still_load(tmp_path: Path) -> None:
    data = CONFIGS["diffwave"].to_dict()
    for name in ("codec", "pretransform", "default_length"):
        del data[name]
    del data["backbone"]["fold"]
    assert ModelConfig.from_dict(data).backbone == dataclasses.replace(CONFIGS["diffwave"].backbone, fold=1)
    del data["labels"]
    with pytest.raises(ConfigError, match=r"missing keys \['labels'\]"):
        ModelConfig.from_dict(data)


def test_a_pretransform_within_a_pretransform_is_refused() -> None:
    data = CONFIGS["latent"].to_dict()
    data["pretransform"] = CONFIGS["latent"].to_dict()
    with pytest.raises(ConfigError, match="must be a vocoder with a codec"):
        ModelConfig.from_dict(data)


def test_the_weights_of_the_autoencoder_are_checked_with_the_rest(tmp_path: Path) -> None:
    generator = small_generator("latent")
    weights = dict(generator.denoiser.state_dict())
    weights.pop("pretransform.codec.standardise.running_mean")
    save_checkpoint(tmp_path / "m.safetensors", generator.config, weights)
    with pytest.raises(CheckpointError, match=r"1 missing \(pretransform\.codec\.standardise\.running_mean\)"):
        load_checkpoint(tmp_path / "m.safetensors").build()

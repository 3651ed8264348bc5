"""Waveform to latents and back: shapes, statistics, silence, and model files of models within models."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sounds import AUTOENCODER, CONFIGS, RATE, shake, small_generator

from wavediff.backbones import CodecConfig, LinearCodec, LinearCodecConfig, MelCodec
from wavediff.errors import CheckpointError, ConfigError
from wavediff.mel import MelTransform
from wavediff.models.checkpoint import load_checkpoint, save_checkpoint
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.models.denoiser import Denoiser
from wavediff.pipelines.autoencoder import Autoencoder
from wavediff.training.autoencoder_modules import LinearAutoencoderModule, autoencoder_of


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


# The linear codec


LINEAR = LinearCodecConfig(latent_channels=6, frames=2, whitening=0.75)
SPEC = AUTOENCODER.mel


def fitted(config: LinearCodecConfig, values: np.ndarray) -> LinearCodec:
    """To values (n, n_mels * frames), each counted once."""
    codec = LinearCodec(config, SPEC)  # type: ignore[arg-type]
    covariance = np.cov(values.T, bias=True)
    codec.fit(torch.from_numpy(values.mean(0)), torch.from_numpy(covariance))
    return codec


def correlated(count: int = 500, size: int = 40) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(size=(count, size)) @ generator.normal(size=(size, size)) * 0.3 - 6


def mel_of(values: np.ndarray, frames: int = 2) -> torch.Tensor:
    """(n, n_mels * frames) -> mel (1, n_mels, n * frames): each band's neighbouring frames lie side by side."""
    mel = values.reshape(len(values), -1, frames).transpose(1, 0, 2).reshape(1, -1, len(values) * frames)
    return torch.from_numpy(mel).float()


def test_the_error_of_a_linear_codec_is_the_variance_that_it_leaves_out() -> None:
    """Eckart and Young: no other six components leave less."""
    values = correlated()
    codec, mel = fitted(LINEAR, values), mel_of(values)
    singular = np.linalg.svd(values - values.mean(0), compute_uv=False)
    error = (codec.decode(codec.encode(mel)) - mel).double().square().sum().item()
    assert error == pytest.approx((singular[6:] ** 2).sum(), rel=1e-4)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_latents_of_a_linear_codec_have_unit_power_and_spreads_as_far_apart_as_asked(whitening: float) -> None:
    values = correlated()
    codec = fitted(dataclasses.replace(LINEAR, whitening=whitening), values)
    latents = codec.encode(mel_of(values))[0].double()  # (6, n)
    assert latents.square().mean().item() == pytest.approx(1, rel=1e-4)
    assert latents.mean(1).abs().max() < 1e-4
    spread = np.linalg.svd(values - values.mean(0), compute_uv=False)[:6]
    ratio = latents.std(1) / latents.std(1)[0]
    torch.testing.assert_close(ratio, torch.from_numpy((spread / spread[0]) ** (1 - whitening)), rtol=1e-3, atol=0)


def test_a_linear_codec_fills_up_its_last_frame() -> None:
    values = correlated()
    codec, mel = fitted(LINEAR, values), mel_of(values)[..., :7]
    filled = torch.cat([mel, mel[..., -1:]], dim=-1)
    assert torch.equal(codec.encode(mel), codec.encode(filled))
    assert codec.decode(codec.encode(mel)).shape == (1, 20, 8)


def test_more_components_than_values_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"codec\.latent_channels: 41 exceeds the 40 values of 2 frames of 20 bands"):
        LinearCodec(LinearCodecConfig(41, 2), SPEC)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"codec\.whitening: 1\.5 is not a number from 0 to 1"):
        LinearCodecConfig(whitening=1.5)


def linear_module(tmp_path: Path, codec: LinearCodecConfig = LINEAR) -> LinearAutoencoderModule:
    path = tmp_path / "vocoder.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        save_checkpoint(path, AUTOENCODER, build_denoiser(AUTOENCODER).state_dict())
    return LinearAutoencoderModule(str(path), codec)


def test_batches_add_up_to_the_weighted_components_of_all_frames(tmp_path: Path) -> None:
    module = linear_module(tmp_path)
    mels = [torch.from_numpy(correlated(3 * 50, 20).reshape(3, 50, 20)).transpose(1, 2).float() * s for s in (0.5, 1)]
    for mel in mels:
        module.add(mel)
    values, weights = [], []
    for mel in mels:
        for clip in mel.double().numpy():  # (20, 50)
            stacked = (
                np.concatenate([clip[:, ::2], clip[:, 1::2]]).reshape(2, 20, 25).transpose(2, 1, 0).reshape(25, 40)
            )
            level = stacked.max(1)
            values.append(stacked)
            weights.append(np.clip(1 - (level.max() - level) / 6.9, 0, None))  # 6.9 nat are 60 dB
    expected = fitted(LINEAR, np.concatenate(values))
    mean = np.average(np.concatenate(values), axis=0, weights=np.concatenate(weights))
    covariance = np.cov(np.concatenate(values).T, aweights=np.concatenate(weights), bias=True)
    expected.fit(torch.from_numpy(mean), torch.from_numpy(covariance))
    mel = mels[0]
    torch.testing.assert_close(
        module.codec.decode(module.codec.encode(mel)), expected.decode(expected.encode(mel)), rtol=0, atol=1e-3
    )


def test_silence_changes_nothing_of_a_linear_codec(tmp_path: Path) -> None:
    module = linear_module(tmp_path)
    mel = torch.from_numpy(correlated(200, 20).reshape(2, 100, 20)).transpose(1, 2).float()
    module.add(mel)
    before = module.codec.mean.clone(), module.weight.clone()
    module.add(torch.cat([mel, torch.full((2, 20, 50), -30.0)], dim=-1))
    torch.testing.assert_close(module.codec.mean, before[0], rtol=0, atol=1e-5)
    assert module.weight.item() == pytest.approx(2 * before[1].item())


def test_the_error_of_a_codec_is_measured_inside_the_clips(tmp_path: Path) -> None:
    module = linear_module(tmp_path).eval()
    waveform = torch.cat(
        [0.3 * torch.randn(1, 2048, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 6144)], 1
    )
    batch = {"waveform": waveform, "length": torch.tensor([2048]), "seed": torch.tensor([0])}
    mel = module.mel_transform(waveform)
    error = (module.codec.decode(module.codec.encode(mel))[..., : mel.shape[-1]] - mel).abs()[..., : 2048 // 64]
    assert module.loss(batch).mean.item() == pytest.approx(error.mean().item(), rel=1e-5)


def test_a_linear_autoencoder_encodes_and_decodes_like_any_other(tmp_path: Path) -> None:
    module = linear_module(tmp_path)
    autoencoder = Autoencoder(module.denoiser)
    latents = autoencoder.encode(0.1 * torch.randn(2, 1000))
    assert latents.shape == (2, 8 * 6)  # two mel frames of 64 samples to a latent frame of 6
    assert autoencoder.decode(latents, [0, 1]).shape == (2, 1024)
    config = module.config
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_autoencoder_of_a_generators_file_can_be_taken_by_itself(tmp_path: Path) -> None:
    generator = small_generator("latent")
    save_checkpoint(tmp_path / "g.safetensors", generator.config, generator.denoiser.state_dict())
    taken = autoencoder_of(str(tmp_path / "g.safetensors"))
    assert taken.config == AUTOENCODER
    waveform = 0.1 * torch.randn(1, 1000)
    own = generator.autoencoder.encode(waveform)  # type: ignore[union-attr]
    assert torch.equal(Autoencoder(taken.build()).encode(waveform), own)


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
    latent = CONFIGS["latent"].to_dict()
    assert latent["pretransform"]["codec"].pop("kind") == "learned"
    assert ModelConfig.from_dict(latent) == CONFIGS["latent"]
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

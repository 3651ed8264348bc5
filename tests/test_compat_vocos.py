"""Vocos's own class beside ours, and diffusers' own pipeline beside ours."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from hosts import STEPS, small_vocoder
from sounds import small_generator

from wavediff.compat import DiffusersGenerator, DiffusersVocoder, VocosVocoder
from wavediff.errors import SamplingError
from wavediff.mel import MelSpec, MelTransform


@pytest.fixture(scope="module")
def audio() -> torch.Tensor:
    white = torch.randn(2, 6000, generator=torch.Generator().manual_seed(0))
    return white * 10 ** torch.linspace(-1, -3, 6000)


def test_our_vocos_calls_give_what_those_of_vocos_give_but_for_the_samples(audio: torch.Tensor) -> None:
    vocos = pytest.importorskip("vocos")
    from vocos.feature_extractors import MelSpectrogramFeatures
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone

    head = ISTFTHead(16, 1024, 256, "center")  # as in the published model at 24 kHz
    theirs = vocos.Vocos(MelSpectrogramFeatures(), VocosBackbone(100, 16, 16, 1), head).eval()
    decoder = small_vocoder("vocos-24k")
    ours = VocosVocoder(decoder, num_steps=STEPS)
    features = theirs.feature_extractor(audio)  # (2, 100, frames)
    assert (ours.feature_extractor(audio) - features).abs().max() < 1e-3
    assert torch.equal(ours.decode(features), decoder.decode(features, STEPS))
    assert ours.decode(features, bandwidth_id=torch.tensor([0])).shape == (2, features.shape[2] * 256)
    assert theirs.decode(features).shape == (2, (features.shape[2] - 1) * 256)  # an inverse STFT ends a hop earlier
    assert torch.equal(ours(audio), ours.decode(ours.feature_extractor(audio)))
    for call in ("decode", "forward"):
        arguments = [list(inspect.signature(getattr(model, call)).parameters) for model in (theirs, ours)]
        assert arguments[0] == arguments[1], call


def test_features_are_of_the_hosts_dialect_where_the_vocoders_is_another(audio: torch.Tensor) -> None:
    ours = VocosVocoder(small_vocoder("hifigan"), "tacotron2", STEPS)
    features = ours.feature_extractor(audio)
    assert torch.equal(features, MelTransform(MelSpec.preset("tacotron2"))(audio))
    assert ours(audio).shape == (2, 6000 // 256 * 256)


def listen(pipeline: Any, **options: Any) -> np.ndarray:
    """As a script for diffusers' audio pipelines."""
    generator = torch.Generator().manual_seed(3)
    output = pipeline(batch_size=2, generator=generator, num_inference_steps=3, audio_length_in_s=0.3, **options)
    return output.audios if options.get("return_dict", True) else output[0]


def test_a_script_for_diffusers_runs_with_our_generator() -> None:
    diffusers = pytest.importorskip("diffusers")
    unet = diffusers.UNet1DModel(
        block_out_channels=(32, 32), in_channels=2, out_channels=2, extra_in_channels=64, sample_size=256,
        sample_rate=8000, time_embedding_type="fourier", use_timestep_embedding=False, flip_sin_to_cos=True,
        mid_block_type="UNetMidBlock1D", down_block_types=("DownBlock1DNoSkip", "DownBlock1D"),
        up_block_types=("UpBlock1D", "UpBlock1DNoSkip"),
    )  # fmt: skip
    theirs = diffusers.DanceDiffusionPipeline(unet, diffusers.IPNDMScheduler())
    theirs.set_progress_bar_config(disable=True)
    ours = DiffusersGenerator(small_generator("unet")).to("cpu")
    wanted = listen(theirs)
    made = listen(ours)
    assert type(made) is type(wanted)
    assert (made.ndim, made.shape[0], made.shape[2]) == (wanted.ndim, wanted.shape[0], wanted.shape[2])
    assert made.shape == (2, 1, 2400)
    assert np.array_equal(listen(ours, return_dict=False), made)
    expected = list(inspect.signature(type(theirs).__call__).parameters)
    assert list(inspect.signature(DiffusersGenerator.__call__).parameters)[: len(expected)] == expected


def test_a_torch_generator_gives_the_seeds_and_moves_on() -> None:
    generator = small_generator("unet")
    ours = DiffusersGenerator(generator, label="glass", seed=5)
    options = {"num_inference_steps": 2, "audio_length_in_s": 0.1}
    torch_generator = torch.Generator().manual_seed(0)
    first = ours(1, generator=torch_generator, **options).audios
    second = ours(1, generator=torch_generator, **options).audios
    assert not np.array_equal(first, second)
    alone = [ours(1, generator=torch.Generator().manual_seed(seed), **options).audios[0] for seed in (0, 1)]
    both = ours(2, generator=[torch.Generator().manual_seed(seed) for seed in (0, 1)], **options).audios
    assert np.array_equal(alone[0], first[0])
    assert np.allclose(both, alone, atol=1e-5)
    plain = ours(2, **options).audios
    expected = generator.generate(2, 0.1, "glass", num_steps=2, seed=5)
    assert np.array_equal(plain[:, 0], expected.numpy())
    wood = ours(2, **options, label="wood").audios
    assert np.array_equal(wood[:, 0], generator.generate(2, 0.1, "wood", num_steps=2, seed=5).numpy())
    with pytest.raises(SamplingError, match="generator: 1 of them for 2 items"):
        ours(2, generator=[torch_generator], **options)


def test_the_same_call_with_a_mel(audio: torch.Tensor) -> None:
    vocoder = small_vocoder("hifigan")
    ours = DiffusersVocoder(vocoder, num_steps=STEPS, seed=4)
    mel = vocoder.mel(audio, 22050)
    assert np.array_equal(ours(mel).audios[:, 0], vocoder.decode(mel, STEPS, seed=4).numpy())
    assert np.array_equal(ours(mel, 1, return_dict=False)[0][:, 0], vocoder.decode(mel, 1, seed=4).numpy())
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    seeds = [int(torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(seed))) for seed in (1, 2)]
    made = ours(mel, generator=generators).audios
    assert np.array_equal(made[:, 0], vocoder.decode(mel, STEPS, seed=seeds).numpy())
    short = ours(mel, lengths=[mel.shape[2], 9]).audios
    assert not short[1, 0, 9 * 256 :].any()

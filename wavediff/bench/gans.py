"""What a vocoder of one's own costs beside generators of one pass, in their published sizes.

Speed does not depend on what weights hold, so the generators have random ones. They come from the packages that
publish them: Vocos (Siuzdak 2023, arXiv 2306.00814) from `vocos`, HiFi-GAN V1 (Kong et al. 2020, arXiv 2010.05646)
from `transformers`.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from wavediff.bench.machine import Timing, alternate
from wavediff.bench.scaling import example_mel
from wavediff.errors import require_packages
from wavediff.pipelines.vocoder import Vocoder

STEPS = (1, 2, 4, 6)


def time_beside_gans(
    vocoder: Vocoder,
    seconds: float,
    repeats: int,
    on_repeat: Callable[[], object] = lambda: None,
) -> list[Timing]:
    """Mel to speech of `seconds`, in turns: the vocoder at each number of steps, and both generators.

    Raises:
        MissingExtraError: a package is not installed.
    """
    frames = max(8, round(seconds * vocoder.sample_rate / vocoder.hop_length))
    mel = example_mel(vocoder, frames)[None]
    # DDIM evaluates the network once a step; a searched plan for as many may take fewer.
    contenders: dict[str, Callable[[], object]] = {
        f"wavediff, {count} steps": functools.partial(vocoder.decode, mel, count, sampler="ddim") for count in STEPS
    }
    for name, build in {"vocos": _vocos, "hifigan-v1": _hifigan}.items():
        generator = build(mel.shape[1], vocoder.hop_length).eval().to(vocoder.device)
        contenders[name] = functools.partial(_generate, generator, mel)
    audio_seconds = frames * vocoder.hop_length / vocoder.sample_rate
    return alternate(contenders, repeats, audio_seconds, vocoder.device, on_repeat)


@torch.inference_mode()
def _generate(generator: torch.nn.Module, mel: Tensor) -> Tensor:
    speech: Tensor = generator(mel)
    return speech


def _vocos(n_mels: int, hop_length: int) -> torch.nn.Module:
    require_packages(["vocos"], None, "--against gans", install="vocos")
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone

    backbone = VocosBackbone(input_channels=n_mels, dim=512, intermediate_dim=1536, num_layers=8)
    return torch.nn.Sequential(backbone, ISTFTHead(dim=512, n_fft=4 * hop_length, hop_length=hop_length))


def _hifigan(n_mels: int, hop_length: int) -> torch.nn.Module:
    require_packages(["transformers"], None, "--against gans", install="transformers")
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    config = SpeechT5HifiGanConfig(  # the paper's appendix A, V1
        model_in_dim=n_mels,
        upsample_initial_channel=512,
        upsample_rates=[8, 8, 2, 2],
        upsample_kernel_sizes=[16, 16, 4, 4],
        resblock_kernel_sizes=[3, 7, 11],
        resblock_dilation_sizes=[[1, 3, 5]] * 3,
    )
    generator = SpeechT5HifiGan(config)
    for module in generator.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    # It wants the frames first.
    generator.register_forward_pre_hook(lambda _, inputs: (inputs[0].transpose(1, 2), *inputs[1:]))
    return generator

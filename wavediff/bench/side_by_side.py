"""Speed, measured side by side, on the same input and machine, in alternation: the reference implementation's with the
same weights, and generators of one pass in their published sizes.

Speed does not depend on what weights hold, so the generators have random ones. They come from the packages that
publish them: Vocos (Siuzdak 2023, arXiv 2306.00814) from `vocos`, HiFi-GAN V1 (Kong et al. 2020, arXiv 2010.05646)
from `transformers`.
"""

import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from wavediff.backbones import Condition
from wavediff.bench.machine import Timing, alternate
from wavediff.bench.scaling import example_mel
from wavediff.diffusion import ItemNoise, NoiseRegression
from wavediff.engine.precision import slow_in_bfloat16
from wavediff.errors import require_packages
from wavediff.mel import MelTransform
from wavediff.models.importing import import_checkpoint
from wavediff.pipelines.pipeline import pick_device
from wavediff.pipelines.vocoder import Vocoder

TRAINING_FRAMES = 62  # of a training segment, as in both trainers


class Comparison:
    """A DiffWave of the reference implementation (the `diffwave` package) and its import here.

    Args:
        device: "auto", "cpu", "cuda".
        channels: 64 is BASE.
        layers: 30 is BASE.

    Raises:
        MissingExtraError: the package is not installed.
    """

    def __init__(self, device: str = "auto", channels: int = 64, layers: int = 30) -> None:
        # Its own requirements are outdated, so no extra can hold it.
        require_packages(["diffwave"], None, "--against diffwave", install="--no-deps diffwave==0.1.7")
        from diffwave.model import DiffWave
        from diffwave.params import AttrDict, params

        self.device = pick_device(device)
        self.bfloat16 = not slow_in_bfloat16(self.device)
        torch.manual_seed(0)
        self.reference = DiffWave(AttrDict(params | {"residual_channels": channels, "residual_layers": layers}))
        torch.nn.init.normal_(self.reference.output_projection.weight, std=channels**-0.5)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.pt"
            torch.save({"model": self.reference.state_dict(), "params": dict(self.reference.params)}, path)
            checkpoint = import_checkpoint(path)
        self.vocoder = Vocoder(checkpoint.config, checkpoint.build()).to(self.device)
        self.reference.to(self.device)

    def vocoding(self, seconds: float, repeats: int, on_repeat: Callable[[], object]) -> list[Timing]:
        """Mel to speech in the six published steps, `seconds` of audio."""
        from diffwave import inference

        inference.models["benchmark"] = self.reference.eval().requires_grad_(False)
        frames = max(1, round(seconds * self.vocoder.sample_rate / self.vocoder.hop_length))
        mel = torch.rand(1, self.vocoder.mel_spec.n_mels, frames, device=self.device)

        def reference() -> Tensor:
            return inference.predict(mel, "benchmark", device=self.device, fast_sampling=True)[0]

        audio_seconds = frames * self.vocoder.hop_length / self.vocoder.sample_rate

        modes: dict[str, tuple[torch.dtype, bool]] = {"wavediff": (torch.float32, False)}
        if self.bfloat16:
            modes["wavediff bf16"] = (torch.bfloat16, False)
        if self.device.type == "cuda":
            modes |= {"wavediff fused": (torch.float32, True), "wavediff fused bf16": (torch.bfloat16, True)}
        # One pipeline each, on the same weights: a change of mode would capture graphs anew.
        vocoders = {
            name: Vocoder(self.vocoder.config, self.vocoder.denoiser).to(self.device, precision, fused)
            for name, (precision, fused) in modes.items()
        }
        contenders: dict[str, Callable[[], object]] = {
            name: functools.partial(vocoder.decode, mel) for name, vocoder in vocoders.items()
        }
        contenders["diffwave"] = reference
        return alternate(contenders, repeats, audio_seconds, self.device, on_repeat)

    def training(self, batch_size: int, repeats: int, on_repeat: Callable[[], object]) -> list[Timing]:
        """Forward, backward and optimiser step of a batch of 62-frame segments.

        Ours computes the mels in each step, in float32 and under bf16 autocast; the reference is given them.
        """
        hop, rate = self.vocoder.hop_length, self.vocoder.sample_rate
        waveform = 0.1 * torch.randn(batch_size, TRAINING_FRAMES * hop, device=self.device)
        mel = torch.rand(batch_size, self.vocoder.mel_spec.n_mels, TRAINING_FRAMES, device=self.device)
        contenders = {"wavediff bf16": self._our_step(waveform, torch.bfloat16)} if self.bfloat16 else {}
        contenders["wavediff"] = self._our_step(waveform, None)
        contenders["diffwave"] = self._reference_step(waveform, mel)
        return alternate(contenders, repeats, waveform.numel() / rate, self.device, on_repeat)

    def _our_step(self, waveform: Tensor, dtype: torch.dtype | None) -> Callable[[], object]:
        denoiser = self.vocoder.denoiser.train().requires_grad_(True)
        optimizer = torch.optim.AdamW(denoiser.parameters(), lr=2e-4)
        transform = MelTransform(self.vocoder.mel_spec).to(self.device)
        lengths = torch.full((len(waveform),), waveform.shape[1], device=self.device)

        def step() -> None:
            optimizer.zero_grad()
            with torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
                mel = transform(waveform)[..., :TRAINING_FRAMES]
                noise = ItemNoise(range(len(waveform)), self.device)
                loss = NoiseRegression()(denoiser.bind(Condition(mel)), waveform, lengths, noise)
            loss.mean.backward()
            torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
            optimizer.step()

        return step

    def _reference_step(self, waveform: Tensor, mel: Tensor) -> Callable[[], object]:
        """What the package's own trainer does in a step."""
        network = self.reference.train().requires_grad_(True)
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
        betas = torch.tensor(network.params.noise_schedule)
        level = torch.cumprod(1 - betas, 0).to(self.device)

        def step() -> None:
            for parameter in network.parameters():
                parameter.grad = None
            t = torch.randint(0, len(betas), [len(waveform)], device=self.device)
            share = level[t].unsqueeze(1)
            noise = torch.randn_like(waveform)
            predicted = network(share**0.5 * waveform + (1 - share) ** 0.5 * noise, mel, t)
            torch.nn.functional.l1_loss(noise, predicted.squeeze(1)).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1e9)
            optimizer.step()

        return step


def ratios(timings: Sequence[Timing], reference: str) -> dict[str, float]:
    """How many times faster than `reference` each other contender is, by medians."""
    slow = next(timing for timing in timings if timing.name == reference).median
    return {timing.name: slow / timing.median for timing in timings if timing.name != reference}


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

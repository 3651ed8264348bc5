"""The autoencoders in whose latents sounds are generated: a vocoder that stays as it is, and a codec to learn."""

import dataclasses
from typing import cast

import torch
from torch import Tensor

from wavediff.backbones import Codec, CodecConfig, LinearCodec, LinearCodecConfig
from wavediff.diffusion.losses import Loss
from wavediff.errors import ConfigError
from wavediff.mel import MelTransform
from wavediff.models.checkpoint import Checkpoint, load_checkpoint
from wavediff.pipelines.autoencoder import Autoencoder
from wavediff.pipelines.generator import Generator
from wavediff.training.module import DenoiserModule, LRScheduler

FADE_NAT = 6.9  # 60 dB below the loudest frame of a clip, a frame counts for nothing


def autoencoder_of(path: str) -> Checkpoint:
    """The autoencoder, or vocoder, of a model file: that within it where it holds a generator, as "bundled" does.

    Raises:
        CheckpointError: `path` is not an intact model file.
    """
    checkpoint = load_checkpoint(Generator.model_path(path))
    return checkpoint.pretransform or checkpoint


class AutoencoderModule(DenoiserModule):
    """Trains the codec of an autoencoder: mels through latents and back. The vocoder in it stays as it is.

    Args:
        vocoder: model file of the vocoder that the autoencoder decodes with, or of a generator that has one; also says
            the mel.
        codec: shape of the compression.
        learning_rate, weight_decay, warmup_steps, lr_scheduler, init_from: see `DenoiserModule`.

    Raises:
        CheckpointError: `vocoder` is not an intact model file.
        ConfigError: it is no vocoder; and what `DenoiserModule` raises.
    """

    def __init__(
        self,
        vocoder: str,
        codec: CodecConfig | LinearCodecConfig = CodecConfig(),  # noqa: B008  frozen
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        warmup_steps: int = 100,
        lr_scheduler: LRScheduler = "cosine",
        init_from: str | None = None,
    ) -> None:
        decoder = autoencoder_of(vocoder)
        if decoder.config.mel is None or decoder.config.schedule.trained_steps is not None:
            raise ConfigError(
                f"model.vocoder: {vocoder} is no vocoder of continuous time; train recipes/sfx/vocoder.yaml"
            )
        config = dataclasses.replace(decoder.config, codec=codec)
        super().__init__(config, learning_rate, weight_decay, warmup_steps, lr_scheduler, False, init_from)
        if init_from is None:
            own = {n: w for n, w in decoder.build().state_dict().items() if not n.startswith("codec.")}
            self.denoiser.load_state_dict(own, strict=False)
        self.denoiser.requires_grad_(False)
        self.codec: Codec = self.denoiser.codec  # type: ignore[assignment]
        self.codec.requires_grad_(True)
        self.mel_transform = MelTransform(decoder.config.mel)

    @classmethod
    def start_of(cls, source: str) -> Checkpoint:
        """The autoencoder that `init_from` names."""
        return autoencoder_of(source)

    def mel(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mel (B, n_mels, frames) of a batch, and where (B, 1, frames) it is clip, not the silence behind it."""
        with torch.no_grad():
            mel = self.mel_transform(batch["waveform"])
        frames = torch.arange(mel.shape[-1], device=mel.device) * self.mel_transform.spec.hop_length
        return mel, (frames < batch["length"][:, None])[:, None]

    def loss(self, batch: dict[str, Tensor]) -> Loss:
        """Mean |mel - decoded mel| in nat, inside the clips; latents are blurred as the codec's configuration says."""
        mel, inside = self.mel(batch)
        latents = self.codec.encode(mel)
        blur = getattr(self.codec.config, "noise", 0.0)
        if blur and self.training:
            white = self.noise(batch).normal(latents[0].numel()).to(self.device)
            latents = latents + blur * white.view_as(latents)
        error = (self.codec.decode(latents)[..., : mel.shape[-1]] - mel).abs()
        per_item = (error * inside).mean(dim=(1, 2)) / inside.float().mean(dim=(1, 2))
        return Loss(per_item.mean(), per_item.detach(), torch.zeros_like(per_item))

    def heard(self, batch: dict[str, Tensor]) -> Tensor:
        """The same clips, decoded from their latents."""
        autoencoder = Autoencoder(self.denoiser)
        return autoencoder.decode(autoencoder.encode(batch["waveform"]), seeds=[0] * len(batch["waveform"]))

    def validation_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same without the blur."""
        return {"mel_l1": self.loss(batch).mean}


class LinearAutoencoderModule(AutoencoderModule):
    """Fits a linear codec, in closed form: each step adds its batch to the moments of mel frames and solves anew.

    Silence counts for nothing, and loud frames for more than faint ones: the weight of a frame falls from 1 to 0 with
    its level in dB, over 60 dB from the loudest frame of its clip.

    Args:
        vocoder, codec, init_from: see `AutoencoderModule`.
    """

    codec: LinearCodec
    weight: Tensor
    first: Tensor
    second: Tensor

    def __init__(
        self,
        vocoder: str,
        codec: LinearCodecConfig = LinearCodecConfig(),  # noqa: B008  frozen
        init_from: str | None = None,
    ) -> None:
        super().__init__(vocoder, codec, init_from=init_from)
        size = self.codec.mean.numel()
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))
        self.register_buffer("first", torch.zeros(size, dtype=torch.float64))  # sum of w x
        self.register_buffer("second", torch.zeros(size, size, dtype=torch.float64))  # sum of w x x^T

    @torch.no_grad()
    def add(self, mel: Tensor) -> None:
        """Mel (B, n_mels, frames) of clips -> the moments, and the codec that follows from them."""
        values = self.codec.stack(mel).double()  # (B, size, L)
        level = values.amax(1)  # (B, L)
        weights = (1 - (level.amax(1, keepdim=True) - level) / FADE_NAT).clamp(min=0).flatten()
        values = values.transpose(1, 2).flatten(0, 1)  # (B * L, size)
        self.weight += self._of_all(weights.sum())
        self.first += self._of_all(weights @ values)
        self.second += self._of_all(values.T @ (weights[:, None] * values))
        mean = self.first / self.weight
        self.codec.fit(mean, self.second / self.weight - torch.outer(mean, mean))

    def _of_all(self, share: Tensor) -> Tensor:
        """The sum over the processes that train."""
        together = torch.distributed.is_initialized() and self.trainer.world_size > 1
        return cast(Tensor, self.all_gather(share)).sum(0) if together else share

    def loss(self, batch: dict[str, Tensor]) -> Loss:
        """The error of what was fitted, without a gradient that the optimiser would follow."""
        if self.training:
            self.add(self.mel(batch)[0])
        with torch.no_grad():
            loss = super().loss(batch)
        return loss._replace(mean=loss.mean + 0 * self.codec.mean.sum())

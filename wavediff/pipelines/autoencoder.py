"""Waveform -> latents -> waveform: a vocoder with a codec for its mel, read both ways.

The encoder takes the log-mel and compresses it, the decoder restores the mel and vocodes it by diffusion: a diffusion
magnitude autoencoder (Schneider et al. 2023, arXiv 2301.11757, section 3), whose decoder is ours. Latents are handed
around as a signal (B, L * channels), the channels of a frame together, so that samplers and objectives need not know.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from wavediff.backbones import Codec, Condition
from wavediff.backbones.conditioning import fold, unfold
from wavediff.diffusion import ItemNoise, Plan, spaced_grid
from wavediff.engine import accelerate
from wavediff.engine.precision import without_gradients
from wavediff.errors import ConfigError
from wavediff.mel import MelTransform
from wavediff.models.denoiser import Denoiser
from wavediff.models.sampling import begin, follow

DECODER_STEPS = 2


class Autoencoder:
    """Encodes and decodes with a vocoder that has a codec.

    Args:
        vocoder: the vocoder; its `codec` compresses its mels.

    Raises:
        ConfigError: the vocoder has no codec.
    """

    def __init__(self, vocoder: Denoiser) -> None:
        if not isinstance(vocoder.codec, Codec):
            raise ConfigError("pretransform: this vocoder has no codec; train one (recipes/sfx/autoencoder.yaml)")
        self.vocoder, self.codec, self.spec = vocoder, vocoder.codec, vocoder.codec.spec
        self.device = next(vocoder.parameters()).device
        self.transform = MelTransform(self.spec).to(self.device)
        nothing = torch.zeros(1, self.spec.n_fft, dtype=torch.float32, device=self.device)
        self.silence = self.transform(nothing)[..., :1]  # (1, n_mels, 1)

    @property
    def channels(self) -> int:
        """Values of a latent frame."""
        return self.codec.config.latent_channels

    @property
    def hop_length(self) -> int:
        """Samples that a latent frame stands for."""
        return self.spec.hop_length * self.codec.config.frames

    @torch.no_grad()
    def encode(self, waveform: Tensor) -> Tensor:
        """Waveform (B, N) -> latents (B, ceil(N / hop_length) * channels)."""
        waveform = torch.nn.functional.pad(waveform, (0, -waveform.shape[1] % self.hop_length))
        frames = waveform.shape[1] // self.spec.hop_length
        return unfold(self.codec.encode(self.transform(waveform)[..., :frames]))

    @without_gradients()
    def mel(self, latents: Tensor) -> Tensor:
        """Latents (B, L * channels) -> mel (B, n_mels, frames), nowhere below the mel of silence."""
        return self.codec.decode(fold(latents, self.channels)).maximum(self.silence)

    @without_gradients()
    def decode(self, latents: Tensor, seeds: Sequence[int], num_steps: int = DECODER_STEPS) -> Tensor:
        """Latents (B, L * channels) -> waveform (B, L * hop_length).

        Args:
            latents: as `encode` gives them.
            seeds: decide the noise of each item.
            num_steps: evaluations of the vocoder's network.

        Raises:
            SamplingError: a step gave NaN.
        """
        return self.vocode(self.mel(latents), seeds, num_steps)

    @without_gradients()
    def vocode(self, mel: Tensor, seeds: Sequence[int], num_steps: int = DECODER_STEPS) -> Tensor:
        """The second half of `decode`: mel (B, n_mels, frames) -> waveform (B, frames * spec.hop_length)."""
        bound = self.vocoder.bind(Condition(mel), accelerate(self.vocoder.backbone))
        start = begin(bound, ItemNoise(seeds, self.device), mel.shape[-1] * self.spec.hop_length)
        return follow(bound, start, self.plan(num_steps))

    def plan(self, num_steps: int = DECODER_STEPS) -> Plan:
        """What `vocode` samples by, in `num_steps` evaluations of the vocoder's network."""
        return Plan.along("ddim", spaced_grid(self.vocoder.schedule, num_steps, start=self.vocoder.start_time))

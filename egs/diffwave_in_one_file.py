"""DiffWave in one file: a waveform from its mel spectrogram, by taking away noise step by step.

    python egs/diffwave_in_one_file.py --clip speech.wav --output again.wav

Kong et al. 2021, "DiffWave: A Versatile Diffusion Model for Audio Synthesis", arXiv:2009.09761. Equations,
algorithms and symbols are the paper's:

    x_0, x_t, x_T         a waveform, the same under the noise of t steps, and after all T: noise alone
    beta_t                variance of the noise that step t adds, t = 1 ... T
    alpha_bar_t           share of the waveform's power that is left after step t
    eps, eps_theta        the noise in x_t, and the network's estimate of it
    eta_s, gamma_bar_s    beta_t and alpha_bar_t of a schedule with fewer steps, s = 1 ... S

Shapes: B items of N samples, C channels, frames = N / HOP_LENGTH. A minute on two CPU cores learns a single clip, so
that its melody comes back out of the noise; a vocoder for speech it never heard takes hours to days, see recipes/.
"""

import argparse
import math
from pathlib import Path

import soundfile as sf
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import melscale_fbanks, resample

SAMPLE_RATE, N_FFT, HOP_LENGTH, N_MELS = 22050, 1024, 256, 80
T = 50  # BASE, section 5.1

# 1. The schedule. A zero (one) in front lets the paper's t index both tables: t = 0 is the clean waveform.

beta = torch.cat([torch.zeros(1), torch.linspace(1e-4, 0.05, T, dtype=torch.float64)])  # (T + 1,)
alpha_bar = torch.cumprod(1 - beta, dim=0)  # (T + 1,) eq. 4

fast_eta = torch.tensor([0, 0.0001, 0.001, 0.01, 0.05, 0.2, 0.5], dtype=torch.float64)  # (S + 1,) appendix C


def align(eta: Tensor) -> Tensor:
    """The training step, between two whole ones, with the noise of each step of a shorter schedule: appendix B."""
    left, sought = alpha_bar.sqrt(), torch.cumprod(1 - eta, dim=0).sqrt()  # (T + 1,) and (S + 1,), both falling from 1
    t = (left >= sought[:, None]).sum(dim=1).clamp(max=T) - 1  # (S + 1,) left[t] >= sought > left[t + 1]
    return t + (left[t] - sought) / (left[t] - left[t + 1])  # t_s^align, the root taken as linear between steps


# 2. The network, eps_theta.


def encode_steps(step: Tensor) -> Tensor:
    """Sines and cosines (B, 128) of diffusion steps (B,) counted from 0, eq. 8.

    The fast ones turn hundreds of times within a step, so a fractional step is interpolated between whole ones.
    """
    frequency = 10 ** (4 * torch.arange(64, dtype=torch.float64) / 63)  # (64,)
    low = step.floor()
    phases = [at[:, None] * frequency for at in (low, low + 1)]  # (B, 64) each
    waves = [torch.cat([phase.sin(), phase.cos()], dim=1) for phase in phases]  # (B, 128) each
    return torch.lerp(*waves, (step - low).double()[:, None]).float()


class ResidualLayer(nn.Module):
    """A dilated convolution that hears the step and the mel, gated; figure 2 (a)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.step_projection = nn.Linear(512, channels)
        self.dilated_conv = nn.Conv1d(channels, 2 * channels, 3, padding=dilation, dilation=dilation)
        self.mel_projection = nn.Conv1d(N_MELS, 2 * channels, 1)
        self.output_projection = nn.Conv1d(channels, 2 * channels, 1)

    def forward(self, x: Tensor, step: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
        y = x + self.step_projection(step).unsqueeze(-1)  # (B, C, N)
        gate, value = (self.dilated_conv(y) + self.mel_projection(mel)).chunk(2, dim=1)  # (B, C, N) each
        residual, skip = self.output_projection(gate.sigmoid() * value.tanh()).chunk(2, dim=1)  # (B, C, N) each
        return (x + residual) / math.sqrt(2), skip


class DiffWave(nn.Module):
    """Noisy waveform x_t (B, N), step t (B,) and mel (B, N_MELS, frames) -> the noise in x_t (B, N); section 3."""

    def __init__(self, channels: int = 32, layers: int = 10) -> None:
        super().__init__()
        self.input_projection = nn.Conv1d(1, channels, 1)
        self.step_embedding = nn.Sequential(nn.Linear(128, 512), nn.SiLU(), nn.Linear(512, 512), nn.SiLU())
        # 16 x 16 = HOP_LENGTH: two convolutions over bands and time bring the mel to the sample rate.
        self.upsampler = nn.ModuleList(nn.ConvTranspose2d(1, 1, (3, 32), (1, 16), padding=(1, 8)) for _ in range(2))
        self.layers = nn.ModuleList(ResidualLayer(channels, 2 ** (index % 10)) for index in range(layers))
        self.skip_projection = nn.Conv1d(channels, channels, 1)
        self.output_projection = nn.Conv1d(channels, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.output_projection.weight)  # the first estimate is no noise: a loss of 1

    def forward(self, x_t: Tensor, t: Tensor, mel: Tensor) -> Tensor:
        step = self.step_embedding(encode_steps(t - 1))  # (B, 512)
        mel = mel.unsqueeze(1)  # (B, 1, N_MELS, frames)
        for layer in self.upsampler:
            mel = F.leaky_relu(layer(mel), 0.4)  # 16 times longer
        mel = mel.squeeze(1)  # (B, N_MELS, N)
        x = F.relu(self.input_projection(x_t.unsqueeze(1)))  # (B, C, N)
        skips = torch.zeros_like(x)
        for layer in self.layers:
            x, skip = layer(x, step, mel)
            skips = skips + skip
        x = F.relu(self.skip_projection(skips / math.sqrt(len(self.layers))))  # (B, C, N)
        return self.output_projection(x).squeeze(1)


# 3. Training, Algorithm 1: any step of the way is one jump from x_0, so that each batch trains random ones.


def noise_loss(network: nn.Module, x_0: Tensor, mel: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """Eq. 7 for waveforms (B, N), their mel (B, N_MELS, frames), whole steps t (B,) and noise (B, N)."""
    signal, noise = alpha_bar[t].sqrt()[:, None].float(), (1 - alpha_bar[t]).sqrt()[:, None].float()  # (B, 1)
    return (eps - network(signal * x_0 + noise * eps, t, mel)).square().mean()


def train(network: nn.Module, waveform: Tensor, mel: Tensor, steps: int, batch: int = 4, frames: int = 32) -> None:
    """Learn from random segments of one waveform (N,) and its mel (N_MELS, frames of all)."""
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    frames, losses = min(frames, mel.shape[1]), []
    for step in range(1, steps + 1):
        starts = torch.randint(mel.shape[1] - frames + 1, (batch,)).tolist()
        x_0 = torch.stack([waveform[at * HOP_LENGTH : (at + frames) * HOP_LENGTH] for at in starts])  # (B, N)
        segment = torch.stack([mel[:, at : at + frames] for at in starts])  # (B, N_MELS, frames)
        loss = noise_loss(network, x_0, segment, torch.randint(1, T + 1, (batch,)), torch.randn_like(x_0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % max(1, steps // 10) == 0:
            print(f"step {step:4d}  loss {sum(losses) / len(losses):.4f}", flush=True)
            losses.clear()


# 4. Sampling, Algorithm 2: down from noise, each step to a guess of what was one step less noisy.


@torch.inference_mode()
def sample(network: nn.Module, mel: Tensor, beta: Tensor, t: Tensor) -> Tensor:
    """Waveform (B, N) from its mel, with variances beta (S + 1,) at the training steps t (S + 1,); index 0 is unused.

    All T steps: beta and t = 0 ... T. Fewer: eta and align(eta), and the same lines are appendix B's fast sampling.
    """
    alpha_bar = torch.cumprod(1 - beta, dim=0)  # (S + 1,) eq. 4
    x = torch.randn(len(mel), mel.shape[2] * HOP_LENGTH)  # (B, N) line 1
    for s in range(len(beta) - 1, 0, -1):
        eps = network(x, t[s].expand(len(x)), mel)  # (B, N)
        x = (x - beta[s] / (1 - alpha_bar[s]).sqrt() * eps) / (1 - beta[s]).sqrt()  # eq. 5, mean
        if s > 1:
            variance = (1 - alpha_bar[s - 1]) / (1 - alpha_bar[s]) * beta[s]  # eq. 4, beta~
            x = x + variance.sqrt() * torch.randn_like(x)
    return x.clamp(-1, 1)  # the waveform only: x_t is noise, and clipped noise is none the network knows


# 5. One clip, there and back.


def mel_spectrogram(waveform: Tensor) -> Tensor:
    """Waveform (B, N) -> natural log of its mel bands (B, N_MELS, N / HOP_LENGTH), as HiFi-GAN computes it."""
    margin = (N_FFT - HOP_LENGTH) // 2  # puts each frame on the middle of its hop
    padded = F.pad(waveform, (margin, margin), mode="reflect")
    spectrum = torch.stft(padded, N_FFT, HOP_LENGTH, window=torch.hann_window(N_FFT), center=False, return_complex=True)
    bands = melscale_fbanks(N_FFT // 2 + 1, 0.0, 8000.0, N_MELS, SAMPLE_RATE, "slaney", "slaney")  # (513, N_MELS)
    return (bands.T @ spectrum.abs()).clamp(min=1e-5).log()


def spoken_glide(seconds: float = 2.0) -> Tensor:
    """A voice that glides up and down while its vowel moves from [a] to [i] and back: (N,)."""
    time = torch.arange(seconds * SAMPLE_RATE) / SAMPLE_RATE
    swing = (1 - torch.cos(2 * math.pi * time / seconds)) / 2  # 0 ... 1 ... 0
    pitch = 110 + 90 * swing  # Hz
    frequency = torch.arange(1, 41)[:, None] * pitch  # (40 harmonics, N) Hz
    vowel = torch.lerp(torch.tensor([730.0, 1090, 2440])[:, None], torch.tensor([270.0, 2290, 3010])[:, None], swing)
    gain = sum(1 / (1 + ((frequency - formant) / 80) ** 2) for formant in vowel)  # (40, N) resonances of the mouth
    phase = 2 * math.pi * torch.cumsum(frequency.double() / SAMPLE_RATE, dim=1)
    voice = (gain * phase.sin()).sum(dim=0)
    return (0.7 * voice / voice.abs().max()).float()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train DiffWave on one clip for a minute and resynthesise the clip.")
    parser.add_argument("--clip", type=Path, help="WAV or FLAC file of speech, its first 2 s; default: a made-up voice")
    parser.add_argument("--steps", type=int, default=150, help="training steps (default: 150)")
    parser.add_argument("--seed", type=int, default=0, help="decides weights and noise (default: 0)")
    parser.add_argument("--output", type=Path, default=Path("diffwave.wav"), help="WAV file to write")
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    if args.clip:
        samples, rate = sf.read(args.clip, dtype="float32", always_2d=True)
        waveform = resample(torch.from_numpy(samples).mean(dim=1), rate, SAMPLE_RATE)[: 2 * SAMPLE_RATE]
    else:
        waveform = spoken_glide()
    waveform = waveform[:len(waveform) // HOP_LENGTH * HOP_LENGTH]
    mel = mel_spectrogram(waveform[None])
    network = DiffWave()
    import time
    print(sum(p.numel() for p in network.parameters()))
    t0 = time.process_time()
    train(network, waveform, mel[0], args.steps)
    print("cpu", time.process_time() - t0)
    for name, b, t in (("full", beta, torch.arange(T + 1, dtype=torch.float64)), ("fast", fast_eta, align(fast_eta))):
        t0 = time.process_time()
        x = sample(network, mel, b, t)
        err = (mel_spectrogram(x) - mel).abs().mean()
        print(name, err.item(), x.std().item(), waveform.std().item(), "cpu", time.process_time() - t0)
        sf.write(args.output.with_stem(f"{args.output.stem}_{len(b)-1}"), x[0].numpy(), SAMPLE_RATE)


if __name__ == "__main__":
    main()

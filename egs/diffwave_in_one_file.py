"""DiffWave in one file: a waveform from its mel spectrogram, by taking noise away step by step (arXiv:2009.09761).

Run: python egs/diffwave_in_one_file.py --clip speech.wav --output again.wav
Shapes: B items of N samples, C channels, frames = N / HOP_LENGTH. Symbols are the paper's:
    x_0, x_t, x_T        a waveform, the same under the noise of t steps, and after all T: noise alone
    beta_t, alpha_bar_t  variance of the noise that step t adds, and share of the waveform's power left after it
"""

import argparse
from pathlib import Path

import soundfile as sf
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import bandpass_biquad, melscale_fbanks, resample

SAMPLE_RATE, N_FFT, HOP_LENGTH, N_MELS, T = 22050, 1024, 256, 80, 50
beta = F.pad(torch.linspace(1e-4, 0.05, T, dtype=torch.float64), (1, 0))  # (T + 1,) from t = 0, the clean waveform
alpha_bar = torch.cumprod(1 - beta, dim=0)  # (T + 1,) eq. 4; float64, because 1 - alpha_bar cancels
fast_eta = torch.tensor([0, 0.0001, 0.001, 0.01, 0.05, 0.2, 0.5], dtype=torch.float64)  # (S + 1,) appendix B


def align(eta: Tensor) -> Tensor:
    """Appendix B: the steps t (S + 1,) of training, also between whole ones, that are as noisy as those of eta."""
    root, sought = alpha_bar.sqrt(), torch.cumprod(1 - eta, dim=0).sqrt()  # (T + 1,) and (S + 1,), of gamma_bar
    t = (root >= sought[:, None]).sum(dim=1).clamp(max=T) - 1  # (S + 1,) root[t] >= sought > root[t + 1]
    return t + (root[t] - sought) / (root[t] - root[t + 1])  # t_s^align


def encode_steps(step: Tensor) -> Tensor:
    """Eq. 8: steps (B,) counted from 0 -> sines and cosines (B, 128)."""
    frequency = (10 ** (4 * torch.arange(64) / 63).double()).float()  # (64,)
    phases = torch.stack([step.floor(), step.floor() + 1]).float()[..., None] * frequency  # (2, B, 64)
    low, high = torch.cat([phases.sin(), phases.cos()], dim=2)  # (B, 128) each, at the whole steps on either side:
    return torch.lerp(low, high, step.frac().float()[:, None])  # between them the fast ones would mean nothing


class ResidualLayer(nn.Module):
    """Gated dilated convolution that is told the step and the mel; figure 2 (a)."""

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
        return (x + residual) / 2**0.5, skip


class DiffWave(nn.Module):
    """eps_theta: x_t (B, N), t (B,), mel (B, N_MELS, frames) -> estimate of eps, the noise in x_t (B, N); section 3."""

    def __init__(self, channels: int = 32, layers: int = 8) -> None:
        super().__init__()
        self.input_projection = nn.Conv1d(1, channels, 1)
        self.step_embedding = nn.Sequential(nn.Linear(128, 512), nn.SiLU(), nn.Linear(512, 512), nn.SiLU())
        self.upsampler = nn.ModuleList(nn.ConvTranspose2d(1, 1, (3, 32), (1, 16), padding=(1, 8)) for _ in range(2))
        self.layers = nn.ModuleList(ResidualLayer(channels, 2 ** (index % 10)) for index in range(layers))
        self.skip_projection = nn.Conv1d(channels, channels, 1)
        self.output_projection = nn.Conv1d(channels, 1, 1)
        for conv in (module for module in self.modules() if isinstance(module, nn.Conv1d)):
            nn.init.kaiming_normal_(conv.weight)
        for kernel in (parameter for parameter in self.upsampler.parameters() if parameter.ndim == 4):
            nn.init.constant_(kernel, 1 / 6)  # to begin with, the mean over 3 bands and 2 frames
        nn.init.zeros_(self.output_projection.weight)  # it starts by estimating no noise: a loss of about 1

    def forward(self, x_t: Tensor, t: Tensor, mel: Tensor) -> Tensor:
        step = self.step_embedding(encode_steps(t - 1))  # (B, 512)
        for layer in self.upsampler:  # over bands and time, up to the sample rate: 16 x 16 = HOP_LENGTH
            mel = F.leaky_relu(layer(mel.unsqueeze(1)), 0.4).squeeze(1)  # (B, N_MELS, 16 frames), (B, N_MELS, N)
        x, skips = F.relu(self.input_projection(x_t.unsqueeze(1))), []  # (B, C, N)
        for layer in self.layers:
            x, skip = layer(x, step, mel)
            skips.append(skip)
        return self.output_projection(F.relu(self.skip_projection(sum(skips) / len(skips) ** 0.5))).squeeze(1)


def noise_loss(network: nn.Module, x_0: Tensor, mel: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """Algorithm 1, eq. 7: waveforms (B, N), mel (B, N_MELS, frames), steps t (B,) of 1 ... T, noise (B, N) -> ()."""
    x_t = (alpha_bar[t, None].sqrt() * x_0 + (1 - alpha_bar[t, None]).sqrt() * eps).float()  # (B, N) t steps in one
    return (eps - network(x_t, t.double(), mel)).square().mean()


@torch.inference_mode()
def sample(network: nn.Module, mel: Tensor, eta: Tensor) -> Tensor:
    """Algorithm 2: mel (B, N_MELS, frames) -> waveform (B, N). eta (S + 1,) is beta or, appendix B, a shorter one."""
    gamma_bar, t = torch.cumprod(1 - eta, dim=0), align(eta)  # (S + 1,) each; alpha_bar and 0 ... T if eta is beta
    x = torch.randn(len(mel), mel.shape[2] * HOP_LENGTH)  # (B, N) x_T
    for s in range(len(eta) - 1, 0, -1):
        eps = network(x, t[s].expand(len(x)), mel)  # (B, N)
        x = (x - eta[s] / (1 - gamma_bar[s]).sqrt() * eps) / (1 - eta[s]).sqrt()  # eq. 5
        x = x + ((1 - gamma_bar[s - 1]) / (1 - gamma_bar[s]) * eta[s]).sqrt() * torch.randn_like(x)  # eq. 4; 0 at s = 1
    return x.clamp(-1, 1)  # only now: x_t is not bound to [-1, 1]


def mel_spectrogram(waveform: Tensor) -> Tensor:
    """Waveform (B, N) -> log-mel (B, N_MELS, frames), HiFi-GAN's scaled to the unit size that a network likes."""
    padded = F.pad(waveform, ((N_FFT - HOP_LENGTH) // 2,) * 2, mode="reflect")  # each frame amid its hop
    spectrum = torch.stft(padded, N_FFT, HOP_LENGTH, window=torch.hann_window(N_FFT), center=False, return_complex=True)
    bands = melscale_fbanks(N_FFT // 2 + 1, 0.0, 8000.0, N_MELS, SAMPLE_RATE, "slaney", "slaney")  # (513, N_MELS)
    return 0.4 * (bands.T @ (spectrum.abs().square() + 1e-9).sqrt()).clamp(min=1e-5).log() + 2


def made_up_voice() -> tuple[Tensor, int]:
    """A buzz that glides up an octave and down, through the resonances of a mouth, and breath: (N, 1), sample rate."""
    pitch = 165 - 55 * torch.cos(torch.linspace(0, 2 * torch.pi, 2 * SAMPLE_RATE))  # (N,) Hz
    buzz = 2 * (pitch.double().cumsum(dim=0) / SAMPLE_RATE).frac().float() - 1  # (N,) sawtooth
    vowel = sum(bandpass_biquad(buzz, SAMPLE_RATE, formant, Q=8.0) for formant in (730, 1090, 2440))  # (N,) [a]
    return (vowel + 0.003 * torch.randn(len(buzz)))[:, None], SAMPLE_RATE


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train DiffWave on one clip for a minute, then make the clip again.")
    parser.add_argument("--clip", type=Path, help="audio file of speech, 2 s are used; default: a made-up voice")
    parser.add_argument("--steps", type=int, default=300, help="of training; default: 300")
    parser.add_argument("--seed", type=int, default=0, help="decides weights and noise; default: 0")
    parser.add_argument("--output", type=Path, default=Path("diffwave.wav"), help="WAV file; default: diffwave.wav")
    args = parser.parse_args()
    outputs = args.output, args.output.with_stem(f"{args.output.stem}_fast")
    if any(path.exists() for path in outputs):
        parser.error(f"{outputs[0]} or {outputs[1]} already exists; name another file (--output)")
    torch.manual_seed(args.seed)

    samples, rate = sf.read(args.clip, dtype="float32", always_2d=True) if args.clip else made_up_voice()
    waveform = resample(torch.as_tensor(samples).mean(dim=1), rate, SAMPLE_RATE)[: 2 * SAMPLE_RATE]  # (N,)
    mel = mel_spectrogram(waveform[None])  # (1, N_MELS, frames)
    segments = waveform.unfold(0, 4 * HOP_LENGTH, HOP_LENGTH)  # (places, N) all stretches of 4 frames
    mels = mel[0].unfold(1, 4, 1).transpose(0, 1)  # (places, N_MELS, 4)
    network = DiffWave()
    optimizer, losses = torch.optim.Adam(network.parameters(), lr=4e-3), []
    for step in range(args.steps):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - step / args.steps)
        at, t = torch.randint(len(mels), (16,)), torch.randint(1, T + 1, (16,))  # (B,) each
        loss = noise_loss(network, segments[at], mels[at], t, torch.randn_like(segments[at]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % (every := max(1, args.steps // 10)) == 0:
            print(f"step {step + 1:4d}  loss {sum(losses[-every:]) / every:.4f}", flush=True)
    for path, eta in zip(outputs, (beta, fast_eta), strict=True):
        speech = sample(network, mel, eta)  # (1, N)
        sf.write(path, speech[0].numpy(), SAMPLE_RATE, format="WAV")
        print(f"{path}: {len(eta) - 1} steps, mel off by {(mel_spectrogram(speech) - mel).abs().mean():.2f}")

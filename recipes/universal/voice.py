"""A vocoder that starts from a voice: trains the network that reads the pitch off mels, and puts it into a model file.

python recipes/universal/voice.py data/ljspeech/train.jsonl data/voices/train.jsonl --layers 8 -o runs/voice.safetensors
"""

import argparse
import dataclasses
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

import wavediff
from wavediff.audio import read_audio, resample
from wavediff.data.manifest import read_manifest
from wavediff.mel import MelSpec, MelTransform, pseudo_inverse
from wavediff.mel.pitch_net import AHEAD, LOW_BINS, PAST, PITCHES, PitchNet, pitch_class
from wavediff.metrics.pitch import pitch_track
from wavediff.models.checkpoint import save_checkpoint
from wavediff.models.config import build_denoiser

TRACK_RATE = 100.0  # frames a second of `pitch_track`
DIALECTS = 3 * ["hifigan"] + ["vocos-24k", "bigvgan-24k", "espnet", "coqui-default", "lmnt-diffwave", "speecht5"]
FRAMES, BATCH = 128, 32
START_TIME = 0.2
VALIDATION = 60  # clips, the last ones
Clip = tuple[Tensor, Tensor]  # log magnitudes (frames, LOW_BINS) and pitch [bins] (frames,), 0 where unvoiced


def main() -> None:
    """Tracks of pitch, training, a model file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--model", default="bundled", help="vocoder whose weights are kept")
    parser.add_argument("--layers", type=int, help="blocks of the network; those it gains do nothing at first")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--tracks", type=Path, default=Path("runs/pitch_tracks.npz"), help="kept between two runs")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(0)
    paths = [utterance.path for manifest in args.manifests for utterance in read_manifest(manifest)]
    clips = told(tracks(paths, args.tracks), random.Random(0))  # noqa: S311
    model = wavediff.Vocoder.from_pretrained(None if args.model == "bundled" else args.model, device="cpu")
    put_in(model, trained(clips, args.steps), args.layers, args.output)


def tracks(paths: list[Path], cache: Path) -> dict[Path, np.ndarray]:
    """Pitch [Hz] every 10 ms, 0 where unvoiced: an hour of speech takes six minutes of one core."""
    known = dict(np.load(cache)) if cache.exists() else {}
    for path in tqdm([path for path in paths if str(path) not in known], desc="pitch", unit="clip"):
        waveform, sample_rate = read_audio(path)
        f0, voiced = pitch_track(waveform.reshape(-1), sample_rate)
        known[str(path)] = np.where(voiced, np.nan_to_num(f0), 0.0).astype(np.float32)
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, **known)
    return {path: known[str(path)] for path in paths}


def told(pitches: dict[Path, np.ndarray], rng: random.Random) -> list[Clip]:
    """Each clip twice, in a drawn dialect; the second time at a drawn speed, which moves the pitch."""
    transforms = {name: MelTransform(MelSpec.preset(name)) for name in set(DIALECTS)}
    clips = []
    for again in (False, True):
        for path, track in tqdm(pitches.items(), desc="mels", unit="clip"):
            transform = transforms[rng.choice(DIALECTS)]
            spec, speed = transform.spec, rng.uniform(0.85, 1.2) if again else 1.0
            rate = round(spec.sample_rate / speed / 50) * 50
            waveform, sample_rate = read_audio(path)
            level = 10 ** (rng.uniform(-20, 3) / 20)
            mel = transform(level * resample(waveform.reshape(1, -1), sample_rate, rate))
            low = pseudo_inverse(mel, spec, iterations=20)[0].T[:, 1 : LOW_BINS + 1].log()
            centre = spec.hop_length / 2 if spec.framing == "same" else 0.0
            times = (np.arange(len(low)) * spec.hop_length + centre) / rate
            clips.append((low, torch.from_numpy(_at(track, times)) * (spec.n_fft / rate)))
    return clips


def _at(track: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Between two like values of a track the mean by distance, else the nearer one."""
    position = times * TRACK_RATE
    before = np.clip(position.astype(int), 0, len(track) - 1)
    low, high, share = track[before], track[np.clip(before + 1, 0, len(track) - 1)], position - before
    alike = (low > 0) & (high > 0) & (np.abs(np.log(np.maximum(low, 1) / np.maximum(high, 1))) < 0.1)
    return np.where(alike, (1 - share) * low + share * high, np.where(share < 0.5, low, high)).astype(np.float32)


def trained(clips: list[Clip], steps: int) -> PitchNet:
    """Cross-entropy of blurred classes where there is a voice, and of the voicing."""
    clips = [clip for clip in clips if len(clip[0]) >= FRAMES]
    train, valid = clips[:-VALIDATION], clips[-VALIDATION:]
    weights, net = torch.tensor([float(len(low)) for low, _ in train]), PitchNet()
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, (0.9, 0.99), weight_decay=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    progress = tqdm(range(steps), desc="training", unit="step")
    for step in progress:
        low, pitch = _cut([train[index] for index in weights.multinomial(BATCH, replacement=True)])
        loss = _loss(net, _varied(low), pitch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 250 == 0 or step == steps - 1:
            progress.write(f"step {step}: {_judged(net, *_cut(valid))}")
    return net


def _cut(clips: list[Clip]) -> Clip:
    starts = [int(torch.randint(len(low) - FRAMES + 1, ())) for low, _ in clips]
    cut = [(low[at : at + FRAMES], pitch[at : at + FRAMES]) for at, (low, pitch) in zip(starts, clips, strict=True)]
    return torch.stack([low for low, _ in cut]), torch.stack([pitch for _, pitch in cut])


def _varied(low: Tensor) -> Tensor:
    """Noise in half of the items, a blur over three frames in some: mels that a model has predicted look so."""
    strength = (torch.rand(len(low), 1, 1) - 0.5).clamp(min=0)
    low = low + strength * torch.randn_like(low)
    blurred = F.avg_pool1d(F.pad(low.transpose(1, 2), (1, 1), mode="replicate"), 3, 1).transpose(1, 2)
    return torch.where(torch.rand(len(low), 1, 1) < 0.3, blurred, low)


def _magnitude(low: Tensor) -> Tensor:
    return F.pad(low, (1, 0)).exp()  # the bin at 0 Hz, at which the network does not look


def _loss(net: PitchNet, low: Tensor, pitch: Tensor) -> Tensor:
    scores, voicing = net.scores(_magnitude(low))
    pitch = pitch[:, PAST : FRAMES - AHEAD]
    voiced = pitch > 0
    target = torch.exp(-0.5 * ((torch.arange(PITCHES) - pitch_class(pitch)[..., None]) / 1.2) ** 2)
    target = target / target.sum(-1, keepdim=True).clamp(min=1e-6)
    entropy = -(target * scores.log_softmax(-1)).sum(-1)
    return (entropy * voiced).sum() / voiced.sum() + F.binary_cross_entropy_with_logits(voicing, voiced.float())


@torch.no_grad()
def _judged(net: PitchNet, low: Tensor, pitch: Tensor) -> str:
    found, voicing = net.inner(_magnitude(low))
    pitch = pitch[:, PAST : FRAMES - AHEAD]
    voiced, said = pitch > 0, voicing > 0.5
    cents = 1200 * torch.log2(found[voiced & said] / pitch[voiced & said]).abs()
    near = cents < 50
    return (
        f"voicing wrong in {(voiced != said).float().mean():.1%} of the frames, pitch in {(~near).float().mean():.1%} "
        f"by more than 50 cents, in the others by {cents[near].mean():.1f}"
    )


def put_in(model: wavediff.Vocoder, net: PitchNet, layers: int | None, path: Path) -> None:
    """A model file of a vocoder that starts from a voice, with as many blocks more as are asked for."""
    config, weights = model.config, model.denoiser.state_dict()
    backbone = config.backbone
    more = 0 if layers is None else layers - backbone.layers
    backbone = dataclasses.replace(backbone, layers=backbone.layers + more, causal_layers=backbone.causal_layers + more)
    # More noise than for eighty iterations covers what a voice gets wrong. Consistency would delay by 46 ms more.
    prior = dataclasses.replace(config.prior, harmonic=True, phase_iterations=0, start_time=START_TIME, consistency=0.0)
    config = dataclasses.replace(config, backbone=backbone, prior=prior, plans=())
    denoiser = build_denoiser(config)
    for block in denoiser.backbone.blocks[backbone.layers - more :]:
        torch.nn.init.zeros_(block.contract.weight)
        torch.nn.init.zeros_(block.contract.bias)
    denoiser.load_state_dict(weights, strict=False)
    denoiser.prior.pitch.load_state_dict(net.state_dict())
    save_checkpoint(path, config, denoiser.state_dict(), model.facts, half=True, overwrite=True)


if __name__ == "__main__":
    main()

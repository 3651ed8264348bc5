"""Train the band extension: how loud the bands above 10 kHz are, from those below. Minutes on one core.

Run: python recipes/sfx/band.py data/sfx44-families/train.jsonl data/sfx44-families/valid.jsonl -o runs/band.safetensors

The manifests: `wavediff prepare classes ROOT -o data/sfx44-families --families`. Each clip of 44.1 kHz or more is seen
as it is, faster and slower, and as the autoencoder of the bundled generator gives it back, because the sounds that are
to be extended come out of that: what is to be predicted are the bands of the recording each time.
"""

import argparse
import datetime
import math
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wavediff import Generator
from wavediff.audio import read_audio, resample, with_peak
from wavediff.backbones.bands import LOW, BandConfig, BandNet
from wavediff.metrics.clip_sets import labelled_clips
from wavediff.pipelines.autoencoder import Autoencoder
from wavediff.pipelines.extension import RANGE, BandExtension, bands, decades

SPEEDS = (0.93, 1.0, 1.07)
SEGMENT, BATCH = 128, 48  # frames, segments


class Example(NamedTuple):
    """A clip: levels (LOW, frames) that the network is shown, and those (HIGH, frames) that it is to find."""

    low: Tensor
    high: Tensor
    label: str


def examples(manifest: Path, extension: BandExtension, autoencoder: Autoencoder | None) -> list[Example]:
    """Of each clip, at each speed, and through the autoencoder."""
    found = []
    for path, label in labelled_clips(manifest):
        clip, rate = read_audio(path)
        if rate < extension.sample_rate:
            continue
        for speed in SPEEDS if autoencoder is not None else (1.0,):
            faster = resample(clip, round(rate * speed), rate)
            real = with_peak(resample(faster, rate, extension.sample_rate))[None]
            real = pad(real, (0, -real.shape[1] % 2048))  # a mel needs some samples
            low = resample(real, extension.sample_rate, extension.source_rate)
            found.append(_example(extension, real, low, low, label))
            if autoencoder is not None:
                heard = autoencoder.decode(autoencoder.encode(low), [len(found)])[:, : low.shape[1]]
                found.append(_example(extension, real, low, heard, label))
    return found


def _example(extension: BandExtension, real: Tensor, low: Tensor, shown: Tensor, label: str) -> Example:
    def powers(waveform: Tensor) -> Tensor:  # (1, frames, bins)
        return extension.stft.analysis(waveform).abs().square()

    rates = extension.source_rate, extension.sample_rate
    levels, loudest = extension.levels(powers(resample(shown, *rates)))
    whole, kept = (bands(powers(waveform))[..., LOW:] for waveform in (real, resample(low, *rates)))
    missing = (whole - kept).clamp(min=0).transpose(1, 2)  # what the resampler's roll-off leaves is not to be doubled
    return Example(levels[0], decades(missing, loudest)[0], label)


def loss_of(network: nn.Module, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Error [dB] in frames that are not silent; and of the energies of segments in each band, by Itakura and Saito.

    The absolute error alone finds medians of the levels, which lie 2 dB below their means. Of the energies of all bands
    together one band alone would make up for the others.
    """
    found = network(low)
    audible = (low.amax(1, keepdim=True) > RANGE - 7).expand_as(high)
    error = 10 * (found - high).abs()[audible].mean()
    real, ours = (torch.logsumexp(levels * math.log(10), 2) for levels in (high, found))
    excess = (real - ours).clamp(max=3)
    return error, 10 / math.log(10) * (torch.expm1(excess) - excess).mean()  # E/E' - ln(E/E') - 1


def segments(sounds: list[Example], chosen: list[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A piece of each chosen example, begun up to half a piece before it; silence around it."""
    pieces: tuple[list[Tensor], list[Tensor]] = ([], [])
    for index in chosen:
        low, high, _ = sounds[index]
        most = max(low.shape[1] - SEGMENT // 2, 1)
        start = int(torch.randint(most + SEGMENT // 2, (), generator=generator)) - SEGMENT // 2
        for kept, levels in zip(pieces, (low, high), strict=True):
            part = levels[:, max(start, 0) : start + SEGMENT]
            before = max(-start, 0)
            kept.append(pad(part, (before, SEGMENT - before - part.shape[1])))
    return torch.stack(pieces[0]), torch.stack(pieces[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="manifest")
    parser.add_argument("valid", type=Path, help="manifest")
    parser.add_argument("-o", "--output", type=Path, required=True, help="model file")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--channels", type=int, default=48)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--energy", type=float, default=0.5, help="weight of the energies of whole segments")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    began = time.process_time()
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    network = BandNet(BandConfig(channels=args.channels))
    extension = BandExtension(network)
    train = examples(args.train, extension, Generator.from_pretrained(device="cpu").autoencoder)
    valid = examples(args.valid, extension, None)
    print(f"{len(train)} and {len(valid)} examples, {time.process_time() - began:.0f} s", flush=True)
    counts = Counter(example.label for example in train)
    # Long clips hold more, small classes count for more than their share.
    weight = torch.tensor([e.low.shape[1] ** 0.5 * counts[e.label] ** -0.5 for e in train])
    network.train().requires_grad_(True)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.995))
    optimizer = torch.optim.AdamW(network.parameters(), args.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.learning_rate, args.steps, pct_start=0.05)
    for step in range(1, args.steps + 1):
        chosen = torch.multinomial(weight, BATCH, replacement=True, generator=generator).tolist()
        low, high = segments(train, chosen, generator)
        # The level of the loudest band, which all are counted from, is a matter of chance.
        shift = 0.3 * torch.randn(BATCH, 1, 1, generator=generator)
        error, energy = loss_of(network, (low + shift).clamp(min=0), (high + shift).clamp(min=0))
        optimizer.zero_grad()
        (error + args.energy * energy).backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        if step % 250 == 0:
            with torch.no_grad():
                losses = [loss_of(average, e.low[None], e.high[None]) for e in valid]
            mean = torch.tensor(losses).nanmean(0).tolist()
            print(
                f"step {step}: training {error:.2f}, {energy:.2f} dB; validation {mean[0]:.2f}, {mean[1]:.2f} dB",
                flush=True,
            )
    minutes = (time.process_time() - began) / 60
    extension.network.load_state_dict(average.module.state_dict())
    extension.facts = {
        "steps": args.steps,
        "batch": {"size": BATCH, "frames": SEGMENT},
        "date": f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}",
        "minutes": round(minutes, 1),
        "clips": len(train) // (2 * len(SPEEDS)),
        "seed": args.seed,
        "license": "apache-2.0",
    }
    extension.save(args.output, half=True, overwrite=True)


if __name__ == "__main__":
    main()

"""Whether a GPU computes what the tests promise without one, and how fast: for a machine that is lent for minutes.

Prints a line for each check ("right" or "WRONG") and for each timing: seconds of a decode, seconds of speech made in
one, launches. Then come the tests that need a GPU, and the tables of `wavediff bench`. All of it ends after --minutes.

Run: python recipes/gpu.py | tee gpu.txt
"""

import argparse
import functools
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

import wavediff
from wavediff.backbones import DiffWaveConfig
from wavediff.bench.machine import alternate
from wavediff.bench.scaling import example_mel
from wavediff.diffusion import DiscreteSchedule
from wavediff.engine.graphed_walk import MAX_GRAPHS
from wavediff.models.config import ModelConfig, build_denoiser

GUESSED = 3e-2  # of the speech's rms: Griffin-Lim makes much of last bits
ITEMS = 32
TESTS = ["tests/test_triton.py", "tests/test_graphs.py", "-m", "not slow"]
BENCHES = [["--against", "itself", "--lengths", "1", "10", "60", "--batches", "1", "8", "32"], []]


def base(config: DiffWaveConfig = DiffWaveConfig()) -> wavediff.Vocoder:  # noqa: B008  frozen
    """An untrained DiffWave whose output depends on all its weights."""
    torch.manual_seed(0)
    mel = wavediff.MelSpec.preset("hifigan")
    model = ModelConfig(config, DiscreteSchedule(), "eps", mel=mel, sample_rate=mel.sample_rate)
    denoiser = build_denoiser(model).eval().requires_grad_(False)
    nn.init.normal_(denoiser.backbone.output_projection.weight, std=0.1)  # type: ignore[union-attr,arg-type]
    return wavediff.Vocoder(model, denoiser)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Root mean square of the difference, over that of `theirs`."""
    return float((ours - theirs).square().mean().sqrt() / theirs.square().mean().sqrt())


def ways(vocoder: wavediff.Vocoder, device: str) -> dict[str, wavediff.Vocoder]:
    """The same model as it can be run: bfloat16 concerns DiffWave alone."""
    found = {"plain": (torch.float32, False), "fused": (torch.float32, True)}
    if isinstance(vocoder.config.backbone, DiffWaveConfig):
        found["fused bf16"] = (torch.bfloat16, True)
    return {
        name: wavediff.Vocoder(vocoder.config, vocoder.denoiser).to(device, *way)  # on the same weights
        for name, way in found.items()
    }


def checks(name: str, vocoder: wavediff.Vocoder, device: str, tolerance: float) -> Iterator[str]:
    """Every way gives the speech of the plain one: at lengths that come back, and of items of unlike lengths."""
    modes = ways(vocoder, device)
    plain = modes.pop("plain")
    for way, fused in modes.items():
        allowed = max(tolerance, 2e-2) if "bf16" in way else tolerance
        for frames, lengths in ((20, None), (100, None), (20, None), (100, [100, 57])):
            mel = example_mel(plain, frames).expand(2, -1, -1)
            ours, theirs = (each.decode(mel, lengths=lengths, seed=[1, 2]) for each in (fused, plain))
            found = difference(ours, theirs)
            verdict = "right" if found <= allowed else "WRONG"
            yield f"{verdict}  {name}, {way}, {frames} frames, lengths {lengths}: differs by {found:.2g} of the rms"
    torch.randn(3, device=device)  # captures have left the generator of the device as it was
    yield f"right  {name}: noise after captures"


def timings(name: str, vocoder: wavediff.Vocoder, device: str, seconds: float, repeats: int) -> Iterator[str]:
    """Alone, as a batch, and as a batch of unlike lengths."""
    frames = round(seconds * vocoder.sample_rate / vocoder.hop_length)
    mel = example_mel(vocoder, frames).to(device)
    tasks: dict[str, list[int]] = {
        "alone": [frames],
        "batch": [frames] * ITEMS,
        "unlike lengths": [frames - frames * item // (2 * ITEMS) for item in range(ITEMS)],
    }
    for what, lengths in tasks.items():
        given = lengths if min(lengths) < frames else None
        batch = mel.expand(len(lengths), -1, -1)
        contenders = {
            way: functools.partial(each.decode, batch, lengths=given) for way, each in ways(vocoder, device).items()
        }
        made = sum(lengths) * vocoder.hop_length / vocoder.sample_rate
        for row in alternate(contenders, repeats, made, torch.device(device)):
            speed = f"{row.median:.4f} s, {made / row.median:.0f} s of speech a second, {row.launches} launches"
            yield f"{name}, {row.name}, {what}: {speed}"


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=5.0, help="of speech that is timed")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=8.0)
    args = parser.parse_args()
    end = time.monotonic() + 60 * args.minutes
    print(torch.cuda.get_device_name(args.device), torch.__version__, f"{MAX_GRAPHS} graphs at most", flush=True)
    models = {"bundled": wavediff.Vocoder.from_pretrained(device=args.device), "BASE": base()}
    for name, vocoder in models.items():
        for line in checks(name, vocoder, args.device, GUESSED if name == "bundled" else 1e-4):
            print(line, flush=True)
    for name, vocoder in models.items():
        for line in timings(name, vocoder, args.device, args.seconds, args.repeats):
            print(line, flush=True)
            if time.monotonic() > end:
                return
    root = Path(__file__).resolve().parent.parent
    commands = [["-m", "pytest", "-q", *TESTS]]
    commands += [["-m", "wavediff.cli.main", "bench", "--quiet", "--device", args.device, *bench] for bench in BENCHES]
    for command in commands:
        print("$ python", *command, flush=True)
        try:
            subprocess.run([sys.executable, *command], cwd=root, timeout=max(end - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            print("no time is left")
            return


if __name__ == "__main__":
    main()

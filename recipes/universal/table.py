"""The recipes' table: Griffin-Lim and a vocoder at several numbers of steps, on the recordings of a manifest.

python recipes/universal/table.py data/ljspeech/test.jsonl --checkpoint runs/universal/best.safetensors
"""

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

import wavediff
from wavediff.audio import read_audio
from wavediff.data.manifest import read_manifest
from wavediff.mel.griffin_lim import griffin_lim
from wavediff.metrics import evaluate_pair, summarise

METRICS = ("pesq", "stoi", "mr_stft", "log_mel_l1", "mcd", "f0_rmse", "voicing_error", "noise_floor", "dc_offset")


def main() -> None:
    """Synthesise, compare, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="JSONL of recordings that were not trained on")
    parser.add_argument("--checkpoint", type=Path, help="model file (default: the bundled model)")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 6, 12], help="network evaluations")
    parser.add_argument("--sampler", help="instead of the plans that a search has stored in the model, such as ddim")
    parser.add_argument("--seed", type=int, default=0, help="decides the noise")
    args = parser.parse_args()

    vocoder = wavediff.Vocoder.from_pretrained(args.checkpoint)
    systems: dict[str, Callable[[Tensor], Tensor]] = {
        "Griffin-Lim, 60 iterations": lambda mel: griffin_lim(mel, vocoder.mel_spec)
    }
    for steps in args.steps:
        systems[f"wavediff, {steps}"] = functools.partial(
            vocoder.decode, num_steps=steps, sampler=args.sampler, seed=args.seed
        )
    utterances = read_manifest(args.manifest)
    print(f"| system | {' | '.join(METRICS)} | real-time factor |\n|{'---|' * (len(METRICS) + 2)}")
    for name, synthesise in systems.items():
        rows, elapsed, seconds = [], 0.0, 0.0
        for utterance in tqdm(utterances, desc=name, unit="clip", leave=False):
            reference, rate = read_audio(utterance.path, vocoder.sample_rate)
            mel = vocoder.mel(reference, rate)
            synthesise(mel[..., :50])  # untimed: the first call of a length sets things up
            start = time.perf_counter()
            speech = synthesise(mel)[0]
            elapsed += time.perf_counter() - start
            seconds += len(speech) / rate
            rows.append(evaluate_pair(reference, speech.cpu(), rate, METRICS))
        means = [summary.mean for summary in summarise(rows).values()]
        cells = " | ".join("" if mean is None else f"{mean:.4g}" for mean in means)
        print(f"| {name} | {cells} | {elapsed / seconds:.3f} |", flush=True)


if __name__ == "__main__":
    main()

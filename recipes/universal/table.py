"""The recipes' table: the recordings of a manifest, Griffin-Lim and a vocoder at several numbers of steps.

python recipes/universal/table.py data/ljspeech/test.jsonl --checkpoint runs/universal/best.safetensors
"""

import argparse
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

import wavediff
from wavediff.audio import read_audio
from wavediff.data.manifest import read_manifest
from wavediff.mel.griffin_lim import griffin_lim
from wavediff.metrics import METRICS, evaluate_pair, evaluate_signal, summarise

COLUMNS = {
    "pesq": "PESQ",
    "visqol": "ViSQOL",
    "distillmos": "DistillMOS",
    "dnsmos": "DNSMOS P.808",
    "stoi": "STOI",
    "mr_stft": "MR-STFT",
    "log_mel_l1": "log-mel L1",
    "mcd": "MCD [dB]",
    "f0_rmse": "F0 [cents]",
    "voicing_error": "voicing [%]",
    "high_band_voiced": "above 8 kHz, voiced [dB]",
    "high_band_unvoiced": "above 8 kHz, unvoiced [dB]",
    "noise_floor": "noise floor [dBFS]",
    "dc_offset": "DC offset",
}


def main() -> None:
    """Synthesise, compare, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="JSONL of recordings that were not trained on")
    parser.add_argument("--checkpoint", type=Path, help="model file (default: the bundled model)")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 6, 12], help="network evaluations")
    parser.add_argument("--sampler", help="instead of the plans that a search has stored in the model, such as ddim")
    parser.add_argument("--mel-spec", metavar="NAME", help="dialect of the mels (default: the model's own)")
    parser.add_argument("--low-latency", action="store_true", help="the speech of streams with low latency")
    parser.add_argument("--no-griffin-lim", action="store_true", help="leave Griffin-Lim out")
    parser.add_argument("--seed", type=int, default=0, help="decides the noise")
    args = parser.parse_args()

    vocoder = wavediff.Vocoder.from_pretrained(args.checkpoint).for_mels(args.mel_spec)
    names = [name for name in COLUMNS if vocoder.sample_rate >= METRICS[name].lowest_rate]
    alone = [name for name in names if METRICS[name].alone and name != "dc_offset"]
    systems: dict[str, Callable[[Tensor], Tensor]] = {}
    if not args.no_griffin_lim:
        systems["Griffin-Lim, 60 iterations"] = lambda mel: griffin_lim(mel, vocoder.mel_spec)
    for steps in args.steps:
        systems[f"wavediff, {steps}"] = functools.partial(
            vocoder.decode,
            num_steps=steps,
            sampler=args.sampler,
            seed=args.seed,
            mel_spec=vocoder.mel_spec,
            low_latency=args.low_latency,
        )
    utterances = read_manifest(args.manifest)
    print(
        f"| system | {' | '.join(COLUMNS[name] for name in names)} | real-time factor |\n|{'---|' * (len(names) + 2)}"
    )
    scores = [evaluate_signal(*read_audio(utterance.path, vocoder.sample_rate), alone) for utterance in utterances]
    _print_row("recordings", names, scores, "")
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
            rows.append(evaluate_pair(reference, speech.cpu(), rate, names))
        _print_row(name, names, rows, f"{elapsed / seconds:.3f}")


def _print_row(system: str, names: Sequence[str], rows: Sequence[Mapping[str, float | None]], factor: str) -> None:
    means = {name: summary.mean for name, summary in summarise(rows).items()}
    cells = ["" if (mean := means.get(name)) is None else f"{mean:.4g}" for name in names]
    print(f"| {system} | {' | '.join(cells)} | {factor} |", flush=True)


if __name__ == "__main__":
    main()

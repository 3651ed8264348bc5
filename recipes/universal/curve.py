"""Quality against evaluations on test clips, with the spread over seeds: searched plans, the default, and DDIM.

python recipes/universal/curve.py data/ljspeech/test.jsonl --checkpoint runs/universal/search --seeds 0 1 2

The checkpoint is one that `wavediff search` has written; the other systems are what its model does without the search:
the default for that number of evaluations, DDIM on the same grid, and published schedules of that length.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from tqdm import tqdm

import wavediff
from wavediff.audio import read_audio
from wavediff.cli.progress import number
from wavediff.data.manifest import read_manifest
from wavediff.diffusion import ItemNoise, Plan
from wavediff.metrics import evaluate_pair, summarise
from wavediff.models.sampling import begin, follow
from wavediff.search.budget import reference_plans

METRICS = ("pesq", "stoi", "mr_stft", "log_mel_l1")


def main() -> None:
    """Vocode along each plan, compare, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="JSONL of recordings that were neither trained nor searched on")
    parser.add_argument("--checkpoint", type=Path, help="model file with plans (default: the bundled model)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the noise")
    parser.add_argument("--steps", type=int, nargs="+", help="network evaluations (default: all that were searched)")
    args = parser.parse_args()

    vocoder = wavediff.Vocoder.from_pretrained(args.checkpoint)
    systems: dict[tuple[int, str], Plan] = {}
    for evaluations, plan in vocoder.config.plans:
        if args.steps is None or evaluations in args.steps:
            systems[evaluations, "searched"] = plan
            for name, reference in reference_plans(vocoder, evaluations).items():
                systems[evaluations, name] = reference
    if not systems:
        parser.error(f"{args.checkpoint}: knows no plans; search first")
    # of each system and seed: the figures of all clips
    figures: dict[tuple[int, str], dict[int, list[dict[str, float | None]]]] = defaultdict(lambda: defaultdict(list))
    for utterance in tqdm(read_manifest(args.manifest), unit="clip"):
        reference, rate = read_audio(utterance.path, vocoder.sample_rate)
        mel = vocoder.mel(reference, rate)
        for seed in args.seeds:
            with torch.inference_mode():
                bound = vocoder.bind(mel)
                start = begin(bound, ItemNoise([seed], vocoder.device), mel.shape[-1] * vocoder.hop_length)
                done: dict[Plan, dict[str, float | None]] = {}
                for key, plan in systems.items():
                    if plan not in done:
                        speech = follow(bound, start, plan).clamp(-1, 1)[0].cpu()
                        done[plan] = evaluate_pair(reference, speech, rate, METRICS)
                    figures[key][seed].append(done[plan])
    print(f"| evaluations | steps | sampler | {' | '.join(METRICS)} |\n|{'---|' * (len(METRICS) + 3)}")
    for (evaluations, name), by_seed in figures.items():
        # The mean over the clips of each seed, then the mean and the spread over the seeds.
        seeds = [{metric: found.mean for metric, found in summarise(rows).items()} for rows in by_seed.values()]
        both = summarise(seeds).values()
        cells = [f"{number(found.mean)} ± {number(found.standard_deviation, digits=2)}" for found in both]
        print(f"| {evaluations} | {name} | {systems[evaluations, name].sampler} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

"""Which frequencies a vocoder loses naturalness in: its speech with bands of the recording put in the place of its own.

python recipes/universal/bands.py data/ljspeech/test.jsonl --clips 6
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import wavediff
from wavediff.audio import read_audio
from wavediff.data.manifest import read_manifest
from wavediff.metrics import distillmos, pesq

N_FFT, HOP = 1024, 128
EDGES = ((0, 1000), (1000, 2000), (2000, 4000), (4000, 12_000), (2000, 12_000))  # [Hz]


def spectrum(waveform: Tensor) -> Tensor:
    """(N,) -> (bins, frames)"""
    return torch.stft(waveform, N_FFT, HOP, window=torch.hann_window(N_FFT), return_complex=True)


def mixtures(recording: Tensor, speech: Tensor, sample_rate: int) -> dict[str, Tensor]:
    """Signals (N,) to be judged, by what is the recording's in them."""
    length = min(len(recording), len(speech))
    recording, speech = recording[:length], speech[:length]
    theirs, ours = spectrum(recording), spectrum(speech)
    frequencies = torch.arange(len(ours))[:, None] * sample_rate / N_FFT
    phase = torch.polar(torch.ones(()), ours.angle())
    found = {"nothing": speech, "everything": recording}
    for low, high in EDGES:
        inside = (low <= frequencies) & (frequencies < high)
        for name, band in (("", theirs), (", magnitudes alone", theirs.abs() * phase)):
            mixed = torch.where(inside, band, ours)
            found[f"{low} to {high} Hz{name}"] = torch.istft(
                mixed, N_FFT, HOP, window=torch.hann_window(N_FFT), length=length
            )
    return found


def main() -> None:
    """Synthesise, mix, judge, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="JSONL of recordings that were not trained on")
    parser.add_argument("--checkpoint", type=Path, help="model file (default: the bundled model)")
    parser.add_argument("--clips", type=int, help="the first of them (default: all)")
    args = parser.parse_args()

    vocoder = wavediff.Vocoder.from_pretrained(args.checkpoint)
    scores: dict[str, list[tuple[float | None, float | None]]] = {}
    for utterance in tqdm(read_manifest(args.manifest)[: args.clips], unit="clip", leave=False):
        recording, rate = read_audio(utterance.path, vocoder.sample_rate)
        speech = vocoder.decode(vocoder.mel(recording, rate), mel_spec=vocoder.mel_spec)[0].cpu()
        for name, signal in mixtures(recording, speech, rate).items():
            pair = recording[: len(signal)], signal, rate
            scores.setdefault(name, []).append((distillmos(*pair), pesq(*pair)))
    print("| of the recording | DistillMOS | PESQ |\n|---|---|---|")
    for name, rows in scores.items():
        means = torch.tensor(rows).mean(0).tolist()
        print(f"| {name} | {means[0]:.3f} | {means[1]:.3f} |")


if __name__ == "__main__":
    main()

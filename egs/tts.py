"""Text to speech, end to end: text -> acoustic model -> mel spectrogram -> wavediff -> waveform.

With --pretrained the acoustic model is torchaudio's Tacotron 2, trained on LJ Speech (110 MB, downloaded once). Without
it, espeak-ng stands in for one: it speaks the text, and of its speech only the mel is kept. That shows the way of a mel
through the vocoder, anywhere and at once; the voice is espeak-ng's, and no better than that.

Run: python egs/tts.py --text "The birch canoe slid on the smooth planks." --output tts
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor
from torchaudio.pipelines import TACOTRON2_GRIFFINLIM_CHAR_LJSPEECH as BUNDLE

import wavediff
from wavediff.audio import read_audio, write_audio
from wavediff.compat import TorchaudioVocoder
from wavediff.mel import MelTransform
from wavediff.report import save_spectrogram


def tacotron2(text: str) -> tuple[Tensor, Tensor]:
    """Text -> mel (1, 80, frames) in the dialect `tacotron2`, and its frames (1,)."""
    try:
        model = BUNDLE.get_tacotron2()
    except OSError as error:
        raise SystemExit(f"--pretrained: the model could not be downloaded ({error}); leave it out") from error
    with torch.inference_mode():
        tokens, lengths = BUNDLE.get_text_processor()(text)
        mel, mel_lengths, _ = model.infer(tokens, lengths)
    return mel, mel_lengths


def espeak(text: str, voice: str) -> tuple[Tensor, Tensor]:
    """The same from espeak-ng's speech."""
    spec = wavediff.MelSpec.preset("tacotron2")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "espeak.wav"
        try:
            subprocess.run(["espeak-ng", "-v", voice, "-w", path, "--stdin"], input=text, text=True, check=True)
        except FileNotFoundError as error:
            raise SystemExit("espeak-ng is missing; apt-get install espeak-ng, or pass --pretrained") from error
        waveform, _ = read_audio(path, spec.sample_rate)
    mel = MelTransform(spec)(waveform[None])
    return mel, torch.tensor([mel.shape[-1]])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", default="The birch canoe slid on the smooth planks.")
    parser.add_argument("--pretrained", action="store_true", help="torchaudio's Tacotron 2 (default: espeak-ng)")
    parser.add_argument("--voice", default="en-us", help="of espeak-ng (default en-us)")
    parser.add_argument("--num-steps", type=int, help="network evaluations (default: the model's own number)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="model file (default: the bundled vocoder)")
    parser.add_argument("--output", type=Path, default=Path("tts"))
    args = parser.parse_args(arguments)

    model = wavediff.Vocoder.from_pretrained(args.checkpoint)
    vocoder = TorchaudioVocoder(model, num_steps=args.num_steps, seed=args.seed)  # where bundle.get_vocoder() stood
    mel, lengths = tacotron2(args.text) if args.pretrained else espeak(args.text, args.voice)
    start = time.perf_counter()
    waveforms, samples = vocoder(mel, lengths)
    seconds, elapsed = int(samples[0]) / vocoder.sample_rate, time.perf_counter() - start
    speech = waveforms[0, : int(samples[0])].cpu()
    write_audio(args.output / "speech.wav", speech, vocoder.sample_rate, overwrite=True)
    save_spectrogram(args.output / "speech.png", {args.text: speech}, vocoder.sample_rate, overwrite=True)
    print(f"{mel.shape[-1]} frames -> {seconds:.2f} s of speech, vocoded in {elapsed:.2f} s")


if __name__ == "__main__":
    main()

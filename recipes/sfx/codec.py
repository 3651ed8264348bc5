"""How much of a sound an autoencoder keeps: the error of its mels, and whether its sounds are still of their class.

Run: python recipes/sfx/codec.py MODEL data/sfx-families/test.jsonl

MODEL is the file of an autoencoder, or of a generator that has one. Each clip is heard as it is, through the vocoder
from its true mel, and through the codec; the bundled classifier says what it hears. It was trained on some of these
clips, so its shares rank the three and promise nothing.
"""

import argparse
from pathlib import Path

import torch
from torch.nn.functional import pad

from wavediff.audio import read_audio, with_peak
from wavediff.metrics.classifier import load_classifier
from wavediff.metrics.clip_sets import labelled_clips
from wavediff.pipelines.autoencoder import Autoencoder
from wavediff.training.autoencoder_modules import autoencoder_of

SECONDS = 1.5  # of each clip
AUDIBLE = 6.9  # nat below the loudest value of a clip, 60 dB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model file")
    parser.add_argument("clips", type=Path, help="manifest with labels, or a folder of class folders")
    args = parser.parse_args()
    autoencoder, classifier = Autoencoder(autoencoder_of(args.model).build()), load_classifier().classifier
    rate, hop = autoencoder.spec.sample_rate, autoencoder.hop_length
    right = dict.fromkeys(("as it is", "true mel", "codec"), 0)
    errors, audible = [], []
    clips = labelled_clips(args.clips)
    for path, label in clips:
        sound = with_peak(read_audio(path, rate)[0][: round(SECONDS * rate)])
        filled = pad(sound, (0, -len(sound) % hop + hop))[None]
        mel = autoencoder.transform(filled)[..., : filled.shape[1] // autoencoder.spec.hop_length]
        restored = autoencoder.mel(autoencoder.encode(filled))[..., : mel.shape[-1]]
        inside = slice(0, -(-len(sound) // autoencoder.spec.hop_length))
        error = (restored - mel).abs()[0, :, inside]
        errors.append(error.mean())
        audible.append(error[mel[0, :, inside] > mel.max() - AUDIBLE].mean())
        heard = {
            "as it is": sound,
            "true mel": autoencoder.vocode(mel, [0])[0],
            "codec": autoencoder.vocode(restored, [0])[0],
        }
        for name, waveform in heard.items():
            with torch.inference_mode():
                found = classifier(waveform[None, : len(sound)])[0].argmax()
            right[name] += classifier.config.labels[int(found)] == label
    print(
        f"{len(clips)} clips: error inside {torch.stack(errors).mean():.3f} nat, within 60 dB of the peak "
        f"{torch.stack(audible).mean():.3f}; right class "
        + ", ".join(f"{k} {n / len(clips):.3f}" for k, n in right.items())
    )


if __name__ == "__main__":
    main()

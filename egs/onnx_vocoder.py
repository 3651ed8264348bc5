"""Speech from a mel with an exported vocoder: numpy and onnxruntime are all that it takes.

    wavediff export --format onnx -o vocoder.onnx                  # once, where wavediff is
    python egs/onnx_vocoder.py vocoder.onnx mel.npy -o speech.wav  # anywhere

The mel is (bands, frames) or (1, bands, frames), of the dialect that the file names. All else that must be known stands
in the file's metadata: how much noise, samples of a frame, sample rate.
"""

import argparse
import json
import wave
from pathlib import Path

import numpy as np
import onnxruntime


def read_mel(path: str, facts: dict[str, str]) -> np.ndarray:
    """(1, bands, frames) float32, refused if it cannot be of the vocoder's dialect."""
    mel = np.load(path, allow_pickle=False)
    mel = np.asarray(mel if mel.ndim == 3 else mel[None], np.float32)
    bands = int(facts["n_mels"])
    if mel.ndim != 3 or mel.shape[:2] != (1, bands) or mel.shape[2] == 0 or not np.isfinite(mel).all():
        raise SystemExit(f"{path}: shape {mel.shape} is not a finite mel (1, {bands}, frames) of {facts['mel_name']}")
    return mel


def vocode(session: onnxruntime.InferenceSession, mel: np.ndarray, facts: dict[str, str], seed: int) -> np.ndarray:
    """Speech (frames * hop_length,) within +-1; the seed decides the noise that it is made of."""
    shape = (1, int(facts["draws"]), mel.shape[2] * int(facts["hop_length"]))
    noise = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return session.run(["speech"], {"mel": mel, "noise": noise})[0][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vocoder", help="what `wavediff export --format onnx` wrote")
    parser.add_argument("mel", help=".npy file")
    parser.add_argument("-o", "--output", type=Path, required=True, help=".wav file, which must not exist")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.output.exists():
        raise SystemExit(f"{args.output}: already exists; remove it or choose another name")

    session = onnxruntime.InferenceSession(args.vocoder, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    if facts.get("what") != "sampler":
        raise SystemExit(f"{args.vocoder}: is no exported sampler; export without --what step")
    speech = vocode(session, read_mel(args.mel, facts), facts, args.seed)
    with open(args.output, "xb") as file, wave.open(file, "wb") as sound:
        sound.setparams((1, 2, int(facts["sample_rate"]), len(speech), "NONE", ""))  # mono, 2 bytes a sample
        sound.writeframes(np.rint(speech * 32767).astype("<i2").tobytes())
    print(f"{args.output}: {len(speech) / int(facts['sample_rate']):.2f} s, by {json.loads(facts['plan'])['sampler']}")


if __name__ == "__main__":
    main()

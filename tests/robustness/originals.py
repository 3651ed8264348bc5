"""Valid files of every kind that is damaged; the same bytes in every process, so that a seed makes the same mutant."""

import dataclasses
import functools
import io
import json
import pickle
import re
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from foreign_files import lmnt_state
from handmade import RATE, SAMPLES, wav
from mutations import with_checksums
from sounds import AUTOENCODER

from wavediff.mel import MelSpec, write_mel
from wavediff.models.checkpoint import save_checkpoint
from wavediff.models.config import ModelConfig, build_denoiser

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SUBTYPES = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    "WAVEX": ("PCM_16", "FLOAT"),
    "RF64": ("PCM_16",),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
    "OGG": ("VORBIS",),
}
HIFIGAN = MelSpec.preset("hifigan")


class Canary:
    """Unpickled without restriction, it creates a file called canary in the working folder."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("canary"),)


def encoded(samples: np.ndarray, format_: str, subtype: str, rate: int = RATE) -> bytes:
    """An audio file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format=format_)
    content = file.getvalue()
    if format_ == "OGG":  # libsndfile draws the serial number of a stream at random
        return with_checksums(content, serial=1)
    if (peak := content.find(b"PEAK", 0, 100)) > 0:  # and writes the time of day into a WAV of floats
        content = content[: peak + 12] + bytes(4) + content[peak + 16 :]
    return content


@functools.cache
def audio() -> tuple[tuple[str, bytes], ...]:
    """Names and contents: every format and subtype that is read, mono and stereo, and a WAV without a size."""
    stereo = np.stack([SAMPLES, SAMPLES[::-1]], axis=1) / 32768
    files = [("a.wav", wav(riff_size=0, data_size=0)), ("a.wav", wav(riff_size=0xFFFFFFFF, data_size=0xFFFFFFF0))]
    for format_, subtypes in SUBTYPES.items():
        name = f"a.{format_.lower() if format_ in ('FLAC', 'OGG') else 'wav'}"
        for subtype in subtypes:
            files += [(name, encoded(samples, format_, subtype)) for samples in (stereo, stereo[:, 0])]
    return tuple(files)


def mel() -> torch.Tensor:
    """(n_mels, frames), as a voice could have it."""
    return torch.rand(HIFIGAN.n_mels, 12, generator=torch.Generator().manual_seed(0)) * 8 - 9


@functools.cache
def npy() -> tuple[bytes, ...]:
    """Mels of every layout, and a pickled array that would run something."""
    values = mel().numpy()
    arrays = [values, values.astype("f8"), values.astype("f2"), np.asfortranarray(values), values[None]]
    files = []
    for array in (*arrays, np.array([Canary()], dtype=object)):
        file = io.BytesIO()
        np.save(file, array, allow_pickle=True)
        files.append(file.getvalue())
    return tuple(files)


@functools.cache
def checkpoints() -> tuple[bytes, ...]:
    """Files of `torch.save`, in both formats: foreign ones, training states, and some that would run something."""
    foreign = lmnt_state()
    foreign["model"] = {"input_projection.bias": foreign["model"]["input_projection.bias"]}
    training = {"state_dict": {"denoiser.a": torch.arange(8.0)}, "global_step": 3, "epoch": 1, "wavediff_config": {}}
    files = []
    for state in (foreign, training, {"model": Canary()}, {"model": {"a": torch.arange(3.0)}, "params": Canary()}):
        for zipped in (True, False):
            file = io.BytesIO()
            torch.save(state, file, _use_new_zipfile_serialization=zipped)
            # The older format names a storage by its address.
            files.append(file.getvalue() if zipped else re.sub(rb"(?s)X....\d{7,}", lambda _: _NAME, file.getvalue()))
    return (*files, pickle.dumps(Canary()))


_NAME = b"X" + struct.pack("<I", 1) + b"0"
CONFIG: ModelConfig = dataclasses.replace(AUTOENCODER, codec=None)


@functools.cache
def model() -> bytes:
    """A model file."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_checkpoint(path, CONFIG, build_denoiser(CONFIG).state_dict(), {"steps": 7})
        return _sorted(path.read_bytes())


@functools.cache
def mel_file() -> bytes:
    """A mel that says its dialect."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mel.safetensors"
        write_mel(path, mel(), HIFIGAN)
        return _sorted(path.read_bytes())


def _sorted(content: bytes) -> bytes:
    """A safetensors file whose metadata have one order; the library's differs from process to process."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(header | {"__metadata__": dict(sorted(header["__metadata__"].items()))}).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


MANIFEST: list[dict[str, Any]] = [
    {"path": "a.wav", "seconds": 7.0, "sample_rate": 22050, "text": "ü", "speaker": "p1", "label": "x", "mel": "a.npy"},
    {"path": "b.wav", "seconds": 1.5, "sample_rate": 22050},
]
REQUEST = {"label": "glass", "seconds": 0.5, "steps": 12, "guidance": 1.5, "seed": 9}


def manifest_lines(rows: list[Any]) -> bytes:
    """JSONL."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@functools.cache
def recipes() -> tuple[bytes, ...]:
    """Recipes that need no other file to begin with, one for each kind of model."""
    names = ("ljspeech/diffwave_small", "ljspeech/fast", "sc09/diffwave", "sc09/classifier", "sfx/unet")
    return tuple((REPOSITORY / "recipes" / f"{name}.yaml").read_bytes() for name in names)

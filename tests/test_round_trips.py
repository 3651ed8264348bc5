"""What is written is read again: audio, mels, models, manifests, whatever they hold."""

import dataclasses
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import BANDS, HOP, KIND, examples, mels, vocoder
from sounds import RATE

from wavediff import Vocoder
from wavediff.audio import read_audio, read_info, write_audio
from wavediff.audio.writing import SUBTYPES
from wavediff.data.manifest import Utterance, read_manifest, write_manifest
from wavediff.mel import MelSpec, read_mel, read_mel_pieces, write_mel
from wavediff.models.checkpoint import load_checkpoint

BITS = {
    "PCM_U8": 8,
    "PCM_S8": 8,
    "PCM_16": 16,
    "PCM_24": 24,
    "PCM_32": 24,
    "FLOAT": 24,
    "DOUBLE": 24,
}  # float32 reads 24
FORMATS = [(name, subtype) for name, subtypes in SUBTYPES.items() for subtype in subtypes]


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
@settings(examples, max_examples=8)
@given(count=st.integers(1, 3000), rate=st.integers(4000, 65_535), seed=st.integers(0, 999), level=st.floats(1e-3, 1))
def test_audio_comes_back_within_its_resolution(
    kind: str, subtype: str, count: int, rate: int, seed: int, level: float
) -> None:
    waveform = level * (2 * torch.rand(count, generator=torch.Generator().manual_seed(seed)) - 1)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a single sample of zero is silent
        path = Path(folder) / f"a.{kind.lower()}"
        write_audio(path, waveform, rate, subtype=subtype)
        info, (back, read_rate) = read_info(path), read_audio(path)
        assert (read_rate, len(back), info.frames, info.subtype) == (rate, count, count, subtype)
        if subtype == "VORBIS":
            return
        step = 2.0 ** (1 - BITS[subtype])
        assert (back - waveform).abs().max() <= step  # full scale itself is a step away
        write_audio(Path(folder) / f"b.{kind.lower()}", back, rate, subtype=subtype)
        assert torch.equal(read_audio(Path(folder) / f"b.{kind.lower()}")[0], back)


@settings(examples, max_examples=25)
@given(frames=st.integers(1, 60), at_once=st.integers(1, 70), seed=st.integers(0, 999), half_hop=st.integers(1, 512))
def test_a_mel_comes_back_with_its_dialect_whole_and_in_pieces(
    frames: int, at_once: int, seed: int, half_hop: int
) -> None:
    mel, spec = mels(seed, 1, frames)[0], MelSpec(RATE, n_mels=BANDS, hop_length=2 * half_hop, f_max=4000.0)
    with tempfile.TemporaryDirectory() as folder:
        for suffix, kept in ((".npy", None), (".safetensors", spec)):
            path = Path(folder) / f"a{suffix}"
            write_mel(path, mel, spec)
            back, dialect = read_mel(path)
            assert torch.equal(back, mel)
            assert dialect == kept
            pieces, dialect = read_mel_pieces(path, at_once)
            assert torch.equal(torch.cat(list(pieces), 1), mel)
            assert dialect == kept
        np.save(Path(folder) / "b.npy", np.asfortranarray(mel.numpy().astype(np.float64)))
        assert torch.equal(torch.cat(list(read_mel_pieces(Path(folder) / "b.npy", at_once)[0]), 1), mel)


FACTS = st.dictionaries(
    st.text(max_size=12),
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=20)),
    max_size=5,
)


@settings(examples, max_examples=15)
@given(kind=KIND, hop=HOP, facts=FACTS, half=st.booleans())
def test_a_model_comes_back_from_its_file(kind: str, hop: int, facts: dict, half: bool) -> None:
    model = vocoder(kind, hop)
    given = Vocoder(model.config, model.denoiser, facts)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("a.safetensors", "b.safetensors")]
        given.save(paths[0], half=half)
        checkpoint = load_checkpoint(paths[0])
        assert (checkpoint.config, checkpoint.facts) == (model.config, facts)
        for name, weight in model.denoiser.state_dict().items():
            assert torch.equal(checkpoint.weights[name].float(), weight.half().float() if half else weight)
        Vocoder.from_pretrained(paths[0], "cpu").save(paths[1], half=half)
        again = load_checkpoint(paths[1])
        assert (again.config, again.facts) == (model.config, facts)
        assert all(torch.equal(again.weights[name], weight) for name, weight in checkpoint.weights.items())


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..")
)
TEXT = st.one_of(st.none(), st.text(max_size=30).filter(lambda text: not any(0xD800 <= ord(c) < 0xE000 for c in text)))
UTTERANCE = st.builds(
    lambda name, seconds, rate, text, label: Utterance(Path(name), seconds, rate, text, None, label),
    NAMES,
    st.floats(1e-3, 1e6),
    st.integers(1, 384_000),
    TEXT,
    TEXT,
)


@settings(examples, max_examples=60)
@given(utterances=st.lists(UTTERANCE, min_size=1, max_size=6), inside=st.booleans())
def test_a_manifest_comes_back(utterances: list[Utterance], inside: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) if inside else Path("/elsewhere")
        given = [dataclasses.replace(u, path=root / u.path) for u in utterances]
        write_manifest(Path(folder) / "m.jsonl", given)
        assert read_manifest(Path(folder) / "m.jsonl") == given

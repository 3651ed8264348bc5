"""Segments of utterances, from files and from packed corpora."""

import dataclasses
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from clips import RATE, utterance_of, write_clips
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from wavediff.audio import read_audio
from wavediff.data.dataset import SegmentDataset
from wavediff.data.packed import PackedAudio, write_packed
from wavediff.data.shuffling import ResumableBatchSampler
from wavediff.errors import DataError


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return torch.equal(a["waveform"], b["waveform"]) and all(a[key] == b[key] for key in ("length", "seed", "index"))


# One item


def test_a_segment_is_a_piece_of_its_file_and_lies_anywhere_in_it(ljspeech: Path) -> None:
    paths = sorted((ljspeech / "wavs").iterdir())[:2]
    dataset = SegmentDataset([utterance_of(path) for path in paths], 22050, 8192)
    for index, path in enumerate(paths):
        whole = soundfile.read(path, dtype="float32")[0]
        windows = np.lib.stride_tricks.sliding_window_view(whole, 8192)
        starts = []
        for item_seed in range(40):
            item = dataset[index, item_seed]
            (found,) = np.flatnonzero((windows[:, :8] == item["waveform"][:8].numpy()).all(axis=1))[:1]
            assert np.array_equal(windows[found], item["waveform"].numpy())
            starts.append(found / (len(windows) - 1))
        assert min(starts) < 0.2
        assert max(starts) > 0.8
        assert abs(np.mean(starts) - 0.5) < 4 / np.sqrt(12 * 40)  # uniform


def test_an_item_depends_on_its_seed_alone_and_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    dataset = SegmentDataset(write_clips(tmp_path, 2), RATE, 300)
    state = torch.get_rng_state()
    first = dataset[1, 99]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    np.random.default_rng(1)
    assert same(dataset[1, 99], first)
    assert not torch.equal(dataset[1, 100]["waveform"], first["waveform"])
    assert first["seed"] == 99


def test_without_random_the_segment_is_the_middle_whatever_the_seed(tmp_path: Path) -> None:
    (utterance,) = write_clips(tmp_path, 1, frames=901)
    dataset = SegmentDataset([utterance], RATE, 300, random=False)
    whole = torch.from_numpy(soundfile.read(utterance.path, dtype="float32")[0])
    assert torch.equal(dataset[0, 1]["waveform"], whole[300:600])
    assert torch.equal(dataset[0, 2]["waveform"], whole[300:600])


def test_a_clip_shorter_than_the_segment_is_followed_by_zeros(tmp_path: Path) -> None:  # fault 61
    (utterance,) = write_clips(tmp_path, 1, frames=250)
    item = SegmentDataset([utterance], RATE, 400)[0, 5]
    assert item["length"] == 250
    assert torch.equal(item["waveform"][:250], torch.from_numpy(soundfile.read(utterance.path, dtype="float32")[0]))
    assert item["waveform"].shape == (400,)
    assert not item["waveform"][250:].any()


@pytest.mark.parametrize(
    ("corpus", "sample_rate"), [("LibriTTS", 22050), ("LibriSpeech", 22050), ("sfx", 22050), ("LibriTTS", 16000)]
)
def test_a_resampled_segment_equals_that_part_of_the_resampled_whole(
    data_root: Path, corpus: str, sample_rate: int
) -> None:
    path = max((data_root / corpus).rglob("*.*a*"), key=lambda path: path.stat().st_size)
    utterance = utterance_of(path)
    whole, _ = read_audio(path, sample_rate)
    for length in (4096, len(whole), len(whole) + 7):
        dataset = SegmentDataset([utterance], sample_rate, length)
        for item_seed in range(6 if length == 4096 else 1):
            item = dataset[0, item_seed]
            room = max(0, len(whole) - length)
            start = int(torch.randint(room + 1, (), generator=torch.Generator().manual_seed(item_seed)))
            expected = whole[start : start + length]
            assert item["length"] == len(expected)
            torch.testing.assert_close(item["waveform"][: len(expected)], expected, atol=1e-6, rtol=0)


# Files that break after the scan


def test_broken_files_are_replaced_and_reported_once(tmp_path: Path) -> None:  # fault 24, fault 56
    utterances = write_clips(tmp_path / "wavs", 40)
    dataset = SegmentDataset(utterances, RATE, 300, skipped_path=tmp_path / "run" / "skipped.jsonl")
    utterances[3].path.unlink()
    utterances[5].path.write_bytes(utterances[5].path.read_bytes()[:600])
    sampler = ResumableBatchSampler(40, 8, seed=0, repeats=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batches = list(DataLoader(dataset, batch_sampler=sampler))
    assert [len(batch["waveform"]) for batch in batches] == [8] * 10
    assert not {3, 5} & {index for batch in batches for index in batch["index"].tolist()}
    assert dataset.skipped == [3, 5]
    rows = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert sorted(row["path"] for row in rows) == [str(utterances[number].path) for number in (3, 5)]
    assert sorted(str(warning.message).count(".wav") > 0 for warning in caught) == [True, True]


def test_the_replacement_is_the_same_whether_or_not_the_file_was_known_to_be_broken(tmp_path: Path) -> None:
    utterances = write_clips(tmp_path, 40)
    utterances[3].path.unlink()
    dataset = SegmentDataset(utterances, RATE, 300)
    with pytest.warns(UserWarning, match="03.wav"):
        first = dataset[3, 77]
    assert same(dataset[3, 77], first)
    assert first["index"] != 3
    assert first["seed"] == 77


def test_too_many_broken_files_end_the_run(tmp_path: Path) -> None:
    utterances = write_clips(tmp_path, 40)
    dataset = SegmentDataset(utterances, RATE, 300)
    for utterance in utterances[:3]:
        utterance.path.unlink()
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(DataError, match="3 of 40 files"):
        [dataset[index] for index in range(3)]


def test_what_one_worker_finds_broken_the_training_process_knows(tmp_path: Path) -> None:
    utterances = write_clips(tmp_path / "wavs", 40)
    utterances[3].path.unlink()
    dataset = SegmentDataset(utterances, RATE, 300, skipped_path=tmp_path / "skipped.jsonl")
    loader = DataLoader(dataset, batch_sampler=ResumableBatchSampler(40, 4, 0, repeats=3), num_workers=2)
    assert {len(batch["seed"]) for batch in loader} == {4}
    assert dataset.skipped == [3]


# Packed corpora


def test_packed_items_equal_streamed_ones_bit_for_bit(ljspeech: Path, tmp_path: Path) -> None:
    utterances = [utterance_of(path) for path in sorted((ljspeech / "wavs").iterdir())[:3]]
    packed, skipped = write_packed(tmp_path / "p.safetensors", utterances, 22050)
    assert (packed, skipped) == (utterances, [])
    for random in (True, False):
        streamed = SegmentDataset(utterances, 22050, 8192, random=random)
        mapped = SegmentDataset(PackedAudio(tmp_path / "p.safetensors"), 22050, 8192, random=random)
        assert all(same(streamed[index, seed], mapped[index, seed]) for index in range(3) for seed in range(5))
    longer = SegmentDataset(PackedAudio(tmp_path / "p.safetensors"), 22050, 400_000)[1, 0]
    assert longer["length"] == utterances[1].frames


def test_a_packed_corpus_is_a_plain_safetensors_file_of_the_samples(tmp_path: Path) -> None:
    utterances = write_clips(tmp_path, 3, frames=333)
    write_packed(tmp_path / "p.safetensors", utterances, RATE)
    tensors = load_file(tmp_path / "p.safetensors")
    assert tensors["offsets"].tolist() == [0, 333, 666, 999]
    assert len(tensors["samples"]) % 4 == 0  # the offsets, 8 bytes each, lie behind them aligned
    whole = np.concatenate([soundfile.read(utterance.path, dtype="int16")[0] for utterance in utterances])
    assert np.array_equal(tensors["samples"][:999].numpy(), whole)


def test_packing_warns_of_samples_it_clips(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", np.array([0.5, 1.5, -1.5, -1.0] * 20), RATE, subtype="FLOAT")
    with pytest.warns(UserWarning, match="40 samples .* clipped"):
        write_packed(tmp_path / "p.safetensors", [utterance_of(tmp_path / "loud.wav")], RATE)
    samples = load_file(tmp_path / "p.safetensors")["samples"]
    assert samples[:4].tolist() == [2**14, 2**15 - 1, -(2**15), -(2**15)]


def test_a_packed_corpus_of_another_rate_is_refused(tmp_path: Path) -> None:
    write_packed(tmp_path / "p.safetensors", write_clips(tmp_path, 1), RATE)
    with pytest.raises(DataError, match="holds 8000 Hz, 22050 Hz are needed"):
        SegmentDataset(PackedAudio(tmp_path / "p.safetensors"), 22050, 100)


@pytest.mark.parametrize(
    ("offsets", "samples", "metadata"),
    [
        (torch.tensor([0, 5, 11]), torch.zeros(10, dtype=torch.int16), {"sample_rate": "8000"}),
        (torch.tensor([0, 7, 5]), torch.zeros(10, dtype=torch.int16), {"sample_rate": "8000"}),
        (torch.tensor([-2, 5]), torch.zeros(10, dtype=torch.int16), {"sample_rate": "8000"}),
        (torch.tensor([0]), torch.zeros(10, dtype=torch.int16), {"sample_rate": "8000"}),
        (torch.tensor([0, 5]), torch.zeros(10), {"sample_rate": "8000"}),
        (torch.tensor([0, 5]), torch.zeros(10, dtype=torch.int16), {"sample_rate": "fast"}),
        (torch.tensor([0, 5]), torch.zeros(10, dtype=torch.int16), None),
    ],
)
def test_a_packed_file_that_does_not_add_up_is_refused(
    tmp_path: Path, offsets: Tensor, samples: Tensor, metadata: dict[str, str] | None
) -> None:
    save_file({"offsets": offsets, "samples": samples}, tmp_path / "p.safetensors", metadata)
    with pytest.raises(DataError, match=r"p\.safetensors"):
        PackedAudio(tmp_path / "p.safetensors")


def test_a_cut_packed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    write_packed(path, write_clips(tmp_path, 2), RATE)
    whole = path.read_bytes()
    for size in (0, 5, 500, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="not a packed corpus"):
            PackedAudio(path)


def test_a_packed_dataset_in_use_travels_to_another_process(tmp_path: Path) -> None:
    write_packed(tmp_path / "p.safetensors", write_clips(tmp_path, 3), RATE)
    dataset = SegmentDataset(PackedAudio(tmp_path / "p.safetensors"), RATE, 300)
    item = dataset[2, 5]
    assert same(pickle.loads(pickle.dumps(dataset))[2, 5], item)  # noqa: S301


# Classes


def labelled(folder: Path, labels: list[str | None]) -> list[Any]:
    return [
        dataclasses.replace(u, label=name) for u, name in zip(write_clips(folder, len(labels)), labels, strict=True)
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_items_carry_the_index_of_their_label(tmp_path: Path, packed: bool) -> None:
    source: Any = labelled(tmp_path, ["wood", "glass", "wood"])
    if packed:
        write_packed(tmp_path / "p.safetensors", iter(source), RATE)
        source = PackedAudio(tmp_path / "p.safetensors")
        assert source.labels == ["wood", "glass", "wood"]
    dataset = SegmentDataset(source, RATE, 100, labels=("glass", "metal", "wood"))
    assert [dataset[index]["label"] for index in range(3)] == [2, 0, 2]
    assert "label" not in SegmentDataset(source, RATE, 100)[0]
    with pytest.raises(
        DataError, match=r"has the label 'wood', the model knows glass, metal.*wavediff prepare classes"
    ):
        SegmentDataset(source, RATE, 100, labels=("glass", "metal"))


def test_a_clip_without_a_label_is_refused_where_classes_are_learned(tmp_path: Path) -> None:
    source = labelled(tmp_path, ["wood", None])
    with pytest.raises(DataError, match=r"01\.wav: has no label"):
        SegmentDataset(source, RATE, 100, labels=("wood",))
    write_packed(tmp_path / "p.safetensors", source, RATE)
    with pytest.raises(DataError, match="utterance 0: has no label"):
        SegmentDataset(PackedAudio(tmp_path / "p.safetensors"), RATE, 100, labels=("wood",))


def test_a_share_of_the_segments_begins_where_the_clip_begins(tmp_path: Path) -> None:
    source = write_clips(tmp_path, 1)
    start = SegmentDataset(source, RATE, 100)[0, 0]["waveform"].new_tensor(-1.0)  # the first sample of the ramp
    for share in (0.0, 0.5, 1.0):
        dataset = SegmentDataset(source, RATE, 100, start_share=share)
        found = np.mean([bool(dataset[0, seed]["waveform"][0] == start) for seed in range(400)])
        assert found == pytest.approx(share, abs=0.08), share
    fixed = SegmentDataset(source, RATE, 100, random=False, start_share=0.5)
    assert fixed[0]["waveform"][0] == start


@pytest.mark.parametrize("packed", [False, True])
def test_each_clip_is_brought_to_one_peak_wherever_its_segment_lies(tmp_path: Path, packed: bool) -> None:
    source: Any = write_clips(tmp_path, 2)
    if packed:
        write_packed(tmp_path / "p.safetensors", iter(source), RATE)
        source = PackedAudio(tmp_path / "p.safetensors")
    plain, levelled = SegmentDataset(source, RATE, 100), SegmentDataset(source, RATE, 100, level=-6.0)
    for index in range(2):
        whole = SegmentDataset(source, RATE, source.frames(index) if packed else source[index].frames)[index][
            "waveform"
        ]
        gain = 10 ** (-6 / 20) / whole.abs().max()
        for seed in range(5):
            torch.testing.assert_close(levelled[index, seed]["waveform"], gain * plain[index, seed]["waveform"])


def test_silence_has_no_level_to_bring_it_to(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "0.wav", np.zeros(500), RATE)
    silent = [utterance_of(tmp_path / "0.wav")]
    assert not SegmentDataset(silent, RATE, 100, level=-1.0)[0]["waveform"].any()


def test_a_kind_that_a_model_does_not_know_counts_as_its_class(tmp_path: Path) -> None:
    source = labelled(tmp_path, ["laser/retro", "laser/large"])
    dataset = SegmentDataset(source, RATE, 100, labels=("laser", "laser/large"))
    assert [dataset[index]["label"] for index in range(2)] == [0, 1]

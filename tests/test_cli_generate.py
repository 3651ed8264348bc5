"""`wavediff generate`: files of the right names, lengths and classes, and errors of one line."""

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from sounds import LABELS, RATE, small_generator

from wavediff import Generator
from wavediff.audio import centred, ended, read_audio, read_info, resample, trim, with_peak, write_audio
from wavediff.cli.candidates import Job, Judge, drawn_from
from wavediff.cli.main import main
from wavediff.errors import AudioError, EndingError
from wavediff.files import TEMPORARY_SUFFIX
from wavediff.metrics.classifier import load_classifier


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "sounds.safetensors"
    small_generator("latent").save(path)
    return path


def generate(model: Path, output: Path, *options: str) -> int:
    return main(["generate", "-o", str(output), "--checkpoint", str(model), "--num-steps", "2", "--quiet", *options])


def test_each_class_gets_a_folder_and_each_sound_its_seed(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert generate(model, tmp_path, "--label", "all", "--count", "2", "--seconds", "0.2", "--seed", "7", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [tmp_path / label / f"{label}-00{seed}.wav" for label in LABELS for seed in (7, 8)]
    assert [Path(row["output"]) for row in rows] == names
    assert [(row["label"], row["seed"]) for row in rows] == [(label, seed) for label in LABELS for seed in (7, 8)]
    for name in names:
        assert read_info(name).frames == round(0.2 * RATE)
    first, other = (read_audio(names[index])[0] for index in (0, 1))
    assert (first - other).abs().max() > 1e-3
    expected = small_generator("latent").generate(2, 0.2, "glass", num_steps=2, seed=7)
    expected = with_peak(ended(centred(expected[0], RATE), RATE))  # to -1 dBFS
    assert (first - expected).abs().max() < 1e-4


def test_a_kind_goes_into_the_folder_of_its_class(tmp_path: Path) -> None:
    generator = small_generator("unet")
    generator.config = dataclasses.replace(generator.config, labels=("laser/retro", "laser/large", "wood"))
    generator.save(tmp_path / "sounds.safetensors")
    for options in (("--label", "laser/large"), ("--label", "all")):
        options = (*options, "--seconds", "0.1", "--overwrite")
        assert generate(tmp_path / "sounds.safetensors", tmp_path / "out", *options) == 0
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.wav"))
    assert files == ["laser/laser-large-000.wav", "laser/laser-retro-000.wav", "wood/wood-000.wav"]


def test_many_sounds_are_drawn_in_batches_without_a_gap(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavediff.cli.generate.BATCH", 2)
    assert generate(model, tmp_path, "--count", "5", "--seconds", "0.1") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"sound-00{index}.wav" for index in range(5)]


def test_long_sounds_are_drawn_one_by_one(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavediff.cli.generate.BATCH_SECONDS", 0.25)
    sizes = []
    draw = Generator.generate
    monkeypatch.setattr(Generator, "generate", lambda *args, **k: (sizes.append(args[1]), draw(*args, **k))[1])
    assert generate(model, tmp_path, "--count", "3", "--seconds", "0.2") == 0
    assert generate(model, tmp_path, "--count", "3", "--seconds", "0.1", "--overwrite") == 0
    assert sizes == [1, 1, 1, 2, 1]


def test_a_label_of_a_model_file_chooses_no_place_outside_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    generator = small_generator("unet")
    generator.config = dataclasses.replace(generator.config, labels=("../glass", str(tmp_path / "wood"), ".."))
    generator.save(tmp_path / "sounds.safetensors")
    for label in generator.labels:
        assert generate(tmp_path / "sounds.safetensors", tmp_path / "out", "--label", label) == 2
        assert "does not name a folder" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.wav"))


def test_variations_gaps_and_ways_between(model: Path, tmp_path: Path) -> None:
    source, other = tmp_path / "door.wav", tmp_path / "bell.wav"
    for path, seed in ((source, 0), (other, 1)):
        noise = 0.1 * torch.randn(2400, generator=torch.Generator().manual_seed(seed))
        write_audio(path, noise, RATE)
    assert generate(model, tmp_path / "a", "--vary", str(source), "--strength", "0.3", "--count", "2") == 0
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["door-000.wav", "door-001.wav"]
    assert generate(model, tmp_path / "a", "--vary", str(other), "--label", "wood") == 0
    assert generate(model, tmp_path / "a", "--vary", str(source), "--label", "wood") == 0
    assert sorted(path.name for path in (tmp_path / "a" / "wood").iterdir()) == [
        "bell-wood-000.wav",
        "door-wood-000.wav",
    ]
    near = ["--strength", "0.2", "--count", "2", "--seconds", "0.2", "--label", "wood"]
    assert generate(model, tmp_path / "e", "--vary", "7", *near) == 0
    assert generate(model, tmp_path / "e", "--vary", "8", *near) == 0
    names = [f"wood-{of}-{seed}.wav" for of in ("007", "008") for seed in ("000", "001")]
    assert sorted(path.name for path in (tmp_path / "e" / "wood").iterdir()) == names
    assert generate(model, tmp_path / "b", "--inpaint", str(source), "--span", "0.1,0.2") == 0
    filled, kept = (read_audio(path)[0] for path in (tmp_path / "b" / "door-000.wav", source))
    assert torch.equal(filled[: RATE // 10], kept[: RATE // 10])
    assert not torch.equal(filled, kept)
    assert generate(model, tmp_path / "c", "--between", str(source), str(other)) == 0
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [f"door-bell-00{seed}.wav" for seed in range(5)]
    assert generate(model, tmp_path / "d", "--between", "3", "4", "--count", "3", "--label", "wood") == 0
    names = [f"wood-003-004-00{seed}.wav" for seed in range(3)]
    assert sorted(path.name for path in (tmp_path / "d" / "wood").iterdir()) == names


def test_a_filling_is_named_after_the_kind_that_fits(tmp_path: Path) -> None:
    generator = small_generator("unet")
    generator.config = dataclasses.replace(generator.config, labels=("laser/retro", "laser/large", "wood"))
    generator.save(tmp_path / "sounds.safetensors")
    write_audio(tmp_path / "door.wav", 0.1 * torch.randn(2400, generator=torch.Generator().manual_seed(0)), RATE)
    kind = generator.fitting_kind(*read_audio(tmp_path / "door.wav"), 0.1, 0.2, "laser")
    options = ("--inpaint", str(tmp_path / "door.wav"), "--span", "0.1,0.2", "--label", "laser", "--count", "2")
    assert generate(tmp_path / "sounds.safetensors", tmp_path / "out", *options) == 0
    names = sorted(path.stem for path in (tmp_path / "out" / "laser").iterdir())
    assert names == [f"door-{kind.replace('/', '-')}-00{seed}" for seed in range(2)]  # seeds would take both in turn


def test_loops_and_other_formats(model: Path, tmp_path: Path) -> None:
    assert generate(model, tmp_path, "--loop", "--seconds", "0.3", "--format", "flac") == 0
    assert read_info(tmp_path / "sound-000.flac").frames == round(0.3 * RATE)


def test_labels_are_listed(model: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["generate", "--checkpoint", str(model), "--list-labels"]) == 0
    assert capsys.readouterr().out.split() == list(LABELS)


def test_an_offset_goes_and_nothing_that_is_heard() -> None:
    time = torch.arange(2 * RATE) / RATE
    tone = 0.1 * torch.sin(2 * torch.pi * 40 * time)
    settled = slice(RATE, None)
    offset, plain = centred(tone + 0.3, RATE)[settled], centred(tone, RATE)[settled]
    assert offset.mean().abs() < 1e-3
    assert 20 * (plain.std() / tone[settled].std()).log10().abs() < 0.1  # dB
    assert torch.equal(centred(torch.zeros(100), RATE), torch.zeros(100))
    loop = centred(tone + 0.3, RATE, loop=True)
    assert torch.allclose(loop, tone, atol=1e-4)


def test_the_silence_around_a_sound_is_cut_off_by_its_level() -> None:
    for peak in (1.0, 0.01):  # levels count from the peak
        sound = peak * torch.cat([torch.full((2000,), 0.03), torch.ones(1000), torch.full((3000,), 5e-4)])
        cut = trim(sound, RATE)
        assert len(cut) == round(0.003 * RATE) + 1000 + round(0.02 * RATE)
        assert cut[[0, -1]].tolist() == [0, 0]
        assert torch.equal(cut[24:1024], sound[2000:3000])  # the sound itself, its attack too
    assert len(trim(torch.zeros(5000), RATE)) == round(0.02 * RATE)
    whole = torch.ones(1000)
    assert torch.equal(trim(whole, RATE)[:800], whole[:800])  # what begins at once is not faded in


def test_what_would_be_cut_fades_out_and_what_has_ended_stays() -> None:
    """The fade takes 5 ms for each dB above -60, as far as half of the sound."""
    hum = torch.sin(2 * torch.pi * 500 * torch.arange(2 * RATE) / RATE)
    for decibels, milliseconds in ((0, 300), (-40, 100), (-59, 5)):
        sound = torch.cat([hum, 10 ** (decibels / 20) * hum])
        done = ended(sound, RATE)
        begins = len(sound) - milliseconds * RATE // 1000
        assert torch.equal(done[:begins], sound[:begins])
        assert done[-1].abs() < 1e-6
        assert not torch.equal(done[begins + 2 : -1], sound[begins + 2 : -1])
        middle = slice(begins + milliseconds * RATE // 2000 - 10, begins + milliseconds * RATE // 2000 + 10)
        torch.testing.assert_close(done[middle].norm() / sound[middle].norm(), torch.tensor(0.5), atol=0.1, rtol=0)
    for still in (torch.cat([hum, 10 ** (-61 / 20) * hum]), torch.cat([hum, 0 * hum]), torch.zeros(RATE)):
        assert torch.equal(ended(still, RATE), still)
    assert torch.equal(ended(hum[:100], RATE)[:50], hum[:50])


def test_what_is_written_comes_to_an_end_unless_it_is_raw(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hum = 0.5 * torch.sin(2 * torch.pi * 500 * torch.arange(RATE) / RATE)
    monkeypatch.setattr(Generator, "generate", lambda *args, **options: hum[None].clone())
    for options, falls in (((), True), (("--seconds", "1"), True), (("--raw",), False), (("--loop",), False)):
        assert generate(model, tmp_path, *options, "--overwrite") == 0
        sound, _ = read_audio(tmp_path / "sound-000.wav")
        last = sound[-RATE // 25 : -RATE // 50].square().mean() / sound[: RATE // 2].square().mean()
        assert (last < 10 ** (-20 / 10)) == falls


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (["--label", "gravel"], "--label: 'gravel' is unknown; choose from glass, wood, metal"),
        (["--count", "0"], "--count: 0"),
        (["--count", "1000001"], "--count: 1000001 sounds in all"),
        (["--count", "2", "--seed", str(2**63 - 1)], "must lie in 0 to 2^63 - 1"),
        (["--seed", "-1"], "--seed: -1"),
        (["--vary", "x.wav", "--seconds", "1"], "--seconds: a recording decides"),
        (["--between", "1", "2", "--count", "1"], "count: 1 is not a whole number from 2"),
        (["--seconds", "nan"], "seconds: nan"),
        (["--device", "meta"], "meta is not supported"),
        (["--seconds", "-1"], "seconds: -1.0"),
        (["--inpaint", "x.wav"], "--inpaint and --span belong together"),
        (["--inpaint", "x.wav", "--span", "a,b"], "--span: 'a,b' is not two times"),
        (["--vary", "nothing.wav"], "nothing.wav"),
        (["--best-of", "2"], "not no label; give --label"),
        (["--loop", "--vary", "x.wav"], "--loop makes loops from nothing"),
        (["--num-steps", "0"], "num_steps: 0"),
        (["--device", "cuda:99"], "cuda:99 is not there"),
    ],
)
def test_bad_input_is_one_line(
    model: Path, tmp_path: Path, options: list[str], cause: str, capsys: pytest.CaptureFixture
) -> None:
    assert generate(model, tmp_path, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert cause in line
    assert not list(tmp_path.rglob("*.wav"))


def test_nothing_is_overwritten_unless_asked(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert generate(model, tmp_path, "--seconds", "0.1") == 0
    before = (tmp_path / "sound-000.wav").read_bytes()
    assert generate(model, tmp_path, "--seconds", "0.1", "--count", "2") == 2
    assert "already exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["sound-000.wav"]
    assert generate(model, tmp_path, "--seconds", "0.1", "--overwrite") == 0
    assert (tmp_path / "sound-000.wav").read_bytes() == before


def silent_for(monkeypatch: pytest.MonkeyPatch, seeds: set[int]) -> list[int]:
    """Make some seeds silent, and say which were drawn."""
    drawn: list[int] = []
    draw = Generator.generate

    def generate(self: Generator, *args: Any, seed: list[int], **options: Any) -> torch.Tensor:
        drawn.extend(seed)
        sounds = draw(self, *args, seed=seed, **options)
        return sounds * torch.tensor([one not in seeds for one in seed])[:, None]

    monkeypatch.setattr(Generator, "generate", generate)
    return drawn


def test_a_silent_sound_is_drawn_again_and_the_others_are_not(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    drawn = silent_for(monkeypatch, {1, drawn_from(1, 1)})
    assert generate(model, tmp_path, "--label", "wood", "--count", "3", "--seconds", "0.1", "--json") == 0
    assert drawn == [0, 1, 2, drawn_from(1, 1), drawn_from(1, 2)]
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["seed"] for row in rows] == [0, drawn_from(1, 2), 2]
    assert all(row["peak"] == pytest.approx(10 ** (-1 / 20), rel=1e-3) for row in rows)


def test_a_loop_of_what_ends_is_drawn_again_and_the_others_are_not(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Sounds of two classes have the same seeds, so that places in the batch tell them apart."""
    ending = {("glass", 1), ("wood", 0), ("wood", drawn_from(0, 1))}
    draw = Generator.generate

    def generator(self: Generator, *args: Any, seed: list[int], label: list[str], **options: Any) -> torch.Tensor:
        places = [place for place, one in enumerate(zip(label, seed, strict=True)) if one in ending]
        if places:
            raise EndingError("loop: ends", places)
        return draw(self, *args, seed=seed, label=label, **options | {"loop": False})

    monkeypatch.setattr(Generator, "generate", generator)
    options = ("--label", "glass,wood", "--count", "2", "--seconds", "0.1", "--loop", "--json")
    assert generate(model, tmp_path / "a", *options) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["label"], row["seed"]) for row in rows] == [
        ("glass", 0),
        ("glass", drawn_from(1, 1)),
        ("wood", drawn_from(0, 2)),
        ("wood", 1),
    ]
    expected = draw(small_generator("latent"), 1, 0.1, "wood", seed=1, num_steps=2)[0]
    expected = with_peak(centred(expected, RATE, loop=True))
    assert (read_audio(rows[-1]["output"])[0] - expected).abs().max() < 1e-3
    ending |= {("wood", drawn_from(0, attempt)) for attempt in range(4)}
    assert generate(model, tmp_path / "b", *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--seed: 0 makes what ends by itself and is no loop, as do 3 seeds in its place, for wood" in line
    assert not (tmp_path / "b").exists()


def test_a_loop_of_a_kind_that_ends_gives_way_to_the_next_kind_of_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    generator = small_generator("unet")
    generator.config = dataclasses.replace(generator.config, labels=("engine/field", "engine/low", "wood"))
    generator.save(tmp_path / "sounds.safetensors")
    draw = Generator.generate

    def generate_lasting(self: Generator, *args: Any, label: list[str], **options: Any) -> torch.Tensor:
        if places := [place for place, one in enumerate(label) if one == "engine/field"]:
            raise EndingError("loop: ends", places)
        return draw(self, *args, label=label, **options | {"loop": False})

    monkeypatch.setattr(Generator, "generate", generate_lasting)
    options = ("--seconds", "0.1", "--loop", "--json")
    asked = ("--label", "engine", "--count", "3")
    assert generate(tmp_path / "sounds.safetensors", tmp_path / "a", *options, *asked) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["label"], Path(row["output"]).name) for row in rows] == [
        ("engine/low", f"engine-low-00{seed}.wav") for seed in range(3)
    ]
    assert generate(tmp_path / "sounds.safetensors", tmp_path / "b", *options, "--label", "engine/field") == 2
    assert "for engine/field" in capsys.readouterr().err


def test_what_stays_silent_is_an_error_and_no_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    silent_for(monkeypatch, {drawn_from(1, attempt) for attempt in range(4)})
    assert generate(model, tmp_path, "--label", "wood", "--count", "3", "--seconds", "0.1") == 2
    assert "--seed: 1 gives silence, as do 3 seeds in its place, for wood" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.wav"))


def test_the_best_of_several_draws_is_the_one_that_the_classifier_finds_clearest(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    options = ("--label", "glass", "--count", "2", "--seconds", "0.3", "--raw", "--json")
    assert generate(model, tmp_path, *options, "--best-of", "3") == 0
    chosen = [json.loads(line)["seed"] for line in capsys.readouterr().out.splitlines()]
    classifier = load_classifier().classifier
    judge = Judge(classifier, RATE, ["glass"])
    for seed, found in enumerate(chosen):
        seeds = [drawn_from(seed, attempt) for attempt in range(3)]
        sounds = small_generator("latent").generate(3, 0.3, "glass", num_steps=2, seed=seeds)
        scores = [judge(sound, Job(tmp_path, "glass", 0)) for sound in sounds]
        assert found == seeds[max(range(3), key=scores.__getitem__)]
    with torch.inference_mode():
        heard = classifier(resample(trim(sounds[0], RATE), RATE, 22050)[None]).softmax(1)[0]
    assert scores[0] == pytest.approx(heard[classifier.config.labels.index("glass")].item(), abs=1e-5)


def test_a_pack_has_names_of_the_trade_and_a_manifest_that_makes_it_again(model: Path, tmp_path: Path) -> None:
    options = ("--count", "2", "--seconds", "0.2", "--seed", "7", "--overwrite")
    assert (
        main(["generate", "--checkpoint", str(model), "--num-steps", "2", "--quiet", "--pack", str(tmp_path), *options])
        == 0
    )
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["licence"] == "CC0-1.0"
    wanted = {"num_steps": 2, "sampler": "ddpm", "guidance": 2.0, "schedule": None, "seconds": 0.2, "raw": False}
    assert manifest["options"] == wanted
    assert {sound["file"] for sound in manifest["sounds"]} == {
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.wav")
    }
    glass = manifest["sounds"][1]
    assert glass["file"] == "glass/GLASImpt_Glass-8_WVDF_wavediff.wav"
    with soundfile.SoundFile(tmp_path / glass["file"]) as file:
        assert (file.subtype, file.copyright, file.comment) == ("PCM_24", "CC0-1.0", "label glass, seed 8")
        samples = torch.from_numpy(file.read(dtype="float32"))
    again = small_generator("latent").generate(1, 0.2, glass["label"], seed=glass["seed"], num_steps=2)[0]
    assert (samples - with_peak(ended(centred(again, RATE), RATE))).abs().max() < 1e-5
    assert len(samples) == round(glass["seconds"] * RATE)


@given(st.integers(0, 2**53), st.integers(1, 100))
def test_seeds_that_are_chosen_here_are_numbers_that_javascript_reads(seed: int, attempt: int) -> None:
    assert drawn_from(seed, 0) == seed
    assert drawn_from(seed, attempt) == int(float(drawn_from(seed, attempt))) < 2**53


def test_a_run_that_stopped_goes_on_with_what_is_missing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--label", "wood", "--count", "3", "--seconds", "0.1")
    assert generate(model, tmp_path / "whole", *options) == 0
    assert generate(model, tmp_path / "cut", *options) == 0
    whole, cut = (sorted((tmp_path / name / "wood").iterdir()) for name in ("whole", "cut"))
    cut[1].unlink()
    cut[2].write_bytes(b"as it is")
    half = cut[1].with_name(f".{cut[1].name}.0{TEMPORARY_SUFFIX}")
    half.touch()
    assert generate(model, tmp_path / "cut", *options, "--resume", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["output"], "skipped" in row) for row in rows] == [
        (str(cut[0]), True),
        (str(cut[2]), True),
        (str(cut[1]), False),
    ]
    torch.testing.assert_close(read_audio(cut[1])[0], read_audio(whole[1])[0], atol=1e-4, rtol=0)
    assert (cut[2].read_bytes(), half.exists()) == (b"as it is", False)
    command = ["generate", "-o", str(tmp_path / "cut"), "--checkpoint", str(model), *options, "--resume"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"0 sounds in {tmp_path / 'cut'}, 3 were there already\n"


def test_of_very_many_labels_the_nearest_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--label", "glass/heav", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "nearest are glass/heavy" in said
    assert "in `wavediff generate --list-labels`" in said
    assert len(said) < 250


def test_a_loop_says_so_where_samplers_look(tmp_path: Path) -> None:
    """The `smpl` chunk, found by walking the chunks of the file; the samples are those of a file without it."""
    sound = 0.1 * torch.randn(801, generator=torch.Generator().manual_seed(0))
    write_audio(tmp_path / "a.wav", sound, RATE, subtype="PCM_24", loop=True, tags={"title": "hum"})
    write_audio(tmp_path / "b.wav", sound, RATE, subtype="PCM_24")
    data = (tmp_path / "a.wav").read_bytes()
    assert struct.unpack("<4sI4s", data[:12]) == (b"RIFF", len(data) - 8, b"WAVE")
    chunks, place = {}, 12
    while place < len(data):
        name, size = struct.unpack("<4sI", data[place : place + 8])
        chunks[name] = data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    assert place == len(data)
    numbers = struct.unpack("<15I", chunks[b"smpl"])
    assert (numbers[2], numbers[7]) == (125_000, 1)  # nanoseconds a sample, loops
    assert numbers[9:] == (0, 0, 0, 800, 0, 0)  # forward, from the first sample to the last, for ever
    assert torch.equal(read_audio(tmp_path / "a.wav")[0], read_audio(tmp_path / "b.wav")[0])
    for options, cause in (({"loop": True}, "FLAC marks no loops"), ({"tags": {"mood": "x"}}, "'mood' is unknown")):
        with pytest.raises(AudioError, match=cause):
            write_audio(tmp_path / "c.flac", sound, RATE, **options)
    assert not (tmp_path / "c.flac").exists()


def test_raw_sounds_are_left_as_they_were_drawn(model: Path, tmp_path: Path) -> None:
    assert generate(model, tmp_path, "--label", "wood", "--raw") == 0
    sound, _ = read_audio(tmp_path / "wood" / "wood-000.wav")
    expected = small_generator("latent").generate(1, label="wood", num_steps=2)[0]
    assert (sound - expected).abs().max() < 1e-4


@pytest.mark.parametrize(
    "options",
    [
        ("--classifier", "x.safetensors"),
        ("--licence", "CC0-1.0"),
        ("--pack", "x", "--between", "1", "2"),
        ("--best-of", "0"),
        ("--best-of", "2", "--between", "1", "2"),
        ("--strength", "0.3"),
        ("--strength", "0.3", "--between", "1", "2"),
        ("--strength", "0.3", "--inpaint", "a.wav", "--span", "0,1"),
        ("--guidance", "3"),
        ("--resume", "--pack", "x"),
        ("--resume", "--between", "1", "2"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "-o", str(tmp_path / "a"), "--quiet", *options]) == 2
    assert f"{options[0]}: " in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_variations_of_a_seed_are_of_the_kind_of_its_sound(model: Path, tmp_path: Path) -> None:
    """With no strength they are that sound; a class takes its kinds in turn, by the seed."""
    small = small_generator("latent")
    config, path = (
        dataclasses.replace(small.config, labels=("glass/a", "glass/b", "wood")),
        tmp_path / "kinds.safetensors",
    )
    Generator(config, small.denoiser).save(path)
    options = ["--checkpoint", str(path), "--label", "glass", "--num-steps", "2", "--seconds", ".1", "--raw", "--quiet"]
    assert main(["generate", *options, "--seed", "7", "-o", str(tmp_path / "one")]) == 0
    vary = ["--vary", "7", "--strength", "0", "--count", "3"]
    assert main(["generate", *options, *vary, "-o", str(tmp_path / "three")]) == 0
    (one,) = (tmp_path / "one").rglob("*.wav")
    three = list((tmp_path / "three").rglob("*.wav"))
    assert len(three) == 3
    assert all((read_audio(one)[0] - read_audio(each)[0]).abs().max() < 1e-4 for each in three)


def test_labels_are_json_where_json_is_asked_for(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--checkpoint", str(model), "--list-labels", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == list(LABELS)

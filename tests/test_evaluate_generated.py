"""`wavediff evaluate --generated`: sets of generated sounds beside real ones, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wavediff.audio import read_audio, write_audio
from wavediff.audio.finish import FAULTS, find_faults
from wavediff.cli.main import main
from wavediff.data.corpora.classes import ClassFolders
from wavediff.data.manifest import Utterance, write_manifest
from wavediff.errors import AudioError, DataError
from wavediff.metrics import GeneratedReport, evaluate_generated
from wavediff.metrics.classifier import SoundClassifier, SoundClassifierConfig, load_classifier, save_classifier

RATE = 8000
LABELS = ("hiss", "tone")


def hiss(seed: int, length: int = 3000) -> Tensor:
    """Noise that swells and fades, of its own colour."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(length, generator=generator)
    colour = 0.9 * torch.rand((), generator=generator)
    noise = noise - colour * noise.roll(1)
    return 0.1 * noise * torch.hann_window(length)


def tone(seed: int, length: int = 3000) -> Tensor:
    """Three partials that glide from and to pitches of their own, swell and fade."""
    generator = torch.Generator().manual_seed(seed)
    start, stop = 200 + 3000 * torch.rand(2, 3, 1, generator=generator)
    pitch = start + (stop - start) * torch.linspace(0, 1, length)
    return 0.3 * torch.sin(2 * torch.pi * pitch.cumsum(1) / RATE).mean(0) * torch.hann_window(length)


SOUNDS = {"hiss": hiss, "tone": tone}


def fill(root: Path, seeds: range, **sounds) -> str:  # type: ignore[no-untyped-def]
    for label, sound in (SOUNDS | sounds).items():
        for seed in seeds:
            write_audio(root / label / f"{seed}.wav", sound(seed), RATE)
    return str(root)


@pytest.fixture(scope="module")
def classifier_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Trained for a moment on other sounds of the two kinds."""
    torch.manual_seed(0)
    classifier = SoundClassifier(SoundClassifierConfig(RATE, LABELS, width=8, channels=8, n_mels=32))
    optimizer = torch.optim.Adam(classifier.parameters(), 0.01)
    waveforms = torch.stack([SOUNDS[label](1000 + seed) for seed in range(16) for label in LABELS])
    for _ in range(80):
        loss = torch.nn.functional.cross_entropy(classifier(waveforms), torch.arange(len(waveforms)) % 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("model") / "classifier.safetensors"
    save_classifier(path, classifier.config, classifier.state_dict())
    return str(path)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fill(tmp_path_factory.mktemp("sets") / "real", range(12))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As a perfect generator makes them: other sounds of the same two kinds."""
    return fill(tmp_path_factory.mktemp("sets") / "good", range(100, 106))


def compare(generated: str, real: str, classifier_file: str) -> GeneratedReport:
    return evaluate_generated(generated, real, load_classifier(classifier_file).classifier)


def value(figure: float | None) -> float:
    assert figure is not None
    return figure


@pytest.fixture(scope="module")
def good_report(good: str, real: str, classifier_file: str) -> GeneratedReport:
    return compare(good, real, classifier_file)


def test_a_perfect_generator_is_as_good_as_real(good_report: GeneratedReport) -> None:
    report = good_report
    assert (report.accuracy.generated, report.accuracy.real) == (1, 1)
    assert report.distance_size == 12
    assert value(report.frechet.generated) < 2 * value(report.frechet.real)
    assert abs(value(report.kernel.generated) - value(report.kernel.real)) < 1
    assert 0.4 < value(report.nearest_ratio) < 2.5
    assert report.suspected == report.faulty == {}
    assert set(report.classes) == set(LABELS)
    for figures in report.classes.values():
        assert (figures.clips.generated, figures.clips.real) == (6, 12)
        assert 0.3 < value(figures.diversity.generated) / value(figures.diversity.real) < 3


def test_sounds_of_the_wrong_class_are_found_out(
    tmp_path: Path, good_report: GeneratedReport, real: str, classifier_file: str
) -> None:
    report = compare(fill(tmp_path, range(100, 106), tone=hiss), real, classifier_file)
    assert report.accuracy.generated == 0.5
    assert report.classes["tone"].accuracy.generated == 0
    assert report.classes["hiss"].accuracy.generated == 1
    assert report.classes["tone"].accuracy.real == 1
    assert value(report.confidence.generated) < value(good_report.confidence.generated) - 0.2
    assert value(report.frechet.generated) > 2 * value(good_report.frechet.generated)
    assert value(report.kernel.generated) > value(good_report.kernel.generated)


def test_a_generator_of_one_sound_a_class_has_no_diversity(tmp_path: Path, real: str, classifier_file: str) -> None:
    report = compare(fill(tmp_path, range(100, 106), tone=lambda seed: tone(100)), real, classifier_file)
    assert report.classes["tone"].diversity.generated == pytest.approx(0, abs=1e-3)
    assert value(report.classes["hiss"].diversity.generated) > 0.05


def test_copies_of_real_clips_are_named(tmp_path: Path, good: str, real: str, classifier_file: str) -> None:
    generated = Path(fill(tmp_path, range(100, 105)))
    disguised = torch.cat([torch.zeros(777), 0.3 * tone(4)]) + 1e-4 * torch.randn(3777)
    write_audio(generated / "tone" / "disguised.wav", disguised, RATE)
    write_audio(generated / "hiss" / "copy.wav", hiss(7), RATE)
    report = compare(str(generated), real, classifier_file)
    named = {Path(clip).name: Path(original) for clip, (original, _) in report.suspected.items()}
    assert named["disguised.wav"] == Path(real) / "tone" / "4.wav"
    assert named["copy.wav"] == Path(real) / "hiss" / "7.wav"
    assert len(named) == 2
    assert report.copies.generated == pytest.approx(2 / 12)
    assert report.copies.real == 0
    assert all(correlation > 0.92 for _, correlation in report.suspected.values())


def test_the_training_set_itself_is_nothing_but_copies(real: str, classifier_file: str) -> None:
    report = compare(real, real, classifier_file)
    assert report.copies.generated == report.near.generated == 1
    assert report.nearest_ratio == 0
    assert value(report.near.real) <= 0.1
    assert report.correlation.generated == pytest.approx(1, abs=1e-5)
    assert value(report.correlation.real) < 0.9


def test_figures_depend_on_the_seed_alone(good: str, real: str, classifier_file: str) -> None:
    classifier = load_classifier(classifier_file).classifier
    first, again, other = (evaluate_generated(good, real, classifier, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.frechet != other.frechet


def test_both_distances_are_of_sets_of_equal_size_and_mixture(tmp_path: Path, real: str, classifier_file: str) -> None:
    generated = Path(fill(tmp_path, range(100, 104)))
    for seed in range(200, 230):
        write_audio(generated / "hiss" / f"{seed}.wav", hiss(seed), RATE)
    report = compare(str(generated), real, classifier_file)
    assert report.distance_size == 12 // 2 + 4  # hiss: half of the real ones; tone: all that were made
    assert value(report.frechet.generated) < 2 * value(report.frechet.real)  # though most of what was made is hiss


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("silent", lambda x: 1e-4 * x),
        ("clipping", lambda x: (20 * x).clamp(-1, 1)),
        ("DC offset", lambda x: x + 0.05),
        ("jump at the start", lambda x: torch.cat([torch.tensor([0.3]), x])),
        ("jump at the end", lambda x: torch.cat([x, torch.tensor([-0.3])])),
        ("NaN or infinite", lambda x: torch.cat([x, torch.tensor([torch.inf])])),
    ],
)
def test_a_fault_is_found_and_named(fault: str, change) -> None:  # type: ignore[no-untyped-def]
    assert find_faults(tone(1)) == ()
    assert fault in FAULTS
    assert find_faults(change(tone(1))) == (fault,)


def test_a_sound_that_touches_full_scale_is_not_clipped() -> None:
    sound = tone(1)
    assert find_faults(sound / sound.abs().max()) == ()


@pytest.mark.filterwarnings("ignore:.*is silent")
def test_faults_are_counted_and_a_silent_clip_is_of_no_class(
    tmp_path: Path, good: str, real: str, classifier_file: str
) -> None:
    generated = Path(fill(tmp_path, range(100, 106)))
    for label in LABELS:  # of whatever class silence may look
        write_audio(generated / label / "silent.wav", torch.zeros(3000), RATE)
    write_audio(generated / "tone" / "offset.wav", tone(5) + 0.03, RATE)
    (generated / "hiss" / "broken.wav").write_bytes(b"RIFF")
    report = compare(str(generated), real, classifier_file)
    counts = {fault: both.generated for fault, both in report.faults.items() if both.generated}
    assert counts == {"silent": 2, "DC offset": 1, "unreadable": 1}
    assert all(both.real == 0 for both in report.faults.values())
    assert sorted(Path(path).name for path in report.faulty) == ["broken.wav", "offset.wav", "silent.wav", "silent.wav"]
    assert report.classes["hiss"].accuracy.generated == pytest.approx(6 / 7)
    assert value(report.classes["tone"].accuracy.generated) <= 7 / 8


def test_a_real_clip_that_cannot_be_read_is_an_error(tmp_path: Path, good: str, classifier_file: str) -> None:
    broken = Path(fill(tmp_path, range(12)))
    (broken / "hiss" / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"broken\.wav"):
        compare(good, str(broken), classifier_file)


def test_other_sample_rates_are_resampled(tmp_path: Path, real: str, classifier_file: str) -> None:
    for label, sound in SOUNDS.items():
        for seed in range(6):
            twice = torch.nn.functional.interpolate(sound(seed)[None, None], scale_factor=2, mode="linear")[0, 0]
            write_audio(tmp_path / label / f"{seed}.wav", twice, 2 * RATE)
    report = compare(str(tmp_path), real, classifier_file)
    assert report.accuracy.generated == 1
    assert value(report.correlation.generated) > 0.8


# The command


def run(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    assert main(["evaluate", "--generated", *argv]) == 0
    out, err = capsys.readouterr()
    return out, err


def test_tables_show_classes_distances_and_faults(
    good: str, real: str, classifier_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run([real, good, "--classifier", classifier_file, "--quiet"], capsys)
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["class", "clips", "clips"]
    assert lines[1].split()[:5] == ["hiss", "6", "12", "1", "1"]
    for row in ("accuracy", "Frechet distance", "kernel distance", "suspected copies", "DC offset", "unreadable"):
        assert any(line.startswith(row) for line in lines), row
    assert err == ""
    _, err = run([real, good, "--classifier", classifier_file], capsys)
    assert err == ""  # no terminal, and too short for a line of progress


def test_json_goes_to_stdout_and_to_a_file_that_is_not_overwritten(
    good: str, real: str, classifier_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "report.json"
    argv = [real, good, "--classifier", classifier_file, "--quiet", "-o", str(output)]
    out, _ = run([*argv, "--json"], capsys)
    report = json.loads(out)
    assert json.loads(output.read_text()) == report
    assert (report["real"], report["generated"]) == (real, good)
    assert report["classes"]["tone"]["accuracy"] == {"generated": 1, "real": 1}
    assert report["frechet"]["generated"] > 0
    before = output.read_bytes()
    assert main(["evaluate", "--generated", *argv]) == 2
    assert "already exists" in capsys.readouterr().err
    assert output.read_bytes() == before


def test_manifests_name_the_classes(
    good: str, real: str, classifier_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, root in (("good", good), ("real", real)):
        clips = ClassFolders(Path(root), 0.0, 0.0).clips()
        write_manifest(tmp_path / f"{name}.jsonl", [Utterance(c.path, 0.375, RATE, label=c.label) for c in clips])
    argv = ["--classifier", classifier_file, "--quiet", "--json"]
    by_folder, _ = run([real, good, *argv], capsys)
    by_manifest, _ = run([str(tmp_path / "real.jsonl"), str(tmp_path / "good.jsonl"), *argv], capsys)
    ours, theirs = json.loads(by_folder), json.loads(by_manifest)
    assert {**ours, "real": 0, "generated": 0} == {**theirs, "real": 0, "generated": 0}


def test_real_classes_that_were_not_generated_are_left_out_and_said(
    real: str, classifier_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(6):
        write_audio(tmp_path / "tone" / f"{seed}.wav", tone(100 + seed), RATE)
    out, _ = run([real, str(tmp_path), "--classifier", classifier_file, "--quiet"], capsys)
    assert "left out of the real set: hiss" in out
    assert out.splitlines()[1].split()[:3] == ["tone", "6", "12"]


def refusal(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr that refuses the command."""
    assert main(["evaluate", *argv, "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


def test_what_cannot_be_compared_is_refused_in_one_line(
    good: str, real: str, classifier_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = ["--generated", "--classifier", classifier_file]
    assert "has the class 'hiss', the classifier knows casino" in refusal(["--generated", real, good], capsys)
    fill(tmp_path / "more", range(6), zebra=tone)
    assert "has the class 'zebra'" in refusal([*ours, str(tmp_path / "more"), str(tmp_path / "more")], capsys)
    for seed in range(6):
        write_audio(tmp_path / "half" / "tone" / f"{seed}.wav", tone(seed), RATE)
        write_audio(tmp_path / "flat" / f"{seed}.wav", tone(seed), RATE)
    line = refusal([*ours, str(tmp_path / "half"), good], capsys)
    assert "has the class 'hiss'" in line
    assert "only tone" in line
    (tmp_path / "empty").mkdir()
    for name in ("empty", "flat"):
        assert "no class folder" in refusal([*ours, real, str(tmp_path / name)], capsys)
    assert "absent" in refusal([*ours, real, str(tmp_path / "absent")], capsys)
    write_audio(tmp_path / "few" / "tone" / "1.wav", tone(1), RATE)
    assert "too few to compare" in refusal([*ours, real, str(tmp_path / "few")], capsys)
    assert "too few to compare" in refusal([*ours, str(tmp_path / "few"), str(tmp_path / "half")], capsys)
    write_manifest(tmp_path / "m.jsonl", [Utterance(tmp_path / "flat" / "1.wav", 0.4, RATE)])
    assert "has no label" in refusal([*ours, real, str(tmp_path / "m.jsonl")], capsys)
    for seed in range(6):
        (tmp_path / "half" / "tone" / f"{seed}.wav").write_text("no sound")
    assert "0 of 6 clips can be read" in refusal([*ours, real, str(tmp_path / "half")], capsys)


def test_options_of_the_other_comparison_are_refused(
    good: str, real: str, classifier_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "add --generated" in refusal([real, good, "--classifier", classifier_file], capsys)
    assert "--metrics" in refusal(["--generated", real, good, "--metrics", "mcd"], capsys)
    assert "--ids" in refusal(["--generated", real, good, "--ids", str(tmp_path)], capsys)
    vocoder = str(Path(__file__).resolve().parent.parent / "wavediff" / "models" / "weights" / "vocoder.safetensors")
    assert "is a diffusion model" in refusal(["--generated", real, good, "--classifier", vocoder], capsys)


# Real sounds


def test_held_out_sounds_pass_for_generated_ones_and_noise_does_not(data_root: Path, tmp_path: Path) -> None:
    clips = ClassFolders(data_root / "sfx", test_fraction=0.25).clips()
    kept = {label: [c for c in clips if c.label == label and c.split == "test"] for label in ("switch", "laser")}
    others = [clip for clip in clips if clip.label in kept and clip.split != "test"]
    write_manifest(tmp_path / "real.jsonl", [Utterance(c.path, 1.0, 44_100, label=c.label) for c in others])
    held_out = [Utterance(clip.path, 1.0, 44_100, label=label) for label in kept for clip in kept[label]]
    write_manifest(tmp_path / "held_out.jsonl", held_out)
    generator = torch.Generator().manual_seed(0)
    for number, clip in enumerate(held_out):
        waveform, rate = read_audio(clip.path)
        noise = 0.1 * torch.randn(len(waveform), generator=generator)
        write_audio(tmp_path / "noise" / str(clip.label) / f"{number}.wav", noise, rate)
    passed = evaluate_generated(tmp_path / "held_out.jsonl", tmp_path / "real.jsonl")
    noisy = evaluate_generated(tmp_path / "noise", tmp_path / "real.jsonl")
    assert value(passed.accuracy.generated) >= 0.85
    assert value(passed.frechet.generated) < 2 * value(passed.frechet.real)
    assert value(noisy.accuracy.generated) < 0.6
    assert value(noisy.frechet.generated) > 2 * value(noisy.frechet.real)
    assert value(noisy.nearest_ratio) > 2 * value(passed.nearest_ratio)
    assert value(noisy.copies.generated) <= value(noisy.copies.real)


def test_data_errors_are_ours(good: str) -> None:
    with pytest.raises(DataError, match="manifest"):
        evaluate_generated(good, "absent.txt", SoundClassifier(SoundClassifierConfig(RATE, LABELS)))

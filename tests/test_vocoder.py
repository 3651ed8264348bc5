"""What users hold: the Vocoder, and `wavediff vocode`, `info` and `demo` around it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import wavediff
from wavediff.audio import read_audio, write_audio
from wavediff.backbones import DiffWaveConfig, SpectralConfig
from wavediff.cli.main import main
from wavediff.diffusion import CosineSchedule, DiscreteSchedule, PriorConfig, spaced_grid
from wavediff.errors import AudioError, CheckpointError, ConfigError, MelError, SamplingError
from wavediff.mel import MelSpec, write_mel
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.pipelines.vocoder import Vocoder

SPEC = MelSpec.preset("hifigan")
ONLY_DIFFWAVE = pytest.mark.parametrize("vocoder", ["diffwave"], indirect=True)


CONFIGS = {
    "diffwave": ModelConfig(backbone=DiffWaveConfig(channels=8, layers=6, dilation_cycle=5), mel=SPEC),
    "spectral": ModelConfig(
        SpectralConfig(bands=16, channels=8, layers=2),
        CosineSchedule(),
        "v",
        PriorConfig(power=0.8, start_time=0.5, phase_iterations=4),
        SPEC,
    ),
}


@pytest.fixture(scope="module", params=CONFIGS)
def vocoder(request: pytest.FixtureRequest) -> Vocoder:
    """Untrained, but with an output that depends on everything in it."""
    torch.manual_seed(0)
    config = CONFIGS[request.param]
    denoiser = build_denoiser(config).eval().requires_grad_(False)
    nn.init.normal_(denoiser.backbone.output_projection.weight, std=0.1)
    return Vocoder(config, denoiser, {"data": "none"})


@pytest.fixture(scope="module")
def model_file(vocoder: Vocoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    vocoder.save(path)
    return path


@pytest.fixture(scope="module")
def clip(ljspeech: Path) -> Path:
    return ljspeech / "wavs" / "LJ001-0002.wav"


@pytest.fixture(scope="module")
def mel(vocoder: Vocoder, clip: Path) -> torch.Tensor:
    waveform, sample_rate = read_audio(clip)
    return vocoder.mel(waveform, sample_rate)


def test_speech_has_exactly_hop_length_samples_per_frame(vocoder: Vocoder, mel: torch.Tensor) -> None:
    speech = vocoder.decode(mel[..., :50])
    assert speech.shape == (1, 50 * 256)
    assert speech.abs().max() <= 1
    assert vocoder.decode(mel[0, :, :50]).shape == (50 * 256,)


def test_one_frame_gives_one_hop(vocoder: Vocoder, mel: torch.Tensor) -> None:  # fault 30
    assert vocoder.decode(mel[..., :1]).shape == (1, 256)


def test_copy_synthesis_takes_any_sample_rate_and_shape(vocoder: Vocoder, clip: Path) -> None:
    waveform, _ = read_audio(clip)
    whole = vocoder(waveform[:11025], 22050)
    assert whole.shape == (11025 // 256 * 256,)
    batch = vocoder(torch.stack([waveform[:8000], waveform[8000:16000]]), 16000)
    assert batch.shape == (2, 11025 // 256 * 256)


def test_autocast_and_gradients_around_a_model_change_nothing(vocoder: Vocoder, mel: torch.Tensor) -> None:
    expected, noise = vocoder.decode(mel, 2, seed=0), [state.clone() for state in vocoder.states(mel, 2, seed=0)]
    seen = []

    def pieces() -> Iterator[torch.Tensor]:
        for piece in mel.split(3, dim=-1):
            seen.append((torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")))
            yield piece

    vocoder.denoiser.requires_grad_(True)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            speech = vocoder.decode(mel, 2, seed=0)
            streamed = torch.cat(list(vocoder.stream(pieces(), 2, seed=0)), 1)
            states = list(vocoder.states(mel, 2, seed=0))
            assert torch.is_autocast_enabled("cpu")
        assert torch.equal(speech, expected)
        torch.testing.assert_close(streamed, expected, atol=1e-5, rtol=0)
        assert all(map(torch.equal, states, noise))
        assert not any(value.requires_grad for value in (speech, streamed, *states))
        assert set(seen) == {(False, True)}  # whoever makes the mel works as he did before
    finally:
        vocoder.denoiser.requires_grad_(False)


def test_a_batch_equals_its_items_alone(vocoder: Vocoder, mel: torch.Tensor) -> None:  # fault 67
    batch = torch.stack([mel[0, :, start : start + 20] for start in (0, 30, 60)])
    together = vocoder.decode(batch, seed=[4, 5, 6])
    for index in range(3):
        alone = vocoder.decode(batch[index], seed=4 + index)
        torch.testing.assert_close(together[index], alone, rtol=0, atol=1e-4)
    same_seed = vocoder.decode(batch, seed=4)
    torch.testing.assert_close(same_seed[0], together[0], rtol=0, atol=1e-4)


def test_the_seed_decides_the_speech_and_the_global_state_is_left_alone(  # fault 66
    vocoder: Vocoder, mel: torch.Tensor
) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = vocoder.decode(mel[..., :20], seed=3)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(vocoder.decode(mel[..., :20], seed=3), first)
    assert not torch.allclose(vocoder.decode(mel[..., :20], seed=4), first, atol=1e-3)


@ONLY_DIFFWAVE
def test_steps_and_schedules_mean_what_they_say(vocoder: Vocoder, mel: torch.Tensor) -> None:
    assert vocoder.plan().evaluations == 6
    assert vocoder.plan(schedule="full").evaluations == 50
    assert vocoder.plan(3, sampler="ddim").evaluations == 3
    assert vocoder.plan(schedule=[0.01, 0.3]).evaluations == 2
    vocoder.decode(mel[..., :3], schedule="full")
    assert vocoder.plan() == vocoder.plan(6, "fast6")


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (DiscreteSchedule(100, 1e-4, 0.05), 6),
        (DiscreteSchedule(50, 1e-3, 0.05), 6),
        (DiscreteSchedule(4, 1e-4, 0.5), 4),
    ],
)
def test_where_no_fast_schedule_was_published_the_default_is_an_even_grid(
    schedule: DiscreteSchedule, steps: int, mel: torch.Tensor
) -> None:
    config = replace(CONFIGS["diffwave"], schedule=schedule)
    vocoder = Vocoder(config, build_denoiser(config).eval())
    assert vocoder.plan().times == tuple(spaced_grid(schedule, steps).tolist())
    assert vocoder.decode(mel[..., :3]).shape == (1, 3 * 256)
    with pytest.raises(SamplingError, match="no fast schedule was published"):
        vocoder.plan(schedule="fast6")


@ONLY_DIFFWAVE
@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"num_steps": 0}, "1 to 50"),  # fault 63
        ({"num_steps": -1}, "1 to 50"),
        ({"num_steps": 51}, "1 to 50"),
        ({"num_steps": "2", "sampler": "heun"}, "num_steps: '2' is not"),
        ({"schedule": []}, "empty"),  # fault 64
        ({"schedule": [0.5, 0.1]}, "ascending"),
        ({"schedule": [0.1, 0.99]}, "trained on"),
        ({"schedule": "fast7"}, "fast6"),
        ({"schedule": "bddm6", "num_steps": 6}, "trained on"),
        ({"schedule": "full", "num_steps": 6}, "contradicts"),
        ({"sampler": "magic"}, "ddpm, ddim"),
        ({"seed": -1}, "seed"),
        ({"seed": [1, 2]}, "2 seeds for 1 mels"),
    ],
)
def test_impossible_sampling_is_refused(vocoder: Vocoder, mel: torch.Tensor, options: dict, cause: str) -> None:
    with pytest.raises(SamplingError, match=cause):
        vocoder.decode(mel[..., :5], **options)


@pytest.mark.parametrize("vocoder", ["spectral"], indirect=True)
def test_the_spectral_vocoder_takes_any_number_of_steps_and_no_table(vocoder: Vocoder, mel: torch.Tensor) -> None:
    start = vocoder.config.prior.start_time
    assert vocoder.plan().times == (start, start / 2, 0.0)
    assert vocoder.plan(7).evaluations == 7
    vocoder.decode(mel[..., :3], 7)
    for options, cause in (
        ({"num_steps": 0}, "1 to 10000"),
        ({"schedule": "fast6"}, "discrete steps"),
        ({"schedule": [0.1, 0.9]}, "begins at t ="),
    ):
        with pytest.raises(SamplingError, match=cause):
            vocoder.decode(mel[..., :3], **options)


def test_nan_while_sampling_names_the_step(vocoder: Vocoder, mel: torch.Tensor) -> None:  # fault 65
    config = vocoder.config
    broken = build_denoiser(config).eval().requires_grad_(False)
    broken.backbone.output_projection.bias.fill_(float("inf"))
    with pytest.raises(SamplingError, match=r"step 1 of [26]"):
        Vocoder(config, broken).decode(mel[..., :5])


def test_a_mel_of_another_dialect_is_converted_or_refused(vocoder: Vocoder, mel: torch.Tensor, clip: Path) -> None:
    waveform, _ = read_audio(clip)
    coqui = wavediff.mel.MelTransform(MelSpec.preset("tacotron2"))(waveform[None, :20480])
    assert vocoder.decode(coqui, mel_spec="tacotron2").shape[1] % 256 == 0
    decibels = wavediff.mel.MelTransform(MelSpec.preset("lmnt-diffwave"))(waveform[None, :20480])
    with pytest.raises(MelError, match="lmnt-diffwave"):  # fault 32
        vocoder.decode(decibels, mel_spec="lmnt-diffwave")
    with pytest.raises(MelError, match="80"):  # fault 26
        vocoder.decode(mel[:, :79])
    with pytest.raises(MelError, match="transposed"):  # fault 27
        vocoder.decode(mel[0, :, :50].T)


def test_a_waveform_that_is_none_is_refused(vocoder: Vocoder) -> None:
    for waveform in (torch.zeros(1, 2, 3), torch.zeros(4000, dtype=torch.int16), torch.full((4000,), float("nan"))):
        with pytest.raises(AudioError, match="waveform"):
            vocoder.mel(waveform, 22050)


def test_from_pretrained_gives_the_same_speech(vocoder: Vocoder, model_file: Path, mel: torch.Tensor) -> None:
    expected = vocoder.decode(mel[..., :10])
    for source in (model_file, str(model_file), model_file.parent):
        loaded = wavediff.Vocoder.from_pretrained(source)
        torch.testing.assert_close(loaded.decode(mel[..., :10]).cpu(), expected, rtol=0, atol=1e-4)
        assert loaded.facts == {"data": "none"}


def test_a_device_that_is_not_there_is_refused(model_file: Path) -> None:  # fault 83
    with pytest.raises(ConfigError, match="cuda:99"):
        Vocoder.from_pretrained(model_file, device="cuda:99")
    with pytest.raises(ConfigError, match="auto, cpu or cuda"):
        Vocoder.from_pretrained(model_file, device="abacus")
    with pytest.raises(CheckpointError, match="does not exist"):
        Vocoder.from_pretrained("no/such/model.safetensors")


def test_vocode_takes_audio_and_mels_and_gives_what_decode_gives(
    model_file: Path, clip: Path, vocoder: Vocoder, mel: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    np.save(tmp_path / "a.npy", mel[0, :, :20].numpy())
    write_mel(tmp_path / "b.safetensors", mel[0, :, :20], SPEC)
    inputs = [str(clip), str(tmp_path / "a.npy"), str(tmp_path / "b.safetensors")]
    out = tmp_path / "out"
    arguments = ["vocode", *inputs, "-o", str(out), "--checkpoint", str(model_file), "--quiet", "--json", "--seed", "9"]
    assert main(arguments) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["nfe"] for row in rows] == 3 * [vocoder.plan().evaluations]
    assert rows[0]["seconds"] == pytest.approx(mel.shape[-1] * 256 / 22050)
    expected = vocoder.decode(mel[0, :, :20], seed=9)
    for stem in "ab":
        written, sample_rate = read_audio(out / f"{stem}.wav")
        assert sample_rate == 22050
        torch.testing.assert_close(written, expected, rtol=0, atol=1e-4)
    assert main(arguments) == 2  # outputs exist
    assert "--overwrite" in capsys.readouterr().err


def test_vocode_reports_a_bad_input_and_loses_no_other(
    model_file: Path, mel: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    np.save(folder / "bad.npy", np.full((80, 4), np.nan, dtype=np.float32))  # fault 28
    np.save(folder / "good.npy", mel[0, :, :4].numpy())
    out = tmp_path / "out"
    assert main(["vocode", str(folder), "-o", str(out), "--checkpoint", str(model_file), "--quiet"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "bad.npy" in errors[0]
    assert "1 of 2" in errors[1]
    assert sorted(path.name for path in out.iterdir()) == ["good.wav"]


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["x.npy", "x.wav", "-o", "out"], "both become"),
        (["x.npy", "y.npy", "-o", "out.wav"], "name a folder"),
        (["missing.wav", "-o", "out.wav"], "missing.wav"),
        (["x.npy", "-o", "out.wav", "--num-steps", "0"], "from 1 to"),
        (["x.npy", "-o", "out.wav", "--schedule", "fast,er"], "betas"),
        (["x.npy", "-o", "out.wav", "--device", "cuda:99"], "cuda:99"),
        (["x.npy", "-o", "out.mp3"], ".mp3"),
    ],
)
def test_vocode_answers_bad_usage_with_one_line_and_status_2(
    arguments: list[str],
    cause: str,
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.full((80, 4), -5, dtype=np.float32))
    assert main(["vocode", *arguments, "--checkpoint", str(model_file), "--quiet"]) == 2
    captured = capsys.readouterr()
    assert cause in captured.err
    assert captured.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy"]


def test_info_says_what_is_in_a_model_a_mel_and_a_recording(
    model_file: Path, mel: torch.Tensor, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def facts(path: Path) -> dict:
        assert main(["info", str(path), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    model = facts(model_file)
    assert (model["kind"], model["backbone"]["channels"]) == ("model", 8)
    assert "hifigan" in model["mel"]
    write_mel(tmp_path / "a.safetensors", mel[0], SPEC)
    assert "hifigan" in facts(tmp_path / "a.safetensors")["dialect"]
    np.save(tmp_path / "b.npy", mel[0].numpy())
    assert facts(tmp_path / "b.npy")["frames"] == mel.shape[-1]
    write_audio(tmp_path / "c.wav", torch.zeros(2205).sin(), 22050)
    assert facts(tmp_path / "c.wav")["seconds"] == pytest.approx(0.1)
    assert main(["info", str(model_file)]) == 0
    assert "channels: 8" in capsys.readouterr().out
    model_file.with_name("cut.safetensors").write_bytes(model_file.read_bytes()[:-1])
    assert main(["info", str(model_file.with_name("cut.safetensors"))]) == 2


def test_demo_leaves_sound_and_a_picture(
    model_file: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "demo"
    arguments = ["demo", "-o", str(out), "--clip", str(clip), "--checkpoint", str(model_file)]
    assert main(arguments) == 0
    assert main(arguments) == 2  # a second run replaces the first only if it is told to
    assert main([*arguments, "--overwrite"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["original.wav", "spectrogram.png", "vocoded.wav"]
    assert (out / "spectrogram.png").read_bytes()[:4] == b"\x89PNG"
    captured = capsys.readouterr().out
    assert captured.count("real-time factor") == 4  # twice a run: with and without what is made for the first time


@pytest.mark.parametrize("num_steps", [None, 1, 4])
def test_states_lead_from_noise_to_the_speech_of_decode(num_steps: int | None) -> None:
    vocoder = Vocoder.from_pretrained(None, "cpu")
    mel = vocoder.mel(*read_audio(Path(wavediff.__file__).parent / "models" / "weights" / "clip.flac"))[..., :60]
    plan = vocoder.plan(num_steps)
    states = list(vocoder.states(mel, num_steps, seed=3))
    assert len(states) == len(plan.times) + 1  # the guess is one more
    torch.testing.assert_close(states[-1].clamp(-1, 1), vocoder.decode(mel, num_steps, seed=3), rtol=0, atol=1e-5)
    away = [float((state - states[-1]).square().mean()) for state in states]
    assert away == sorted(away, reverse=True)


def test_states_are_computed_when_they_are_asked_for(
    vocoder: Vocoder, mel: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate, estimates = vocoder.denoiser.x0_from, []

    def counted(*args: torch.Tensor) -> torch.Tensor:
        estimates.append(args)
        return estimate(*args)

    monkeypatch.setattr(vocoder.denoiser, "x0_from", counted)
    expected = len(list(vocoder.states(mel, 4, seed=0)))
    done, lazily = len(estimates), vocoder.states(mel, 4, seed=0)
    for _ in range(expected - 2):
        next(lazily)
    assert done < len(estimates) < 2 * done


def test_samples_with_their_channels_last_are_told_from_clips(vocoder: Vocoder) -> None:
    with pytest.raises(AudioError, match=r"\(9000, 2\) looks like \(samples, channels\)"):
        vocoder.mel(torch.zeros(9000, 2), 22_050)

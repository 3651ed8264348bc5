"""Which dialect a mel is: every preset on real speech, what is no preset's mel, and what the command line says."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from vocoders import untrained

from wavediff.audio import read_audio, resample
from wavediff.backbones import DiffWaveConfig
from wavediff.cli.demo import CLIP
from wavediff.cli.main import main
from wavediff.errors import MelError
from wavediff.mel import PRESETS, MelSpec, MelTransform, advise, check_mel, diagnose, likely_dialects, write_mel
from wavediff.models.config import ModelConfig

HIFIGAN, ESPNET = PRESETS["hifigan"], PRESETS["espnet"]
TRANSFORMS = {name: MelTransform(spec) for name, spec in PRESETS.items()}


def waveforms(path: Path) -> dict[int, Tensor]:
    """One recording, at most ten seconds of it, (1, N) at each preset's rate."""
    waveform, rate = read_audio(path)
    return {
        wanted: resample(waveform[None, : 10 * rate], rate, wanted)
        for wanted in {spec.sample_rate for spec in PRESETS.values()}
    }


def mels(paths: list[Path], names: list[str]) -> dict[str, list[Tensor]]:
    """Preset -> mels (n_mels, frames) of the recordings."""
    computed: dict[str, list[Tensor]] = {name: [] for name in names}
    for path in paths:
        recordings = waveforms(path)
        for name in names:
            computed[name].append(TRANSFORMS[name](recordings[PRESETS[name].sample_rate])[0])
    return computed


@pytest.fixture(scope="module")
def lj_mels(ljspeech: Path) -> dict[str, list[Tensor]]:
    """The 16 test clips. The tables of `wavediff.mel.identify.speech` were not fitted to them; how wide a tie is in
    `wavediff.mel.identify.diagnosis` was set with a look at them."""
    names = (ljspeech / "test.txt").read_text().split()
    assert len(names) == 16
    return mels([ljspeech / "wavs" / f"{name}.wav" for name in names], list(PRESETS))


@pytest.fixture(scope="module")
def clip_mels() -> dict[str, Tensor]:
    """The bundled clip, which every checkout has."""
    return {name: found[0] for name, found in mels([CLIP], list(PRESETS)).items()}


# The same numbers but for framing, or for a floor that the mel may not reach.
SAME = ("hifigan", "tacotron2", "nemo-hifigan")
FLOORLESS = ("hifigan", "tacotron2", "coqui", "nemo-hifigan")
LIKE_SPEECHT5 = ("parallel-wavegan-24k", "speecht5")  # the same bands by other FFTs
LIKE_COSYVOICE2 = ("torchaudio-wavernn", "cosyvoice2")
LIKE_COSYVOICE3 = ("torchaudio-wavernn", "cosyvoice3")
ALIKE = ({*FLOORLESS}, {*LIKE_SPEECHT5}, {*LIKE_COSYVOICE2}, {*LIKE_COSYVOICE3})
# Preset -> what it was taken for on the 16 test clips, and how often. The counts are a record: of clips that are
# undecided, the last bits decide; the answers are what is tested.
CONFUSION: dict[str, dict[tuple[str, ...], int]] = {
    "hifigan": {FLOORLESS: 14, SAME: 2},
    "tacotron2": {FLOORLESS: 11, SAME: 5},
    "torchaudio-wavernn": {("torchaudio-wavernn",): 14, LIKE_COSYVOICE2: 1, LIKE_COSYVOICE3: 1},
    "coqui": {("coqui",): 11, FLOORLESS: 5},
    "coqui-default": {("coqui-default",): 16},
    "lmnt-diffwave": {("lmnt-diffwave",): 16},
    "espnet": {("espnet",): 16},
    "parallel-wavegan-24k": {("parallel-wavegan-24k",): 16},
    "speecht5": {("speecht5",): 12, LIKE_SPEECHT5: 4},
    "vocos-24k": {("vocos-24k",): 16},
    "f5-tts": {("f5-tts",): 16},
    "bigvgan-24k": {("bigvgan-24k",): 16},
    "nemo-hifigan": {FLOORLESS: 11, SAME: 5},
    "cosyvoice2": {("cosyvoice2",): 16},
    "cosyvoice3": {("cosyvoice3",): 16},
}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_named_on_all_test_clips(name: str, lj_mels: dict[str, list[Tensor]]) -> None:  # fault 32
    answers = [diagnose(mel) for mel in lj_mels[name]]
    assert {answer.dialects for answer in answers} <= set(CONFUSION[name])
    assert not any(answer.form or answer.unlike or answer.transposed for answer in answers)
    alone = sum(answer.dialects == (name,) for answer in answers)
    assert abs(alone - CONFUSION[name].get((name,), 0)) <= 2


def test_only_presets_whose_values_are_alike_tie() -> None:
    groups = [*({*answer} for answers in CONFUSION.values() for answer in answers)]
    assert all(name in answer for name, answers in CONFUSION.items() for answer in answers)
    for group in groups:
        assert len(group) == 1 or any(group <= alike for alike in ALIKE), group


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_named_on_the_bundled_clip(name: str, clip_mels: dict[str, Tensor]) -> None:
    seen = diagnose(clip_mels[name])
    assert seen.dialects in CONFUSION[name]
    assert not seen.unlike
    assert seen.certainty > 0.5


def test_other_corpora_are_named_apart_from_close_relatives(data_root: Path) -> None:
    """Microphones and speakers the tables have not seen: of 80 bands, some answers are of a neighbour's edges."""
    paths = sorted((data_root / "VCTK").glob("*.flac"))
    computed = mels(paths, list(PRESETS))
    right, logarithms = 0, 0
    for name, found in computed.items():
        for mel in found:
            dialects = diagnose(mel).dialects
            right += name in dialects
            logarithms += PRESETS[dialects[0]].log == PRESETS[name].log
    total = len(paths) * len(PRESETS)
    assert right >= 0.9 * total
    assert logarithms == total


def test_the_models_own_dialect_is_the_first_of_those_that_tie(clip_mels: dict[str, Tensor]) -> None:
    mel = clip_mels["tacotron2"]
    for own in ("hifigan", "tacotron2", "nemo-hifigan"):
        assert diagnose(mel, PRESETS[own]).dialects[0] == own
    assert diagnose(mel, PRESETS["espnet"]).dialects[0] == "hifigan"


def test_a_floor_that_is_not_reached_leaves_dialects_alike(clip_mels: dict[str, Tensor]) -> None:
    above = clip_mels["coqui"].clamp(min=-11.3)  # no value at either floor
    above = above + 0.01 * torch.rand(above.shape, generator=torch.Generator().manual_seed(0))
    assert diagnose(above).dialects == ("hifigan", "tacotron2", "coqui", "nemo-hifigan")


def test_a_floor_that_is_reached_is_told(clip_mels: dict[str, Tensor]) -> None:
    """Values cut at 1e-5 cannot be Coqui's, and values below cannot be HiFi-GAN's."""
    cut = clip_mels["coqui"].clamp(min=math.log(1e-5))
    assert (cut == cut.min()).sum() > 5
    assert "coqui" not in diagnose(cut).dialects
    deeper = clip_mels["hifigan"].clone()
    deeper[:, 10:40] = math.log(1e-5) - 1
    assert diagnose(deeper).dialects == ("coqui",)


# --- what is no preset's mel -------------------------------------------------------------------------------------


def test_linear_magnitudes_are_told_and_their_dialect_is_guessed(clip_mels: dict[str, Tensor]) -> None:  # fault 32
    seen = diagnose(clip_mels["tacotron2"].exp())
    assert seen.form == "linear magnitudes"
    assert "tacotron2" in seen.dialects
    assert "log()" in advise(seen, HIFIGAN).python


def test_decibels_are_told_and_decoded_by_the_line_that_is_given(clip_mels: dict[str, Tensor]) -> None:  # fault 32
    mel = clip_mels["tacotron2"] * (20 / math.log(10))
    seen = diagnose(mel)
    assert seen.form == "decibels"
    assert "tacotron2" in seen.dialects
    advice = advise(seen, HIFIGAN)
    assert (advice.usable, advice.options) == ("converted", None)
    heard: dict[str, object] = {}

    class Recorder:
        def decode(self, mel: Tensor, mel_spec: MelSpec) -> None:
            heard["spec"] = mel_spec

    exec(advice.python, {"vocoder": Recorder(), "mel": mel, "dataclasses": dataclasses, "MelSpec": MelSpec})  # noqa: S102
    check_mel(mel, heard["spec"])  # type: ignore[arg-type]
    assert advise(diagnose(clip_mels["espnet"] * 20), HIFIGAN).usable == "no"


@pytest.mark.parametrize("name", ["espnet", "tacotron2"])
def test_mean_variance_normalised_values_ask_for_their_statistics(name: str, clip_mels: dict[str, Tensor]) -> None:
    mel = clip_mels[name]
    normalised = (mel - mel.mean(1, keepdim=True)) / mel.std(1, keepdim=True)
    seen = diagnose(normalised)
    assert seen.form == "mean-variance normalised values"
    advice = advise(seen, HIFIGAN)
    assert advice.usable == "no"
    assert "mean and std" in advice.reason
    assert likely_dialects(normalised)[0] == "mean-variance normalised values"


def test_statistics_of_a_whole_corpus_are_told_too(lj_mels: dict[str, list[Tensor]]) -> None:
    everything = torch.cat(lj_mels["espnet"], -1)
    mean, std = everything.mean(1, keepdim=True), everything.std(1, keepdim=True)
    forms = [diagnose((mel - mean) / std).form for mel in lj_mels["espnet"]]
    assert set(forms) == {"mean-variance normalised values"}


def test_a_transposed_mel_is_told(clip_mels: dict[str, Tensor]) -> None:  # fault 27
    seen = diagnose(clip_mels["espnet"].T)
    assert seen.transposed
    assert seen.dialects == ("espnet",)
    assert advise(seen, ESPNET) == advise(seen, HIFIGAN)
    assert "mel.T" in advise(seen, ESPNET).python


def test_presets_are_not_taken_for_normalised(clip_mels: dict[str, Tensor]) -> None:
    """Nor at another level, of those whose values are about as large."""
    for gain in (-1.0, -0.5, 0.0, 0.5, 1.0):
        assert diagnose(clip_mels["coqui-default"] + gain).form == ""
        assert diagnose(clip_mels["lmnt-diffwave"] + gain / 8).form == ""


def test_a_number_of_bands_that_no_preset_has_is_no_known_dialect() -> None:  # fault 26
    seen = diagnose(torch.randn(64, 120))
    assert (seen.dialects, str(seen)) == ((), "no dialect known")
    assert advise(seen, HIFIGAN).usable == "no"


def test_what_is_unlike_speech_is_called_a_guess() -> None:
    tone = torch.sin(0.2 * torch.arange(48000))[None]
    assert diagnose(TRANSFORMS["hifigan"](tone)[0]).unlike
    assert diagnose(torch.full((80, 200), -5.0)).unlike


def test_a_few_frames_are_judged_by_their_range_alone(clip_mels: dict[str, Tensor]) -> None:
    seen = diagnose(clip_mels["hifigan"][:, 60:80])
    assert "hifigan" in seen.dialects
    assert len(seen.dialects) > 4
    assert seen.unlike


# --- what a model makes of it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "usable", "options"),
    [
        ("hifigan", "as is", ""),
        ("tacotron2", "as is", ""),  # the same values: the model's own dialect is the first answer
        ("coqui", "converted", "--mel-spec coqui"),
        ("espnet", "no", None),
        ("vocos-24k", "no", None),
        ("lmnt-diffwave", "no", None),
    ],
)
def test_the_advice_is_what_the_conversion_allows(
    name: str, usable: str, options: str | None, clip_mels: dict[str, Tensor]
) -> None:
    advice = advise(diagnose(clip_mels[name], HIFIGAN), HIFIGAN)
    assert (advice.usable, advice.options) == (usable, options)
    if usable == "no":
        assert "HiFi" in advice.reason or "hifigan" in advice.reason


def test_a_mismatched_call_gives_the_same_diagnosis(clip_mels: dict[str, Tensor]) -> None:  # fault 32
    for name in ("lmnt-diffwave", "coqui-default"):
        with pytest.raises(MelError, match=f"look like {name};"):
            check_mel(clip_mels[name], PRESETS["speecht5"])


# --- the command line --------------------------------------------------------------------------------------------


@pytest.fixture
def doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, object]]:
    """Writes a mel to `mel.npy` and runs `wavediff doctor --json` on it."""

    def run(mel: Tensor) -> dict[str, object]:
        np.save(tmp_path / "mel.npy", mel.numpy())
        assert main(["doctor", str(tmp_path / "mel.npy"), "--json"]) == 0
        facts: dict[str, object] = json.loads(capsys.readouterr().out)
        return facts

    return run


def test_the_command_that_the_doctor_gives_vocodes(
    tmp_path: Path,
    clip_mels: dict[str, Tensor],
    doctor: Callable[..., dict[str, object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import shlex

    monkeypatch.chdir(tmp_path)
    for name, usable in (("coqui", "converted"), ("espnet", "retuned")):
        facts = doctor(clip_mels[name])
        assert (facts["dialects"], facts["usable"]) == ([name], usable)
        command = shlex.split(str(facts["command"]))
        assert command[0] == "wavediff"
        assert main([*command[1:], "--quiet", "--num-steps", "1", "--overwrite"]) == 0
        assert (tmp_path / "speech.wav").is_file()


def test_the_doctor_speaks_plainly(
    tmp_path: Path, clip_mels: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", clip_mels["espnet"].numpy())
    assert main(["doctor", str(tmp_path / "a.npy")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == [
        "mel",
        "dialect",
        "model",
        "verdict",
        "command",
        "python",
    ]
    assert any(line.startswith("dialect:  espnet (") for line in lines)
    assert "verdict:  can be decoded by the same network (at the rate and hop of espnet)" in lines


def test_what_a_network_of_bands_cannot_take_stays_so(tmp_path: Path, clip_mels: dict[str, Tensor]) -> None:
    from wavediff.cli.doctor import examine

    np.save(tmp_path / "a.npy", clip_mels["espnet"].numpy())
    config = ModelConfig(DiffWaveConfig(channels=4, layers=2, dilation_cycle=2), mel=HIFIGAN)
    facts = examine(tmp_path / "a.npy", HIFIGAN, None, untrained(config))
    assert facts["usable"] == "no"
    assert facts["reason"].startswith("espnet cannot become hifigan")
    np.save(tmp_path / "b.npy", clip_mels["hifigan"].T.numpy())
    assert examine(tmp_path / "b.npy", HIFIGAN, None, untrained(config))["usable"] == "no"  # its axes are swapped


def test_a_file_that_says_its_dialect_is_believed(tmp_path: Path, clip_mels: dict[str, Tensor]) -> None:
    from wavediff.cli.doctor import examine

    write_mel(tmp_path / "a.safetensors", clip_mels["tacotron2"], PRESETS["tacotron2"])
    facts = examine(tmp_path / "a.safetensors", HIFIGAN)
    assert (facts["said"], facts["usable"], facts["dialect"]) == ("tacotron2", "converted", "tacotron2")
    assert "--mel-spec" not in facts["command"]


def test_the_command_names_the_model_it_was_asked_of(tmp_path: Path, clip_mels: dict[str, Tensor]) -> None:
    from wavediff.cli.doctor import examine

    np.save(tmp_path / "a b.npy", clip_mels["coqui"].numpy())
    command = examine(tmp_path / "a b.npy", HIFIGAN, Path("my model.safetensors"))["command"]
    expected = f"wavediff vocode '{tmp_path}/a b.npy' -o speech.wav --checkpoint 'my model.safetensors'"
    assert command == f"{expected} --mel-spec coqui"


def test_what_cannot_be_read_is_the_readers_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object))  # fault 35
    np.save(tmp_path / "nan.npy", np.full((80, 50), np.nan, dtype=np.float32))  # fault 28
    for name, cause in (("pickled.npy", "never pickles"), ("nan.npy", "NaN"), ("none.npy", "no such file")):
        assert main(["doctor", str(tmp_path / name)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert cause in captured.err
        assert captured.err.count("\n") == 1

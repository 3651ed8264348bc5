"""What every host's vocoder promises, whatever the host."""

import re

import pytest
import torch
from conftest import REPOSITORY
from hosts import STEPS, fading_mel, small_vocoder
from torch import nn

import wavediff.compat
from wavediff.compat import HiFiGANVocoder, HostVocoder, TransformersVocoder
from wavediff.errors import MelError, SamplingError
from wavediff.mel import MelSpec, can_convert, convert

HOSTS = [
    host
    for name in wavediff.compat.__all__
    if isinstance(host := getattr(wavediff.compat, name), type)
    and issubclass(host, HostVocoder)
    and host is not HostVocoder
]
ALL_HOSTS = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.__name__)


class Tacotron(HostVocoder):
    """A host of dialect tacotron2, before a vocoder of dialect hifigan: a frame is dropped in between."""

    dialect = "tacotron2"


@pytest.fixture(scope="module")
def tacotron() -> Tacotron:
    return Tacotron(small_vocoder("hifigan"), num_steps=STEPS)


@ALL_HOSTS
def test_a_vocoder_of_the_hosts_own_dialect_speaks_as_it_does_alone(host: type[HostVocoder]) -> None:
    vocoder = small_vocoder(host.dialect)
    mel = fading_mel(host.dialect, 2)
    adapted = host(vocoder, num_steps=STEPS, seed=7)
    assert adapted.sample_rate == vocoder.sample_rate
    assert torch.equal(adapted.speech(mel), vocoder.decode(mel, STEPS, seed=7))


@ALL_HOSTS
def test_the_bundled_vocoder_takes_every_hosts_mels_as_it_is_made(host: type[HostVocoder]) -> None:
    bundled, wanted = MelSpec.preset("hifigan"), MelSpec.preset(host.dialect)
    taken = bundled if can_convert(wanted, bundled).kind != "no" else wanted
    assert host().vocoder.mel_spec == taken


def test_a_step_count_that_is_not_possible_is_refused_at_once() -> None:
    with pytest.raises(SamplingError):
        HiFiGANVocoder(small_vocoder("hifigan"), num_steps=0)


def test_another_dialect_than_the_hosts_usual_one_is_named(tacotron: Tacotron) -> None:
    mel = fading_mel("nemo-hifigan")
    for given in ("nemo-hifigan", MelSpec.preset("nemo-hifigan")):
        adapted = Tacotron(tacotron.vocoder, given, STEPS)
        assert torch.equal(adapted.speech(mel), tacotron.vocoder.decode(mel, STEPS, mel_spec="nemo-hifigan"))
    with pytest.raises(MelError, match=r"Tacotron: mel: speecht5 cannot be turned into hifigan .* takes the bands"):
        Tacotron(tacotron.vocoder, "speecht5")


@pytest.mark.parametrize(("given", "taken"), [("tacotron2", "hifigan"), ("hifigan", "tacotron2")])
def test_with_lengths_each_item_speaks_as_it_does_alone_through_a_conversion(given: str, taken: str) -> None:
    vocoder = small_vocoder(taken)
    adapted = Tacotron(vocoder, given, STEPS)
    mel = fading_mel(given, 2, 24)
    speech = adapted.speech(mel.index_fill(2, torch.arange(15, 24), float("nan")), torch.tensor([15, 15]))
    for item, whole in zip(mel[..., :15], speech, strict=True):
        alone = vocoder.decode(convert(item[None], MelSpec.preset(given), vocoder.mel_spec), STEPS)[0]
        assert len(alone) == adapted.samples(15)
        assert len(whole) == adapted.samples(24)
        assert (whole[: len(alone)] - alone).abs().max() < 1e-5
        assert not whole[len(alone) :].any()


@pytest.mark.parametrize("lengths", [[15], [15, 0], [15, 25]])
def test_lengths_that_do_not_fit_are_refused(tacotron: Tacotron, lengths: list[int]) -> None:
    with pytest.raises(SamplingError, match="lengths"):
        tacotron.speech(fading_mel("tacotron2", 2, 24), lengths)


def test_a_host_may_change_the_speech_in_place(tacotron: Tacotron) -> None:
    speech = tacotron.speech(fading_mel("tacotron2"))
    assert not speech.is_inference()
    speech *= 0.5


def test_the_same_mel_always_gives_the_same_speech_and_the_global_generator_is_not_touched(tacotron: Tacotron) -> None:
    mel, before = fading_mel("tacotron2"), torch.get_rng_state()
    assert torch.equal(tacotron.speech(mel), tacotron.speech(mel))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(tacotron.speech(mel), Tacotron(tacotron.vocoder, num_steps=STEPS, seed=1).speech(mel))


def test_what_a_host_does_to_its_modules_leaves_the_speech_as_it_is(tacotron: Tacotron) -> None:
    mel = fading_mel("tacotron2")
    expected = tacotron.speech(mel)
    around = nn.Sequential(tacotron)
    around.half().to("cpu", torch.float64).train()
    assert not tacotron.training
    assert not tacotron.denoiser.training
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tacotron.speech(mel), expected)
    assert next(around.parameters()).dtype == torch.float32


def test_moving_the_host_moves_the_vocoder(tacotron: Tacotron, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    monkeypatch.setattr(tacotron.vocoder, "to", moved.append)
    nn.Sequential(tacotron).to("meta")  # a device that every machine has
    assert moved == [torch.device("meta")]


def test_half_precision_mels_are_taken(tacotron: Tacotron) -> None:
    mel = fading_mel("tacotron2").to(torch.bfloat16)
    assert torch.equal(tacotron.speech(mel), tacotron.speech(mel.float()))


def test_a_transposed_mel_says_so(tacotron: Tacotron) -> None:
    with pytest.raises(MelError, match="transposed"):
        tacotron.speech(fading_mel("tacotron2").mT)
    with pytest.raises(MelError, match="transposed"):
        TransformersVocoder(small_vocoder("speecht5"), num_steps=STEPS)(fading_mel("speecht5"))


def test_the_readme_beside_the_code_tells_of_every_class_and_of_none_else() -> None:
    text = (REPOSITORY / "wavediff" / "compat" / "README.md").read_text(encoding="utf-8")
    told = set(re.findall(r"\b(?:[A-Z]\w+(?:Vocoder|HiFiGAN)|DiffusersGenerator)\(", text))
    classes = {f"{host.__name__}(" for host in HOSTS} | {"DiffusersGenerator("}
    assert classes <= told
    assert all(hasattr(wavediff.compat, name) for name in re.findall(r"wavediff\.compat import (\w+)", text))

"""Exported vocoders, run by onnxruntime and by torch alone, beside `Vocoder.decode` of the very same noise."""

import dataclasses
import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from torch import Tensor
from vocoders import untrained

import wavediff
from wavediff.audio import read_audio
from wavediff.backbones import AdapterConfig, Condition, DiffWaveConfig, SpectralConfig
from wavediff.cli.demo import CLIP
from wavediff.diffusion import CosineSchedule, ItemNoise, Plan, PriorConfig
from wavediff.errors import ConfigError, MissingExtraError, OutputError
from wavediff.exporting import FACTS, What, export_onnx, export_torch
from wavediff.exporting.real_stft import FourierSTFT, MatrixSTFT, PairSTFT, find_phase
from wavediff.exporting.tracing import module_of
from wavediff.mel import FrameSTFT, MelSpec, griffin_lim
from wavediff.mel.phases import Harmonics, lower_rates
from wavediff.models.config import ModelConfig, build_denoiser
from wavediff.pipelines.vocoder import Vocoder

pytest.importorskip("onnxscript", reason="the exporter is absent: pip install 'wavediff[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="what runs ONNX files is absent: pip install onnxruntime")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The given buffer is not writable"),  # torch.export.load's own
]

SPEC = MelSpec.preset("hifigan")
CENTRED = dataclasses.replace(MelSpec.preset("tacotron2"), hop_length=200)  # hops that do not divide the window
TINY = DiffWaveConfig(channels=4, layers=2, dilation_cycle=2)
CONFIGS = {
    "white": ModelConfig(TINY, mel=SPEC),
    "whitened": ModelConfig(
        DiffWaveConfig(4, 1, 1, whitened=True), prediction="v", mel=SPEC, prior=PriorConfig(power=0.5)
    ),
    "guessing": ModelConfig(
        SpectralConfig(bands=16, channels=4, layers=2, causal_layers=1),
        CosineSchedule(),
        "v",
        PriorConfig(power=0.8, start_time=0.5, phase_iterations=4, consistency=0.7),
        CENTRED,
    ),
    "adapted": ModelConfig(
        SpectralConfig(bands=16, channels=4, layers=1),
        CosineSchedule(),
        "v",
        PriorConfig(power=0.8, start_time=0.5, phase_iterations=2),
        MelSpec.preset("cosyvoice2"),
        24000,
        adapters=(AdapterConfig.of(MelSpec.preset("cosyvoice2"), 1024, channels=8, layers=1),),
        n_fft=1024,
    ),
    "of another rate": ModelConfig(
        SpectralConfig(bands=16, channels=4, layers=1),
        CosineSchedule(),
        "v",
        PriorConfig(power=0.8, start_time=0.5, phase_iterations=2),
        MelSpec.preset("speecht5"),
        16000,
        adapters=(AdapterConfig.of(MelSpec.preset("speecht5"), 1024, channels=8, layers=1),),
    ),
    "lower rates": ModelConfig(
        SpectralConfig(bands=16, channels=4, layers=1),
        CosineSchedule(),
        "v",
        PriorConfig(power=0.8, start_time=0.5, phase_iterations=9, harmonics=0.5, phase_octaves=2, partials=True),
        SPEC,
    ),
}
BATCHES = [(1, 1), (2, 7), (3, 40), (1, 90)]  # items, frames


def small_vocoder(name: str) -> Vocoder:
    """Untrained, but with an output that depends on everything in it."""
    return untrained(CONFIGS[name])


def mels(vocoder: Vocoder, items: int, frames: int) -> Tensor:
    """(items, n_mels, frames), of speech."""
    mel = vocoder.mel(*read_audio(CLIP))[0]
    return torch.stack([mel[:, start : start + frames] for start in range(30, 30 + 50 * items, 50)])


def noise_of(seeds: list[int], draws: int, samples: int) -> Tensor:
    """(B, draws, samples), as `decode` draws it."""
    items = ItemNoise(seeds)
    return torch.stack([items.draw().take(samples) for _ in range(draws)], 1)


@dataclass
class Exported:
    """A vocoder and its file, with what the file holds: metadata, and a function of tensors by name."""

    vocoder: Vocoder
    plan: Plan | None
    path: Path
    returned: dict[str, str]
    read: dict[str, str]
    run: Callable[..., Tensor]


def exported(vocoder: Vocoder, path: Path, what: What, plan: Plan | None) -> Exported:
    if path.suffix == ".pt2":
        returned = export_torch(vocoder, path, what, plan)
        extra = {FACTS: ""}
        program = torch.export.load(path, extra_files=extra).module()
        return Exported(vocoder, plan, path, returned, json.loads(extra[FACTS]), program)
    returned = export_onnx(vocoder, path, what, plan)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(**inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in inputs.items()})[0])

    return Exported(vocoder, plan, path, returned, session.get_modelmeta().custom_metadata_map, run)


SAMPLERS = {
    "white, ddpm": ("white", "ddpm", 3, ".onnx"),
    "whitened, dpmpp-2m-sde": ("whitened", "dpmpp-2m-sde", 2, ".onnx"),
    "guessing, ddim": ("guessing", "ddim", 1, ".pt2"),
    "adapted, ddim": ("adapted", "ddim", 1, ".pt2"),
    "of another rate, ddim": ("of another rate", "ddim", 1, ".onnx"),
    "bundled": ("bundled", None, 1, ".onnx"),
}


def bundled_vocoder() -> Vocoder:
    """The bundled one but for the iterations of its guess: all of them make 1e-3 of a rounding error of 1e-7."""
    vocoder = Vocoder.from_pretrained(device="cpu")
    prior = dataclasses.replace(vocoder.config.prior, phase_iterations=3)
    config = dataclasses.replace(vocoder.config, prior=prior)
    denoiser = build_denoiser(config).eval().requires_grad_(False)
    denoiser.load_state_dict(vocoder.denoiser.state_dict())
    return Vocoder(config, denoiser)


@pytest.fixture(scope="module", params=SAMPLERS)
def sampler(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    model, name, num_steps, suffix = SAMPLERS[request.param]
    vocoder = bundled_vocoder() if model == "bundled" else small_vocoder(model)
    path = (tmp_path_factory.mktemp("sampler") / "vocoder").with_suffix(suffix)
    return exported(vocoder, path, "sampler", vocoder.plan(num_steps, None, name))


@pytest.fixture(scope="module", params=[("white", ".onnx"), ("white", ".pt2")], ids=["onnx", "torch"])
def step(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    model, suffix = request.param
    path = (tmp_path_factory.mktemp("step") / "vocoder").with_suffix(suffix)
    return exported(small_vocoder(model), path, "step", None)


@pytest.mark.parametrize(("items", "frames"), BATCHES)
def test_the_sampler_is_decode_of_the_same_noise(sampler: Exported, items: int, frames: int) -> None:
    vocoder, plan, seeds = sampler.vocoder, sampler.plan, list(range(4, 4 + items))
    assert plan is not None
    vocoder = vocoder.with_plans([(plan.evaluations, plan)])
    mel = mels(vocoder, items, frames)
    expected = vocoder.decode(mel, plan.evaluations, seed=seeds)
    assert (expected.abs() < 1).float().mean() > 0.2  # what is clamped shows nothing
    speech = sampler.run(
        mel=mel, noise=noise_of(seeds, int(sampler.read["draws"]), frames * int(sampler.read["noise_hop"]))
    )
    torch.testing.assert_close(speech, expected, rtol=0, atol=1e-4)


def test_spectra_of_nothing_become_no_nan(sampler: Exported) -> None:
    frames, draws = 9, int(sampler.read["draws"])
    nothing = torch.zeros(1, draws, frames * int(sampler.read["noise_hop"]))
    assert sampler.run(mel=mels(sampler.vocoder, 1, frames), noise=nothing).isfinite().all()


@pytest.mark.parametrize(("items", "frames"), BATCHES)
def test_the_step_is_the_denoiser(step: Exported, items: int, frames: int) -> None:
    mel = mels(step.vocoder, items, frames)
    x_t = noise_of(list(range(items)), 1, frames * int(step.read["noise_hop"]))[:, 0]
    t = torch.tensor([0.83, 0.3, 0.06])[:items]
    with torch.no_grad():
        expected = step.vocoder.denoiser.bind(Condition(mel))(x_t, t)
    torch.testing.assert_close(step.run(x_t=x_t, t=t, mel=mel), expected, rtol=1e-5, atol=1e-4)


def test_a_file_says_all_that_its_user_needs(sampler: Exported) -> None:
    facts, vocoder, plan = sampler.read, sampler.vocoder, sampler.plan
    assert facts == sampler.returned
    assert (facts["what"], facts["wavediff_version"]) == ("sampler", wavediff.__version__)
    assert MelSpec.from_dict(json.loads(facts["mel"])) == vocoder.mel_spec
    assert int(facts["n_mels"]) == vocoder.mel_spec.n_mels
    assert int(facts["sample_rate"]) == vocoder.sample_rate
    assert int(facts["hop_length"]) == vocoder.hop_length
    assert plan is not None
    told = json.loads(facts["plan"])
    assert Plan(told["sampler"], tuple(told["times"])) == plan
    assert int(facts["evaluations"]) == plan.evaluations
    of_model = {name: json.loads(facts[name]) for name in ("schedule", "prior")} | {"prediction": facts["prediction"]}
    again = ModelConfig.from_dict(vocoder.config.to_dict() | of_model)
    assert again == vocoder.config
    assert facts["mel_name"] == vocoder.mel_spec.name
    assert facts["format_version"] == "1"


def test_a_sampler_follows_the_usual_plan_where_none_is_given() -> None:
    vocoder = small_vocoder("guessing")
    module, plan = module_of(vocoder, "sampler", None, MatrixSTFT)
    assert plan == vocoder.plan()
    assert module.evaluations == vocoder.plan().evaluations


def test_a_step_names_no_plan(step: Exported) -> None:
    assert step.read == step.returned
    assert {name: step.read[name] for name in ("what", "plan", "draws", "evaluations")} == {
        "what": "step",
        "plan": "null",
        "draws": "0",
        "evaluations": "1",
    }


def test_a_file_tells_nothing_of_the_machine_it_was_made_on(sampler: Exported) -> None:
    content = sampler.path.read_bytes()
    if sampler.path.suffix == ".pt2":
        with zipfile.ZipFile(sampler.path) as archive:
            content = b"".join(map(archive.read, archive.namelist()))
    for folder in (REPOSITORY, Path(torch.__file__).parent):
        assert str(folder).encode() not in content


def test_the_vocoder_stays_as_it_was(sampler: Exported) -> None:
    assert not any(isinstance(part, PairSTFT) for part in sampler.vocoder.denoiser.modules())


def test_noise_that_does_not_fit_is_refused(sampler: Exported) -> None:
    mel, (draws, hop) = mels(sampler.vocoder, 2, 6), (int(sampler.read[name]) for name in ("draws", "noise_hop"))
    samples = 6 * hop
    for wrong in ((2, draws + 1, samples), (2, draws, samples - 1), (1, draws, samples)):
        with pytest.raises(Exception, match=r"(?i)shape|size|dimension|guard|expected|invalid"):
            sampler.run(mel=mel, noise=torch.zeros(wrong))


@pytest.mark.parametrize("form", [MatrixSTFT, FourierSTFT])
@pytest.mark.parametrize("spec", [SPEC, CENTRED], ids=["hifigan", "centred"])
def test_the_exported_transforms_are_the_packages(form: type[PairSTFT], spec: MelSpec) -> None:
    plain, stft = FrameSTFT(spec), form(spec)
    lower = lower_rates(spec, 2)
    rates = (([plain], [stft]), ([*lower, plain], [*(form(rate.spec) for rate in lower), stft]))
    for frames in (1, 2, 9):
        waveform = noise_of([1, 2], 1, frames * spec.hop_length)[:, 0]
        spectrum = plain.analysis(waveform)
        torch.testing.assert_close(stft.analysis(waveform), spectrum, rtol=0, atol=1e-4)
        torch.testing.assert_close(stft.synthesis(spectrum), plain.synthesis(spectrum), rtol=0, atol=1e-5)
        magnitude = spectrum.abs().flip(0)
        for n_iter, finer in ((0, None), (3, None), (5, None), (0, Harmonics(spec)), (3, Harmonics(spec))):
            for plains, exported in rates:
                expected = griffin_lim.find_phase(magnitude, plain.analysis(waveform), plains, n_iter, finer)
                found = find_phase(magnitude, waveform, exported, n_iter, finer)
                torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.fixture
def nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is refused is refused before the work."""
    for module in ("onnx_file", "tracing"):
        monkeypatch.setattr(f"wavediff.exporting.{module}.traced", lambda *_: pytest.fail("traced"))


@pytest.mark.usefixtures("nothing_is_traced")
@pytest.mark.parametrize(("export", "suffix"), [(export_onnx, ".onnx"), (export_torch, ".pt2")])
def test_what_cannot_be_exported_is_refused(export: Callable[..., object], suffix: str, tmp_path: Path) -> None:
    vocoder, path = small_vocoder("white"), tmp_path / f"vocoder{suffix}"
    long = Plan.along("ddim", torch.linspace(1, 0, 52, dtype=torch.float64))
    with pytest.raises(ConfigError, match=r"51 evaluations .* 50 is the most"):
        export(vocoder, path, "sampler", long)
    with pytest.raises(ConfigError, match="a step has none"):
        export(vocoder, path, "step", vocoder.plan())
    with pytest.raises(ConfigError, match="'whole' is neither"):
        export(vocoder, path, "whole")
    config = dataclasses.replace(CONFIGS["white"], labels=("calm", "loud"))
    with pytest.raises(ConfigError, match="without labels"):
        export(Vocoder(config, build_denoiser(config)), path)
    with pytest.raises(OutputError, match=f"ends in {suffix}"):
        export(vocoder, tmp_path / "vocoder.bin")
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="already exists"):
        export(vocoder, path)
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(  # fault 50
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource", reason="this system does not limit the size of files")
    program = torch.export.export(torch.nn.Linear(60, 60), (torch.zeros(1, 60),))
    monkeypatch.setattr("wavediff.exporting.tracing.traced", lambda *_: program)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"vocoder\.pt2: could not be written \(File too large"):
            export_torch(small_vocoder("white"), tmp_path / "vocoder.pt2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("nothing_is_traced")
@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_exporter_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}: pip install 'wavediff\[onnx\]'"):  # fault 84
        export_onnx(small_vocoder("white"), tmp_path / "vocoder.onnx")

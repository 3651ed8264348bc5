"""Model files: what is written is read back, and nothing else is."""

import json
import pickle
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import REPOSITORY
from safetensors.torch import load_file, save_file
from sounds import CONFIGS
from torch import nn

import wavediff
from wavediff.backbones import DiffWaveConfig
from wavediff.diffusion import Plan
from wavediff.errors import CheckpointError, ConfigError, OutputError
from wavediff.mel import MelSpec
from wavediff.models.checkpoint import built, load_checkpoint, save_checkpoint, shapes_only
from wavediff.models.config import ModelConfig, build_denoiser

CONFIG = ModelConfig(backbone=DiffWaveConfig(channels=4, layers=2, dilation_cycle=2), mel=MelSpec.preset("hifigan"))


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, CONFIG, build_denoiser(CONFIG).state_dict(), {"steps": 7, "data": "ünïcode"})
    return path


def rewrite(path: Path, change) -> None:  # type: ignore[no-untyped-def]
    """Apply `change(tensors, metadata)` and write the file back, its hash untouched."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def rehash(path: Path, change) -> None:  # type: ignore[no-untyped-def]
    """The same with a correct hash: the forger knows the format."""
    from wavediff.models.file import digest

    def change_and_hash(tensors: dict, metadata: dict) -> None:
        change(tensors, metadata)
        metadata["sha256"] = digest(tensors, metadata)

    rewrite(path, change_and_hash)


def edit_config(metadata: dict, edit) -> None:  # type: ignore[no-untyped-def]
    model = json.loads(metadata["model"])
    edit(model["config"])
    metadata["model"] = json.dumps(model)


def test_what_is_saved_is_loaded(model_file: Path) -> None:
    checkpoint = load_checkpoint(model_file)
    assert checkpoint.config == CONFIG
    assert checkpoint.facts == {"steps": 7, "data": "ünïcode"}
    torch.manual_seed(0)
    expected = build_denoiser(CONFIG).state_dict()
    built = checkpoint.build().state_dict()
    assert built.keys() == expected.keys()
    assert all(torch.equal(built[name], expected[name]) for name in expected)


def test_half_precision_halves_the_file_and_loads_as_float32(model_file: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(model_file)
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, CONFIG, checkpoint.weights, half=True)
    loaded = load_checkpoint(half)
    for name, tensor in loaded.build().state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, checkpoint.weights[name], rtol=1e-3, atol=1e-6)
    assert half.stat().st_size < 0.6 * model_file.stat().st_size


def test_a_header_of_any_length_is_told_from_a_pickle(tmp_path: Path) -> None:
    first_bytes = set()
    for length in range(0, 256, 8):  # headers are padded to 8 bytes
        path = tmp_path / f"{length}.safetensors"
        save_checkpoint(path, CONFIG, {}, {"padding": "x" * length})
        first_bytes.add(path.read_bytes()[0])
        assert load_checkpoint(path).config == CONFIG
    assert 0x80 in first_bytes  # how a pickle begins


def test_an_existing_file_is_kept(model_file: Path) -> None:
    before = model_file.read_bytes()
    with pytest.raises(OutputError, match="overwrite"):
        save_checkpoint(model_file, CONFIG, build_denoiser(CONFIG).state_dict())
    assert model_file.read_bytes() == before
    assert list(model_file.parent.iterdir()) == [model_file]


def test_a_full_disk_is_named_and_the_old_file_kept(model_file: Path) -> None:  # fault 50
    resource = pytest.importorskip("resource", reason="this system does not limit the size of files")
    whole, limits = model_file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    weights = build_denoiser(CONFIG).state_dict()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) // 2, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"model\.safetensors: could not be written \(.*File too large"):
            save_checkpoint(model_file, CONFIG, weights, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert model_file.read_bytes() == whole
    assert list(model_file.parent.iterdir()) == [model_file]


def test_a_file_cut_anywhere_is_refused(model_file: Path) -> None:  # fault 36
    whole = model_file.read_bytes()
    places = [*range(0, 4096, 61), *random.Random(0).sample(range(len(whole)), 60), len(whole) - 1]
    for size in places:
        model_file.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=model_file.name):
            load_checkpoint(model_file)


def test_every_flipped_bit_is_noticed(model_file: Path) -> None:  # fault 37
    whole = bytearray(model_file.read_bytes())
    generator = random.Random(1)
    header = struct.unpack("<Q", whole[:8])[0] + 8
    places = [generator.randrange(header) for _ in range(150)] + [
        generator.randrange(header, len(whole)) for _ in range(150)
    ]
    for place in places:
        bit = 1 << generator.randrange(8)
        whole[place] ^= bit
        model_file.write_bytes(whole)
        with pytest.raises(CheckpointError, match=model_file.name):
            load_checkpoint(model_file).build()
        whole[place] ^= bit


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["pickle", "torch", "torch-legacy"])
def test_a_pickle_is_refused_and_not_run(how: str, tmp_path: Path) -> None:  # fault 38
    path, canary = tmp_path / "model.safetensors", tmp_path / "canary"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Canary(canary)))
    else:
        torch.save(Canary(canary), path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is a pickle, which could run code"):
        load_checkpoint(path)
    assert not canary.exists()


def test_a_header_too_large_or_with_too_many_tensors_is_refused_unread(tmp_path: Path) -> None:  # fault 40
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 12 << 20))
        file.truncate(13 << 20)
    with pytest.raises(CheckpointError, match="header claims"):
        load_checkpoint(path)
    save_file({f"t{i}": torch.zeros(0) for i in range(10_001)}, path, {"format": "wavediff"})
    assert path.stat().st_size < 1 << 20
    with pytest.raises(CheckpointError, match="10000 tensors"):
        load_checkpoint(path)


def test_missing_and_extra_weights_are_listed(model_file: Path) -> None:  # fault 41
    def change(tensors: dict, metadata: dict) -> None:
        for name in sorted(tensors)[:7]:
            tensors[f"other.{name}"] = tensors.pop(name)

    rehash(model_file, change)
    with pytest.raises(CheckpointError, match=r"7 missing \((\S+, ){4}\S+\), 7 unexpected"):
        load_checkpoint(model_file).build()


@pytest.mark.parametrize(
    ("suffix", "field"),
    [
        ("upsamplers.0.layers.0.weight", "mel.hop_length"),
        ("layers.0.mel_projection.weight", "mel.n_mels"),
        ("layers.1.dilated_conv.weight", "backbone.channels"),
    ],
)
def test_a_wrong_shape_names_the_field_that_sets_it(model_file: Path, suffix: str, field: str) -> None:  # fault 42
    def change(tensors: dict, metadata: dict) -> None:
        name = next(name for name in tensors if name.endswith(suffix))
        tensors[name] = torch.cat([tensors[name], tensors[name]], dim=-1)

    rehash(model_file, change)
    with pytest.raises(CheckpointError, match=field):
        load_checkpoint(model_file).build()


def test_a_configuration_for_other_weights_is_refused(model_file: Path) -> None:  # fault 43
    rehash(model_file, lambda tensors, metadata: edit_config(metadata, lambda c: c["backbone"].update(layers=3)))
    with pytest.raises(CheckpointError, match="disagree"):
        load_checkpoint(model_file).build()


def plan(**changes: Any) -> dict[str, Any]:
    """Of sampling, as a configuration holds it."""
    return {"evaluations": 2, "sampler": "ddim:eta=0.5", "times": [1.0, 0.5, 0]} | changes


def test_plans_of_sampling_come_back(model_file: Path) -> None:
    rehash(model_file, lambda tensors, metadata: edit_config(metadata, lambda c: c.update(plans=[plan()])))
    assert load_checkpoint(model_file).config.plans == ((2, Plan("ddim:eta=0.5", (1.0, 0.5, 0))),)
    rehash(model_file, lambda tensors, metadata: edit_config(metadata, lambda c: c.pop("plans")))
    assert load_checkpoint(model_file).config.plans == ()  # written before there were plans


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (lambda c: c["backbone"].update(channels=10**9), "backbone.channels"),
        (lambda c: c["backbone"].update(channels="64"), "backbone.channels"),
        (lambda c: c["schedule"].update(num_steps=10**9), "schedule.num_steps"),
        (lambda c: c["prior"].update(bands=4), "prior.bands"),
        (lambda c: c["prior"].update(frames=10**9 + 1), "prior.frames"),
        (lambda c: c["schedule"].update(beta_max=[0.05]), "schedule.beta_max"),
        (lambda c: c["mel"].update(n_fft=10**9), "n_fft"),
        (lambda c: c.update(sample_rate=10**9), "sample_rate"),
        (lambda c: c.update(plans={}), "plans"),
        (lambda c: c.update(plans=[plan()] * 101), "plans"),
        (lambda c: c.update(plans=[plan(), plan()]), "plans"),
        (lambda c: c.update(plans=[plan(evaluations=1)]), "plans"),
        (lambda c: c.update(plans=[plan(sampler="eval")]), "plans"),
        (lambda c: c.update(plans=[plan(sampler="ddim:eta=1e999")]), "plans"),
        (lambda c: c.update(plans=[plan(sampler=["ddim"])]), "plans"),
        (lambda c: c.update(plans=[plan(times=[1.0, 10**400, 0])]), "plans"),
        (lambda c: c.update(plans=[plan(times=[0.0] * 20_000)]), "plans"),
        (lambda c: c.update(plans=[plan(path="x")]), "plans"),
        (lambda c: c.update(labels=["a"] * 20_000), "labels"),
    ],
)
def test_a_number_out_of_bounds_is_refused_before_anything_is_built(  # fault 44
    model_file: Path,
    edit,
    field: str,  # type: ignore[no-untyped-def]
) -> None:
    rehash(model_file, lambda tensors, metadata: edit_config(metadata, edit))
    with pytest.raises(CheckpointError, match=field):
        load_checkpoint(model_file)


def test_a_newer_format_says_which_version_it_needs(model_file: Path) -> None:  # fault 45
    rehash(model_file, lambda tensors, metadata: metadata.update(format_version="2", wavediff_version="9.1.0"))
    with pytest.raises(CheckpointError, match=r"needs wavediff >= 9\.1\.0"):
        load_checkpoint(model_file)


def test_nan_weights_are_refused_on_saving_and_loading(model_file: Path, tmp_path: Path) -> None:  # fault 46
    def poison(tensors: dict, metadata: dict) -> None:
        next(iter(tensors.values())).view(-1)[0] = float("nan")

    rehash(model_file, poison)
    with pytest.raises(CheckpointError, match="NaN"):
        load_checkpoint(model_file)
    weights = build_denoiser(CONFIG).state_dict()
    poison(weights, {})
    with pytest.raises(CheckpointError, match="NaN"):
        save_checkpoint(tmp_path / "new.safetensors", CONFIG, weights)
    assert not (tmp_path / "new.safetensors").exists()


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c.update(kind="os.system"),
        lambda c: c.update(class_path="builtins.eval"),
        lambda c: c["backbone"].update(class_path="builtins.eval"),
        lambda c: c.update(backbone="wavediff.backbones.DiffWave"),
        lambda c: c.pop("schedule"),
    ],
)
def test_a_configuration_cannot_name_code(model_file: Path, edit) -> None:  # type: ignore[no-untyped-def]  # fault 47
    rehash(model_file, lambda tensors, metadata: edit_config(metadata, edit))
    with pytest.raises(CheckpointError, match=r"unknown|not a table|missing"):
        load_checkpoint(model_file)


def test_a_configuration_that_builds_nothing_names_the_file(model_file: Path) -> None:  # fault 43
    flow = {"schedule": {"kind": "flow"}, "prediction": "v"}
    rehash(model_file, lambda tensors, metadata: edit_config(metadata, lambda c: c.update(flow)))
    with pytest.raises(CheckpointError, match=rf"{model_file.name}: schedule: DiffWave"):
        load_checkpoint(model_file).build()


def test_what_a_header_says_is_told_in_one_line(model_file: Path) -> None:
    content = model_file.read_bytes().replace(b'"F32"', b'"F\\n2"', 1)
    length = struct.unpack("<Q", content[:8])[0] + 1
    model_file.write_bytes(struct.pack("<Q", length) + content[8:])
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        load_checkpoint(model_file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"config": {}}', "NaN", "[" * 100_000])
def test_metadata_that_is_no_configuration_is_refused(model_file: Path, text: str) -> None:
    rehash(model_file, lambda tensors, metadata: metadata.update(model=text))
    with pytest.raises(CheckpointError, match=model_file.name):
        load_checkpoint(model_file)


def test_weights_of_another_program_point_to_the_import(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="wavediff import"):
        load_checkpoint(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=str(path)):
            load_checkpoint(path)
    with pytest.raises(CheckpointError, match="ends in"):
        save_checkpoint(tmp_path / "model.pt", CONFIG, {})


def test_labels_and_sample_rates_must_fit_the_model() -> None:
    with pytest.raises(ConfigError, match="distinct"):
        ModelConfig(labels=("dog", "dog"))
    with pytest.raises(ConfigError, match="differs from the mel's"):
        ModelConfig(mel=MelSpec.preset("hifigan"), sample_rate=24_000)
    with pytest.raises(ConfigError, match="sample_rate: 100 is not"):
        ModelConfig(sample_rate=100)  # else it would be trained, and its file refused


@pytest.mark.parametrize("kind", [*CONFIGS, "speech"])
def test_shapes_alone_are_those_of_the_model(kind: str) -> None:
    config = CONFIG if kind == "speech" else CONFIGS[kind]
    with shapes_only():
        alone = build_denoiser(config).state_dict()
    assert {tensor.device.type for tensor in alone.values()} == {"meta"}
    whole = build_denoiser(config).state_dict()
    assert [(name, x.shape) for name, x in alone.items()] == [(name, x.shape) for name, x in whole.items()]


def test_what_has_a_device_of_its_own_keeps_its_values() -> None:
    """Tables of the transforms are computed once and kept, whoever needs them first."""
    with shapes_only():
        table = 2 * torch.ones(2, device="cpu")
        square, noise = torch.eye(2, device="cpu"), torch.randn(1000, device="cpu")
        nn.init.constant_(table[:1], 5)
    assert table.tolist() == [5, 2]
    assert square.tolist() == [[1, 0], [0, 1]]
    assert 0.8 < noise.std() < 1.2


def test_loading_a_model_does_not_load_the_compiler_of_torch() -> None:
    """It takes seconds. In a process of its own, since other tests compile."""
    code = "import sys, wavediff; wavediff.Generator.from_pretrained(device='cpu'); wavediff.Vocoder.from_pretrained()"
    code += "; print([name for name in ('torch._dynamo', 'sympy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("pipeline", [wavediff.Vocoder, wavediff.Generator])
def test_the_bundled_model_has_a_name_unless_a_file_is_called_so(
    pipeline: type[wavediff.Vocoder | wavediff.Generator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pipeline.model_path("bundled") == pipeline.model_path(None)
    Path("bundled").mkdir()
    with pytest.raises(CheckpointError, match=r"bundled.model\.safetensors"):
        pipeline.from_pretrained("bundled")


def test_loading_what_is_bundled_draws_no_number_of_the_global_generator() -> None:
    before = torch.get_rng_state()
    for kind in (wavediff.Vocoder, wavediff.Generator, wavediff.BandExtension):
        loaded = kind.from_pretrained(device="cpu")
        if isinstance(loaded, wavediff.Vocoder):
            loaded.for_mels("vocos-24k")
        assert torch.equal(torch.get_rng_state(), before), kind


def test_weights_that_a_file_replaces_cost_the_global_generator_nothing() -> None:
    weights = {"weight": torch.randn(3, 2, 5), "bias": torch.randn(3)}
    before = torch.get_rng_state()

    def make() -> nn.Module:
        layer = nn.Conv1d(2, 3, 5)
        for draw in (nn.init.kaiming_normal_, nn.init.xavier_uniform_, nn.init.trunc_normal_, nn.init.orthogonal_):
            draw(layer.weight)
        layer.bias = nn.Parameter(0.1 * torch.randn(3))
        assert torch.equal(torch.get_rng_state(), before)  # not even for a moment, in which another thread may draw
        return layer

    network = built(make, weights, None, lambda name: name)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in weights.items())

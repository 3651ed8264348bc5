"""A vocoder as a page: what the browser computes is what Python computes of the same noise."""

import functools
import http.server
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch
from browser import AXE, browser
from sounds import small_generator
from vocoders import untrained

from wavediff import Generator
from wavediff.audio import read_audio
from wavediff.backbones import SpectralConfig
from wavediff.cli.demo import CLIP
from wavediff.cli.main import main
from wavediff.diffusion import CosineSchedule, ItemNoise, PriorConfig
from wavediff.errors import ConfigError, OutputError
from wavediff.exporting import export_web
from wavediff.exporting.modules import SoundSteps
from wavediff.exporting.web_folder import RUNTIME_FILES, SOUNDS
from wavediff.mel import MelSpec
from wavediff.models.config import ModelConfig
from wavediff.pipelines.vocoder import Vocoder

pytestmark = pytest.mark.slow

RUNTIME = Path(sys.prefix) / "npm" / "node_modules" / "onnxruntime-web"  # npm install --prefix .venv/npm NAME
WAITING = (
    "(holds) => new Promise((done) => { const look = setInterval("
    "() => { if (holds()) { clearInterval(look); done(); } }, 50); })"
)
SAMPLES = 5_000  # no whole number of frames


def small_vocoder() -> Vocoder:
    prior = PriorConfig(power=0.8, start_time=0.5, phase_iterations=2)
    return untrained(ModelConfig(SpectralConfig(8, 4, 1), CosineSchedule(), "v", prior, MelSpec.preset("hifigan")))


def rounded_generator() -> Generator:
    """One whose weights float16 holds exactly, as those of the bundled one are."""
    generator = small_generator("latent")
    with torch.no_grad():
        for weight in generator.denoiser.parameters():
            weight.copy_(weight.half())
    return generator


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def guess_type(self, path: str | os.PathLike[str]) -> str:
        return "text/javascript" if str(path).endswith("js") else super().guess_type(path)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not (RUNTIME / "dist" / RUNTIME_FILES[0]).exists():
        pytest.skip(f"onnxruntime-web is absent ({RUNTIME})")
    folder = tmp_path_factory.mktemp("web") / "page"
    vocoder = small_vocoder()
    facts = export_web(vocoder, folder, vocoder.plan(1), generator=rounded_generator(), runtime=RUNTIME)
    assert facts == json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    assert "bytes" not in facts  # that is how `wavediff export --json` calls the size of all files
    stored = onnx.load(folder / SOUNDS).graph.initializer
    assert any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in stored)  # half the bytes, the same numbers
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


def test_the_page_computes_what_python_does(address: str, tmp_path: Path) -> None:
    vocoder, (waveform, rate) = small_vocoder(), read_audio(CLIP)
    frames = -(-SAMPLES // vocoder.hop_length)
    waveform = waveform.reshape(-1)[20_000 : 20_000 + SAMPLES]
    noise = torch.randn(2, frames * vocoder.hop_length, generator=torch.Generator().manual_seed(0))
    filled = torch.nn.functional.pad(waveform, (0, frames * vocoder.hop_length - SAMPLES))
    mel = vocoder.mel(filled, rate)
    with browser(tmp_path) as page:
        page.open(address, 1280, 800)
        answer = page.run(
            "(async () => { const { Models } = await import('./models.js'); const models = new Models();"
            f"const samples = new Float32Array({waveform.tolist()});"
            f"const noise = new Float32Array({noise.flatten().tolist()});"
            "const given = await models.vocode(samples, { noise });"
            "const drawn = await models.vocode(samples, { seed: 3 });"
            "return { speech: [...given.speech], mel: [...given.mel], drawn: [...drawn.speech] }; })()"
        )
        page.run("document.getElementById('example').click()")
        page.run(f"({WAITING})(() => ['result', 'fault'].some((id) => !document.getElementById(id).hidden))")
        assert page.run("document.getElementById('fault').textContent") == ""
        assert "s of speech in" in page.run("document.getElementById('numbers').textContent")
        assert page.complaints == []
    torch.testing.assert_close(torch.tensor(answer["mel"]), mel.flatten(), rtol=0, atol=2e-4)
    expected = _sampled(vocoder, mel, noise)
    torch.testing.assert_close(torch.tensor(answer["speech"]), expected[:SAMPLES], rtol=0, atol=1e-3)
    drawn = torch.tensor(answer["drawn"])
    assert drawn.isfinite().all()
    assert 0.5 < drawn.std() / expected.std() < 2


def test_the_page_makes_the_sounds_that_python_makes(address: str, tmp_path: Path) -> None:
    generator, seed = rounded_generator(), 5
    items, of_vocoder = ItemNoise([seed]), ItemNoise([seed])
    with browser(tmp_path) as page:
        page.open(address, 1280, 800)
        facts = page.run("fetch('facts.json').then((answer) => answer.json())")["sounds"]
        (draws, values), (_, vocoder_draws, samples) = facts["shapes"]
        noise = torch.cat([items.normal(values) for _ in range(draws)])
        phases = torch.cat([of_vocoder.draw().take(samples) for _ in range(vocoder_draws)])
        answer = page.run(
            "(async () => { const { Models } = await import('./models.js'); const models = new Models();"
            f"const noise = new Float32Array({noise.flatten().tolist()});"
            f"const phases = new Float32Array({phases.flatten().tolist()});"
            "const given = await models.sound('metal', { noise, phases });"
            "const drawn = await models.sound('metal', { seed: 3 });"
            "return { given: [...given.sound], drawn: [...drawn.sound] }; })()"
        )
        page.run(f"({WAITING})(() => !document.getElementById('make').disabled)")
        page.run("document.querySelector('#labels input[value=wood]').click(); document.getElementById('make').click()")
        page.run(f"({WAITING})(() => document.querySelector('#cards a') || !document.getElementById('fault').hidden)")
        assert page.run("document.getElementById('fault').textContent") == ""
        assert page.run("document.querySelector('#cards a').download") == "wood-0.wav"
        assert page.run("document.getElementById('seed').value") == "1"
        page.run(f"({WAITING})(() => document.querySelector('#cards audio').duration)")
        length = page.run("document.querySelector('#cards audio').duration")
        assert length == pytest.approx(generator.seconds, abs=1e-3)
        assert not AXE.exists() or page.axe() == []
        assert page.complaints == []
    expected = generator.generate(seed=seed, label="metal")[0]
    torch.testing.assert_close(torch.tensor(answer["given"]), expected, rtol=0, atol=2e-3)
    drawn = torch.tensor(answer["drawn"])
    assert 0.3 < drawn.std() / expected.std() < 3


def test_a_loop_of_a_model_of_waveforms_makes_what_the_sampler_does() -> None:
    generator, noise = small_generator("unet"), ItemNoise([5])
    module = SoundSteps(generator, generator.plan(3, sampler="ddpm")).eval()
    label = torch.tensor([generator.config.labels.index("wood")])
    with torch.no_grad():
        made = module(label, torch.cat([noise.normal(module.values) for _ in range(module.draws)]))
    expected = generator.generate(seed=5, label="wood", num_steps=3)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


def test_what_no_page_can_make_is_refused() -> None:
    generator = small_generator("unet")
    for sampler in ("heun", "dpmpp-2m"):
        with pytest.raises(ConfigError, match=rf"sampler: {sampler} cannot be exported as a loop; choose ddpm or ddim"):
            SoundSteps(generator, generator.plan(5, sampler=sampler))
    with pytest.raises(ConfigError, match=r"config\.labels: only a generator with classes"):
        SoundSteps(small_generator("free"), generator.plan())


def _sampled(vocoder: Vocoder, mel: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Samples of a mel and its noise, without the page."""
    from wavediff.exporting.real_stft import MatrixSTFT
    from wavediff.exporting.tracing import module_of

    module, _ = module_of(vocoder, "sampler", vocoder.plan(1), MatrixSTFT)
    with torch.no_grad():
        return module(mel=mel, noise=noise[None])[0]


def test_bad_folders_and_runtimes_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"full: is no empty folder; choose another"):
        export_web(small_vocoder(), tmp_path / "full")
    with pytest.raises(ConfigError, match=r"--runtime: .*full holds no ort\.wasm\.min\.mjs"):
        export_web(small_vocoder(), tmp_path / "new", runtime=tmp_path / "full")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"npm: not found, .* install Node.js, or give the unpacked package"):
        export_web(small_vocoder(), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert main(["export", "--format", "onnx", "--runtime", "x", "-o", str(tmp_path / "a.onnx")]) == 2
    assert "--runtime: is of pages" in capsys.readouterr().err
    assert main(["export", "--format", "torch", "--generator", "x", "-o", str(tmp_path / "a.pt2")]) == 2
    assert "--generator: is of pages, not of --format torch; drop it" in capsys.readouterr().err

"""Models as a folder of static files: a page that vocodes recordings and makes sounds in the visitor's browser, without
a server.

The models run by ONNX Runtime Web, on one thread with SIMD, which every host of static files can serve.
"""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wavediff.arguments import as_path
from wavediff.diffusion import Plan
from wavediff.errors import ConfigError, OutputError
from wavediff.exporting.modules import Analysis, SoundSteps
from wavediff.exporting.onnx_file import ComplexPadding, export_onnx, write_onnx
from wavediff.exporting.tracing import traced, traced_sounds
from wavediff.files import atomic_write, write_text
from wavediff.models import WEIGHTS
from wavediff.pipelines.generator import Generator
from wavediff.pipelines.vocoder import Vocoder
from wavediff.report.markup import THEME

SOUNDS = "sounds.onnx"
RUNTIME = "onnxruntime-web@1.30.0"  # a package of npm
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_PAGE = Path(__file__).parent / "web"
_APP = Path(__file__).parents[1] / "app" / "static"
_SHARED = [_APP / name for name in ("app.css", "recording.js", "icon.svg")]
_COPIED = (*sorted(_PAGE.iterdir()), THEME, *_SHARED, WEIGHTS / "clip.flac")
_PATIENCE = 600  # [s] for the download of 33 MB


def export_web(
    vocoder: Vocoder,
    folder: str | os.PathLike[str],
    plan: Plan | None = None,
    *,
    generator: Generator | None = None,
    runtime: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the page, its models and its runtime; any web server serves the folder, `python -m http.server` too.

    Args:
        vocoder: without class labels.
        folder: new or empty.
        plan: of the sampler; `Vocoder.plan()` by default.
        generator: with classes, for sound effects in its usual number of steps; None leaves them out.
        runtime: folder of the unpacked npm package onnxruntime-web; by default npm fetches it.
        overwrite: replace files of the same names.

    Returns:
        What `facts.json` in the folder says: the metadata of the vocoder's ONNX file, numbers as numbers, and
        `loaded_bytes`, the size of models and runtime. Of the generator, `sounds`: `classes` (name -> labels),
        `sample_rate` [Hz], `samples` of a sound, `shapes` (of its noise and phases), `evaluations` and `loaded_bytes`.

    Raises:
        ConfigError: as `export_onnx`; the generator knows no classes; or the runtime is not in its folder, or npm is
            not there or fetches nothing.
        MissingExtraError: as `export_onnx`.
        OutputError: the folder holds files already, or one cannot be written.
    """
    folder = check_folder(folder, overwrite=overwrite)
    with _runtime(runtime) as files:
        folder.mkdir(parents=True, exist_ok=True)
        facts = export_onnx(vocoder, folder / "vocoder.onnx", "sampler", plan, overwrite=overwrite)
        analysis = Analysis(vocoder.mel_spec).eval()
        write_onnx(traced(analysis, vocoder.mel_spec), "mel", folder / "mel.onnx", {}, overwrite=overwrite)
        sounds = None if generator is None else _write_sounds(generator, folder / SOUNDS, overwrite=overwrite)
        for source in (*files, *_COPIED):
            with atomic_write(folder / source.name, overwrite=overwrite) as temporary:
                shutil.copyfile(source, temporary)
    weighed = ("vocoder.onnx", "mel.onnx", *RUNTIME_FILES)
    told = {name: _value(value) for name, value in facts.items()} | {
        "least_frames": -(-vocoder.mel_spec.min_samples // vocoder.hop_length),
        "loaded_bytes": sum((folder / name).stat().st_size for name in weighed),
        "sounds": sounds,
    }
    write_text(folder / "facts.json", json.dumps(told, indent=1), overwrite=overwrite)
    return told


def check_folder(folder: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """What `export_web` asks of its folder, for those who must know before the work and not after it.

    Raises:
        OutputError: it is a file, or holds files already and `overwrite` is false.
    """
    folder = as_path(folder, "folder", OutputError)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, and a page is a folder; choose another name")
    if not overwrite and folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder}: is no empty folder; choose another, or pass --overwrite (overwrite=True)")
    return folder


def _write_sounds(generator: Generator, path: Path, *, overwrite: bool) -> dict[str, Any]:
    """The file of a generator, and what a page must know of it."""
    module = SoundSteps(generator, generator.plan()).eval()
    with ComplexPadding():
        program = traced_sounds(module)
    write_onnx(program, module.output, path, {}, halve=True, overwrite=overwrite)
    labels, inputs = generator.config.labels, module.inputs()
    return {
        "classes": {name: [labels.index(kind) for kind in kinds] for name, kinds in generator.config.classes.items()},
        "sample_rate": generator.sample_rate,
        "samples": len(module.edges),
        "shapes": [list(inputs[name].shape) for name in ("noise", "phases") if name in inputs],
        "evaluations": 2 * module.draws,
        "loaded_bytes": path.stat().st_size,
    }


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@contextmanager
def _runtime(folder: str | os.PathLike[str] | None) -> Iterator[list[Path]]:
    """The files of ONNX Runtime Web, which npm fetches if no folder has them."""
    if folder is not None:
        yield _found(Path(folder), "--runtime")
        return
    with tempfile.TemporaryDirectory() as place:
        try:
            command = ["npm", "pack", RUNTIME, "--silent", "--pack-destination", place]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PATIENCE, cwd=place)
        except FileNotFoundError as error:
            raise ConfigError(
                f"npm: not found, and it fetches {RUNTIME}; install Node.js, or give the unpacked package as --runtime"
            ) from error
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            lines = str(error.stderr or error).strip().splitlines()
            raise ConfigError(
                f"npm: did not fetch {RUNTIME} ({lines[0] if lines else 'no reason given'}); look at the network, or "
                "give the unpacked package as --runtime"
            ) from error
        with tarfile.open(next(Path(place).glob("*.tgz"))) as archive:
            archive.extractall(place, filter="data")
        yield _found(Path(place) / "package", "npm")


def _found(folder: Path, origin: str) -> list[Path]:
    for place in (folder, folder / "dist"):
        files = [place / name for name in RUNTIME_FILES]
        if all(file.is_file() for file in files):
            return files
    raise ConfigError(f"{origin}: {folder} holds no {RUNTIME_FILES[0]}; give the unpacked npm package onnxruntime-web")

"""Mistakes that anybody makes: each is answered by one line that names what is wrong and the cure."""

import re
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
import torch
from handmade import saved, wav

import wavediff
from wavediff.audio import read_audio, write_audio
from wavediff.cli import info
from wavediff.cli.demo import CLIP
from wavediff.cli.main import main
from wavediff.errors import AudioError
from wavediff.models import WEIGHTS

# What is typed, and what the one line says. The first ten are of people who tried the program without help.
MISTAKES = {
    "vocode nosuch.wav -o out.wav": r"nosuch.wav: cannot be read .*check its name",
    "vocode voice.mp3 -o out.wav": r"voice.mp3: .*MP3.*convert it to WAV, FLAC or OGG",
    "vocode -dash.wav -o out.wav": r"-dash.wav: a name with a dash first is taken for an option; write ./-dash.wav",
    "vocode voice.wav -o -x.wav": r"-o/--output: needs a value; of a name with a dash first write ./-name",
    f"info {300 * 'x'}.wav": r"x.wav: cannot be looked at \(File name too long\); check the name",
    f"doctor {300 * 'x'}.npy": r"x.npy: .*File name too long.*; shorten",
    f"generate --checkpoint {300 * 'x'}": r"x: .*File name too long.*; shorten",
    f"export {300 * 'x'}.ckpt -o a.safetensors": r"x.ckpt: .*File name too long.*; shorten",
    f"search bundled {300 * 'x'}.jsonl -o a": r"x.jsonl: .*File name too long.*; shorten",
    "vocode voice.wav": r"-o/--output: missing; for example: wavediff vocode recording.wav -o speech.wav",
    "vocode voice.wav -o file.txt/out.wav": r"file.txt/out.wav: .*is a file and no folder; choose another",
    "vocode voice.wav -o out.wav --num-steps 0": r"num_steps: 0 is not a whole number from 1 to",
    "vocode turned.npy -o out.wav": r"turned.npy: .*transposed.*; swap its last two axes",
    "vocode flat.npy -o out.wav": r"flat.npy: shape \(80,\) is not \(n_mels, frames\)",
    f"vocode voice.wav -o out.wav --checkpoint {WEIGHTS}/generator.safetensors": r"takes no mel.*`wavediff generate`",
    "generate --label glas": r"--label: 'glas' is unknown, the nearest are glass, laser",
    "vocod voice.wav": r"^wavediff: vocod: is no command \(did you mean vocode\?\)",
    # Our own ten, and some more.
    "voice.wav": r"voice.wav: is no command.*`wavediff vocode voice.wav -o speech.wav`",
    "vocode voice.wav -o out.wav --quit": r"--quit: is no option of this command \(did you mean --quiet\?\)",
    "vocode voice.wav -o out.wav --mel-spec tacotron": r"no preset is named 'tacotron' \(did you mean tacotron2\?\)",
    "vocode voice.wav -o out.wav --sampler dpmp-2m": r"sampler: 'dpmp-2m' is unknown \(did you mean dpmpp-2m\?\)",
    "vocode voice.wav -o out.wav --schedule cosin": r"schedule: 'cosin' is unknown \(did you mean cosine\?\)",
    "vocode voice.wav -o voice.wav": r"voice.wav: already exists|voice.wav: is an input",
    "vocode voice.wav -o out.mp3": r"out.mp3: .mp3 is not written; choose .wav, .flac, .ogg, .oga or a folder",
    "generate --format mp3": r"--format: mp3 is unknown; choose from wav, flac, ogg",
    "generate --count many": r"--count: 'many' is not a whole number; give one",
    "generate --guidance 3": r"--guidance: leads to a class; give --label, or leave --guidance out",
    "prepare foldr . -o data": r"CORPUS: foldr is unknown \(did you mean folder\?\); choose from ljspeech",
    "prepare folder . -o data --valid-fractoin .1": r"--valid-fractoin: is no option .*did you mean --valid-fraction",
    "evaluate voice.wav voice.wav --metrics peqs": r"metrics: peqs unknown \(did you mean pesq\?\); choose from",
    "report empty -o page.html": r"empty: holds no sound .*name the folder that does",
    "info my voice.wav": r"voice.wav: is too much; quote a name that holds spaces",
    "doctor voice.wav": r"voice.wav: a mel is kept in a .npy or .safetensors file",
    "vocode vocos.npy -o out.wav": r"expected 80 bands \(hifigan\), got 100; .*vocos-24k, .*--mel-spec",
    "generate --between 1 2 --seed 7": r"--seed: the two seeds of --between decide all noise; leave it out",
    "generate --pack pack -o elsewhere": r"--output: a pack lies in the folder of --pack; leave one of them out",
    "generate --pack pack --format ogg": r"--format: a pack has 24 bits a sample, which OGG has not; give wav or flac",
    "generate --pack pack --loop --format flac": r"--format: only WAV files hold loop points; leave --format or --loop",
    "evaluate voice.wav voice.wav --ids file.txt": r"--ids: chooses among the recordings of folders; leave it out",
    "bench --against itself --channels 3": r"--channels: is for --against diffwave, not itself; leave it out",
    "search bundled voice.wav --update": r"--update: the bundled model stays as it is; the plans are stored in",
    "search bundled voice.wav --trials 2": r"^wavediff search: trials: 2 is not a whole number from 4 to 100000",
    "export --format onnx -o file.txt": r"file.txt: a file of this format ends in .onnx; rename it",
    f"export {WEIGHTS}/vocoder.safetensors -o out.safetensors": r"vocoder.safetensors: is a model file already; give a",
    "export --format web -o file.txt --overwrite": r"file.txt: is a file, and a page is a folder; choose",
    "export --format web -o .": r"^wavediff export: .: is no empty folder; choose another, or pass --overwrite",
    "generate --label glass -o glass.wav": r"glass.wav: is to be a folder, in which sounds have names .*; write glass/",
    "evaluate /dev/null voice.wav": r"/dev/null: is no file and no folder; name recordings",
    "evaluate voice.wav gone": r"gone: no such file or folder; check the path",
    "search bundled voice.wav --seconds nan": r"^wavediff search: seconds: nan is not a number from 0.5 to 60$",
    "search bundled voice.wav --clips 0": r"^wavediff search: clips: 0 is not a whole number from 1 to 1000$",
    "search bundled voice.wav --draws 101": r"^wavediff search: draws: 101 is not a whole number from 1 to 100$",
    "export file.txt -o a.safetensors": r"file.txt: is no training checkpoint, which torch.save writes; use another",
    "export empty.ckpt -o a.safetensors": r"empty.ckpt: is empty; use another copy of it",
    "import voice.wav -o a.safetensors": r"voice.wav: is no DiffWave checkpoint, which torch.save writes; use another",
    "bench --against itself --lengths nan": r"--lengths: nan is not a number above 0 and at most 100000",
    "bench --against itself --lengths 1 1e9": r"--lengths: 1000000000.0 is not a number above 0 and at most 100000",
    "bench --against itself --batches 0": r"--batches: 0 is not a whole number from 1 to 10000",
    "bench --seconds inf": r"--seconds: inf is not a number above 0 and at most 100000",
    "bench --repeats 0": r"--repeats: 0 is not a whole number of at least 1",
    "train recipe.yaml": r"recipe.yaml: a recipe follows --config; write `wavediff train --config recipe.yaml`",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    write_audio(folder / "voice.wav", *read_audio(CLIP, frames=22_050))
    saved(folder, b"ID3\x04" + wav()[:200], "voice.mp3")
    np.save(folder / "turned.npy", np.full((30, 80), -4.0, np.float32))
    np.save(folder / "vocos.npy", np.full((100, 30), -4.0, np.float32))
    np.save(folder / "flat.npy", np.full(80, -4.0, np.float32))
    (folder / "file.txt").write_text("no folder", encoding="utf-8")
    (folder / "empty").mkdir()
    (folder / "-dash.wav").touch()
    (folder / "empty.ckpt").touch()
    (folder / "list.jsonl").write_text('{"path": "voice.wav"}\n', encoding="utf-8")
    return folder


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_answered_by_one_line_with_its_cure(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    before = set(folder.rglob("*"))
    try:
        status = main(command.split())
    except SystemExit as leaving:
        status = int(str(leaving.code))
    assert status == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1, printed.err
    assert re.search(MISTAKES[command], printed.err), printed.err
    assert printed.err.startswith("wavediff")
    assert set(folder.rglob("*")) - before <= {folder / "data"}


def test_a_lack_of_memory_is_one_line_and_other_errors_of_torch_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons: list[Exception] = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.\nSee the documentation")]
    for reason in (*reasons, RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")):
        monkeypatch.setattr(info, "run", Mock(side_effect=reason))
        assert main(["info"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.fullmatch(r"wavediff info: out of memory \(.+\); ask for less at once, or free memory", line)
    monkeypatch.setattr(info, "run", Mock(side_effect=RuntimeError("sizes do not match")))
    with pytest.raises(RuntimeError, match="sizes"):
        main(["info"])


@pytest.mark.parametrize("long", [False, True])
def test_a_recording_of_another_scale_says_its_own(
    long: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its mel is ours, so nothing is said of dialects; also where it is read in pieces."""
    monkeypatch.setattr(wavediff.bulk.jobs, "LONG_SECONDS", 0.1 if long else 600)
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, np.array([0, 90, -90, 0] * 2000, np.float32), 22_050, "FLOAT")
    assert main(["vocode", str(loud), "-o", str(tmp_path / "out.wav")]) == 2
    fault = "its samples reach 90, and full scale is 1; divide them by 90"
    assert capsys.readouterr().err.splitlines()[-1] == f"wavediff vocode: {loud}: {fault}"
    with pytest.raises(AudioError, match=f"^waveform: {fault}$"):
        wavediff.Vocoder.from_pretrained(device="cpu")(torch.full((22_050,), 90.0), 22_050)

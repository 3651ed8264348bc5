"""What a program has set for all of torch changes nothing here: `device=` and the types that are documented win."""

import subprocess
import sys

import pytest
from conftest import REPOSITORY

SMOKE = """
import sys, tempfile, warnings
import numpy as np
import torch
import wavediff
from wavediff.audio import centred, ended, read_audio, resample, trim, with_peak, write_audio
from wavediff import StreamPool
from wavediff.compat import HiFiGANVocoder
from wavediff.data.augment import Augment
from wavediff.mel import MelTransform, check_mel, convert, diagnose, pseudo_inverse
from wavediff.metrics import evaluate_pair

warnings.simplefilter("ignore")
torch.manual_seed(0)
x = 0.1 * torch.randn(4000)
rates = (22050, 16000, 22051)


def results(vocoder, generator, folder):
    mel = vocoder.mel(x, 22050)
    yield from (vocoder.mel(x, rate) for rate in rates)
    yield vocoder.mel(x.tolist(), 22050)
    yield vocoder.mel(np.asarray(x.tolist()), 22050)
    yield vocoder.for_mels("vocos-24k").mel(x, 24000)
    yield vocoder.decode(mel, 2)
    yield vocoder.decode(torch.cat([mel, mel]), 1, lengths=[5, 9])
    yield torch.cat(list(vocoder.stream(mel.split(5, -1), 1)), -1)
    yield from vocoder.states(mel, 2)
    yield HiFiGANVocoder(vocoder)(mel)
    yield generator.generate(2, 0.2, num_steps=1)
    yield generator.generate(1, 0.2, "engine", num_steps=1, sampler="heun", schedule="karras", loop=True)
    yield generator.vary(x, 22050, num_steps=1)
    yield generator.interpolate(1, 2, count=2, seconds=0.2, num_steps=1)
    yield generator.interpolate(x, -x, 22050, 2, num_steps=1)
    yield generator.inpaint(x, 22050, 0.05, 0.1, num_steps=1)
    yield from generator.states(0.2, num_steps=1)
    yield vocoder.decode(mel, 1, low_latency=True)
    pool = StreamPool(vocoder, 1)
    yield pool.push({pool.open(): mel[0, :, :1]})[1]
    yield MelTransform("hifigan")(x[None])
    yield convert(mel, "hifigan", "tacotron2")
    yield pseudo_inverse(mel, "hifigan", iterations=2)
    yield check_mel(mel, "hifigan")
    yield trim(x, 22050)
    yield centred(x, 22050)
    yield ended(x, 22050)
    yield with_peak(x)
    write_audio(f"{folder}/x.wav", x, 22050, overwrite=True)
    yield read_audio(f"{folder}/x.wav", 16000)[0]
    assert diagnose(mel).certainty >= 0
    Augment(share=1.0).draw(torch.Generator().manual_seed(0))
    figures = evaluate_pair(x, x, 22050, ["mr_stft", "log_mel_l1", "mcd", "noise_floor", "peak", "high_band_voiced"])
    assert figures["mcd"] == figures["mr_stft"] == 0


def load():
    return wavediff.Vocoder.from_pretrained(device="cpu"), wavediff.Generator.from_pretrained(device="cpu")


with tempfile.TemporaryDirectory() as folder:
    before = load()
    if sys.argv[1] == "float64":
        torch.set_default_dtype(torch.float64)
    else:
        torch.set_default_device("meta")
    found = list(results(*load(), folder))  # what is kept of it is computed under these defaults, too
    old = [before[0].decode(before[0].mel(x, 22050), 2), before[1].generate(2, 0.2, num_steps=1)]
    torch.set_default_dtype(torch.float32)
    torch.set_default_device("cpu")
    wanted = list(results(*before, folder))
    found += old
    wanted += [before[0].decode(before[0].mel(x, 22050), 2), before[1].generate(2, 0.2, num_steps=1)]
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        assert one.dtype == other.dtype == torch.float32, (number, one.dtype)
        assert one.device.type == "cpu", number
        assert one.shape == other.shape, number
        assert not one.numel() or (one - other).abs().max() < 5e-3, (number, float((one - other).abs().max()))
print(len(wanted), "results are the same")
"""


@pytest.mark.parametrize("state", ["float64", "meta"])
def test_defaults_of_torch_change_neither_type_nor_device_nor_result(state: str) -> None:
    done = subprocess.run([sys.executable, "-c", SMOKE, state], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("results are the same")

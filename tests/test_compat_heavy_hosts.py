"""Coqui's own Synthesizer and ESPnet's own Text2Speech: skipped where they are not installed, as they bring a lot."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hosts import STEPS, small_vocoder
from torch import Tensor

from wavediff.compat import CoquiVocoder, ESPnetVocoder
from wavediff.mel import MelSpec, convert


def test_coquis_own_synthesizer_speaks_with_an_attached_vocoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesizers = pytest.importorskip("TTS.utils.synthesizer", exc_type=ImportError)
    from TTS.tts.configs.tacotron2_config import Tacotron2Config
    from TTS.tts.models import setup_model

    config = Tacotron2Config(r=2, use_phonemes=False, text_cleaner="basic_cleaners")
    config.audio.do_trim_silence = False
    config.audio.signal_norm = False  # as in LJ Speech's recipes
    torch.manual_seed(0)
    model = setup_model(config)
    with torch.no_grad():
        model.decoder.linear_projection.linear_layer.bias.copy_(torch.linspace(-1, -9, 80).repeat(2))
    torch.save({"model": model.state_dict(), "step": 0}, tmp_path / "model.pth")
    config.save_json(str(tmp_path / "config.json"))
    synthesizer = synthesizers.Synthesizer(
        tts_checkpoint=str(tmp_path / "model.pth"), tts_config_path=str(tmp_path / "config.json")
    )
    synthesizer.tts_model.decoder.max_decoder_steps = 8

    ours = small_vocoder("hifigan")
    adapted = CoquiVocoder(ours, num_steps=STEPS)
    heard: list[Tensor] = []
    inference = adapted.inference
    monkeypatch.setattr(adapted, "inference", lambda mel: heard.append(mel) or inference(mel))
    adapted.attach(synthesizer)
    spoken = np.asarray(synthesizer.tts("hello there", split_sentences=False))
    (mel,) = heard
    expected = ours.decode(convert(mel, MelSpec.preset("coqui"), ours.mel_spec), STEPS)[0].numpy()
    assert np.array_equal(spoken[: len(expected)], expected)
    assert not spoken[len(expected) :].any()  # the pause that Coqui puts behind a sentence
    assert synthesizer.output_sample_rate == 22050


def test_espnets_own_text2speech_speaks_with_an_assigned_vocoder(tmp_path: Path) -> None:
    inference = pytest.importorskip("espnet2.bin.tts_inference", exc_type=ImportError)
    from espnet2.tasks.tts import TTSTask

    mean = np.linspace(-0.5, -4, 80)  # decimal logarithms
    np.savez(tmp_path / "stats.npz", count=100, sum=100 * mean, sum_square=100 * (mean**2 + 0.3))
    (tmp_path / "tokens.txt").write_text("\n".join(["<blank>", "<unk>", *"helo", "<sos/eos>"]))
    sizes = {"embed_dim": 8, "elayers": 1, "eunits": 8, "econv_layers": 1, "econv_chans": 8, "dlayers": 1, "dunits": 8}
    sizes |= {"prenet_units": 8, "postnet_layers": 1, "postnet_chans": 8, "adim": 8, "aconv_chans": 2}
    options = {
        "--tts_conf": [f"{key}={value}" for key, value in sizes.items()],
        "--feats_extract_conf": ["n_fft=1024", "hop_length=256", "fmin=80", "fmax=7600", "fs=22050", "n_mels=80"],
        "--normalize_conf": [f"stats_file={tmp_path / 'stats.npz'}"],
    }
    arguments = ["--output_dir", str(tmp_path), "--token_list", str(tmp_path / "tokens.txt"), "--token_type", "char"]
    for name, values in options.items():
        arguments += [part for value in values for part in (name, value)]
    TTSTask.main(cmd=[*arguments, "--dry_run", "true", "--ngpu", "0"])  # writes config.yaml
    torch.manual_seed(0)
    text2speech = inference.Text2Speech(tmp_path / "config.yaml", minlenratio=4.0, maxlenratio=5.0)

    ours = small_vocoder("espnet")
    text2speech.vocoder = ESPnetVocoder(ours, num_steps=STEPS)
    output = text2speech("hello")
    feats = output["feat_gen_denorm"]  # (frames, 80)
    assert not torch.equal(feats, output["feat_gen"])
    assert torch.equal(output["wav"], ours.decode(feats.T, STEPS))
    assert output["wav"].shape == (len(feats) * 256,)
    assert text2speech.fs == 22050

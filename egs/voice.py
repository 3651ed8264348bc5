"""One voice in a minute: the bundled vocoder goes on learning on a folder of recordings, in a plain loop of torch.

The last recording is held out: the metrics, and before.wav and after.wav, are of it. Longer runs, that resume and
validate: recipes/finetune.

Run: python egs/voice.py RECORDINGS --seconds 60 --output voice
"""

import argparse
import time
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import wavediff
from wavediff.audio import iter_audio_files, read_audio, write_audio
from wavediff.backbones import Condition
from wavediff.diffusion import ItemNoise, SignalRegression, SpectralLoss
from wavediff.mel import MelTransform
from wavediff.metrics import log_mel_l1, mr_stft

SEGMENT = 64  # frames of a training item, three quarters of a second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="folder of audio files, two at least")
    parser.add_argument("--seconds", type=float, default=60, help="of training (default 60)")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--checkpoint", type=Path, help="where to begin (default: the bundled vocoder)")
    parser.add_argument("--output", type=Path, default=Path("voice"))
    args = parser.parse_args()

    vocoder = wavediff.Vocoder.from_pretrained(args.checkpoint, "cpu")
    denoiser, spec = vocoder.denoiser, vocoder.mel_spec
    length = SEGMENT * spec.hop_length
    clips = [read_audio(path, spec.sample_rate)[0] for path in iter_audio_files(args.recordings)]
    clips = [clip for clip in clips if len(clip) > length]
    if len(clips) < 2:
        raise SystemExit(
            f"{args.recordings}: holds {len(clips)} recordings over {length / spec.sample_rate:.1f} s, 2 are needed"
        )
    held_out = clips.pop()

    def judge(name: str) -> None:
        speech = vocoder(held_out, spec.sample_rate).cpu()
        write_audio(args.output / f"{name}.wav", speech, spec.sample_rate, overwrite=True)
        pair = held_out[: len(speech)], speech, spec.sample_rate
        print(f"{name}: MR-STFT {mr_stft(*pair):.3f}, log-mel L1 {log_mel_l1(*pair):.3f}")

    judge("before")
    # What the bundled vocoder was trained with: recipes/universal/fast.yaml.
    objective, spectral_loss = (
        SignalRegression(guess_share=0.75, guess_time=0.4, phase_iterations=40),
        SpectralLoss(spec),
    )
    transform, generator = MelTransform(spec), torch.Generator().manual_seed(0)
    denoiser.train().requires_grad_(True)
    average = AveragedModel(denoiser, multi_avg_fn=get_ema_multi_avg_fn(0.98))  # of the weights, over some 50 steps
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=args.learning_rate)
    start, step = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < args.seconds:
        chosen = torch.randint(len(clips), (args.batch_size,), generator=generator).tolist()
        starts = [int(torch.randint(len(clips[index]) - length, (), generator=generator)) for index in chosen]
        batch = torch.stack([clips[index][first : first + length] for index, first in zip(chosen, starts, strict=True)])
        process = denoiser.bind(Condition(transform(batch)[..., :SEGMENT]))
        noise = ItemNoise(range(step * args.batch_size, (step + 1) * args.batch_size))
        lengths = torch.full((args.batch_size,), length)
        loss = objective(process, batch, lengths, noise, spectral_loss).mean
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 5.0)
        optimizer.step()
        average.update_parameters(denoiser)
        step += 1
        if step % 10 == 0:
            print(f"{elapsed:4.0f} s, step {step}: loss {loss.item():.3f}", flush=True)

    denoiser.load_state_dict(average.module.state_dict())
    denoiser.eval().requires_grad_(False)
    judge("after")
    vocoder.save(args.output / "model.safetensors", overwrite=True)
    print(f"{args.output / 'model.safetensors'}: after {step} steps; `wavediff vocode --checkpoint` takes it")


if __name__ == "__main__":
    main()

"""What was read becomes speech in files."""

import errno
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavediff.audio import AudioWriter, write_audio
from wavediff.bulk.jobs import Fault, Item
from wavediff.bulk.reading import Loaded, mel_file_pieces, recording_pieces
from wavediff.diffusion import ItemNoise, SamplingOptions
from wavediff.diffusion.noise import check_seeds
from wavediff.errors import ClippingWarning, ConfigError, OutputError, WavediffError
from wavediff.mel import MelSpec, checked_mel, convert
from wavediff.pipelines.mels import Clipping
from wavediff.pipelines.vocoder import Vocoder

Outcome = dict[str, Any] | Fault
"""Of a file: a row (input, output, seconds, sample_rate, nfe, rtf), or why there is none."""


_FOR_ALL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}  # what is wrong with all outputs


@dataclass(frozen=True)
class Settings:
    """How every file of a run is treated; what is not said here is said at `read_audio`.

    Attributes:
        sampling: as `Vocoder.decode` takes it; the seed is that of every file, so neither order nor company changes
            what becomes of it.
        mel_spec: dialect of the mels, also of those that recordings are turned into; None for what a file says, or for
            the model's.
    """

    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    mel_spec: MelSpec | None = None
    lenient: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class Blueprint:
    """What a process needs to know to make a decoder of its own.

    Attributes:
        checkpoint: as `from_pretrained` takes it.
        settings: of the run.
        precision, fused: as `Vocoder.to` takes them; precision by its name in torch.
    """

    checkpoint: Path | None
    settings: Settings
    precision: str = "float32"
    fused: bool = False

    def decoder(self, device: str) -> "Decoder":
        """With the model, on a device.

        Raises:
            ConfigError: the device is not there, or is none for `fused`.
            CheckpointError: the model cannot be loaded.
            SamplingError: as `Decoder`.
        """
        vocoder = Vocoder.from_pretrained(self.checkpoint, device).for_mels(self.settings.mel_spec)
        if self.fused and vocoder.device.type == "cpu":
            raise ConfigError("--fused: is for a GPU, and this runs on the CPU; drop it")
        vocoder.to(vocoder.device, precision=getattr(torch, self.precision), fused=self.fused)
        return Decoder(vocoder, self.settings)


class Decoder:
    """Turns batches into files.

    Attributes:
        vocoder: the model, on its device.
        settings: of the run.
        advance: called with seconds of audio as they are done.

    Raises:
        SamplingError: steps, schedule, sampler or seed are not possible.
    """

    def __init__(self, vocoder: Vocoder, settings: Settings, advance: Callable[[float], object] = lambda _: None):
        self.vocoder, self.settings, self.advance = vocoder, settings, advance
        sampling = settings.sampling
        self.sampling: dict[str, Any] = asdict(sampling)
        ItemNoise(check_seeds(sampling.seed, 1, "files"))  # an impossible seed is one fault, not one of each file
        self.nfe = vocoder.plan(sampling.num_steps, sampling.schedule, sampling.sampler).evaluations

    def __call__(self, batch: Sequence[Loaded | Fault]) -> Iterator[Outcome]:
        """The outcomes of a batch; of what was done before, none.

        Raises:
            OutputError: the disk is full or protected, so that nothing that follows could be written either.
        """
        mels: list[tuple[Item, Tensor]] = []
        for loaded in batch:
            if isinstance(loaded, Fault):
                yield loaded
                continue
            for text in loaded.warnings:
                warnings.warn(text, stacklevel=2)
            try:
                if loaded.values is None:
                    yield self._in_pieces(loaded.item)
                else:
                    mels.append((loaded.item, self._mel(loaded)))
            except WavediffError as error:
                yield self._fault(loaded.item, error)
        yield from self._together(mels)

    def _mel(self, loaded: Loaded) -> Tensor:
        """(n_mels, frames), in the model's dialect."""
        source, own = loaded.item.job.source, self.vocoder.mel_spec
        values, given = torch.from_numpy(loaded.values), self.settings.mel_spec or loaded.spec
        if loaded.sample_rate is None:
            return checked_mel(values, given, own, source=str(source))[0]
        try:
            mel = self.vocoder.mel(values, loaded.sample_rate, given)[0]
            return convert(mel, given, own) if given else mel
        except WavediffError as error:
            raise type(error)(f"{source}: {re.sub('^(waveform|mel): ', '', str(error))}") from error

    def _together(self, mels: list[tuple[Item, Tensor]]) -> Iterator[Outcome]:
        if all(item.done for item, _ in mels):
            return
        start = time.perf_counter()
        try:
            speech = self._decode([mel for _, mel in mels], [item for item, _ in mels])
        except (WavediffError, torch.OutOfMemoryError) as error:
            if len(mels) == 1:
                yield self._fault(mels[0][0], error)
                return
            if isinstance(error, torch.OutOfMemoryError):
                advice = "lower --batch-seconds or --batch-size"
                warnings.warn(f"no memory for {len(mels)} files at once, they go one by one; {advice}", stacklevel=2)
            for pair in mels:
                yield from self._together([pair])
            return
        elapsed = time.perf_counter() - start
        rtf = elapsed / sum(map(len, speech)) * self.vocoder.sample_rate
        for (item, _), waveform in zip(mels, speech, strict=True):
            if not item.done:
                yield self._written(item, waveform, rtf)

    def _decode(self, mels: list[Tensor], items: list[Item]) -> list[Tensor]:
        """The speech (N,) of each mel, on the CPU."""
        lengths = [mel.shape[1] for mel in mels]
        padded = mels[0].new_zeros(len(mels), len(mels[0]), max(lengths))
        for row, mel in zip(padded, mels, strict=True):
            row[:, : mel.shape[1]] = mel
        seconds, told = sum(item.seconds for item in items if not item.done), 0.0

        def on_step(done: int, total: int) -> None:
            nonlocal told
            self.advance(seconds * done / total - told)
            told = seconds * done / total

        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "mel: (values span|.* frames, the first at)"
            )  # each mel has been judged under its own name
            warnings.simplefilter("ignore", ClippingWarning)  # and its speech will be
            speech = self.vocoder.decode(
                padded, lengths=lengths, on_step=on_step, mel_spec=self.vocoder.mel_spec, **self.sampling
            ).cpu()
        return [row[: length * self.vocoder.hop_length] for row, length in zip(speech, lengths, strict=True)]

    def _written(self, item: Item, waveform: Tensor, rtf: float) -> Outcome:
        try:
            write_audio(item.job.target, waveform, self.vocoder.sample_rate, overwrite=self.settings.overwrite)
        except WavediffError as error:
            return self._fault(item, error)
        Clipping(waveform).warn(str(item.job.source))
        return self._row(item, len(waveform), rtf)

    def _in_pieces(self, item: Item) -> Outcome:
        """From file to file, in memory that does not grow with the length."""
        source, own, settings = item.job.source, self.vocoder.mel_spec, self.settings
        if item.job.is_mel:
            pieces = mel_file_pieces(source, settings.mel_spec, own)
        else:
            given = settings.mel_spec or own
            pieces = recording_pieces(source, given, own, self.vocoder.device, lenient=settings.lenient)
        start, rate, clipping = time.perf_counter(), self.vocoder.sample_rate, Clipping()
        with AudioWriter(item.job.target, rate, overwrite=settings.overwrite) as writer, warnings.catch_warnings():
            warnings.simplefilter("ignore", ClippingWarning)  # it would not name the file
            for part in self._spoken(pieces):
                clipping.count(part)
                writer.write(part)
                self.advance(len(part) / rate)
        clipping.warn(str(source))
        return self._row(item, writer.frames, (time.perf_counter() - start) * rate / writer.frames)

    def _spoken(self, pieces: Iterator[Tensor]) -> Iterator[Tensor]:
        """The speech (n,) of a mel in pieces (n_mels, n), all of it at once where the network does not stream."""
        if self.vocoder.streams:
            return self.vocoder.stream(pieces, **self.sampling)
        return iter([self.vocoder.decode(torch.cat(list(pieces), 1), mel_spec=self.vocoder.mel_spec, **self.sampling)])

    def _row(self, item: Item, samples: int, rtf: float) -> dict[str, Any]:
        return {
            "input": str(item.job.source),
            "output": str(item.job.target),
            "seconds": samples / self.vocoder.sample_rate,
            "sample_rate": self.vocoder.sample_rate,
            "nfe": self.nfe,
            "rtf": rtf,
        }

    def _fault(self, item: Item, error: WavediffError | torch.OutOfMemoryError) -> Fault:
        if isinstance(error, torch.OutOfMemoryError):
            return Fault(item.job, f"{item.job.source}: no memory for {item.seconds:.0f} s; use another --device")
        if isinstance(error, OutputError) and getattr(error.__cause__, "errno", None) in _FOR_ALL:
            raise error
        text = str(error)
        named = text.startswith((str(item.job.source), str(item.job.target)))
        return Fault(item.job, text if named else f"{item.job.source}: {text}")


def listen(decoder: Decoder, batch: Sequence[Loaded | Fault]) -> Iterator[Outcome | Warning]:
    """The outcomes of a batch, and what was warned of meanwhile, for another process to repeat."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for outcome in decoder(batch):
            yield from _warned(caught)
            yield outcome
        yield from _warned(caught)


def _warned(caught: list[warnings.WarningMessage]) -> Iterator[Warning]:
    while caught:
        message = caught.pop(0).message
        yield message if isinstance(message, Warning) else UserWarning(message)


def find_devices(device: str, count: int) -> list[str]:
    """A device for each of `count` processes.

    Args:
        device: "auto" (GPUs where there are some), "cpu" or "cuda"; for one process as `from_pretrained` takes it.
        count: 1 or more.

    Raises:
        ConfigError: the devices are not there, or `device` is a single one.
    """
    if count == 1:
        return [device]
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device: {device} is one device, {count} processes share the run; use cuda or cpu")
    gpus = torch.cuda.device_count()
    if device == "cpu" or (device == "auto" and gpus == 0):
        return ["cpu"] * count
    if count > gpus:
        raise ConfigError(f"--devices: {count} asked for, this machine has {gpus} GPUs; lower it, or use --device cpu")
    return [f"cuda:{number}" for number in range(count)]

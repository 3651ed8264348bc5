"""Mel spectrograms to speech, and recordings to mels and back."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

from wavediff.arguments import Values, as_waveform
from wavediff.backbones import Condition
from wavediff.diffusion import ItemNoise, Plan, SamplingOptions
from wavediff.diffusion.noise import check_seeds
from wavediff.diffusion.walk import OnStep
from wavediff.engine import GraphedWalk, StreamedVocoder, accelerate, frames_at_once, look_ahead, streams_of, twin_of
from wavediff.errors import ConfigError
from wavediff.mel import MelSpec, in_dialect_pieces
from wavediff.mel.lines import Ends, each_padded
from wavediff.mel.transform import as_mel
from wavediff.models.config import ModelConfig
from wavediff.models.denoiser import Bound, Denoiser
from wavediff.models.sampling import begin, draw_each, way
from wavediff.pipelines.chunks import Chunks, check_stream, gathered, gathering_of
from wavediff.pipelines.mels import Clipping, MelPipeline, check_lengths
from wavediff.pipelines.pipeline import exact, uncompiled_each


class Vocoder(MelPipeline):
    """A diffusion vocoder.

    >>> vocoder = Vocoder.from_pretrained(device="cpu")  # the bundled model; or a file, a folder, "user/model"
    >>> mel = vocoder.mel(0.1 * torch.randn(1, 7680), 22_050)
    >>> speech = vocoder.decode(mel, num_steps=1, seed=0)
    >>> mel.shape, speech.shape  # (B, n_mels, frames), (B, frames * hop_length) in [-1, 1]
    (torch.Size([1, 80, 30]), torch.Size([1, 7680]))
    >>> pieces = list(vocoder.stream(mel[0].split(7, dim=-1), num_steps=1, seed=0))  # as the mel comes in
    >>> torch.allclose(torch.cat(pieces), speech[0], atol=1e-5)
    True

    Args:
        config: of the model; it must have a mel.
        denoiser: the model.
        facts: how it came about.
    """

    bundled = "vocoder.safetensors"

    def __init__(self, config: ModelConfig, denoiser: Denoiser, facts: dict[str, Any] | None = None) -> None:
        super().__init__(config, denoiser, facts)
        self.precision, self.fused = torch.float32, False
        self._network = accelerate(denoiser.backbone)
        self._graphs: GraphedWalk | None = None

    def to(self, device: str | torch.device, precision: torch.dtype | None = None, fused: bool | None = None) -> Self:
        """Move the model; "auto" takes a GPU where there is one.

        Args:
            device: "auto", "cpu", "cuda", "cuda:N" or "mps".
            precision: of the products in the layers, torch.float32 (default) or torch.bfloat16: on processors that have
                it DiffWave takes half the time, the fast network .9; within 1.6e-2 of the output (root mean square).
            fused: on a GPU, one Triton kernel a layer of DiffWave, and all of `decode` as CUDA graphs, one for each
                batch size and about each 0.7 s of length; off by default.

        Raises:
            ConfigError: the device is not there, or another precision.
        """
        super().to(device)
        if precision is not None:
            if precision not in (torch.float32, torch.bfloat16):
                raise ConfigError(f"precision: {precision} is neither torch.float32 nor torch.bfloat16")
            self.precision = precision
        if fused is not None:
            self.fused = fused
        backbone = self.denoiser.backbone
        self._network = accelerate(backbone, self.precision, self.fused)
        self._graphs = None
        if self.fused and self.device.type == "cuda":
            buckets = self.streams and self._network is backbone
            self._graphs = GraphedWalk(self.denoiser, self._network, self.hop_length, buckets=buckets)
        return self

    def with_plans(self, plans: Sequence[tuple[int, Plan]]) -> Self:
        """The same model with other plans of sampling, by number of evaluations: what a search has found, or none."""
        return self._like(dataclasses.replace(self.config, plans=tuple(plans)), self.denoiser)

    def _like(self, config: ModelConfig, denoiser: Denoiser) -> Self:
        return type(self)(config, denoiser, self.facts).to(self.device, self.precision, self.fused)

    @exact
    def decode(
        self,
        mel: Values,
        num_steps: int | None = None,
        *,
        lengths: Sequence[int] | Tensor | None = None,
        schedule: str | Sequence[float] | None = None,
        sampler: str | None = None,
        seed: int | Sequence[int] = 0,
        mel_spec: MelSpec | str | None = None,
        low_latency: bool = False,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Speech from a mel. Where the network `streams`, memory grows with the speech alone.

        Args:
            mel: (n_mels, frames) or (B, n_mels, frames), a tensor, array or list of floats.
            num_steps: network evaluations, at most. By default 6 for a model of discrete steps, 2 for one of continuous
                time. A searched model takes the best steps that are known for the number.
            lengths: frames of each item of a batch; what is beyond them in `mel` is not looked at. Each item's speech
                is that of its mel alone, followed by zeros.
            schedule: for experts: where the steps lie; see `wavediff.diffusion.make_grid`.
            sampler: for experts: a key of `SAMPLERS`, with options as in "ddim:eta=0.5"; "heun" evaluates twice a step.
                By default "ddpm" for discrete steps, "ddim" for continuous time.
            seed: decides the noise: one number for every item, or one for each. With as many threads the same machine
                gives the same bits; when streamed as well, but for DiffWave (1e-6). Batching changes less than 1e-4;
                other numbers of threads likewise, or, with a guessed phase, what lies 50 dB below the speech.
            mel_spec: dialect of `mel`, or its preset's name, converted where exact; "auto" takes the likeliest preset.
                By default the model's own; a mel that surely is of another is refused.
            low_latency: the speech of a stream with `low_latency`.
            on_step: called with (pieces of the mel done, pieces in all); with steps where the network does not stream.

        Returns:
            (B, frames * hop_length) in [-1, 1], or (frames * hop_length,); a hop less if a centred mel is converted.

        Raises:
            ConfigError: `mel_spec` names no preset.
            MelError: the mel is not of the model's dialect, or not a mel at all.
            SamplingError: steps, lengths, schedule, sampler or seed are not possible, or an evaluation gave NaN.

        Warns:
            ClippingWarning: speech beyond full scale was clipped; `stream` says so at its end.
        """
        mel = as_mel(mel).cpu()  # is looked at there: a GPU would have to be waited for at each look
        counts = None if lengths is None else check_lengths(lengths, mel)
        if counts is None:
            batch = self._converted(mel, mel_spec)
        else:
            batch, counts = each_padded(mel, counts, lambda item: self._converted(item, mel_spec)[0])
            counts = counts if int(counts.min()) < batch.shape[-1] else None
        batch = batch.to(self.device, non_blocking=True)
        seeds = check_seeds(seed, len(batch), "mels")
        ends = None if counts is None else Ends(counts, self.device)
        plan = self.plan(num_steps, schedule, sampler, low_latency=low_latency)
        samples = batch.shape[-1] * self.hop_length
        at_once = frames_at_once(self.denoiser, self.hop_length, len(batch)) if self.streams else 0
        # On a GPU by the network itself, wherever that fits the memory and no item is padded.
        whole = self.device.type != "cpu" and ends is None and batch.shape[-1] <= at_once
        if self._graphs is not None and not low_latency and self._graphs.takes(batch, counts, at_once):
            speech = self._graphs(batch, counts, seeds, plan).clamp(-1, 1)
        elif not self.streams or whole:
            speech = draw_each(self.bind, batch, counts, seeds, plan, self.hop_length, on_step, low_latency)
            speech.clamp_(-1, 1)
        else:
            stream = self._streamed(plan, seeds, ends, low_latency)
            pieces = batch.tensor_split(max(round(batch.shape[-1] / at_once), 1), dim=-1)
            speech, done = batch.new_empty(len(batch), samples), 0
            for number, piece in enumerate(pieces, 1):
                if (part := stream.push(piece, number == len(pieces))) is not None:
                    torch.clamp(part, -1, 1, out=speech[:, done : done + part.shape[1]])
                    done += part.shape[1]
                if on_step is not None:
                    on_step(number, len(pieces))
        if ends is not None:
            speech = ends.clear(speech, 0, self.hop_length)
        Clipping(speech).warn()
        return speech if mel.ndim == 3 else speech[0]

    @property
    def streams(self) -> bool:
        """Whether the network computes on pieces of a mel: then `stream` works, and long mels need little memory."""
        return streams_of(self.denoiser.backbone) is not None

    def stream(
        self,
        mel_chunks: Iterable[Values],
        num_steps: int | None = None,
        *,
        low_latency: bool = False,
        schedule: str | Sequence[float] | None = None,
        sampler: str | None = None,
        seed: int | Sequence[int] = 0,
        mel_spec: MelSpec | str | None = None,
    ) -> Iterator[Tensor]:
        """Speech while the mel is still being made: `decode`'s samples, as soon as no later frame changes them.

        `delay` says how far the speech is behind the mel.

        Args:
            mel_chunks: pieces (n_mels, n) or (B, n_mels, n) of a mel, of any lengths; a buffer may be used again.
            low_latency: compute on each chunk as it comes, from a guess that looks a few frames ahead, and by default
                with one evaluation: the least delay, at a little less quality. By default frames are gathered.
            num_steps, schedule, sampler, seed, mel_spec: as `decode` takes them.

        Yields:
            (n,) or (B, n), in [-1, 1]; in all frames * hop_length.

        Raises:
            ConfigError: the network does not stream, or `mel_spec` names no preset.
            MelError, SamplingError: as `decode`; also a stream without frames, or of chunks of unlike batch sizes. What
                is wrong with the other arguments is raised at the call.
        """
        twin_of(self.denoiser)
        given, plan = self._dialect(mel_spec), self.plan(num_steps, schedule, sampler, low_latency=low_latency)
        check_stream(mel_chunks, seed)
        return uncompiled_each(self._spoken(mel_chunks, given, plan, seed, low_latency))

    def _spoken(
        self, mel_chunks: Iterable[Values], given: MelSpec, plan: Plan, seed: int | Sequence[int], low_latency: bool
    ) -> Iterator[Tensor]:
        """What `stream` yields, of arguments that are checked."""
        stream: StreamedVocoder | None = None
        chunks, clipping = Chunks(mel_chunks, given), Clipping()
        gathering = partial(gathering_of, self.denoiser, self.hop_length, low_latency)
        for frames, last in gathered(in_dialect_pieces(chunks, given, self.mel_spec), gathering):
            if stream is None and frames is not None:
                stream = self._streamed(plan, check_seeds(seed, len(frames), "mels"), None, low_latency)
            if stream is not None and (part := self._push(stream, frames, last)) is not None:
                clipping.count(part)
                yield part if chunks.batched else part[0]
        clipping.warn()

    def delay(
        self,
        num_steps: int | None = None,
        *,
        low_latency: bool = False,
        schedule: str | Sequence[float] | None = None,
        sampler: str | None = None,
    ) -> float:
        """Delay of `stream`'s speech behind its mel [ms]: look-ahead and, without `low_latency`, gathered frames.

        Raises:
            ConfigError: the network does not stream.
            SamplingError: steps, schedule or sampler are not possible.
        """
        plan = self.plan(num_steps, schedule, sampler, low_latency=low_latency)
        samples = look_ahead(self.denoiser, plan, self.hop_length, low_latency)
        if not low_latency:
            samples += (frames_at_once(self.denoiser, self.hop_length, 1, streamed=True) - 1) * self.hop_length
        return 1000 * samples / self.sample_rate

    @exact
    def states(self, mel: Values, num_steps: int | None = None, **options: Any) -> Iterator[Tensor]:
        """The way from noise to speech, to look at: noise, what sampling starts from, what each step leaves.

        Args:
            mel, num_steps: as `decode` takes them; all of it is held in memory.
            options: schedule, sampler, seed, mel_spec of `decode`.

        Yields:
            (B, frames * hop_length): one more than the steps, or two with a guess; the last is `decode`'s.

        Raises:
            MelError, SamplingError: as `decode`.
        """
        batch = self._converted(as_mel(mel).cpu(), options.pop("mel_spec", None)).to(self.device)
        seed = options.pop("seed", 0)
        seeds, plan = check_seeds(seed, len(batch), "mels"), self.plan(num_steps, **options)
        bound = self.bind(batch)
        start = begin(bound, ItemNoise(seeds, self.device), batch.shape[-1] * self.hop_length)
        if start.guess is not None:
            yield bound.denoiser.at_rate(start.noise)
        yield from way(bound, start, plan)

    @exact
    def _push(self, stream: StreamedVocoder, frames: Tensor | None, last: bool) -> Tensor | None:
        part = stream.push(None if frames is None else frames.to(self.device), last)
        return None if part is None else part.clamp(-1, 1)

    @exact
    def _streamed(self, plan: Plan, seeds: Sequence[int], ends: Ends | None, low_latency: bool) -> StreamedVocoder:
        noise = ItemNoise(seeds, self.device)
        return StreamedVocoder(self.denoiser, plan, noise, self.hop_length, ends, self.precision, low_latency)

    def bind(self, mel: Tensor) -> Bound:
        """The denoiser, told a batch of mels (B, n_mels, frames) of the model's dialect: what samplers drive."""
        return self.denoiser.bind(Condition(mel), self._network)

    def __call__(self, waveform: Values, sample_rate: int, mel_spec: Any = None, **options: Any) -> Tensor:
        """Copy synthesis: `mel` of a recording, then `decode` with these options; raises what they raise."""
        waveform = as_waveform(waveform)
        speech = self.decode(self.mel(waveform, sample_rate, mel_spec), mel_spec=mel_spec or self.mel_spec, **options)
        return speech if waveform.ndim == 2 else speech[0]

    def plan(
        self,
        num_steps: int | None = None,
        schedule: str | Sequence[float] | None = None,
        sampler: str | None = None,
        *,
        low_latency: bool = False,
    ) -> Plan:
        """Sampler and times of `decode` with these arguments: those found by a search, unless experts choose.

        Raises:
            SamplingError: steps, schedule or sampler are not possible.
        """
        options = SamplingOptions(num_steps, schedule, sampler)
        return options.plan(self.denoiser.schedule, self.config.plans, self.config.prior.start_time, low_latency)

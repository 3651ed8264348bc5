"""How good a plan is: clips vocoded along it, compared with the recordings; and the diary that remembers it."""

import hashlib
import json
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavediff.audio import read_audio
from wavediff.diffusion import ItemNoise, Plan
from wavediff.errors import DataError, OutputError, SamplingError
from wavediff.metrics import METRICS, evaluate_pair, summarise
from wavediff.models.sampling import begin, follow
from wavediff.pipelines.vocoder import Vocoder

Figures = dict[str, float | None]


class Journal:
    """JSON lines: what is searched, then one line a measured plan. A line that is cut or damaged is left out.

    Args:
        path: the file; it goes on where it ends.
        subject: what is searched, with what; JSON literals.
        overwrite: begin anew.

    Raises:
        DataError: the file is the diary of something else.
        OutputError: it cannot be written.

    Warns:
        UserWarning: a line was left out.
    """

    def __init__(self, path: str | os.PathLike[str], subject: dict[str, Any], *, overwrite: bool = False) -> None:
        self.path = Path(path)
        self._figures: dict[tuple[str, Plan], Figures] = {}
        lines = [] if overwrite or not self.path.exists() else self._read()
        known = json.loads(lines[0]) if lines else subject
        if known != subject:
            changed = sorted(key for key in subject | known if subject.get(key) != known.get(key))
            raise DataError(
                f"{self.path}: is of another search (other {', '.join(changed)}); name another folder, or pass "
                "--overwrite to begin anew"
            )
        for number, text in enumerate(lines[1:], 2):
            try:
                line = json.loads(text)
                figures = {name: _figure(line["figures"][name]) for name in subject["metrics"]}
                self._figures[line["part"], Plan(line["sampler"], tuple(line["times"]))] = figures
            except (KeyError, TypeError, ValueError, SamplingError):
                what = "is cut or damaged; it is left out, and what it told is measured again"
                warnings.warn(f"{self.path}, line {number}: {what}", stacklevel=2)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "w" if not lines else "a", encoding="utf-8")  # noqa: SIM115  closed by `close`
        except OSError as error:
            raise OutputError(f"{self.path}: could not be written ({error.strerror}); check the folder") from error
        if not lines:
            self._write(subject)

    def _read(self) -> list[str]:
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
            if not (lines := text.splitlines()) or "checkpoint" not in json.loads(lines[0]):
                raise ValueError("begins with something else")
        except (OSError, TypeError, ValueError) as error:
            cure = "name another folder, or pass --overwrite"
            raise DataError(f"{self.path}: is not the diary of a search; {cure}") from error
        if not text.endswith("\n"):  # cut in the middle of a line
            with open(self.path, "a", encoding="utf-8") as file:
                file.write("\n")
        return lines

    def figures(self, part: str, plan: Plan) -> Figures | None:
        """What was measured of a plan on a part of the clips."""
        return self._figures.get((part, plan))

    def add(self, part: str, plan: Plan, figures: Figures) -> None:
        """Note what was measured."""
        self._figures[part, plan] = figures
        self._write({"part": part, "sampler": plan.sampler, "times": list(plan.times), "figures": figures})

    def _write(self, line: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(f"{self.path}: could not be written ({error.strerror}); check free space") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._figures)


def _figure(value: float | None) -> float | None:
    return None if value is None else float(value)


def cut_clips(paths: Sequence[Path], count: int, samples: int, sample_rate: int) -> Tensor:
    """Clips (count, samples) of recordings, spread over them all.

    Raises:
        AudioError: a recording cannot be read.
        DataError: no recording is so long.
    """
    clips: list[Tensor] = []
    each = -(-count // len(paths))
    chosen = [paths[index * len(paths) // count] for index in range(count)] if each == 1 else list(paths)
    for path in chosen:
        waveform, _ = read_audio(path, sample_rate)
        parts = min(each, len(waveform) // samples)
        for part in range(parts):  # in the middle of as many equal stretches
            centre = len(waveform) * (2 * part + 1) // (2 * parts)
            first = min(max(centre - samples // 2, 0), len(waveform) - samples)
            clips.append(waveform[first : first + samples])
    if not clips:
        raise DataError(
            f"{paths[0]}: none of {len(paths)} recordings is {samples / sample_rate:g} s long; give longer ones, or "
            "fewer --seconds"
        )
    return torch.stack(clips[:count])


class Judge:
    """Measures plans on one part of the clips. What no plan changes is computed once.

    Args:
        vocoder: the model.
        clips: recordings (B, N), whole mel frames long.
        metrics: names, see `wavediff.metrics.METRICS`.
        seed: of the first clip's noise; the others follow.
        draws: noises a clip; the luck of one would be searched for too.
        part: what the clips are called in the journal.
        journal: where figures are kept.
    """

    def __init__(
        self,
        vocoder: Vocoder,
        clips: Tensor,
        metrics: Sequence[str],
        seed: int,
        part: str,
        journal: Journal,
        draws: int = 1,
    ) -> None:
        clips = clips.repeat(draws, 1)
        self.vocoder, self.clips, self.metrics, self.part, self.journal = vocoder, clips, metrics, part, journal
        with torch.inference_mode():
            mel = vocoder.mel(clips, vocoder.sample_rate)[..., : clips.shape[1] // vocoder.hop_length]
            self.bound = vocoder.bind(mel)
            noise = ItemNoise(range(seed, seed + len(clips)), vocoder.device)
            self.start = begin(self.bound, noise, clips.shape[1])

    def __call__(self, plan: Plan) -> Figures:
        """The mean of each metric, None where sampling failed or a metric is not defined."""
        figures = self.journal.figures(self.part, plan)
        if figures is None:
            figures = self._measure(plan)
            self.journal.add(self.part, plan, figures)
        return figures

    def _measure(self, plan: Plan) -> Figures:
        try:
            with torch.inference_mode():
                speech = follow(self.bound, self.start, plan).clamp(-1, 1).cpu()
        except SamplingError:  # it diverged: not a plan for this model
            return dict.fromkeys(self.metrics)
        rate = self.vocoder.sample_rate
        rows = [evaluate_pair(a, b, rate, self.metrics) for a, b in zip(self.clips, speech, strict=True)]
        means = {name: summary.mean for name, summary in summarise(rows).items()}
        return {name: mean if mean is not None and math.isfinite(mean) else None for name, mean in means.items()}


def fingerprint(clips: Tensor) -> str:
    """SHA-256 of clips."""
    return hashlib.sha256(clips.contiguous().numpy().tobytes()).hexdigest()


def relative_cost(figures: Figures, reference: Figures) -> float:
    """How much worse figures are than a reference's: mean over the metrics of the ratio, 1 for equal, less is better.

    Infinite where a figure is missing.
    """
    ratios = []
    for name, value in figures.items():
        base = reference[name]
        if value is None or base is None:
            return math.inf
        worse, better = (base, value) if METRICS[name].higher_is_better else (value, base)
        ratios.append(1.0 if worse == better else worse / better if better > 0 else math.inf)
    return sum(ratios) / len(ratios)

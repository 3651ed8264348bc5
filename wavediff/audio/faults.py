"""What is wrong with a sound whatever it is of."""

import torch
from torch import Tensor

SILENT_PEAK = 10 ** (-60 / 20)  # -60 dBFS
FULL_SCALE = 32767 / 32768  # the largest 16-bit sample
CLIPPED_RUN = 3  # samples in a row: a sound normalised to full scale touches it in one or two
MAX_DC_OFFSET = 0.01
MAX_JUMP = 0.1  # between a sound and the silence around it; one hears a click
FAULTS = ("NaN or infinite", "silent", "clipping", "DC offset", "jump at the start", "jump at the end")


def find_faults(waveform: Tensor) -> tuple[str, ...]:
    """The faults of a waveform (N,), full scale 1, by their names in `FAULTS`; none of most.

    NaN or infinite samples hide what else there may be.
    """
    if not waveform.isfinite().all():
        return FAULTS[:1]
    magnitude = waveform.abs()
    found = (
        magnitude.max() < SILENT_PEAK,
        magnitude.max() > 1 or _longest_run(magnitude >= FULL_SCALE) >= CLIPPED_RUN,
        waveform.double().mean().abs() > MAX_DC_OFFSET,
        magnitude[0] > MAX_JUMP,
        magnitude[-1] > MAX_JUMP,
    )
    return tuple(fault for fault, is_found in zip(FAULTS[1:], found, strict=True) if is_found)


def _longest_run(mask: Tensor) -> int:
    """The most true values in a row."""
    edges = torch.nn.functional.pad(mask.int(), (1, 1)).diff().nonzero()[:, 0]  # starts and stops in turn
    lengths = edges[1::2] - edges[::2]
    return int(lengths.max()) if len(lengths) else 0

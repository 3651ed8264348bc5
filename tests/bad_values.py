"""Values that callers hand over by mistake, by the kind of argument; and unusual ones that are right."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavediff import MelSpec

NAN, INF = float("nan"), float("inf")


class Stubborn:
    """An object of another library that does not want to be an array."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("cannot be converted")


# What is no array of floats, whatever its shape should be.
NO_FLOATS: dict[str, Any] = {
    "None": None,
    "text": "a.wav",
    "path": Path("a.npy"),
    "bytes": b"RIFF",
    "number": 3,
    "float": 0.5,
    "truth": True,
    "empty list": [],
    "ragged list": [[0.0, 1.0], [0.0]],
    "list of text": ["a", "b"],
    "dictionary": {"mel": 1},
    "set": {0.5},
    "iterator": iter([0.1, 0.2]),
    "function": len,
    "module": torch.nn.Linear(1, 1),
    "stubborn object": Stubborn(),
    "scalar tensor": torch.tensor(0.5),
    "integers": torch.zeros(80, 40, dtype=torch.int16),
    "integer array": np.zeros((80, 40), np.int32),
    "integer list": [[0] * 40] * 80,
    "truths": torch.zeros(80, 40, dtype=torch.bool),
    "complex": torch.zeros(80, 40, dtype=torch.complex64),
    "complex array": np.zeros((80, 40), complex),
    "objects": np.zeros((80, 40), object),
    "sparse": torch.zeros(80, 40).to_sparse(),
    "meta": torch.zeros(80, 40, device="meta"),
    "eight bits": torch.zeros(80, 40).to(torch.float8_e4m3fn),
    "empty": torch.zeros(0),
    "no items": torch.zeros(0, 80, 40),
    "no frames": torch.zeros(80, 0),
    "four dimensions": torch.zeros(1, 1, 80, 40),
    "NaN": torch.full((80, 4000), NAN),
    "infinite": torch.full((80, 4000), INF),
    "beyond float32": torch.full((80, 4000), 1e300, dtype=torch.float64),
    "NaN list": [NAN] * 4000,
}

WAVEFORM = NO_FLOATS | {
    "one NaN": torch.zeros(4000).index_fill(0, torch.tensor([7]), NAN),
    "array of NaN": np.full(4000, np.nan),
}
MEL = NO_FLOATS | {"one dimension": torch.zeros(80), "no band count": torch.full((79, 40), -5.0)}

# No whole number, and no number at all.
NO_NUMBER: dict[str, Any] = {
    "None": None,
    "text": "16000",
    "bytes": b"1",
    "truth": True,
    "numpy's truth": np.bool_(True),
    "torch's truth": torch.tensor(True),
    "NaN": NAN,
    "numpy's NaN": np.float32("nan"),
    "infinite": INF,
    "minus infinity": -INF,
    "complex": 1j,
    "dictionary": {},
    "function": len,
    "two numbers": torch.tensor([1, 2]),
    "meta": torch.zeros((), dtype=torch.int64, device="meta"),
    "negative": -1,
    "huge": 10**400,
    "class": int,
}
WHOLE = NO_NUMBER | {"fraction": 2.5, "array with a fraction": np.array(2.5)}
RATE = WHOLE | {"zero": 0, "small": 3999, "large": 384_001, "list": [22050]}
COUNT = WHOLE | {"zero": 0, "list": [1]}
SEED = {name: value for name, value in WHOLE.items() if name != "two numbers"} | {
    "list of text": ["a"],
    "list of fractions": [0.5],
    "too large": 2**63,
    "negative list": [-1],
    "table": [[1]],
}
LENGTHS = {
    "number": 3,
    "text": "12",
    "fractions": [2.5],
    "zero": [0],
    "negative": [-3],
    "too many": [2, 3, 4],
    "too long": [4000],
    "truth": [True],
    "None in it": [None],
    "table": torch.ones(1, 1, dtype=torch.int64),
    "NaN": torch.tensor([NAN]),
}
SECONDS = {name: value for name, value in NO_NUMBER.items() if name != "None"} | {
    "zero": 0.0,
    "long": 1e9,
    "list": [1.0],
}
STEPS = {name: value for name, value in COUNT.items() if name != "None"} | {"too many": 10**6}
SCHEDULE = {
    "number": 5,
    "unknown": "fast7",
    "empty": [],
    "descending": [0.5, 0.1],
    "outside": [0.1, 1.5],
    "NaN": [NAN],
    "text in it": ["a"],
    "truth": [True],
    "None in it": [None],
    "table": [[0.1]],
    "function": len,
}
SAMPLER = {
    "number": 5,
    "unknown": "magic",
    "option": "ddim:size=1",
    "NaN": "ddim:eta=nan",
    "list": ["ddim"],
    "class": int,
}
LABEL = {
    "unknown": "bell",
    "number": 5,
    "list": ["bell"],
    "too many": ["wood", "wood", "wood"],
    "None in it": [None],
    "table": [["wood"]],
}
SPEC = {"number": 5, "unknown": "hifi", "class": MelSpec, "list": ["hifigan"], "dictionary": {"n_mels": 80}}
PATH = {
    "None": None,
    "number": 5,
    "bytes": b"a.wav",
    "list": ["a.wav"],
    "missing": "missing.safetensors",
    "NUL": "a\0.wav",
    "surrogate": "a\ud800.wav",
    "long name": "n" * 300 + ".safetensors",
    "long path": "folder/" * 1000 + "a.wav",
}
DEVICE = {
    "None": None,
    "unknown": "gpu",
    "number": 3.5,
    "type": torch.float16,
    "list": ["cpu"],
    "other": "xla",
    "negative": "cuda:-1",
}
METRICS = {"unknown": ["fad"], "text": "pesq", "number": 5, "empty": [], "None in it": [None]}

BAD: dict[str, dict[str, Any]] = {
    "waveform": WAVEFORM,
    "mel": MEL,
    "rate": RATE,
    "count": COUNT,
    "seed": SEED,
    "lengths": LENGTHS,
    "seconds": SECONDS,
    "share": SECONDS | {"above": 1.5},
    "steps": STEPS,
    "schedule": SCHEDULE,
    "sampler": SAMPLER,
    "label": LABEL,
    "spec": SPEC,
    "path": PATH,
    "device": DEVICE,
    "metrics": METRICS,
}
"""Kind of argument -> name -> a value that must be refused."""


def waveforms(samples: int = 4000) -> dict[str, Any]:
    """The same sound (N,) in every form that must be taken."""
    sound = 0.1 * torch.sin(torch.arange(samples, dtype=torch.float64) / 9)
    array = sound.numpy()
    locked = array.copy()
    locked.flags.writeable = False
    return {
        "float64": sound,
        "float32": sound.float(),
        "with gradient": sound.float().requires_grad_(),
        "strided": sound.float().repeat_interleave(2)[::2],
        "array": array,
        "float32 array": array.astype(np.float32),
        "list": array.tolist(),
        "tuple": tuple(array.tolist()),
        "big-endian": array.astype(">f4"),
        "reversed": array[::-1][::-1].copy()[::-1][::-1],
        "backwards": np.ascontiguousarray(array[::-1])[::-1],
        "locked": locked,
        "long double": array.astype(np.longdouble),
        "inference": _inference(sound),
    }


def _inference(sound: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return sound.float().clone()


def wholes(number: int) -> dict[str, Any]:
    """The same whole number in every form that must be taken."""
    return {
        "float": float(number),
        "numpy": np.int64(number),
        "unsigned": np.uint32(number),
        "float32": np.float32(number),
        "array": np.array(number),
        "torch": torch.tensor(number),
        "torch float": torch.tensor(float(number)),
    }

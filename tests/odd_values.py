"""Values of every form, drawn at random for each kind of argument, and whether they are right by how they were made."""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

Odd = tuple[Any, bool | None]
"""A value, and whether it must be taken (True), refused (False), or may be either (None)."""

WRONG, EITHER, RIGHT = False, None, True


class Refusing:
    """An object whose methods fail, and that is shown in two lines."""

    def _fail(self, *args: Any, **kwargs: Any) -> Any:
        raise ValueError(self)

    __array__ = __index__ = __float__ = __int__ = __len__ = __iter__ = __getitem__ = __fspath__ = _fail

    def __repr__(self) -> str:
        return "no,\nnever"


class Index:
    """What is a whole number by `operator.index`, and nothing else."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


NOTHING = st.one_of(
    st.builds(Refusing),
    st.builds(object),
    st.sampled_from([len, int, Refusing, NotImplemented, ..., torch.float32, torch.nn.ReLU(), slice(3), iter("ab")]),
    st.complex_numbers(),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
    st.frozensets(st.integers(), max_size=3),
    st.binary(max_size=5),
)
"""What is right for no argument."""
# In paths a "/" would lead out of the tests' folder; messages escape control characters.
TEXT = st.text(st.characters(exclude_characters="/", exclude_categories=["Cc"]), max_size=12)


def _tables(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(leaf, lambda inner: st.lists(inner, max_size=3), max_leaves=4).filter(
        lambda v: isinstance(v, list)
    )


NESTED = _tables(st.one_of(st.none(), TEXT, st.booleans(), st.builds(Refusing)))

_FORMS: list[Callable[[Any], Any]] = [
    np.float64,
    np.longdouble,
    np.array,
    torch.tensor,
    lambda number: torch.tensor(number, dtype=torch.float64),
    lambda number: torch.tensor(number, requires_grad=isinstance(number, float)),
]


def _formed(number: Any, extra: list[Callable[[Any], Any]]) -> st.SearchStrategy[Any]:
    """The same number as another type; as itself where it has no place there."""

    def make(form: Callable[[Any], Any]) -> Any:
        try:
            return form(number)
        except (OverflowError, ValueError, RuntimeError, TypeError):
            return number

    return st.sampled_from([lambda value: value, *_FORMS, *extra]).map(make)


def numbers(good: st.SearchStrategy[Any], bad: st.SearchStrategy[Any], *, whole: bool) -> st.SearchStrategy[Odd]:
    """Numbers of a kind in the forms of Python, numpy and torch, numbers out of its bounds, and what is no number."""
    more: list[Callable[[Any], Any]] = [Index, float, np.int64] if whole else [Fraction, np.float32]
    no_number = st.one_of(NOTHING, NESTED, TEXT, st.booleans(), st.booleans().map(np.bool_), st.just(float("nan")))
    return st.one_of(
        good.flatmap(lambda number: _formed(number, more)).map(lambda value: (value, RIGHT)),
        bad.flatmap(lambda number: _formed(number, [])).map(lambda value: (value, WRONG)),
        no_number.map(lambda value: (value, WRONG)),
        good.flatmap(lambda number: st.sampled_from([Decimal(number), [number], np.array([number])])).map(
            lambda value: (value, EITHER)
        ),
    )


def _whole(least: int, most: int, bound: int) -> st.SearchStrategy[Odd]:
    """From `least` to `most`, which are cheap; what is below `least` or beyond `bound` is wrong."""
    fractions = st.integers(least, min(most, 10**6)).map(lambda number: number + 0.5)
    bad = st.one_of(st.integers(max_value=least - 1), st.integers(min_value=bound + 1), fractions, st.just(np.inf))
    return numbers(st.integers(least, most), bad, whole=True)


def _real(least: float, most: float, *, open_below: bool = False) -> st.SearchStrategy[Odd]:
    good = st.floats(least, most, exclude_min=open_below).filter(lambda number: abs(number) > 1e-3)
    bad = st.one_of(st.floats(max_value=least, exclude_max=not open_below), st.sampled_from([np.inf, -np.inf]))
    return numbers(good, bad, whole=False)


_DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
_OTHERS = [torch.int16, torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn]


@st.composite
def arrays(draw: st.DrawFn, shapes: st.SearchStrategy[tuple[tuple[int, ...], bool | None]], level: float) -> Odd:
    """Tensors, arrays and lists of a shape around `level`, of any type; with what is not finite in some."""
    shape, right = draw(shapes)
    values = level * torch.linspace(0.5, 1, max(int(np.prod(shape)), 1), dtype=torch.float64)
    values = values[: int(np.prod(shape))].reshape(shape)
    if values.numel() and draw(st.integers(0, 3)) == 0:
        place = draw(st.integers(0, values.numel() - 1))
        values.view(-1)[place] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e300]))
        right = WRONG
    form = draw(st.sampled_from(["tensor", "array", "list", "other", "sparse", "meta", "view"]))
    if form == "other":
        return values.nan_to_num(0).clamp(-9, 9).to(draw(st.sampled_from(_OTHERS))), WRONG
    if form in ("sparse", "meta"):
        return (values.to_sparse() if form == "sparse" else values.to("meta")), WRONG
    if form == "array":
        return values.numpy().astype(draw(st.sampled_from(["<f8", ">f8", "<f4", ">f4"]))), right
    if form == "list":
        return values.tolist(), right
    tensor = values.to(draw(st.sampled_from(_DTYPES)))
    return (tensor.repeat_interleave(2, -1)[..., ::2] if form == "view" and tensor.ndim else tensor), right


def _shaped(*items: tuple[tuple[int, ...], bool | None]) -> st.SearchStrategy[tuple[tuple[int, ...], bool | None]]:
    return st.sampled_from(items)


_NO_ARRAY = st.one_of(NOTHING, NESTED, TEXT).map(lambda value: (value, WRONG))
WAVEFORM = arrays(
    _shaped(
        ((4000,), RIGHT),
        *((shape, EITHER) for shape in [(3001,), (1, 4000), (2, 3000), (1,), (2, 7), (600,)]),
        *((shape, WRONG) for shape in [(), (0,), (3, 0), (0, 4000), (2, 2, 2000)]),
    ),
    0.1,
)
MEL = arrays(
    _shaped(
        *((shape, EITHER) for shape in [(80, 16), (80, 1), (1, 80, 9), (2, 80, 3), (80, 80)]),
        *((shape, WRONG) for shape in [(), (80,), (0, 80, 9), (80, 0), (79, 16), (16, 80), (1, 1, 80, 9)]),
    ),
    -6.0,
)


def _lists(item: st.SearchStrategy[Any], right: Callable[[list[Any]], bool | None]) -> st.SearchStrategy[Odd]:
    values = st.lists(item, max_size=3).map(lambda given: (given, right(given)))
    arrayed = values.map(lambda odd: (np.array(odd[0]), odd[1]))
    return st.one_of(values, arrayed, NESTED.map(lambda value: (value, EITHER if not value else WRONG)))


WORDS = st.one_of(TEXT, st.sampled_from(["euler", "ddim", "heun:churn=0.2", "ddim:eta=", "linear", "karras", "glass"]))
WORD = st.one_of(
    st.one_of(WORDS, st.none()).map(lambda value: (value, EITHER)),
    st.one_of(NOTHING, st.floats()).map(lambda value: (value, WRONG)),
)
LENGTHS = _lists(st.integers(-2, 19), lambda given: len(given) == 2 and min(given) >= 1 and max(given) <= 16)
ODD: dict[str, st.SearchStrategy[Odd]] = {
    "waveform": st.one_of(WAVEFORM, _NO_ARRAY),
    "mel": st.one_of(MEL, _NO_ARRAY),
    "rate": _whole(4000, 16_000, 384_000),
    "count": _whole(1, 2, 10**9),
    "steps": _whole(1, 2, 10**5),
    "seed": _whole(0, 2**53, 2**63 - 1),
    "seconds": _real(0, 0.1, open_below=True),
    "share": _real(0, 1, open_below=True),
    "lengths": st.one_of(LENGTHS, NOTHING.map(lambda value: (value, WRONG))),
    "schedule": st.one_of(WORD, _lists(st.floats(), lambda given: EITHER)),
    "sampler": WORD,
    "label": WORD,
    "spec": WORD,
    "path": WORD,
    "device": WORD,
    "metrics": st.one_of(WORD, _lists(WORDS, lambda given: EITHER)),
}
"""Kind of argument -> what to draw."""

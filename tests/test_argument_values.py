"""The cells of the table of arguments, filled at random: whatever is given, a result or an error that names it."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_values import ODD, RIGHT, WRONG, Refusing
from properties import examples
from public_functions import MEL, Function, functions, vocoder
from test_argument_table import LIKE, outcome

from wavediff.arguments import check_bounds
from wavediff.audio import read_info
from wavediff.compat import HiFiGANVocoder
from wavediff.errors import AudioError, ConfigError, SamplingError, WavediffError
from wavediff.mel import checked_mel
from wavediff.models.hub import is_hub_id

pytestmark = pytest.mark.filterwarnings("ignore")


@cache
def table() -> dict[str, Function]:
    return functions(Path(mkdtemp()))


@st.composite
def cells(draw: st.DrawFn) -> tuple[str, str]:
    """A function and one of its arguments."""
    name = draw(st.sampled_from(sorted(table())))
    return name, draw(st.sampled_from(sorted(table()[name].kinds)))


def check(cell: tuple[str, str], data: st.DataObject) -> None:
    """A right value is taken, a wrong one refused by the argument's name; nothing else is ever raised."""
    name, argument = cell
    function = table()[name]
    kind = function.kinds[argument].rstrip("?!")
    known = LIKE.get(kind, kind)
    if known == "other object":
        return
    value, right = data.draw(ODD[known], label=f"{name}({argument}=...)")
    if known == "path" and isinstance(value, str) and is_hub_id(value):
        return  # would be looked for on the Hub
    fault = outcome(function, argument, value)
    allowed = {RIGHT: ["is accepted"], WRONG: [""]}.get(right, ["", "is accepted"])
    assert fault in (allowed if kind == known else ["", "is accepted"]), fault or "is refused"


@pytest.mark.parametrize("count", [600, pytest.param(30_000, marks=pytest.mark.long)])
def test_any_value_in_any_cell(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings(examples, max_examples=count, suppress_health_check=list(HealthCheck))(
        given(cell=cells(), data=st.data())(check)
    )()


def test_a_message_is_one_line_without_control_characters() -> None:
    with pytest.raises(AudioError) as caught:
        read_info("new\nline \x1b[31m.wav")
    assert str(caught.value).startswith("new line \\x1b[31m.wav: ")
    with pytest.raises(SamplingError, match=r"^seed: tensor.*\.\.\. is neither [^\n]*$"):
        vocoder().decode(MEL, 1, seed=torch.ones(20, 20))  # type: ignore[arg-type]


def test_a_dialect_is_never_asked_whether_it_is_true() -> None:
    """Objects may fail where `or` asks them."""
    with pytest.raises(WavediffError, match=r"^given: "):
        checked_mel(MEL, Refusing(), vocoder().mel_spec)  # type: ignore[arg-type]


def test_a_list_of_no_seeds_is_refused_where_it_is_given() -> None:
    with pytest.raises(SamplingError, match=r"^seed: \[\] is neither"):
        HiFiGANVocoder(vocoder(), seed=[])  # type: ignore[arg-type]


BOUNDS: dict[str, tuple[float, float]] = {"size": (1, 4), "share": (0.0, 1.0), "switch": (False, True)}


@pytest.mark.parametrize(
    ("field", "right", "wrong", "expected"),
    [
        ("size", (1, 4), (0, 5, 2.0, True, "2", None), "a whole number from 1 to 4"),
        ("share", (0, 0.5, 1.0), (-0.1, 1.1, float("nan"), False, "0.5", None), "a number from 0 to 1"),
        ("switch", (False, True), (0, 1, 0.5, "true", None), "true or false"),
    ],
)
def test_bounds_tell_the_type_of_a_field(
    field: str, right: tuple[Any, ...], wrong: tuple[Any, ...], expected: str
) -> None:
    for value in right:
        check_bounds(SimpleNamespace(**{field: value}), "part", **{field: BOUNDS[field]})
    for value in wrong:
        with pytest.raises(ConfigError, match=rf"part\.{field}: .* is not {expected}$"):
            check_bounds(SimpleNamespace(**{field: value}), "part", **{field: BOUNDS[field]})

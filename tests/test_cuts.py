"""Which cuts a wish means, and which few tell the most."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.cuts import DEFAULT_COUNT, find_cut, informative_cuts, select_cuts
from splitnet.errors import CutError


@dataclass(frozen=True, slots=True)
class FakeCut:
    index: int
    layer: str
    clean: bool
    payload_bytes: int
    refused: str | None


NAMES = ["input", "stem", "layer1.conv", "layer1.relu", "layer1.add", "pool", "fc"]
CUTS = [
    FakeCut(at, name, at != 3, 100 - at, "it would be wrong" if at == 3 else None) for at, name in enumerate(NAMES)
]


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("all", [0, 1, 2, 4, 5, 6]),
        (" all ", [0, 1, 2, 4, 5, 6]),
        ("1", [6]),
        ("2", [0, 6]),
        ("3", [0, 5, 6]),
        ("99", [0, 1, 2, 4, 5, 6]),
        ("at:0", [0]),
        ("at:6,0,2", [0, 2, 6]),
        ("at: 2 , layer1.conv ,2", [2]),
        ("layer1.add", [4]),
        ("input", [0]),
        ("at:stem,6", [1, 6]),
    ],
)
def test_wishes(text: str, chosen: list[int]) -> None:
    assert select_cuts(text, CUTS, "net") == chosen


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0", "--cuts 0 asks for no cut"),
        ("at:7", r"cut 7 is out of range: net has cuts 0\.\.6"),
        ("at:-1", r"cut -1 is out of range: net has cuts 0\.\.6"),
        ("-2", r"cut -2 is out of range"),
        ("at:0,99,2", "cut 99 is out of range"),
        ("layer1.rellu", r"net has no layer 'layer1\.rellu'; near names: layer1\.relu"),
        ("xyzzy", r"net has no layer 'xyzzy'; `splitnet layers net` lists them"),
        ("", "net has no layer ''"),
        ("at:", "net has no layer ''"),
        ("at:1,,2", "net has no layer ''"),
        ("at:3", r"cut 3 of net \(after layer1\.relu\) is refused: it would be wrong"),
        ("layer1.relu", r"cut 3 of net \(after layer1\.relu\) is refused: it would be wrong"),
    ],
)
def test_wishes_that_cannot_be_granted(text: str, said: str) -> None:
    with pytest.raises(CutError, match=said) as caught:
        select_cuts(text, CUTS, "net")
    assert "\n" not in str(caught.value)


def test_a_number_is_a_cut_and_a_name_is_the_cut_after_it() -> None:
    assert [find_cut(where, CUTS, "net") for where in ("0", "+2", "6", "fc", "stem")] == [0, 2, 6, 6, 1]


@given(st.text("0123456789+-,.: atl", max_size=8) | st.text(max_size=8))
def test_any_text_is_a_wish_or_a_cut_error(text: str) -> None:
    try:
        chosen = select_cuts(text, CUTS, "net")
    except CutError:
        return
    assert chosen == sorted(set(chosen))
    assert 3 not in chosen


@st.composite
def cut_lists(draw: st.DrawFn) -> list[FakeCut]:
    """Both ends are clean and never refused, as in a layer graph."""
    inner = draw(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.booleans()), max_size=40))
    rows = [(True, 5, False), *inner, (True, 1, False)]
    return [
        FakeCut(at, f"layer{at}", clean, payload, "wrong" if refused else None)
        for at, (clean, payload, refused) in enumerate(rows)
    ]


@given(cut_lists(), st.integers(2, 45))
def test_informative_cuts_are_both_ends_and_some_between(cuts: list[FakeCut], count: int) -> None:
    chosen = informative_cuts(cuts, count)
    usable = [cut.index for cut in cuts if cut.refused is None]
    assert chosen[0] == 0
    assert chosen[-1] == len(cuts) - 1
    assert all(one < other for one, other in pairwise(chosen))
    assert set(chosen) <= set(usable)
    assert len(chosen) == min(count, len(usable))


@given(cut_lists())
def test_where_clean_cuts_are_enough_no_other_is_taken(cuts: list[FakeCut]) -> None:
    clean = [cut for cut in cuts if cut.clean and cut.refused is None]
    chosen = informative_cuts(cuts)
    if len(clean) >= DEFAULT_COUNT:
        assert all(cuts[index].clean for index in chosen)


def test_of_a_stretch_the_cheapest_is_taken_and_of_equals_the_last() -> None:
    payloads = [9, 7, 3, 3, 8, 5, 6, 9, 4, 9]
    cuts = [FakeCut(at, str(at), True, payload, None) for at, payload in enumerate(payloads)]
    assert informative_cuts(cuts, 4) == [0, 3, 8, 9]


@pytest.mark.parametrize("text", ["at:--5", "at:+-1", "at:" + "9" * 5000, "9" * 5000, "at:²"])
def test_what_only_looks_like_a_number_is_one_line(text: str) -> None:
    with pytest.raises(CutError) as caught:
        select_cuts(text, CUTS, "net")
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)

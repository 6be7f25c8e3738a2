"""Reputation as a function of work: by hand, against the functions themselves, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.controller.reputation import Reputation, Shape

KNOTS = np.array([0.0, 1.0, 3.0])
VALUES = np.array([0.5, 1.0, 4.0])
SHAPES = [
    Reputation(2e9),
    Reputation(2e9, Shape.LOG),
    Reputation(2e9, Shape.KNOTS, KNOTS, VALUES),
    Reputation.through(math.sqrt, 2e9, 4.0),
]


@pytest.mark.parametrize(
    ("reputation", "flops", "earned"),
    [
        (SHAPES[0], 3e9, 1.5),
        (SHAPES[0], 0.0, 0.0),
        (SHAPES[1], 2e9, math.log(2)),
        (SHAPES[1], 0.0, 0.0),
        (SHAPES[2], 0.0, 0.5),
        (SHAPES[2], 1e9, 0.75),
        (SHAPES[2], 4e9, 2.5),
        (SHAPES[2], 6e9, 4.0),
        (SHAPES[2], 6e12, 4.0),  # beyond the last knot it stays
    ],
)
def test_by_hand(reputation: Reputation, flops: float, earned: float) -> None:
    assert reputation(flops) == pytest.approx(earned)
    assert isinstance(reputation(flops), float)
    assert reputation(np.array([flops, 0.0])) == pytest.approx([earned, reputation(0.0)])


@pytest.mark.parametrize("function", [math.log1p, lambda share: share**2, lambda share: 3.0])
def test_a_users_function_is_met_at_its_knots_and_nearly_between(function: Callable[[float], float]) -> None:
    """Straight lines over steps of h miss a smooth g by at most h^2/8 times its largest second derivative, here 2."""
    reputation = Reputation.through(function, 1e9, most=2.0, knots=101)
    for share in np.linspace(0, 2, 101):
        assert reputation(share * 1e9) == pytest.approx(function(share), abs=1e-12)
    for share in np.linspace(0, 2, 977):
        assert reputation(share * 1e9) == pytest.approx(function(share), abs=0.02**2 / 8 * 2 * 1.001)
    assert reputation(5e9) == pytest.approx(function(2.0))


@pytest.mark.parametrize("reputation", SHAPES)
@given(work=st.lists(st.floats(0, 1e11), min_size=2, max_size=8))
def test_more_work_never_earns_less_and_nothing_earns_less_than_nothing(
    reputation: Reputation, work: list[float]
) -> None:
    earned = reputation(np.sort(work))
    assert (earned >= 0).all()
    assert (np.diff(earned) >= 0).all()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Reputation(0.0), "reference_flops 0"),
        (lambda: Reputation(math.nan), "reference_flops nan"),
        (lambda: replace(SHAPES[2], knots=KNOTS[:2]), "each with its value"),
        (lambda: replace(SHAPES[2], knots=KNOTS[:1], values=VALUES[:1]), "at least two knots"),
        (lambda: replace(SHAPES[2], knots=KNOTS + 1), "rise from 0"),
        (lambda: replace(SHAPES[2], knots=np.array([0.0, 2.0, 2.0])), "rise from 0"),
        (lambda: replace(SHAPES[2], knots=np.array([0.0, 2.0, math.nan])), "rise from 0"),
        (lambda: replace(SHAPES[2], knots=np.array([0.0, 2.0, math.inf])), "rise from 0"),
        (lambda: replace(SHAPES[2], values=-VALUES), "at least 0"),
        (lambda: replace(SHAPES[2], values=VALUES[::-1]), "must not fall"),
        (lambda: replace(SHAPES[2], values=np.array([0.0, 1.0, math.inf])), "finite"),
        (lambda: Reputation.through(lambda share: 1 - share, 1e9, 1.0), "must not fall"),
        (lambda: Reputation.through(lambda share: share - 1, 1e9, 3.0), "at least 0"),
        (lambda: Reputation.through(lambda share: share, 1e9, 0.0), "rise from 0"),
    ],
)
def test_what_cannot_be_is_refused(build: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()

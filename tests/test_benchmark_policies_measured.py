"""Regret of DPRA's cuts: by hand, from rounds that choose and rounds that judge."""

from __future__ import annotations

import math
from typing import Any

import pytest

from benchmarks.policies_measured_report import regret_figures


def rounds(world: int, plan: int, objectives: list[float]) -> list[dict[str, Any]]:
    return [
        {"world": world, "round": turn, "plan": plan, "objective": value, "v_tau": 10.0}
        for turn, value in enumerate(objectives)
    ]


def test_the_best_of_even_rounds_is_judged_on_odd_ones() -> None:
    own_is_best = rounds(0, 0, [1, 7, 1, 7]) + rounds(0, 1, [2, 1, 2, 1])
    other_is_best = rounds(1, 0, [5, 6, 5, 8]) + rounds(1, 1, [3, 4, 3, 4])
    found = regret_figures(own_is_best + other_is_best)
    assert found["worlds"] == 2
    assert found["most"] == pytest.approx((2 + 4) / 2 / 10)
    assert found["mean"] == pytest.approx(0.15)
    assert (found["compared"], found["significant"]) == (1, 1)
    assert found["resolution"] == pytest.approx(0.1)  # the draws reach from 0.2 to 0.4


def test_where_the_own_plan_is_always_best_nothing_is_resolved() -> None:
    found = regret_figures(rounds(0, 0, [1, 1, 1, 1]) + rounds(0, 1, [2, 2, 2, 2]))
    assert (found["compared"], found["significant"], found["most"]) == (0, 0, 0.0)
    assert math.isnan(found["resolution"])

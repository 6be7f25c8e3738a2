"""Hulls of sums against the hull of all sums, and the knapsacks against enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitnet.controller.curves import earned_by
from splitnet.controller.hulls import hull_of_sum, hull_sums, lower_hull
from splitnet.controller.lower_bound import hull_minima, hull_points, least_for_rate
from splitnet.controller.reputation import Reputation, Shape
from splitnet.controller.searching import SHARES, knapsack


def parts_from(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Up to four parts of up to five options each; coordinates often coincide."""
    chance = np.random.default_rng(seed)
    counts = chance.integers(1, 6, int(chance.integers(1, 5)))
    x = chance.integers(0, 6, (len(counts), 5)).astype(float)
    y = chance.integers(0, 9, (len(counts), 5)).astype(float)
    return x, y, counts


def least_at(points: list[tuple[float, float]], at: float) -> float:
    """The lower convex envelope of points at one place: the least of all chords over it."""
    best = min((y for x, y in points if x == at), default=math.inf)
    for (ax, ay), (bx, by) in itertools.permutations(points, 2):
        if ax < at < bx:
            best = min(best, ay + (by - ay) * (at - ax) / (bx - ax))
    return best


@given(st.integers(0, 10**6))
@settings(max_examples=150)
def test_the_hull_of_a_sum_is_the_envelope_of_all_sums(seed: int) -> None:
    x, y, counts = parts_from(seed)
    xs, ys = hull_points(x, y, *hull_of_sum(x, y, counts), len(counts))
    every = sorted(
        {
            (sum(x[n, k] for n, k in enumerate(picks)), sum(y[n, k] for n, k in enumerate(picks)))
            for picks in itertools.product(*map(range, counts))
        }
    )
    lowest = {at: min(value for place, value in every if place == at) for at, _ in every}
    points = list(lowest.items())
    assert xs[0] == every[0][0]
    assert xs[-1] == every[-1][0]
    for at, _ in points:
        assert np.interp(at, xs, ys) == pytest.approx(least_at(points, at))


def test_a_point_that_is_not_there_is_left_out() -> None:
    x, y = np.array([0.0, 1.0, 2.0]), np.array([3.0, math.inf, 1.0])
    assert lower_hull(x, y, 3).tolist() == [0, 2]
    items, _ = hull_of_sum(x[None], np.full((1, 3), math.inf), np.array([3]))
    assert len(items) == 0


@given(st.integers(0, 10**6))
@settings(max_examples=60)
def test_the_least_between_edges(seed: int) -> None:
    x, y, counts = parts_from(seed)
    xs, ys = hull_points(x, y, *hull_of_sum(x, y, counts), len(counts))
    edges = np.linspace(xs[0], xs[-1] + 1, 6)
    for bucket, least in enumerate(hull_minima(xs, ys, edges)):
        inside = np.linspace(edges[bucket], edges[bucket + 1], 400)
        inside = inside[inside <= xs[-1]]
        if len(inside):
            assert least <= np.interp(inside, xs, ys).min() + 1e-9
            assert least >= np.interp(inside, xs, ys).min() - 0.1


def test_sums_along_a_hull_are_those_of_its_options() -> None:
    chance = np.random.default_rng(0)
    columns = chance.random((4, 6, 5))
    ready_s, used_j, cycles, flops = columns
    sums, picks = hull_sums(ready_s, used_j, cycles, flops, np.full(6, 5), np.array([0.0, 0.5, 1.0]))
    for total, chosen in zip(sums, picks, strict=True):
        assert total == pytest.approx([column[np.arange(6), chosen].sum() for column in columns])


@given(st.integers(0, 10**6))
@settings(max_examples=60)
def test_knapsacks_against_enumeration(seed: int) -> None:
    """The plan reaches Lambda and is best of those with shares rounded down; the bound is below the best of all."""
    chance = np.random.default_rng(seed)
    left_j = chance.uniform(0, 3, (3, 6)) * (chance.random((3, 6)) < 0.8)
    worth, easiness = chance.uniform(-1, 1, (3, 6)), chance.uniform(0.5, 2, (3, 6))
    max_hz, kappa, rate = np.full(3, 1.2), np.ones(3), float(chance.uniform(0.5, 4))
    mined = np.minimum(max_hz[:, None], np.cbrt(left_j * rate)) * easiness
    plans = [
        picks for picks in itertools.product(range(6), repeat=3) if all(left_j[j, b] > 0 for j, b in enumerate(picks))
    ]

    def least(shares: np.ndarray, needed: float) -> float:
        return min(
            (
                float(sum(worth[j, b] for j, b in enumerate(picks)))
                for picks in plans
                if sum(shares[j, b] for j, b in enumerate(picks)) >= needed
            ),
            default=math.inf,
        )

    exactly = least(mined, rate)
    rounded_down = least(np.floor(np.minimum(mined / rate, 1) * SHARES), SHARES)
    chosen = np.zeros(3, dtype=np.int64)
    if knapsack(left_j, worth, easiness, max_hz, kappa, rate, 0.0, chosen):
        assert sum(mined[j, b] for j, b in enumerate(chosen)) >= rate * (1 - 1e-12)
        assert sum(worth[j, b] for j, b in enumerate(chosen)) == pytest.approx(rounded_down)
    else:
        assert rounded_down == math.inf
    bound = least_for_rate(left_j, worth, easiness, max_hz, kappa, rate, rate, 4096)
    assert bound <= exactly + 1e-12
    if math.isfinite(bound):
        assert bound >= least(mined, rate * (1 - 3 / 4096)) - 1e-12


@pytest.mark.parametrize("shape", list(Shape))
def test_what_compiled_code_earns_is_what_g_says(shape: Shape) -> None:
    g = Reputation(2e9, shape, np.array([0.0, 0.5, 2.0]), np.array([0.1, 0.2, 1.5]))
    inputs = (int(shape), g.reference_flops, g.knots, g.values, np.array([3.0]), 2.0, 8e9)
    for flops in (0.0, 1e9, 1.7e9, 3.9e9, 9e9):
        earned, worth, easiness = earned_by(flops, inputs, 0)
        assert earned == pytest.approx(g(flops))
        assert worth == pytest.approx(3 * g(flops))
        assert easiness == pytest.approx(np.exp(2 * g(flops)) / 8e9)

"""Errors, ranks and regret against closed forms, brute force and numpy's own correlation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.controller.accuracy import Errors, errors, noise_floor, regret, spearman, top1

times = st.floats(1e-4, 1e3)
a_list = st.lists(times, min_size=1, max_size=30)
same_length = st.integers(1, 12).flatmap(
    lambda size: st.tuples(*(st.lists(times, min_size=size, max_size=size) for _ in range(3)))
)
few_values = st.integers(2, 12).flatmap(
    lambda size: st.tuples(*(st.lists(st.integers(0, 5), min_size=size, max_size=size) for _ in range(2)))
)


# --- errors


def test_errors_by_hand() -> None:
    # e = 0, +0.04, -0.08, +0.14, -0.5
    found = errors([1.0, 1.04, 1.84, 4.56, 2.5], [1.0, 1.0, 2.0, 4.0, 5.0])
    assert found.cases == 5
    assert found.mape == pytest.approx((0.04 + 0.08 + 0.14 + 0.5) / 5)
    assert found.rmspe == pytest.approx(math.sqrt((0.04**2 + 0.08**2 + 0.14**2 + 0.5**2) / 5))
    assert found.bias == pytest.approx((0.04 - 0.08 + 0.14 - 0.5) / 5)
    assert (found.within_5, found.within_10, found.within_15) == pytest.approx((2 / 5, 3 / 5, 4 / 5))


@given(a_list)
def test_a_perfect_prediction_has_no_error(measured: list[float]) -> None:
    assert errors(measured, measured) == Errors(len(measured), 0.0, 0.0, 0.0, 1.0, 1.0, 1.0)


@given(a_list, st.floats(-0.9, 3).filter(lambda e: all(abs(abs(e) - limit) > 1e-6 for limit in (0.05, 0.1, 0.15))))
def test_a_prediction_scaled_by_one_plus_e_is_off_by_e(measured: list[float], e: float) -> None:
    found = errors([(1 + e) * value for value in measured], measured)
    assert found.mape == pytest.approx(abs(e), abs=1e-12)
    assert found.rmspe == pytest.approx(abs(e), abs=1e-12)
    assert found.bias == pytest.approx(e, abs=1e-12)
    shares = (found.within_5, found.within_10, found.within_15)
    assert shares == tuple(float(abs(e) <= limit) for limit in (0.05, 0.1, 0.15))


@given(same_length)
def test_errors_are_the_plain_sums(lists: tuple[list[float], list[float], list[float]]) -> None:
    predicted, measured, _ = lists
    relative = [p / m - 1 for p, m in zip(predicted, measured, strict=True)]
    found = errors(predicted, measured)
    assert found.mape == pytest.approx(statistics.fmean(abs(e) for e in relative), rel=1e-9, abs=1e-12)
    assert found.rmspe == pytest.approx(math.sqrt(statistics.fmean(e * e for e in relative)), rel=1e-9, abs=1e-12)
    assert found.bias == pytest.approx(statistics.fmean(relative), rel=1e-9, abs=1e-9 * found.mape + 1e-12)


def test_a_component_that_is_zero_by_definition_is_left_out() -> None:
    assert errors([1.1, 0.0, 3.0], [1.0, 0.0, 3.0]) == errors([1.1, 3.0], [1.0, 3.0])


@pytest.mark.parametrize(
    ("predicted", "measured", "message"),
    [
        ([1.0, 2.0], [1.0, 0.0], "case 1 was measured as 0.0 and predicted as 2.0"),
        ([1.0], [-1.0], "case 0 was measured as -1.0"),
        ([0.0], [0.0], "no case is left"),
        ([], [], "no case is left"),
        ([1.0], [1.0, 2.0], r"shapes \(1,\) and \(2,\)"),
        ([math.nan], [1.0], "not a finite number"),
        ([1.0], [math.inf], "not a finite number"),
    ],
)
def test_what_has_no_relative_error_is_refused(predicted: list[float], measured: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        errors(predicted, measured)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": 0}, "at least one case, not 0"),
        ({"within_5": 0.9}, "shares 0.9, 0.6, 0.7"),
        ({"within_15": 1.1}, "shares 0.5, 0.6, 1.1"),
        ({"mape": 0.3}, "mape 0.3 <= rmspe 0.2"),
        ({"bias": -0.2}, "bias -0.2"),
        ({"rmspe": math.inf}, "rmspe inf"),
        ({"mape": math.nan}, "mape nan"),
    ],
)
def test_impossible_errors_are_refused(changes: dict[str, float], message: str) -> None:
    found = Errors(3, 0.1, 0.2, -0.1, 0.5, 0.6, 0.7)
    with pytest.raises(ValueError, match=message):
        replace(found, **changes)  # type: ignore[arg-type]


# --- ranks


def ranks_by_counting(values: list[int]) -> list[float]:
    """1 + how many are smaller, and half of the others that are equal."""
    return [
        1 + sum(other < value for other in values) + (sum(other == value for other in values) - 1) / 2
        for value in values
    ]


@given(few_values)
def test_spearman_is_the_correlation_of_ranks(lists: tuple[list[int], list[int]]) -> None:
    one, other = lists
    found = spearman(one, other)
    if len(set(one)) < 2 or len(set(other)) < 2:
        assert found is None
    else:
        expected = np.corrcoef(ranks_by_counting(one), ranks_by_counting(other))[0, 1]
        assert found == pytest.approx(expected, abs=1e-12)


@given(st.permutations(range(9)))
def test_spearman_without_ties_is_the_closed_form(order: list[int]) -> None:
    squares = sum((place - rank) ** 2 for place, rank in enumerate(order))
    assert spearman(order, range(9)) == pytest.approx(1 - 6 * squares / (9 * (81 - 1)), abs=1e-12)


@pytest.mark.parametrize("rise", [lambda x: 3 * x + 7, lambda x: x**3, math.exp, math.atan])
@given(lists=few_values)
def test_spearman_sees_order_alone(rise: Callable[[float], float], lists: tuple[list[int], list[int]]) -> None:
    one, other = lists
    assert spearman([rise(value) for value in one], other) == spearman(one, other)


@given(st.lists(times, min_size=2, max_size=40, unique=True))
def test_spearman_at_its_ends(values: list[float]) -> None:
    assert spearman(values, values) == 1.0
    assert spearman([-value for value in values], values) == -1.0


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
def test_nothing_to_rank(values: list[float]) -> None:
    assert spearman(values, values) is None


# --- what following a prediction costs


def test_regret_by_hand() -> None:
    # cut 1 is predicted best; the first half says cut 2; the second half tells what both cost
    predicted, first, second = [3.0, 1.0, 2.0], [5.0, 4.0, 3.9], [5.1, 4.4, 4.0]
    assert regret(predicted, first, second, 0.02) == pytest.approx(0.1)
    assert regret(predicted, first, second, 0.11) == 0.0
    assert not top1(predicted, first, second)


def test_regret_takes_no_time_from_the_half_that_chose() -> None:
    # equal cuts with noise: the winner of the first half is no winner in the second
    assert regret([1.0, 2.0], [1.02, 0.98], [1.0, 1.0], 0.0) == 0.0
    assert regret([1.0, 2.0], [1.02, 0.98], [0.97, 1.0], 0.0) == 0.0


@given(same_length, st.floats(0, 0.5))
def test_regret_against_its_definition(lists: tuple[list[float], list[float], list[float]], floor: float) -> None:
    predicted, first, second = lists
    found = regret(predicted, first, second, floor)
    cuts = range(len(first))
    paid = second[min(cuts, key=predicted.__getitem__)] / second[min(cuts, key=first.__getitem__)] - 1
    assert found == (paid if paid > floor else 0)
    assert regret(first, first, second, floor) == 0.0  # the true best
    assert top1(first, first)


@given(same_length)
def test_without_noise_regret_is_what_brute_force_finds(lists: tuple[list[float], list[float], list[float]]) -> None:
    predicted, measured, _ = lists
    paid = measured[predicted.index(min(predicted))]
    found = regret(predicted, measured, measured, 0.0)
    assert found == max(paid / other - 1 for other in measured)
    assert top1(predicted, measured) == all(paid <= other for other in measured)


def test_top1_takes_any_of_equal_bests_and_the_mean_of_both_halves() -> None:
    assert top1([2.0, 1.0, 3.0], [4.0, 4.0, 5.0])
    assert not top1([2.0, 1.0], [1.0, 1.2])
    assert top1([2.0, 1.0], [1.0, 1.2], [1.3, 1.0])


def test_noise_floor_by_hand() -> None:
    # |0.9 - 1.1| / 1 = 0.2, no difference, and 0.1 / 1
    assert noise_floor([0.9, 2.0, 1.05], [1.1, 2.0, 0.95]) == pytest.approx((0.2 + 0.0 + 0.1) / 3)


@given(same_length)
def test_noise_floor_has_no_first_and_second(lists: tuple[list[float], list[float], list[float]]) -> None:
    one, other, _ = lists
    assert noise_floor(one, other) == noise_floor(other, one)
    assert noise_floor(one, one) == 0.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: regret([1.0], [1.0], [0.0], 0.1),
        lambda: regret([1.0], [-1.0], [1.0], 0.1),
        lambda: regret([1.0], [1.0], [1.0], -0.1),
        lambda: regret([1.0], [1.0], [1.0], math.nan),
        lambda: regret([1.0, 2.0], [1.0, 2.0], [1.0], 0.1),
        lambda: regret([], [], [], 0.1),
        lambda: top1([], []),
        lambda: top1([1.0], [0.0]),
        lambda: noise_floor([1.0], [0.0]),
        lambda: noise_floor([], []),
    ],
)
def test_impossible_measurements_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"above 0|fraction|one length|no cut|one case"):
        call()

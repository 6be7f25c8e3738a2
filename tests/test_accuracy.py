"""Errors, ranks and regret against closed forms, brute force and numpy's own correlation."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from splitnet.controller.accuracy import Errors, Regret, errors, noise_floor, regret, spearman, top1
from splitnet.measurement import interquartile_mean

Array = NDArray[np.float64]

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


def judged(predicted: Sequence[float], first: Array, second: Array) -> Regret:
    return regret(predicted, first, second, np.random.default_rng(0))


def steady(times: Sequence[float], repeats: int = 6) -> Array:
    """The same times in every repeat, [cuts, repeats]."""
    return np.tile(np.array(times)[:, None], repeats)


def noisy(centres: Sequence[float], spread: float, seed: int, repeats: int = 10) -> Array:
    """Log-normal repeats around known centres, [cuts, repeats], independent of one another."""
    own = np.random.default_rng(seed).standard_normal((len(centres), repeats))
    return np.array(centres)[:, None] * np.exp(spread * own)


WRONG = (1.0, 2.0)
"""Predictions that choose the first of two cuts; the first half below says that the second is the best."""
SECOND_IS_BEST = steady([2.0, 1.0])


def test_regret_by_hand() -> None:
    # cut 1 is predicted best; the first half says cut 2; the second half tells what both cost
    predicted, first, second = [3.0, 1.0, 2.0], [5.0, 4.0, 3.9], [5.1, 4.4, 4.0]
    found = judged(predicted, steady(first), steady(second))
    assert found.raw == found.low == found.high == found.counted == pytest.approx(0.1)
    assert found.resolution == 0.0
    assert not top1(predicted, first, second)


def test_regret_takes_no_time_from_the_half_that_chose() -> None:
    # equal cuts with noise: the winner of the first half is no winner in the second
    assert judged(WRONG, steady([1.02, 0.98]), steady([1.0, 1.0])).counted == 0.0
    faster = judged(WRONG, steady([1.02, 0.98]), steady([0.97, 1.0]))
    assert faster.raw == pytest.approx(-0.03)
    assert faster.counted == 0.0


@given(same_length)
def test_without_noise_regret_is_what_brute_force_finds(lists: tuple[list[float], list[float], list[float]]) -> None:
    predicted, measured, _ = lists
    paid = measured[predicted.index(min(predicted))]
    found = judged(predicted, steady(measured, 2), steady(measured, 2))
    assert found.counted == found.raw == max(paid / other - 1 for other in measured)
    assert top1(predicted, measured) == all(paid <= other for other in measured)


@given(
    st.integers(2, 30).flatmap(
        lambda repeats: st.lists(st.lists(times, min_size=repeats, max_size=repeats), min_size=4, max_size=4)
    )
)
def test_regret_is_of_interquartile_means(rows: list[list[float]]) -> None:
    first, second = rows[:2], rows[2:]
    found = judged(WRONG, np.array(first), np.array(second))
    if interquartile_mean(first[0]) > interquartile_mean(first[1]) * (1 + 1e-9):
        assert found.raw == pytest.approx(interquartile_mean(second[0]) / interquartile_mean(second[1]) - 1, abs=1e-9)
        assert found.counted == (max(0.0, found.raw) if found.low > 0 else 0.0)


def test_where_the_best_cut_was_predicted_nothing_is_compared() -> None:
    found = judged([2.0, 1.0], SECOND_IS_BEST, noisy([1.0, 2.0], 0.2, 0))
    assert found == Regret(0.0, 0.0, 0.0, same_cut=True)
    assert (found.counted, found.resolution) == (0.0, None)


def test_the_interval_against_every_resample_there_is() -> None:
    """4^4 ways to draw four rounds: the ends lie where 2.5 % of all of them lie beyond, give or take the drawing."""
    second = noisy([1.1, 1.0], 0.2, 3, repeats=4)
    ratios = [
        interquartile_mean([second[0][one] for one in drawn]) / interquartile_mean([second[1][one] for one in drawn])
        for drawn in itertools.product(range(4), repeat=4)
    ]
    found = judged(WRONG, SECOND_IS_BEST, second)
    for end, share in ((found.low, 0.025), (found.high, 0.975)):
        least, most = np.quantile(ratios, [share - 0.006, share + 0.006]) - 1
        assert least <= end <= most
    assert found.low < found.raw < found.high
    assert found == judged(WRONG, SECOND_IS_BEST, second)


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_that_is_30_percent_worse_counts(seed: int) -> None:
    found = judged(WRONG, SECOND_IS_BEST, noisy([1.3, 1.0], 0.02, seed))
    assert found.counted == found.raw == pytest.approx(0.3, abs=0.04)
    assert found.resolution == pytest.approx(1.3 * 1.96 * 0.02 * math.sqrt(2 * 1.2 / 10), rel=0.6)


def test_noise_alone_is_no_regret() -> None:
    """Equal cuts, a spread of 18 %: differences of 10 % are common, and nearly none of them counts."""
    found = [judged(WRONG, SECOND_IS_BEST, noisy([1.0, 1.0], 0.18, seed)) for seed in range(400)]
    assert np.mean([one.raw > 0.1 for one in found]) > 0.1
    assert np.mean([one.counted > 0 for one in found]) <= 0.05
    # the interquartile mean of 10 normal values varies by about 1.2 sigma^2 / 10; two of them, 1.96 times the root
    assert np.median([one.resolution or 0 for one in found]) == pytest.approx(1.96 * 0.18 * math.sqrt(0.24), rel=0.1)


def test_the_interval_holds_the_truth() -> None:
    """A cut that is 20 % worse, with two repeats in five 40 % slower, as on a machine of two speeds."""
    held = []
    for seed in range(300):
        slow = np.random.default_rng(1000 + seed).random((2, 20)) < 0.4
        found = judged(WRONG, SECOND_IS_BEST, noisy([1.2, 1.0], 0.1, seed, repeats=20) * np.where(slow, 1.4, 1.0))
        held.append(found.low <= 0.2 <= found.high)
    assert 0.91 <= np.mean(held) <= 0.99


@pytest.mark.parametrize("seed", range(5))
def test_a_drift_that_both_cuts_share_hides_nothing(seed: int) -> None:
    """A machine up to twice as slow, for both cuts of a round; the same repeats, paired wrongly, tell nothing."""
    drift = np.exp(0.4 * np.random.default_rng(100 + seed).standard_normal(10))
    second = noisy([1.1, 1.0], 0.02, seed) * drift
    found = judged(WRONG, SECOND_IS_BEST, second)
    assert found.counted == pytest.approx(0.1, abs=0.04)
    assert judged(WRONG, SECOND_IS_BEST, np.array([second[0], np.roll(second[1], 1)])).counted == 0.0


@pytest.mark.parametrize(
    ("values", "same_cut"), [((0.1, 0.3, 0.2), False), ((0.1, -1.5, 0.2), False), ((0.1, 0.0, 0.2), True)]
)
def test_impossible_regrets_are_refused(values: tuple[float, float, float], same_cut: bool) -> None:
    with pytest.raises(ValueError, match=r"cannot be|differ from itself"):
        Regret(*values, same_cut=same_cut)


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
        lambda: judged([1.0], steady([1.0]), steady([0.0])),
        lambda: judged([1.0], steady([-1.0]), steady([1.0])),
        lambda: judged([1.0], steady([1.0]), steady([math.nan])),
        lambda: judged([1.0], steady([math.inf]), steady([1.0])),
        lambda: judged([1.0, 2.0], steady([1.0, 2.0]), steady([1.0])),
        lambda: judged([1.0, 2.0], steady([1.0]), steady([1.0])),
        lambda: judged([1.0], steady([1.0]), steady([1.0], 1)),
        lambda: judged([1.0], np.array([1.0]), steady([1.0])),
        lambda: judged([], steady([]), steady([])),
        lambda: top1([], []),
        lambda: top1([1.0], [0.0]),
        lambda: noise_floor([1.0], [0.0]),
        lambda: noise_floor([], []),
    ],
)
def test_impossible_measurements_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"above 0|finite|one length|two repeats|at least one|no cut|one case"):
        call()

"""Virtual queues against closed forms, and the drift bound against every drift."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from splitnet.controller.queues import Queues, drift_bound, largest_reputation
from splitnet.controller.slot import Observation, SlotProblem
from tests.slots import a_network

LARGEST = 2.0
numbers = st.floats(0, LARGEST, allow_subnormal=False)


@st.composite
def histories(draw: st.DrawFn) -> tuple[NDArray[np.float64], float, float]:
    """[slots, APs] of reputations, and limits."""
    aps = draw(st.integers(1, 3))
    slots = draw(st.lists(st.tuples(*[numbers] * aps), min_size=1, max_size=30))
    u_min, u_max = sorted((draw(numbers), draw(numbers)))
    return np.array(slots), u_min, u_max


@given(histories())
def test_a_queue_is_the_largest_sum_up_to_now(history: tuple[NDArray[np.float64], float, float]) -> None:
    """Lindley: Z(T) = max over s <= T of the sum of what came after s, and 0; the same as S_T - min_s S_s."""
    reputations, u_min, u_max = history
    queues = Queues.empty(reputations.shape[1])
    for slot, earned in enumerate(reputations, start=1):
        queues = queues.after(earned, u_min, u_max)
        over, under = reputations[:slot] - u_max, u_min - reputations[:slot]
        for queue, steps in ((queues.plus, over), (queues.minus, under)):
            expected = [[*steps[since:].sum(axis=0)] for since in range(slot + 1)]
            assert queue == pytest.approx(np.max(expected, axis=0), abs=1e-9)


def test_queues_by_hand() -> None:
    queues = Queues.empty(2)
    assert (queues.weights == 0).all()
    queues = queues.after(np.array([0.9, 0.0]), 0.2, 0.5)
    assert queues.plus == pytest.approx([0.4, 0.0])
    assert queues.minus == pytest.approx([0.0, 0.2])
    assert queues.weights == pytest.approx([0.4, -0.2])
    assert queues.backlog == pytest.approx([0.4, 0.2])
    assert queues.lyapunov == pytest.approx((0.16 + 0.04) / 2)
    queues = queues.after(np.array([0.4, 0.5]), 0.2, 0.5)
    assert queues.plus == pytest.approx([0.3, 0.0])
    assert queues.minus == pytest.approx([0.0, 0.0])


def test_the_bound_by_hand() -> None:
    # 2.0 of at most 0.5: 1.5^2 above, 1.8^2 below; 0.6 of at most 0.5: 0.5^2 above, 0.4^2 below
    assert drift_bound(np.array([2.0, 0.6]), 0.2, 0.5) == pytest.approx((1.5**2 + 1.8**2 + 0.5**2 + 0.4**2) / 2)


@given(histories())
def test_no_drift_exceeds_its_bound(history: tuple[NDArray[np.float64], float, float]) -> None:
    """L(t+1) - L(t) <= B + sum Z+ (U - Umax) + sum Z- (Umin - U)."""
    reputations, u_min, u_max = history
    bound = drift_bound(np.full(reputations.shape[1], LARGEST), u_min, u_max)
    queues = Queues.empty(reputations.shape[1])
    for earned in reputations:
        later = queues.after(earned, u_min, u_max)
        linear = queues.plus @ (earned - u_max) + queues.minus @ (u_min - earned)
        assert later.lyapunov - queues.lyapunov <= bound + linear + 1e-9 * (1 + queues.lyapunov)
        queues = later


def test_the_bound_is_reached() -> None:
    """From queues so long that neither is cut off at 0, with the reputation that is furthest from both limits."""
    queues = Queues(np.array([50.0]), np.array([50.0]))
    later = queues.after(np.array([LARGEST]), 0.5, 0.7)
    linear = 50 * (LARGEST - 0.7) + 50 * (0.5 - LARGEST)
    assert later.lyapunov - queues.lyapunov == pytest.approx(drift_bound(np.array([LARGEST]), 0.5, 0.7) + linear)


def test_the_largest_reputation_is_the_largest_of_all_plans() -> None:
    network = a_network(3, twins=3, gateways=3, aps=2, cuts=4)
    most = np.array([15.0, 7.0, 11.0])
    plenty = Observation(most, np.full(3, 1e8), np.full(3, 1e3), np.full(2, 5.0))
    problem = SlotProblem(network, plenty, np.zeros(2), 1.0)
    earned = [problem.evaluate(options).reputation for options in itertools.product(range(4), repeat=3)]
    assert largest_reputation(network, most) == pytest.approx(np.max(earned, axis=0))


@pytest.mark.parametrize(
    ("plus", "minus"), [([0.0], [0.0, 0.0]), ([-0.1], [0.0]), ([0.0], [float("nan")]), ([float("inf")], [0.0])]
)
def test_queues_that_cannot_be_are_refused(plus: list[float], minus: list[float]) -> None:
    with pytest.raises(ValueError, match="queues"):
        Queues(np.array(plus), np.array(minus))

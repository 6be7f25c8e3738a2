"""Factors of machines: worked out by hand, followed to where the truth is."""

from __future__ import annotations

import numpy as np
import pytest

from splitnet.slot_record import SlotTimes
from splitnet.slowness import LEAST_TRACKED_S, TRACKING, Slowness


def times(gateway_s: list[float], ap_s: list[float]) -> SlotTimes:
    return SlotTimes(gateway_s, [0.1] * len(gateway_s), ap_s, 1.0, 0.5)


def test_a_slot_moves_a_factor_by_a_share_of_its_ratio() -> None:
    before = Slowness(np.array([1.0, 2.0]), np.array([1.5]))
    after = before.after(times([0.1, 0.4], [0.2, 0.1]), times([0.2, 0.1], [0.2, 0.4]), ap_of=(0, 0))
    assert after.gateways == pytest.approx([2**TRACKING, 2.0 * 0.25**TRACKING])
    assert after.aps == pytest.approx([1.5 * np.median([1.0, 4.0]) ** TRACKING])
    assert before.gateways.tolist() == [1.0, 2.0], "what was stays as it was"


def test_short_times_move_nothing() -> None:
    before = Slowness(np.array([1.0]), np.array([1.0]))
    short = LEAST_TRACKED_S / 2
    after = before.after(times([short], [0.0]), times([1.0], [short]), ap_of=(0,))
    assert after.gateways.tolist() == after.aps.tolist() == [1.0]


def test_factors_settle_at_the_truth_and_follow_a_drift() -> None:
    """A machine that is 1.4 times slower than its profile, then 0.9 times."""
    now = Slowness(np.array([1.0]), np.array([1.0]))
    for truth in (1.4, 0.9):
        for _ in range(40):
            predicted = times([0.3 * now.gateways[0]], [0.2 * now.aps[0]])
            now = now.after(predicted, times([0.3 * truth], [0.2 * truth]), ap_of=(0,))
        assert now.gateways[0] == pytest.approx(truth, rel=1e-3)
        assert now.aps[0] == pytest.approx(truth, rel=1e-3)


def test_an_ap_without_gateways_keeps_its_factor() -> None:
    now = Slowness(np.array([1.0]), np.array([1.0, 3.0]))
    assert now.after(times([1.0], [1.0]), times([2.0], [2.0]), ap_of=(0,)).aps[1] == 3.0

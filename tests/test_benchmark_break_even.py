"""The break-even: found on its line, and a replay that plays what it was given."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.break_even import break_even, replaying
from splitnet.controller.policies import make_policy, without_reputation
from splitnet.controller.policy import Policy
from splitnet.controller.simulation import simulate
from splitnet.scenario import load_scenario


def test_the_crossing_by_hand() -> None:
    assert break_even((0.0, 0.1, 0.3), [-3.0, -1.0, 3.0]) == pytest.approx(0.1 + 0.2 / 4)
    assert break_even((0.0, 0.1), [0.0, 1.0]) == 0.0
    assert break_even((0.0, 0.1), [-2.0, -1.0]) is None
    assert break_even((0.0, 0.1), [1.0, 2.0]) is None


def test_a_replay_has_the_same_cuts_and_at_the_same_difficulty_the_same_latency() -> None:
    scenario = load_scenario("small")
    setting = scenario.setting()
    first = simulate(make_policy("wtcm-c6", setting), scenario.world.observations(3, 12))  # gamma_0 = 1
    for gamma, same in ((1.0, True), (0.5, False)):
        policy = Policy("replay", without_reputation(setting, gamma), replaying(setting, first))
        again = simulate(policy, scenario.world.observations(3, 12))
        assert np.array_equal(again.cuts, first.cuts)
        assert np.allclose(again.latency_s, first.latency_s, rtol=1e-9) == same

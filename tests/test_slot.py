"""One slot: what cuts cost by hand, what is refused, and brute force against a modelling language."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from splitnet.controller.brute_force import brute_force
from splitnet.controller.frequency import ApTask
from splitnet.controller.slot import Network, SlotProblem, SlotState, TwinTable
from splitnet.errors import SettingsError
from tests.test_frequency import by_modelling_language

GHZ = 1e9
TABLE = TwinTable(
    cuts=(1, 2, 3),
    gateway_s=np.array([0.01, 0.03, 0.08]),
    gateway_j=np.array([0.02, 0.05, 0.11]),
    payload_bits=np.array([8e5, 2e5, 0.0]),
    ap_cycles=np.array([0.1, 0.05, 0.0]) * GHZ,
    top_flops=np.array([8e8, 4e8, 0.0]),
)


def a_network(**changes: Any) -> Network:
    values: dict[str, Any] = {
        "tables": (TABLE, TABLE),
        "gateway_of": (0, 1),
        "ap_of": (0, 0),
        "send_w": np.array([0.2, 0.2]),
        "max_hz": np.array([4 * GHZ]),
        "kappa": np.array([1e-28]),
        "cycles_per_block": 8 * GHZ,
        "alpha": 2.0,
        "beta": 0.0,
        "reputation": lambda flops: flops / 2e10,
    }
    return Network(**(values | changes))


def a_state(**changes: Any) -> SlotState:
    values: dict[str, Any] = {
        "points": np.array([10.0, 5.0]),
        "rate_bps": np.array([1e7, 2e7]),
        "gateway_energy_j": np.array([1.0, 1.0]),
        "ap_energy_j": np.array([4.0]),
        "weights": np.array([0.5]),
    }
    return SlotState(**(values | changes))


def test_what_a_cut_costs_by_hand() -> None:
    problem = SlotProblem(a_network(), a_state(), 16.0)
    seconds, joules = problem.cost(0)
    assert seconds == pytest.approx([10 * 0.01 + 0.8, 10 * 0.03 + 0.2, 0.8])
    assert joules == pytest.approx([0.2 + 0.2 * 0.8, 0.5 + 0.2 * 0.2, 1.1])


def test_what_a_plan_earns_by_hand() -> None:
    problem = SlotProblem(a_network(), a_state(), 16.0)
    plan = problem.evaluate((1, 0))
    assert plan is not None
    earned = (10 * 4e8 + 5 * 8e8) / 2e10
    assert plan.reputation == pytest.approx([earned])
    assert plan.frequencies.barrier_s > 10 * 0.03 + 0.2  # gateway 0 is ready after the half second
    assert plan.objective == pytest.approx(16 * plan.frequencies.latency_s + 0.5 * earned)


def test_a_plan_that_breaks_a_budget_is_none() -> None:
    problem = SlotProblem(a_network(), a_state(), 16.0)
    assert problem.evaluate((2, 0)) is None  # 1.1 J of 1 J
    assert SlotProblem(a_network(), a_state(gateway_energy_j=np.array([1.1, 1.0])), 16.0).evaluate((2, 0)) is not None


def test_a_gateway_that_affords_nothing_is_named() -> None:
    problem = SlotProblem(a_network(), a_state(gateway_energy_j=np.array([0.3, 1.0])), 16.0)
    with pytest.raises(SettingsError, match=r"gateway 0 cannot afford any cut: least energy 0\.36 J of 0\.3 J"):
        brute_force(problem)


def test_too_many_choices_are_refused() -> None:
    network = a_network(tables=(TABLE,) * 12, gateway_of=(0,) * 12)
    state = a_state(points=np.ones(12))
    with pytest.raises(SettingsError, match="531441 choices"):
        brute_force(SlotProblem(network, state, 1.0))


@pytest.mark.parametrize("seed", range(4))
def test_brute_force_against_a_modelling_language(seed: int) -> None:
    """Three DTs, two gateways, two APs; every choice is built again here from the formulas and solved by cvxpy."""
    chance = np.random.default_rng(seed)
    network = a_network(
        tables=(TABLE,) * 3,
        gateway_of=(0, 0, 1),
        ap_of=(0, 1),
        max_hz=np.array([3.0, 5.0]) * GHZ,
        kappa=np.array([1e-28, 1e-28]),
    )
    state = SlotState(
        points=chance.integers(5, 16, 3).astype(float),
        rate_bps=chance.uniform(0.5e7, 3e7, 2),
        gateway_energy_j=chance.uniform(1.0, 2.5, 2),
        ap_energy_j=chance.uniform(1.8, 4.9, 2),
        weights=chance.uniform(-1, 1, 2),
    )
    problem = SlotProblem(network, state, 4.0)
    objectives = {}
    for options in itertools.product(range(3), repeat=3):
        per_gateway = [[(0, options[0]), (1, options[1])], [(2, options[2])]]
        tasks, total, affordable = [], 0.0, True
        for gateway, chosen in enumerate(per_gateway):
            points = [state.points[twin] for twin, _ in chosen]
            picked = [option for _, option in chosen]
            send_s = (
                sum(d * TABLE.payload_bits[o] for d, o in zip(points, picked, strict=True)) / state.rate_bps[gateway]
            )
            compute_s = sum(d * TABLE.gateway_s[o] for d, o in zip(points, picked, strict=True))
            used_j = sum(d * TABLE.gateway_j[o] for d, o in zip(points, picked, strict=True)) + 0.2 * send_s
            affordable = affordable and used_j <= state.gateway_energy_j[gateway]
            earned = sum(d * TABLE.top_flops[o] for d, o in zip(points, picked, strict=True)) / 2e10
            cycles = sum(d * TABLE.ap_cycles[o] for d, o in zip(points, picked, strict=True))
            tasks.append(
                ApTask(
                    np.array([compute_s + send_s]),
                    np.array([cycles]),
                    float(network.max_hz[gateway]),
                    1e-28,
                    float(state.ap_energy_j[gateway]),
                    8 * GHZ * math.exp(-2 * earned),
                )
            )
            total += state.weights[gateway] * earned
        if affordable:
            objectives[options] = 4 * by_modelling_language(tasks) + total
    best = brute_force(problem)
    assert best.objective == pytest.approx(min(objectives.values()), rel=1e-5)
    assert objectives[best.options] == pytest.approx(min(objectives.values()), rel=1e-5)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: replace(TABLE, gateway_s=np.array([1.0])), "gateway_s has 1 entries for 3 cuts"),
        (lambda: replace(TABLE, payload_bits=np.array([1.0, -1.0, 0.0])), "payload_bits"),
        (lambda: a_network(gateway_of=(0, 2)), "gateway 2 is outside 0..1"),
        (lambda: a_network(ap_of=(0, 1)), "AP 1 is outside 0..0"),
        (lambda: SlotProblem(a_network(), a_state(rate_bps=np.array([0.0, 1.0])), 1.0), "rates must be above 0"),
        (lambda: SlotProblem(a_network(), a_state(weights=np.array([math.nan])), 1.0), "weights"),
        (lambda: SlotProblem(a_network(), a_state(), -1.0), "V -1"),
    ],
)
def test_what_cannot_be_is_refused(build: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()

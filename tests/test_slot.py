"""One slot: what cuts cost by hand, what is refused, and brute force against a modelling language."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from splitnet.controller.brute_force import brute_force
from splitnet.controller.latency import CutTable
from splitnet.controller.reputation import Reputation, Shape
from splitnet.controller.slot import Network, Observation, SlotProblem, TwinTable
from splitnet.errors import SettingsError
from tests.test_frequency import GHZ, a_serving, by_modelling_language

TABLE = TwinTable(
    cuts=(1, 2, 3),
    gateway_s=np.array([0.01, 0.03, 0.08]),
    gateway_j=np.array([0.02, 0.05, 0.11]),
    payload_bits=np.array([8e5, 2e5, 0.0]),
    ap_cycles=np.array([0.1, 0.05, 0.0]) * GHZ,
    top_flops=np.array([8e8, 4e8, 0.0]),
)
SHORT = TwinTable(*(getattr(TABLE, name)[1:] for name in TwinTable.__slots__))


def by_hand_network(**changes: Any) -> Network:
    values: dict[str, Any] = {
        "tables": (TABLE, TABLE),
        "gateway_of": np.array([0, 1]),
        "ap_of": np.array([0, 0]),
        "send_w": np.array([0.2, 0.2]),
        "max_hz": np.array([4 * GHZ]),
        "kappa": np.array([1e-28]),
        "cycles_per_block": 8 * GHZ,
        "alpha": 2.0,
        "beta": 0.0,
        "reputation": Reputation(2e10),
    }
    return Network(**(values | changes))


def by_hand_problem(
    network: Network | None = None, v: float = 16.0, weights: tuple[float, ...] = (0.5,), **changes: Any
) -> SlotProblem:
    values: dict[str, Any] = {
        "points": np.array([10.0, 5.0]),
        "rate_bps": np.array([1e7, 2e7]),
        "gateway_energy_j": np.array([1.0, 1.0]),
        "ap_energy_j": np.array([4.0]),
    }
    return SlotProblem(network or by_hand_network(), Observation(**(values | changes)), np.array(weights), v)


def test_what_a_cut_costs_by_hand() -> None:
    problem = by_hand_problem()
    assert problem.ready_s[0] == pytest.approx([10 * 0.01 + 0.8, 10 * 0.03 + 0.2, 0.8])
    assert problem.used_j[0] == pytest.approx([0.2 + 0.2 * 0.8, 0.5 + 0.2 * 0.2, 1.1])
    assert problem.cycles[1] == pytest.approx([0.5 * GHZ, 0.25 * GHZ, 0])
    assert problem.flops[1] == pytest.approx([4e9, 2e9, 0])


def test_a_shorter_table_has_no_further_options() -> None:
    problem = by_hand_problem(by_hand_network(tables=(TABLE, SHORT)))
    assert problem.network.counts.tolist() == [3, 2]
    assert problem.used_j[1].tolist() == [pytest.approx(0.25 + 0.2 * 0.05), pytest.approx(0.55), math.inf]
    assert problem.ready_s[1, :2] == pytest.approx([5 * 0.03 + 0.05, 0.4])


def test_a_table_from_a_latency_model() -> None:
    """Ten points in one inference; the power of the gateway makes its energy, f^max makes cycles of seconds."""
    answer = CutTable(
        gateway_s=np.array([0.0, 0.1, 0.3]),
        payload_bits=np.array([3_000_000, 8_000_000, 0]),
        ap_s=np.array([0.3, 0.2, 0.0]),
        top_flops=np.array([9_000_000_000, 8_000_000_000, 0]),
    )
    table = TwinTable.of(answer, gateway_w=2.0, ap_max_hz=4 * GHZ, batch=10)
    assert table.cuts == (1, 2)
    assert table.gateway_s == pytest.approx([0.01, 0.03])
    assert table.gateway_j == pytest.approx([0.02, 0.06])
    assert table.payload_bits == pytest.approx([8e5, 0])
    assert table.ap_cycles == pytest.approx([0.08 * GHZ, 0])
    assert table.top_flops == pytest.approx([8e8, 0])
    assert TwinTable.of(answer, gateway_w=2.0, ap_max_hz=4 * GHZ, least_cut=0).cuts == (0, 1, 2)


def test_what_a_plan_earns_by_hand() -> None:
    plan = by_hand_problem().evaluate((1, 0))
    earned = (10 * 4e8 + 5 * 8e8) / 2e10
    assert plan.feasible
    assert plan.reputation == pytest.approx([earned])
    assert plan.frequencies.barrier_s > 10 * 0.03 + 0.2  # gateway 0 is ready after the half second
    assert plan.objective == pytest.approx(16 * plan.frequencies.latency_s + 0.5 * earned)


def test_what_is_constant_counts_in_the_latency_and_not_in_the_objective() -> None:
    plain, slow = (
        by_hand_problem(by_hand_network(propagation_s=constant_s)).evaluate((1, 0)) for constant_s in (0.0, 0.25)
    )
    assert slow.latency_s == pytest.approx(plain.latency_s + 0.25)
    assert slow.objective == plain.objective


def test_reputation_makes_blocks_easier() -> None:
    """Row 9: gamma = exp(-alpha U - beta); nothing to serve and energy for full speed, so Lambda = f / (H gamma)."""
    network = by_hand_network(beta=0.5, reputation=Reputation(2e10, Shape.LOG))
    assert network.difficulty(np.array([0.0, 0.3])) == pytest.approx([math.exp(-0.5), math.exp(-1.1)])
    problem = by_hand_problem(network, ap_energy_j=np.array([1e6]))
    earned = math.log1p((10 * 8e8 + 5 * 8e8) / 2e10)
    plan = problem.evaluate((0, 0))
    assert plan.reputation == pytest.approx([earned])
    assert plan.frequencies.block_rate == pytest.approx(4 / 8 * math.exp(2 * earned + 0.5))


def test_a_quantile_of_the_block_time_reaches_the_plan() -> None:
    """Nothing to serve: the barrier is what the gateways take, and the block time scales with `blocks`."""
    mean, late = (
        by_hand_problem(
            by_hand_network(blocks=blocks), gateway_energy_j=np.array([2.0, 2.0]), ap_energy_j=np.array([1e6])
        ).evaluate((2, 2))
        for blocks in (1.0, 3.0)
    )
    assert mean.latency_s == pytest.approx(0.8 + 2)
    assert late.latency_s == pytest.approx(0.8 + 3 * 2)


def test_a_plan_says_what_it_takes_beyond_a_budget() -> None:
    plan = by_hand_problem().evaluate((2, 0))  # 1.1 J of 1 J
    assert not plan.feasible
    assert plan.excess_j == pytest.approx([0.1, 0])
    assert by_hand_problem(gateway_energy_j=np.array([1.1, 1.0])).evaluate((2, 0)).feasible


def test_a_gateway_that_affords_nothing_is_named() -> None:
    problem = by_hand_problem(gateway_energy_j=np.array([0.3, 1.0]))
    with pytest.raises(SettingsError, match=r"gateway 0 cannot afford any cut: least energy 0\.36 J of 0\.3 J"):
        brute_force(problem)


def test_too_many_choices_are_refused() -> None:
    network = by_hand_network(tables=(TABLE,) * 12, gateway_of=np.zeros(12, dtype=np.int64))
    with pytest.raises(SettingsError, match="531441 choices"):
        brute_force(by_hand_problem(network, points=np.ones(12)))


def test_the_gap_by_hand() -> None:
    """(objective - lower bound) / (V tau)."""
    solution = brute_force(by_hand_problem())
    assert solution.gap(1.5, 16.0) == 0
    below = replace(solution, lower_bound=solution.plan.objective - 0.48)
    assert below.gap(1.5, 16.0) == pytest.approx(0.02)


@pytest.mark.parametrize("seed", range(4))
def test_brute_force_against_a_modelling_language(seed: int) -> None:
    """Three DTs, two gateways, two APs; every choice is built again here from the formulas and solved by cvxpy."""
    chance = np.random.default_rng(seed)
    network = by_hand_network(
        tables=(TABLE,) * 3,
        gateway_of=np.array([0, 0, 1]),
        ap_of=np.array([0, 1]),
        max_hz=np.array([3.0, 5.0]) * GHZ,
        kappa=np.array([1e-28, 1e-28]),
    )
    seen = Observation(
        points=chance.integers(5, 16, 3).astype(float),
        rate_bps=chance.uniform(0.5e7, 3e7, 2),
        gateway_energy_j=chance.uniform(1.0, 2.5, 2),
        ap_energy_j=chance.uniform(1.8, 4.9, 2),
    )
    weights = chance.uniform(-1, 1, 2)
    objectives = {}
    for options in itertools.product(range(3), repeat=3):
        ready_s, work, per_block, total, affordable = [], [], [], 0.0, True
        for gateway, twins in enumerate(((0, 1), (2,))):
            chosen = [(seen.points[twin], options[twin]) for twin in twins]
            send_s = sum(d * TABLE.payload_bits[o] for d, o in chosen) / seen.rate_bps[gateway]
            used_j = sum(d * TABLE.gateway_j[o] for d, o in chosen) + 0.2 * send_s
            affordable = affordable and used_j <= seen.gateway_energy_j[gateway]
            earned = sum(d * TABLE.top_flops[o] for d, o in chosen) / 2e10
            ready_s.append(sum(d * TABLE.gateway_s[o] for d, o in chosen) + send_s)
            work.append(sum(d * TABLE.ap_cycles[o] for d, o in chosen))
            per_block.append(8 * GHZ * math.exp(-2 * earned))
            total += weights[gateway] * earned
        if affordable:
            serving = a_serving(
                ready_s=ready_s,
                cycles=work,
                ap_of=[0, 1],
                max_hz=network.max_hz,
                kappa=network.kappa,
                energy_j=seen.ap_energy_j,
                cycles_per_block=per_block,
            )
            objectives[options] = 4 * by_modelling_language(serving) + total
    best = brute_force(SlotProblem(network, seen, weights, 4.0))
    assert best.plan.feasible
    assert best.plan.objective == best.lower_bound == pytest.approx(min(objectives.values()), rel=1e-6)
    assert objectives[best.plan.options] == pytest.approx(min(objectives.values()), rel=1e-6)
    assert best.iterations == 27


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: replace(TABLE, gateway_s=np.array([1.0])), "gateway_s has 1 entries for 3 cuts"),
        (lambda: replace(TABLE, payload_bits=np.array([1.0, -1.0, 0.0])), "payload_bits"),
        (lambda: replace(TABLE, ap_cycles=np.array([1.0, math.nan, 0.0])), "ap_cycles"),
        (lambda: by_hand_network(gateway_of=np.array([0, 2])), r"gateway 2 is outside 0\.\.1"),
        (lambda: by_hand_network(gateway_of=np.array([0])), "1 gateways named for 2 DTs"),
        (lambda: by_hand_network(ap_of=np.array([0, 1])), r"AP 1 is outside 0\.\.0"),
        (lambda: by_hand_network(send_w=np.array([0.2])), "powers do not fit"),
        (lambda: by_hand_network(cycles_per_block=0.0), "cycles_per_block"),
        (lambda: by_hand_network(alpha=-1.0), "alpha"),
        (lambda: by_hand_network(propagation_s=math.nan), "propagation_s nan"),
        (lambda: by_hand_problem(rate_bps=np.array([0.0, 1.0])), "rates and the energies of APs must be above 0"),
        (lambda: by_hand_problem(ap_energy_j=np.array([0.0])), "rates and the energies of APs must be above 0"),
        (lambda: by_hand_problem(points=np.array([-1.0, 1.0])), "points and energies must not be negative"),
        (lambda: by_hand_problem(points=np.array([1.0])), "points has 1 entries"),
        (lambda: by_hand_problem(gateway_energy_j=np.array([math.inf, 1.0])), "gateway_energy_j"),
        (lambda: by_hand_problem(weights=(math.nan,)), "weights"),
        (lambda: by_hand_problem(v=0.0), "V 0"),
        (lambda: by_hand_problem(v=-1.0), "V -1"),
    ],
)
def test_what_cannot_be_is_refused(build: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()

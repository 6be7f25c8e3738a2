"""The reference solvers themselves: against closed forms, a search of one variable, and enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from splitnet.controller import reference
from splitnet.controller.brute_force import brute_force
from splitnet.controller.frequency import Serving, block_rate, least_barrier_s
from splitnet.controller.reference import FrequencyProgram, dense_scan, knapsack
from splitnet.controller.slot import SlotPlan, SlotProblem
from splitnet.errors import SettingsError
from tests.slots import random_problem
from tests.test_frequency import GHZ, KAPPA, a_serving

CLOSED: list[tuple[Serving, float]] = [
    # C2 and C3 bind: T + C/f^max + H/f^max
    (a_serving(energy_j=[1e6]), 0.5 + 1 / 4 + 8 / 4),
    # nothing to serve, C5 binds: f = sqrt(E / (kappa H)) = 1 GHz
    (a_serving(cycles=[0.0], energy_j=[0.8]), 0.5 + 8),
    # the quantile -ln(1 - p) of the first
    (a_serving(energy_j=[1e6], blocks=3.0), 0.5 + 1 / 4 + 3 * 8 / 4),
    # two gateways at one AP: both are done after (C_1 + C_2)/f^max
    (a_serving(ready_s=[0.5, 0.5], cycles=[GHZ, 3 * GHZ], ap_of=[0, 0], energy_j=[1e6]), 0.5 + 1 + 2),
    # two APs that only mine: 1/2 + 1/4 blocks/s
    (
        a_serving(
            ready_s=[], cycles=[], ap_of=[], max_hz=[4 * GHZ] * 2, energy_j=[1e6] * 2,
            cycles_per_block=[8 * GHZ, 16 * GHZ],
        ),
        4 / 3,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("serving", "latency_s"), CLOSED)
def test_closed_forms(serving: Serving, latency_s: float) -> None:
    assert float(dense_scan(serving)) == pytest.approx(latency_s, rel=1e-14)
    answer = FrequencyProgram(serving.ap_of, len(serving.max_hz)).solve(serving)
    assert answer.status == "optimal"
    assert answer.latency_s == pytest.approx(latency_s, rel=1e-6)


@pytest.mark.parametrize("energy_j", [0.05, 0.3, 1.0])
def test_one_ap_whose_energy_binds(energy_j: float) -> None:
    """kappa C^3/s^2 + kappa f^2 H = E for one AP, so that s + H/f is a function of the slack s alone."""
    serving = a_serving(energy_j=[energy_j])

    def latency_s(slack_s: float) -> float:
        return 0.5 + slack_s + 8 * GHZ / math.sqrt((energy_j - KAPPA * GHZ**3 / slack_s**2) / (KAPPA * 8 * GHZ))

    least_s = math.sqrt(KAPPA * GHZ**3 / energy_j)
    best = minimize_scalar(latency_s, bounds=(least_s * (1 + 1e-9), least_s * 50), options={"xatol": 1e-10})
    assert float(dense_scan(serving)) == pytest.approx(best.fun, rel=1e-12)
    answer = FrequencyProgram(serving.ap_of, 1).solve(serving)
    assert answer.latency_s == pytest.approx(best.fun, rel=1e-6)


def test_a_program_is_for_one_assignment() -> None:
    program = FrequencyProgram(np.array([0]), 1)
    with pytest.raises(ValueError, match=r"compiled for gateways at \[0\], not \[0, 0\]"):
        program.solve(a_serving(ready_s=[0.5, 0.5], cycles=[GHZ, GHZ], ap_of=[0, 0]))


def test_a_solver_that_gives_up_says_so() -> None:
    answer = FrequencyProgram(np.array([0]), 1).solve(a_serving(), max_iter=1)
    assert answer.status != "optimal"


def plans(problem: SlotProblem) -> list[SlotPlan]:
    found = [problem.evaluate(options) for options in itertools.product(*map(range, problem.network.counts.tolist()))]
    return [plan for plan in found if plan.feasible]


def serving_of(problem: SlotProblem, plan: SlotPlan) -> Serving:
    """What the APs have to do, put together DT by DT."""
    network = problem.network
    ready_s, cycles = np.zeros(len(network.ap_of)), np.zeros(len(network.ap_of))
    for twin, option in enumerate(plan.options):
        ready_s[network.gateway_of[twin]] += problem.ready_s[twin, option]
        cycles[network.gateway_of[twin]] += problem.cycles[twin, option]
    per_block = network.cycles_per_block * np.exp(-network.alpha * plan.reputation - network.beta)
    energy_j = problem.observation.ap_energy_j
    return Serving(ready_s, cycles, network.ap_of, network.max_hz, network.kappa, energy_j, per_block)


@pytest.mark.parametrize("seed", range(6))
def test_the_knapsack_against_enumeration(seed: int) -> None:
    """sum_j lambda_j(Lambda) >= Lambda holds up to the largest fixed point, which is the block rate of 2a."""
    problem = random_problem(seed, twins=4, gateways=3, aps=2, cuts=4)
    chance = np.random.default_rng(seed)
    every = [(plan, serving_of(problem, plan)) for plan in plans(problem)]
    found = []
    for plan, _ in (every[index] for index in chance.integers(0, len(every), 6)):
        barrier_s, rate = plan.frequencies.barrier_s * chance.uniform(0.9, 1.3), plan.frequencies.block_rate
        rate *= chance.uniform(0.6, 1.1)
        values = {
            plan.options: float(problem.weights @ plan.reputation)
            for plan, serving in every
            if least_barrier_s(serving) <= barrier_s and block_rate(serving, barrier_s) >= rate
        }
        packing = knapsack(problem, barrier_s, rate)
        assert packing.value == pytest.approx(min(values.values(), default=math.inf))
        assert (packing.options is None) == (not values)
        if packing.options is not None:
            assert values[packing.options] == pytest.approx(packing.value)
        found.append(packing.value)
    assert np.isfinite(found).any()


@pytest.mark.parametrize("seed", range(4))
def test_the_knapsack_at_the_optimum_gives_the_optimum(seed: int) -> None:
    """A cheaper choice at its barrier and rate would be a better plan; so boxes around them bound it from below."""
    problem = random_problem(seed, twins=3, gateways=2, aps=2, cuts=5)
    best = brute_force(problem).plan
    barrier_s, rate = best.frequencies.barrier_s, best.frequencies.block_rate
    earned = float(problem.weights @ best.reputation)
    assert knapsack(problem, barrier_s * (1 + 1e-9), rate * (1 - 1e-9)).value == pytest.approx(earned)
    bounds = []
    for width in (1.5, 1.1, 1.01, 1.001):
        value = knapsack(problem, barrier_s * width, rate / width).value
        bounds.append(problem.v * (barrier_s / width + 1 / (rate * width)) + value)
    assert bounds == sorted(bounds)
    assert bounds[-1] <= best.objective


def test_no_choice_meets_a_barrier_that_is_too_early() -> None:
    assert knapsack(random_problem(0), 1e-3, 0.1).value == math.inf


def test_too_many_combinations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "MOST_COMBINATIONS", 15)
    with pytest.raises(SettingsError, match="16 combinations of cuts at AP 0 are over 15"):
        knapsack(random_problem(0, twins=4, gateways=2, aps=2, cuts=4), 5.0, 0.1)

"""Alternating optimisation: objectives against loops over DTs, and where it ends, against its start and all plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from splitnet.controller.alternating import alternate, cuts_at, held_objectives
from splitnet.controller.baselines import last_cuts, loads, middle_cuts, moved, repaired
from splitnet.controller.slot import SlotPlan, SlotProblem
from tests.slots import all_plans, random_problem


def objective_by_loops(problem: SlotProblem, plan: SlotPlan, options: Sequence[int]) -> float:
    """P1 of these cuts at the plan's frequencies, and inf where a budget breaks: rows 1 to 13, DT by DT."""
    network, seen, held = problem.network, problem.observation, plan.frequencies
    gateways, aps = len(network.ap_of), len(network.max_hz)
    ready_s, used_j, cycles, flops = np.zeros(gateways), np.zeros(gateways), np.zeros(gateways), np.zeros(aps)
    for twin, option in enumerate(options):
        table, gateway, points = network.tables[twin], network.gateway_of[twin], seen.points[twin]
        send_s = points * table.payload_bits[option] / seen.rate_bps[gateway]
        ready_s[gateway] += points * table.gateway_s[option] + send_s
        used_j[gateway] += points * table.gateway_j[option] + network.send_w[gateway] * send_s
        cycles[gateway] += points * table.ap_cycles[option]
        flops[network.ap_of[gateway]] += points * table.top_flops[option]
    barrier_s = 0.0
    for gateway in range(gateways):
        hz = held.serving_hz[gateway]
        serving_s = 0.0 if cycles[gateway] == 0 else cycles[gateway] / hz if hz > 0 else np.inf
        barrier_s = max(barrier_s, ready_s[gateway] + serving_s)
    earned = flops / network.reputation.reference_flops
    rate = sum(held.mining_hz[ap] / (8e9 * np.exp(-2 * earned[ap])) for ap in range(aps))
    broken = (used_j > seen.gateway_energy_j * (1 + 1e-9)).any()
    for ap in range(aps):
        spent_j = held.mining_hz[ap] ** 3 / rate
        spent_j += sum(cycles[m] * held.serving_hz[m] ** 2 for m in range(gateways) if network.ap_of[m] == ap)
        broken = broken or network.kappa[ap] * spent_j > seen.ap_energy_j[ap] * (1 + 1e-8)
    return np.inf if broken else float(problem.v * (barrier_s + 1 / rate) + problem.weights @ earned)


@pytest.mark.parametrize("seed", range(4))
def test_objectives_at_held_frequencies(seed: int) -> None:
    problem = random_problem(seed, twins=4, gateways=2, aps=2, cuts=5, scarce=seed % 2 == 1)
    chance = np.random.default_rng(seed)
    plan = problem.evaluate(repaired(problem, chance.integers(0, 5, 4)))
    for twin in range(4):
        held = loads(problem, np.array(plan.options))
        found = held_objectives(problem, plan, moved(problem, held, twin, plan.options[twin]))
        others = [(*plan.options[:twin], option, *plan.options[twin + 1 :]) for option in range(5)]
        assert found == pytest.approx([objective_by_loops(problem, plan, options) for options in others], rel=1e-9)
        assert found[plan.options[twin]] == pytest.approx(plan.objective, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_alternating_ends_between_its_start_and_the_optimum(seed: int) -> None:
    problem = random_problem(seed, cuts=4, scarce=seed % 2 == 1)
    solution = alternate(problem)
    start = problem.evaluate(repaired(problem, middle_cuts(problem.network)))
    best = min(plan.objective for plan in all_plans(problem))
    assert solution.plan.feasible
    assert best <= solution.plan.objective <= start.objective
    assert solution.lower_bound == -np.inf
    assert cuts_at(problem, solution.plan) == solution.plan.options


def test_alternating_cannot_leave_gateway_only() -> None:
    """With 0 Hz for every gateway no top can ever run, though it pays: MODEL.md section 2b."""
    problem = replace(random_problem(1, cuts=4), weights=np.zeros(2))
    stuck = problem.evaluate(last_cuts(problem.network))
    assert cuts_at(problem, stuck) == stuck.options
    assert min(plan.objective for plan in all_plans(problem)) < 0.7 * stuck.objective

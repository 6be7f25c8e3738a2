"""The solvers of one slot against the best of all plans: online, exact, and the lower bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitnet.controller import exact, frontier, online
from splitnet.controller.brute_force import brute_force
from splitnet.controller.exact import solve_exact
from splitnet.controller.exchanging import exchange_options
from splitnet.controller.lower_bound import lower_bound
from splitnet.controller.online import solve_online
from splitnet.controller.reputation import Reputation, Shape
from splitnet.controller.slot import SlotProblem
from splitnet.errors import SettingsError
from tests.slots import a_network, an_observation, random_problem

SMALL = [(twins, gateways, aps) for twins, gateways, aps in ((4, 2, 2), (3, 3, 2), (4, 3, 1), (2, 3, 3))]


def small_problem(seed: int) -> SlotProblem:
    """Up to four DTs with five cuts; C4 binds in every second, g is each of its shapes, some weights are alike."""
    twins, gateways, aps = SMALL[seed % len(SMALL)]
    problem = random_problem(seed, twins, gateways, aps, cuts=5, scarce=bool(seed % 2))
    reference = problem.network.reputation.reference_flops
    shapes = (
        Reputation(reference),
        Reputation(reference, Shape.LOG),
        Reputation(reference, Shape.KNOTS, np.array([0.0, 0.2, 0.8, 2.0]), np.array([0.0, 0.05, 0.7, 0.8])),
    )
    weights = (problem.weights, 0 * problem.weights, abs(problem.weights), np.full(aps, 6.0))[seed // 2 % 4]
    network = replace(problem.network, reputation=shapes[seed % 3])
    return replace(problem, network=network, weights=weights)


def gap(problem: SlotProblem, objective: float, best: float, latency_s: float) -> float:
    return (objective - best) / (problem.v * latency_s)


@pytest.mark.parametrize("seed", range(60))
def test_exact_finds_what_brute_force_finds(seed: int) -> None:
    problem = small_problem(seed)
    best = brute_force(problem).plan
    found = solve_exact(problem, tolerance=0.0)
    assert found.plan.objective == pytest.approx(best.objective, rel=1e-9)
    assert found.plan.feasible
    assert found.lower_bound <= best.objective * (1 + 1e-9) + 1e-9
    assert found.gap(best.latency_s, problem.v) <= 1e-9


@pytest.mark.parametrize("seed", range(60))
def test_online_is_near_what_brute_force_finds(seed: int) -> None:
    """At most 1% of V tau above, cold and started from any plan."""
    problem = small_problem(seed)
    best = brute_force(problem).plan
    cold = solve_online(problem).plan
    warm = solve_online(problem, [0] * len(problem.network.tables)).plan
    for plan in (cold, warm):
        assert plan.feasible
        assert -1e-9 <= gap(problem, plan.objective, best.objective, best.latency_s) <= 0.01


@pytest.mark.parametrize("seed", range(12))
def test_after_exchanges_no_gateway_has_a_better_option(seed: int) -> None:
    """Each option of each gateway is tried in the plan that is left, which costs what it is said to cost."""
    problem = small_problem(seed)
    of = frontier.frontier(problem)
    tables, world = online.inputs(problem, of)
    plan = np.zeros(of.gateways.shape, dtype=np.int64)
    before = problem.evaluate(of.twin_options(plan)).objective
    objective, _ = exchange_options(plan, before, tables, world)
    assert objective <= before
    assert objective == pytest.approx(problem.evaluate(of.twin_options(plan)).objective, rel=1e-9)
    for ap, place in zip(*np.nonzero(of.counts), strict=True):
        for option in range(of.counts[ap, place]):
            other = plan.copy()
            other[ap, place] = option
            assert problem.evaluate(of.twin_options(other)).objective >= objective - 1e-9 * abs(objective)


@pytest.mark.parametrize("seed", range(24))
def test_the_lower_bound_is_below_what_brute_force_finds(seed: int) -> None:
    problem = small_problem(seed)
    best = brute_force(problem).plan
    bound = lower_bound(problem, best, tolerance=0.0, time_limit_s=0.5)
    assert bound <= best.objective + 1e-9 * abs(best.objective)
    assert gap(problem, best.objective, bound, best.latency_s) < 1  # with two DTs at a gateway its hulls are coarse


def test_a_proof_cut_short_is_honest() -> None:
    problem = random_problem(3, twins=12, gateways=6, aps=3)
    hurried = solve_exact(problem, tolerance=0.0, time_limit_s=0.0)
    patient = solve_exact(problem, tolerance=1e-3)
    assert hurried.plan.feasible
    assert hurried.lower_bound <= patient.plan.objective
    assert patient.gap(patient.plan.latency_s, problem.v) <= 1e-3 * (1 + 1e-9)
    assert patient.lower_bound >= hurried.lower_bound


def test_the_same_slot_gives_the_same_plan() -> None:
    problem = random_problem(5, twins=12, gateways=6, aps=3)
    assert solve_online(problem).plan.options == solve_online(problem).plan.options
    assert solve_exact(problem).plan.options == solve_exact(problem).plan.options


def test_a_slot_too_large_to_list_is_refused_by_exact() -> None:
    with pytest.raises(SettingsError, match="use the online solver"):
        solve_exact(random_problem(0, twins=40, gateways=2, aps=1))


def test_many_devices_are_within_two_percent_of_the_bound() -> None:
    network = a_network(1, twins=120, gateways=6, aps=3)
    seen = an_observation(network, np.random.default_rng(1))
    seen = replace(seen, gateway_energy_j=10 * seen.gateway_energy_j, ap_energy_j=1000 * seen.ap_energy_j)
    problem = SlotProblem(network, seen, np.array([3.0, 5.0, 1.0]), 16.0)
    plan = solve_online(problem).plan
    assert plan.feasible
    bound = lower_bound(problem, plan, tolerance=0.01, time_limit_s=20)
    assert gap(problem, plan.objective, bound, plan.latency_s) <= 0.02


def test_a_gateway_that_affords_nothing_is_named_by_all() -> None:
    problem = random_problem(0)
    poor = replace(problem, observation=replace(problem.observation, gateway_energy_j=np.array([1.0, 1e-9])))
    for solver in (solve_online, solve_exact, brute_force):
        with pytest.raises(SettingsError, match="gateway 1 cannot afford any cut"):
            solver(poor)


@pytest.mark.parametrize("energy_j", [1e-12, 1e-6, 1e6])
def test_energies_far_from_usual_end_with_a_plan(energy_j: float) -> None:
    problem = random_problem(6, twins=3, gateways=2, aps=2, cuts=4)
    problem = replace(problem, observation=replace(problem.observation, ap_energy_j=np.full(2, energy_j)))
    best = brute_force(problem).plan
    for warm in (None, [0, 0, 0]):
        plan = solve_online(problem, warm).plan
        assert plan.feasible
        assert plan.objective <= best.objective + 0.5 * problem.v * best.latency_s
    assert solve_exact(problem, tolerance=1e-6).plan.objective == pytest.approx(best.objective, rel=1e-5)


def test_an_ap_without_gateways_still_mines() -> None:
    problem = random_problem(2, twins=2, gateways=2, aps=2, cuts=4)
    problem = replace(problem, network=replace(problem.network, ap_of=np.array([0, 0])))
    best = brute_force(problem).plan
    assert best.frequencies.mining_hz[1] > 0
    assert solve_exact(problem, tolerance=0.0).plan.objective == pytest.approx(best.objective, rel=1e-9)
    assert solve_online(problem).plan.objective <= best.objective + 0.01 * problem.v * best.latency_s


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_a_gateways_options_are_all_that_can_be_best(seed: int) -> None:
    """Every affordable combination is an option, or an option of equal work is no worse in time and cycles."""
    problem = random_problem(seed, twins=3, gateways=1, aps=1, cuts=5, scarce=True)
    (options,) = frontier.frontier(problem).options
    counts = problem.network.counts
    kept = set(map(tuple, options.picks.tolist()))
    every = np.stack(np.unravel_index(np.arange(counts.prod()), tuple(counts)), axis=1)
    twins = np.arange(3)
    for picks in every:
        ready_s, used_j, cycles, flops = (
            float(column[twins, picks].sum())
            for column in (problem.ready_s, problem.used_j, problem.cycles, problem.flops)
        )
        if used_j > problem.observation.gateway_energy_j[0]:
            assert tuple(picks) not in kept
        elif tuple(picks) not in kept:
            equal = np.isclose(options.flops, flops, rtol=1e-9)
            assert np.any(equal & (options.ready_s <= ready_s + 1e-12) & (options.cycles <= cycles * (1 + 1e-12)))


def test_a_large_gateways_options_are_sums_that_it_affords() -> None:
    problem = random_problem(4, twins=30, gateways=1, aps=1, scarce=True)
    (options,) = frontier.frontier(problem).options
    twins = np.arange(30)
    assert not options.complete
    for row, picks in enumerate(options.picks):
        chosen = twins, picks[np.argsort(options.twins)]
        assert problem.used_j[chosen].sum() <= problem.observation.gateway_energy_j[0] * (1 + 1e-9)
        assert options.ready_s[row] == pytest.approx(problem.ready_s[chosen].sum())
        assert options.flops[row] == pytest.approx(problem.flops[chosen].sum(), rel=1e-9)


def test_lists_and_hulls_agree_where_both_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same slots once through lists and once through hulls: within 3% of V tau on average."""
    gaps = []
    for seed in range(12):
        problem = random_problem(seed, twins=12, gateways=6, aps=3)
        listed = solve_online(problem).plan
        with monkeypatch.context() as patch:
            patch.setattr(online, "MOST_LISTED", 0)
            by_hulls = solve_online(problem).plan
        assert by_hulls.feasible
        gaps.append(gap(problem, by_hulls.objective, listed.objective, listed.latency_s))
    assert np.mean(gaps) < 0.03


def test_enough_is_halved_when_a_box_has_too_many_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no box small enough to look at plan by plan, halving alone must end at the same optimum."""
    problem = small_problem(8)
    best = brute_force(problem).plan
    monkeypatch.setattr(exact, "MOST_JOINT", 1)
    found = solve_exact(problem, tolerance=1e-4, time_limit_s=20)
    assert found.plan.objective == pytest.approx(best.objective, rel=1e-3)
    assert found.lower_bound <= best.objective + 1e-9


@pytest.mark.parametrize("seed", range(12))
def test_better_machines_never_make_the_best_plan_worse(seed: int) -> None:
    """More energy, a faster link, or fewer cycles for the same work: nothing that was possible ceases to be."""
    problem = random_problem(seed, twins=8, gateways=4, aps=2)
    seen = problem.observation
    better = (
        replace(problem, observation=replace(seen, ap_energy_j=1.5 * seen.ap_energy_j)),
        replace(problem, observation=replace(seen, rate_bps=1.5 * seen.rate_bps)),
        replace(
            problem,
            network=replace(
                problem.network,
                tables=tuple(replace(table, ap_cycles=table.ap_cycles / 1.5) for table in problem.network.tables),
            ),
        ),
    )
    best = solve_exact(problem, tolerance=1e-6).plan.objective
    for other in better:
        found = solve_exact(other, tolerance=1e-6).plan
        assert found.objective <= best + 1e-9 * abs(best) + 1e-6 * problem.v * found.latency_s
        online_too = solve_online(other).plan
        assert gap(problem, online_too.objective, found.objective, found.latency_s) <= 0.01

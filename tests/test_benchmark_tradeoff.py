"""The trade-off's benchmark: its table is P1, its tau* and its gap are known by hand, its loop is DPRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import tradeoff, tradeoff_figures, tradeoff_report
from benchmarks.tradeoff_states import (
    States,
    Theory,
    best_mixture,
    can_be_least,
    most_slack,
    optimum,
    plans_of,
    tabulate,
)
from splitnet.controller.brute_force import brute_force
from splitnet.controller.queues import Queues
from splitnet.controller.slot import Network, Observation, SlotProblem, sums
from splitnet.errors import SettingsError
from tests.slots import a_network, a_setting, observations

TWO_PLANS = States(np.array([1.0, 2.0]), np.array([[0.6], [0.2]]), np.array([0, 2]), 2)
"""One state: fast at U = 0.6, slow at U = 0.2."""


def random_states(seed: int, states: int = 20, plans: int = 30, aps: int = 2) -> States:
    """Latency falls with reputation, with noise: the shape of a real slot."""
    chance = np.random.default_rng(seed)
    reputation = chance.uniform(0, 1, (states * plans, aps))
    latency_s = (
        2 - reputation.mean(axis=1) + 0.5 * (reputation**2).mean(axis=1) + chance.uniform(0, 0.3, len(reputation))
    )
    return States(latency_s, reputation, np.arange(0, states * plans + 1, plans), states * plans)


def scarce(network: Network, observation: Observation) -> Observation:
    """Gateways whose energy lies between their least and their most."""
    problem = SlotProblem(network, observation, np.zeros(2), 1.0)
    least_j, most_j = (sums(network.gateway_of, ends, 2) for ends in (problem.used_j.min(1), problem.used_j.max(1)))
    return Observation(observation.points, observation.rate_bps, (least_j + most_j) / 2, observation.ap_energy_j)


@pytest.mark.parametrize("is_scarce", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_argmin_of_the_table_is_the_best_plan_of_the_slot(seed: int, is_scarce: bool) -> None:
    network = a_network(seed, cuts=4, propagation_s=0.05)
    seen = [scarce(network, one) if is_scarce else one for one in observations(network, seed, 3)]
    states = tabulate(network, seen)
    assert (states.affordable < 3 * 4**4) == is_scarce
    assert len(states.latency_s) < states.affordable
    chance = np.random.default_rng(seed)
    for _ in range(10):
        v, weights = float(2 ** chance.uniform(0, 8)), chance.uniform(-3, 3, 2)
        for observation, plan in zip(seen, states.least(v, v * weights), strict=True):
            best = brute_force(SlotProblem(network, observation, v * weights, v)).plan
            assert states.latency_s[plan] == pytest.approx(best.latency_s)
            assert states.reputation[plan] == pytest.approx(best.reputation)


def test_a_slot_without_an_affordable_plan_is_refused() -> None:
    network = a_network()
    observation = observations(network, 0, 1)[0]
    nothing = Observation(observation.points, observation.rate_bps, np.zeros(2), observation.ap_energy_j)
    with pytest.raises(SettingsError, match="cannot afford any cut"):
        plans_of(network, nothing, np.zeros((1, 4), dtype=np.int64))


@given(st.integers(0, 10**6), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_dropped_plans_are_never_least(seed: int, plans: int) -> None:
    chance = np.random.default_rng(seed)
    latency_s, reputation = chance.uniform(0, 1, plans).round(1), chance.uniform(0, 1, (plans, 2)).round(1)
    kept = can_be_least(latency_s, reputation)
    weights = chance.standard_normal((200, 2)) * 10 ** chance.uniform(-3, 3, (200, 1))
    cost = latency_s + weights @ reputation.T
    assert cost[:, kept].min(axis=1) == pytest.approx(cost.min(axis=1), abs=1e-9)


def test_the_optimum_by_hand() -> None:
    """U^max = 0.3 is met with a quarter of the fast plan: tau* = 1.75, and U costs 1 s for 0.4."""
    found = optimum(TWO_PLANS, np.ones(1), 0.1, 0.3, 100.0)
    assert (found.latency_s, found.mixture_s) == pytest.approx((1.75, 1.75))
    assert found.prices == pytest.approx(np.array([[2.5], [0.0]]))
    assert best_mixture(TWO_PLANS, np.ones(1), 0.1, 0.3) == pytest.approx(1.75)
    assert most_slack(TWO_PLANS, np.ones(1), 0.1, 0.4) == pytest.approx(0.15)
    assert most_slack(TWO_PLANS, np.ones(1), 0.0, 0.3) == pytest.approx(0.1)


def test_a_floor_binds_by_hand() -> None:
    """Where work is slow, U^min = 0.5 needs three quarters of the slow plan; its price is 1 s for 0.4."""
    states = States(np.array([1.0, 2.0]), np.array([[0.2], [0.6]]), np.array([0, 2]), 2)
    found = optimum(states, np.ones(1), 0.5, 0.9, 100.0)
    assert found.latency_s == pytest.approx(1.75)
    assert found.prices == pytest.approx(np.array([[0.0], [2.5]]))


def test_what_cannot_be_met_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"no mixture of plans has mean reputations from 0 to 0\.1"):
        optimum(TWO_PLANS, np.ones(1), 0.0, 0.1, 100.0)
    with pytest.raises(SettingsError, match=r"within 0\.\.0\.1; widen"):
        Theory.of(TWO_PLANS, 0.0, 0.1)
    with pytest.raises(SettingsError, match="does not bind, so V trades nothing"):
        Theory.of(TWO_PLANS, 0.1, 0.9)


@given(st.integers(0, 10**6), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_the_dual_is_the_whole_program(seed: int, aps: int) -> None:
    states = random_states(seed, aps=aps)
    share = np.random.default_rng(seed).dirichlet(np.ones(states.count))
    found = optimum(states, share, 0.25, 0.35, 1e3)
    assert found.mixture_s == pytest.approx(found.latency_s, rel=2e-9)
    assert best_mixture(states, share, 0.25, 0.35) == pytest.approx(found.latency_s, rel=1e-7)


@pytest.mark.parametrize("start", [0.0, 3.0])
def test_the_loop_is_the_queues_and_the_argmin(start: float) -> None:
    states, v = random_states(1), 4.0
    theory = Theory.of(states, 0.25, 0.35)
    drawn = np.random.default_rng(2).integers(0, states.count, 300)
    queues = Queues(np.array([start, 0.0]), np.array([0.0, start]))
    chosen, after = tradeoff.run(theory, drawn, v, np.array([queues.plus, queues.minus]))
    for slot, state in enumerate(drawn):
        own = slice(states.starts[state], states.starts[state + 1])
        cost = v * states.latency_s[own] + states.reputation[own] @ queues.weights
        assert chosen[slot] == states.starts[state] + cost.argmin()
        queues = queues.after(states.reputation[chosen[slot]], 0.25, 0.35)
        assert after[slot] == pytest.approx(np.array([queues.plus, queues.minus]), abs=1e-12)
    assert (after > 0).any(axis=0).all()


def test_the_comparison_with_the_policy_finds_a_difference() -> None:
    network = a_network(cuts=4)
    seen = observations(network, 0, 6)
    setting = a_setting(network, v=4.0)
    theory = Theory.of(tabulate(network, seen), setting.u_min, setting.u_max)
    assert tradeoff.policy_differs(theory, seen, setting, 15) < 1e-9
    assert tradeoff.solvers_differ(theory, seen, setting, 3) < 1e-9
    assert tradeoff.policy_differs(theory, seen[::-1], setting, 15) > 1e-3
    assert tradeoff.solvers_differ(theory, seen[::-1], setting, 3) > 1e-3


SLOTS = 40_000
LIMITS = {"u_min": 0.0, "u_max": 0.35}


def parabolas() -> States:
    """State s has tau = (c_s - U)^2 / 2 on a fine grid of U, c_s from 0.5 to 0.8: a world whose gap is known.

    DPRA takes U = c - Z/V, so Z <- (1 - 1/V) Z + c - U^max, an autoregression of variance s^2 V / (2 - 1/V), s^2 the
    variance of c, and mean V mu*, mu* = mean c - U^max; tau* = mu*^2 / 2; the gap is var Z / (2 V^2) = s^2/(4V - 2).
    """
    wished, grid = np.linspace(0.5, 0.8, 25), np.linspace(0, 1, 401)
    latency_s = ((wished[:, None] - grid) ** 2 / 2).ravel()
    return States(latency_s, np.tile(grid, 25)[:, None], np.arange(0, 25 * 401 + 1, 401), 25 * 401)


@pytest.fixture(scope="module")
def ran() -> dict[str, Any]:
    theory = Theory.of(parabolas(), LIMITS["u_min"], LIMITS["u_max"])
    return theory.as_dict() | tradeoff.runs_of(theory, SLOTS, 3, ("warm", "cold"), lambda: None)


def test_gap_and_queue_are_those_of_the_closed_form(ran: dict[str, Any]) -> None:
    variance = np.linspace(0.5, 0.8, 25).var()
    assert ran["best_s"] == pytest.approx(0.3**2 / 2, rel=1e-3)
    vs, gaps = tradeoff_report.by_v(ran["runs"], "warm", tradeoff_report.gap)
    assert gaps.mean(axis=0)[:7] == pytest.approx(variance / (4 * vs[:7] - 2), rel=0.1)
    late = tradeoff_report.by_v(ran["runs"], "cold", lambda row: tradeoff_report.gap(row, "late"))[1]
    assert late.mean(axis=0)[:6] == pytest.approx(variance / (4 * vs[:6] - 2), rel=0.2)
    queues = tradeoff_report.by_v(ran["runs"], "warm", tradeoff_report.queue)[1]
    assert queues.mean(axis=0) == pytest.approx(0.3 * vs, rel=0.02)
    slopes = tradeoff_report.exponent(vs[1:7], gaps[:, 1:7]), tradeoff_report.exponent(vs, queues)
    assert [slope and slope[0] for slope in slopes] == pytest.approx([-1, 1], abs=0.1)


def test_every_run_keeps_what_theory_promises(ran: dict[str, Any]) -> None:
    assert len(ran["runs"]) == 3 * 9 * 2
    for row in ran["runs"]:
        v, start = row["v"], row["start"]
        assert tradeoff_report.gap(row) <= tradeoff_report.gap_bound(ran, v, SLOTS, start)
        assert tradeoff_report.queue(row) <= tradeoff_report.queue_bound(ran, v, SLOTS, start)
        if start == "cold":
            assert tradeoff_report.violation(row, LIMITS) <= tradeoff_report.last_queue(row) / SLOTS + 1e-12
        # weak duality: what is gained below tau* is paid for by breaking C6, at prices mu*
        mean, prices = np.array(row["whole"]["reputation"]), np.array(row["prices"])
        paid = prices[0] @ (mean - LIMITS["u_max"]) + prices[1] @ (LIMITS["u_min"] - mean)
        assert tradeoff_report.gap(row) + paid >= -1e-8


def test_bounds_by_hand() -> None:
    world = {"drift_bound": 2.0, "prices": [[3.0, 0.0], [0.0, 4.0]], "slack": 0.5, "slack_s": 1.5, "least_s": 1.0}
    assert tradeoff_report.gap_bound(world, 4, 10, "cold") == pytest.approx(0.5)
    assert tradeoff_report.gap_bound(world, 4, 10, "warm") == pytest.approx(0.5 + 200 / 40)
    assert tradeoff_report.queue_bound(world, 4, 10, "cold") == pytest.approx(8)
    assert tradeoff_report.queue_bound(world, 4, 10, "warm") == pytest.approx(8 + 200 / 5)


def test_an_exponent_by_hand() -> None:
    vs = np.array([1.0, 2.0, 4.0])
    # seeds with slopes -1 and -2: mean -1.5, deviation of the mean 0.5, Student's t of one degree of freedom 12.706
    found = tradeoff_report.exponent(vs, np.array([3 / vs, 5 / vs**2]))
    assert found == pytest.approx((-1.5, 6.353), rel=1e-4)
    assert tradeoff_report.exponent(vs, np.array([3 / vs, [1, 1, 0.0]])) is None
    assert tradeoff_report.exponent(vs, np.array([3 / vs])) is None
    assert tradeoff_report.power_law(vs, np.array([3 / vs])) == pytest.approx(3 / vs)


def test_a_violation_is_that_of_the_furthest_mean() -> None:
    limits = {"u_min": 0.2, "u_max": 0.3}
    for reputation, found in (((0.25, 0.3), 0.0), ((0.31, 0.34), 0.04), ((0.31, 0.15), 0.05)):
        assert tradeoff_report.violation({"whole": {"reputation": reputation}}, limits) == pytest.approx(found)


def test_curves_are_of_the_slots_they_name() -> None:
    after = np.arange(1.0, 101).reshape(100, 1, 1) * np.ones((1, 2, 1))  # Z+ = Z- = t
    found = tradeoff.curves_of(4.0, np.arange(1.0, 101)[:, None], after)
    assert found["rise_queue"] == [2 * slot for slot in found["rise_slots"]]
    assert found["rise_slots"][-1] == tradeoff.RISE * 4
    assert found["mean_slots"][-1] == 100
    assert np.ravel(found["mean_reputation"]) == pytest.approx([(1 + slot) / 2 for slot in found["mean_slots"]])


def test_what_was_found_is_shown_and_drawn(
    ran: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results: dict[str, Any] = {
        "scenario": {"name": "some"} | LIMITS,
        "slots": SLOTS,
        "seeds": 3,
        "checked_slots": 10,
        "solved_slots": 1,
        "checks": {"policy": 1e-3, "solvers": 0.0},
        "worlds": [ran],
        "seconds": 1.0,
    }
    tradeoff_report.show(results)
    text = " ".join(capsys.readouterr().out.split())
    assert "25 states, 10,025 plans" in text
    assert "by at most 1.0e-03 (limit 1e-09: NOT met)" in text
    assert "mean gap and mean queue at or below their bounds at every V and start: met" in text
    assert "C6 broken by at most Z(T)/T in every cold run: met" in text
    tradeoff_figures.draw(results, tmp_path / "tradeoff.png")
    assert (tmp_path / "tradeoff.png").stat().st_size > 50_000
    flat = [row | {"whole": row["whole"] | {"latency_s": 1 + row["whole"]["best_s"]}} for row in ran["runs"]]
    tradeoff_report.show(results | {"worlds": [ran | {"runs": flat}]})
    text = " ".join(capsys.readouterr().out.split())
    assert "at every V and start: NOT met" in text
    assert "(limit -1.0 ± 0.1: NOT met)" in text

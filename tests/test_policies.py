"""Policies one slot at a time: what all of them keep, what those choose that solve P1, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from splitnet.controller.policies import POLICIES, fair_gamma
from splitnet.controller.policy import Policy, State
from splitnet.controller.queues import Queues
from splitnet.controller.slot import SlotPlan, SlotProblem
from splitnet.errors import SettingsError
from tests.slots import a_network, a_policy, a_setting, all_plans, an_observation, observations, random_problem


def with_queues(policy: Policy, plus: Sequence[float], minus: Sequence[float]) -> State:
    return replace(policy.init(), queues=Queues(np.array(plus), np.array(minus)))


# --- what holds for every policy


@pytest.mark.parametrize("name", POLICIES)
def test_a_step_is_a_function_of_its_input(name: str) -> None:
    network = a_network(2, cuts=4)
    policy = a_policy(name, a_setting(network))
    seen = observations(network, 1, 3)
    state = policy.init()
    for observation in seen[:2]:
        state, _ = policy.step(state, observation)
    before = json.dumps(state.as_dict())
    (one, decision), (other, again) = (policy.step(state, seen[2]) for _ in range(2))
    assert json.dumps(state.as_dict()) == before
    assert one.as_dict() == other.as_dict()
    assert one.slot == 3
    assert one.last == decision.plan.options == again.plan.options
    assert decision.plan.latency_s == again.plan.latency_s
    # the state comes back from JSON bit for bit, and goes on as if nothing had been
    revived = State.from_dict(json.loads(before))
    assert policy.step(revived, seen[2])[0].as_dict() == one.as_dict()


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_decision_keeps_c1_to_c5_and_every_queue_is_kept(name: str, seed: int) -> None:
    """Each limit is summed up again here, DT by DT; the budgets of the odd seed bind."""
    problem = random_problem(seed, twins=5, gateways=3, aps=2, cuts=3, scarce=seed == 1)
    network, seen = problem.network, problem.observation
    policy = a_policy(name, a_setting(network))
    state, decision = policy.step(policy.init(), seen)
    plan, frequencies = decision.plan, decision.plan.frequencies
    used_j, flops, cycles = np.zeros(3), np.zeros(2), np.zeros(3)
    for twin, option in enumerate(plan.options):
        table, gateway, points = network.tables[twin], network.gateway_of[twin], seen.points[twin]
        send_s = points * table.payload_bits[option] / seen.rate_bps[gateway]
        used_j[gateway] += points * table.gateway_j[option] + network.send_w[gateway] * send_s
        cycles[gateway] += points * table.ap_cycles[option]
        flops[network.ap_of[gateway]] += points * table.top_flops[option]
    assert (used_j <= seen.gateway_energy_j * (1 + 1e-9)).all()
    for ap in range(2):
        served = np.flatnonzero(network.ap_of == ap)
        assert frequencies.serving_hz[served].sum() <= network.max_hz[ap] * (1 + 1e-9)
        assert 0 <= frequencies.mining_hz[ap] <= network.max_hz[ap] * (1 + 1e-9)
        spent_j = network.kappa[ap] * (
            cycles[served] @ frequencies.serving_hz[served] ** 2
            + frequencies.mining_hz[ap] ** 3 / frequencies.block_rate
        )
        assert spent_j <= seen.ap_energy_j[ap] * (1 + 1e-9)
    earned = flops / network.reputation.reference_flops
    assert plan.reputation == pytest.approx(earned)
    assert state.queues.plus == pytest.approx(np.maximum(earned - 0.3, 0))
    assert state.queues.minus == pytest.approx(np.maximum(0.1 - earned, 0))


@pytest.mark.parametrize("name", POLICIES)
def test_a_gateway_that_affords_nothing_is_explained(name: str) -> None:
    """It takes its cuts of least energy; the rest of the slot is decided as ever."""
    network = a_network(4, cuts=4)
    poor = replace(an_observation(network, np.random.default_rng(5)), gateway_energy_j=np.array([0.001, 5.0]))
    policy = a_policy(name, a_setting(network))
    _, decision = policy.step(policy.init(), poor)
    assert decision.infeasible is not None
    assert decision.infeasible.startswith("gateway 0 cannot afford any cut: least energy ")
    problem = SlotProblem(network, poor, np.zeros(2), 1.0)
    own = np.flatnonzero(network.gateway_of == 0)
    assert [decision.plan.options[twin] for twin in own] == problem.used_j[own].argmin(axis=1).tolist()
    assert decision.plan.excess_j == pytest.approx([problem.used_j[own].min(axis=1).sum() - 0.001, 0.0])
    rich = replace(poor, gateway_energy_j=np.array([5.0, 5.0]))
    assert policy.step(policy.init(), rich)[1].infeasible is None


def test_a_policy_times_its_decision() -> None:
    network = a_network(cuts=3)
    ticks = iter([10.0, 10.25])
    policy = replace(a_policy("wdpo", a_setting(network)), clock=lambda: next(ticks))
    _, decision = policy.step(policy.init(), an_observation(network, np.random.default_rng(0)))
    assert decision.solve_s == 0.25


# --- policies that solve P1


@pytest.mark.parametrize("name", ["dpra", "oracle"])
@pytest.mark.parametrize("seed", range(3))
def test_dpra_takes_the_least_of_p1(name: str, seed: int) -> None:
    """The weights are the queues' by hand, the least is over all plans."""
    problem = random_problem(seed, cuts=4, scarce=True)
    setting = a_setting(problem.network, v=5.0)
    policy = a_policy(name, setting)
    state = with_queues(policy, [4.0, 0.5], [1.0, 3.0])
    _, decision = policy.step(state, problem.observation)

    def objective(plan: SlotPlan) -> float:
        rows = plan.frequencies
        return float(5.0 * (rows.barrier_s + rows.block_s) + 3.0 * plan.reputation[0] - 2.5 * plan.reputation[1])

    assert objective(decision.plan) == pytest.approx(min(map(objective, all_plans(problem))), rel=1e-12)


@pytest.mark.parametrize("name", ["latency-only", "wtcm", "wtcm-fair"])
def test_c6_dropped_takes_the_least_latency_whatever_the_queues(name: str) -> None:
    problem = random_problem(8, cuts=4)
    policy = a_policy(name, a_setting(problem.network))
    plans = all_plans(replace(problem, network=policy.setting.network))
    _, decision = policy.step(with_queues(policy, [500.0, 0.0], [0.0, 500.0]), problem.observation)
    assert decision.plan.latency_s == min(plan.latency_s for plan in plans)


@pytest.mark.parametrize("name", ["wtcm-c6", "wtcm-fair-c6"])
def test_c6_kept_heeds_the_queues(name: str) -> None:
    """An AP whose queue is endless gets as little work as can be."""
    problem = random_problem(8, cuts=4)
    policy = a_policy(name, a_setting(problem.network))
    _, decision = policy.step(with_queues(policy, [1e9, 0.0], [0.0, 0.0]), problem.observation)
    assert decision.plan.reputation[0] == min(plan.reputation[0] for plan in all_plans(problem))


@pytest.mark.parametrize(
    ("name", "gamma"), [("wtcm", 1.0), ("wtcm-c6", 1.0), ("wtcm-fair", 0.4), ("wtcm-fair-c6", 0.4)]
)
def test_without_reputation_a_block_takes_h0_gamma0_hashes(name: str, gamma: float) -> None:
    network = a_network(1, cuts=4)
    setting = a_setting(network, hash_cycles=500.0)
    policy = a_policy(name, setting)
    for seen in observations(network, 3, 5):
        _, decision = policy.step(policy.init(), seen)
        frequencies = decision.plan.frequencies
        hashes = frequencies.mining_hz.sum() / 500.0 / frequencies.block_rate
        assert hashes == pytest.approx(8e9 / 500.0 * gamma, rel=1e-12)
        assert policy.setting.network.difficulty(decision.plan.reputation) == pytest.approx([gamma, gamma])
    assert fair_gamma(setting, 8e9 / 500.0 * gamma) == pytest.approx(gamma)


# --- what is refused


def test_a_wrong_name_is_told_near_ones() -> None:
    with pytest.raises(SettingsError, match=r"no policy is called 'dpar'; did you mean dpra\?"):
        a_policy("dpar", a_setting(a_network(cuts=3)))


def test_what_a_policy_needs_is_named() -> None:
    setting = a_setting(a_network(cuts=3))
    with pytest.raises(SettingsError, match="policy wdpo-best chooses its cuts on a sample of slots"):
        a_policy("wdpo-best", setting, sample=())
    with pytest.raises(SettingsError, match="policy wtcm-fair needs the mean hashes per block of dpra"):
        a_policy("wtcm-fair", setting, fair_gamma=None)
    with pytest.raises(SettingsError, match=r"gamma 0 is out of range"):
        a_policy("wtcm-fair", setting, fair_gamma=0.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"u_min": 0.5, "u_max": 0.3}, r"u_min 0\.5 and u_max 0\.3 leave nothing between"),
        ({"u_min": -0.1}, r"u_min -0\.1"),
        ({"u_max": float("nan")}, "u_max nan"),
        ({"v": 0.0}, "v 0 is out of range; it must be above 0"),
        ({"hash_cycles": float("inf")}, "hash_cycles inf is out of range"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        a_setting(a_network(cuts=3), **change)


def test_an_observation_that_does_not_fit_is_refused() -> None:
    network = a_network(cuts=3)
    policy = a_policy("dpra", a_setting(network))
    seen = an_observation(network, np.random.default_rng(0))
    bad: list[NDArray[np.float64]] = [np.array([1.0, 2.0]), np.full(4, np.nan), np.full(4, -1.0)]
    for points in bad:
        with pytest.raises(ValueError, match="points"):
            policy.step(policy.init(), replace(seen, points=points))

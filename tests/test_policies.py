"""Policies one slot at a time: what each chooses, against enumeration and numbers by hand; what all of them keep."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from splitnet.controller.alternating import alternate, cuts_at, held_objectives
from splitnet.controller.baselines import (
    RandomCuts,
    best_static_cuts,
    first_cuts,
    last_cuts,
    loads,
    middle_cuts,
    minimum_cut,
    moved,
    repaired,
)
from splitnet.controller.brute_force import brute_force
from splitnet.controller.policies import POLICIES, fair_gamma, make_policy
from splitnet.controller.policy import Policy, Setting, State
from splitnet.controller.queues import Queues
from splitnet.controller.slot import Network, SlotPlan, SlotProblem, TwinTable
from splitnet.errors import SettingsError
from tests.slots import a_network, a_setting, an_observation, observations, random_problem

SAMPLE = 5


def a_policy(name: str, setting: Setting, **changes: Any) -> Policy:
    """With brute force for both solvers: what is tested here is what is asked of a solver, not the solver."""
    values: dict[str, Any] = {
        "seed": 7,
        "sample": observations(setting.network, 99, SAMPLE),
        "fair_gamma": 0.4,
        "solver": brute_force,
        "exact": brute_force,
    }
    return make_policy(name, setting, **(values | changes))


def all_plans(problem: SlotProblem) -> list[SlotPlan]:
    """Every plan within C4."""
    plans = [problem.evaluate(options) for options in itertools.product(*map(range, problem.network.counts))]
    return [plan for plan in plans if plan.feasible]


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


# --- cuts that stay


def test_the_static_cuts_by_name() -> None:
    network = a_network(0, twins=2, cuts=11)
    assert [network.tables[0].cuts[cuts(network)[0]] for cuts in (first_cuts, middle_cuts, last_cuts)] == [1, 6, 11]
    four = a_network(0, twins=2, cuts=4)
    assert middle_cuts(four) == (1, 1)
    policies = {name: a_policy(name, a_setting(network)) for name in ("least-gateway", "wdpo", "gateway-only")}
    for seen in observations(network, 2, 3):
        chosen = [policy.step(policy.init(), seen)[1].plan.options for policy in policies.values()]
        assert chosen == [(0, 0), (5, 5), (10, 10)]


def test_a_static_cut_that_is_too_dear_counts_as_infeasible() -> None:
    network = a_network(4, cuts=4)
    seen = an_observation(
        network, np.random.default_rng(5), gateway_energy_j=np.array([0.1, 9.0]), points=np.full(4, 9.0)
    )
    problem = SlotProblem(network, seen, np.zeros(2), 1.0)
    policy = a_policy("gateway-only", a_setting(network))
    _, decision = policy.step(policy.init(), seen)
    own = np.flatnonzero(network.gateway_of == 0)
    used_j = problem.used_j[own, 3].sum()
    assert used_j > 0.1
    assert decision.infeasible == (
        f"gateway 0 cannot afford its fixed cuts: {used_j:.3g} J of 0.1 J; DTs of it take their cut of least energy"
    )
    assert decision.plan.feasible
    assert [decision.plan.options[twin] for twin in range(4) if twin not in own] == [3, 3]


@pytest.mark.parametrize(("seed", "scarcity"), [(0, 1), (1, 1), (0, 15), (1, 15), (2, 15)])
def test_no_dt_alone_betters_the_best_static_cuts(seed: int, scarcity: float) -> None:
    """Over the sample: fewer broken budgets first, mean latency second; the plans are evaluated one by one here."""
    network = a_network(seed, twins=3, gateways=2, aps=2, cuts=4)
    sample = tuple(
        replace(seen, gateway_energy_j=seen.gateway_energy_j / scarcity) for seen in observations(network, seed, 4)
    )
    problems = [SlotProblem(network, seen, np.zeros(2), 1.0) for seen in sample]

    def score(options: tuple[int, ...]) -> tuple[int, float]:
        plans = [problem.evaluate(options) for problem in problems]
        return sum((plan.excess_j > 0).sum() for plan in plans), float(np.mean([plan.latency_s for plan in plans]))

    best = best_static_cuts(network, sample)
    broken, latency_s = score(best)
    for twin, option in itertools.product(range(3), range(4)):
        other = score((*best[:twin], option, *best[twin + 1 :]))
        assert other[0] > broken or (other[0] == broken and other[1] >= latency_s * (1 - 1e-9))
    for shared in range(4):
        assert score((shared,) * 3) >= (broken, latency_s * (1 - 1e-9))
    policy = a_policy("wdpo-best", a_setting(network), sample=sample)
    _, decision = policy.step(policy.init(), replace(sample[0], gateway_energy_j=np.full(2, 9.0)))
    assert decision.plan.options == best


# --- cuts that each DT chooses alone


def a_table(seconds: Sequence[float], bits: Sequence[float], cycles: Sequence[float]) -> TwinTable:
    return TwinTable(
        cuts=tuple(range(1, len(seconds) + 1)),
        gateway_s=np.array(seconds),
        gateway_j=np.array(seconds) / 10,
        payload_bits=np.array(bits),
        ap_cycles=np.array(cycles),
        top_flops=np.array(cycles),
    )


def two_on_a_gateway(tables: Sequence[TwinTable]) -> Network:
    return a_network(
        tables=tuple(tables),
        gateway_of=np.array([0, 0, 1]),
        ap_of=np.array([0, 0]),
        send_w=np.full(2, 0.2),
        max_hz=np.array([3e9]),
        kappa=np.array([1e-28]),
    )


def test_neurosurgeon_and_dads_by_hand() -> None:
    """One point each, 1 Mbit/s; the AP has 3 GHz for three DTs, and two of them share a gateway."""
    table = a_table([0.1, 0.5], [1e5, 0.0], [0.6e9, 0.0])
    network = two_on_a_gateway([table] * 3)
    seen = an_observation(
        network,
        np.random.default_rng(0),
        points=np.ones(3),
        rate_bps=np.full(2, 1e6),
        gateway_energy_j=np.full(2, 9.0),
    )
    # shared: DTs 0 and 1 take 2 (0.1 + 0.1) + 0.6/1 = 1.0 s at cut 1, 2 x 0.5 = 1.0 s at cut 2: the first of equals;
    # DT 2 takes 0.2 + 0.6/1 = 0.8 s or 0.5 s. Alone at full speed all take 0.2 + 0.6/3 = 0.4 s or 0.5 s.
    chosen = {
        name: a_policy(name, a_setting(network)).step(State(0, Queues.empty(1)), seen)[1].plan.options
        for name in ("neurosurgeon", "dads")
    }
    assert chosen == {"neurosurgeon": (0, 0, 1), "dads": (0, 0, 0)}
    # a little more on the gateway at cut 1 tips DTs 0 and 1
    network = two_on_a_gateway([a_table([0.11, 0.5], [1e5, 0.0], [0.6e9, 0.0])] * 3)
    policy = a_policy("neurosurgeon", a_setting(network))
    assert policy.step(policy.init(), seen)[1].plan.options == (1, 1, 1)


columns = st.lists(st.tuples(*[st.floats(0, 2, allow_subnormal=False)] * 3), min_size=1, max_size=12)


@given(columns)
def test_the_minimum_cut_of_a_chain_is_its_best_cut(rows: list[tuple[float, float, float]]) -> None:
    """Also with times that fall where they should rise, as measured ones do."""
    gateway_s, send_s, ap_s = np.array(rows).T
    total_s = gateway_s + send_s + ap_s
    assert total_s[minimum_cut(gateway_s, send_s, ap_s)] <= total_s.min() + 1e-10


def test_dads_where_every_dt_is_alone_is_neurosurgeon() -> None:
    network = a_network(6, twins=3, gateways=3, aps=3)
    for seen in observations(network, 6, 10):
        one, other = (a_policy(name, a_setting(network)) for name in ("dads", "neurosurgeon"))
        assert one.step(one.init(), seen)[1].plan.options == other.step(other.init(), seen)[1].plan.options


def test_repair_touches_no_more_than_it_must() -> None:
    """Two DTs share a gateway: the one that saves most takes its cheapest cut, the other only if it must."""
    dear = a_table([0.1, 0.5], [0.0, 0.0], [1e9, 0.0])  # 0.01 or 0.05 J
    dearer = a_table([0.1, 0.6], [0.0, 0.0], [1e9, 0.0])  # 0.01 or 0.06 J
    network = two_on_a_gateway([dear, dearer, dear])
    for budget_j, expected in ((0.11, (1, 1, 1)), (0.085, (1, 0, 1)), (0.06, (1, 0, 1)), (0.055, (0, 0, 1))):
        seen = an_observation(
            network, np.random.default_rng(0), points=np.ones(3), gateway_energy_j=np.array([budget_j, 0.05])
        )
        assert repaired(SlotProblem(network, seen, np.zeros(1), 1.0), (1, 1, 1)) == expected


@given(st.integers(0, 10_000))
def test_repair_ends_within_the_budgets(seed: int) -> None:
    problem = random_problem(seed, twins=5, gateways=2, aps=1, cuts=5, scarce=True)
    options = tuple(np.random.default_rng(seed).integers(0, 5, 5).tolist())
    plan = problem.evaluate(repaired(problem, options))
    assert plan.feasible
    sound = problem.evaluate(options).excess_j == 0
    kept = np.array(plan.options) == options
    assert kept[sound[problem.network.gateway_of]].all()


def test_random_cuts_are_uniform_over_what_is_affordable() -> None:
    """One gateway, two DTs: each of the affordable pairs is drawn about equally often (chi-square, 0.1%)."""
    problem = random_problem(1, twins=2, gateways=1, aps=1, cuts=4, scarce=True)
    affordable = [plan.options for plan in all_plans(problem)]
    assert len(affordable) == 6
    rule = RandomCuts(seed=11)
    drawn = [rule(problem, State(slot, Queues.empty(1))).options for slot in range(1500)]
    counts = np.array([drawn.count(options) for options in affordable])
    assert counts.sum() == 1500
    expected = 1500 / len(affordable)
    assert ((counts - expected) ** 2 / expected).sum() < 20.5  # 0.1% of 5 degrees of freedom
    assert drawn != [RandomCuts(seed=12)(problem, State(slot, Queues.empty(1))).options for slot in range(1500)]


# --- alternating optimisation


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


# --- what is refused


def test_a_wrong_name_is_told_near_ones() -> None:
    with pytest.raises(SettingsError, match="no policy is called 'dpar'; choose from dpra"):
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

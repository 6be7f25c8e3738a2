"""Baselines one slot at a time: what each chooses, against enumeration and numbers by hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.controller.baselines import (
    RandomCuts,
    best_static_cuts,
    first_cuts,
    last_cuts,
    middle_cuts,
    minimum_cut,
    repaired,
)
from splitnet.controller.policy import State
from splitnet.controller.queues import Queues
from splitnet.controller.slot import Network, SlotProblem, TwinTable
from tests.slots import a_network, a_policy, a_setting, all_plans, an_observation, observations, random_problem

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

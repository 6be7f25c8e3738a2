"""The slotted loop: figures by hand, long runs against what queues promise, and going on where it stopped."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from splitnet.controller.brute_force import brute_force
from splitnet.controller.policies import make_policy
from splitnet.controller.policy import Decision, Policy, Setting, State
from splitnet.controller.queues import Queues
from splitnet.controller.simulation import Summary, Trace, combine, half_width, simulate, summary
from tests.slots import a_network, a_setting, an_observation, observations


def a_policy(name: str, setting: Setting) -> Policy:
    return make_policy(name, setting, seed=5, solver=brute_force, exact=brute_force)


def dpra(setting: Setting) -> Policy:
    return a_policy("dpra", setting)


def test_an_idle_slot_by_hand() -> None:
    """No data: the barrier is 0 and all APs mine at their full frequency, as energy is plenty."""
    network = a_network(0, max_hz=np.array([3e9, 5e9]), beta=0.5, propagation_s=0.02, cuts=11)
    idle = an_observation(network, np.random.default_rng(0), points=np.zeros(4), ap_energy_j=np.full(2, 1e3))
    setting = a_setting(network, u_min=0.1, u_max=0.3, hash_cycles=400.0)
    trace = simulate(a_policy("wdpo", setting), [idle] * 3)
    per_block = 8e9 * np.exp(-0.5)
    assert trace.barrier_s == pytest.approx([0.0] * 3, abs=1e-9)
    assert trace.block_s == pytest.approx([per_block / 8e9] * 3)
    assert trace.latency_s == pytest.approx([per_block / 8e9 + 0.02] * 3)
    assert trace.hashes_per_block == pytest.approx([per_block / 400.0] * 3)
    assert trace.difficulty == pytest.approx(np.full((3, 2), np.exp(-0.5)))
    assert (trace.reputation == 0).all()
    assert trace.queue == pytest.approx(np.array([[0.1] * 2, [0.2] * 2, [0.3] * 2]))
    assert (trace.cuts == 6).all()
    assert trace.cuts.shape == (3, 4)
    assert trace.feasible.all()
    assert trace.state.slot == 3


def test_it_goes_on_where_it_stopped() -> None:
    """In two parts, the state in between written as JSON: the same trace but for how long decisions took."""
    network = a_network(3, cuts=3)
    setting = a_setting(network)
    seen = observations(network, 3, 20)
    for policy in (dpra(setting), a_policy("random", setting)):
        whole = simulate(policy, seen)
        first = simulate(policy, seen[:7])
        revived = State.from_dict(json.loads(json.dumps(first.state.as_dict())))
        joined = Trace.join([first, simulate(policy, seen[7:], state=revived)])
        assert joined.state.as_dict() == whole.state.as_dict()
        for field in fields(Trace):
            if field.name not in ("solve_s", "state"):
                assert np.array_equal(getattr(joined, field.name), getattr(whole, field.name)), field.name


def test_parts_that_do_not_follow_are_refused() -> None:
    network = a_network(3, cuts=3)
    seen = observations(network, 3, 4)
    policy = dpra(a_setting(network))
    one, other = simulate(policy, seen[:2]), simulate(policy, seen[2:])
    with pytest.raises(ValueError, match="a part begins at slot 0, the one before it ends at 2"):
        Trace.join([one, other])
    with pytest.raises(ValueError, match="no parts"):
        Trace.join([])
    with pytest.raises(ValueError, match="without slots"):
        summary(simulate(policy, []), policy.setting)


def test_each_slot_is_told() -> None:
    network = a_network(3, cuts=3)
    told: list[tuple[int, Decision]] = []
    trace = simulate(
        dpra(a_setting(network)),
        observations(network, 3, 3),
        on_slot=lambda state, decision: told.append((state.slot, decision)),
    )
    assert [slot for slot, _ in told] == [1, 2, 3]
    assert [decision.plan.latency_s for _, decision in told] == trace.latency_s.tolist()


def test_a_slot_without_a_plan_is_counted_and_does_not_stop_the_run() -> None:
    network = a_network(3, cuts=3)
    setting = a_setting(network)
    seen = list(observations(network, 3, 5))
    seen[2] = replace(seen[2], gateway_energy_j=np.array([1.0, 1e-4]))
    trace = simulate(dpra(setting), seen)
    assert trace.feasible.tolist() == [True, True, False, True, True]
    assert trace.infeasible[2] is not None
    assert trace.infeasible[2].startswith("gateway 1 cannot afford any cut")
    assert summary(trace, setting).infeasible_slots == 1
    assert np.isfinite(trace.latency_s).all()


# --- long runs


@pytest.mark.parametrize(("u_min", "u_max"), [(0.0, 0.25), (0.7, 1.2)])
def test_c6_holds_in_the_long_run(u_min: float, u_max: float) -> None:
    """mean U - U^max <= Z^+(T)/T and U^min - mean U <= Z^-(T)/T always; with a stable queue both vanish as 1/T.

    Without C6 this world's mean U lies between the two ranges, so that a limit of either binds.
    """
    network = a_network(1, twins=2, gateways=2, aps=1, cuts=4, alpha=0.0)
    setting = a_setting(network, u_min=u_min, u_max=u_max, v=8.0)
    free = simulate(a_policy("latency-only", setting), observations(network, 1, 200))
    assert 0.25 < free.reputation.mean() < 0.7
    violations = []
    for slots in (50, 200, 800):
        trace = simulate(dpra(setting), observations(network, 1, slots))
        mean = trace.reputation.mean(axis=0)
        assert (mean - u_max <= trace.state.queues.plus / slots + 1e-12).all()
        assert (u_min - mean <= trace.state.queues.minus / slots + 1e-12).all()
        assert (trace.queue[-1] == trace.state.queues.backlog).all()
        violations.append(summary(trace, setting).c6_violation)
    assert violations[0] > 2 * violations[1] > 4 * violations[2] > 0
    assert violations[2] < 0.002


def test_v_trades_queues_for_latency() -> None:
    """From the same warm world: more V, less latency, longer queues."""
    network = a_network(1, twins=2, gateways=2, aps=1, cuts=4)
    seen = observations(network, 1, 400)
    found = []
    for v in (0.5, 2.0, 8.0):
        setting = a_setting(network, u_min=0.0, u_max=0.25, v=v)
        found.append(summary(simulate(dpra(setting), seen), setting))
    assert found[0].mean_latency_s > found[1].mean_latency_s > found[2].mean_latency_s
    assert found[0].mean_queue < found[1].mean_queue < found[2].mean_queue


# --- figures from traces


def a_trace(latency_s: list[float], reputation: list[list[float]]) -> Trace:
    slots, aps = len(latency_s), len(reputation[0])
    return Trace(
        latency_s=np.array(latency_s),
        barrier_s=np.zeros(slots),
        block_s=np.zeros(slots),
        hashes_per_block=np.arange(slots, dtype=float),
        solve_s=np.zeros(slots),
        reputation=np.array(reputation),
        queue=np.tile([1.0, 3.0], (slots, 1)),
        difficulty=np.tile([0.5, 1.0], (slots, 1)),
        cuts=np.zeros((slots, 1), dtype=np.int64),
        infeasible=(None,) * (slots - 1) + ("too dear",),
        state=State(slots, Queues.empty(aps)),
    )


def test_a_summary_by_hand() -> None:
    setting = a_setting(a_network(cuts=3), u_min=0.3, u_max=0.55)
    found = summary(a_trace([1.0, 3.0], [[0.4, 0.1], [0.8, 0.3]]), setting)
    assert found.mean_latency_s == 2.0
    assert found.ci95 == pytest.approx(12.7062047, rel=1e-7)  # two batches: t of one degree of freedom, times 1
    assert found.mean_reputation == pytest.approx((0.6, 0.2))
    assert found.c6_violation == pytest.approx(0.1)  # 0.2 is below 0.3 by more than 0.6 is above 0.55
    assert summary(a_trace([1.0], [[0.7, 0.45]]), setting).c6_violation == pytest.approx(0.15)
    assert (found.mean_queue, found.mean_difficulty, found.hashes_per_block) == (4.0, 0.75, 0.5)
    assert found.infeasible_slots == 1
    assert summary(a_trace([1.0], [[0.4, 0.45]]), setting).ci95 is None
    assert summary(a_trace([1.0], [[0.4, 0.45]]), setting).c6_violation == 0


def test_batch_means_by_hand() -> None:
    """100 slots in 20 batches of 5: batch k is k everywhere but for swings that cancel inside it."""
    latency_s = [batch + swing for batch in range(20) for swing in (-2.0, -1.0, 0.0, 1.0, 2.0)]
    found = summary(a_trace(latency_s, [[0.4, 0.4]] * 100), a_setting(a_network(cuts=3), u_max=0.5))
    assert found.ci95 == pytest.approx(2.0930240544 * np.sqrt(35.0 / 20), rel=1e-7)  # var of 0..19 is 35


def test_seeds_are_combined_by_hand() -> None:
    one = Summary(1.0, 0.5, (0.4, 0.2), 0.0, 4.0, 0.5, 100.0, 1)
    two = Summary(2.0, 0.5, (0.6, 0.2), 0.1, 6.0, 0.7, 300.0, 0)
    three = Summary(6.0, 0.5, (0.5, 0.2), 0.2, 8.0, 0.6, 200.0, 3)
    found = combine([one, two, three])
    assert found.mean_latency_s == 3.0
    assert found.ci95 == pytest.approx(4.3026527 * np.sqrt(7.0 / 3), rel=1e-7)  # variance (4 + 1 + 9)/2
    assert found.mean_reputation == pytest.approx((0.5, 0.2))
    assert (found.c6_violation, found.mean_queue, found.mean_difficulty) == pytest.approx((0.1, 6.0, 0.6))
    assert (found.hashes_per_block, found.infeasible_slots) == (200.0, 4)
    assert combine([one]) == one
    with pytest.raises(ValueError, match="no summaries"):
        combine([])


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    chance = np.random.default_rng(0)
    samples = chance.normal(3.0, 2.0, (2000, 6))
    covered = [abs(sample.mean() - 3.0) <= (half_width(sample) or 0) for sample in samples]
    assert 0.935 < np.mean(covered) < 0.965

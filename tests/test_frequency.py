"""Section 2a: the one-dimensional search against a modelling language, a dense scan and closed forms."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitnet.controller.frequency import (
    ApTask,
    best_frequencies,
    energy_left_j,
    least_barrier_s,
    mining,
    serving_hz,
)

GHZ = 1e9
KAPPA = 1e-28


def a_task(chance: np.random.Generator, gateways: int) -> ApTask:
    """As in the default scenario: some Gcycles of work, a few J."""
    return ApTask(
        ready_s=chance.uniform(0.1, 1.0, gateways),
        cycles=chance.uniform(0, 1, gateways) * (chance.random(gateways) < 0.8) * GHZ,
        max_hz=chance.uniform(3, 5) * GHZ,
        kappa=KAPPA,
        energy_j=chance.uniform(1.8, 4.9),
        cycles_per_block=8 * GHZ * chance.uniform(0.2, 1.0),
    )


def some_tasks(seed: int) -> list[ApTask]:
    chance = np.random.default_rng(seed)
    return [a_task(chance, int(chance.integers(1, 4))) for _ in range(int(chance.integers(1, 4)))]


def by_modelling_language(tasks: list[ApTask]) -> float:
    """min Theta + 1/Lambda as a disciplined convex program, in Gcycles and Gcycles/s."""
    barrier = cp.Variable(nonneg=True)
    rate = cp.Variable(nonneg=True)
    constraints = []
    rates = []
    for task in tasks:
        serving = cp.Variable(len(task.cycles), nonneg=True)
        block = cp.Variable(nonneg=True)
        left = cp.Variable(nonneg=True)
        kappa = task.kappa * GHZ**3
        used = 0.0
        for index, (ready_s, cycles) in enumerate(zip(task.ready_s, task.cycles / GHZ, strict=True)):
            constraints.append(barrier >= ready_s)
            if cycles > 0:
                constraints.append(serving[index] >= cycles * cp.inv_pos(barrier - ready_s))
                used = used + kappa * cycles * cp.square(serving[index])
        constraints += [
            cp.sum(serving) <= task.max_hz / GHZ,
            block <= task.max_hz / GHZ,
            left + used <= task.energy_j,
            block <= kappa ** (-1 / 3) * cp.geo_mean(cp.hstack([left, rate, 1.0])),
        ]
        rates.append(block * GHZ / task.cycles_per_block)
    constraints.append(rate <= sum(rates))
    problem = cp.Problem(cp.Minimize(barrier + cp.inv_pos(rate)), constraints)
    problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL
    return float(problem.value)


@pytest.mark.parametrize("seed", range(20))
def test_it_agrees_with_a_modelling_language(seed: int) -> None:
    tasks = some_tasks(seed)
    assert best_frequencies(tasks).latency_s == pytest.approx(by_modelling_language(tasks), rel=2e-6)


@given(st.integers(0, 10**6))
@settings(max_examples=60)
def test_no_barrier_of_a_dense_scan_is_better(seed: int) -> None:
    tasks = some_tasks(seed)
    found = best_frequencies(tasks)
    least_s = max(least_barrier_s(task) for task in tasks)
    scan = np.concatenate(
        [np.linspace(least_s, found.latency_s, 2000), found.barrier_s * (1 + np.linspace(-1e-3, 1e-3, 201))]
    )
    for barrier_s in scan[scan >= least_s]:
        rate = mining(tasks, float(barrier_s))[1]
        if rate > 0:
            assert barrier_s + 1 / rate >= found.latency_s * (1 - 1e-12)


@given(st.integers(0, 10**6))
def test_what_is_found_holds_every_constraint(seed: int) -> None:
    tasks = some_tasks(seed)
    found = best_frequencies(tasks)
    total = 0.0
    for task, serving, block in zip(tasks, found.serving_hz, found.mining_hz, strict=True):
        assert serving.sum() <= task.max_hz * (1 + 1e-9)  # C2
        assert 0 <= block <= task.max_hz  # C3
        used_j = task.kappa * float((task.cycles * serving**2).sum()) + task.kappa * block**3 / found.block_rate
        assert used_j <= task.energy_j * (1 + 1e-9)  # C5
        works = task.cycles > 0
        finished_s = task.ready_s[works] + task.cycles[works] / serving[works]
        assert np.all(finished_s <= found.barrier_s * (1 + 1e-9))
        assert np.all(task.ready_s <= found.barrier_s)
        total += block / task.cycles_per_block
    assert found.block_rate == pytest.approx(total)


def test_one_ap_with_nothing_to_serve_mines_at_full_speed() -> None:
    """Energy f^3 kappa / Lambda = kappa f^2 H gamma = 1.6 J of 4.9 J: C3 binds."""
    task = ApTask(np.array([0.5]), np.array([0.0]), 2 * GHZ, KAPPA, 4.9, 4 * GHZ)
    found = best_frequencies([task])
    assert found.barrier_s == pytest.approx(0.5)
    assert found.mining_hz[0] == pytest.approx(2 * GHZ)
    assert found.latency_s == pytest.approx(0.5 + 2)
    assert found.serving_hz[0].tolist() == [0.0]


def test_one_ap_with_little_energy_mines_as_fast_as_that_allows() -> None:
    """kappa f^3 / Lambda = kappa f^2 H gamma = E, so f = sqrt(E / (kappa H gamma)) = 1 GHz."""
    task = ApTask(np.array([0.0]), np.array([0.0]), 5 * GHZ, KAPPA, 0.8, 8 * GHZ)
    found = best_frequencies([task])
    assert found.mining_hz[0] == pytest.approx(1 * GHZ)
    assert found.block_rate == pytest.approx(1 / 8)


def test_the_least_barrier_by_hand() -> None:
    """Two gateways ready at once, 1 and 3 Gcycles, 4 GHz: one second; with energy for half the speed, two."""
    plenty = ApTask(np.array([0.2, 0.2]), np.array([1.0, 3.0]) * GHZ, 4 * GHZ, KAPPA, 100.0, 8 * GHZ)
    assert least_barrier_s(plenty) == pytest.approx(1.2)
    full_speed_j = KAPPA * GHZ**3 * (1 + 27)  # f_1 = 1, f_2 = 3 GHz
    scarce = ApTask(plenty.ready_s, plenty.cycles, 4 * GHZ, KAPPA, full_speed_j / 4, 8 * GHZ)
    assert least_barrier_s(scarce) == pytest.approx(2.2)
    assert energy_left_j(scarce, 2.2) == pytest.approx(0, abs=1e-9)
    assert serving_hz(scarce, 2.2) == pytest.approx([0.5 * GHZ, 1.5 * GHZ])


@pytest.mark.parametrize(
    "changes",
    [{"max_hz": 0.0}, {"kappa": -1.0}, {"energy_j": float("nan")}, {"cycles_per_block": float("inf")}],
)
def test_what_cannot_be_is_refused(changes: dict[str, float]) -> None:
    values = {"max_hz": GHZ, "kappa": KAPPA, "energy_j": 1.0, "cycles_per_block": GHZ} | changes
    with pytest.raises(ValueError, match=next(iter(changes))):
        ApTask(np.array([0.0]), np.array([0.0]), **values)
    with pytest.raises(ValueError, match="at least one AP"):
        best_frequencies([])

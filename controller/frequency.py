"""Frequencies of one slot when the cuts are given: how fast each AP serves its gateways, and how fast it mines.

MODEL.md section 2a, which is exact. With the cuts given, gateway m has its activation at the AP at T_m = tau^G_m +
tau^tx_m and needs C_m cycles there. For a barrier Theta the least frequency is also the one of least energy, f_m =
C_m/(Theta - T_m); what is left of the AP's energy goes into mining, at the largest block rate Lambda that the race
allows. Theta + 1/Lambda(Theta) is convex in Theta, so one search in one dimension finds the optimum.

Does not know queues, reputation or cuts: gamma_j comes in as a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

GOLDEN = (math.sqrt(5) - 1) / 2
SEARCH_STEPS = 100
"""Golden section shrinks the interval by 0.618 each: to 1e-21 of its length."""
BISECTIONS = 200
FIXED_POINT_STEPS = 200
"""At most; the logarithm contracts by a third or more, so some 30 reach machine precision."""


@dataclass(frozen=True, slots=True, eq=False)
class ApTask:
    """What one AP has to do in a slot.

    Attributes:
        ready_s: [gateways] T_m, when each gateway's activation is there.
        cycles: [gateways] C_m of the top work; 0 where all is done on the gateway.
        max_hz: f_j^max (C2, C3).
        kappa: effective switched capacitance; a cycle at frequency f takes kappa f^2 joules.
        energy_j: E_j^A(t) (C5).
        cycles_per_block: H gamma_j, expected cycles to find a block alone (row 10).
    """

    ready_s: Vector
    cycles: Vector
    max_hz: float
    kappa: float
    energy_j: float
    cycles_per_block: float

    def __post_init__(self) -> None:
        if len(self.ready_s) != len(self.cycles):
            raise ValueError(f"{len(self.ready_s)} times do not fit {len(self.cycles)} amounts of work")
        if len(self.ready_s) and (min(self.ready_s.min(), self.cycles.min()) < 0):
            raise ValueError("times and cycles must not be negative")
        for name in ("max_hz", "kappa", "energy_j", "cycles_per_block"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} {value} must be above 0 and finite")


@dataclass(frozen=True, slots=True, eq=False)
class Frequencies:
    """The optimum of section 2a.

    Attributes:
        barrier_s: Theta.
        serving_hz: by AP, f_m of each of its gateways.
        mining_hz: [APs] f_j^bloc.
        block_rate: Lambda, blocks/s.
    """

    barrier_s: float
    serving_hz: tuple[Vector, ...]
    mining_hz: Vector
    block_rate: float

    @property
    def latency_s(self) -> float:
        """Theta + 1/Lambda (rows 7 and 11; the constant tau^prop is not in it)."""
        return self.barrier_s + 1 / self.block_rate


def best_frequencies(tasks: Sequence[ApTask]) -> Frequencies:
    """The frequencies of least Theta + 1/Lambda under C2, C3 and C5.

    Raises:
        ValueError: no AP.
    """
    if not tasks:
        raise ValueError("a slot needs at least one AP")
    least_s = max(least_barrier_s(task) for task in tasks)

    def latency_s(barrier_s: float) -> float:
        rate = mining(tasks, barrier_s)[1]
        return barrier_s + (1 / rate if rate > 0 else math.inf)

    # Theta <= Theta + 1/Lambda: beyond what some barrier reaches nothing is better.
    start_s = least_s if math.isfinite(latency_s(least_s)) else max(2 * least_s, 1e-9)
    low, high = least_s, max(latency_s(start_s), least_s * (1 + 1e-12))
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = latency_s(left), latency_s(right)
    for _ in range(SEARCH_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = latency_s(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = latency_s(right)
    barrier_s = min((least_s, left, right), key=latency_s)
    mining_hz, rate = mining(tasks, barrier_s)
    return Frequencies(barrier_s, tuple(serving_hz(task, barrier_s) for task in tasks), mining_hz, rate)


def serving_hz(task: ApTask, barrier_s: float) -> Vector:
    """f_m = C_m / (Theta - T_m), the least frequencies that meet the barrier."""
    slack = barrier_s - task.ready_s
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(task.cycles > 0, task.cycles / slack, 0.0)


def energy_left_j(task: ApTask, barrier_s: float) -> float:
    """R_j(Theta) = E_j - kappa_j sum_m C_m^3 / (Theta - T_m)^2: what mining may use."""
    frequencies = serving_hz(task, barrier_s)
    return float(task.energy_j - task.kappa * (task.cycles * frequencies**2).sum())


def least_barrier_s(task: ApTask) -> float:
    """The least Theta at which C2 holds and the energy suffices, by bisection; at least every T_m."""
    ready_s = float(task.ready_s.max(initial=0.0))
    works = task.cycles > 0
    if not works.any():
        return ready_s

    def meets(barrier_s: float) -> bool:
        if barrier_s <= task.ready_s[works].max():
            return False
        return bool(serving_hz(task, barrier_s).sum() <= task.max_hz and energy_left_j(task, barrier_s) >= 0)

    # All the work one after the other at full speed, and slowly enough for the energy, is always enough.
    total = float(task.cycles.sum())
    cubes = float((task.cycles**3).sum())
    high = ready_s + len(task.cycles) * total / task.max_hz + math.sqrt(task.kappa * cubes / task.energy_j)
    while not meets(high):
        high *= 2
    low = ready_s
    if meets(low):
        return low
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if meets(middle) else (middle, high)
    return high


def mining(tasks: Sequence[ApTask], barrier_s: float) -> tuple[Vector, float]:
    """f_j^bloc and Lambda at a barrier: the largest fixed point, iterated down from f_j = f_j^max.

    f_j = min(f_j^max, (R_j Lambda / kappa_j)^(1/3)) and Lambda = sum_j f_j / (H gamma_j) (rows 10, 11 and 13).
    """
    left_j = np.array([max(energy_left_j(task, barrier_s), 0.0) for task in tasks])
    kappa = np.array([task.kappa for task in tasks])
    max_hz = np.array([task.max_hz for task in tasks])
    cost = np.array([task.cycles_per_block for task in tasks])
    frequencies = np.where(left_j > 0, max_hz, 0.0)
    rate = float((frequencies / cost).sum())
    for _ in range(FIXED_POINT_STEPS):
        frequencies = np.minimum(max_hz, np.cbrt(left_j * rate / kappa))
        lower = float((frequencies / cost).sum())
        if lower >= rate * (1 - 1e-15):
            break
        rate = lower
    return frequencies, rate

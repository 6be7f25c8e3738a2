"""Compiled loops of the online solver: a knapsack over the APs' curves, for a grid of barriers and block rates.

On the curves (`curves.py`, which also says what the tuples hold) a slot is a multiple-choice knapsack (MODEL.md
section 2b): least sum_j w_j U_j with sum_j lambda_j >= Lambda. It is solved by dynamic programming over rounded
shares of Lambda; what comes out is evaluated exactly (section 2a). A plan is [APs, gateways of an AP], the option of
each gateway.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from splitnet.controller.curves import NOTHING, curves, no_curve
from splitnet.controller.kernels import Vector, best_barrier, compiled

SHARES = 64
"""Units into which Lambda is divided for the knapsack; shares are rounded down, so what is planned holds."""
EXTRA = 1e-3
"""What block rate beyond Lambda is worth in the knapsack, of what it is worth at Lambda."""


@compiled
def scan(
    barriers_s: Vector,
    rates: Vector,
    buckets: int,
    source: Any,
    tables: Any,
    world: Any,
    plans: Any,
    objectives: Vector,
) -> int:
    """Tries the knapsack at every barrier and rate; writes the best plan of each barrier.

    Args:
        plans: [barriers, APs, gateways of an AP] and objectives: [barriers], written; inf where nothing was found.

    Returns:
        Number of plans evaluated.
    """
    _, max_hz, kappa, _, v, blocks = world
    aps, own = plans.shape[1:]
    curve = no_curve(aps, buckets, own)
    plan, worth, easiness = np.zeros((aps, own), np.int64), np.empty(aps), np.empty(aps)
    chosen, before = np.empty(aps, np.int64), np.empty(aps, np.int64)
    evaluated = 0
    for number, barrier_s in enumerate(barriers_s):
        curves(barrier_s, source, tables, world, curve)
        before[:], objectives[number] = NOTHING, math.inf
        for rate in rates:
            price = EXTRA * v * blocks / rate**2
            found = knapsack(curve[0], curve[1], curve[2], max_hz, kappa, rate, price, chosen)
            if not found or np.all(chosen == before):
                continue
            before[:] = chosen
            take(chosen, curve, plan, worth, easiness)
            evaluated += 1
            objective, _ = evaluate(plan, worth, easiness, tables, world)
            if objective < objectives[number]:
                objectives[number] = objective
                plans[number] = plan
    return evaluated


@compiled
def knapsack(
    left_j: Any, worth: Any, easiness: Any, max_hz: Vector, kappa: Vector, rate: float, price: float, chosen: Any
) -> bool:
    """Writes a bucket for each AP: least sum of worths with sum_j lambda_j >= Lambda. False where none reaches it.

    `price`, on lambda, is small: of plans that reach Lambda and cost about the same, the one that mines most.
    """
    aps, buckets = left_j.shape
    mined, most = np.zeros((aps, buckets)), 0.0
    for j in range(aps):
        most_here = 0.0
        for b in range(buckets):
            if left_j[j, b] > 0:
                mined[j, b] = min(max_hz[j], np.cbrt(left_j[j, b] * rate / kappa[j])) * easiness[j, b]
                most_here = max(most_here, mined[j, b])
        most += most_here
    if most < rate:
        return False
    value = np.full(SHARES + 1, math.inf)
    value[0] = 0.0
    taken = np.full((aps, SHARES + 1), NOTHING, np.int64)
    came = np.zeros((aps, SHARES + 1), np.int64)
    for j in range(aps):
        better = np.full(SHARES + 1, math.inf)
        for b in range(buckets):
            if left_j[j, b] <= 0:
                continue
            share = int(min(mined[j, b] / rate, 1.0) * SHARES)
            cost = worth[j, b] - price * mined[j, b]
            for q in range(SHARES + 1):
                total = value[q] + cost
                reached = min(q + share, SHARES)
                if total < better[reached]:
                    better[reached] = total
                    taken[j, reached] = b
                    came[j, reached] = q
        value = better
    if value[SHARES] == math.inf:
        return False
    q = SHARES
    for j in range(aps - 1, -1, -1):
        chosen[j] = taken[j, q]
        q = came[j, q]
    return True


@compiled
def take(chosen: Any, curve: Any, plan: Any, worth: Vector, easiness: Vector) -> None:
    """Writes the plan that a bucket for each AP stands for, with each AP's worth and easiness."""
    _, curve_worth, curve_easiness, picks = curve
    for j in range(len(chosen)):
        plan[j] = picks[j, chosen[j]]
        worth[j] = curve_worth[j, chosen[j]]
        easiness[j] = curve_easiness[j, chosen[j]]


@compiled
def evaluate(plan: Any, worth: Vector, easiness: Vector, tables: Any, world: Any) -> tuple[float, float]:
    """Objective and barrier of a plan, with the exact frequencies.

    worth, easiness: [APs] w_j U_j and 1/(H gamma_j).
    """
    ap_of, max_hz, kappa, energy_j, v, blocks = world
    ready_s, cycles = serving(plan, tables, len(ap_of))
    barrier_s, rate = best_barrier(ready_s, cycles, ap_of, max_hz, kappa, energy_j, 1 / easiness, blocks)
    return worth.sum() + v * (barrier_s + blocks / rate), barrier_s


@compiled
def serving(plan: Any, tables: Any, gateways: int) -> tuple[Vector, Vector]:
    """[gateways] T_m and C_m of a plan."""
    _, places, ready_s, cycles, _, _, _ = tables
    slot_ready_s, slot_cycles = np.empty(gateways), np.empty(gateways)
    for j in range(plan.shape[0]):
        for g in range(plan.shape[1]):
            if places[j, g] >= 0:
                slot_ready_s[places[j, g]] = ready_s[j, g, plan[j, g]]
                slot_cycles[places[j, g]] = cycles[j, g, plan[j, g]]
    return slot_ready_s, slot_cycles

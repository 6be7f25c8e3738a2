"""Compiled loops of the online solver: a plan improved by exchanging the choice of one gateway, one AP or two APs.

A gateway's options are few, so that each is judged by the exact objective. What an AP's choice brings is judged on
the curves at a barrier at or near that of the plan, where it takes one root (`kernels.root_of_rate`); it is taken
only if the exact objective falls.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from splitnet.controller.curves import bucket_of, curves, earned_by, no_curve
from splitnet.controller.kernels import Vector, alone, best_barrier, compiled, root_of_rate
from splitnet.controller.searching import evaluate, serving, take

STRETCHES = (1.1, 1.03, 1.003, 0.97, 1.0)
"""Of the current barrier, at which exchanges are judged: many need a little more time than the plan has."""
MOST_PAIRED = 16_000
"""Exchanges of two APs' choices that are looked at in a round."""
FEWEST = 8
"""Buckets of each AP that pairs are exchanged among, at least; where `MOST_PAIRED` allows fewer, no pairs are."""
FALLS = 1e-12
"""Relative: an objective that falls by less has not fallen."""


@compiled
def exchange_options(plan: Any, objective: float, tables: Any, world: Any) -> tuple[float, int]:
    """Improves a plan in place: one gateway after the other takes its best option, until none has a better one.

    Returns:
        The objective, and the number of plans evaluated.
    """
    evaluated, before = 0, math.inf
    while objective < before:
        before = objective
        for j in range(plan.shape[0]):
            for g in range(plan.shape[1]):
                objective, more = exchange_option(plan, j, g, objective, tables, world)
                evaluated += more
    return objective, evaluated


@compiled
def exchange_option(plan: Any, j: int, g: int, objective: float, tables: Any, world: Any) -> tuple[float, int]:
    """`exchange_options` for gateway g of AP j alone, once."""
    counts, gateways, ready_s, cycles, flops, reputation, _ = tables
    ap_of, max_hz, kappa, energy_j, v, blocks = world
    worth, easiness = np.empty(len(max_hz)), np.empty(len(max_hz))
    stand(plan, tables, 1, worth, easiness, np.empty(len(max_hz), np.int64))
    slot_ready_s, slot_cycles = serving(plan, tables, len(ap_of))
    per_block, m = 1 / easiness, gateways[j, g]
    others_worth, others_rate, others_flops = worth.sum() - worth[j], max_hz @ easiness - max_hz[j] * easiness[j], 0.0
    for i in range(plan.shape[1]):
        others_flops += flops[j, i, plan[j, i]] if i != g else 0.0
    evaluated = 0
    for k in range(counts[j, g]):
        slot_ready_s[m], slot_cycles[m] = ready_s[j, g, k], cycles[j, g, k]
        _, own_worth, own_easiness = earned_by(others_flops + flops[j, g, k], reputation, j)
        # It gets no better than if the gateway had its AP for itself and all APs mined at full speed.
        least_s = alone(slot_ready_s[m], slot_cycles[m], max_hz[j], kappa[j], energy_j[j])
        most = others_rate + max_hz[j] * own_easiness
        if others_worth + own_worth + v * (least_s + blocks / most) >= objective:
            continue
        per_block[j] = 1 / own_easiness
        barrier_s, rate = best_barrier(slot_ready_s, slot_cycles, ap_of, max_hz, kappa, energy_j, per_block, blocks)
        evaluated += 1
        value = others_worth + own_worth + v * (barrier_s + blocks / rate)
        if value < objective - FALLS * abs(objective):
            objective = value
            plan[j, g] = k
    return objective, evaluated


@compiled
def exchange(
    plan: Any, objective: float, rounds: int, buckets: int, source: Any, tables: Any, world: Any
) -> tuple[float, int]:
    """Improves a plan in place until nothing helps: one AP after the other, at each stretch; then two at once.

    Returns:
        The objective, and the number of plans evaluated.
    """
    _, max_hz, kappa, _, v, blocks = world
    aps, own = plan.shape
    curve = no_curve(aps, buckets, own)
    rates = np.empty((aps, buckets)), np.empty((aps, buckets))
    trial, worth, easiness = plan.copy(), np.empty(aps), np.empty(aps)
    current, chosen = np.empty(aps, np.int64), np.empty(aps, np.int64)
    pairs = aps * (aps - 1) // 2
    step = math.ceil(buckets / math.sqrt(MOST_PAIRED / pairs)) if pairs else buckets
    evaluated = 0
    for _ in range(rounds):
        before = objective
        for stretch in STRETCHES:
            stand(plan, tables, buckets, worth, easiness, current)
            _, barrier_s = evaluate(plan, worth, easiness, tables, world)
            curves(barrier_s * stretch * (1 + FALLS), source, tables, world, curve)
            if not start(curve, max_hz, kappa, rates, current):
                continue
            best_singles(current, curve, rates, v * blocks, chosen)
            take(chosen, curve, trial, worth, easiness)
            evaluated += 1
            value, _ = evaluate(trial, worth, easiness, tables, world)
            if value < objective - FALLS * abs(objective):
                objective = value
                plan[:] = trial
        # The last stretch is 1: these are the curves at the plan's own barrier.
        if objective == before and pairs and step * FEWEST <= buckets:
            if not best_pair(current, step, curve, rates, v * blocks, chosen):
                break
            take(chosen, curve, trial, worth, easiness)
            evaluated += 1
            value, _ = evaluate(trial, worth, easiness, tables, world)
            if value < objective - FALLS * abs(objective):
                objective = value
                plan[:] = trial
        if objective == before:
            break
    return objective, evaluated


@compiled
def stand(plan: Any, tables: Any, buckets: int, worth: Vector, easiness: Vector, current: Any) -> None:
    """Writes what a plan earns: each AP's worth and easiness, and its bucket."""
    _, _, _, _, flops, reputation, ranges = tables
    aps, own = plan.shape
    for j in range(aps):
        total = 0.0
        for g in range(own):
            total += flops[j, g, plan[j, g]]
        earned, worth[j], easiness[j] = earned_by(total, reputation, j)
        current[j] = bucket_of(earned, ranges, j, buckets)


@compiled
def start(curve: Any, max_hz: Vector, kappa: Vector, rates: Any, current: Any) -> bool:
    """Writes what `root_of_rate` asks of each bucket; moves an AP whose bucket is empty. False where one has none."""
    left_j, _, easiness, _ = curve
    full, scarce = rates
    aps, buckets = left_j.shape
    for j in range(aps):
        for b in range(buckets):
            full[j, b] = max_hz[j] * easiness[j, b]
            scarce[j, b] = np.cbrt(left_j[j, b] / kappa[j]) * easiness[j, b]
        if left_j[j, current[j]] <= 0:
            current[j] = np.argmax(left_j[j])
            if left_j[j, current[j]] <= 0:
                return False
    return True


@compiled
def best_singles(current: Any, curve: Any, rates: Any, blocks: float, chosen: Any) -> None:
    """Writes a bucket for each AP: one after the other takes its best beside the others. blocks: V blocks."""
    left_j, worth, _, _ = curve
    full, scarce = rates
    aps, buckets = left_j.shape
    now_full, now_scarce = at_buckets(full, current), at_buckets(scarce, current)
    for j in range(aps):
        chosen[j], best = current[j], math.inf
        for b in range(buckets):
            if left_j[j, b] <= 0:
                continue
            now_full[j], now_scarce[j] = full[j, b], scarce[j, b]
            x = root_of_rate(now_full, now_scarce)
            if x > 0 and blocks / x**3 + worth[j, b] < best:
                chosen[j], best = b, blocks / x**3 + worth[j, b]
        now_full[j], now_scarce[j] = full[j, chosen[j]], scarce[j, chosen[j]]


@compiled
def best_pair(current: Any, step: int, curve: Any, rates: Any, blocks: float, chosen: Any) -> bool:
    """Writes the buckets with the best exchange of two APs, among every step-th; False where there is none."""
    left_j, worth, _, _ = curve
    full, scarce = rates
    aps, buckets = left_j.shape
    now_full, now_scarce = at_buckets(full, current), at_buckets(scarce, current)
    rest = at_buckets(worth, current).sum()
    best = math.inf
    for i in range(aps):
        for j in range(i + 1, aps):
            others = rest - worth[i, current[i]] - worth[j, current[j]]
            for b in range(0, buckets, step):
                if left_j[i, b] <= 0:
                    continue
                now_full[i], now_scarce[i] = full[i, b], scarce[i, b]
                for d in range(0, buckets, step):
                    if left_j[j, d] <= 0:
                        continue
                    now_full[j], now_scarce[j] = full[j, d], scarce[j, d]
                    x = root_of_rate(now_full, now_scarce)
                    value = blocks / x**3 + worth[i, b] + worth[j, d] + others if x > 0 else math.inf
                    if value < best:
                        best = value
                        chosen[:] = current
                        chosen[i], chosen[j] = b, d
            for k in (i, j):
                now_full[k], now_scarce[k] = full[k, current[k]], scarce[k, current[k]]
    return best < math.inf


@compiled
def at_buckets(values: Any, chosen: Any) -> Vector:
    """[APs] the value of each AP's bucket."""
    found = np.empty(len(chosen))
    for j in range(len(chosen)):
        found[j] = values[j, chosen[j]]
    return found

"""Compiled loops of the online solver: curves of the APs at a barrier, a knapsack over them, exchanges.

At a given barrier an AP's choices reduce to a curve: for each bucket of reputation the choice that leaves most energy
for mining. On the curves the slot is a multiple-choice knapsack (MODEL.md section 2b): least sum_j w_j U_j with
sum_j lambda_j >= Lambda. It is solved by dynamic programming over rounded shares of Lambda, for a grid of barriers
and block rates; what comes out is evaluated exactly (section 2a) and improved by exchanging the choice of one AP, and
of two at once, until nothing helps.

Curves come from a list of all combinations of an AP's gateways (`frontier.Choices`), or, where these are too many,
from the lower convex hull of the sum of its gateways' (work, energy) points (`hulls.py`).

A plan here is [APs, gateways of an AP], the option of each gateway, with each AP's worth w_j U_j and easiness
1/(H gamma_j). Arrays of a curve are [APs, buckets].
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from splitnet.controller.hulls import hull_of_sum
from splitnet.controller.kernels import Indices, Vector, best_barrier, compiled, root_of_rate

SHARES = 64
"""Units into which Lambda is divided for the knapsack; shares are rounded down, so what is planned holds."""
EXTRA = 1e-3
"""What block rate beyond Lambda is worth in the knapsack, of what it is worth at Lambda."""
STRETCHES = (1.1, 1.03, 1.003, 0.97, 1.0)
"""Of the current barrier, at which exchanges are judged: many need a little more time than the plan has."""
MOST_PAIRED = 16_000
"""Exchanges of two APs' choices that are looked at in a round."""
NOTHING = -1


@compiled
def spend(barrier_s: float, ready_s: Any, cycles: Any, kappa: float, used_j: Any, hz: Any) -> None:
    """Writes the energy and the frequency that each option of an AP's gateways takes at a barrier; inf if too late.

    All are [gateways of the AP, options].
    """
    gateways, options = ready_s.shape
    for g in range(gateways):
        for k in range(options):
            used_j[g, k], hz[g, k] = 0.0, 0.0
            slack = barrier_s - ready_s[g, k]
            if slack < 0 or (slack == 0 and cycles[g, k] > 0):
                hz[g, k] = math.inf
            elif cycles[g, k] > 0:
                hz[g, k] = cycles[g, k] / slack
                used_j[g, k] = kappa * cycles[g, k] * hz[g, k] * hz[g, k]


@compiled
def listed_curve(
    first: int,
    last: int,
    picks: Any,
    bucket: Any,
    counts: Any,
    used_j: Any,
    hz: Any,
    max_hz: float,
    energy_j: float,
    left_j: Vector,
    chosen: Any,
) -> None:
    """Writes, for each bucket of one AP's listed choices first..last-1, the one with most energy left.

    left_j is 0 where no choice of a bucket holds C2 and C5. The list runs through the options of the last gateway
    fastest, so what the others take is added up once for all of these.
    """
    chosen[:] = NOTHING
    left_j[:] = 0.0
    fastest = 0
    for g in range(len(counts)):
        if counts[g]:
            fastest = g
    block = max(counts[fastest], 1)
    for start in range(first, last, block):
        speed, left = 0.0, energy_j
        for g in range(fastest):
            speed += hz[g, picks[start, g]]
            left -= used_j[g, picks[start, g]]
        if speed > max_hz or left <= 0:
            continue
        for k in range(block):
            b = bucket[start + k]
            rest = left - used_j[fastest, k]
            if rest > left_j[b] and speed + hz[fastest, k] <= max_hz:
                left_j[b] = rest
                chosen[b] = start + k


@compiled
def curves(
    barrier_s: float,
    listed: bool,
    starts: Indices,
    picks: Any,
    bucket: Any,
    worth: Vector,
    easiness: Vector,
    counts: Any,
    ready_s: Any,
    cycles: Any,
    flops: Any,
    reputation: Any,
    ranges: Any,
    max_hz: Vector,
    kappa: Vector,
    energy_j: Vector,
    left_j: Any,
    curve_worth: Any,
    curve_easiness: Any,
    curve_picks: Any,
) -> None:
    """Writes the curves of all APs at a barrier, from lists or from hulls. left_j is 0 where a bucket has nothing.

    Args:
        starts, picks, bucket, worth, easiness: of the listed choices; not used for hulls.
        counts: [APs, gateways of an AP] number of options; flops: [APs, gateways of an AP, options].
        reputation: (knots, values, scale, weights): U = value at O/O^ref; see `earned_by`.
        ranges: [APs, 2] least and most U of each AP, for the buckets of hulls.
        curve_picks: [APs, buckets, gateways of an AP].
    """
    aps, buckets = left_j.shape
    own, options = ready_s.shape[1:]
    used_j, hz = np.empty((own, options)), np.empty((own, options))
    chosen = np.empty(buckets, np.int64)
    for j in range(aps):
        spend(barrier_s, ready_s[j], cycles[j], kappa[j], used_j, hz)
        if listed:
            listed_curve(
                starts[j], starts[j + 1], picks, bucket, counts[j], used_j, hz, max_hz[j], energy_j[j],
                left_j[j], chosen,
            )  # fmt: skip
            for b in range(buckets):
                if chosen[b] != NOTHING:
                    curve_worth[j, b] = worth[chosen[b]]
                    curve_easiness[j, b] = easiness[chosen[b]]
                    curve_picks[j, b] = picks[chosen[b]]
        else:
            hull_curve(
                counts[j], flops[j], used_j, hz, max_hz[j], energy_j[j], reputation, j, ranges[j],
                left_j[j], curve_worth[j], curve_easiness[j], curve_picks[j],
            )  # fmt: skip


@compiled
def earned_by(flops: float, reputation: Any, ap: int) -> tuple[float, float, float]:
    """(U, w U, 1/(H gamma)) of an AP's FLOPs."""
    shape, reference, knots, values, weights, alpha, per_block = reputation
    share = flops / reference
    if shape == 1:
        earned = math.log1p(share)
    elif shape == 2:
        k = min(max(np.searchsorted(knots, share, side="right") - 1, 0), len(knots) - 2)
        part = min((share - knots[k]) / (knots[k + 1] - knots[k]), 1.0)
        earned = values[k] + part * (values[k + 1] - values[k])
    else:
        earned = share
    return earned, weights[ap] * earned, math.exp(alpha * earned) / per_block


@compiled
def hull_curve(
    counts: Any,
    flops: Any,
    used_j: Any,
    hz: Any,
    max_hz: float,
    energy_j: float,
    reputation: Any,
    ap: int,
    limits: Any,
    left_j: Vector,
    curve_worth: Vector,
    curve_easiness: Vector,
    curve_picks: Any,
) -> None:
    """The curve of one AP along the lower hull of the sum of its gateways' (work, energy) points.

    Twice: once for energy alone, once with each option's share of f^max added, for where C2 binds.
    """
    left_j[:] = 0.0
    buckets, own = curve_picks.shape
    costs = np.empty(used_j.shape)
    now = np.zeros(own, np.int64)
    for speed_weight in (0.0, 0.5, 1.0):
        for g in range(own):
            for k in range(counts[g]):
                costs[g, k] = math.inf
                if hz[g, k] <= max_hz:
                    costs[g, k] = (1 - speed_weight) * used_j[g, k] / energy_j + speed_weight * hz[g, k] / max_hz
        items, moves = hull_of_sum(flops, costs, counts)
        if len(items) == 0:
            return
        step = 0
        while step < len(items):
            now[items[step]] = moves[step]
            step += 1
            if step < own:
                continue  # the first ones set each gateway's start
            total, left, speed = 0.0, energy_j, 0.0
            for g in range(own):
                if counts[g]:
                    total += flops[g, now[g]]
                    left -= used_j[g, now[g]]
                    speed += hz[g, now[g]]
            if speed > max_hz or left <= 0:
                continue
            earned, worth, easiness = earned_by(total, reputation, ap)
            b = min(int(buckets * (earned - limits[0]) / max(limits[1] - limits[0], 1e-300)), buckets - 1)
            if left > left_j[b]:
                left_j[b], curve_worth[b], curve_easiness[b] = left, worth, easiness
                curve_picks[b] = now


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
                if value[q] == math.inf:
                    continue
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
def evaluate(
    plan: Any,
    worth: Vector,
    easiness: Vector,
    gateways: Any,
    ready_s: Any,
    cycles: Any,
    ap_of: Indices,
    max_hz: Vector,
    kappa: Vector,
    energy_j: Vector,
    v: float,
    blocks: float,
) -> tuple[float, float]:
    """Objective and barrier of a plan, with the exact frequencies. worth and easiness: [APs]."""
    aps, own = gateways.shape
    slot_ready_s, slot_cycles, per_block = np.zeros(len(ap_of)), np.zeros(len(ap_of)), np.empty(aps)
    objective = 0.0
    for j in range(aps):
        for g in range(own):
            if gateways[j, g] >= 0:
                slot_ready_s[gateways[j, g]] = ready_s[j, g, plan[j, g]]
                slot_cycles[gateways[j, g]] = cycles[j, g, plan[j, g]]
        per_block[j] = 1 / easiness[j]
        objective += worth[j]
    barrier_s, rate = best_barrier(slot_ready_s, slot_cycles, ap_of, max_hz, kappa, energy_j, per_block, blocks)
    return objective + v * (barrier_s + blocks / rate), barrier_s


@compiled
def keep(plan: Any, objective: float, plans: Any, objectives: Vector) -> None:
    """Puts a plan into the list of the best ones, if it belongs there and is not in it."""
    last = len(objectives) - 1
    if objective >= objectives[last]:
        return
    for place in range(last + 1):
        if objectives[place] < math.inf and np.all(plans[place] == plan):
            return
    place = last
    while place > 0 and objectives[place - 1] > objective:
        objectives[place] = objectives[place - 1]
        plans[place] = plans[place - 1]
        place -= 1
    objectives[place] = objective
    plans[place] = plan


@compiled
def take(
    chosen: Any, worth: Any, easiness: Any, picks: Any, plan: Any, plan_worth: Vector, plan_easiness: Vector
) -> None:
    """Writes the plan that a bucket for each AP stands for."""
    for j in range(len(chosen)):
        plan[j] = picks[j, chosen[j]]
        plan_worth[j] = worth[j, chosen[j]]
        plan_easiness[j] = easiness[j, chosen[j]]


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
    """Tries the knapsack at every barrier and rate; keeps the best different plans, by rising objective.

    Args:
        source, tables, world: what `curves` and `evaluate` need; see `online.py`.
        plans: [kept, APs, gateways of an AP] and objectives: [kept], read and written; inf where there is none yet.

    Returns:
        Number of plans evaluated.
    """
    counts, gateways, ready_s, cycles, flops, reputation, ranges = tables
    ap_of, max_hz, kappa, energy_j, v, blocks = world
    listed, starts, picks, bucket, worth, easiness = source
    aps, own = gateways.shape
    left_j, c_worth, c_easiness = np.empty((aps, buckets)), np.empty((aps, buckets)), np.empty((aps, buckets))
    c_picks = np.zeros((aps, buckets, own), np.int64)
    plan, p_worth, p_easiness = np.zeros((aps, own), np.int64), np.empty(aps), np.empty(aps)
    chosen, before = np.empty(aps, np.int64), np.empty(aps, np.int64)
    evaluated = 0
    for barrier_s in barriers_s:
        curves(
            barrier_s, listed, starts, picks, bucket, worth, easiness, counts, ready_s, cycles, flops, reputation,
            ranges, max_hz, kappa, energy_j, left_j, c_worth, c_easiness, c_picks,
        )  # fmt: skip
        before[:] = NOTHING
        for rate in rates:
            price = EXTRA * v * blocks / rate**2
            found = knapsack(left_j, c_worth, c_easiness, max_hz, kappa, rate, price, chosen)
            if not found or np.all(chosen == before):
                continue
            before[:] = chosen
            take(chosen, c_worth, c_easiness, c_picks, plan, p_worth, p_easiness)
            evaluated += 1
            objective, _ = evaluate(
                plan, p_worth, p_easiness, gateways, ready_s, cycles, ap_of, max_hz, kappa, energy_j, v, blocks
            )
            keep(plan, objective, plans, objectives)
    return evaluated


@compiled
def exchange(
    plan: Any, objective: float, rounds: int, buckets: int, source: Any, tables: Any, world: Any
) -> tuple[float, int]:
    """Improves a plan in place: one AP's choice exchanged, then two APs' at once, until nothing helps.

    What an exchange brings is judged at a barrier at or near that of the current plan, and taken only if the exact
    objective falls. Pairs are exchanged among so few buckets that `MOST_PAIRED` of them are looked at.

    Returns:
        The objective, and the number of plans evaluated.
    """
    counts, gateways, ready_s, cycles, flops, reputation, ranges = tables
    ap_of, max_hz, kappa, energy_j, v, blocks = world
    listed, starts, picks, bucket, worth, easiness = source
    aps, own = gateways.shape
    left_j, c_worth, c_easiness = np.empty((aps, buckets)), np.empty((aps, buckets)), np.empty((aps, buckets))
    c_picks = np.zeros((aps, buckets, own), np.int64)
    full, scarce = np.empty((aps, buckets)), np.empty((aps, buckets))
    now_full, now_scarce = np.empty(aps), np.empty(aps)
    trial, p_worth, p_easiness = plan.copy(), np.empty(aps), np.empty(aps)
    chosen, current = np.empty(aps, np.int64), np.empty(aps, np.int64)
    evaluated = 0
    pairs = aps * (aps - 1) // 2
    step = math.ceil(buckets / math.sqrt(MOST_PAIRED / pairs)) if pairs else buckets
    for _ in range(rounds):
        improved = False
        for stretch in STRETCHES:
            for j in range(aps):
                total = 0.0
                for g in range(own):
                    total += flops[j, g, plan[j, g]]
                earned, p_worth[j], p_easiness[j] = earned_by(total, reputation, j)
                span = max(ranges[j, 1] - ranges[j, 0], 1e-300)
                current[j] = min(int(buckets * (earned - ranges[j, 0]) / span), buckets - 1)
            _, barrier_s = evaluate(
                plan, p_worth, p_easiness, gateways, ready_s, cycles, ap_of, max_hz, kappa, energy_j, v, blocks
            )
            curves(
                barrier_s * stretch * (1 + 1e-12), listed, starts, picks, bucket, worth, easiness, counts, ready_s,
                cycles, flops, reputation, ranges, max_hz, kappa, energy_j, left_j, c_worth, c_easiness, c_picks,
            )  # fmt: skip
            there = True
            for j in range(aps):
                for b in range(buckets):
                    full[j, b] = max_hz[j] * c_easiness[j, b]
                    scarce[j, b] = np.cbrt(left_j[j, b] / kappa[j]) * c_easiness[j, b] if left_j[j, b] > 0 else 0.0
                if left_j[j, current[j]] <= 0:
                    current[j] = int(np.argmax(left_j[j]))
                    there = there and left_j[j, current[j]] > 0
                chosen[j] = current[j]
                now_full[j], now_scarce[j] = full[j, chosen[j]], scarce[j, chosen[j]]
            if not there:
                continue
            for j in range(aps):
                best_value = math.inf
                for b in range(buckets):
                    if left_j[j, b] <= 0:
                        continue
                    now_full[j], now_scarce[j] = full[j, b], scarce[j, b]
                    x = root_of_rate(now_full, now_scarce)
                    if x > 0 and v * blocks / x**3 + c_worth[j, b] < best_value:
                        chosen[j], best_value = b, v * blocks / x**3 + c_worth[j, b]
                now_full[j], now_scarce[j] = full[j, chosen[j]], scarce[j, chosen[j]]
            for ways in range(2):
                if ways == 1:
                    # STRETCHES ends with 1: the curves are those of the plan's own barrier
                    last = stretch == 1.0 and not improved and step <= buckets // 8
                    if not last or not best_pair(current, step, left_j, full, scarce, c_worth, v, blocks, chosen):
                        break
                take(chosen, c_worth, c_easiness, c_picks, trial, p_worth, p_easiness)
                evaluated += 1
                value, _ = evaluate(
                    trial, p_worth, p_easiness, gateways, ready_s, cycles, ap_of, max_hz, kappa, energy_j, v, blocks
                )
                if value < objective - 1e-12 * abs(objective):
                    objective = value
                    plan[:] = trial
                    improved = True
        if not improved:
            break
    return objective, evaluated


@compiled
def best_pair(
    current: Any,
    coarser: int,
    left_j: Any,
    full: Any,
    scarce: Any,
    worth: Any,
    v: float,
    blocks: float,
    chosen: Any,
) -> bool:
    """Writes the buckets with the best exchange of two APs' choices at once; False where there is none."""
    aps, buckets = left_j.shape
    now_full, now_scarce = np.empty(aps), np.empty(aps)
    rest = 0.0
    for j in range(aps):
        now_full[j], now_scarce[j] = full[j, current[j]], scarce[j, current[j]]
        rest += worth[j, current[j]]
    best = math.inf
    for i in range(aps):
        for j in range(i + 1, aps):
            others = rest - worth[i, current[i]] - worth[j, current[j]]
            for b in range(0, buckets, coarser):
                if left_j[i, b] <= 0:
                    continue
                now_full[i], now_scarce[i] = full[i, b], scarce[i, b]
                for d in range(0, buckets, coarser):
                    if left_j[j, d] <= 0:
                        continue
                    now_full[j], now_scarce[j] = full[j, d], scarce[j, d]
                    x = root_of_rate(now_full, now_scarce)
                    value = v * blocks / x**3 + worth[i, b] + worth[j, d] + others if x > 0 else math.inf
                    if value < best:
                        best = value
                        chosen[:] = current
                        chosen[i], chosen[j] = b, d
            now_full[i], now_scarce[i] = full[i, current[i]], scarce[i, current[i]]
            now_full[j], now_scarce[j] = full[j, current[j]], scarce[j, current[j]]
    return best < math.inf

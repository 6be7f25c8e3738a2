"""Compiled loops: the curve of an AP at a barrier, what it can choose between at most.

At a given barrier an AP's choices reduce to a curve: for each bucket of reputation the choice that leaves most energy
for mining. It comes from a list of all combinations of the AP's gateways (`frontier.Choices`), or, where these are
too many, from the lower convex hull of the sum of its gateways' (work, energy) points (`hulls.py`).

What compiled code is handed, as plain tuples (`online.py` makes them):

    source  (listed, starts, picks, bucket, worth, easiness) of `frontier.Choices`; nothing but False for hulls
    tables  (counts, gateways, ready_s, cycles, flops) of `frontier.Frontier`, g, ranges
            g       (shape, reference FLOPs, knots, values, weights w, alpha, H exp(-beta))
            ranges  [APs, 2] least and most U of each AP, which its buckets divide
    world   (ap_of, max_hz, kappa, energy_j, V, blocks)
    curve   (left_j, worth, easiness) [APs, buckets], picks [APs, buckets, gateways of an AP]; left_j is 0 where a
            bucket has nothing that holds C2 and C5, and the others then mean nothing
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from splitnet.controller.hulls import hull_of_sum
from splitnet.controller.kernels import Vector, compiled

SPEED_SHARES = (0.0, 0.5, 1.0)
"""Weights of frequency against energy along which hulls are taken, so that C2 finds its points."""
NOTHING = -1


@compiled
def no_curve(aps: int, buckets: int, own: int) -> Any:
    """Room for the curves of all APs."""
    picks = np.zeros((aps, buckets, own), np.int64)
    return np.zeros((aps, buckets)), np.zeros((aps, buckets)), np.zeros((aps, buckets)), picks


@compiled
def curves(barrier_s: float, source: Any, tables: Any, world: Any, curve: Any) -> None:
    """Writes the curves of all APs at a barrier."""
    listed, starts, picks, bucket, worth, easiness = source
    counts, _, ready_s, cycles, flops, reputation, ranges = tables
    _, max_hz, kappa, energy_j, _, _ = world
    left_j, curve_worth, curve_easiness, curve_picks = curve
    aps, buckets = left_j.shape
    own, options = ready_s.shape[1:]
    used_j, hz = np.empty((own, options)), np.empty((own, options))
    chosen = np.empty(buckets, np.int64)
    for j in range(aps):
        spend(barrier_s, ready_s[j], cycles[j], kappa[j], used_j, hz)
        if listed:
            part = starts[j], starts[j + 1]
            listed_curve(part, picks, bucket, counts[j], used_j, hz, max_hz[j], energy_j[j], left_j[j], chosen)
            for b in range(buckets):
                if chosen[b] != NOTHING:
                    curve_worth[j, b] = worth[chosen[b]]
                    curve_easiness[j, b] = easiness[chosen[b]]
                    curve_picks[j, b] = picks[chosen[b]]
        else:
            hull_curve(
                j, counts[j], flops[j], used_j, hz, max_hz[j], energy_j[j], reputation, ranges,
                left_j[j], curve_worth[j], curve_easiness[j], curve_picks[j],
            )  # fmt: skip


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
    part: Any,
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
    """Writes, for each bucket of one AP's listed choices, the row with most energy left, and that energy.

    The list runs through the options of the last gateway fastest, so what the others take is added up once for all of
    these.
    """
    chosen[:] = NOTHING
    left_j[:] = 0.0
    fastest = 0
    for g in range(len(counts)):
        if counts[g]:
            fastest = g
    block = max(counts[fastest], 1)
    for start in range(part[0], part[1], block):
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
def hull_curve(
    ap: int,
    counts: Any,
    flops: Any,
    used_j: Any,
    hz: Any,
    max_hz: float,
    energy_j: float,
    reputation: Any,
    ranges: Any,
    left_j: Vector,
    curve_worth: Vector,
    curve_easiness: Vector,
    curve_picks: Any,
) -> None:
    """Writes the curve of one AP from the points along the lower hulls of the sum of its gateways' (work, energy)."""
    left_j[:] = 0.0
    buckets, own = curve_picks.shape
    costs = np.empty(used_j.shape)
    now = np.zeros(own, np.int64)
    for share in SPEED_SHARES:
        for g in range(own):
            for k in range(counts[g]):
                costs[g, k] = math.inf
                if hz[g, k] <= max_hz:
                    costs[g, k] = (1 - share) * used_j[g, k] / energy_j + share * hz[g, k] / max_hz
        items, moves = hull_of_sum(flops, costs, counts)
        if len(items) == 0:
            return
        now[:] = moves[:own]
        for step in range(max(own - 1, 0), len(items)):
            now[items[step]] = moves[step]
            total, left, speed = 0.0, energy_j, 0.0
            for g in range(own):
                if counts[g]:
                    total += flops[g, now[g]]
                    left -= used_j[g, now[g]]
                    speed += hz[g, now[g]]
            if speed > max_hz or left <= 0:
                continue
            earned, worth, easiness = earned_by(total, reputation, ap)
            b = bucket_of(earned, ranges, ap, buckets)
            if left > left_j[b]:
                left_j[b], curve_worth[b], curve_easiness[b] = left, worth, easiness
                curve_picks[b] = now


@compiled
def earned_by(flops: float, reputation: Any, ap: int) -> tuple[float, float, float]:
    """(U, w U, 1/(H gamma)) of an AP's FLOPs: `reputation.Reputation` and the difficulty, for compiled code."""
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
def bucket_of(earned: float, ranges: Any, ap: int, buckets: int) -> int:
    """The bucket of a reputation, of equal ones between the AP's least and most."""
    span = max(ranges[ap, 1] - ranges[ap, 0], 1e-300)
    return min(max(int(buckets * (earned - ranges[ap, 0]) / span), 0), buckets - 1)

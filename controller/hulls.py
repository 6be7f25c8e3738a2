"""Sums of many small choices: the lower convex hull of a sum is the merged edges of the hulls of its parts.

Along it one part changes its option at a time, so where there are many parts it has many points and little is lost
between them. Used for a gateway's DTs (work against readiness) and for an AP's gateways (work against energy).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from splitnet.controller.kernels import compiled


@compiled
def lower_hull(x: Any, y: Any, count: int) -> Any:
    """Places of the lower convex hull's points of (x, y)[:count], by rising x. Points with y = inf are not there."""
    order = np.argsort(x[:count])
    hull = np.empty(count, np.int64)
    size = 0
    for place in order:
        if y[place] == math.inf:
            continue
        if size and x[hull[size - 1]] == x[place]:
            if y[hull[size - 1]] <= y[place]:
                continue
            size -= 1
        while size >= 2:
            a, b = hull[size - 2], hull[size - 1]
            if (y[b] - y[a]) * (x[place] - x[b]) >= (y[place] - y[b]) * (x[b] - x[a]):
                size -= 1
            else:
                break
        hull[size] = place
        size += 1
    return hull[:size]


@compiled
def hull_of_sum(x: Any, y: Any, counts: Any) -> tuple[Any, Any]:
    """The lower hull of the sum of parts, as moves: (part, its new option), in order.

    x, y: [parts, options]. The first `parts` moves set every part's first option, one each; every further one steps
    from one point of the hull of the sum to the next, by rising slope. A part without options takes part as option 0
    with nothing to move. Empty where some part has options but none with finite y.
    """
    parts = len(counts)
    longest = 0
    for n in range(parts):
        longest += counts[n]
    items, moves = np.zeros(longest + parts, np.int64), np.zeros(longest + parts, np.int64)
    slopes = np.empty(longest + parts)
    size = 0
    for n in range(parts):
        items[n] = n
    size = parts
    for n in range(parts):
        if counts[n] == 0:
            continue
        hull = lower_hull(x[n], y[n], counts[n])
        if len(hull) == 0:
            return items[:0], moves[:0]
        moves[n] = hull[0]
        for k in range(1, len(hull)):
            a, b = hull[k - 1], hull[k]
            items[size], moves[size] = n, b
            slopes[size] = (y[n, b] - y[n, a]) / (x[n, b] - x[n, a])
            size += 1
    order = parts + np.argsort(slopes[parts:size], kind="mergesort")
    items[parts:size] = items[order]
    moves[parts:size] = moves[order]
    return items[:size], moves[:size]


@compiled
def hull_sums(ready_s: Any, used_j: Any, cycles: Any, flops: Any, counts: Any, energy_shares: Any) -> tuple[Any, Any]:
    """Points along the lower hulls of (work, readiness and energy weighted) of the sum of one gateway's DTs.

    Args:
        ready_s, used_j, cycles, flops: [DTs, options]; counts: [DTs].
        energy_shares: weights of energy, 0 for readiness alone, 1 for energy alone.

    Returns:
        [points, 4] sums of the four columns, [points, DTs] the options.
    """
    parts = len(counts)
    longest = 0
    late_s, most_j = 0.0, 0.0
    for n in range(parts):
        longest += counts[n]
        late_s += np.max(ready_s[n, : counts[n]])
        most_j += np.max(used_j[n, : counts[n]])
    sums = np.zeros((longest * len(energy_shares), 4))
    picks = np.zeros((longest * len(energy_shares), parts), np.int16)
    size = 0
    for share in energy_shares:
        costs = (1 - share) * ready_s / max(late_s, 1e-300) + share * used_j / max(most_j, 1e-300)
        items, moves = hull_of_sum(flops, costs, counts)
        now = moves[:parts].copy()
        total = np.zeros(4)
        for n in range(parts):
            total += np.array([ready_s[n, now[n]], used_j[n, now[n]], cycles[n, now[n]], flops[n, now[n]]])
        for step in range(parts - 1, len(items)):
            if step >= parts:
                n, old, new = items[step], now[items[step]], moves[step]
                total[0] += ready_s[n, new] - ready_s[n, old]
                total[1] += used_j[n, new] - used_j[n, old]
                total[2] += cycles[n, new] - cycles[n, old]
                total[3] += flops[n, new] - flops[n, old]
                now[n] = new
            sums[size] = total
            picks[size] = now
            size += 1
    return sums[:size], picks[:size]

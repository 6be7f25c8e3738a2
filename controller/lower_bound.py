"""A lower bound on the objective of slots of any size: what no plan, not even of fractional cuts, can go below.

MODEL.md section 2b, relaxed. The sum of a gateway's DTs lies above its lower convex hulls (work against readiness,
and against readiness with energy priced by C4: Lagrangian duality); the sum of an AP's gateways lies above the hull
of their (work, energy). Work is looked at in buckets, each with what is best anywhere in it. On a box of barriers and
block rates the objective is at least V (Theta low + blocks/Lambda high) plus the knapsack over the APs' buckets, with
shares of Lambda rounded up; boxes are halved best first. Everything is rounded to the optimistic side, so the bound
holds whatever the number of buckets; more of them only raise it.

For judging, not for a slot's time: seconds for a thousand DTs.
"""

from __future__ import annotations

import heapq
import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitnet.controller.hulls import hull_of_sum
from splitnet.controller.kernels import Vector, compiled
from splitnet.controller.slot import TOLERANCE, SlotPlan, SlotProblem

Matrix = NDArray[np.float64]

GATEWAY_BUCKETS = 1024
AP_BUCKETS = 512
SHARES = 1024
"""Units into which Lambda is divided for the knapsack; shares are rounded up, so that the bound holds."""
ENERGY_SHARES = (0.0, 0.25, 0.5, 0.75, 0.9)


def lower_bound(
    problem: SlotProblem, best: SlotPlan, *, tolerance: float = 5e-3, time_limit_s: float = 60.0
) -> float:
    """A bound that no plan's objective is below; raised until it is within `tolerance` of V tau of `best`, or time
    ends.

    Args:
        best: a feasible plan, from any solver.
    """
    deadline = time.monotonic() + time_limit_s
    gateways = [_gateway_bound(problem, gateway) for gateway in range(len(problem.network.ap_of))]
    network, v = problem.network, problem.v
    enough = best.objective - tolerance * v * best.latency_s
    per_block = network.cycles_per_block * math.exp(-network.beta)
    most = [_most_work(gateways, network.ap_of, ap) for ap in range(len(network.max_hz))]
    most_rate = float((network.max_hz * np.exp(network.alpha * network.reputation(np.array(most)))).sum() / per_block)
    at_most = [problem.weights[ap] * network.reputation(np.array([0.0, work])) for ap, work in enumerate(most)]
    least_worth = float(sum(worth.min() for worth in at_most))
    least_s = max(_least_s(problem, bounds, gateway) for gateway, bounds in enumerate(gateways))
    left = best.objective - least_worth
    most_s = max(left / v - network.blocks / most_rate, least_s)
    least_rate = v * network.blocks / max(left - v * least_s, v * network.blocks / most_rate)
    curves: dict[float, tuple[Matrix, Matrix, Matrix]] = {}

    def bound(box: tuple[float, float, float, float]) -> float:
        low_s, high_s, low_rate, high_rate = box
        if high_s not in curves:
            curves[high_s] = _curves(problem, gateways, high_s)
        worth = least_for_rate(*curves[high_s], network.max_hz, network.kappa, low_rate, high_rate, SHARES)
        return float(v * (low_s + network.blocks / high_rate) + worth)

    root = (least_s, most_s * (1 + 1e-9), least_rate * (1 - 1e-9), most_rate * (1 + 1e-9))
    heap = [(bound(root), root)]
    while True:
        lower, box = heapq.heappop(heap)
        if lower >= enough or time.monotonic() >= deadline:
            return min(lower, best.objective)
        low_s, high_s, low_rate, high_rate = box
        middle_s, middle_rate = (low_s + high_s) / 2, math.sqrt(low_rate * high_rate)
        if high_s - low_s > network.blocks / low_rate - network.blocks / high_rate:
            halves = ((low_s, middle_s, low_rate, high_rate), (middle_s, high_s, low_rate, high_rate))
        else:
            halves = ((low_s, high_s, low_rate, middle_rate), (low_s, high_s, middle_rate, high_rate))
        for half in halves:
            heapq.heappush(heap, (max(lower, bound(half)), half))


def _gateway_bound(problem: SlotProblem, gateway: int) -> Matrix:
    """[buckets, 4]: most work, least readiness (inf where C4 fails), least cycles, and width of each bucket."""
    network = problem.network
    twins = np.flatnonzero(network.gateway_of == gateway)
    if not len(twins):
        return np.zeros((1, 4))
    counts = network.counts[twins]
    there = np.arange(problem.flops.shape[1]) < counts[:, None]
    budget_j = problem.observation.gateway_energy_j[gateway] * (1 + TOLERANCE)
    ready_s, cycles, flops = problem.ready_s[twins], problem.cycles[twins], problem.flops[twins]
    used_j = np.where(there, problem.used_j[twins], 0.0)
    low = np.where(there, flops, np.inf).min(axis=1).sum()
    high = np.where(there, flops, 0.0).max(axis=1).sum()
    edges = np.linspace(low, high, GATEWAY_BUCKETS + 1)
    late_s, most_j = float(ready_s.max(axis=1).sum()), float(used_j.max(axis=1).sum()) or 1.0
    latest = np.zeros(GATEWAY_BUCKETS)
    for share in ENERGY_SHARES:
        costs = (1 - share) * ready_s / late_s + share * used_j / most_j
        least = _least_in_buckets(flops, costs, counts, edges)
        latest = np.maximum(latest, late_s / (1 - share) * (least - share * budget_j / most_j))
    affordable = _least_in_buckets(flops, used_j, counts, edges) <= budget_j * (1 + 1e-9)
    least_cycles = np.maximum(_least_in_buckets(flops, cycles, counts, edges), 0.0)
    width = np.diff(edges)
    return np.stack([edges[1:], np.where(affordable, latest, np.inf), least_cycles, width], axis=1)


def _least_in_buckets(x: Matrix, y: Matrix, counts: NDArray[np.int64], edges: Vector) -> Vector:
    """[buckets] the least value of the lower hull of the sum of parts between two edges."""
    items, moves = hull_of_sum(x, y, counts)
    return hull_minima(*hull_points(x, y, items, moves, len(counts)), edges)


def _most_work(gateways: list[Matrix], ap_of: NDArray[np.int64], ap: int) -> float:
    return float(sum(gateways[gateway][-1, 0] for gateway in np.flatnonzero(ap_of == ap)))


def _least_s(problem: SlotProblem, bounds: Matrix, gateway: int) -> float:
    """No barrier is lower: one gateway alone."""
    ap = problem.network.ap_of[gateway]
    by_energy_s = np.sqrt(problem.network.kappa[ap] * bounds[:, 2] ** 3 / problem.observation.ap_energy_j[ap])
    return float((bounds[:, 1] + np.maximum(bounds[:, 2] / problem.network.max_hz[ap], by_energy_s)).min())


def _curves(problem: SlotProblem, gateways: list[Matrix], barrier_s: float) -> tuple[Matrix, Matrix, Matrix]:
    """[APs, buckets] most energy left, least worth and most easiness, at barriers up to one; left is 0 where none."""
    network = problem.network
    aps = len(network.max_hz)
    left_j, worth, easiness = np.zeros((3, aps, AP_BUCKETS))
    for ap in range(aps):
        own = [gateways[gateway] for gateway in np.flatnonzero(network.ap_of == ap)]
        budget_j, kappa = problem.observation.ap_energy_j[ap], network.kappa[ap]
        if not own:
            edges, used_j, hz, slack = np.zeros(AP_BUCKETS + 1), np.zeros(AP_BUCKETS), np.zeros(AP_BUCKETS), 0.0
        else:
            counts = np.array([len(bounds) for bounds in own])
            work, late_s, cycles = np.full((3, len(own), counts.max()), np.inf)
            for place, bounds in enumerate(own):
                work[place, : len(bounds)], late_s[place, : len(bounds)] = bounds[:, 0], bounds[:, 1]
                cycles[place, : len(bounds)] = bounds[:, 2]
            with np.errstate(divide="ignore", invalid="ignore"):
                speed = np.where(cycles > 0, cycles / (barrier_s - late_s), 0.0)
            speed = np.where((late_s > barrier_s) | ((late_s == barrier_s) & (cycles > 0)), np.inf, speed)
            with np.errstate(invalid="ignore"):
                energy = np.where(np.isfinite(speed), kappa * cycles * speed**2, np.inf)
            if not np.isfinite(energy).any(axis=1).all():
                continue  # some gateway cannot be ready: nothing of this AP
            slack = sum(float(bounds[0, 3]) for bounds in own)
            edges = np.linspace(work[:, 0].sum(), sum(bounds[-1, 0] for bounds in own), AP_BUCKETS + 1)
            used_j = _least_in_buckets(work, energy, counts, edges)
            hz = _least_in_buckets(work, speed, counts, edges)
        fits = (used_j < budget_j) & (hz <= network.max_hz[ap] * (1 + 1e-9))
        left_j[ap] = np.where(fits, budget_j - used_j, 0.0)
        at_least = problem.weights[ap] * network.reputation(np.maximum(edges[:-1] - slack, 0.0))
        worth[ap] = np.minimum(at_least, problem.weights[ap] * network.reputation(edges[1:]))
        most = network.reputation(edges[1:])
        easiness[ap] = 1 / (network.cycles_per_block * network.difficulty(most))
    return left_j, worth, easiness


@compiled
def hull_points(x: Any, y: Any, items: Any, moves: Any, parts: int) -> tuple[Vector, Vector]:
    """The points of the hull of a sum, from `hulls.hull_of_sum`; empty where there is none."""
    if len(items) == 0:
        return np.empty(0), np.empty(0)
    now = moves[:parts].copy()
    xs, ys = np.empty(len(items) - parts + 1), np.empty(len(items) - parts + 1)
    total_x, total_y = 0.0, 0.0
    for n in range(parts):
        total_x += x[n, now[n]]
        total_y += y[n, now[n]]
    xs[0], ys[0] = total_x, total_y
    for step in range(parts, len(items)):
        n, new = items[step], moves[step]
        total_x += x[n, new] - x[n, now[n]]
        total_y += y[n, new] - y[n, now[n]]
        now[n] = new
        xs[step - parts + 1], ys[step - parts + 1] = total_x, total_y
    return xs, ys


@compiled
def hull_minima(xs: Vector, ys: Vector, edges: Vector) -> Vector:
    """[buckets] the least value of a convex, piecewise linear function between two edges; inf outside of it."""
    least = np.full(len(edges) - 1, math.inf)
    if len(xs) == 0:
        return least
    span = 1e-9 * (abs(edges[-1]) + abs(edges[0]))
    for b in range(len(least)):
        low, high = max(edges[b] - span, xs[0]), min(edges[b + 1] + span, xs[-1])
        if low > high:
            continue
        for end in (low, high):
            k = min(max(np.searchsorted(xs, end) - 1, 0), max(len(xs) - 2, 0))
            value = ys[k]
            if len(xs) > 1 and xs[k + 1] > xs[k]:
                value += (ys[k + 1] - ys[k]) * (end - xs[k]) / (xs[k + 1] - xs[k])
            least[b] = min(least[b], value)
        for k in range(np.searchsorted(xs, low), len(xs)):
            if xs[k] > high:
                break
            least[b] = min(least[b], ys[k])
    return least


@compiled
def least_for_rate(
    left_j: Any,
    worth: Any,
    easiness: Any,
    max_hz: Vector,
    kappa: Vector,
    low_rate: float,
    high_rate: float,
    shares: int,
) -> float:
    """The least sum of worths whose rates, at Lambda up to high_rate, add up to low_rate; inf where none do."""
    aps, buckets = left_j.shape
    value = np.full(shares + 1, math.inf)
    value[0] = 0.0
    for j in range(aps):
        better = np.full(shares + 1, math.inf)
        for b in range(buckets):
            if left_j[j, b] <= 0:
                continue
            mined = min(max_hz[j], np.cbrt(left_j[j, b] * high_rate / kappa[j])) * easiness[j, b]
            share = min(math.ceil(mined / low_rate * shares), shares)
            for q in range(shares + 1):
                reached = min(q + share, shares)
                better[reached] = min(better[reached], value[q] + worth[j, b])
        value = better
    return float(value[shares])

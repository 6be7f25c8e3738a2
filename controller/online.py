"""The online solver: polynomial, deterministic, for every slot of a run.

It scans a grid of barriers and block rates with the knapsack of `searching.py`, lets the best plans of different
barriers exchange their gateways' options, and the best of these its APs' choices. The curves come from lists where
the combinations of every AP are few, from hulls where they are many.
(Coordinate descent over cuts, the usual way, was up to 4% off at 12 DTs; alternating cuts and frequencies 11-19%.)

It proves nothing: the lower bound is -inf. `exact.py` and `lower_bound.py` prove.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitnet.controller import searching
from splitnet.controller.exchanging import exchange, exchange_options
from splitnet.controller.frontier import Choices, Frontier, frontier, list_choices
from splitnet.controller.slot import SlotProblem, Solution

Indices = NDArray[np.int64]
Vector = NDArray[np.float64]

MOST_OPTIONS = 240
"""Of a gateway; where it has more, those that are ready first in as many steps of work."""
MOST_LISTED = 60_000
"""Combinations of an AP that are still listed within a slot's time."""
BUCKETS = 256
"""Of reputation, on the curve of an AP."""
COARSER = 4
"""So many of them are one while scanning."""
KEPT = 4
"""Plans, each the best at its barrier, that are carried from scan to exchange."""
ROUNDS = 8
"""At most, of exchanging."""
BARRIERS = 2.2 ** np.linspace(0, 1, 10)
"""That are scanned, over the least barrier of the slot."""
RATES = 8


def solve_online(problem: SlotProblem, warm: Sequence[int] | None = None) -> Solution:
    """A good plan, in time that grows about linearly in the number of DTs; iterations are plans evaluated.

    Raises:
        SettingsError: a gateway affords no cut.
    """
    started = time.perf_counter()
    problem.check()
    of = frontier(problem, most_options=MOST_OPTIONS)
    choices = list_choices(problem, of) if of.combinations() <= MOST_LISTED else None
    plan, evaluated = search(problem, of, choices, warm)
    best = problem.evaluate(of.twin_options(plan))
    return Solution(best, -np.inf, evaluated, time.perf_counter() - started)


def least_barrier_s(problem: SlotProblem, of: Frontier) -> float:
    """No plan of these options has a lower barrier: every gateway alone, at the option that is best for it."""
    network, energy_j = problem.network, problem.observation.ap_energy_j
    least_s = 0.0
    for gateway, options in enumerate(of.options):
        ap = network.ap_of[gateway]
        by_energy_s = np.sqrt(network.kappa[ap] * options.cycles**3 / energy_j[ap])
        alone_s = options.ready_s + np.maximum(options.cycles / network.max_hz[ap], by_energy_s)
        least_s = max(least_s, float(alone_s.min()))
    return least_s


def search(
    problem: SlotProblem, of: Frontier, choices: Choices | None, warm: Sequence[int] | None
) -> tuple[Indices, int]:
    """[APs, gateways of an AP] the option of each gateway, and how many plans were evaluated."""
    network = problem.network
    tables, world = inputs(problem, of)
    ranges = tables[-1]
    fine, coarse = _sources(choices, ranges)
    low, high = (1 / (network.cycles_per_block * network.difficulty(ranges))).T @ network.max_hz
    rates = np.geomspace(0.15 * low, 0.97 * high, RATES)
    barriers_s = 1.01 * least_barrier_s(problem, of) * BARRIERS
    if warm is not None:
        barriers_s = np.append(barriers_s, problem.evaluate(warm).frequencies.barrier_s)
    plans, objectives = np.zeros((len(barriers_s), *of.gateways.shape), dtype=np.int64), np.empty(len(barriers_s))
    evaluated = searching.scan(barriers_s, rates, BUCKETS // COARSER, coarse, tables, world, plans, objectives)
    if not np.isfinite(objectives).any():
        plans[0], objectives[0] = _some_plan(problem, of)
    if choices is not None:  # where lists are too long, so are exact exchanges of options
        kept = objectives.argsort(kind="stable")[:KEPT]
        for number in kept[np.isfinite(objectives[kept])]:
            objectives[number], more = exchange_options(plans[number], objectives[number], tables, world)
            evaluated += more
    best = int(objectives.argmin())
    objective, more = exchange(plans[best], objectives[best], ROUNDS, BUCKETS, fine, tables, world)
    evaluated += more
    if choices is not None:
        _, more = exchange_options(plans[best], objective, tables, world)
        evaluated += more
    return plans[best], evaluated


def inputs(problem: SlotProblem, of: Frontier) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """`tables` and `world`, as compiled code takes them: see `curves.py`."""
    network, g = problem.network, problem.network.reputation
    there = np.arange(of.flops.shape[2]) < of.counts[:, :, None]
    least = np.where(of.counts > 0, np.where(there, of.flops, np.inf).min(axis=2, initial=np.inf), 0.0).sum(axis=1)
    most = of.flops.max(axis=2, initial=0.0).sum(axis=1)
    ranges = g(np.stack([least, most], axis=1))
    per_block = network.cycles_per_block * np.exp(-network.beta)
    earning = int(g.shape), g.reference_flops, g.knots, g.values, problem.weights, network.alpha, per_block
    tables = of.counts, of.gateways, of.ready_s, of.cycles, of.flops, earning, ranges
    energy_j = problem.observation.ap_energy_j
    return tables, (network.ap_of, network.max_hz, network.kappa, energy_j, problem.v, network.blocks)


def _some_plan(problem: SlotProblem, of: Frontier) -> tuple[Indices, float]:
    """A plan for slots whose budgets allow nothing on the grid: every gateway at the same share of its options."""
    plans = [(share * np.maximum(of.counts - 1, 0)).astype(np.int64) for share in np.linspace(0, 1, 9)]
    objectives = [problem.evaluate(of.twin_options(plan)).objective for plan in plans]
    best = int(np.argmin(objectives))
    return plans[best], objectives[best]


def _sources(choices: Choices | None, ranges: Vector) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What the curves are made from, fine and coarse: lists with each choice's bucket, or nothing, then hulls."""
    if choices is None:
        nothing = np.zeros(0)
        hulls = False, np.zeros(1, np.int64), np.zeros((0, 0), np.int32), np.zeros(0, np.int32), nothing, nothing
        return hulls, hulls
    counts = np.diff(choices.starts)
    per_unit = BUCKETS / np.maximum(ranges[:, 1] - ranges[:, 0], 1e-300)
    share = (choices.earned - np.repeat(ranges[:, 0], counts)) * np.repeat(per_unit, counts)
    bucket = np.clip(share, 0, BUCKETS - 1).astype(np.int32)
    fine, coarse = (
        (True, choices.starts, choices.picks, of, choices.worth, choices.easiness)
        for of in (bucket, bucket // COARSER)
    )
    return fine, coarse

"""The exact solver: branch and bound over the barrier, the block rate and the reputations, with a certified gap.

MODEL.md section 2b. A box holds ranges of Theta and Lambda and, for each AP, the choices that are still possible in
it (`pricing.py` bounds it). What cannot be part of a better plan is struck out; few enough joint choices are
evaluated one by one; else the box is halved where its bound is loosest. Large steps in price hide behind reputation:
easiness grows as exp(alpha U), so an AP's range of U is halved like the other two.

Looks at every AP's combinations of cuts, so it serves small slots; larger ones are refused in one line.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from splitnet.controller import pricing
from splitnet.controller.frontier import Choices, Frontier, frontier, list_choices
from splitnet.controller.online import inputs, least_barrier_s, search
from splitnet.controller.slot import SlotPlan, SlotProblem, Solution
from splitnet.errors import SettingsError

Indices = NDArray[np.int64]

MOST_CHOICES = 2_000_000
"""Combinations of an AP's gateways that are listed at most."""
MOST_JOINT = 20_000
"""So many joint choices of a box are looked at one by one; most of them fall to their price alone."""
MOST_EVALUATED = 500
"""Of those; a box that needs more is halved instead."""
BY_REPUTATION = 0.1 / 8
"""Of the curvature in U: measured, ranges of U are best halved later than a parabola's error would have it."""


@dataclass(order=True, slots=True)
class _Box:
    lower: float
    number: int
    limits: tuple[float, float, float, float] = field(compare=False)
    alive: Indices = field(compare=False)
    starts: Indices = field(compare=False)
    mu: float = field(compare=False)


def solve_exact(
    problem: SlotProblem,
    warm: Sequence[int] | None = None,
    *,
    tolerance: float = 1e-3,
    time_limit_s: float = 10.0,
) -> Solution:
    """The best plan to within `tolerance` of V tau, with its proof; iterations are boxes.

    Where the time ends first, the best plan so far is returned with the bound that was proved.

    Raises:
        SettingsError: a gateway affords no cut, or an AP has more than `MOST_CHOICES` combinations.
    """
    started = time.perf_counter()
    problem.check()
    of = frontier(problem)
    if not of.complete or of.combinations() > MOST_CHOICES:
        raise SettingsError(
            f"the exact solver lists at most {MOST_CHOICES} combinations of cuts for each AP, which this slot "
            f"exceeds; use the online solver, or fewer devices at each AP"
        )
    choices = list_choices(problem, of)
    start = problem.evaluate(of.twin_options(search(problem, of, choices, warm)[0]))
    search_ = _Search(problem, of, choices, start)
    lower = search_.run(tolerance, time_limit_s)
    return Solution(search_.best, min(lower, search_.best.objective), search_.boxes, time.perf_counter() - started)


class _Search:
    """The state of one branch and bound."""

    def __init__(self, problem: SlotProblem, of: Frontier, choices: Choices, start: SlotPlan) -> None:
        self.problem, self.of, self.choices, self.best = problem, of, choices, start
        self.inputs = ((choices.picks, choices.worth, choices.easiness), *inputs(problem, of))
        self.boxes = 0

    def run(self, tolerance: float, time_limit_s: float) -> float:
        """Searches until the gap is at most `tolerance` V tau, or the time is over; returns what was proved.

        The time counts from the second box on: in a new installation the first one waits for the compiler.
        """
        heap = [self._root()]
        proved, deadline = math.inf, math.inf
        while heap:
            if self.boxes == 1:
                deadline = time.perf_counter() + time_limit_s
            cutoff = self.best.objective - tolerance * self.problem.v * self.best.latency_s
            box = heapq.heappop(heap)
            if box.lower >= cutoff or time.perf_counter() >= deadline:
                return min(proved, box.lower)
            self.boxes += 1
            children, closed_at = self._branch(box, cutoff)
            proved = min(proved, closed_at)
            for child in children:
                heapq.heappush(heap, child)
        return proved

    def _root(self) -> _Box:
        problem, choices, network = self.problem, self.choices, self.problem.network
        first = choices.starts[:-1]
        most_rate = float(np.maximum.reduceat(choices.easiness, first) @ network.max_hz)
        least_worth = float(np.minimum.reduceat(choices.worth, first).sum())
        least_s = least_barrier_s(problem, self.of)
        left = self.best.objective - least_worth
        # Theta + blocks/Lambda may take no more of the objective than the reputations leave it.
        most_s = max(left / problem.v - network.blocks / most_rate, least_s)
        least_rate = (
            problem.v * network.blocks / max(left - problem.v * least_s, problem.v * network.blocks / most_rate)
        )
        limits = (least_s, most_s * (1 + 1e-9), least_rate * (1 - 1e-9), most_rate * (1 + 1e-9))
        alive = np.arange(len(choices.worth), dtype=np.int64)
        mu = problem.v * network.blocks / self.best.frequencies.block_rate**2
        return _Box(-math.inf, 0, limits, alive, choices.starts.astype(np.int64), mu)

    def _branch(self, box: _Box, cutoff: float) -> tuple[list[_Box], float]:
        """The boxes that remain of one, and the bound at which parts of it were closed."""
        limits = np.array(box.limits)
        prices, least, costs = np.empty((len(box.alive), 4)), np.empty((len(box.starts) - 1, 4)), np.empty(4)
        lower, mu, supply = pricing.bound(
            limits, box.mu, box.alive, box.starts, *self.inputs, cutoff, prices, least, costs
        )
        if lower == math.inf:
            return [], math.inf
        lower = max(lower, box.lower)
        if lower >= cutoff:
            return [], lower
        stays = pricing.survivors(prices, box.starts, least, costs, cutoff)
        counts = np.add.reduceat(stays, box.starts[:-1], dtype=np.int64)
        if not counts.all():
            return [], cutoff
        starts = np.append(0, counts.cumsum())
        alive, prices = box.alive[stays], prices[stays]
        joint = float(np.prod(counts, dtype=np.float64))
        chosen = np.empty(self.of.gateways.shape, dtype=np.int64)
        most = MOST_EVALUATED if joint <= MOST_JOINT else 1
        if most == 1:
            # Only the plan that the prices ask for: a better one may come of it.
            corner = int(np.argmin(costs + least.sum(axis=0)))
            asked = [first + int(prices[first:last, corner].argmin()) for first, last in pairwise(starts)]
            looked, bounds = alive[asked], prices[asked]
            spans = np.arange(len(asked) + 1, dtype=np.int64)
        else:
            looked, bounds, spans = alive, prices, starts
        objective, _, all_seen = pricing.best_joint(
            looked, spans, bounds, least, costs, *self.inputs, self.best.objective, most, chosen
        )
        if objective < self.best.objective:
            self.best = self.problem.evaluate(self.of.twin_options(chosen))
        if most > 1 and all_seen:
            return [], min(cutoff, self.best.objective)
        return self._halves(box, alive, starts, lower, mu, supply), cutoff

    def _halves(
        self,
        box: _Box,
        alive: Indices,
        starts: Indices,
        lower: float,
        mu: float,
        supply: float,
    ) -> list[_Box]:
        """Halves a box in the direction in which its bound is loosest, by the curvatures of what was linearised."""
        v, blocks = self.problem.v, self.problem.network.blocks
        low_s, high_s, low_rate, high_rate = box.limits
        half_s, half_rate = (high_s - low_s) / 2, (high_rate - low_rate) / 2
        rate = (low_rate + high_rate) / 2
        by_barrier = v * half_s**2 / high_s
        by_rate = v * blocks / rate * (half_rate / rate) ** 2
        ap, least, most = pricing.spread(alive, starts, self.choices.earned)
        by_reputation = mu * supply * (self.problem.network.alpha * (most - least)) ** 2 * BY_REPUTATION
        number = 2 * self.boxes
        if by_reputation > max(by_barrier, by_rate):
            own = np.zeros(len(alive), dtype=bool)
            own[starts[ap] : starts[ap + 1]] = True
            low = self.choices.earned[alive] <= (least + most) / 2
            parts = []
            for half, stays in enumerate((~own | low, ~own | ~low)):
                counts = np.add.reduceat(stays, starts[:-1], dtype=np.int64)
                parts.append(_Box(lower, number + half, box.limits, alive[stays], np.append(0, counts.cumsum()), mu))
            return parts
        if by_barrier > by_rate:
            middle_s = low_s + half_s
            both = ((low_s, middle_s, low_rate, high_rate), (middle_s, high_s, low_rate, high_rate))
        else:
            both = ((low_s, high_s, low_rate, rate), (low_s, high_s, rate, high_rate))
        return [_Box(lower, number + half, limits, alive, starts, mu) for half, limits in enumerate(both)]

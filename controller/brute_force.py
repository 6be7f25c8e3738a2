"""The reference on tiny instances: every choice of cuts, each with its exact frequencies. The oracle of solvers."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence

from splitnet.controller.slot import SlotPlan, SlotProblem, Solution
from splitnet.errors import SettingsError

MOST_CHOICES = 200_000


def brute_force(problem: SlotProblem, warm: Sequence[int] | None = None) -> Solution:
    """The best plan of all; iterations are plans, the lower bound is its objective. `warm` changes nothing.

    Raises:
        SettingsError: too many choices, or none that every gateway affords.
    """
    started = time.perf_counter()
    counts = problem.network.counts.tolist()
    choices = math.prod(counts)
    if choices > MOST_CHOICES:
        raise SettingsError(f"brute force over {choices} choices of cuts is over {MOST_CHOICES}; use another solver")
    problem.check()
    best: SlotPlan | None = None
    for options in itertools.product(*map(range, counts)):
        plan = problem.evaluate(options)
        if plan.feasible and (best is None or plan.objective < best.objective):
            best = plan
    assert best is not None, "the cheapest cuts are affordable, as checked"
    return Solution(best, best.objective, choices, time.perf_counter() - started)

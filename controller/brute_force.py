"""The reference on tiny instances: every choice of cuts, each with its exact frequencies. The oracle of solvers."""

from __future__ import annotations

import itertools
import math

from splitnet.controller.slot import SlotPlan, SlotProblem
from splitnet.errors import SettingsError

MOST_CHOICES = 200_000


def brute_force(problem: SlotProblem) -> SlotPlan:
    """The best plan of all.

    Raises:
        SettingsError: too many choices, or none that every gateway affords.
    """
    counts = [len(table.cuts) for table in problem.network.tables]
    choices = math.prod(counts)
    if choices > MOST_CHOICES:
        raise SettingsError(f"brute force over {choices} choices of cuts is over {MOST_CHOICES}; use another solver")
    problem.check()
    best: SlotPlan | None = None
    for options in itertools.product(*map(range, counts)):
        plan = problem.evaluate(options)
        if plan is not None and (best is None or plan.objective < best.objective):
            best = plan
    assert best is not None, "the cheapest cuts are affordable, as checked"
    return best

"""Alternating optimisation: hold the frequencies and choose cuts, hold the cuts and choose frequencies, repeat.

The usual choice for problems like P1, kept as a named baseline and not as a solver to use (MODEL.md section 2b):
while frequencies are held, a gateway served at 0 Hz can send nothing to its AP, and an AP that mines with all its
energy can take no more work. Proves no bound.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from splitnet.controller.baselines import loads, middle_cuts, moved, repaired, served
from splitnet.controller.policy import Options
from splitnet.controller.slot import TOLERANCE, SlotPlan, SlotProblem, Solution, Vector

HELD = 1e-9
"""Relative: best frequencies use energies up to about this, and less gain than this is none."""


def alternate(problem: SlotProblem, warm: Sequence[int] | None = None) -> Solution:
    """From the middle cuts (repaired) until no cut changes; iterations are plans. `warm` changes nothing.

    Raises:
        SettingsError: some gateway affords no cut.
    """
    started = time.perf_counter()
    problem.check()
    plan = problem.evaluate(repaired(problem, middle_cuts(problem.network)))
    plans = 1
    while (options := cuts_at(problem, plan)) != plan.options:
        plan = problem.evaluate(options)
        plans += 1
    return Solution(plan, -math.inf, plans, time.perf_counter() - started)


def cuts_at(problem: SlotProblem, plan: SlotPlan) -> Options:
    """Cuts for the plan's frequencies: DT after DT takes its best one, the others held, until none changes."""
    options = np.array(plan.options, dtype=np.int64)
    least_gain = HELD * problem.v * plan.frequencies.latency_s
    now = loads(problem, options)
    changed = True
    while changed:
        changed = False
        for twin, option in enumerate(options.tolist()):
            objectives = held_objectives(problem, plan, moved(problem, now, twin, option))
            best = int(objectives.argmin())
            if objectives[best] < objectives[option] - least_gain:
                options[twin] = best
                now = loads(problem, options)
                changed = True
    return tuple(options.tolist())


def held_objectives(problem: SlotProblem, plan: SlotPlan, candidates: NDArray[np.float64]) -> Vector:
    """[candidates] P1's objective of loads with the plan's frequencies held; inf where C4 or C5 breaks."""
    network, seen, held = problem.network, problem.observation, plan.frequencies
    ready_s, used_j, cycles, flops = candidates
    serving_s = np.divide(cycles, held.serving_hz, out=np.full_like(cycles, np.inf), where=held.serving_hz > 0)
    barrier_s = (ready_s + np.where(cycles > 0, serving_s, 0.0)).max(axis=1)
    earned = network.reputation(served(network, flops))
    rate = (held.mining_hz / (network.cycles_per_block * network.difficulty(earned))).sum(axis=1)
    spent_j = network.kappa * (served(network, cycles * held.serving_hz**2) + held.mining_hz**3 / rate[:, None])
    within = (used_j <= seen.gateway_energy_j * (1 + TOLERANCE)).all(axis=1)
    within &= (spent_j <= seen.ap_energy_j * (1 + HELD)).all(axis=1)
    objective = problem.v * (barrier_s + network.blocks / rate) + earned @ problem.weights
    return np.where(within, objective, np.inf)

"""The trade-off of DPRA: what a larger V gains in latency, O(1/V), and costs in queues, O(V) (MODEL.md section 2c).

    .venv/bin/python -m benchmarks.tradeoff             some 4 minutes
    .venv/bin/python -m benchmarks.tradeoff --quick     some 40 seconds

The scenario `small` (N=4, M=J=2), of whose world 800 slots are tabulated: every plan of each, with its best
frequencies. A run draws its slots from these, independently and alike, and in each DPRA takes the argmin of
V tau + w U. The gap is the mean tau less tau*, the least that any policy can reach at the frequencies with which the
states of *this run* were drawn. *Warm* runs start with the queues at V mu*, *cold* ones with empty queues; the second
half of each is also judged alone, against its own tau*. Warm runs on the first 50 states alone show how
far the slope depends on how finely the world is tabulated.

The loop over slots is compiled. Here it has to agree with the policy `dpra` and the exact solver over the first
slots, and the table with brute force. It does not know slots that resemble the ones before.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.command_line import keep, parser_of
from benchmarks.tradeoff_figures import draw
from benchmarks.tradeoff_report import show
from benchmarks.tradeoff_states import States, Theory, cheapest, tabulate
from splitnet.controller.brute_force import brute_force
from splitnet.controller.exact import solve_exact
from splitnet.controller.kernels import compiled
from splitnet.controller.policies import make_policy
from splitnet.controller.policy import Setting, State
from splitnet.controller.queues import Queues
from splitnet.controller.slot import Indices, Matrix, Observation, SlotProblem, Vector
from splitnet.profiling.machine import machine_fingerprint
from splitnet.scenario import load_scenario
from splitnet.terminal import Terminal

SCENARIO = "small"
VS = tuple(2.0**power for power in range(9))
SETTLING = 50
"""A run has at least that many times V mu* slots, so that a cold start is over early in it."""
WORLD_SEED = 0
RISE, RISE_POINTS, MEAN_POINTS = 16.0, 161, 120
"""Of the curves: t/V at which the rise of the queues ends, and how many points are kept."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of what.

    Attributes:
        states: tabulated slots of the worlds; the first is the finest.
        slots: T, at least. At 60,000 what the queues end with, by chance, is still half the gap at V = 256.
        seeds: runs of each V and start.
        checked: first slots of the runs that the policy repeats.
        solved: slots in which brute force and the exact solver repeat the argmin.
    """

    states: tuple[int, ...]
    slots: int
    seeds: int
    checked: int
    solved: int

    @property
    def runs(self) -> int:
        """Seeds of each world, each with all V."""
        return len(self.states) * self.seeds


FULL = Counts((800, 50), 600_000, 10, 200, 12)
QUICK = Counts((100, 50), 300_000, 5, 20, 2)


@compiled
def run_slots(
    drawn: Indices,
    starts: Indices,
    latency_s: Vector,
    reputation: Matrix,
    v: float,
    queues: Matrix,
    u_min: float,
    u_max: float,
) -> tuple[Indices, NDArray[np.float64]]:
    """DPRA from queues [2, APs] over the states drawn [slots]: the plan of each slot, and the queues after it."""
    aps = queues.shape[1]
    chosen, after = np.empty(len(drawn), dtype=np.int64), np.empty((len(drawn), 2, aps))
    now, weights = queues.copy(), np.empty(aps)
    for slot in range(len(drawn)):
        weights[:] = now[0] - now[1]
        plan = cheapest(starts[drawn[slot]], starts[drawn[slot] + 1], latency_s, reputation, v, weights)
        for ap in range(aps):
            now[0, ap] = max(now[0, ap] + reputation[plan, ap] - u_max, 0.0)
            now[1, ap] = max(now[1, ap] + u_min - reputation[plan, ap], 0.0)
        chosen[slot] = plan
        after[slot] = now
    return chosen, after


def run(theory: Theory, drawn: Indices, v: float, queues: Matrix) -> tuple[Indices, NDArray[np.float64]]:
    """`run_slots` over these states."""
    states = theory.states
    ran: tuple[Indices, NDArray[np.float64]] = run_slots(
        drawn, states.starts, states.latency_s, states.reputation, v, queues, theory.u_min, theory.u_max
    )
    return ran


@dataclass(frozen=True, slots=True)
class Span:
    """Means over some slots of a run, and what was possible in them.

    Attributes:
        best_s: tau* at the frequencies of these slots' states.
        latency_s: mean tau.
        reputation: [APs] mean U_j.
        queue: mean of sum_j Z_j^+ + Z_j^-.
    """

    best_s: float
    latency_s: float
    reputation: tuple[float, ...]
    queue: float

    @classmethod
    def of(cls, best_s: float, states: States, chosen: Indices, after: NDArray[np.float64]) -> Span:
        reputation = states.reputation[chosen].mean(axis=0)
        queue = float(after.sum(axis=(1, 2)).mean())
        return cls(best_s, float(states.latency_s[chosen].mean()), tuple(reputation.tolist()), queue)


def runs_of(
    theory: Theory, slots: int, seeds: int, starts: Sequence[str], step: Callable[[], None]
) -> dict[str, Any]:
    """Every V from every start, on the same slots of each seed; curves of the first seed's cold runs."""
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for seed in range(seeds):
        drawn = np.random.default_rng(seed).integers(0, theory.states.count, slots)
        late = slice(slots // 2, None)
        whole, second = theory.best(drawn), theory.best(drawn[late])
        for v in VS:
            for start in starts:
                queues = v * whole.prices if start == "warm" else np.zeros_like(whole.prices)
                chosen, after = run(theory, drawn, v, queues)
                rows.append(
                    {
                        "seed": seed,
                        "v": v,
                        "start": start,
                        "prices": whole.prices.tolist(),
                        "duality_gap_s": max(one.mixture_s - one.latency_s for one in (whole, second)),
                        "last_queues": after[-1].tolist(),
                        "whole": asdict(Span.of(whole.latency_s, theory.states, chosen, after)),
                        "late": asdict(Span.of(second.latency_s, theory.states, chosen[late], after[late])),
                    }
                )
                if start == "cold" and not seed:
                    curves.append({"v": v} | curves_of(v, theory.states.reputation[chosen], after))
            step()
    return {"runs": rows, "curves": curves}


def curves_of(v: float, reputation: Matrix, after: NDArray[np.float64]) -> dict[str, Any]:
    """The sum of the queues while they rise, and each AP's mean reputation so far."""
    rise = np.unique(np.linspace(1, min(RISE * v, len(after)), RISE_POINTS).round().astype(int))
    far = np.unique(np.geomspace(1, len(after), MEAN_POINTS).round().astype(int))
    so_far = reputation.cumsum(axis=0)[far - 1] / far[:, None]
    return {
        "rise_slots": rise.tolist(),
        "rise_queue": after[rise - 1].sum(axis=(1, 2)).tolist(),
        "mean_slots": far.tolist(),
        "mean_reputation": so_far.tolist(),
    }


def policy_differs(theory: Theory, observations: Sequence[Observation], setting: Setting, slots: int) -> float:
    """The largest difference of tau, U and queues between the compiled loop and the policy with the exact solver."""
    policy = make_policy("dpra", setting, solver=functools.partial(solve_exact, tolerance=0.0))
    drawn = np.random.default_rng(0).integers(0, theory.states.count, slots)
    worst = 0.0
    for prices in (np.zeros_like(theory.optimum.prices), theory.optimum.prices):
        chosen, after = run(theory, drawn, setting.v, setting.v * prices)
        state = State(0, Queues(*(setting.v * prices)))
        for slot, number in enumerate(drawn):
            state, decision = policy.step(state, observations[number])
            worst = max(
                worst,
                abs(decision.plan.latency_s - theory.states.latency_s[chosen[slot]]),
                np.abs(decision.plan.reputation - theory.states.reputation[chosen[slot]]).max(),
                np.abs(np.array([state.queues.plus, state.queues.minus]) - after[slot]).max(),
            )
    return float(worst)


def solvers_differ(theory: Theory, observations: Sequence[Observation], setting: Setting, count: int) -> float:
    """The largest difference of the table's argmin to brute force and to the exact solver, in units of V tau.

    Weights of either sign, up to three times those that the queues settle at.
    """
    chance, worst = np.random.default_rng(0), 0.0
    size = 3 * theory.optimum.prices.max()
    for number in range(count):
        v = float(chance.choice(VS))
        weights = v * chance.uniform(-size, size, theory.states.reputation.shape[1])
        problem = SlotProblem(setting.network, observations[number], weights, v)
        plan = int(theory.states.least(v, weights)[number])
        latency_s = theory.states.latency_s[plan]
        ours = v * (latency_s - setting.network.propagation_s) + weights @ theory.states.reputation[plan]
        for found in (brute_force(problem), solve_exact(problem, tolerance=0.0)):
            worst = max(worst, abs(found.plan.objective - ours) / (v * latency_s))
    return worst


def measure(counts: Counts) -> dict[str, Any]:
    """Raw figures of every run, with the constants that theory needs."""
    started = time.perf_counter()
    scenario = load_scenario(SCENARIO)
    setting = scenario.setting()
    observations = list(scenario.world.observations(WORLD_SEED, max(counts.states)))
    with Terminal().waiting("tabulating"):
        theories = [
            Theory.of(tabulate(scenario.network, observations[:count]), setting.u_min, setting.u_max)
            for count in counts.states
        ]
    most = max(float(theory.optimum.prices.sum()) for theory in theories)
    slots = max(counts.slots, math.ceil(SETTLING * max(VS) * most))
    with Terminal().waiting("comparing with the policy and the solvers"):
        settings = [scenario.setting(v) for v in VS[::4]]
        checks = {
            "policy": max(policy_differs(theories[0], observations, one, counts.checked) for one in settings),
            "solvers": solvers_differ(theories[0], observations, setting, counts.solved),
        }
    worlds = []
    with Terminal().progress("running") as step:
        ticks = itertools.count(1)
        for number, theory in enumerate(theories):
            starts = ("warm",) if number else ("warm", "cold")
            ran = runs_of(theory, slots, counts.seeds, starts, lambda: step(next(ticks), counts.runs, "running"))
            worlds.append(theory.as_dict() | ran)
    return {
        "machine": machine_fingerprint(),
        "scenario": {
            "name": scenario.name,
            "digest": scenario.digest,
            "u_min": setting.u_min,
            "u_max": setting.u_max,
        },
        "slots": slots,
        "seeds": counts.seeds,
        "checked_slots": counts.checked,
        "solved_slots": counts.solved,
        "checks": checks,
        "worlds": worlds,
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    parser = parser_of(__doc__, "tradeoff", quick="fewer states, slots and seeds")
    options = parser.parse_args()
    results = measure(QUICK if options.quick else FULL)
    keep(results, options.output)
    draw(results, options.output.with_suffix(".png"))
    show(results)


if __name__ == "__main__":
    main()

"""How exact and how fast the controller's solvers are: beside a modelling language, brute force and proved bounds.

    .venv/bin/python -m benchmarks.solvers             some 20 minutes on an idle machine
    .venv/bin/python -m benchmarks.solvers --quick     some 2 minutes

*frequencies*: section 2a of MODEL.md with the cuts given. `best_frequencies`, checks and all, against cvxpy's program
that was compiled once (DPP): assigning its parameters and solving it by CLARABEL, whose own seconds stand beside. *A
candidate* is one of 1,000 that are evaluated in one call. A dense scan in extended precision says which of two that
differ is wrong. *exact*: branch and bound against brute force, then on slots of the default scenario until 0.1% of
V tau is proved. *online*: the same slots, cold and from the last slot's cuts; gaps are to a bound that `exact`
proved, as far as time allows, to 0.01%, untimed. *large*: the `large` scenario against a Lagrangian bound. *growth*:
time against devices.

The span of a solver goes from a slot's observation and weights to its plan, one thread, everything compiled. Cases of
one table alternate. It does not know what the queues of a whole run do (`tradeoff.py`), nor other machines.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.command_line import keep, parser_of
from benchmarks.solver_cases import (
    DEGENERATE,
    REAL,
    SHAPES,
    consecutive_slots,
    default_with_places,
    grown_problem,
    servings_of_default,
    small_problem,
    well_scaled,
)
from benchmarks.solvers_report import draw_growth, show
from splitnet.controller import kernels
from splitnet.controller.brute_force import brute_force
from splitnet.controller.exact import solve_exact
from splitnet.controller.frequency import Serving, best_frequencies
from splitnet.controller.lower_bound import lower_bound
from splitnet.controller.online import solve_online
from splitnet.controller.reference import FrequencyProgram, dense_scan
from splitnet.controller.slot import SlotProblem, Solution
from splitnet.profiling.machine import machine_fingerprint
from splitnet.scenario import load_scenario
from splitnet.terminal import Terminal

TOLERANCE, CLOSER, TIME_LIMIT_S, JUDGE_LIMIT_S = 1e-3, 1e-4, 20.0, 5.0
"""What `exact` proves while it is timed, what it proves to judge others, and the time it gets for each of these."""
CALLS = 20
"""Of a call of microseconds in one sample."""
CANDIDATES = 1000

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of what.

    Attributes:
        agreeing: well-scaled slots of each of five kinds.
        degenerate: slots of each degenerate kind.
        timed: rounds of the timing of 2a, of each kind.
        small: slots for brute force.
        worlds, slots: of the default scenario, and consecutive slots in each.
        large: slots of the large scenario.
        devices: N of the growth, each with that many `seeds`.
    """

    agreeing: int
    degenerate: int
    timed: int
    small: int
    worlds: int
    slots: int
    large: int
    devices: tuple[int, ...]
    seeds: int


FULL = Counts(200, 25, 100, 500, 10, 20, 20, (100, 200, 500, 1000, 2000, 5000, 10_000), 5)
QUICK = Counts(20, 3, 20, 50, 5, 4, 3, (100, 300, 1000, 3000), 2)


def well_scaled_servings(kind: str) -> Iterator[Serving]:
    """Without end, the same at every call."""
    chance = np.random.default_rng(sum(kind.encode()))
    if kind == REAL:
        return servings_of_default(chance)
    return (well_scaled(chance, *SHAPES[kind]) for _ in itertools.count())


def program_for(serving: Serving) -> FrequencyProgram:
    return FrequencyProgram(serving.ap_of, len(serving.max_hz))


def compared(kind: str, serving: Serving, program: FrequencyProgram) -> Row:
    """One slot by the kernel and by cvxpy, each relative to the scan; null where cvxpy's solver gave up."""
    ours, modelled, scanned = best_frequencies(serving), program.solve(serving), dense_scan(serving)
    answered = math.isfinite(modelled.latency_s)
    return {
        "kind": kind,
        "latency_s": ours.latency_s,
        "energy_binds": bool((ours.mining_hz < serving.max_hz).any()),
        "difference": ours.latency_s / modelled.latency_s - 1 if answered else None,
        "status": modelled.status,
        "ours_off": float(ours.latency_s / scanned - 1),
        "cvxpy_off": float(modelled.latency_s / scanned - 1) if answered else None,
    }


def agreement(counts: Counts) -> list[Row]:
    """Well-scaled slots."""
    rows = []
    for kind in (*SHAPES, REAL):
        servings = list(itertools.islice(well_scaled_servings(kind), counts.agreeing))
        program = program_for(servings[0])
        rows += [compared(kind, serving, program) for serving in servings]
    return rows


def degenerate(counts: Counts) -> list[Row]:
    """Slots that are at the edge of what can be, M=6 and J=3."""
    rows = []
    for kind, spoil in DEGENERATE.items():
        chance = np.random.default_rng(sum(kind.encode()))
        servings = [spoil(chance, well_scaled(chance, 6, 3)) for _ in range(counts.degenerate)]
        program = program_for(servings[0])
        rows += [compared(kind, serving, program) for serving in servings]
    return rows


def frequency_times(counts: Counts) -> dict[str, dict[str, list[float]]]:
    """Seconds a solve, by kind and by who solves; the first two rounds are for warming."""
    found: dict[str, dict[str, list[float]]] = {}
    order = random.Random(0)
    for kind in (*SHAPES, REAL):
        drawn = well_scaled_servings(kind)
        pool = list(itertools.islice(drawn, CANDIDATES))
        many = np.array([(serving.ready_s, serving.cycles) for serving in pool]).swapaxes(0, 1).copy()
        per_block = np.array([serving.cycles_per_block for serving in pool])
        program = program_for(pool[0])
        samples: dict[str, list[float]] = {}
        for number in range(-2, counts.timed):
            taken = timed_round(next(drawn), program, many, per_block, order)
            for name, seconds in taken.items() if number >= 0 else ():
                samples.setdefault(name, []).append(seconds)
        found[kind] = samples
    return found


def timed_round(
    serving: Serving,
    program: FrequencyProgram,
    many: NDArray[np.float64],
    per_block: NDArray[np.float64],
    order: random.Random,
) -> dict[str, float]:
    """Seconds a solve of one slot, all ways in a random order."""
    columns = (serving.max_hz, serving.kappa, serving.energy_j)
    taken: dict[str, float] = {}

    def checked() -> None:
        taken["best_frequencies"] = seconds(
            lambda: best_frequencies(
                Serving(
                    serving.ready_s, serving.cycles, serving.ap_of, *columns, serving.cycles_per_block, serving.blocks
                )
            ),
            CALLS,
        )

    def unchecked() -> None:
        taken["kernel"] = seconds(
            lambda: kernels.best_barrier(
                serving.ready_s, serving.cycles, serving.ap_of, *columns, serving.cycles_per_block, serving.blocks
            ),
            CALLS,
        )

    def candidates() -> None:
        whole = seconds(
            lambda: kernels.best_barriers(many[0], many[1], serving.ap_of, *columns, per_block, serving.blocks), 1
        )
        taken["candidate"] = whole / CANDIDATES

    def modelled() -> None:
        started = time.perf_counter()
        answer = program.solve(serving)
        taken["cvxpy"] = time.perf_counter() - started
        taken["CLARABEL alone"] = answer.solver_s

    for way in order.sample((checked, unchecked, candidates, modelled), 4):
        way()
    return taken


def seconds(call: Callable[[], object], calls: int) -> float:
    """Mean of some calls."""
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls


def exact_on_small(counts: Counts) -> list[Row]:
    """Branch and bound to the end against every choice of cuts; differences in units of V tau."""
    rows = []
    for seed in range(counts.small):
        problem = small_problem(seed)
        best, found = brute_force(problem), solve_exact(problem, tolerance=0.0)
        unit = problem.v * best.plan.latency_s
        rows.append(
            {
                "choices": best.iterations,
                "difference": (found.plan.objective - best.plan.objective) / unit,
                "bound": (found.lower_bound - best.plan.objective) / unit,
                "excess_j": float(found.plan.excess_j.max(initial=0.0)),
            }
        )
    return rows


def solved(problem: SlotProblem, solver: Callable[[SlotProblem], Solution]) -> tuple[Solution, float]:
    """A plan, and the seconds from observation and weights to it."""
    started = time.perf_counter()
    found = solver(SlotProblem(problem.network, problem.observation, problem.weights, problem.v))
    return found, time.perf_counter() - started


def exact_and_online(counts: Counts) -> list[Row]:
    """The same slots by the exact solver and by the online one, cold and warm."""
    rows = []
    order = random.Random(0)
    for world in range(counts.worlds):
        last: tuple[int, ...] | None = None
        for slot, problem in enumerate(consecutive_slots(default_with_places(world), world, counts.slots)):
            ways: dict[str, Callable[[SlotProblem], Solution]] = {
                "exact": lambda slot: solve_exact(slot, tolerance=TOLERANCE, time_limit_s=TIME_LIMIT_S),
                "cold": solve_online,
                "warm": lambda slot, last=last: solve_online(slot, last),  # type: ignore[misc]
            }
            found = {name: solved(problem, ways[name]) for name in order.sample(list(ways), len(ways))}
            timed = found["exact"][0]
            judge = solve_exact(problem, timed.plan.options, tolerance=CLOSER, time_limit_s=JUDGE_LIMIT_S)
            unit = problem.v * judge.plan.latency_s
            bound = max(judge.lower_bound, timed.lower_bound)
            row: Row = {
                "world": world,
                "slot": slot,
                "latency_s": judge.plan.latency_s,
                "proved": timed.gap(timed.plan.latency_s, problem.v),
                "judge_gap": (judge.plan.objective - bound) / unit,
            }
            for name, (solution, taken_s) in found.items():
                row[f"{name}_s"] = taken_s
                row[f"{name}_gap"] = (solution.plan.objective - bound) / unit
                row[f"{name}_loss"] = (solution.plan.objective - judge.plan.objective) / unit
                row[f"{name}_excess_j"] = float(solution.plan.excess_j.max(initial=0.0))
            last = found["warm"][0].plan.options
            rows.append(row)
    return rows


def large(counts: Counts) -> list[Row]:
    """Slots of the large scenario, cold and warm, against the Lagrangian bound."""
    rows = []
    last: tuple[int, ...] | None = None
    for problem in consecutive_slots(load_scenario("large"), 0, counts.large):
        cold, cold_s = solved(problem, solve_online)
        warm, warm_s = solved(problem, lambda slot, last=last: solve_online(slot, last))  # type: ignore[misc]
        best = min((cold.plan, warm.plan), key=lambda plan: plan.objective)
        bound = lower_bound(problem, best)
        unit = problem.v * best.latency_s
        rows.append(
            {
                "cold_s": cold_s,
                "warm_s": warm_s,
                "cold_gap": (cold.plan.objective - bound) / unit,
                "warm_gap": (warm.plan.objective - bound) / unit,
                "objective": best.objective,
                "bound": bound,
            }
        )
        last = warm.plan.options
    return rows


GROWTHS: dict[str, Callable[[int], tuple[int, int]]] = {
    "20 devices a gateway, 5 gateways an AP": lambda devices: (devices // 20, devices // 100),
    "50 gateways, 10 APs": lambda devices: (50, 10),
}


def growth(counts: Counts) -> list[Row]:
    """Seconds of one cold slot by the number of devices; the sizes alternate."""
    rows = []
    for seed, devices, name in itertools.product(range(counts.seeds), counts.devices, GROWTHS):
        problem = grown_problem(seed, devices, *GROWTHS[name](devices))
        rows.append({"family": name, "devices": devices, "seconds": solved(problem, solve_online)[1]})
    return rows


SECTIONS: dict[str, Callable[[Counts], Any]] = {
    "agreement": agreement,
    "degenerate": degenerate,
    "frequency_times": frequency_times,
    "small": exact_on_small,
    "slots": exact_and_online,
    "large": large,
    "growth": growth,
}


def warm_up() -> None:
    """Everything compiled, so that no span has a compiler in it."""
    problem = next(consecutive_slots(load_scenario("default"), 1, 1))
    options = solve_exact(problem, time_limit_s=1.0).plan.options
    solve_online(problem, options)
    big = grown_problem(0, 1000, 50, 10)
    solve_online(big, solve_online(big).plan.options)


def measure(counts: Counts, sections: Iterable[str]) -> dict[str, Any]:
    """Raw figures of each section."""
    warm_up()
    found: dict[str, Any] = {"machine": machine_fingerprint()}
    for name in sections:
        with Terminal().waiting(name):
            found[name] = SECTIONS[name](counts)
    return found


def main() -> None:
    parser = parser_of(__doc__, "solvers", quick="a tenth of the cases", sections=SECTIONS)
    options = parser.parse_args()
    results = measure(QUICK if options.quick else FULL, options.only)
    keep(results, options.output)
    if "growth" in results:
        draw_growth(results["growth"], options.output.with_name(options.output.stem + "_growth.png"))
    show(results)


if __name__ == "__main__":
    main()

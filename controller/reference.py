"""The reference solvers: the controller's problems stated a second time, for solvers that others wrote.

Section 2a of MODEL.md as a disciplined convex program (cvxpy, CLARABEL), and the knapsack of section 2b at a fixed
barrier and rate as a mixed-integer program (cvxpy, HiGHS). Where a solver in floating point errs, a dense scan in
extended precision decides. All of it is slow: it judges the solvers in tests and benchmarks, and shares no code with
them below the tables of a slot. `brute_force.py` has the reference of the whole slot.
"""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass
from typing import Any, final

import cvxpy as cp
import numpy as np
from numpy.typing import NDArray

from splitnet.controller.frequency import Indices, Serving
from splitnet.controller.slot import TOLERANCE, SlotProblem
from splitnet.errors import SettingsError

Long = np.longdouble
LongVector = NDArray[np.longdouble]

GIGA = 1e9
"""Frequencies and work in Gcycles, so that every number in the program is near 1."""
MOST_COMBINATIONS = 200_000

FIXED_POINT_STEPS = 50
"""Of the iteration for Lambda: its logarithm comes nearer by 2/3 each time (MODEL.md section 2a)."""
SCAN_POINTS, ZOOM_POINTS, ZOOMS = 1501, 401, 7


@dataclass(frozen=True, slots=True)
class Modelled:
    """What the modelling language's solver answered.

    Attributes:
        latency_s: Theta + blocks/Lambda; nan where the solver gave up.
        status: cvxpy's word: optimal, optimal_inaccurate, solver_error, ...
        solver_s: seconds inside the solver alone, without cvxpy.
    """

    latency_s: float
    status: str
    solver_s: float


@final
class FrequencyProgram:
    """Section 2a for one assignment of gateways to APs: compiled at the first solve, then only its numbers change.

    The decisions are those of the letter, f_m^A and f_j^bloc, with Theta, Lambda and the energy left for mining; the
    substitution f_m = C_m/(Theta - T_m), on which the fast search rests, is not made here.
    """

    def __init__(self, ap_of: Indices, aps: int) -> None:
        gateways = len(ap_of)
        self._ap_of = np.asarray(ap_of)
        self._ready_s, self._idle_s = cp.Parameter(gateways, nonneg=True), cp.Parameter(gateways, nonneg=True)
        self._cycles, self._energy_slope = cp.Parameter(gateways, nonneg=True), cp.Parameter(gateways, nonneg=True)
        self._most, self._energy_j = cp.Parameter(aps, nonneg=True), cp.Parameter(aps, nonneg=True)
        self._speed, self._blocks_per_cycle = cp.Parameter(aps, nonneg=True), cp.Parameter(aps, nonneg=True)
        self._blocks = cp.Parameter(nonneg=True)
        barrier, rate = cp.Variable(nonneg=True), cp.Variable(nonneg=True)
        mining, left = cp.Variable(aps, nonneg=True), cp.Variable(aps, nonneg=True)
        constraints = [
            mining <= self._most,  # C3
            rate <= self._blocks_per_cycle @ mining,  # rows 10 and 11
            *(  # C5: kappa f^3 <= (energy left) Lambda
                mining[ap] <= self._speed[ap] * cp.geo_mean(cp.hstack([left[ap], rate, 1.0])) for ap in range(aps)
            ),
        ]
        if gateways:
            serving, slack = cp.Variable(gateways, nonneg=True), cp.Variable(gateways, nonneg=True)
            at_ap = np.equal.outer(np.arange(aps), self._ap_of).astype(float)
            constraints += [
                barrier >= self._ready_s,
                slack <= barrier - self._ready_s + self._idle_s,  # a gateway without top work is not waited for
                serving >= cp.multiply(self._cycles, cp.inv_pos(slack)),  # row 6
                at_ap @ serving <= self._most,  # C2
                left + at_ap @ cp.multiply(self._energy_slope, cp.square(serving)) <= self._energy_j,  # row 13
            ]
        else:
            constraints.append(left <= self._energy_j)
        self._problem = cp.Problem(cp.Minimize(barrier + self._blocks * cp.inv_pos(rate)), constraints)

    def solve(self, serving: Serving, **solver_settings: Any) -> Modelled:
        """The optimum by CLARABEL, in Gcycles.

        Raises:
            ValueError: another assignment than the one compiled.
        """
        if not np.array_equal(serving.ap_of, self._ap_of) or len(serving.max_hz) != self._most.size:
            raise ValueError(f"compiled for gateways at {self._ap_of.tolist()}, not {serving.ap_of.tolist()}")
        kappa = serving.kappa * GIGA**3
        self._ready_s.value = serving.ready_s
        self._idle_s.value = (serving.cycles == 0).astype(float)
        self._cycles.value = serving.cycles / GIGA
        self._energy_slope.value = kappa[self._ap_of] * serving.cycles / GIGA
        self._most.value = serving.max_hz / GIGA
        self._energy_j.value = serving.energy_j
        self._speed.value = kappa ** (-1 / 3)
        self._blocks_per_cycle.value = GIGA / serving.cycles_per_block
        self._blocks.value = serving.blocks
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Solution may be inaccurate")  # the status says so
            try:
                self._problem.solve(solver=cp.CLARABEL, enforce_dpp=True, **solver_settings)
            except cp.SolverError:
                return Modelled(math.nan, str(cp.SOLVER_ERROR), math.nan)
        value = self._problem.value
        return Modelled(
            math.nan if value is None else float(value),
            str(self._problem.status),
            float(self._problem.solver_stats.solve_time),
        )


def dense_scan(serving: Serving) -> Long:
    """The least Theta + blocks/Lambda over a dense scan of Theta, in extended precision where the platform has it.

    Theta is written as the latest T_m plus an offset, whose grid is geometric from the least feasible one on, so that
    an optimum however close to the edge is resolved; then the best point's neighbourhood is scanned again, which the
    convexity of the sum allows. Lambda is the fixed point of MODEL.md section 2a, iterated down from f_j^max.
    """
    latest_s = Long(serving.ready_s.max(initial=0.0))
    works = serving.cycles > 0
    early_s = latest_s - serving.ready_s[works].astype(Long)
    cycles, ap_of = serving.cycles[works].astype(Long), serving.ap_of[works]
    at_ap = np.equal.outer(ap_of, np.arange(len(serving.max_hz))).astype(Long)
    max_hz, kappa, energy_j = (column.astype(Long) for column in (serving.max_hz, serving.kappa, serving.energy_j))
    per_block, blocks = serving.cycles_per_block.astype(Long), Long(serving.blocks)

    def demands(offsets: LongVector) -> tuple[LongVector, LongVector]:
        """[offsets, APs] Hz that serving takes and joules that it leaves."""
        with np.errstate(divide="ignore", invalid="ignore"):  # at the very instant T_m: infinite, or inf * 0
            hz = cycles / (offsets[:, None] + early_s)
            return hz @ at_ap, energy_j - kappa * ((cycles * hz**2) @ at_ap)

    def feasible(offset: Long) -> bool:
        hz, left_j = demands(np.array([offset]))
        return bool((hz <= max_hz).all() and (left_j >= 0).all())

    def latencies(offsets: LongVector) -> LongVector:
        left_j = np.maximum(demands(offsets)[1], 0)
        mining_hz = np.broadcast_to(max_hz, left_j.shape)
        with np.errstate(divide="ignore"):
            for _ in range(FIXED_POINT_STEPS):
                rate = (mining_hz / per_block).sum(axis=1)
                mining_hz = np.minimum(max_hz, np.cbrt(left_j * rate[:, None] / kappa))
            found: LongVector = latest_s + offsets + blocks / (mining_hz / per_block).sum(axis=1)
        return found

    least = _least_offset(feasible)
    steps = Long(10) ** np.arange(-30, 31).astype(Long)
    most = latencies(least + steps).min() - latest_s - blocks / (max_hz / per_block).sum() - least
    most = max(most, np.spacing(latest_s + least))
    grid = least + np.concatenate([[Long(0)], np.exp(np.linspace(np.log(most) - 60, np.log(most), SCAN_POINTS))])
    best = Long(math.inf)
    for _ in range(ZOOMS):
        found = latencies(grid)
        place = int(np.argmin(found))
        best = min(best, found[place])
        grid = np.linspace(grid[max(place - 1, 0)], grid[min(place + 1, len(grid) - 1)], ZOOM_POINTS)
    return best


def _least_offset(feasible: Any) -> Long:
    """The least offset that is feasible, by bisection down to neighbouring numbers."""
    low, high = Long(0), Long(1e-30)
    if feasible(low):
        return low
    while not feasible(high):
        low, high = high, high * 16
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if feasible(middle) else (middle, high)
    return high


@dataclass(frozen=True, slots=True)
class Packing:
    """H(Theta, Lambda) of MODEL.md section 2b.

    Attributes:
        value: min sum_j w_j U_j; inf where no choice of cuts meets the barrier and the rate.
        options: [DTs] a choice that attains it; None where there is none.
    """

    value: float
    options: tuple[int, ...] | None


def knapsack(problem: SlotProblem, barrier_s: float, rate: float) -> Packing:
    """The multiple-choice knapsack at a barrier and a block rate, as a mixed-integer program.

    Every combination of cuts at an AP that C4, C2 and the energy allow is one item, of which each AP takes one; sum_j
    lambda_j >= Lambda joins them. HiGHS holds that sum to 1e-9 of the rate.

    Raises:
        SettingsError: an AP has too many combinations.
        RuntimeError: HiGHS found neither an optimum nor that there is none.
    """
    items = [_combinations(problem, ap, barrier_s, rate) for ap in range(len(problem.network.max_hz))]
    if not all(len(values) for _, _, values, _ in items):
        return Packing(math.inf, None)
    taken = [cp.Variable(len(values), boolean=True) for _, _, values, _ in items]
    weighed = sum(values @ chosen for (_, _, values, _), chosen in zip(items, taken, strict=True))
    mined = sum((rates / rate) @ chosen for (_, _, _, rates), chosen in zip(items, taken, strict=True))
    program = cp.Problem(cp.Minimize(weighed), [mined >= 1, *(cp.sum(chosen) == 1 for chosen in taken)])
    exactly = {"mip_rel_gap": 0.0, "mip_abs_gap": 0.0, "mip_feasibility_tolerance": 1e-9}
    program.solve(solver=cp.HIGHS, **exactly)
    if program.status in (cp.INFEASIBLE, cp.settings.INFEASIBLE_OR_UNBOUNDED):
        return Packing(math.inf, None)
    if program.status != cp.OPTIMAL:
        raise RuntimeError(f"HiGHS ended with {program.status}")
    options = np.zeros(len(problem.network.tables), dtype=np.int64)
    for (twins, rows, _, _), chosen in zip(items, taken, strict=True):
        options[twins] = rows[int(np.argmax(chosen.value))]
    return Packing(float(program.value), tuple(options.tolist()))


def _combinations(
    problem: SlotProblem, ap: int, barrier_s: float, rate: float
) -> tuple[Indices, Indices, NDArray[np.float64], NDArray[np.float64]]:
    """What an AP may be given: its DTs, options [items, DTs], w_j U_j [items] and lambda_j [items]."""
    network, seen = problem.network, problem.observation
    twins = np.flatnonzero(network.ap_of[network.gateway_of] == ap)
    count = math.prod(network.counts[twins].tolist())
    if count > MOST_COMBINATIONS:
        raise SettingsError(f"{count} combinations of cuts at AP {ap} are over {MOST_COMBINATIONS}; use solve_exact")
    rows = np.array(list(itertools.product(*(range(network.counts[twin]) for twin in twins))), dtype=np.int64)
    rows = rows.reshape(count, len(twins))
    allowed = np.ones(count, dtype=bool)
    hz, used_j, flops = np.zeros(count), np.zeros(count), np.zeros(count)
    for gateway in np.flatnonzero(network.ap_of == ap):
        own = [place for place, twin in enumerate(twins) if network.gateway_of[twin] == gateway]
        spent_j, ready_s, cycles, work = (
            sum((table[twins[place], rows[:, place]] for place in own), np.zeros(count))
            for table in (problem.used_j, problem.ready_s, problem.cycles, problem.flops)
        )
        slack_s = barrier_s - ready_s
        allowed &= spent_j <= seen.gateway_energy_j[gateway] * (1 + TOLERANCE)
        allowed &= (slack_s > 0) | ((slack_s == 0) & (cycles == 0))
        serving_hz = np.where(cycles > 0, cycles / np.where(slack_s > 0, slack_s, 1.0), 0.0)
        hz += serving_hz
        used_j += network.kappa[ap] * cycles * serving_hz**2
        flops += work
    left_j = seen.ap_energy_j[ap] - used_j
    allowed &= (hz <= network.max_hz[ap]) & (left_j >= 0)
    earned = network.reputation(flops)
    mining_hz = np.minimum(network.max_hz[ap], np.cbrt(np.maximum(left_j, 0.0) * rate / network.kappa[ap]))
    rates = mining_hz / (network.cycles_per_block * np.exp(-network.alpha * earned - network.beta))
    return twins, rows[allowed], (problem.weights[ap] * earned)[allowed], rates[allowed]

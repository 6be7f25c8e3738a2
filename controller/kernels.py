"""The inner loops of the controller, compiled: plain numbers and arrays in, plain numbers out.

Everything here is MODEL.md section 2a on arrays; `frequency.py` says what it means and checks what comes in. Compiled
at the first call and kept beside the source, or in the user's cache where that is read-only.

Arrays: ready_s, cycles and ap_of are [gateways]; max_hz, kappa, energy_j and cycles_per_block are [APs].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """numba's `njit`, kept on disk; a function of its own because numba has no types."""
    return cast(Function, numba.njit(cache=True, error_model="numpy")(function))


ROOT_STEPS = 100
"""At most, of Newton's method from the side on which it cannot overshoot; some 5 are taken."""
SEARCH_STEPS = 200
"""At most, of the search for the best barrier; some 15 are taken."""
CLOSE = 1e-13
"""Relative: nearer than this two barriers are one."""


@compiled
def energies_left(
    barrier_s: float,
    ready_s: Vector,
    cycles: Vector,
    ap_of: Indices,
    kappa: Vector,
    energy_j: Vector,
    left_j: Vector,
    slope: Vector,
) -> None:
    """Writes R_j(Theta) = E_j - kappa_j sum_m C_m^3 / (Theta - T_m)^2 and its derivative into the last two."""
    left_j[:] = energy_j
    slope[:] = 0.0
    for m in range(len(ready_s)):
        if cycles[m] > 0:
            slack = barrier_s - ready_s[m]
            j = ap_of[m]
            if slack <= 0:
                left_j[j] = -math.inf
                continue
            used = kappa[j] * cycles[m] ** 3 / slack**2
            left_j[j] -= used
            slope[j] += 2 * used / slack


@compiled
def root_of_rate(full: Vector, scarce: Vector) -> float:
    """Lambda^(1/3), the largest x with x^3 = sum_j min(full_j, scarce_j x).

    full_j = f_j^max / (H gamma_j), scarce_j = (R_j / kappa_j)^(1/3) / (H gamma_j). The difference of both sides is
    concave in x and 0 at x = 0, so Newton's method from above the largest root comes down to it and never overshoots.
    """
    total = 0.0
    for j in range(len(full)):
        if scarce[j] > 0:
            total += full[j]
    x = total ** (1 / 3)
    for _ in range(ROOT_STEPS):
        value = -(x**3)
        slope = -3 * x * x
        for j in range(len(full)):
            if scarce[j] <= 0:
                continue
            if scarce[j] * x < full[j]:
                value += scarce[j] * x
                slope += scarce[j]
            else:
                value += full[j]
        if value >= 0 or slope >= 0:
            break
        lower = x - value / slope
        if lower >= x * (1 - 1e-15):
            break
        x = lower
    return float(x)


@compiled
def rate_at(
    barrier_s: float,
    ready_s: Vector,
    cycles: Vector,
    ap_of: Indices,
    max_hz: Vector,
    kappa: Vector,
    energy_j: Vector,
    cycles_per_block: Vector,
    work: Any,
) -> tuple[float, float]:
    """Lambda at a barrier, and its derivative by the barrier. `work` is [4, APs] of scratch space."""
    left_j, slope, full, scarce = work[0], work[1], work[2], work[3]
    energies_left(barrier_s, ready_s, cycles, ap_of, kappa, energy_j, left_j, slope)
    for j in range(len(max_hz)):
        full[j] = max_hz[j] / cycles_per_block[j]
        scarce[j] = (left_j[j] / kappa[j]) ** (1 / 3) / cycles_per_block[j] if left_j[j] > 0 else 0.0
    x = root_of_rate(full, scarce)
    if x <= 0:
        return 0.0, math.inf
    grows = 0.0
    held = 3 * x * x
    for j in range(len(max_hz)):
        if 0 < scarce[j] * x < full[j]:
            grows += scarce[j] * slope[j] / (3 * left_j[j]) * x
            held -= scarce[j]
    return x**3, 3 * x * x * grows / held


@compiled
def least_barrier(
    ready_s: Vector, cycles: Vector, ap_of: Indices, max_hz: Vector, kappa: Vector, energy_j: Vector
) -> float:
    """The least Theta at which C2 holds and no energy is overdrawn; at least every T_m.

    Demand falls and is convex in Theta, so Newton's method from where one gateway alone already takes all rises to
    the root and never oversteps it.
    """
    barrier_s = 0.0
    for m in range(len(ready_s)):
        j = ap_of[m]
        alone = ready_s[m]
        if cycles[m] > 0:
            alone += max(cycles[m] / max_hz[j], math.sqrt(kappa[j] * cycles[m] ** 3 / energy_j[j]))
        barrier_s = max(barrier_s, alone)
    for j in range(len(max_hz)):
        for what in range(2):
            for _ in range(ROOT_STEPS):
                demand, slope = 0.0, 0.0
                for m in range(len(ready_s)):
                    if ap_of[m] == j and cycles[m] > 0:
                        slack = barrier_s - ready_s[m]
                        if what == 0:
                            demand += cycles[m] / slack
                            slope -= cycles[m] / slack**2
                        else:
                            demand += kappa[j] * cycles[m] ** 3 / slack**2
                            slope -= 2 * kappa[j] * cycles[m] ** 3 / slack**3
                excess = demand - (max_hz[j] if what == 0 else energy_j[j])
                if excess <= 0:
                    break
                higher = barrier_s - excess / slope
                if higher <= barrier_s * (1 + 1e-15):
                    break
                barrier_s = higher
    return float(barrier_s)


@compiled
def best_barrier(
    ready_s: Vector,
    cycles: Vector,
    ap_of: Indices,
    max_hz: Vector,
    kappa: Vector,
    energy_j: Vector,
    cycles_per_block: Vector,
    blocks: float,
) -> tuple[float, float]:
    """Theta and Lambda that make Theta + blocks/Lambda least: the root of its slope, bracketed.

    The sum is convex in Theta; its slope rises, with jumps where an AP reaches f^max.
    """
    work = np.empty((4, len(max_hz)))
    low = least_barrier(ready_s, cycles, ap_of, max_hz, kappa, energy_j)
    rate, growth = rate_at(low, ready_s, cycles, ap_of, max_hz, kappa, energy_j, cycles_per_block, work)
    at_low = 1 - blocks * growth / rate**2 if rate > 0 else -math.inf
    if at_low >= 0:
        return low, rate
    step = max(low, 1e-9)
    high, high_rate, at_high = low, rate, at_low
    while at_high < 0:
        if high > low and at_high > -math.inf:
            low, at_low = high, at_high
        high = high + step
        step *= 2
        high_rate, growth = rate_at(high, ready_s, cycles, ap_of, max_hz, kappa, energy_j, cycles_per_block, work)
        at_high = 1 - blocks * growth / high_rate**2 if high_rate > 0 else -math.inf
    # Secants with a halved end (Illinois), and a bisection whenever one shrank the bracket by less than half.
    halve = at_low == -math.inf
    for _ in range(SEARCH_STEPS):
        width = high - low
        if width <= CLOSE * high:
            break
        if halve:
            middle = low + width / 2
        else:
            middle = low + width * (at_low / (at_low - at_high))
            middle = min(max(middle, low + 1e-3 * width), high - 1e-3 * width)
        rate, growth = rate_at(middle, ready_s, cycles, ap_of, max_hz, kappa, energy_j, cycles_per_block, work)
        at_middle = 1 - blocks * growth / rate**2 if rate > 0 else -math.inf
        if at_middle >= 0:
            high, high_rate, at_high = middle, rate, at_middle
            if at_middle == 0:
                break
        else:
            low, at_low = middle, at_middle
        halve = at_low == -math.inf or high - low > width / 2
    return high, high_rate


@compiled
def best_barriers(
    ready_s: Any,
    cycles: Any,
    ap_of: Indices,
    max_hz: Vector,
    kappa: Vector,
    energy_j: Vector,
    cycles_per_block: Any,
    blocks: float,
) -> tuple[Vector, Vector]:
    """`best_barrier` of many: ready_s, cycles [candidates, gateways], cycles_per_block [candidates, APs]."""
    barriers_s, rates = np.empty(len(ready_s)), np.empty(len(ready_s))
    for k in range(len(ready_s)):
        barriers_s[k], rates[k] = best_barrier(
            ready_s[k], cycles[k], ap_of, max_hz, kappa, energy_j, cycles_per_block[k], blocks
        )
    return barriers_s, rates

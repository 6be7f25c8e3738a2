"""The inner loops of the controller, compiled: plain numbers and arrays in, plain numbers out.

Everything here is MODEL.md section 2a on arrays; `frequency.py` says what it means and checks what comes in. Compiled
at the first call and kept beside the source, or in the user's cache where that is read-only.

Arrays: ready_s, cycles and ap_of are [gateways]; max_hz, kappa, energy_j and cycles_per_block are [APs].
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]

COMPILED_FILES = (
    "curves.py",
    "exchanging.py",
    "hulls.py",
    "kernels.py",
    "lower_bound.py",
    "pricing.py",
    "searching.py",
)
"""Where compiled functions stand; they call each other across these files."""

Function = TypeVar("Function", bound=Callable[..., Any])


def _forget_stale() -> None:
    """Removes what was compiled before the last change to any of these files.

    numba looks at a function's own file only: a caller of something that has changed elsewhere would stay as it was.
    """
    folder = Path(__file__).parent
    changed_s = max((folder / name).stat().st_mtime for name in COMPILED_FILES)
    for index in (folder / "__pycache__").glob("*.nbi"):
        with contextlib.suppress(OSError):  # another process was first, or it is not ours to write
            if index.stat().st_mtime < changed_s:
                index.unlink()


_forget_stale()


def compiled(function: Function) -> Function:
    """numba's `njit`, kept on disk; a function of its own because numba has no types."""
    return cast(Function, numba.njit(cache=True, error_model="numpy")(function))


ROOT_STEPS = 100
"""At most, of Newton's method from the side on which it cannot overshoot; some 5 are taken."""
SEARCH_STEPS = 400
"""At most, of the search for the best barrier; some 8 are taken."""
FIRST, STRIDE = 0.1, 8.0
"""Offset from the least barrier at which that search begins, of the barrier; and the factor to a bracket."""
MOST_SLOW = 4
"""Secants in a row that do not halve the bracket; then it is halved."""
CLOSE = 1e-14
"""Relative: a sum nearer to its minimum than this is at it, and two barriers nearer than this are one."""


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
    return float(root_below(np.cbrt(total), full, scarce))


@compiled
def root_below(x: float, full: Vector, scarce: Vector) -> float:
    """`root_of_rate` from any x that is not below it."""
    for _ in range(ROOT_STEPS):
        value = -x * x * x
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
    most: float = math.inf,
) -> tuple[float, float]:
    """Lambda at a barrier, and its derivative by the barrier. `work` is [4, APs] of scratch space.

    `most` is Lambda at a later barrier, where that is known: it only rises, so the search for it starts there.
    """
    left_j, slope, full, scarce = work[0], work[1], work[2], work[3]
    energies_left(barrier_s, ready_s, cycles, ap_of, kappa, energy_j, left_j, slope)
    for j in range(len(max_hz)):
        full[j] = max_hz[j] / cycles_per_block[j]
        scarce[j] = np.cbrt(left_j[j] / kappa[j]) / cycles_per_block[j] if left_j[j] > 0 else 0.0
    x = root_of_rate(full, scarce) if most == math.inf else root_below(np.cbrt(most), full, scarce)
    if x <= 0:
        return 0.0, math.inf
    grows = 0.0
    held = 3 * x * x
    for j in range(len(max_hz)):
        if left_j[j] <= 0:
            grows = math.inf  # the first joule mines at once: the slope of R^(1/3) at 0
        elif scarce[j] * x < full[j]:
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
            alone = max(alone, np.nextafter(ready_s[m], math.inf))  # work too small to show beside T_m
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
    """Theta and Lambda that make Theta + blocks/Lambda least, to `CLOSE`: the root of its slope, bracketed.

    The sum is convex in Theta; its slope rises, with jumps where an AP reaches f^max.
    """
    work = np.empty((4, len(max_hz)))
    least_s = least_barrier(ready_s, cycles, ap_of, max_hz, kappa, energy_j)
    least_rate, growth = rate_at(least_s, ready_s, cycles, ap_of, max_hz, kappa, energy_j, cycles_per_block, work)
    if blocks * growth <= least_rate**2:
        return least_s, least_rate
    # Beyond it the slope is 1 - exp(y), where y falls nearly linearly in the logarithm of the offset: secants there.
    low, y_low, low_rate = 0.0, math.inf, 0.0
    high, y_high, high_rate = math.inf, -math.inf, math.inf
    offset = max(FIRST * least_s, 1e-9)
    last, y_last, slow = 0.0, math.inf, 0
    for _ in range(SEARCH_STEPS):
        rate, growth = rate_at(
            least_s + offset, ready_s, cycles, ap_of, max_hz, kappa, energy_j, cycles_per_block, work, high_rate
        )
        y = math.inf if growth == math.inf else math.log(blocks * growth / rate**2) if growth > 0 else -math.inf
        before = high - low
        if y <= 0:
            high, y_high, high_rate = offset, y, rate
        else:
            low, y_low, low_rate = offset, y, rate
        width = high - low
        slow = slow + 1 if width > before / 2 else 0
        # By convexity the minimum lies at most |slope| * width below the sum at either end.
        if high < math.inf:
            if (
                -math.expm1(y_high) * width <= CLOSE * (least_s + high + blocks / high_rate)
                or width <= CLOSE * least_s
            ):
                break
            if y_low < math.inf and math.expm1(y_low) * width <= CLOSE * (least_s + low + blocks / low_rate):
                return least_s + low, low_rate
        previous, y_previous, last, y_last = last, y_last, offset, y
        if high == math.inf:
            offset = low * STRIDE
        elif low == 0:
            offset = high / STRIDE
        elif slow > MOST_SLOW or y_low == math.inf or y_high == -math.inf:
            offset = math.sqrt(low * high)
        else:
            if math.isinf(y_previous) or y_previous == y:
                previous, y_previous = (low, y_low) if y <= 0 else (high, y_high)
            offset *= (offset / previous) ** (y / (y_previous - y))
            if not low < offset < high:
                offset = low * (high / low) ** (y_low / (y_low - y_high))
    return least_s + high, high_rate


@compiled
def best_plan(
    ready_s: Vector,
    cycles: Vector,
    ap_of: Indices,
    max_hz: Vector,
    kappa: Vector,
    energy_j: Vector,
    cycles_per_block: Vector,
    blocks: float,
) -> tuple[float, float, Vector, Vector]:
    """`best_barrier` with the frequencies that it takes: Theta, Lambda, f_m^A [gateways] and f_j^bloc [APs]."""
    barrier_s, rate = best_barrier(ready_s, cycles, ap_of, max_hz, kappa, energy_j, cycles_per_block, blocks)
    serving_hz, left_j = np.zeros(len(ready_s)), energy_j.copy()
    for m in range(len(ready_s)):
        if cycles[m] > 0:
            serving_hz[m] = cycles[m] / (barrier_s - ready_s[m])
            left_j[ap_of[m]] -= kappa[ap_of[m]] * cycles[m] * serving_hz[m] ** 2
    mining_hz = np.empty(len(max_hz))
    for j in range(len(max_hz)):
        mining_hz[j] = min(max_hz[j], np.cbrt(max(left_j[j], 0.0) * rate / kappa[j]))
    return barrier_s, rate, serving_hz, mining_hz


@compiled
def sound(
    ready_s: Vector,
    cycles: Vector,
    ap_of: Indices,
    max_hz: Vector,
    kappa: Vector,
    energy_j: Vector,
    cycles_per_block: Vector,
    blocks: float,
) -> bool:
    """Whether lengths fit and every number is where it can be."""
    gateways, aps = len(ap_of), len(max_hz)
    if len(ready_s) != gateways or len(cycles) != gateways or aps == 0 or not 0 < blocks < math.inf:
        return False
    if len(kappa) != aps or len(energy_j) != aps or len(cycles_per_block) != aps:
        return False
    for m in range(gateways):
        if not (0 <= ready_s[m] < math.inf and 0 <= cycles[m] < math.inf and 0 <= ap_of[m] < aps):
            return False
    for j in range(aps):
        for column in (max_hz, kappa, energy_j, cycles_per_block):
            if not 0 < column[j] < math.inf:
                return False
    return True


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

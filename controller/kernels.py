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


def inlined(function: Function) -> Function:
    """`compiled` for the smallest loops: part of their callers, because a call would cost more than they do."""
    return cast(Function, numba.njit(cache=True, error_model="numpy", forceinline=True)(function))


ROOT_STEPS = 100
"""At most, of Newton's method from the side on which it cannot overshoot; some 2 to 5 are taken."""
SEARCH_STEPS = 400
"""At most, of the search for the best barrier; some 4 are taken."""
FIRST, STRIDE = 0.1, 8.0
"""Offset from the least barrier at which that search begins, of the barrier; and the factor to a bracket."""
POWER = 1.5
"""Of the offset, with which the slope beyond -1 falls where one AP mines all (then Lambda rises as the root of R)."""
SHORT = 1e-3
"""Steps of Newton's method, of the offset, whose length is trusted to twice itself."""
MOST_SLOW = 4
"""Steps in a row that do not halve the bracket, nor the slope's logarithm; then the bracket is halved."""
CLOSE = 1e-14
"""Relative: a sum nearer to its minimum than this is at it, and two barriers nearer than this are one."""


@inlined
def energies_left(
    barrier_s: float,
    ready_s: Vector,
    cycles: Vector,
    ap_of: Indices,
    kappa: Vector,
    energy_j: Vector,
    left_j: Vector,
    slope: Vector,
    bend: Vector,
) -> None:
    """Writes R_j(Theta) = E_j - kappa_j sum_m C_m^3 / (Theta - T_m)^2 and its two derivatives into the last three."""
    for j in range(len(left_j)):
        left_j[j], slope[j], bend[j] = energy_j[j], 0.0, 0.0
    for m in range(len(ready_s)):
        if cycles[m] > 0:
            slack = barrier_s - ready_s[m]
            j = ap_of[m]
            if slack <= 0:
                left_j[j] = -math.inf
                continue
            per_s = 1 / slack
            hz = cycles[m] * per_s
            used = kappa[j] * cycles[m] * hz * hz
            left_j[j] -= used
            slope[j] += 2 * used * per_s
            bend[j] -= 6 * used * per_s * per_s


@inlined
def root_of_rate(full: Vector, scarce: Vector, most: float = math.inf) -> float:
    """Lambda^(1/3), the largest x with x^3 = sum_j min(full_j, scarce_j x); `most` is a rate known to be no less.

    full_j = f_j^max / (H gamma_j), scarce_j = (R_j / kappa_j)^(1/3) / (H gamma_j). The difference of both sides is
    concave in x and 0 at x = 0, so Newton's method from above the largest root comes down to it and never overshoots.
    """
    total, steep = 0.0, 0.0
    for j in range(len(full)):
        if scarce[j] > 0:
            total += full[j]
            steep += scarce[j]
    total = min(total, most)
    # Not below the root are cbrt(sum of full) and sqrt(sum of scarce), which is the root if no AP is at f^max.
    x = math.sqrt(steep)
    if x * steep > total:
        x = np.cbrt(total)
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


@inlined
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
) -> tuple[float, float, float]:
    """Lambda at a barrier, and its two derivatives by the barrier. `work` is [5, APs] of scratch space.

    `most` is a rate that Lambda does not exceed, where one is known: the search for it starts there.
    """
    left_j, slope, bend, full, scarce = work[0], work[1], work[2], work[3], work[4]
    energies_left(barrier_s, ready_s, cycles, ap_of, kappa, energy_j, left_j, slope, bend)
    for j in range(len(max_hz)):
        full[j] = max_hz[j] / cycles_per_block[j]
        scarce[j] = np.cbrt(left_j[j] / kappa[j]) / cycles_per_block[j] if left_j[j] > 0 else 0.0
    x = root_of_rate(full, scarce, most)
    if x <= 0:
        return 0.0, math.inf, 0.0
    # x^3 = F + S x, where S is the sum of those that are scarce: derivatives of S, then of x, then of x^3.
    first, second, held = 0.0, 0.0, 3 * x * x
    for j in range(len(max_hz)):
        if left_j[j] <= 0:
            return x**3, math.inf, 0.0  # the first joule mines at once: the slope of R^(1/3) at 0
        if scarce[j] * x < full[j]:
            relative = slope[j] / left_j[j]
            first += scarce[j] * relative / 3
            second += scarce[j] * (bend[j] / left_j[j] - relative * relative * (2 / 3)) / 3
            held -= scarce[j]
    grows = x * first / held
    bends = (2 * grows * first + x * second - 6 * x * grows * grows) / held
    return x**3, 3 * x * x * grows, 3 * x * (x * bends + 2 * grows * grows)


@inlined
def alone(ready_s: float, cycles: float, max_hz: float, kappa: float, energy_j: float) -> float:
    """The least Theta of a gateway that has all of its AP's speed and energy for itself."""
    if cycles == 0:
        return ready_s
    by_work_s = max(cycles / max_hz, math.sqrt(kappa * cycles**3 / energy_j))
    return float(max(ready_s + by_work_s, np.nextafter(ready_s, math.inf)))  # work too small to show beside T_m


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
        barrier_s = max(barrier_s, alone(ready_s[m], cycles[m], max_hz[j], kappa[j], energy_j[j]))
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

    The sum is convex in Theta. Its slope is 1 - exp(y), and y falls about linearly in log(Theta - Theta_min + reach),
    where reach is 0 if the slope begins at -inf: Newton's method. Where y jumps, because an AP reaches f^max, that
    goes back and forth; there the tangents from both sides meet nearly at the jump.
    """
    columns = ready_s, cycles, ap_of, max_hz, kappa, energy_j, cycles_per_block
    work = np.empty((5, len(max_hz)))
    least_s = least_barrier(ready_s, cycles, ap_of, max_hz, kappa, energy_j)
    rate, growth, bend = rate_at(least_s, *columns, work)
    share = blocks * growth / rate**2
    if share <= 1:
        return least_s, rate
    reach, offset = 0.0, max(FIRST * least_s, 1e-9)
    if share < math.inf:
        reach = POWER / (2 * growth / rate - bend / growth)
        offset = min(reach * (share ** (1 / POWER) - 1), blocks / rate)
    low, low_rate, low_growth, low_value, low_slope = 0.0, rate, growth, least_s + blocks / rate, 1 - share
    high, high_rate, high_growth, high_value, high_slope = math.inf, math.inf, 0.0, math.inf, 1.0
    width, flattest, slow = math.inf, math.inf, 0
    for _ in range(SEARCH_STEPS):
        # Lambda is concave in Theta: its tangents lie above it.
        most = low_rate + low_growth * (offset - low)
        if high < math.inf:
            most = min(most, high_rate - high_growth * (high - offset))
        rate, growth, bend = rate_at(least_s + offset, *columns, work, most)
        share = blocks * growth / rate**2
        value, slope, y = least_s + offset + blocks / rate, 1 - share, math.log(share)
        ahead = (offset + reach) * math.exp(y / (offset + reach) / (2 * growth / rate - bend / growth)) - reach
        ahead = min(ahead, value - least_s)  # at the minimum Theta alone is less than the sum is here
        # By convexity the minimum lies at most |slope| times its distance below; a short step hardly errs in that.
        step = abs(ahead - offset)
        if step <= SHORT * (offset + reach) and abs(slope) * 2 * step <= CLOSE * value:
            return least_s + offset, rate
        if share <= 1:
            high, high_rate, high_growth, high_value, high_slope = offset, rate, growth, value, slope
        else:
            low, low_rate, low_growth, low_value, low_slope = offset, rate, growth, value, slope
        width, before = high - low, width
        meet = low + (high_value - low_value - high_slope * width) / (low_slope - high_slope)
        best = min(low_value, high_value)
        if best - high_value + high_slope * (high - meet) <= CLOSE * best or width <= CLOSE * least_s:
            break
        slow = slow + 1 if abs(y) > flattest / 2 and width > before / 2 else 0
        flattest = min(flattest, abs(y))
        if slow == 0 and low < ahead < high:
            offset = ahead
        elif high == math.inf:
            offset = low * STRIDE
        elif slow <= MOST_SLOW and low < meet < high:
            offset = meet
        else:
            offset = math.sqrt(low * high) if low > 0 else high / STRIDE
    return (least_s + low, low_rate) if low_value < high_value else (least_s + high, high_rate)


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

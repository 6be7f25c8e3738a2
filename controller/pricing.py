"""Compiled loops of the exact solver: a bound over a box of barriers and block rates, and what survives it.

MODEL.md section 2b with a price mu on block rate. Dualising sum_j lambda_j >= Lambda leaves, for each AP alone,

    phi_c(Theta, Lambda) = w_j U_c - mu psi_c(Theta, Lambda) / (H gamma_c),
    psi_c = min(f_j^max, (R_c(Theta) Lambda / kappa_j)^(1/3)),

and for all together V Theta + V blocks/Lambda + mu Lambda + sum_j min_c phi_c, a lower bound on the slot's objective
for every mu >= 0. psi_c is concave (R_c is concave and rising, the exponents add up to 2/3), so on a box its tangent
at the centre bounds it from above. A minimum of linear functions is concave and lies above the bilinear interpolation
of its values at the corners; with 1/Lambda replaced by its tangent the whole bound is bilinear, so its least value
stands at a corner. The bound's error is of second order in the size of the box, and in the range of U that the box
admits.

A box is (Theta low, Theta high, Lambda low, Lambda high). Its corners are (Theta, Lambda) at (low, low), (low, high),
(high, low), (high, high). `alive` are rows of `frontier.Choices`, AP after AP, those of AP j from starts[j] on.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from splitnet.controller.kernels import Vector, compiled
from splitnet.controller.searching import evaluate

PRICE_STEPS = 4
"""Prices that are tried for a box, the first one that of the box it came from."""
CLOSE = 1e-3
"""Relative: supply this near to Lambda, no other price is tried."""


@compiled
def price(
    alive: Any,
    picks: Any,
    ready_s: Any,
    cycles: Any,
    worth: Vector,
    easiness: Vector,
    max_hz: float,
    kappa: float,
    energy_j: float,
    box: Any,
    mu: float,
    prices: Any,
    supply: Any,
    least: Vector,
) -> None:
    """Writes phi of the alive choices of one AP at the corners of a box.

    Args:
        ready_s, cycles: [gateways of the AP, options].
        prices: [alive, 4] phi, or inf where the choice holds C2 and C5 nowhere in the box.
        supply: [alive, 4] lambda by the same tangents.
        least: [4] the least phi at each corner.
    """
    gateways, options = ready_s.shape
    half_s = (box[1] - box[0]) / 2
    rate, half_rate = (box[2] + box[3]) / 2, (box[3] - box[2]) / 2
    used, slope = np.zeros((gateways, options)), np.zeros((gateways, options))
    high_hz, high_used = np.zeros((gateways, options)), np.zeros((gateways, options))
    for g in range(gateways):
        for k in range(options):
            work = cycles[g, k]
            slack = box[1] - ready_s[g, k]
            if slack < 0 or (slack == 0 and work > 0):
                high_hz[g, k] = math.inf
            elif work > 0:
                high_hz[g, k] = work / slack
                high_used[g, k] = kappa * work * high_hz[g, k] * high_hz[g, k]
                slack -= half_s
                if slack <= 0:
                    used[g, k] = math.inf
                else:
                    hz = work / slack
                    used[g, k] = kappa * work * hz * hz
                    slope[g, k] = 2 * used[g, k] / slack
    least[:] = math.inf
    for a in range(len(alive)):
        c = alive[a]
        hz, left, high_left, growth = 0.0, energy_j, energy_j, 0.0
        for g in range(gateways):
            k = picks[c, g]
            hz += high_hz[g, k]
            high_left -= high_used[g, k]
            left -= used[g, k]
            growth += slope[g, k]
        if hz > max_hz * (1 + 1e-12) or high_left < -1e-12 * energy_j:
            prices[a, :] = math.inf
            supply[a, :] = 0.0
            continue
        by_barrier, by_rate = 0.0, 0.0
        if left > 0:
            mined = np.cbrt(left * rate / kappa)
            if mined >= max_hz:
                mined = max_hz
            else:
                by_barrier = mined * growth / (3 * left) * half_s
                by_rate = mined / (3 * rate) * half_rate
        else:
            mined = min(max_hz, np.cbrt(max(high_left, 0.0) * box[3] / kappa))
        for corner in range(4):
            signed = mined + (by_barrier if corner >= 2 else -by_barrier) + (by_rate if corner % 2 else -by_rate)
            supply[a, corner] = easiness[c] * signed
            prices[a, corner] = worth[c] - mu * supply[a, corner]
            least[corner] = min(least[corner], prices[a, corner])


@compiled
def bound(
    box: Any,
    mu: float,
    alive: Any,
    starts: Any,
    choices: Any,
    tables: Any,
    world: Any,
    enough: float,
    prices: Any,
    least: Any,
    costs: Vector,
) -> tuple[float, float, float]:
    """The best bound over a few prices, until it is `enough`: (bound, mu, largest supply of one AP).

    Writes prices [alive, 4], least [APs, 4] and costs [4], what Theta and Lambda cost at the corners, for that price.
    The bound is inf where some AP has nothing to choose in the box.
    """
    picks, worth, easiness = choices
    _, _, ready_s, cycles, _, _, _ = tables
    _, max_hz, kappa, energy_j, v, blocks = world
    aps = len(max_hz)
    supply, trial = np.empty((len(alive), 4)), np.empty((len(alive), 4))
    trial_least, trial_costs = np.empty((aps, 4)), np.empty(4)
    rate, half_rate = (box[2] + box[3]) / 2, (box[3] - box[2]) / 2
    best, best_mu, best_supply = -math.inf, mu, 0.0
    low, high = 0.0, math.inf
    for _ in range(PRICE_STEPS):
        for corner in range(4):
            apart = half_rate if corner % 2 else -half_rate
            at_s = box[1] if corner >= 2 else box[0]
            trial_costs[corner] = v * at_s + v * blocks * (1 / rate - apart / rate**2) + mu * (rate + apart)
        for j in range(aps):
            part = slice(starts[j], starts[j + 1])
            price(
                alive[part], picks, ready_s[j], cycles[j], worth, easiness, max_hz[j], kappa[j], energy_j[j],
                box, mu, trial[part], supply[part], trial_least[j],
            )  # fmt: skip
        value, worst = math.inf, 0
        for corner in range(4):
            total = trial_costs[corner]
            for j in range(aps):
                total += trial_least[j, corner]
            if total < value:
                value, worst = total, corner
        if value == math.inf:
            return math.inf, mu, 0.0
        offered, largest = 0.0, 0.0
        for j in range(aps):
            for a in range(starts[j], starts[j + 1]):
                if trial[a, worst] == trial_least[j, worst]:
                    offered += supply[a, worst]
                    largest = max(largest, supply[a, worst])
                    break
        if value > best:
            best, best_mu, best_supply = value, mu, largest
            prices[:] = trial
            least[:] = trial_least
            costs[:] = trial_costs
        if best >= enough:
            break
        missing = (box[3] if worst % 2 else box[2]) - offered
        if abs(missing) < CLOSE * rate:
            break
        if missing > 0:
            low = mu
            mu = 2 * mu if high == math.inf else math.sqrt(low * high)
        else:
            high = mu
            mu = mu / 2 if low == 0 else math.sqrt(low * high)
    return best, best_mu, best_supply


@compiled
def survivors(prices: Any, starts: Any, least: Any, costs: Vector, cutoff: float) -> Any:
    """[alive] whether a choice may be part of a plan below the cutoff, by its price, others at their least."""
    aps = len(least)
    others = np.zeros((aps, 4))
    for j in range(aps):
        others[j] = costs
        for i in range(aps):
            if i != j:
                others[j] += least[i]
    stays = np.empty(len(prices), np.bool_)
    for j in range(aps):
        for a in range(starts[j], starts[j + 1]):
            lowest = math.inf
            for corner in range(4):
                lowest = min(lowest, others[j, corner] + prices[a, corner])
            stays[a] = lowest < cutoff
    return stays


@compiled
def best_joint(
    alive: Any,
    starts: Any,
    prices: Any,
    least: Any,
    costs: Vector,
    choices: Any,
    tables: Any,
    world: Any,
    cutoff: float,
    most: int,
    best: Any,
) -> tuple[float, int, bool]:
    """The best joint choice of the alive ones, each with its exact frequencies, if it is below `cutoff`.

    Depth first over the APs; a branch whose price bound is not below the best so far is left. Writes `best`, its plan
    [APs, gateways of an AP].

    Returns:
        The least objective (or the cutoff), plans evaluated, whether all were looked at before `most` of them.
    """
    picks, worth, easiness = choices
    aps = len(starts) - 1
    rest = np.zeros((aps + 1, 4))  # what the APs that are not yet decided cost at the least
    for j in range(aps - 1, -1, -1):
        rest[j] = rest[j + 1] + least[j]
    partial = np.zeros((aps + 1, 4))
    partial[0] = costs
    place = starts[:-1] - 1
    rows = np.zeros(aps, np.int64)
    plan, plan_worth, plan_easiness = np.zeros(best.shape, np.int64), np.empty(aps), np.empty(aps)
    evaluated = 0
    j = 0
    while j >= 0:
        place[j] += 1
        if place[j] >= starts[j + 1]:
            place[j] = starts[j] - 1
            j -= 1
            continue
        lowest = math.inf
        for corner in range(4):
            partial[j + 1, corner] = partial[j, corner] + prices[place[j], corner]
            lowest = min(lowest, partial[j + 1, corner] + rest[j + 1, corner])
        if lowest >= cutoff:
            continue
        rows[j] = alive[place[j]]
        plan[j] = picks[rows[j]]
        plan_worth[j], plan_easiness[j] = worth[rows[j]], easiness[rows[j]]
        if j < aps - 1:
            j += 1
            continue
        if evaluated >= most:
            return cutoff, evaluated, False
        evaluated += 1
        objective, _ = evaluate(plan, plan_worth, plan_easiness, tables, world)
        if objective < cutoff:
            cutoff = objective
            best[:] = plan
    return cutoff, evaluated, True


@compiled
def spread(alive: Any, starts: Any, earned: Vector) -> tuple[int, float, float]:
    """The AP whose alive choices differ most in reputation: (AP, least, most)."""
    widest, low, high = 0, 0.0, 0.0
    for j in range(len(starts) - 1):
        least, most = math.inf, -math.inf
        for a in range(starts[j], starts[j + 1]):
            least = min(least, earned[alive[a]])
            most = max(most, earned[alive[a]])
        if most - least > high - low:
            widest, low, high = j, least, most
    return widest, low, high

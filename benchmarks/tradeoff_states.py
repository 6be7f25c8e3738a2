"""The tabulated world of `tradeoff`: every plan of a few slots, evaluated once, and the best that any policy can do.

In such a world P1 is an argmin over a table, so DPRA runs without solver error (C = 0 in MODEL.md section 2c), and
tau* is a linear program over mixtures of plans. It is found from its dual by cutting planes, which gives the prices
mu* as well; the program over all mixtures gives it a second time.

Does not know queues or V: `tradeoff.py` runs the slots.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, hstack, vstack
from scipy.spatial import ConvexHull, QhullError

from splitnet.controller.kernels import best_barriers, compiled
from splitnet.controller.queues import drift_bound
from splitnet.controller.slot import TOLERANCE, Indices, Matrix, Network, Observation, SlotProblem, Vector
from splitnet.errors import SettingsError

CLOSE = 1e-9
"""Relative: where the cutting planes stop, far below every gap that is measured."""
MOST_PLANES = 1000
FEASIBLE = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


@compiled
def cheapest(first: int, last: int, latency_s: Vector, reputation: Matrix, v: float, weights: Vector) -> int:
    """The plan in first..last-1 of least V tau + sum_j w_j U_j; the first of equals."""
    best, least = first, np.inf
    for plan in range(first, last):
        cost = v * latency_s[plan]
        for ap in range(len(weights)):
            cost += weights[ap] * reputation[plan, ap]
        if cost < least:
            best, least = plan, cost
    return best


@compiled
def all_cheapest(starts: Indices, latency_s: Vector, reputation: Matrix, v: float, weights: Vector) -> Indices:
    """[states] `cheapest` of each."""
    found = np.empty(len(starts) - 1, dtype=np.int64)
    for state in range(len(found)):
        found[state] = cheapest(starts[state], starts[state + 1], latency_s, reputation, v, weights)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """Slots that can come, with the plans of each that can be optimal for some V > 0 and weights of any sign.

    Attributes:
        latency_s: [plans] tau with the best frequencies.
        reputation: [plans, APs] U_j.
        starts: [states + 1] where each state's plans begin.
        affordable: plans within C4, before those that never are optimal were dropped.
    """

    latency_s: Vector
    reputation: Matrix
    starts: Indices
    affordable: int

    def __post_init__(self) -> None:
        if (
            len(self.latency_s) != len(self.reputation)
            or self.starts[0] != 0
            or self.starts[-1] != len(self.latency_s)
        ):
            raise ValueError("latencies, reputations and starts do not fit")
        if (np.diff(self.starts) < 1).any():
            raise ValueError("every state needs a plan")

    @property
    def count(self) -> int:
        return len(self.starts) - 1

    @property
    def owner(self) -> Indices:
        """[plans] the state of each."""
        return np.repeat(np.arange(self.count), np.diff(self.starts))

    def least(self, v: float, weights: Vector) -> Indices:
        """[states] the plan of least V tau + w U."""
        chosen: Indices = all_cheapest(self.starts, self.latency_s, self.reputation, v, weights)
        return chosen


def tabulate(network: Network, observations: Iterable[Observation]) -> States:
    """Every combination of cuts of every observation, with its best frequencies (MODEL.md section 2a)."""
    options = np.array(list(itertools.product(*map(range, network.counts.tolist()))))
    latencies, reputations, starts, affordable = [], [], [0], 0
    for observation in observations:
        latency_s, reputation = plans_of(network, observation, options)
        kept = can_be_least(latency_s, reputation)
        latencies.append(latency_s[kept])
        reputations.append(reputation[kept])
        starts.append(starts[-1] + len(kept))
        affordable += len(latency_s)
    return States(np.concatenate(latencies), np.concatenate(reputations), np.array(starts), affordable)


def plans_of(network: Network, observation: Observation, options: Indices) -> tuple[Vector, Matrix]:
    """tau [plans] and U [plans, APs] of those options [.., DTs] that every gateway affords.

    Raises:
        SettingsError: there are none.
    """
    aps = len(network.max_hz)
    problem = SlotProblem(network, observation, np.zeros(aps), 1.0)
    problem.check()
    twins, at = np.arange(len(network.tables)), np.eye(len(network.ap_of))[network.gateway_of]

    def by_gateway(cells: Matrix) -> Matrix:
        return np.asarray(cells[twins, options] @ at)

    within = (by_gateway(problem.used_j) <= observation.gateway_energy_j * (1 + TOLERANCE)).all(axis=1)
    options = options[within]
    reputation = network.reputation(by_gateway(problem.flops) @ np.eye(aps)[network.ap_of])
    per_block = network.cycles_per_block * np.exp(-network.alpha * reputation - network.beta)
    barrier_s, rate = best_barriers(
        by_gateway(problem.ready_s), by_gateway(problem.cycles), network.ap_of, network.max_hz, network.kappa,
        observation.ap_energy_j, per_block, network.blocks,
    )  # fmt: skip
    return barrier_s + network.blocks / rate + network.propagation_s, reputation


def can_be_least(latency_s: Vector, reputation: Matrix) -> Indices:
    """The plans on the lower hull of (tau, U): all that can be least for some V > 0 and weights of any sign.

    Exact: a linear cost is least at a corner of the hull, and for V > 0 at a corner of a face that looks down in tau.
    """
    points = np.column_stack([latency_s, reputation])
    try:
        hull = ConvexHull(points)
    except QhullError:  # few or flat: all are kept, which is exact as well
        return np.arange(len(points))
    return np.unique(hull.simplices[hull.equations[:, 0] < 0])


@dataclass(frozen=True, slots=True, eq=False)
class Optimum:
    """tau*: the least mean latency of any policy that meets C6, where the states come with given frequencies.

    Attributes:
        latency_s: the value of the dual, which no policy can go below.
        mixture_s: the latency of a mixture of plans that meets C6: the duality gap is at most the difference.
        prices: [2, APs] mu*: seconds that one unit of U^max, and of U^min, is worth.
    """

    latency_s: float
    mixture_s: float
    prices: Matrix


def optimum(states: States, share: Vector, u_min: float, u_max: float, most_price: float) -> Optimum:
    """By cutting planes on the dual, max over mu >= 0 of sum_s q_s min_plan (tau + mu (U - limit)).

    Each plane is a choice of one plan per state; the program over the planes has as its own dual a mixture of these
    choices that meets C6, so it ends with a certificate on both sides.

    Args:
        share: [states] q, how often each came.
        most_price: above the largest mu*, for the first steps.

    Raises:
        SettingsError: C6 cannot be met, or not with prices below `most_price`.
    """
    aps = states.reputation.shape[1]
    prices, best, best_prices = np.zeros(2 * aps), -np.inf, np.zeros(2 * aps)
    slopes, heights = [], []
    for _ in range(MOST_PLANES):
        chosen = states.least(1.0, prices[:aps] - prices[aps:])
        latency_s, reputation = share @ states.latency_s[chosen], share @ states.reputation[chosen]
        slopes.append(np.concatenate([reputation - u_max, u_min - reputation]))
        heights.append(latency_s)
        value = latency_s + slopes[-1] @ prices
        if value > best:
            best, best_prices = value, prices
        program = linprog(
            np.append(-1.0, np.zeros(2 * aps)),
            A_ub=np.column_stack([np.ones(len(slopes)), -np.array(slopes)]),
            b_ub=np.array(heights),
            bounds=[(None, None)] + [(0.0, most_price)] * (2 * aps),
            options=FEASIBLE,
        )
        mixture_s = -program.fun
        if mixture_s - best <= CLOSE * abs(best):
            if best_prices.max() >= most_price * (1 - CLOSE):
                break
            return Optimum(float(best), float(mixture_s), best_prices.reshape(2, aps))
        prices = program.x[1:]
    raise SettingsError(f"no mixture of plans has mean reputations from {u_min:g} to {u_max:g}; choose other limits")


def best_mixture(states: States, share: Vector, u_min: float, u_max: float) -> float:
    """The same tau* from the program over all mixtures, every plan of every state a variable."""
    found = linprog(
        states.latency_s,
        *_c6(states, u_min, u_max),
        _one_plan_each(states),
        share,
        method="highs-ipm",
        options=FEASIBLE,
    )
    if not found.success:
        raise SettingsError(f"no mixture of plans has mean reputations from {u_min:g} to {u_max:g}: {found.message}")
    return float(found.fun)


def most_slack(states: States, share: Vector, u_min: float, u_max: float) -> float:
    """delta: the most by which some mixture keeps away from every limit of C6 at once (Slater)."""
    rows, limits = _c6(states, u_min, u_max)
    found = linprog(
        np.append(np.zeros(len(states.latency_s)), -1.0),
        hstack([rows, csr_array(np.ones((len(limits), 1)))]),
        limits,
        hstack([_one_plan_each(states), csr_array((states.count, 1))]),
        share,
        bounds=[(0, None)] * len(states.latency_s) + [(None, None)],
        method="highs-ipm",
        options=FEASIBLE,
    )
    return float(-found.fun)


def _c6(states: States, u_min: float, u_max: float) -> tuple[csr_array, NDArray[np.float64]]:
    earned = csr_array(states.reputation.T)
    aps = states.reputation.shape[1]
    return vstack([earned, -earned]), np.repeat([u_max, -u_min], aps)


def _one_plan_each(states: States) -> coo_array:
    plans = len(states.latency_s)
    return coo_array((np.ones(plans), (states.owner, np.arange(plans))), shape=(states.count, plans))


@dataclass(frozen=True, slots=True, eq=False)
class Theory:
    """Tabulated states that come equally often, and what theory says about them.

    Attributes:
        states: with their plans.
        u_min, u_max: of C6.
        optimum: tau* and mu*.
        mixture_s: tau* again, from the program over all mixtures.
        least_s: tau_min, the least mean latency without C6.
        free_reputation: [APs] mean U_j there.
        slack: delta, the most by which a mixture keeps away from every limit of C6.
        slack_s: tau_S, its latency.
    """

    states: States
    u_min: float
    u_max: float
    optimum: Optimum
    mixture_s: float
    least_s: float
    free_reputation: Vector
    slack: float
    slack_s: float

    @classmethod
    def of(cls, states: States, u_min: float, u_max: float) -> Theory:
        """
        Raises:
            SettingsError: C6 leaves no slack, or does not bind: then there is no trade-off to show.
        """
        alike = np.full(states.count, 1 / states.count)
        slack = most_slack(states, alike, u_min, u_max)
        if slack <= 0:
            raise SettingsError(f"no mixture of plans has mean reputations within {u_min:g}..{u_max:g}; widen them")
        free = states.least(1.0, np.zeros(states.reputation.shape[1]))
        least_s = float(states.latency_s[free].mean())
        slack_s = best_mixture(states, alike, u_min + slack, u_max - slack)
        found = optimum(states, alike, u_min, u_max, _most_price(slack_s - least_s, slack))
        if not found.prices.any():
            raise SettingsError(f"C6 with {u_min:g}..{u_max:g} does not bind, so V trades nothing; lower u_max")
        free_reputation = states.reputation[free].mean(axis=0)
        mixture_s = best_mixture(states, alike, u_min, u_max)
        return cls(states, u_min, u_max, found, mixture_s, least_s, free_reputation, slack, slack_s)

    def best(self, drawn: Indices) -> Optimum:
        """tau* and mu* at the frequencies of these states."""
        share = np.bincount(drawn, minlength=self.states.count) / len(drawn)
        most_price = _most_price(self.slack_s - self.least_s, self.slack)
        return optimum(self.states, share, self.u_min, self.u_max, most_price)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON and the report."""
        return {
            "states": self.states.count,
            "affordable_plans": self.states.affordable,
            "kept_plans": len(self.states.latency_s),
            "best_s": self.optimum.latency_s,
            "prices": self.optimum.prices.tolist(),
            "duality_gap_s": self.mixture_s - self.optimum.latency_s,
            "least_s": self.least_s,
            "free_reputation": self.free_reputation.tolist(),
            "drift_bound": drift_bound(self.states.reputation.max(axis=0), self.u_min, self.u_max),
            "slack": self.slack,
            "slack_s": self.slack_s,
        }


def _most_price(paid_s: float, slack: float) -> float:
    """|mu*|_1 is at most (tau_S - tau_min)/delta; ten times that also where the states come otherwise."""
    return 10 * paid_s / slack

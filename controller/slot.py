"""One slot of the letter's problem as typed data, and what a choice of cuts costs in it.

Rows are those of MODEL.md section 1. The tables come from any latency model; here they are plain numbers per data
point. Decides what is feasible and says why where nothing is. Does not choose: the solvers do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from splitnet.controller.frequency import Frequencies, Serving, best_frequencies
from splitnet.controller.latency import CutTable
from splitnet.controller.reputation import Reputation
from splitnet.errors import SettingsError

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]

TOLERANCE = 1e-12
"""Of an energy budget: sums in another order must not turn a cut infeasible."""

COLUMNS = ("gateway_s", "gateway_j", "payload_bits", "ap_cycles", "top_flops")


def sums(owner: Indices, values: Vector, owners: int) -> Vector:
    """[owners] the sum of the values of each owner."""
    return np.bincount(owner, values, owners).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class TwinTable:
    """What every cut of one digital twin's network costs, per data point.

    Attributes:
        cuts: [options] the cuts' numbers; by C1 from 1 to L (0 is a labelled extension).
        gateway_s: [options] the bottom on the gateway (row 1).
        gateway_j: [options] its energy (row 2, without sending).
        payload_bits: [options] o in row 4, after the codec; 0 at L.
        ap_cycles: [options] cycles of the top on the AP: chi / phi^A, or AP seconds at f^max times f^max (row 6).
        top_flops: [options] W per data point (row 5).
    """

    cuts: tuple[int, ...]
    gateway_s: Vector
    gateway_j: Vector
    payload_bits: Vector
    ap_cycles: Vector
    top_flops: Vector

    def __post_init__(self) -> None:
        for name in COLUMNS:
            column = getattr(self, name)
            if len(column) != len(self.cuts) or not len(column):
                raise ValueError(f"{name} has {len(column)} entries for {len(self.cuts)} cuts")
            if not np.all(np.isfinite(column)) or column.min() < 0:
                raise ValueError(f"{name} must hold finite numbers that are not negative")

    @classmethod
    def of(cls, table: CutTable, gateway_w: float, ap_max_hz: float, least_cut: int = 1, batch: int = 1) -> TwinTable:
        """From a latency model's answer for the cuts 0..L, which is for one inference of a whole batch.

        Args:
            gateway_w: power of the gateway while it computes; for chi/(phi f) that is kappa f^3 (row 2).
            ap_max_hz: f_j^max, at which the table's AP seconds hold.
            least_cut: 1 by C1; 0 admits the labelled extension "AP only".
            batch: data points in one inference of the table.
        """
        kept = slice(least_cut, None)
        return cls(
            cuts=tuple(range(least_cut, len(table.gateway_s))),
            gateway_s=table.gateway_s[kept] / batch,
            gateway_j=table.gateway_s[kept] / batch * gateway_w,
            payload_bits=table.payload_bits[kept] / batch,
            ap_cycles=table.ap_s[kept] / batch * ap_max_hz,
            top_flops=table.top_flops[kept] / batch,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """What does not change from slot to slot.

    Attributes:
        tables: one for each DT n.
        gateway_of: [DTs] a: the gateway m of each.
        ap_of: [gateways] b: the AP j of each.
        send_w: [gateways] P_m, the power while sending.
        max_hz: [APs] f_j^max.
        kappa: [APs] effective switched capacitance of the APs.
        cycles_per_block: H = H_0 c_h, expected cycles to find a block alone at gamma = 1 (row 10).
        alpha, beta: of the difficulty, gamma = exp(-alpha U - beta) (row 9).
        reputation: g (row 8), from an AP's FLOPs in the slot to U.
        propagation_s: tau^prop, constant (row 12).
        blocks: 1 for the expected block time 1/Lambda, -ln(1 - p) for its quantile p (row 11).
        costs: [columns, DTs, options] the tables side by side, in the order of `COLUMNS`; 0 where a table is shorter.
        counts: [DTs] number of options of each.
    """

    tables: tuple[TwinTable, ...]
    gateway_of: Indices
    ap_of: Indices
    send_w: Vector
    max_hz: Vector
    kappa: Vector
    cycles_per_block: float
    alpha: float
    beta: float
    reputation: Reputation
    propagation_s: float = 0.0
    blocks: float = 1.0
    costs: NDArray[np.float64] = field(init=False, repr=False)
    counts: Indices = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.gateway_of) != len(self.tables):
            raise ValueError(f"{len(self.gateway_of)} gateways named for {len(self.tables)} DTs")
        if len(self.send_w) != len(self.ap_of) or len(self.kappa) != len(self.max_hz):
            raise ValueError("powers do not fit the gateways, or capacitances the APs")
        for what, named, count in (
            ("gateway", self.gateway_of, len(self.ap_of)),
            ("AP", self.ap_of, len(self.max_hz)),
        ):
            wrong = [index for index in named if not 0 <= index < count]
            if wrong:
                raise ValueError(f"{what} {wrong[0]} is outside 0..{count - 1}")
        if not 0 < self.cycles_per_block < math.inf or not math.isfinite(self.beta) or not 0 <= self.alpha < math.inf:
            raise ValueError("cycles_per_block must be above 0, alpha at least 0, beta finite")
        if not 0 <= self.propagation_s < math.inf:
            raise ValueError(f"propagation_s {self.propagation_s} must be at least 0")
        counts = np.array([len(table.cuts) for table in self.tables], dtype=np.int64)
        costs = np.zeros((len(COLUMNS), len(self.tables), int(counts.max(initial=0))))
        for place, name in enumerate(COLUMNS):
            for twin, table in enumerate(self.tables):
                costs[place, twin, : counts[twin]] = getattr(table, name)
        object.__setattr__(self, "costs", costs)
        object.__setattr__(self, "counts", counts)

    def difficulty(self, reputation: Vector) -> Vector:
        """[APs] gamma_j = exp(-alpha U_j - beta), letter eq. (3)."""
        return np.exp(-self.alpha * reputation - self.beta)


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What the controller sees of one slot.

    Attributes:
        points: [DTs] D_n(t), data points that have arrived.
        rate_bps: [gateways] R_m(t) (row 3).
        gateway_energy_j: [gateways] E_m^G(t) (C4).
        ap_energy_j: [APs] E_j^A(t) (C5).
    """

    points: Vector
    rate_bps: Vector
    gateway_energy_j: Vector
    ap_energy_j: Vector


@dataclass(frozen=True, slots=True, eq=False)
class SlotPlan:
    """A choice of cuts with its best frequencies.

    Attributes:
        options: [DTs] index of each DT's cut in its table.
        frequencies: the optimum of section 2a for these cuts.
        reputation: [APs] U_j.
        latency_s: tau = Theta + tau^prop + blocks/Lambda (row 12).
        objective: V (Theta + blocks/Lambda) + sum_j w_j U_j (P1).
        excess_j: [gateways] joules over the budget of C4; all 0 in a feasible plan.
    """

    options: tuple[int, ...]
    frequencies: Frequencies
    reputation: Vector
    latency_s: float
    objective: float
    excess_j: Vector

    @property
    def feasible(self) -> bool:
        return not self.excess_j.any()


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """What every solver returns.

    Attributes:
        plan: the best plan found.
        lower_bound: no plan of this slot has a lower objective; -inf where the solver proves nothing.
        iterations: plans or boxes that were looked at; each solver says which.
        time_s: how long it took, on a monotonic clock.
    """

    plan: SlotPlan
    lower_bound: float
    iterations: int
    time_s: float

    def gap(self, latency_s: float, v: float) -> float:
        """(objective - lower bound) / (V tau), tau that of the exact plan (MODEL.md section 2b)."""
        return (self.plan.objective - self.lower_bound) / (v * latency_s)


class Solver(Protocol):
    """Finds a plan of a slot; `warm` is the last slot's choice of options, a good start where the world is alike."""

    def __call__(self, problem: SlotProblem, warm: Sequence[int] | None = None) -> Solution: ...


@dataclass(frozen=True, slots=True, eq=False)
class SlotProblem:
    """P1 of one slot: MODEL.md section 2.

    Attributes:
        network: what does not change.
        observation: what this slot is like.
        weights: [APs] w_j = Z_j^+ - Z_j^-, of the virtual queues.
        v: the weight V of latency against the queues.
        ready_s: [DTs, options] seconds until the AP has all of a DT's data (rows 1 and 4).
        used_j: [DTs, options] joules on the gateway (row 2); inf where a table is shorter.
        cycles: [DTs, options] on the AP (row 6).
        flops: [DTs, options] of the top (row 5).
    """

    network: Network
    observation: Observation
    weights: Vector
    v: float
    ready_s: Matrix = field(init=False, repr=False)
    used_j: Matrix = field(init=False, repr=False)
    cycles: Matrix = field(init=False, repr=False)
    flops: Matrix = field(init=False, repr=False)

    def __post_init__(self) -> None:
        network, seen = self.network, self.observation
        for name, column, count in (
            ("points", seen.points, len(network.tables)),
            ("rate_bps", seen.rate_bps, len(network.ap_of)),
            ("gateway_energy_j", seen.gateway_energy_j, len(network.ap_of)),
            ("ap_energy_j", seen.ap_energy_j, len(network.max_hz)),
            ("weights", self.weights, len(network.max_hz)),
        ):
            if len(column) != count or not np.all(np.isfinite(column)):
                raise ValueError(f"{name} has {len(column)} entries, {count} finite ones are needed")
        if min(seen.points.min(), seen.gateway_energy_j.min()) < 0:
            raise ValueError("points and energies must not be negative")
        if min(seen.rate_bps.min(), seen.ap_energy_j.min()) <= 0:
            raise ValueError("rates and the energies of APs must be above 0")
        if not 0 < self.v < math.inf:
            raise ValueError(f"V {self.v} must be above 0 and finite")
        gateway_s, gateway_j, payload_bits, ap_cycles, top_flops = seen.points[:, None] * network.costs
        send_s = payload_bits / seen.rate_bps[network.gateway_of, None]
        used_j = gateway_j + network.send_w[network.gateway_of, None] * send_s
        there = np.arange(used_j.shape[1]) < network.counts[:, None]
        object.__setattr__(self, "ready_s", gateway_s + send_s)
        object.__setattr__(self, "used_j", np.where(there, used_j, np.inf))
        object.__setattr__(self, "cycles", ap_cycles)
        object.__setattr__(self, "flops", top_flops)

    def check(self) -> None:
        """Every gateway must afford some cut of each of its DTs.

        Raises:
            SettingsError: one that cannot, with the least energy it needs and what it has.
        """
        least_j = self._by_gateway(self.used_j.min(axis=1))
        for gateway, budget_j in enumerate(self.observation.gateway_energy_j):
            if least_j[gateway] > budget_j * (1 + TOLERANCE):
                raise SettingsError(
                    f"gateway {gateway} cannot afford any cut: least energy {least_j[gateway]:.3g} J of "
                    f"{budget_j:.3g} J; give it more energy, a faster link or fewer data points"
                )

    def evaluate(self, options: Sequence[int] | Indices) -> SlotPlan:
        """The plan of these cuts with its best frequencies; its `excess_j` says where C4 does not hold."""
        network, seen = self.network, self.observation
        chosen = np.arange(len(network.tables)), np.asarray(options, dtype=np.int64)
        budget_j = seen.gateway_energy_j
        used_j = self._by_gateway(self.used_j[chosen])
        flops = self._by_gateway(self.flops[chosen])
        earned = network.reputation(sums(network.ap_of, flops, len(network.max_hz)))
        frequencies = best_frequencies(
            Serving(
                ready_s=self._by_gateway(self.ready_s[chosen]),
                cycles=self._by_gateway(self.cycles[chosen]),
                ap_of=network.ap_of,
                max_hz=network.max_hz,
                kappa=network.kappa,
                energy_j=seen.ap_energy_j,
                cycles_per_block=network.cycles_per_block * network.difficulty(earned),
                blocks=network.blocks,
            )
        )
        return SlotPlan(
            options=tuple(int(option) for option in options),
            frequencies=frequencies,
            reputation=earned,
            latency_s=frequencies.latency_s + network.propagation_s,
            objective=self.v * frequencies.latency_s + float(self.weights @ earned),
            excess_j=np.where(used_j > budget_j * (1 + TOLERANCE), used_j - budget_j, 0.0),
        )

    def _by_gateway(self, of_twins: Vector) -> Vector:
        return sums(self.network.gateway_of, of_twins, len(self.network.ap_of))

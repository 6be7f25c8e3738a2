"""One slot of the letter's problem as typed data, and what a choice of cuts costs in it.

Rows are those of MODEL.md section 1. The tables come from any latency model; here they are plain numbers per data
point. Decides what is feasible and says why where nothing is. Does not choose: `exact.py` and its like do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitnet.controller.frequency import ApTask, Frequencies, best_frequencies
from splitnet.errors import SettingsError

Vector = NDArray[np.float64]

TOLERANCE = 1e-12
"""Of an energy budget: sums in another order must not turn a cut infeasible."""


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
        for name in ("gateway_s", "gateway_j", "payload_bits", "ap_cycles", "top_flops"):
            column = getattr(self, name)
            if len(column) != len(self.cuts) or not len(column):
                raise ValueError(f"{name} has {len(column)} entries for {len(self.cuts)} cuts")
            if not np.all(np.isfinite(column)) or column.min() < 0:
                raise ValueError(f"{name} must hold finite numbers that are not negative")


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
    """

    tables: tuple[TwinTable, ...]
    gateway_of: tuple[int, ...]
    ap_of: tuple[int, ...]
    send_w: Vector
    max_hz: Vector
    kappa: Vector
    cycles_per_block: float
    alpha: float
    beta: float
    reputation: Callable[[float], float]

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


@dataclass(frozen=True, slots=True, eq=False)
class SlotState:
    """What the controller sees of one slot.

    Attributes:
        points: [DTs] D_n(t), data points that have arrived.
        rate_bps: [gateways] R_m(t) (row 3).
        gateway_energy_j: [gateways] E_m^G(t) (C4).
        ap_energy_j: [APs] E_j^A(t) (C5).
        weights: [APs] w_j = Z_j^+ - Z_j^-, of the virtual queues.
    """

    points: Vector
    rate_bps: Vector
    gateway_energy_j: Vector
    ap_energy_j: Vector
    weights: Vector


@dataclass(frozen=True, slots=True, eq=False)
class SlotPlan:
    """A choice of cuts with its best frequencies.

    Attributes:
        options: [DTs] index of each DT's cut in its table.
        frequencies: the optimum of section 2a for these cuts.
        reputation: [APs] U_j.
        objective: V (Theta + 1/Lambda) + sum_j w_j U_j (P1).
    """

    options: tuple[int, ...]
    frequencies: Frequencies
    reputation: Vector
    objective: float


@dataclass(frozen=True, slots=True, eq=False)
class SlotProblem:
    """P1 of one slot: MODEL.md section 2."""

    network: Network
    state: SlotState
    v: float
    """The weight V of latency against the queues."""

    def __post_init__(self) -> None:
        network, state = self.network, self.state
        for name, column, count in (
            ("points", state.points, len(network.tables)),
            ("rate_bps", state.rate_bps, len(network.ap_of)),
            ("gateway_energy_j", state.gateway_energy_j, len(network.ap_of)),
            ("ap_energy_j", state.ap_energy_j, len(network.max_hz)),
            ("weights", state.weights, len(network.max_hz)),
        ):
            if len(column) != count or not np.all(np.isfinite(column)):
                raise ValueError(f"{name} has {len(column)} entries, {count} finite ones are needed")
        if min(state.points.min(), state.gateway_energy_j.min()) < 0 or state.rate_bps.min() <= 0:
            raise ValueError("points and energies must not be negative, rates must be above 0")
        if not 0 <= self.v < math.inf:
            raise ValueError(f"V {self.v} is below 0 or not finite")

    def twins_of(self, gateway: int) -> tuple[int, ...]:
        """The DTs of a gateway."""
        return tuple(twin for twin, owner in enumerate(self.network.gateway_of) if owner == gateway)

    def cost(self, twin: int) -> tuple[Vector, Vector]:
        """[options] seconds until the AP has all (rows 1 and 4), and joules on the gateway (row 2), of one DT."""
        table, gateway = self.network.tables[twin], self.network.gateway_of[twin]
        points = self.state.points[twin]
        send_s = points * table.payload_bits / self.state.rate_bps[gateway]
        return points * table.gateway_s + send_s, points * table.gateway_j + self.network.send_w[gateway] * send_s

    def check(self) -> None:
        """Every gateway must afford some cut of each of its DTs.

        Raises:
            SettingsError: one that cannot, with the least energy it needs and what it has.
        """
        for gateway, budget_j in enumerate(self.state.gateway_energy_j):
            least_j = sum(float(self.cost(twin)[1].min()) for twin in self.twins_of(gateway))
            if least_j > budget_j * (1 + TOLERANCE):
                raise SettingsError(
                    f"gateway {gateway} cannot afford any cut: least energy {least_j:.3g} J of {budget_j:.3g} J; "
                    f"give it more energy, a faster link or fewer data points"
                )

    def evaluate(self, options: Sequence[int]) -> SlotPlan | None:
        """The plan of these cuts with its best frequencies; None where C4 does not hold."""
        network, state = self.network, self.state
        gateways = len(network.ap_of)
        ready_s, used_j, cycles, flops = (np.zeros(gateways) for _ in range(4))
        for twin, option in enumerate(options):
            gateway, table = network.gateway_of[twin], network.tables[twin]
            seconds, joules = self.cost(twin)
            ready_s[gateway] += seconds[option]
            used_j[gateway] += joules[option]
            cycles[gateway] += state.points[twin] * table.ap_cycles[option]
            flops[gateway] += state.points[twin] * table.top_flops[option]
        if np.any(used_j > state.gateway_energy_j * (1 + TOLERANCE)):
            return None
        tasks, reputation = [], []
        for ap, max_hz in enumerate(network.max_hz):
            own = [gateway for gateway, server in enumerate(network.ap_of) if server == ap]
            earned = network.reputation(float(flops[own].sum()))
            reputation.append(earned)
            tasks.append(
                ApTask(
                    ready_s=ready_s[own],
                    cycles=cycles[own],
                    max_hz=float(max_hz),
                    kappa=float(network.kappa[ap]),
                    energy_j=float(state.ap_energy_j[ap]),
                    cycles_per_block=network.cycles_per_block * math.exp(-network.alpha * earned - network.beta),
                )
            )
        frequencies = best_frequencies(tasks)
        earned_by_ap = np.array(reputation)
        objective = self.v * frequencies.latency_s + float(state.weights @ earned_by_ap)
        return SlotPlan(tuple(options), frequencies, earned_by_ap, objective)

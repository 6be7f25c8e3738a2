"""Frequencies of one slot when the cuts are given: how fast each AP serves its gateways, and how fast it mines.

MODEL.md section 2a, which is exact. With the cuts given, gateway m has its activation at the AP at T_m = tau^G_m +
tau^tx_m and needs C_m cycles there. For a barrier Theta the least frequency is also the one of least energy, f_m =
C_m/(Theta - T_m); what is left of the AP's energy goes into mining, at the largest block rate Lambda that the race
allows. Theta + blocks/Lambda(Theta) is convex in Theta, so one search in one dimension finds the optimum.

Does not know queues, reputation or cuts: the difficulty comes in as cycles per block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitnet.controller import kernels

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """What the APs have to do in a slot.

    Attributes:
        ready_s: [gateways] T_m, when each gateway's activation is at its AP.
        cycles: [gateways] C_m of the top work; 0 where all is done on the gateway.
        ap_of: [gateways] b: the AP of each.
        max_hz: [APs] f_j^max (C2, C3).
        kappa: [APs] effective switched capacitance; a cycle at frequency f takes kappa f^2 joules.
        energy_j: [APs] E_j^A(t) (C5).
        cycles_per_block: [APs] H gamma_j, expected cycles to find a block alone (row 10).
        blocks: 1 for the expected block time 1/Lambda, -ln(1 - p) for its quantile p (row 11 [C]).
    """

    ready_s: Vector
    cycles: Vector
    ap_of: Indices
    max_hz: Vector
    kappa: Vector
    energy_j: Vector
    cycles_per_block: Vector
    blocks: float = 1.0

    def __post_init__(self) -> None:
        if not kernels.sound(*self.columns(), self.blocks):
            self._explain()

    def columns(self) -> tuple[Vector, Vector, Indices, Vector, Vector, Vector, Vector]:
        """In the order in which the compiled functions take them."""
        return (
            self.ready_s,
            self.cycles,
            self.ap_of,
            self.max_hz,
            self.kappa,
            self.energy_j,
            self.cycles_per_block,
        )

    def _explain(self) -> None:
        if not len(self.ready_s) == len(self.cycles) == len(self.ap_of):
            raise ValueError(f"{len(self.ready_s)} times do not fit {len(self.cycles)} amounts of work")
        if not len(self.max_hz):
            raise ValueError("a slot needs at least one AP")
        if len(self.ap_of) and (self.ap_of.min() < 0 or self.ap_of.max() >= len(self.max_hz)):
            raise ValueError(f"a gateway's AP is outside 0..{len(self.max_hz) - 1}")
        for name in ("ready_s", "cycles"):
            column = getattr(self, name)
            if not np.isfinite(column).all() or (column < 0).any():
                raise ValueError(f"{name} must hold finite numbers that are not negative")
        for name in ("max_hz", "kappa", "energy_j", "cycles_per_block"):
            column = getattr(self, name)
            if len(column) != len(self.max_hz) or not np.isfinite(column).all() or (column <= 0).any():
                raise ValueError(f"{name} {column} must be above 0 and finite, one for each AP")
        if not 0 < self.blocks < math.inf:
            raise ValueError(f"blocks {self.blocks} must be above 0 and finite")


@dataclass(frozen=True, slots=True, eq=False)
class Frequencies:
    """The optimum of section 2a.

    Attributes:
        barrier_s: Theta (row 7).
        block_s: blocks/Lambda: the expected block time, or its quantile (row 11).
        serving_hz: [gateways] f_m^A.
        mining_hz: [APs] f_j^bloc.
        block_rate: Lambda, blocks/s.
    """

    barrier_s: float
    block_s: float
    serving_hz: Vector
    mining_hz: Vector
    block_rate: float

    @property
    def latency_s(self) -> float:
        """Theta + blocks/Lambda (rows 7 and 11; the constant tau^prop is not in it)."""
        return self.barrier_s + self.block_s


def best_frequencies(serving: Serving) -> Frequencies:
    """The frequencies of least Theta + blocks/Lambda under C2, C3 and C5."""
    barrier_s, rate, serving_hz, mining_hz = kernels.best_plan(*serving.columns(), serving.blocks)
    return Frequencies(barrier_s, serving.blocks / rate, serving_hz, mining_hz, rate)


def least_barrier_s(serving: Serving) -> float:
    """The least Theta at which C2 holds and the energy suffices at every AP; at least every T_m."""
    least_s: float = kernels.least_barrier(
        serving.ready_s, serving.cycles, serving.ap_of, serving.max_hz, serving.kappa, serving.energy_j
    )
    return least_s


def serving_hz(serving: Serving, barrier_s: float) -> Vector:
    """f_m = C_m / (Theta - T_m), the least frequencies that meet the barrier."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(serving.cycles > 0, serving.cycles / (barrier_s - serving.ready_s), 0.0)


def energy_left_j(serving: Serving, barrier_s: float) -> Vector:
    """[APs] R_j(Theta) = E_j - kappa_j sum_m C_m^3 / (Theta - T_m)^2: what mining may use."""
    used_j = serving.cycles * serving_hz(serving, barrier_s) ** 2
    return serving.energy_j - serving.kappa * np.bincount(serving.ap_of, used_j, len(serving.max_hz))


def block_rate(serving: Serving, barrier_s: float) -> float:
    """Lambda at a barrier, the largest rate that C3 and C5 allow (rows 10, 11 and 13)."""
    rate, _, _ = kernels.rate_at(
        barrier_s,
        serving.ready_s,
        serving.cycles,
        serving.ap_of,
        serving.max_hz,
        serving.kappa,
        serving.energy_j,
        serving.cycles_per_block,
        np.empty((5, len(serving.max_hz))),
    )
    return float(rate)

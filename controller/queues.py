"""Virtual queues: how far each AP's reputation has strayed beyond the limits of C6, and what that may cost.

Decides nothing: a controller weighs reputation by the queues (MODEL.md section 2). Knows neither cuts nor
frequencies, but for the one function that reads the largest reputation off the tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from splitnet.controller.slot import COLUMNS, Network, Vector, sums


@dataclass(frozen=True, slots=True, eq=False)
class Queues:
    """Z_j^+ and Z_j^-, one pair for each AP (MODEL.md section 2).

    Attributes:
        plus: [APs] Z^+: reputation earned beyond U^max that has not been made up for.
        minus: [APs] Z^-: reputation missing to U^min that has not been made up for.
    """

    plus: Vector
    minus: Vector

    def __post_init__(self) -> None:
        if len(self.plus) != len(self.minus):
            raise ValueError(f"{len(self.plus)} queues above do not fit {len(self.minus)} below")
        for queue in (self.plus, self.minus):
            if not np.isfinite(queue).all() or (queue < 0).any():
                raise ValueError("queues must be finite and not negative")

    @classmethod
    def empty(cls, aps: int) -> Queues:
        return cls(np.zeros(aps), np.zeros(aps))

    @property
    def weights(self) -> Vector:
        """[APs] w_j = Z_j^+ - Z_j^-, what one unit of reputation costs in P1."""
        return self.plus - self.minus

    @property
    def backlog(self) -> Vector:
        """[APs] Z_j^+ + Z_j^-."""
        return self.plus + self.minus

    @property
    def lyapunov(self) -> float:
        """L = 1/2 sum_j (Z_j^+)^2 + (Z_j^-)^2."""
        return float(self.plus @ self.plus + self.minus @ self.minus) / 2

    def after(self, reputation: Vector, u_min: float, u_max: float) -> Queues:
        """The queues after a slot in which the APs earned these reputations."""
        return Queues(
            np.maximum(self.plus + reputation - u_max, 0.0), np.maximum(self.minus + u_min - reputation, 0.0)
        )


def drift_bound(largest: Vector, u_min: float, u_max: float) -> float:
    """B of drift plus penalty (MODEL.md section 2), for reputations from 0 to the largest of each AP.

    In every slot L(t+1) - L(t) <= B + sum_j Z_j^+ (U_j - U^max) + Z_j^- (U^min - U_j).
    """
    above = np.maximum(u_max, largest - u_max)
    below = np.maximum(u_min, largest - u_min)
    return float(above @ above + below @ below) / 2


def largest_reputation(network: Network, most_points: Vector) -> Vector:
    """[APs] Uhat_j: every DT brings its most data points, and each cut with the most work is affordable.

    Args:
        most_points: [DTs] the most data points that one slot can bring.
    """
    flops = most_points * network.costs[COLUMNS.index("top_flops")].max(axis=1)
    return network.reputation(sums(network.ap_of[network.gateway_of], flops, len(network.max_hz)))

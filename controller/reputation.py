"""Reputation and difficulty: what an AP's work earns it, and how much easier it then mines (MODEL.md rows 8 and 9).

U_j = g(O_j), letter eq. (2), and gamma_j = exp(-alpha U_j - beta), letter eq. (3). In floating point, for the
controller; what a chain must agree on bit for bit is computed elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import overload

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


class Shape(IntEnum):
    """The form of g; numbers, because compiled code compares them."""

    LINEAR = 0
    LOG = 1
    KNOTS = 2


def _line() -> Vector:
    return np.array([0.0, 1.0])


@dataclass(frozen=True, slots=True, eq=False)
class Reputation:
    """g: from an AP's FLOPs in a slot to its U (row 8). Nonnegative and nondecreasing.

    Attributes:
        reference_flops: O^ref, the same for every AP: normalising each by its own load would punish work.
        shape: g(O) = O/O^ref, log(1 + O/O^ref), or straight lines through knots (a user's function, in simulation).
        knots: O/O^ref of the knots, rising from 0; beyond the last, U stays. For KNOTS only.
        values: U at the knots, not falling.
    """

    reference_flops: float
    shape: Shape = Shape.LINEAR
    knots: Vector = field(default_factory=_line)
    values: Vector = field(default_factory=_line)

    def __post_init__(self) -> None:
        if not 0 < self.reference_flops < math.inf:
            raise ValueError(f"reference_flops {self.reference_flops} must be above 0 and finite")
        if len(self.knots) != len(self.values) or len(self.knots) < 2:
            raise ValueError("at least two knots, each with its value")
        if self.knots[0] != 0 or not (np.diff(self.knots) > 0).all() or not np.isfinite(self.knots[-1]):
            raise ValueError("knots must rise from 0")
        if not np.isfinite(self.values).all() or self.values[0] < 0 or (np.diff(self.values) < 0).any():
            raise ValueError("a reputation must be finite, at least 0, and must not fall with more work")

    @classmethod
    def through(
        cls, function: Callable[[float], float], reference_flops: float, most: float, knots: int = 257
    ) -> Reputation:
        """A user's U as a function of O/O^ref from 0 to `most`, taken as straight lines between equal steps.

        Raises:
            ValueError: it is negative, not finite, or falls somewhere.
        """
        places = np.linspace(0.0, most, knots)
        return cls(reference_flops, Shape.KNOTS, places, np.array([float(function(place)) for place in places]))

    @overload
    def __call__(self, flops: float) -> float: ...
    @overload
    def __call__(self, flops: Vector) -> Vector: ...
    def __call__(self, flops: float | Vector) -> float | Vector:
        """U of that many FLOPs in a slot."""
        share = np.asarray(flops) / self.reference_flops
        if self.shape == Shape.LOG:
            earned = np.log1p(share)
        elif self.shape == Shape.KNOTS:
            earned = np.interp(share, self.knots, self.values)
        else:
            earned = share
        return float(earned) if np.isscalar(flops) else np.asarray(earned)

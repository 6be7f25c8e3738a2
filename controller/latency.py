"""Latency models: how long the halves of a model take on a device, cut by cut.

Three of them share one interface. `FlopsLatency` is the letter's: FLOPs over a constant speed. `LayerLatency` is a
regression for each kind of layer and predicts models that were never profiled. `MeasuredLatency` reads a profile.
They answer in the same table, which the controller optimises over and which validation subtracts from what real
workers took.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from splitnet.profiling.facts import ModelFacts
from splitnet.profiling.profile import Profile

Seconds = NDArray[np.float64]
"""One number for each cut 0..L."""


@dataclass(frozen=True, slots=True, eq=False)
class CutTable:
    """What each cut 0..L costs, for one inference of the whole batch.

    Attributes:
        gateway_s: the bottom on the gateway (MODEL.md row 1).
        payload_bits: what crosses the link, after the codec (o in row 4, for the batch).
        ap_s: the top on the AP at full speed (row 6).
        top_flops: work of the top (W in row 5, for the batch).
    """

    gateway_s: Seconds
    payload_bits: NDArray[np.int64]
    ap_s: Seconds
    top_flops: NDArray[np.int64]

    def __post_init__(self) -> None:
        lengths = {len(self.gateway_s), len(self.payload_bits), len(self.ap_s), len(self.top_flops)}
        if len(lengths) != 1:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")
        for column in (self.gateway_s, self.payload_bits, self.ap_s, self.top_flops):
            if not np.all(np.isfinite(column)) or column.min() < 0:
                raise ValueError("a table must hold finite numbers that are not negative")

    def at_speed(self, rho: float) -> CutTable:
        """The table with the AP at a fraction rho = f/f^max of its full speed (MODEL.md section 1)."""
        if not 0 < rho <= 1:
            raise ValueError(f"rho {rho} is outside (0, 1]")
        return replace(self, ap_s=self.ap_s / rho)


class DeviceLatency(abc.ABC):
    """How long halves take on one device."""

    name: str

    @abc.abstractmethod
    def bottom_s(self, facts: ModelFacts) -> Seconds:
        """Seconds of layers 1..k, for each cut k."""

    @abc.abstractmethod
    def top_s(self, facts: ModelFacts) -> Seconds:
        """Seconds of layers k+1..L, for each cut k."""


def cut_table(facts: ModelFacts, gateway: DeviceLatency, ap: DeviceLatency, codec: str = "none") -> CutTable:
    """The table of one model between two devices."""
    flops = np.array([layer.flops for layer in facts.layers], dtype=np.int64) * facts.identity.batch
    # At the last cut nothing is sent: the output is where it is wanted.
    payload = [8 * cut.payload_bytes[codec] for cut in facts.cuts[:-1]] + [0]
    return CutTable(
        gateway_s=gateway.bottom_s(facts),
        payload_bits=np.array(payload, dtype=np.int64),
        ap_s=np.append(ap.top_s(facts)[:-1], 0.0),
        top_flops=np.append(flops[::-1].cumsum()[::-1], 0),
    )


@dataclass(frozen=True)
class FlopsLatency(DeviceLatency):
    """chi / (phi f) (MODEL.md rows 1 and 6 [A]): every FLOP takes as long as any other.

    Attributes:
        flops_per_s: phi f in one number, since most systems do not tell f. One multiply-add = 1 FLOP.
    """

    flops_per_s: float
    name = "flops"

    def __post_init__(self) -> None:
        if not 0 < self.flops_per_s < float("inf"):
            raise ValueError(f"flops_per_s {self.flops_per_s} must be above 0")

    def bottom_s(self, facts: ModelFacts) -> Seconds:
        flops = np.array([layer.flops for layer in facts.layers], dtype=float)
        return np.append(0.0, flops.cumsum()) * facts.identity.batch / self.flops_per_s

    def top_s(self, facts: ModelFacts) -> Seconds:
        bottoms = self.bottom_s(facts)
        return np.asarray(bottoms[-1] - bottoms)


@dataclass(frozen=True, eq=False)
class MeasuredLatency(DeviceLatency):
    """Prefix and suffix times of the model's own profile on the device."""

    profile: Profile
    name = "measured"

    def bottom_s(self, facts: ModelFacts) -> Seconds:
        self._check(facts)
        return np.array(self.profile.prefix_s)

    def top_s(self, facts: ModelFacts) -> Seconds:
        self._check(facts)
        return np.array(self.profile.suffix_s)

    def _check(self, facts: ModelFacts) -> None:
        """Raises ValueError: a profile answers for its own graph, batch and input sizes only."""
        own, asked = self.profile.facts.identity, facts.identity
        if (own.graph, own.batch, own.input_shapes) != (asked.graph, asked.batch, asked.input_shapes):
            raise ValueError(
                f"a profile of {own.name} (inputs {own.input_shapes}) was asked about {asked.name} "
                f"(inputs {asked.input_shapes}), or about another graph of that name"
            )


def fit_flops(points: Sequence[tuple[float, float]]) -> FlopsLatency:
    """The speed phi f that makes the sum of squared relative errors least, over (FLOPs, seconds) of halves.

    Raises:
        ValueError: no point has FLOPs.
    """
    pairs = np.array([(flops, seconds) for flops, seconds in points if flops > 0 and seconds > 0], dtype=float)
    if not len(pairs):
        raise ValueError("a speed cannot be fitted: no point has FLOPs")
    ratio = pairs[:, 0] / pairs[:, 1]  # predicted over measured is ratio / speed
    return FlopsLatency(float((ratio @ ratio) / ratio.sum()))

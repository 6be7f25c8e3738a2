"""How much slower machines are than their profiles say, learnt before the first slot and followed from slot to slot.

A profile is taken alone and warm. In a run machines sleep, wake and share caches and cores, and the host's speed
drifts. What is kept of a profile is its shape: each machine has one factor. A slot's prediction is made before the
slot is measured. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitnet.emulation import Emulation
from splitnet.machines.messages import CutCost
from splitnet.slot_record import SlotTimes

Vector = NDArray[np.float64]

TRACKING = 0.2
"""Of a slot's ratio of measured to predicted time that goes into a machine's factor, on a logarithmic scale."""
LEAST_TRACKED_S = 0.02
"""Shorter times say more of waking up than of speed."""


@dataclass(frozen=True, eq=False)
class Slowness:
    """Factors of time, beside the profile.

    Attributes:
        gateways: [gateways] of bottoms.
        aps: [APs] of tops.
    """

    gateways: Vector
    aps: Vector

    def applied(self, emulation: Emulation) -> Emulation:
        """With tables that are so much slower."""
        return emulation.calibrated(self.gateways, self.aps)

    def after(self, predicted: SlotTimes, measured: SlotTimes, ap_of: Sequence[int]) -> Slowness:
        """What a slot took, beside what these factors had predicted, moves each machine's factor a little."""
        gateways, aps = self.gateways.copy(), self.aps.copy()
        for number, times in enumerate(zip(predicted.gateway_s, measured.gateway_s, strict=True)):
            gateways[number] *= _median_ratio([times]) ** TRACKING
        lanes = list(zip(predicted.ap_s, measured.ap_s, strict=True))
        for number in range(len(aps)):
            own = [times for times, ap in zip(lanes, ap_of, strict=True) if ap == number]
            aps[number] *= _median_ratio(own) ** TRACKING
        return Slowness(gateways, aps)


def slowness_of(costs: Sequence[Sequence[CutCost]], gateways: int, emulation: Emulation, devices: int) -> Slowness:
    """From what every cut cost on every machine: the median over its cuts.

    Args:
        costs: [gateways, then APs] CPU time of bottoms, of tops.
    """
    profiled = [emulation.profiled_s(twin) for twin in range(devices)]
    factors = []
    for place, own in enumerate(costs):
        half = 0 if place < gateways else 1
        ratios = [cost.cpu_s / profiled[cost.twin][half][cost.cut] for cost in own]
        factors.append(float(np.median(ratios)) if ratios else 1.0)
    return Slowness(np.array(factors[:gateways]), np.array(factors[gateways:]))


def _median_ratio(times: Sequence[tuple[float, float]]) -> float:
    """Measured over predicted; 1 where nothing was long enough."""
    ratios = [measured / predicted for predicted, measured in times if min(predicted, measured) > LEAST_TRACKED_S]
    return float(np.median(ratios)) if ratios else 1.0

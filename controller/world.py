"""The world of a simulation: what each slot brings to devices, links and batteries.

Decides the laws by which D_n(t), R_m(t), E_m^G(t) and E_j^A(t) are drawn (MODEL.md sections 1 and 4), and that each
has a random stream of its own, named and seeded: policies that are given the same seed see the same world, and a
longer run begins with the shorter one. Knows neither the controller nor where the laws were written down.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splitnet.controller.slot import Observation

Vector = NDArray[np.float64]

ARRIVALS = "arrivals"
CHANNEL = "channel"
GATEWAY_ENERGY = "gateway energy"
AP_ENERGY = "AP energy"


def stream(seed: int, name: str) -> np.random.Generator:
    """Random numbers that depend on the seed and the name alone, the same in every process and on every machine.

    Streams of different names or seeds are independent: the name's hash is the spawn key of numpy's seed sequence.
    """
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(key,))))


@dataclass(frozen=True, slots=True, eq=False)
class Uniform:
    """Drawn anew in every slot between two ends; a constant where they are equal.

    Attributes:
        low, high: [entities] the ends.
        whole: whole numbers, both ends among them; otherwise any number.
    """

    low: Vector
    high: Vector
    whole: bool = False

    def __post_init__(self) -> None:
        if self.low.shape != self.high.shape or self.low.ndim != 1:
            raise ValueError(f"{len(self.low)} lower ends do not fit {len(self.high)} upper ones")
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all()) or (self.low > self.high).any():
            raise ValueError("ends must be finite, the lower at most the upper")
        if self.whole and ((self.low % 1).any() or (self.high % 1).any()):
            raise ValueError("whole numbers need whole ends")

    def __len__(self) -> int:
        return len(self.low)

    def at(self, chance: Vector) -> Vector:
        """[entities] the values for uniform draws from [0, 1)."""
        if self.whole:
            return self.low + np.floor(chance * (self.high - self.low + 1))
        return self.low + chance * (self.high - self.low)


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """Uplinks whose rate is R = B log2(1 + P h / (N_0 B)) (row 3 [A]), with one fading state a slot.

    Attributes:
        bandwidth_hz: [gateways] B_m.
        send_w: [gateways] P_m.
        gain: [gateways] mean of h_m: what path loss leaves of the power.
        noise_w_per_hz: N_0.
        fading: Rayleigh: h_m is `gain` times an exponential variable of mean 1. Otherwise h_m = `gain`.
    """

    bandwidth_hz: Vector
    send_w: Vector
    gain: Vector
    noise_w_per_hz: float
    fading: bool = True

    def __post_init__(self) -> None:
        for name in ("bandwidth_hz", "send_w", "gain"):
            column = getattr(self, name)
            if len(column) != len(self.gain) or not np.isfinite(column).all() or (column <= 0).any():
                raise ValueError(f"{name} must be above 0 and finite, one for each gateway")
        if not 0 < self.noise_w_per_hz < math.inf:
            raise ValueError(f"noise_w_per_hz {self.noise_w_per_hz} must be above 0 and finite")

    def __len__(self) -> int:
        return len(self.gain)

    def at(self, chance: Vector) -> Vector:
        """[gateways] bit/s for uniform draws from [0, 1)."""
        power = fades(chance) if self.fading else np.ones(len(self.gain))
        ratio = self.send_w * self.gain * power / (self.noise_w_per_hz * self.bandwidth_hz)
        return np.asarray(self.bandwidth_hz * np.log1p(ratio) / math.log(2))


def fades(chance: Vector) -> Vector:
    """|h|^2 of Rayleigh fading, exponential with mean 1, for uniform draws from [0, 1)."""
    return -np.log1p(-np.maximum(chance, 2.0**-54))  # a rate of exactly 0 would never end


def path_gain(distance_m: Vector, loss_db: float = 128.1, slope_db: float = 37.6) -> Vector:
    """What is left of the power after loss + slope log10(distance in km) decibels (MODEL.md section 4 [C])."""
    return np.asarray(10 ** (-(loss_db + slope_db * np.log10(distance_m / 1000)) / 10))


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """The laws of one scenario.

    Attributes:
        points: [DTs] D_n(t), whole numbers.
        rate_bps: [gateways] R_m(t), from fading channels or between two ends.
        gateway_energy_j: [gateways] E_m^G(t).
        ap_energy_j: [APs] E_j^A(t).
    """

    points: Uniform
    rate_bps: Channel | Uniform
    gateway_energy_j: Uniform
    ap_energy_j: Uniform

    def __post_init__(self) -> None:
        if len(self.rate_bps) != len(self.gateway_energy_j):
            raise ValueError(f"{len(self.rate_bps)} links do not fit {len(self.gateway_energy_j)} gateways")
        if not self.points.whole:
            raise ValueError("data points come in whole numbers")

    def observations(self, seed: int, slots: int) -> Iterator[Observation]:
        """The first slots of this world under a seed, in order."""
        laws = (
            (self.points, stream(seed, ARRIVALS)),
            (self.rate_bps, stream(seed, CHANNEL)),
            (self.gateway_energy_j, stream(seed, GATEWAY_ENERGY)),
            (self.ap_energy_j, stream(seed, AP_ENERGY)),
        )
        for _ in range(slots):
            yield Observation(*(law.at(chances.random(len(law))) for law, chances in laws))

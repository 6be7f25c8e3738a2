"""A link's rate over time, and when bytes that are sent at it are through. Pure arithmetic, no clock.

Decides what a trace of rates means: piecewise constant, each rate from its instant on, the first also before it and
the last for ever after (a row says when a rate begins, and nothing when the last one ends: so a trace does not
repeat). It does not know where traces come from (`trace_sources.py`) nor who keeps to them (`link_pace.py`).
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from splitnet.errors import SettingsError

SLOWEST_BPS = 1.0
FASTEST_BPS = 1e12


@dataclass(frozen=True, slots=True)
class RateTrace:
    """Rates in bit/s, each from its instant in s on.

    Attributes:
        starts_s: [pieces] at least one; the first 0, then rising.
        rates_bps: [pieces] within 1 and 1e12.

    Raises:
        SettingsError: on construction, where this does not hold.
    """

    starts_s: tuple[float, ...]
    rates_bps: tuple[float, ...]
    _bits: tuple[float, ...] = field(init=False, repr=False, compare=False)
    """[pieces] bits since time 0 at the start of each piece."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.starts_s) == len(self.rates_bps):
            raise SettingsError(
                f"a trace of {len(self.starts_s)} instants and {len(self.rates_bps)} rates; give one rate for each "
                "instant, and at least one"
            )
        before_s = None
        for start_s, rate_bps in zip(self.starts_s, self.rates_bps, strict=True):
            if complaint := why_not(before_s, start_s, rate_bps):
                raise SettingsError(f"a trace of rates: {complaint}")
            before_s = start_s
        lengths = (later - earlier for earlier, later in itertools.pairwise(self.starts_s))
        sizes = (length_s * rate for length_s, rate in zip(lengths, self.rates_bps, strict=False))
        object.__setattr__(self, "_bits", tuple(itertools.accumulate(sizes, initial=0.0)))

    @staticmethod
    def constant(rate_bps: float) -> RateTrace:
        """One rate for ever."""
        return RateTrace((0.0,), (rate_bps,))

    @staticmethod
    def of_slots(rates_bps: Iterable[float], slot_s: float) -> RateTrace:
        """One rate a slot, slots of equal length."""
        rates = tuple(float(rate) for rate in rates_bps)
        return RateTrace(tuple(slot * slot_s for slot in range(len(rates))), rates)

    def at(self, time_s: float) -> float:
        """The rate at an instant, bit/s."""
        return self.rates_bps[self._piece(time_s)]

    def bits(self, time_s: float) -> float:
        """The integral of the rate from 0 to an instant; negative before 0."""
        piece = self._piece(time_s)
        return self._bits[piece] + (time_s - self.starts_s[piece]) * self.rates_bps[piece]

    def finish_s(self, start_s: float, size_bytes: float) -> float:
        """When the last of so many bytes is through, if the first begins at `start_s`."""
        piece = self._piece(start_s)
        finish_s = start_s + size_bytes * 8 / self.rates_bps[piece]
        if piece + 1 == len(self.starts_s) or finish_s <= self.starts_s[piece + 1]:
            return finish_s  # as it mostly is, and without the rounding of all bits before
        target = self.bits(start_s) + size_bytes * 8
        piece = max(piece, bisect_right(self._bits, target) - 1)
        return max(start_s, self.starts_s[piece] + (target - self._bits[piece]) / self.rates_bps[piece])

    def mean_bps(self, start_s: float, end_s: float) -> float:
        """The mean rate between two instants."""
        if end_s <= start_s or self._piece(start_s) == self._piece(end_s):
            return self.at(start_s)
        return (self.bits(end_s) - self.bits(start_s)) / (end_s - start_s)

    def then(self, time_s: float, trace: RateTrace) -> RateTrace:
        """This trace until an instant above 0, from there on another one, whose 0 is that instant."""
        kept = max(1, bisect_right(self.starts_s, time_s))
        if self.starts_s[kept - 1] >= time_s:  # a piece that would begin as the other trace does
            kept -= 1
        if kept == 0:
            return trace
        shifted = tuple(time_s + start_s for start_s in trace.starts_s)
        return RateTrace(self.starts_s[:kept] + shifted, self.rates_bps[:kept] + trace.rates_bps)

    def since(self, time_s: float) -> RateTrace:
        """What it is from an instant at or after 0 on, which becomes its 0."""
        later = self._piece(time_s) + 1
        starts_s = (0.0, *(start_s - time_s for start_s in self.starts_s[later:]))
        return RateTrace(starts_s, self.rates_bps[later - 1 :])

    def _piece(self, time_s: float) -> int:
        return max(0, bisect_right(self.starts_s, time_s) - 1)


def why_not(before_s: float | None, start_s: float, rate_bps: float) -> str:
    """What is wrong with a piece after one that starts at `before_s` (None: the first); empty if nothing is."""
    if before_s is None and start_s != 0:
        return f"the first time is {start_s} s; it must be 0, when the link begins"
    if before_s is not None and not before_s < start_s < math.inf:
        return f"time {start_s} s is not after {before_s} s; times must rise"
    if not SLOWEST_BPS <= rate_bps <= FASTEST_BPS:
        return f"rate {rate_bps} bit/s is outside {SLOWEST_BPS:g}..{FASTEST_BPS:g}; an outage is a rate of 1"
    return ""

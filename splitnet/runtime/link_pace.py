"""The rate that a sender keeps to, which may change while a message is on its way.

Decides when a byte may leave: at a rate that another thread sets, or along a trace, both with the arithmetic of
`rates.py`. What has been set stays known for a while, so that what was asked of a past transfer can be told. It does
not know sockets; the clock is handed in.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable

from splitnet.runtime.rates import RateTrace

HISTORY_S = 600.0
HISTORY_PIECES = 1000
"""So many seconds and so many rates of the past are known. A longer past would also cost precision: the bits of an
hour without a limit leave few digits for those of a millisecond."""


class Pace:
    """A rate on a clock. Any thread may read or set it."""

    def __init__(self, rate: float | RateTrace, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Begin now, with a rate in bit/s or a trace. Raises SettingsError for a rate out of its range."""
        self._now_ns = now_ns
        self._changing = threading.Lock()
        # one tuple, so that a reader without the lock never sees the origin of one trace with another
        self._since: tuple[int, RateTrace] = (now_ns(), _trace(rate))

    def set(self, rate: float | RateTrace) -> None:
        """From now on this rate in bit/s, or this trace, whose 0 is now. Raises SettingsError, changing nothing."""
        new = _trace(rate)
        with self._changing:
            origin_ns, old = self._since
            now_s = (self._now_ns() - origin_ns) * 1e-9
            past = bisect_right(old.starts_s, now_s)
            gone_ns = int(max(now_s - HISTORY_S, old.starts_s[max(0, past - HISTORY_PIECES)], 0.0) * 1e9)
            gone_s = gone_ns * 1e-9
            self._since = (origin_ns + gone_ns, old.since(gone_s).then(now_s - gone_s, new))

    def rate_bps(self, at_ns: int) -> float:
        """The rate at an instant of the clock."""
        origin_ns, trace = self._since
        return trace.at((at_ns - origin_ns) * 1e-9)

    def due_ns(self, start_ns: int, size_bytes: int) -> int:
        """When the last of so many bytes may leave, if the first could at `start_ns`, as things are set now."""
        origin_ns, trace = self._since
        return origin_ns + round(trace.finish_s((start_ns - origin_ns) * 1e-9, size_bytes) * 1e9)

    def mean_bps(self, start_ns: int, end_ns: int) -> float:
        """The mean rate between two instants."""
        origin_ns, trace = self._since
        return trace.mean_bps((start_ns - origin_ns) * 1e-9, (end_ns - origin_ns) * 1e-9)


def _trace(rate: float | RateTrace) -> RateTrace:
    return rate if isinstance(rate, RateTrace) else RateTrace.constant(rate)

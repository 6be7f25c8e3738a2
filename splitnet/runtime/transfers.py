"""What was asked of a link and what it did, message by message.

Decides what a transfer is: from the instant before its first byte was handed over to the one when its last byte was
released (paced by the sender) or read at the other end (`received`, which takes one clock for both). Bytes are those
of the frame: header, padding and body, not those that TCP/IP adds. It does not know how a rate is kept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from splitnet.runtime.link_pace import Pace

SHORT_S = 5e-3
"""Waking up takes some 0.1 ms: of less than this, that is 2% and more of the time."""
BURST_SHARE = 0.05
"""Of a message; a burst that is more lifts the rate achieved by more than that."""
MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Transfer:
    """One message on a link.

    Attributes:
        size_bytes: of the whole frame.
        asked_bps: the rate that was set, its mean over the transfer where it changed; None: no limit was set.
        started_ns, ended_ns: on one monotonic clock.
        received: the end is when the last byte was read; else, when it was released.
        burst_bytes: how many the link lets pass at once after a pause.
    """

    size_bytes: int
    asked_bps: float | None
    started_ns: int
    ended_ns: int
    received: bool = False
    burst_bytes: int = 0

    @property
    def achieved_bps(self) -> float:
        """Bits over the time they took."""
        return self.size_bytes * 8e9 / max(1, self.ended_ns - self.started_ns)

    @property
    def error(self) -> float | None:
        """Achieved over asked, less 1; None where nothing was asked."""
        return None if self.asked_bps is None else self.achieved_bps / self.asked_bps - 1

    @property
    def is_small(self) -> bool:
        """Whether waking up or the burst is a good part of it, so that the rate achieved says little of the link."""
        if self.burst_bytes > BURST_SHARE * self.size_bytes:
            return True
        return self.asked_bps is not None and self.size_bytes * 8 < self.asked_bps * SHORT_S

    @property
    def is_free(self) -> bool:
        """Whether all of it fits into the burst, which passes without being paced."""
        return self.size_bytes <= self.burst_bytes


class TransferLog:
    """The last transfers of one connection, until they are taken; for the thread that sends."""

    def __init__(self) -> None:
        self._kept: deque[Transfer] = deque(maxlen=MOST_KEPT)

    def sent(self, size_bytes: int, pace: Pace | float | None, started_ns: int, ended_ns: int) -> None:
        """A message was sent, at this pace (None: at no limit)."""
        asked_bps = pace.mean_bps(started_ns, ended_ns) if isinstance(pace, Pace) else pace
        self._kept.append(Transfer(size_bytes, asked_bps, started_ns, ended_ns))

    def received(self, at_ns: int, pace: Pace | float | None) -> None:
        """The other end says when, on our clock, it had read all of the message that was sent last."""
        last = self._kept.pop()
        asked_bps = pace.mean_bps(last.started_ns, at_ns) if isinstance(pace, Pace) else pace
        self._kept.append(replace(last, asked_bps=asked_bps, ended_ns=at_ns, received=True))

    def take(self) -> list[Transfer]:
        """All that are kept, oldest first; they are then forgotten."""
        return [self._kept.popleft() for _ in range(len(self._kept))]

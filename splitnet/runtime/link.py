"""What a link is asked to be, and pacing in user space that makes it so.

The sender releases 1 ms quanta: the last byte of each leaves not before `start + bytes so far / rate`, so a
message of n bytes takes n/rate; where the rate changes (`link_pace.py`), not before its integral is bytes so far. The
receiver holds a message for the delay. Header and padding count as bytes.
"""

from __future__ import annotations

import math
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from splitnet.errors import SettingsError
from splitnet.runtime.link_pace import Pace

QUANTUM_S = 1e-3
LOOK_AGAIN_S = 0.05
"""The longest sleep after which a rate that was set meanwhile is noticed."""
LONGEST_DELAY_S = 60.0
_LARGEST_IOV = 512
_UNITS = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_HINT = "give `loopback`, a rate such as 50mbit (bit, kbit, mbit, gbit), or with a delay 50mbit+5ms (us, ms, s)"


@dataclass(frozen=True, slots=True)
class Link:
    """A rate in bit/s (None: as fast as the sockets go) and a one-way delay in s."""

    rate_bps: float | None = None
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        if self.rate_bps is not None and not (math.isfinite(self.rate_bps) and self.rate_bps >= 1):
            raise SettingsError(f"a link's rate of {self.rate_bps:g} bit/s is not a number of at least 1; {_HINT}")
        if not 0 <= self.delay_s <= LONGEST_DELAY_S:
            raise SettingsError(f"a link's delay of {self.delay_s:g} s is outside 0..{LONGEST_DELAY_S:g} s; {_HINT}")

    @staticmethod
    def parse(text: str) -> Link:
        """`loopback`, `50mbit`, or `50mbit+5ms`.

        Raises:
            SettingsError: no number, no unit, or a rate of zero.
        """
        rate_text, plus, delay_text = text.strip().lower().partition("+")
        delay_s = _quantity(delay_text, _TIMES, text, "delay") if plus else 0.0
        if rate_text == "loopback":
            return Link(None, delay_s)
        rate_bps = _quantity(rate_text, _UNITS, text, "rate")
        if rate_bps == 0:
            raise SettingsError(f"link {text!r} has a rate of zero, nothing would arrive; {_HINT}")
        return Link(rate_bps, delay_s)

    def __str__(self) -> str:
        rate = "loopback"
        if self.rate_bps is not None:
            unit = next(
                name for name in ("gbit", "mbit", "kbit", "bit") if self.rate_bps >= _UNITS[name] or name == "bit"
            )
            rate = f"{self.rate_bps / _UNITS[unit]:g}{unit}"
        return f"{rate}+{self.delay_s * 1e3:g}ms" if self.delay_s else rate


def send_all(sock: socket.socket, buffers: Sequence[bytes | memoryview], rate: Pace | float | None) -> None:
    """Send all buffers, paced at a rate in bit/s, at one that may change on the way, or at once."""
    if rate is not None:
        if isinstance(rate, Pace):
            _send_at_pace(sock, buffers, rate)
        else:
            _send_paced(sock, buffers, rate)
        return
    if len(buffers) <= _LARGEST_IOV:
        sent = sock.sendmsg(buffers)
        if sent == sum(map(len, buffers)):
            return
        buffers = _after(buffers, sent)
    while buffers:
        buffers = _after(buffers, sock.sendmsg(buffers[:_LARGEST_IOV]))


def _send_paced(sock: socket.socket, buffers: Sequence[bytes | memoryview], rate_bps: float) -> None:
    bytes_per_s = rate_bps / 8
    quantum = max(1, int(bytes_per_s * QUANTUM_S))
    released = 0
    start_ns = time.monotonic_ns()
    for chunk in _chunks(buffers, quantum):
        released += sum(map(len, chunk))
        wait_s = (start_ns - time.monotonic_ns()) * 1e-9 + released / bytes_per_s
        if wait_s > 0:
            time.sleep(wait_s)
        send_all(sock, chunk, None)


def _send_at_pace(sock: socket.socket, buffers: Sequence[bytes | memoryview], pace: Pace) -> None:
    """As `_send_paced`, but with the size of a quantum and its instant from the rate of the moment."""
    released = 0
    start_ns = time.monotonic_ns()
    while buffers:
        quantum = max(1, int(pace.rate_bps(time.monotonic_ns()) / 8 * QUANTUM_S))
        chunk, buffers = _split(buffers, quantum)
        released += sum(map(len, chunk))
        while (wait_s := (pace.due_ns(start_ns, released) - time.monotonic_ns()) * 1e-9) > 0:
            time.sleep(min(wait_s, LOOK_AGAIN_S))
        send_all(sock, chunk, None)


def _chunks(buffers: Sequence[bytes | memoryview], size: int) -> list[list[memoryview]]:
    """The same bytes in groups of `size` (the last may be smaller), without copying."""
    groups: list[list[memoryview]] = []
    room = 0
    for buffer in buffers:
        view = memoryview(buffer)
        while len(view):
            if room == 0:
                groups.append([])
                room = size
            part = view[:room]
            groups[-1].append(part)
            room -= len(part)
            view = view[len(part) :]
    return groups


def _split(
    buffers: Sequence[bytes | memoryview], size: int
) -> tuple[list[bytes | memoryview], list[bytes | memoryview]]:
    """The first `size` bytes (or all), and those after them, without copying."""
    first: list[bytes | memoryview] = []
    for buffer in buffers:
        if size == 0:
            break
        first.append(memoryview(buffer)[:size])
        size -= len(first[-1])
    return first, _after(buffers, sum(map(len, first)))


def _after(buffers: Sequence[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    rest: list[bytes | memoryview] = []
    for buffer in buffers:
        if sent >= len(buffer):
            sent -= len(buffer)
        else:
            rest.append(memoryview(buffer)[sent:])
            sent = 0
    return rest


def _quantity(text: str, units: dict[str, float], whole: str, what: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]+)", text.strip())
    if match is None or match[2] not in units:
        raise SettingsError(f"link {whole!r}: {text!r} is no {what}; {_HINT}")
    return float(match[1]) * units[match[2]]

"""Rates that change while bytes are on their way: bookkeeping on a clock of the tests, then over real sockets."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.errors import SettingsError
from splitnet.runtime.link import _split, send_all
from splitnet.runtime.link_pace import HISTORY_PIECES, HISTORY_S, Pace
from splitnet.runtime.rates import RateTrace

DEADLINE_S = 30.0
SECOND = 10**9


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self, now_ns: int = 5 * SECOND) -> None:
        self.ns = now_ns

    def __call__(self) -> int:
        return self.ns


def test_a_rate_set_on_the_way_counts_from_then_on() -> None:
    """2 MB at 1 MB/s from second 5: due at 7. Set to 4 MB/s at 6: half is through, the rest takes 0.25 s."""
    clock = Clock()
    pace = Pace(8e6, clock)
    assert pace.due_ns(5 * SECOND, 2_000_000) == 7 * SECOND
    clock.ns = 6 * SECOND
    pace.set(32e6)
    assert pace.due_ns(5 * SECOND, 1_000_000) == 6 * SECOND
    assert pace.due_ns(5 * SECOND, 2_000_000) == 6.25 * SECOND
    assert [pace.rate_bps(at_ns) for at_ns in (5 * SECOND, 6 * SECOND - 1000, 6 * SECOND)] == [8e6, 8e6, 32e6]
    assert pace.mean_bps(5 * SECOND, 7 * SECOND) == 20e6


def test_a_trace_begins_when_it_is_set() -> None:
    clock = Clock()
    pace = Pace(8e6, clock)
    clock.ns = 10 * SECOND
    pace.set(RateTrace((0.0, 1.0), (16e6, 80e6)))
    assert pace.due_ns(10 * SECOND, 2_000_000) == 11 * SECOND
    assert pace.due_ns(9 * SECOND, 13_000_000) == 12 * SECOND  # 1 + 2 + 10 MB
    pace.set(8e6)
    assert pace.rate_bps(50 * SECOND) == 8e6  # what was to come is replaced


def test_a_bad_rate_changes_nothing() -> None:
    pace = Pace(8e6, Clock())
    with pytest.raises(SettingsError, match="rate 0"):
        pace.set(0.0)
    assert pace.rate_bps(6 * SECOND) == 8e6
    with pytest.raises(SettingsError, match="rate nan"):
        Pace(float("nan"))


@pytest.mark.parametrize("step_ns", [SECOND // 10, SECOND])
def test_the_past_is_kept_for_a_while_and_no_longer(step_ns: int) -> None:
    """One rate every 0.1 s: 1,000 are kept; one a second: 600."""
    clock = Clock()
    pace = Pace(1.0, clock)
    kept = min(HISTORY_PIECES, round(HISTORY_S * SECOND / step_ns))
    for number in range(1, 2 * HISTORY_PIECES + 50):
        clock.ns = 5 * SECOND + number * step_ns
        pace.set(float(number % 100 + 1))
    for number in range(2 * HISTORY_PIECES + 50 - kept, 2 * HISTORY_PIECES + 49):
        begin_ns = 5 * SECOND + number * step_ns
        assert pace.rate_bps(begin_ns + step_ns // 2) == number % 100 + 1
        assert pace.mean_bps(begin_ns, begin_ns + step_ns) == pytest.approx(number % 100 + 1)
    assert len(pace._since[1].starts_s) <= kept + 2


def test_a_day_without_a_limit_costs_no_precision() -> None:
    """1,000 bits at 1 Mbit/s are a millisecond, whatever was before."""
    clock = Clock()
    pace = Pace(1e12, clock)
    clock.ns += 86_400 * SECOND
    pace.set(1e6)
    assert pace.due_ns(clock.ns, 125) - clock.ns == pytest.approx(10**6, abs=1000)
    assert pace.mean_bps(clock.ns, clock.ns + 10**6) == pytest.approx(1e6, rel=1e-3)


buffers = st.lists(st.binary(max_size=40), max_size=8)


@given(buffers, st.integers(0, 100))
def test_buffers_are_split_without_copying(parts: list[bytes], size: int) -> None:
    first, rest = _split(parts, size)
    whole = b"".join(parts)
    assert (b"".join(first), b"".join(rest)) == (whole[:size], whole[size:])
    for view in (*first, *rest):
        assert any((view.obj if isinstance(view, memoryview) else view) is part for part in parts), "copied"


def received(parts: list[bytes], pace: Pace) -> tuple[int, list[tuple[int, int]], bytes]:
    """Send over a socket pair: when sending began, (instant, bytes so far) of every read, and the bytes."""
    left, right = socket.socketpair()
    arrivals, data = [], b""
    with left, right:
        for end in (left, right):
            end.settimeout(DEADLINE_S)
        start_ns = time.monotonic_ns()

        def send() -> None:
            send_all(left, parts, pace)
            left.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        while part := right.recv(1 << 16):
            data += part
            arrivals.append((time.monotonic_ns(), len(data)))
        sender.join(DEADLINE_S)
        assert not sender.is_alive()
    return start_ns, arrivals, data


@given(buffers, st.lists(st.floats(1e6, 1e10), min_size=1, max_size=3))
def test_every_byte_arrives_in_order_along_any_trace(parts: list[bytes], rates: list[float]) -> None:
    pace = Pace(RateTrace.of_slots(rates, 1e-4))
    assert received(parts, pace)[2] == b"".join(parts)


def test_no_byte_comes_before_the_integral_of_the_trace() -> None:
    """300 kB: 50 kB in 0.05 s at 1 MB/s, then 250 kB at 5 MB/s: 0.1 s. The upper bound is a deadline."""
    trace = RateTrace((0.0, 0.05), (8e6, 40e6))
    parts = [bytes(range(256)) * 4, bytes(100_000), bytes(198_976)]
    pace = Pace(trace)
    origin_ns = pace._since[0]
    start_ns, arrivals, data = received(parts, pace)
    assert data == b"".join(parts)
    for at_ns, count in arrivals:
        allowed = (trace.bits((at_ns - origin_ns) * 1e-9) - trace.bits((start_ns - origin_ns) * 1e-9)) / 8
        assert count <= allowed + 1
    assert len(arrivals) > 10, "not in quanta"
    assert 0.099 * SECOND <= arrivals[-1][0] - origin_ns < 10 * SECOND


def test_a_sender_that_waits_notices_a_new_rate() -> None:
    """At 1 bit/s, 1,000 bytes take over two hours; the rate is raised while the sender waits for the first."""
    pace = Pace(1.0)
    timer = threading.Timer(0.1, pace.set, [80e6])
    timer.start()
    start_ns, arrivals, data = received([bytes(1000)], pace)
    timer.join()
    assert len(data) == 1000
    assert 0.1 * SECOND <= arrivals[-1][0] - start_ns < 5 * SECOND  # the first byte alone takes 8 s

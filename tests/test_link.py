"""Links: what can be asked for, and pacing that takes at least bytes / rate and changes no byte."""

from __future__ import annotations

import math
import socket
import threading
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.errors import SettingsError
from splitnet.runtime.link import LONGEST_DELAY_S, Link, _chunks, send_all

DEADLINE_S = 30.0
UNITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@pytest.mark.parametrize(
    ("text", "rate_bps", "delay_s", "shown"),
    [
        ("loopback", None, 0.0, "loopback"),
        ("loopback+5ms", None, 0.005, "loopback+5ms"),
        ("50mbit", 50e6, 0.0, "50mbit"),
        (" 50 MBit ", 50e6, 0.0, "50mbit"),
        ("1.5gbit+250us", 1.5e9, 250e-6, "1.5gbit+0.25ms"),
        (".5kbit", 500.0, 0.0, "500bit"),
        ("9600bit+1s", 9600.0, 1.0, "9.6kbit+1000ms"),
    ],
)
def test_links_as_they_are_typed(text: str, rate_bps: float | None, delay_s: float, shown: str) -> None:
    link = Link.parse(text)
    assert link.rate_bps == rate_bps
    assert link.delay_s == pytest.approx(delay_s)
    assert str(link) == shown
    assert Link.parse(str(link)) == link


BAD = [
    "",
    "fast",
    "0mbit",
    "0.0bit",
    "50",
    "mbit",
    "-5mbit",
    "5 mb",
    "5mbit+",
    "5mbit+3",
    "5mbit+ms",
    "5mbit+1h",
    "5mbit+-1ms",
    "5mbit+1ms+1ms",
    "1e3mbit",
    "nanmbit",
    "infmbit",
    "0.5bit",
    "9" * 400 + "gbit",
    "5mbit+61s",
    "loopback5mbit",
]


@pytest.mark.parametrize("text", BAD)
def test_bad_links_are_named_with_the_way_out(text: str) -> None:
    with pytest.raises(SettingsError, match="50mbit") as caught:
        Link.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate_bps", [0.0, -1.0, math.nan, math.inf, 1e-9])
def test_a_link_checks_its_rate(rate_bps: float) -> None:
    with pytest.raises(SettingsError, match="rate"):
        Link(rate_bps)


@pytest.mark.parametrize("delay_s", [-1e-9, math.nan, math.inf, LONGEST_DELAY_S + 1])
def test_a_link_checks_its_delay(delay_s: float) -> None:
    with pytest.raises(SettingsError, match="delay"):
        Link(None, delay_s)


@given(st.integers(1, 10**6), st.sampled_from(sorted(UNITS)), st.integers(0, 10**4), st.sampled_from(["us", "ms"]))
def test_any_rate_and_delay_mean_their_product(rate: int, unit: str, delay: int, time_unit: str) -> None:
    link = Link.parse(f"{rate}{unit}+{delay}{time_unit}")
    assert link.rate_bps == rate * UNITS[unit]
    assert link.delay_s == pytest.approx(delay * TIMES[time_unit])
    again = Link.parse(str(link))
    assert again.rate_bps == pytest.approx(link.rate_bps, rel=1e-5)
    assert again.delay_s == pytest.approx(link.delay_s, rel=1e-5)


@given(st.text("0123456789.+-e mkgbitusloopa٣²", max_size=12) | st.text(max_size=12))
def test_any_text_is_a_link_or_a_settings_error(text: str) -> None:
    try:
        link = Link.parse(text)
    except SettingsError:
        return
    assert link.rate_bps is None or link.rate_bps >= 1
    assert 0 <= link.delay_s <= LONGEST_DELAY_S


# --- chunks and sending

buffers = st.lists(st.binary(max_size=40), max_size=8)


@given(buffers, st.integers(1, 50))
def test_chunks_are_the_same_bytes_in_groups_of_one_size(parts: list[bytes], size: int) -> None:
    groups = _chunks(parts, size)
    whole = b"".join(parts)
    assert [b"".join(group) for group in groups] == [whole[at : at + size] for at in range(0, len(whole), size)]
    assert all(view.obj in parts for group in groups for view in group), "copied"


class Reader(threading.Thread):
    """Reads until the other side closes; knows when the last byte came."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(daemon=True)
        self._sock = sock
        self.arrivals: list[tuple[float, int]] = []
        self.data = b""

    def run(self) -> None:
        while part := self._sock.recv(1 << 16):
            self.data += part
            self.arrivals.append((time.monotonic(), len(self.data)))


def sent(parts: list[bytes], rate_bps: float | None) -> tuple[float, Reader]:
    """Send over a socket pair; when sending began, and what was read."""
    left, right = socket.socketpair()
    with left, right:
        left.settimeout(DEADLINE_S)
        right.settimeout(DEADLINE_S)
        reader = Reader(right)
        reader.start()
        start_s = time.monotonic()
        send_all(left, parts, rate_bps)
        left.shutdown(socket.SHUT_WR)
        reader.join(DEADLINE_S)
        assert not reader.is_alive()
    return start_s, reader


@given(buffers, st.sampled_from([None, 10e9, 1e9, 2.4e5]))
def test_every_byte_arrives_in_order_at_any_rate(parts: list[bytes], rate_bps: float | None) -> None:
    assert sent(parts, rate_bps)[1].data == b"".join(parts)


@pytest.mark.parametrize("rate_bps", [None, 400e6])
def test_more_buffers_than_one_call_takes_and_more_bytes_than_a_socket_holds(rate_bps: float | None) -> None:
    parts = [bytes([at % 251]) * (at % 3000) for at in range(1500)]
    assert sent(parts, rate_bps)[1].data == b"".join(parts)


def test_no_byte_comes_before_its_time() -> None:
    """200 kB at 16 Mbit/s, 2 MB/s, take 0.1 s; the upper bound only says that it does not stand still."""
    parts = [bytes(50), bytes(150_000), bytes(49_950)]
    start_s, reader = sent(parts, 16e6)
    assert len(reader.data) == 200_000
    last_s = reader.arrivals[-1][0] - start_s
    assert 0.1 * 0.99 <= last_s < 10
    for at_s, count in reader.arrivals:
        assert count <= (at_s - start_s) * 2e6 * 1.01 + 1
    assert all(one[0] <= other[0] for one, other in pairwise(reader.arrivals))

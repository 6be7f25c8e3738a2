"""What is recorded of transfers: arithmetic, the log, and what a connection notes of what it sends."""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import pytest
import torch

from splitnet.runtime.connection import Connection
from splitnet.runtime.link import Link
from splitnet.runtime.link_pace import Pace
from splitnet.runtime.messages import Done, FromWorker, Infer, ToWorker
from splitnet.runtime.rates import RateTrace
from splitnet.runtime.transfers import MOST_KEPT, Transfer, TransferLog
from splitnet.wire.frames import encode_frame

SECOND = 10**9


def test_achieved_over_asked() -> None:
    """1 MB in 2 s are 4 Mbit/s, a fifth less than 5."""
    transfer = Transfer(1_000_000, 5e6, SECOND, 3 * SECOND)
    assert transfer.achieved_bps == pytest.approx(4e6)
    assert transfer.error == pytest.approx(-0.2)
    assert Transfer(1_000_000, None, SECOND, 3 * SECOND).error is None
    assert Transfer(10, 5e6, SECOND, SECOND).achieved_bps == 80e9  # at least a nanosecond


def test_small_ones_and_free_ones_are_told() -> None:
    """5 ms of 8 Mbit/s are 5,000 bytes; 3,028 are a twentieth of 60,560."""
    assert Transfer(4_999, 8e6, 0, 1).is_small
    assert not Transfer(5_000, 8e6, 0, 1).is_small
    assert not Transfer(1, None, 0, 1).is_small
    assert Transfer(60_559, 8e6, 0, 1, burst_bytes=3_028).is_small
    assert not Transfer(60_560, 8e6, 0, 1, burst_bytes=3_028).is_small
    assert Transfer(3_028, 8e6, 0, 1, burst_bytes=3_028).is_free
    assert not Transfer(3_029, 8e6, 0, 1, burst_bytes=3_028).is_free
    assert not Transfer(1, 8e6, 0, 1).is_free


def test_a_log_says_what_was_asked_over_the_whole_transfer() -> None:
    """From second 1 to 3 along 8 Mbit/s, from 2 on 24; as received at 5: (8 + 3 * 24) / 4."""
    pace = Pace(RateTrace((0.0, 2.0), (8e6, 24e6)), lambda: 0)
    log = TransferLog()
    log.sent(100, pace, SECOND, 3 * SECOND)
    log.sent(200, 5e6, SECOND, 3 * SECOND)
    log.sent(300, None, SECOND, 3 * SECOND)
    asked = {100: 16e6, 200: 5e6, 300: None}
    assert log.take() == [Transfer(size, asked_bps, SECOND, 3 * SECOND) for size, asked_bps in asked.items()]
    assert log.take() == []
    log.sent(50, None, 0, 1)
    log.sent(100, pace, SECOND, 3 * SECOND)
    log.received(5 * SECOND, pace)
    assert log.take() == [Transfer(50, None, 0, 1), Transfer(100, 20e6, SECOND, 5 * SECOND, received=True)]


def test_a_log_is_bounded() -> None:
    log = TransferLog()
    for size in range(MOST_KEPT + 5):
        log.sent(size, None, 0, 1)
    assert [transfer.size_bytes for transfer in log.take()] == list(range(5, MOST_KEPT + 5))


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), timeout=10.0)
        return ours, listener.accept()[0]


@pytest.mark.parametrize("paced", [False, True])
def test_a_connection_notes_the_frames_that_it_sends(paced: bool) -> None:
    """The size is that of the whole frame; the pace goes before the link's rate."""
    ours, theirs = tcp_pair()
    left: Connection[Any] = Connection(ours, FromWorker, "left")
    right: Connection[Any] = Connection(theirs, ToWorker, "right")
    body = torch.arange(5000, dtype=torch.uint8).numpy().tobytes()
    try:
        left.agree(7, checksum=False, link=Link(400e6))
        right.agree(7, checksum=False, link=Link())
        left.send(Infer(1, []), [body])
        assert bytes(right.receive(10.0).body.numpy()) == body
        left.transfers = TransferLog()
        if paced:
            left.pace = Pace(80e6)
        left.send(Infer(1, []), [body])
        got = right.receive(10.0)
        right.send(Done())
        left.receive(10.0)
        (transfer,) = left.transfers.take()
    finally:
        left.close()
        right.close()
    assert transfer.size_bytes == sum(
        map(len, encode_frame(msgspec.msgpack.encode(Infer(1, [])), [body], session=7, checksum=False))
    )
    assert transfer.asked_bps == pytest.approx(80e6 if paced else 400e6)
    assert transfer.started_ns < transfer.ended_ns
    assert transfer.started_ns < got.at_ns
    assert transfer.ended_ns - transfer.started_ns >= transfer.size_bytes * 8e9 / (80e6 if paced else 400e6)

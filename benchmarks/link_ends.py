"""The two ends of a link in processes of their own, as a gateway and an AP are: splitnet's connections, no model.

The sender is told by lines of JSON what to send and at which rate; it answers each with a line. The receiver says
when, on the clock that both share, it had read a message. It does not know which backend is measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Self

import msgspec

from splitnet.runtime.connection import Connection, PeerGoneError
from splitnet.runtime.link_pace import Pace
from splitnet.runtime.rates import RateTrace
from splitnet.runtime.transfers import Transfer, TransferLog

DEADLINE_S = 120.0


class Sent(msgspec.Struct, tag=True):
    """A message whose body is what is measured."""


class Seen(msgspec.Struct, tag=True):
    """When its last byte had been read."""

    at_ns: int


class Process:
    """One end, told and heard by lines. Use it as a context manager."""

    def __init__(self, wrap: Callable[[list[str]], list[str]], *arguments: str) -> None:
        command = [sys.executable, "-m", "benchmarks.link_ends", *arguments]
        self._process = subprocess.Popen(
            wrap(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def hear(self) -> Any:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("an end of the link has ended")
        return json.loads(line)

    def ask(self, **order: Any) -> Any:
        """Tell it something and hear what it answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self.hear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # at which it ends
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5.0)
        self._process.stdout.close()


def as_order(rate: float | RateTrace) -> dict[str, Any]:
    """A rate, for a line."""
    trace = rate if isinstance(rate, RateTrace) else RateTrace.constant(rate)
    return {"starts_s": trace.starts_s, "rates_bps": trace.rates_bps}


def as_transfer(answer: dict[str, Any]) -> Transfer:
    """What the sender answered to `send`."""
    return Transfer(**answer)


def send(host: str, port: int) -> None:
    """The gateway's end; it is told `{"starts_s": …, "rates_bps": …}` or `{"send": bytes}`."""
    sock = socket.create_connection((host, port), timeout=20.0)
    connection: Connection[Any] = Connection(sock, Seen, "the receiver")
    connection.transfers = TransferLog()
    memory = bytes(1 << 24)
    print("{}", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any] = {}
        if "send" in order:
            connection.send(Sent(), [memoryview(memory)[: order["send"]]])
            at_ns = connection.receive(DEADLINE_S).message.at_ns
            connection.transfers.received(at_ns, connection.pace)
            (transfer,) = connection.transfers.take()
            answer = dataclasses.asdict(transfer)
        else:
            trace = RateTrace(tuple(order["starts_s"]), tuple(order["rates_bps"]))
            if connection.pace is None:
                connection.pace = Pace(trace)
            else:
                connection.pace.set(trace)
        print(json.dumps(answer), flush=True)


def receive(host: str) -> None:
    """The AP's end: says its port, then takes one connection."""
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    with socket.create_server((host, 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        sock, _ = listener.accept()
    connection: Connection[Any] = Connection(sock, Sent, "the sender")
    with contextlib.suppress(PeerGoneError):
        while True:
            connection.send(Seen(connection.receive(DEADLINE_S).at_ns))


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(sys.argv[2], int(sys.argv[3]))
    else:
        receive(sys.argv[2])

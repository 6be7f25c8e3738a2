"""The asking side of a connection: the coordinator's to both workers, and the gateway's to its AP."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from splitnet.errors import ProtocolError, WorkerError
from splitnet.models.reference import ModelRef
from splitnet.profiling.machine import boot_digest
from splitnet.runtime.address import Address
from splitnet.runtime.connection import ANSWER_DEADLINE_S, HANDSHAKE_DEADLINE_S, Connection, Received
from splitnet.runtime.link import Link
from splitnet.runtime.link_pace import Pace
from splitnet.runtime.messages import Failed, FromWorker, Hello, Load, Loaded, Welcome
from splitnet.runtime.transfers import TransferLog

Answered = TypeVar("Answered")


class Client:
    """A connection to one worker. Requests and answers alternate."""

    def __init__(self, connection: Connection[Any], welcome: Welcome) -> None:
        self._connection = connection
        self.welcome = welcome

    @staticmethod
    def connect(
        address: Address,
        *,
        role: str,
        token: str = "",
        body_checksum: bool = False,
        link: Link | None = None,
    ) -> Client:
        """Open a connection and shake hands.

        Args:
            role: what the worker must be, `gateway` or `ap`.
            token: what a launched worker was given; empty for one that stands by itself.
            body_checksum: both sides add and check one.
            link: how both directions are paced and delayed.

        Raises:
            WorkerError: nobody listens there, it is another role, or it turned us away.
        """
        link = link or Link()
        try:
            sock = socket.create_connection((address.host, address.port), timeout=HANDSHAKE_DEADLINE_S)
        except OSError as error:
            raise WorkerError(
                f"no {role} at {address}: {error.strerror or error}; "
                f"start one with `splitnet worker {role} --listen {address}`"
            ) from error
        connection: Connection[Any] = Connection(sock, FromWorker, f"the {role} at {address}")
        with contextlib.ExitStack() as unless_welcome:
            unless_welcome.callback(connection.close)
            connection.send(
                Hello(
                    boot=boot_digest() or "",
                    token=token,
                    body_checksum=body_checksum,
                    rate_bps=link.rate_bps,
                    delay_s=link.delay_s,
                )
            )
            welcome = _answer(connection, Welcome, HANDSHAKE_DEADLINE_S).message
            if welcome.role != role:
                raise WorkerError(f"the worker at {address} is a {welcome.role}, not a {role}")
            connection.agree(welcome.session, checksum=body_checksum, link=link)
            unless_welcome.pop_all()
        return Client(connection, welcome)

    def pace_by(self, pace: Pace | None, transfers: TransferLog | None) -> None:
        """Send from now on at a rate that may change (None: the link's), and note there what was sent."""
        self._connection.pace, self._connection.transfers = pace, transfers

    def load(self, model: ModelRef, *, graph: str | None = None, weights: str | None = None) -> Loaded:
        """Have the worker hold a model, of this fingerprint where one is given."""
        return self.ask(Load(model, graph, weights), Loaded).message

    def ask(
        self,
        request: msgspec.Struct,
        expected: type[Answered],
        buffers: Sequence[bytes | memoryview] = (),
        deadline_s: float = ANSWER_DEADLINE_S,
    ) -> Received[Answered]:
        """Send a request and wait for its answer.

        Raises:
            WorkerError: the worker says why not, or is gone.
        """
        self.send(request, buffers)
        return self.answer(expected, deadline_s)

    def send(self, request: msgspec.Struct, buffers: Sequence[bytes | memoryview] = ()) -> None:
        """Send a request whose answer is fetched with `answer`."""
        self._connection.send(request, buffers)

    def answer(self, expected: type[Answered], deadline_s: float) -> Received[Answered]:
        """Wait for the answer to the last request."""
        return _answer(self._connection, expected, deadline_s)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _answer(connection: Connection[Any], expected: type[Answered], deadline_s: float) -> Received[Answered]:
    peer = connection.peer
    try:
        received = connection.receive(deadline_s)
    except ProtocolError as error:
        raise ProtocolError(f"{peer}: {error}") from error
    if isinstance(received.message, expected):
        return received
    if isinstance(received.message, Failed):
        raise WorkerError(f"{peer}: {received.message.reason}")
    raise ProtocolError(f"{peer} answered {type(received.message).__name__} where {expected.__name__} was due")

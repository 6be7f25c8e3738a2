"""One TCP connection that carries frames: blocking, with a deadline on every wait.

Deadlines are kernel socket timeouts (SO_RCVTIMEO): Python's own would poll before every read, which small
messages would feel. A deadline is on silence: so many seconds without a byte.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
import torch

from splitnet.errors import ProtocolError, SplitnetError, WorkerError
from splitnet.runtime.link import Link, send_all
from splitnet.runtime.link_pace import Pace
from splitnet.runtime.transfers import TransferLog
from splitnet.wire.frames import FrameDecoder, Limits, encode_frame

HANDSHAKE_DEADLINE_S = 20.0
ANSWER_DEADLINE_S = 600.0
"""For an answer: a model may have to be built, or a large one run on a small board."""
IDLE_DEADLINE_S = 3600.0
"""For the next request of a peer that has nothing to ask."""
POLL_NS = 250_000
"""Look for bytes this long before sleeping. A sleeping core wakes late and with cold caches: on a virtual machine
that costs 0.1-0.2 ms a message, more than all that is done here with it. Off on a single core."""

Message = TypeVar("Message")
_encode = msgspec.msgpack.Encoder().encode


class PeerGoneError(WorkerError):
    """The peer closed the connection, or was silent beyond the deadline."""


@dataclass(frozen=True, slots=True)
class Received(Generic[Message]):
    """One message. `body` is valid until the next one is received; `at_ns` is when its last byte was read."""

    message: Message
    body: torch.Tensor
    at_ns: int


class Connection(Generic[Message]):
    """Frames over one socket, which it owns. `message_type` is what is received.

    Attributes:
        pace: a rate that may change, in place of the link's.
        transfers: where what was sent is noted; None: nowhere.
    """

    def __init__(
        self,
        sock: socket.socket,
        message_type: Any,
        peer: str,
        *,
        limits: Limits | None = None,
        send_deadline_s: float = ANSWER_DEADLINE_S,
    ) -> None:
        self._socket = sock
        self._decoder: FrameDecoder[Message] = FrameDecoder(message_type, limits)
        self._session = 0
        self._checksum = False
        self._deadline_s = -1.0
        self._poll_ns = POLL_NS if (os.cpu_count() or 1) > 1 else 0
        self.peer = peer
        self.link = Link()
        self.pace: Pace | None = None
        self.transfers: TransferLog | None = None
        sock.setblocking(True)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(send_deadline_s))

    def agree(self, session: int, *, checksum: bool, link: Link, limits: Limits | None = None) -> None:
        """What the handshake settled: from here every frame carries the session, and bodies their checksum.

        Args:
            limits: from here; None: as they were.
        """
        self._session = self._decoder.session = session
        if limits is not None:
            self._decoder.limits = limits
        self._checksum = self._decoder.require_checksum = checksum
        self.link = link

    def send(self, message: msgspec.Struct, buffers: Sequence[bytes | memoryview] = ()) -> None:
        """Send one message with its body, at the pace or the link's rate.

        Raises:
            PeerGoneError: nobody reads at the other end.
        """
        frame = encode_frame(_encode(message), buffers, session=self._session, checksum=self._checksum)
        rate = self.pace or self.link.rate_bps
        started_ns = time.monotonic_ns()
        try:
            send_all(self._socket, frame, rate)
        except OSError as error:
            raise PeerGoneError(f"{self.peer} does not take what is sent: {error.strerror or error}") from error
        if self.transfers is not None:
            self.transfers.sent(sum(map(len, frame)), rate, started_ns, time.monotonic_ns())

    def receive(self, deadline_s: float) -> Received[Message]:
        """Wait for the next message, and hold it for the link's delay.

        Raises:
            PeerGoneError: the connection was closed, or `deadline_s` passed without a byte.
            ProtocolError: what came is not the protocol; the connection is of no more use.
        """
        if deadline_s != self._deadline_s:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(deadline_s))
            self._deadline_s = deadline_s
        decoder = self._decoder
        while True:
            try:
                count = self._read(decoder.buffer())
            except BlockingIOError:
                raise PeerGoneError(f"{self.peer} was silent for {deadline_s:g} s") from None
            except OSError as error:
                raise PeerGoneError(f"{self.peer} is gone: {error.strerror or error}") from error
            if count == 0:
                try:
                    decoder.eof()
                except ProtocolError as error:
                    raise PeerGoneError(f"{self.peer} closed the connection: {error}") from error
                raise PeerGoneError(f"{self.peer} closed the connection")
            at_ns = time.monotonic_ns()
            try:
                frame = decoder.received(count)
            except ProtocolError:
                raise
            except SplitnetError as error:  # a message whose fields are out of their ranges
                raise ProtocolError(str(error)) from error
            if frame is not None:
                break
        if self.link.delay_s:
            time.sleep(max(0.0, self.link.delay_s - (time.monotonic_ns() - at_ns) * 1e-9))
            at_ns = time.monotonic_ns()
        return Received(frame.message, frame.body, at_ns)

    def _read(self, buffer: memoryview) -> int:
        """Bytes put into the buffer, which is filled unless the peer stops; polls first, then sleeps."""
        recv_into, now_ns = self._socket.recv_into, time.monotonic_ns
        filled = 0
        end_ns = now_ns() + self._poll_ns
        while now_ns() < end_ns:
            try:
                count = recv_into(buffer[filled:], 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            filled += count
            if filled == len(buffer) or count == 0:
                return filled
            end_ns = now_ns() + self._poll_ns
        return filled or recv_into(buffer, 0, socket.MSG_WAITALL)

    def close(self) -> None:
        """Close both directions; a thread that waits in `receive` gets PeerGoneError."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))

"""One connection to another AP's node: who is there, what comes in, what goes out.

The handshake proves who the other side is: each signs the other's challenge. Then a thread reads and hands on every
message before it reads the next, so that a peer is never ahead of us by more than its socket holds; another thread
writes from a bounded outbox. A peer that does not take what it is sent, or is silent, is left.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus.canonical import digest_of, encode
from splitnet.consensus.genesis import Rules
from splitnet.consensus.identity import holds, sign
from splitnet.consensus.messages import Hello, Message, Prove, Said
from splitnet.consensus.sizes import MOST_BLOCK_BYTES
from splitnet.errors import ProtocolError, SplitnetError
from splitnet.runtime.connection import Connection
from splitnet.runtime.link import Link
from splitnet.wire.frames import Limits

HANDSHAKE_DEADLINE_S = 10.0
SILENCE_DEADLINE_S = 15.0
"""Without a byte, pings included."""
MOST_WAITING = 2048
"""Messages in an outbox."""
LIMITS = Limits(max_header_bytes=1 << 19, max_body_bytes=MOST_BLOCK_BYTES)

Outgoing: TypeAlias = Callable[[], tuple[Said, bytes]]
"""Makes a message and its body when it is its turn, so that an outbox holds no blocks."""


@dataclass(frozen=True, slots=True)
class Introduced:
    """A connection whose other side has proved to be an AP of this network."""

    connection: Connection[Message]
    ap: int


def introduce(sock: socket.socket, address: str, rules: Rules, key: Ed25519PrivateKey, own: int) -> Introduced:
    """Shake hands; either side may have dialled. The socket is the connection's, and closed where that fails.

    Raises:
        SplitnetError: it is silent, of another network, not an AP, this node itself, or cannot prove who it is.
    """
    connection: Connection[Message] = Connection(
        sock, Message, address, limits=LIMITS, send_deadline_s=SILENCE_DEADLINE_S
    )
    try:
        ap = _shake_hands(connection, address, rules, key, own)
    except BaseException:
        connection.close()
        raise
    return Introduced(connection, ap)


def _shake_hands(
    connection: Connection[Message], address: str, rules: Rules, key: Ed25519PrivateKey, own: int
) -> int:
    """The number of the AP at the other side."""
    challenge = secrets.token_bytes(32)
    connection.send(Hello(rules.network, own, challenge))
    hello = connection.receive(HANDSHAKE_DEADLINE_S).message
    if not isinstance(hello, Hello):
        raise ProtocolError(f"a connection opens with Hello, not {type(hello).__name__}")
    if hello.network != rules.network:
        raise ProtocolError(
            f"{address} is of network {hello.network.hex()[:12]}, this is {rules.network.hex()[:12]}; "
            f"both must have the same genesis block"
        )
    if hello.ap >= len(rules.genesis.aps) or hello.ap == own:
        raise ProtocolError(f"{address} says it is AP {hello.ap}: not another one of {len(rules.genesis.aps)} APs")
    connection.send(Prove(sign(key, _proof(rules, own, hello.challenge, challenge))))
    prove = connection.receive(HANDSHAKE_DEADLINE_S).message
    if not isinstance(prove, Prove):
        raise ProtocolError(f"after Hello comes Prove, not {type(prove).__name__}")
    member = rules.genesis.aps[hello.ap]
    if not holds(member.public_key, _proof(rules, hello.ap, challenge, hello.challenge), prove.signature):
        raise ProtocolError(f"{address} says it is {member.name} and cannot prove it")
    both = b"".join(sorted((challenge, hello.challenge)))
    connection.agree(int.from_bytes(hashlib.sha256(both).digest()[:8]) | 1, checksum=False, link=Link())
    return hello.ap


def _proof(rules: Rules, prover: int, asked: bytes, own: bytes) -> bytes:
    return digest_of("peer", rules.network, encode(prover), asked, own)


class PeerThreads:
    """The two threads of a connection, until either side ends it."""

    def __init__(
        self,
        introduced: Introduced,
        hear: Callable[[PeerThreads, Message, bytes], None],
        ended: Callable[[PeerThreads, SplitnetError], None],
    ) -> None:
        """
        Args:
            hear: is given each message with its body, in order.
            ended: is told once why the connection has ended, unless it was closed here.
        """
        self.ap = introduced.ap
        self._connection = introduced.connection
        self._hear, self._ended = hear, ended
        self._outbox: queue.Queue[Outgoing | None] = queue.Queue(MOST_WAITING)
        self._told_end = threading.Lock()

    def start(self) -> None:
        """Begin to read and write."""
        for work in (self._read, self._write):
            threading.Thread(target=work, name=f"{work.__name__} AP {self.ap}", daemon=True).start()

    def send(self, outgoing: Outgoing) -> bool:
        """Put it into the outbox; False where that is full."""
        try:
            self._outbox.put_nowait(outgoing)
        except queue.Full:
            return False
        return True

    def close(self) -> None:
        """End the connection."""
        self._told_end.acquire(blocking=False)
        self._connection.close()
        with contextlib.suppress(queue.Full):  # then the writer finds the closed connection by itself
            self._outbox.put_nowait(None)

    def _read(self) -> None:
        try:
            while True:
                received = self._connection.receive(SILENCE_DEADLINE_S)
                self._hear(self, received.message, bytes(received.body.numpy().data))
        except SplitnetError as error:
            self._end(error)

    def _write(self) -> None:
        try:
            while (outgoing := self._outbox.get()) is not None:
                message, body = outgoing()
                self._connection.send(message, [body] if body else [])
        except SplitnetError as error:
            self._end(error)

    def _end(self, error: SplitnetError) -> None:
        if self._told_end.acquire(blocking=False):
            self._connection.close()
            self._ended(self, error)
            with contextlib.suppress(queue.Full):
                self._outbox.put_nowait(None)

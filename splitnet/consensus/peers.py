"""The connections of a node: who is let in, who is dialled again, who is dropped and why.

Everything is done under the node's lock, so that what a peer says is taken in whole before the next thing is.
Strangers hold nothing for long: they have a deadline for the whole handshake, the oldest of them makes room, and what
is remembered of them is apart from what is remembered of APs. Knows nothing of blocks.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus.genesis import Rules
from splitnet.consensus.handshake import HANDSHAKE_DEADLINE_S, introduce
from splitnet.consensus.messages import Message, Ping
from splitnet.consensus.peer import Outgoing, PeerThreads
from splitnet.errors import SettingsError, SplitnetError
from splitnet.runtime.address import Address
from splitnet.runtime.connection import PeerGoneError

PING_EVERY_S = 4.0
"""How often a peer that says nothing is asked whether it is there."""
TEND_EVERY_S = 0.5
"""How often handshakes are looked at."""
DIAL_DEADLINE_S = 5.0
"""For a connection to be made."""
DIAL_EVERY_S = (0.2, 3.0)
"""Between two attempts, at first and at last."""
BAN_S = 60.0
"""For a peer that broke a rule."""
ACCEPT_AGAIN_S = 0.1
"""After this host had no more descriptors, or the like."""
MOST_SHAKING = 128
"""Connections that shake hands at a time."""
MOST_REMEMBERED = 64
"""Peers that were dropped, with the reason; and as many strangers."""


class Peers:
    """Connected APs by number.

    Attributes:
        address: where it listens.
        dropped: names of APs and reasons, oldest first.
        refused: addresses that failed the handshake, and reasons, oldest first.
    """

    def __init__(
        self,
        rules: Rules,
        key: Ed25519PrivateKey,
        number: int,
        address: Address,
        lock: threading.RLock,
        *,
        connected: Callable[[int], None],
        heard: Callable[[int, Message, bytes], None],
        gone: Callable[[int], None],
    ) -> None:
        """Listen; nobody is let in before `start`.

        Raises:
            SettingsError: the port is taken.
        """
        self._rules, self._key, self._number, self._lock = rules, key, number, lock
        self._connected, self._heard, self._gone = connected, heard, gone
        self.dropped: deque[tuple[str, str]] = deque(maxlen=MOST_REMEMBERED)
        self.refused: deque[tuple[str, str]] = deque(maxlen=MOST_REMEMBERED)
        self._threads: dict[int, tuple[PeerThreads, bool]] = {}
        self._banned_until_s: dict[int, float] = {}
        self._shaking: dict[socket.socket, float] = {}
        """Accepted or dialled, and until when they may."""
        self._strangers: deque[socket.socket] = deque()
        """Those of them that were accepted, oldest first."""
        self._closing = threading.Event()
        self._workers: list[threading.Thread] = []
        try:
            self._listener = socket.create_server((address.host, address.port), family=address.family)
        except OSError as error:
            raise SettingsError(f"cannot listen on {address}: {error.strerror}; port 0 takes a free one") from None
        self.address = Address(*self._listener.getsockname()[:2])

    @property
    def numbers(self) -> list[int]:
        """Of the connected APs, rising."""
        return sorted(self._threads)

    def start(self) -> None:
        """Let peers in."""
        for work in (self._accept, self._tend):
            self._begin(work)

    def dial(self, address: Address) -> None:
        """Connect with this one, again and again."""
        self._begin(partial(self._dial, address))

    def _begin(self, work: Callable[[], None]) -> None:
        worker = threading.Thread(target=work, daemon=True)
        self._workers.append(worker)
        worker.start()

    def post(self, peer: int, outgoing: Outgoing) -> None:
        """Put a message into a peer's outbox; one whose outbox is full is dropped."""
        connected = self._threads.get(peer)
        if connected is not None and not connected[0].send(outgoing):
            self.drop(peer, "it does not take what it is sent", broke_rule=False)

    def drop(self, peer: int, reason: str, broke_rule: bool) -> None:
        """End a connection; who broke a rule may not come back at once."""
        connected = self._threads.pop(peer, None)
        if connected is None:
            return
        self._gone(peer)
        connected[0].close()
        self.dropped.append((self._rules.genesis.aps[peer].name, reason))
        if broke_rule:
            self._banned_until_s[peer] = time.monotonic() + BAN_S

    def halt(self) -> None:
        """End all connections, and let nobody in any more; without waiting for the threads."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for threads, _ in self._threads.values():
                threads.close()
            self._threads.clear()
            for sock in self._shaking:
                _hang_up(sock)

    def close(self) -> None:
        """End all connections and threads."""
        self.halt()
        for worker in self._workers:
            if worker is not threading.current_thread():
                worker.join(DIAL_DEADLINE_S + 1)

    # --- threads

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, (host, port, *_) = self._listener.accept()
            except OSError:  # closed, or too many descriptors for now
                self._closing.wait(ACCEPT_AGAIN_S)
                continue
            work = partial(self._meet, sock, f"{host}:{port}", False)
            threading.Thread(target=work, name=f"meet {host}:{port}", daemon=True).start()

    def _dial(self, address: Address) -> None:
        pause_s, known = DIAL_EVERY_S[0], None
        while not self._closing.wait(pause_s):
            with self._lock:
                if known in self._threads:
                    pause_s = DIAL_EVERY_S[0]
                    continue
            with contextlib.suppress(OSError):
                sock = socket.create_connection((address.host, address.port), DIAL_DEADLINE_S)
                found = self._meet(sock, str(address), True)
                known = found if found is not None else known
            pause_s = min(2 * pause_s, DIAL_EVERY_S[1])

    def _tend(self) -> None:
        """Ping peers, and hang up on who takes too long to shake hands."""
        ping_at_s = time.monotonic()
        while not self._closing.wait(TEND_EVERY_S):
            now_s = time.monotonic()
            with self._lock:
                for sock in [sock for sock, until_s in self._shaking.items() if now_s > until_s]:
                    _hang_up(sock)
                if now_s >= ping_at_s:
                    ping_at_s = now_s + PING_EVERY_S
                    for peer in self.numbers:
                        self.post(peer, lambda: (Ping(), b""))

    def _meet(self, sock: socket.socket, address: str, dialled: bool) -> int | None:
        """Shake hands and take the peer in; its number where it proved to be one."""
        with self._lock:
            self._shaking[sock] = time.monotonic() + HANDSHAKE_DEADLINE_S
            if not dialled:
                self._strangers.append(sock)
                if len(self._strangers) > MOST_SHAKING:
                    _hang_up(self._strangers.popleft())
        try:
            introduced = introduce(sock, address, self._rules, self._key, self._number, dialled=dialled)
        except SplitnetError as error:
            if not isinstance(error, PeerGoneError):
                with self._lock:
                    self.refused.append((address, str(error)))
            return None
        finally:
            with self._lock:
                del self._shaking[sock]
                if sock in self._strangers:
                    self._strangers.remove(sock)
        ap = introduced.ap
        preferred = dialled == (self._number < ap)  # of two connections both sides keep that of the lower number
        with self._lock:
            banned = time.monotonic() < self._banned_until_s.get(ap, 0)
            before = self._threads.get(ap)
            if self._closing.is_set() or banned or (before is not None and before[1] and not preferred):
                introduced.channel.close()
                return ap
            if before is not None:
                before[0].close()
                self._gone(ap)
            threads = PeerThreads(introduced, self._taken, self._ended)
            self._threads[ap] = (threads, preferred)
            threads.start()
            self._connected(ap)
        return ap

    def _taken(self, threads: PeerThreads, message: Message, body: bytes) -> None:
        with self._lock:
            if self._is_current(threads) and not self._closing.is_set():
                self._heard(threads.ap, message, body)

    def _ended(self, threads: PeerThreads, error: SplitnetError) -> None:
        with self._lock:
            if self._is_current(threads):
                self.drop(threads.ap, str(error), broke_rule=not isinstance(error, PeerGoneError))

    def _is_current(self, threads: PeerThreads) -> bool:
        current = self._threads.get(threads.ap)
        return current is not None and current[0] is threads


def _hang_up(sock: socket.socket) -> None:
    """End a connection whose thread then closes it."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)

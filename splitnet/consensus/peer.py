"""One connected AP: its thread that reads, its thread that writes, and the outbox between.

A message is handed on before the next is read, so that a peer is never ahead of us by more than its socket holds;
another thread writes from a bounded outbox. A peer that does not take what it is sent, or is silent, is left.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TypeAlias

from splitnet.consensus.handshake import Introduced
from splitnet.consensus.messages import Message, Said
from splitnet.errors import SplitnetError

SILENCE_DEADLINE_S = 15.0
"""Without a byte, pings included."""
MOST_WAITING = 2048
"""Messages in an outbox."""

Outgoing: TypeAlias = Callable[[], tuple[Said, bytes]]
"""Makes a message and its body when it is its turn, so that an outbox holds no blocks."""


class PeerThreads:
    """The two threads of a channel, until either side ends it."""

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
        self._channel = introduced.channel
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
        self._channel.close()
        with contextlib.suppress(queue.Full):  # then the writer finds the closed connection by itself
            self._outbox.put_nowait(None)

    def _read(self) -> None:
        try:
            while True:
                message, body = self._channel.receive(SILENCE_DEADLINE_S)
                self._hear(self, message, body)
        except SplitnetError as error:
            self._end(error)

    def _write(self) -> None:
        try:
            while (outgoing := self._outbox.get()) is not None:
                self._channel.send(*outgoing())
        except SplitnetError as error:
            self._end(error)

    def _end(self, error: SplitnetError) -> None:
        if self._told_end.acquire(blocking=False):
            self._channel.close()
            self._ended(self, error)
            with contextlib.suppress(queue.Full):
                self._outbox.put_nowait(None)

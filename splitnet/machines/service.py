"""Asking and answering between the processes of a run: a thread for each connection, an answer for each request."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

from splitnet.errors import ProtocolError, SettingsError, SplitnetError, WorkerError
from splitnet.machines.messages import Failed, Greet, Message, Said, Welcome
from splitnet.runtime.address import Address
from splitnet.runtime.connection import (
    ANSWER_DEADLINE_S,
    HANDSHAKE_DEADLINE_S,
    IDLE_DEADLINE_S,
    Connection,
    PeerGoneError,
    Received,
)

Buffers: TypeAlias = Sequence[bytes | memoryview]
Answered = TypeVar("Answered", bound=Said)
MOST_CONNECTIONS = 256
TOKEN_VARIABLE = "SPLITNET_TOKEN"


@dataclass(frozen=True, slots=True)
class Answer:
    """A message and the buffers of its body."""

    message: Said
    buffers: Buffers = ()


Handler: TypeAlias = Callable[[Greet, Received[Message]], Answer]
Step: TypeAlias = Callable[[], None]


class Service:
    """Answers whoever knows the run's token."""

    def __init__(self, name: str, host: str, token: str, handle: Handler, begin: Step = lambda: None) -> None:
        """
        Args:
            host: loopback, or of a network namespace of the run.
            handle: is called for each request, on the thread of its connection; SplitnetError becomes `Failed`.
            begin: is called first on that thread.
        """
        self._name, self._token, self._handle, self._begin = name, token, handle, begin
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._listener = socket.create_server((host, 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, peer = self._listener.accept()
            except OSError:
                return
            if not self._places.acquire(blocking=False):
                sock.close()
                continue
            threading.Thread(target=self._serve, args=(sock, f"{peer[0]}:{peer[1]}"), daemon=True).start()

    def _serve(self, sock: socket.socket, peer: str) -> None:
        connection: Connection[Message] = Connection(sock, Message, peer)
        self._begin()
        try:
            greet = connection.receive(HANDSHAKE_DEADLINE_S).message
            if not isinstance(greet, Greet) or not secrets.compare_digest(greet.token, self._token):
                raise ProtocolError(f"{self._name} belongs to another run")
            connection.send(Welcome(self._name))
            while True:
                received = connection.receive(IDLE_DEADLINE_S)
                try:
                    answer = self._handle(greet, received)
                except SplitnetError as error:
                    answer = Answer(Failed(f"{self._name}: {error}"))
                connection.send(answer.message, answer.buffers)
        except PeerGoneError:
            pass
        except SplitnetError as error:
            with contextlib.suppress(PeerGoneError):
                connection.send(Failed(str(error)))
        finally:
            connection.close()
            self._places.release()


class Asker:
    """The asking end of a connection to a machine; one thread at a time."""

    def __init__(
        self, address: Address, token: str, gateway: int | None = None, sock: socket.socket | None = None
    ) -> None:
        """
        Args:
            sock: connected already; otherwise the address is dialled.

        Raises:
            WorkerError: nobody answers there, or not of this run.
        """
        if sock is None:
            try:
                sock = socket.create_connection((address.host, address.port), HANDSHAKE_DEADLINE_S)
            except OSError as error:
                raise WorkerError(f"no machine answers at {address}: {error.strerror or error}") from error
        self.connection: Connection[Message] = Connection(sock, Message, str(address))
        try:
            welcome = self.ask(Greet(token, gateway), Welcome, deadline_s=HANDSHAKE_DEADLINE_S)
        except BaseException:
            self.close()
            raise
        self.name = self.connection.peer = welcome.name

    def ask(
        self, message: Said, kind: type[Answered], buffers: Buffers = (), deadline_s: float = ANSWER_DEADLINE_S
    ) -> Answered:
        """Ask, and wait for an answer of this kind.

        Raises:
            WorkerError: it cannot be done (the machine's own words), or the machine is gone.
        """
        return self.ask_whole(message, kind, buffers, deadline_s)[0]

    def ask_whole(
        self, message: Said, kind: type[Answered], buffers: Buffers = (), deadline_s: float = ANSWER_DEADLINE_S
    ) -> tuple[Answered, Received[Message]]:
        """As `ask`, with the whole frame; its body is valid until the next one comes."""
        self.connection.send(message, buffers)
        received = self.connection.receive(deadline_s)
        answer = received.message
        if isinstance(answer, Failed):
            raise WorkerError(answer.reason)
        if not isinstance(answer, kind):
            raise ProtocolError(f"{type(message).__name__} was answered by {type(answer).__name__}")
        return answer, received

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_token() -> str:
    """What the process that launched this one gave it. Raises SettingsError where it was not launched by a run."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        raise SettingsError("this is a machine of a run, which `splitnet run` starts; start that")
    return token

"""What splitnet's data path is compared with: a raw TCP echo, and pickled tensors over multiprocessing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection, Listener
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch

DEADLINE_S = 60.0


def _pin(cores: Sequence[int]) -> None:
    if cores:
        os.sched_setaffinity(0, cores)


def _echo_raw(ports: SimpleQueue[int], cores: Sequence[int]) -> None:
    """Serve one connection: eight bytes of size, then so many bytes, which go back as they came."""
    _pin(cores)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ports.put(listener.getsockname()[1])
        sock, _ = listener.accept()
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            buffer = memoryview(bytearray(1 << 24))
            head = memoryview(bytearray(8))
            while sock.recv_into(head, 8, socket.MSG_WAITALL) == 8:
                size = int.from_bytes(head, "big")
                sock.recv_into(buffer[:size], size, socket.MSG_WAITALL)
                sock.sendall(buffer[:size])


def _echo_pickle(ports: SimpleQueue[int], cores: Sequence[int]) -> None:
    """Serve one connection: an object comes, is unpickled, and goes back pickled (ours, on loopback, in a test)."""
    _pin(cores)
    torch.set_num_threads(1)
    with Listener(("127.0.0.1", 0)) as listener:
        ports.put(listener.address[1])  # type: ignore[arg-type]
        with listener.accept() as connection:
            with contextlib.suppress(EOFError):
                while True:
                    connection.send(connection.recv())


@contextmanager
def _served(target: Any, cores: Sequence[int]) -> Iterator[int]:
    context = multiprocessing.get_context("spawn")
    ports: SimpleQueue[int] = context.SimpleQueue()
    process = context.Process(target=target, args=(ports, cores), daemon=True)
    process.start()
    try:
        yield ports.get()
    finally:
        process.join(2)
        if process.is_alive():
            process.kill()
            process.join(DEADLINE_S)


class RawEcho:
    """Round trips of bytes over one TCP connection, the limit of what any protocol on it can do."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = memoryview(bytearray(1 << 24))

    def round_trip_s(self, payload: memoryview) -> float:
        """Seconds from sending the first byte to having read the last one back."""
        size = len(payload)
        start_ns = time.monotonic_ns()
        sent = self._socket.sendmsg([size.to_bytes(8, "big"), payload])
        if sent < size + 8:
            self._socket.sendall(payload[sent - 8 :])
        self._socket.recv_into(self._buffer[:size], size, socket.MSG_WAITALL)
        return (time.monotonic_ns() - start_ns) * 1e-9


class PickleEcho:
    """Round trips of tensors as public testbeds send them: pickled, over multiprocessing.connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def round_trip_s(self, tensor: torch.Tensor) -> float:
        """Seconds from having the tensor to having it back."""
        start_ns = time.monotonic_ns()
        self._connection.send(tensor.numpy())
        torch.from_numpy(self._connection.recv())
        return (time.monotonic_ns() - start_ns) * 1e-9


@contextmanager
def raw_echo(server_cores: Sequence[int]) -> Iterator[RawEcho]:
    """A raw echo whose server is pinned to `server_cores`."""
    with (
        _served(_echo_raw, server_cores) as port,
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as sock,
    ):
        sock.setblocking(True)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield RawEcho(sock)


@contextmanager
def pickle_echo(server_cores: Sequence[int]) -> Iterator[PickleEcho]:
    """A pickle echo whose server is pinned to `server_cores`."""
    with _served(_echo_pickle, server_cores) as port, Client(("127.0.0.1", port)) as connection:
        yield PickleEcho(connection)

"""Three ways to have the same bytes back over loopback TCP, each from a server process of its own.

`raw_echo` is the limit: preallocated memory, one send and one receive a direction. `wire_echo` is splitnet's data
path: values encoded, framed, sent, received, decoded, and so back. `pickle_echo` is what public testbeds do.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Client, Listener
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch

from splitnet.runtime.connection import Connection, PeerGoneError
from splitnet.runtime.link import Link
from splitnet.runtime.messages import Infer
from splitnet.wire.decoding import RepeatDecoder
from splitnet.wire.encoding import encode_values

DEADLINE_S = 60.0
LARGEST_BYTES = 1 << 24

RoundTrip = Callable[[torch.Tensor], float]
"""Seconds from having a tensor to having it back."""


@contextlib.contextmanager
def raw_echo(server_cores: Sequence[int]) -> Iterator[RoundTrip]:
    """Eight bytes of size, then so many bytes, which go back as they came."""
    with _served(_serve_raw, server_cores) as sock:
        memory = memoryview(bytearray(LARGEST_BYTES))

        def round_trip_s(tensor: torch.Tensor) -> float:
            payload = tensor.numpy().data.cast("B")
            size = len(payload)
            start_ns = time.monotonic_ns()
            sent = sock.sendmsg([size.to_bytes(8, "big"), payload])
            if sent < size + 8:
                sock.sendall(payload[sent - 8 :])
            sock.recv_into(memory[:size], size, socket.MSG_WAITALL)
            return (time.monotonic_ns() - start_ns) * 1e-9

        yield round_trip_s


@contextlib.contextmanager
def wire_echo(server_cores: Sequence[int], *, checksum: bool = False) -> Iterator[RoundTrip]:
    """splitnet's connections and encoding, without a worker's model, queue and clocks."""
    with _served(_serve_wire_checked if checksum else _serve_wire, server_cores) as sock:
        connection, decoder = _connection(sock, checksum), _decoder()

        @torch.inference_mode()
        def round_trip_s(tensor: torch.Tensor) -> float:
            start_ns = time.monotonic_ns()
            _send(connection, [tensor])
            _receive(connection, decoder)
            return (time.monotonic_ns() - start_ns) * 1e-9

        yield round_trip_s
        connection.close()


@contextlib.contextmanager
def pickle_echo(server_cores: Sequence[int]) -> Iterator[RoundTrip]:
    """Arrays pickled over multiprocessing.connection (both ends are ours)."""
    context = multiprocessing.get_context("spawn")
    ports: SimpleQueue[int] = context.SimpleQueue()
    with _process(_serve_pickle, ports, server_cores), Client(("127.0.0.1", ports.get())) as connection:

        def round_trip_s(tensor: torch.Tensor) -> float:
            start_ns = time.monotonic_ns()
            connection.send(tensor.numpy())
            torch.from_numpy(connection.recv())
            return (time.monotonic_ns() - start_ns) * 1e-9

        yield round_trip_s


def _connection(sock: socket.socket, checksum: bool) -> Connection[Infer]:
    connection: Connection[Infer] = Connection(sock, Infer, "the echo")
    connection.agree(1, checksum=checksum, link=Link())
    return connection


def _decoder() -> RepeatDecoder:
    return RepeatDecoder(torch.device("cpu"), max_bytes=LARGEST_BYTES)


def _send(connection: Connection[Infer], values: Sequence[Any]) -> None:
    encoded = encode_values(values)
    connection.send(Infer(0, encoded.specs), encoded.buffers)


def _receive(connection: Connection[Infer], decoder: RepeatDecoder) -> list[Any]:
    received = connection.receive(DEADLINE_S)
    return decoder.decode(received.message.values, received.body)


def _serve_raw(ports: SimpleQueue[int], cores: Sequence[int]) -> None:
    with _accepted(ports, cores) as sock:
        memory = memoryview(bytearray(LARGEST_BYTES))
        head = memoryview(bytearray(8))
        while sock.recv_into(head, 8, socket.MSG_WAITALL) == 8:
            size = int.from_bytes(head, "big")
            sock.recv_into(memory[:size], size, socket.MSG_WAITALL)
            sock.sendall(memory[:size])


def _serve_wire(ports: SimpleQueue[int], cores: Sequence[int], checksum: bool = False) -> None:
    with _accepted(ports, cores) as sock, torch.inference_mode(), contextlib.suppress(PeerGoneError):
        connection, decoder = _connection(sock, checksum), _decoder()
        while True:
            _send(connection, _receive(connection, decoder))


def _serve_wire_checked(ports: SimpleQueue[int], cores: Sequence[int]) -> None:
    _serve_wire(ports, cores, checksum=True)


def _serve_pickle(ports: SimpleQueue[int], cores: Sequence[int]) -> None:
    _pin(cores)
    with Listener(("127.0.0.1", 0)) as listener:
        ports.put(listener.address[1])
        with listener.accept() as connection, contextlib.suppress(EOFError):
            while True:
                connection.send(connection.recv())


@contextlib.contextmanager
def _served(target: Callable[..., None], cores: Sequence[int]) -> Iterator[socket.socket]:
    """A connection to a server process."""
    ports: SimpleQueue[int] = multiprocessing.get_context("spawn").SimpleQueue()
    with _process(target, ports, cores), socket.create_connection(("127.0.0.1", ports.get())) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


@contextlib.contextmanager
def _accepted(ports: SimpleQueue[int], cores: Sequence[int]) -> Iterator[socket.socket]:
    """In a server process: its one connection."""
    _pin(cores)
    torch.set_num_threads(1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        ports.put(listener.getsockname()[1])
        sock, _ = listener.accept()
        with sock:
            sock.setblocking(True)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield sock


@contextlib.contextmanager
def _process(target: Callable[..., None], ports: SimpleQueue[int], cores: Sequence[int]) -> Iterator[None]:
    process = multiprocessing.get_context("spawn").Process(target=target, args=(ports, cores), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join(DEADLINE_S)


def _pin(cores: Sequence[int]) -> None:
    if cores:
        os.sched_setaffinity(0, cores)

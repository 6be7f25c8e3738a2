"""A worker process: it listens, shakes hands, and answers requests, a thread for each connection.

`serve` is what `splitnet worker` runs. What a gateway and an AP do with a request stands in `gateway.py` and
`ap.py`; both answer what concerns one model alone (`Load`, `Inputs`, `Local`) as written here.
"""

from __future__ import annotations

import abc
import contextlib
import gc
import json
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import torch

from splitnet.errors import ProtocolError, SettingsError, SplitnetError
from splitnet.inference import fused_attention_off
from splitnet.profiling.machine import boot_digest, machine_fingerprint
from splitnet.resident import ModelInputs, ResidentModel
from splitnet.runtime.address import Address
from splitnet.runtime.connection import (
    HANDSHAKE_DEADLINE_S,
    IDLE_DEADLINE_S,
    Connection,
    PeerGoneError,
    Received,
)
from splitnet.runtime.engine import Engine
from splitnet.runtime.link import Link
from splitnet.runtime.messages import (
    CutEntry,
    Done,
    Echo,
    Failed,
    Hello,
    Infer,
    InputEntry,
    Inputs,
    Layers,
    LayerTimes,
    Load,
    Loaded,
    Local,
    LocalTime,
    Measure,
    Probe,
    ToWorker,
    Welcome,
)
from splitnet.wire.decoding import RepeatDecoder, decode_values

CONNECTIONS_AT_ONCE = 128
MAX_VALUE_BYTES = 1 << 30
TOKEN_VARIABLE = "SPLITNET_TOKEN"


@dataclass(frozen=True, slots=True)
class Answering:
    """An answer and the buffers of its body."""

    message: msgspec.Struct
    buffers: Sequence[bytes | memoryview] = ()


class Session(abc.ABC):
    """What one connection has loaded. Final subclasses add what their role can do."""

    def __init__(self, engine: Engine, boot: str) -> None:
        self.engine = engine
        self.boot = boot
        self.decoder = RepeatDecoder(engine.device, max_bytes=MAX_VALUE_BYTES)
        self._model: ResidentModel | None = None
        self._inputs: ModelInputs | None = None

    @property
    def has_model(self) -> bool:
        return self._model is not None

    @property
    def model(self) -> ResidentModel:
        """The connection's model."""
        if self._model is None:
            raise ProtocolError("no model is loaded on this connection; send Load first")
        return self._model

    @property
    def inputs(self) -> ModelInputs:
        """The connection's inputs: what was sent, or the model's example."""
        if self._inputs is None:
            with self.engine.lane:
                self._inputs = ModelInputs(self.model)
        return self._inputs

    def handle(self, received: Received[Any]) -> Answering:
        """Answer one request; SplitnetError becomes a `Failed`."""
        match received.message:
            case Infer() | Measure() | Probe() | Echo():  # first, since these are timed
                return self.handle_role(received)
            case Load() as request:
                return self._load(request)
            case Inputs(values):
                decoded = decode_values(values, received.body, torch.device("cpu"), max_bytes=MAX_VALUE_BYTES)
                copies = [value.clone() if isinstance(value, torch.Tensor) else value for value in decoded]
                with self.engine.lane:
                    inputs = ModelInputs(self.model, copies)
                    inputs.run_unsplit()
                self._inputs = inputs
                return Answering(Done())
            case Local():
                inputs = self.inputs
                with self.engine.lane:
                    return Answering(LocalTime(inputs.run_unsplit()))
            case Layers():
                inputs = self.inputs
                with self.engine.lane:
                    return Answering(LayerTimes(inputs.layers_ns()))
            case _:
                return self.handle_role(received)

    @abc.abstractmethod
    def handle_role(self, received: Received[Any]) -> Answering:
        """Answer a request that only this role knows."""

    def close(self) -> None:  # noqa: B027 - most roles hold nothing
        """The connection has ended."""

    def _load(self, request: Load) -> Answering:
        self._model = self._inputs = None  # a model that cannot be had must not leave the one before in its place
        self._model = self.engine.load(request.model, request.graph, request.weights)
        graph = self._model.graph
        return Answering(
            Loaded(
                graph=graph.fingerprint.graph,
                weights=graph.fingerprint.weights,
                frontend=graph.trace.frontend,
                inputs=[
                    InputEntry(name, tuple(value.shape), str(value.dtype).removeprefix("torch."))
                    for name, value in self._model.example()
                    if isinstance(value, torch.Tensor)
                ],
                cuts=[
                    CutEntry(cut.index, cut.layer, cut.clean, cut.payload_bytes, cut.refused) for cut in graph.cuts
                ],
                random_weights=self._model.built.random_weights,
            )
        )


class Worker:
    """Listens on one address until it is stopped."""

    def __init__(
        self,
        role: str,
        engine: Engine,
        address: Address,
        new_session: Callable[[Engine, str], Session],
        token: str,
    ) -> None:
        self._role = role
        self._engine = engine
        self._new_session = new_session
        self._token = token
        self._machine = machine_fingerprint()
        self._boot = boot_digest() or ""
        self._places = threading.BoundedSemaphore(CONNECTIONS_AT_ONCE)
        self._listener = _listen(address)

    @property
    def address(self) -> Address:
        """Where it listens; the port is a real one also where 0 was asked for."""
        host, port = self._listener.getsockname()[:2]
        return Address(host, port)

    def close(self) -> None:
        """Free the port."""
        self._listener.close()

    def run(self) -> None:
        """Accept connections until the listener is closed."""
        with self._listener:
            while True:
                sock, peer = self._listener.accept()
                if not self._places.acquire(blocking=False):
                    sock.close()
                    continue
                thread = threading.Thread(target=self._serve, args=(sock, f"{peer[0]}:{peer[1]}"), daemon=True)
                thread.start()

    def _serve(self, sock: socket.socket, peer: str) -> None:
        connection: Connection[Any] = Connection(sock, ToWorker, peer)
        session = self._new_session(self._engine, self._boot)
        torch.set_num_threads(self._engine.threads)  # OpenMP keeps the number per thread
        try:
            self._shake_hands(connection)
            with torch.inference_mode():
                while True:
                    self._answer(connection, session)
        except PeerGoneError:
            pass
        except SplitnetError as error:  # not the protocol, or a Hello that asks for what cannot be
            with contextlib.suppress(PeerGoneError):
                connection.send(Failed(str(error)))
        finally:
            session.close()
            connection.close()
            self._places.release()

    def _answer(self, connection: Connection[Any], session: Session) -> None:
        received = connection.receive(IDLE_DEADLINE_S)
        try:
            answering = session.handle(received)
        except SplitnetError as error:
            answering = Answering(Failed(str(error)))
        except Exception as error:  # a user's model may raise anything; the worker serves on
            answering = Answering(Failed(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"))
        connection.send(answering.message, answering.buffers)

    def _shake_hands(self, connection: Connection[Any]) -> None:
        hello = connection.receive(HANDSHAKE_DEADLINE_S).message
        if not isinstance(hello, Hello):
            raise ProtocolError(f"a connection opens with Hello, not {type(hello).__name__}")
        if self._token and not secrets.compare_digest(hello.token.encode(), self._token.encode()):
            raise ProtocolError("this worker belongs to another run; connect to your own")
        link = Link(hello.rate_bps, hello.delay_s)
        session = secrets.randbits(63) | 1
        connection.send(
            Welcome(
                session=session,
                role=self._role,
                boot=self._boot,
                device=str(self._engine.device),
                threads=self._engine.threads,
                machine=self._machine,
            )
        )
        connection.agree(session, checksum=hello.body_checksum, link=link)


def serve(
    role: str,
    new_session: Callable[[Engine, str], Session],
    *,
    address: Address,
    engine: Engine,
    preload: Callable[[Engine], None],
    insecure: bool,
    follow_stdin: bool,
) -> None:
    """Run a worker until it is interrupted; prints one JSON line once it listens.

    Raises:
        SettingsError: the port is taken, or the address is off loopback without `insecure`.
    """
    if not address.is_loopback and not insecure:
        raise SettingsError(
            f"{address} is not loopback, and connections are neither encrypted nor authenticated; "
            f"listen on 127.0.0.1, or say --insecure"
        )
    signal.signal(signal.SIGTERM, interrupt_by_signal)
    if follow_stdin:
        threading.Thread(target=end_with_stdin, daemon=True).start()
    torch.set_num_threads(engine.threads)
    fused_attention_off()
    worker = Worker(role, engine, address, new_session, os.environ.get(TOKEN_VARIABLE, ""))
    try:
        preload(engine)
    except BaseException:
        worker.close()
        raise
    gc.collect()
    gc.freeze()  # models stay; the collector need not walk them in the middle of an inference
    print(json.dumps({"role": role, "listening": str(worker.address)}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        worker.run()
    sys.stdout.flush()
    os._exit(0)  # threads that hold a lock in native code are not waited for


def _listen(address: Address) -> socket.socket:
    try:
        return socket.create_server((address.host, address.port), family=address.family, backlog=64)
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {address}: {error.strerror}; choose another --listen, port 0 takes a free one"
        ) from error


def interrupt_by_signal(*_: object) -> None:
    raise KeyboardInterrupt


def end_with_stdin(leave: contextlib.ExitStack | None = None) -> None:
    """End when the process that launched us is gone: its end of the pipe closes with it.

    Args:
        leave: what must not outlive the process, and is closed at once.
    """
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    if leave is not None:
        leave.close()
    os._exit(0)

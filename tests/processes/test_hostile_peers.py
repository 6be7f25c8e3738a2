"""Bytes from a peer that means ill: the AP answers or closes, says why, and goes on serving a good client."""

from __future__ import annotations

import errno
import math
import random
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec
import pytest
import torch

from splitnet.errors import ProtocolError
from splitnet.inference import bitwise_equal, exact_inference
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.runtime.address import Address
from splitnet.runtime.client import Client
from splitnet.runtime.connection import Connection, PeerGoneError
from splitnet.runtime.messages import (
    Connect,
    Failed,
    FromWorker,
    Hello,
    Infer,
    Load,
    Loaded,
    Measure,
    Result,
    Welcome,
)
from splitnet.wire.decoding import decode_values
from splitnet.wire.encoding import encode_values
from splitnet.wire.frames import encode_frame
from splitnet.wire.specs import DictSpec, TensorSpec

if TYPE_CHECKING:
    from tests.processes.conftest import Standalone

DEADLINE_S = 20.0
PREFIX = struct.Struct("!4sHHQIQII")


CLOSED = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
"""How it shows that the worker closed a connection before all was sent."""


def framed(message: object, body: bytes = b"", session: int = 0, *, checksum: bool = False) -> bytes:
    return b"".join(encode_frame(msgspec.msgpack.encode(message), [body], session=session, checksum=checksum))


def prefix(*, magic: bytes = b"SPLT", version: int = 1, header: int = 10, body: int = 0) -> bytes:
    fields = PREFIX.pack(magic, version, 0, 0, header, body, 0, 0)
    return fields + struct.pack("!I", crc32(fields))


HELLO = framed(Hello(boot=""))
AT_THE_DOOR = {
    "nothing": b"",
    "garbage": random.Random(3).randbytes(5000),
    "zeros": bytes(5000),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
    "wrong version": prefix(version=77),
    "oversized header": prefix(header=0xFFFFFFFF),
    "oversized body": prefix(body=1 << 60),
    "no header": prefix(header=0),
    "garbled prefix": HELLO[:20] + bytes([HELLO[20] ^ 1]) + HELLO[21:],
    "garbled header": HELLO[:-1] + bytes([HELLO[-1] ^ 1]),
    "no message": framed({"type": "Nonsense"}),
    "a pickle": b"".join(encode_frame(b"\x80\x04\x95N.", session=0)),
    "nests too deep": b"".join(encode_frame(b"\x91" * 100_000 + b"\x90", session=0)),
    "half a prefix": HELLO[:17],
    "half a header": HELLO[:-3],
    "half a body": framed(Hello(boot=""), bytes(1000))[:-10],
    "no Hello": framed(Load(ModelRef("toy_chain"))),
    "rate of zero": framed(Hello(boot="", rate_bps=0.0)),
    "negative rate": framed(Hello(boot="", rate_bps=-1.0)),
    "rate that is no number": framed(Hello(boot="", rate_bps=math.nan)),
    "endless delay": framed(Hello(boot="", delay_s=math.inf)),
    "negative delay": framed(Hello(boot="", delay_s=-1.0)),
}


def answer_or_close(connection: Connection[Any]) -> Failed | None:
    """What the worker says to it; None where it closes the connection."""
    try:
        message = connection.receive(DEADLINE_S).message
    except PeerGoneError as error:
        if "was silent" in str(error):
            raise
        return None
    assert isinstance(message, Failed), message
    assert message.reason
    assert "\n" not in message.reason
    return message


def image() -> torch.Tensor:
    return torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def expected() -> torch.Tensor:
    with exact_inference():
        output: torch.Tensor = build_model(ModelRef("toy_chain")).module(image())
    return output


def infer(client: Client) -> None:
    """At cut 0 the image itself crosses."""
    encoded = encode_values([image()])
    answer = client.ask(Infer(0, encoded.specs), Result, encoded.buffers, DEADLINE_S)
    output = decode_values(answer.message.values, answer.body, torch.device("cpu"), max_bytes=1 << 20)
    assert bitwise_equal(output, [expected()])


@pytest.fixture
def others_are_served(ap: Standalone) -> Iterator[None]:
    """One that was there before is served as before, and so is one that comes after."""
    with Client.connect(ap.address, role="ap") as before:
        before.load(ModelRef("toy_chain"))
        infer(before)
        yield
        infer(before)
    with Client.connect(ap.address, role="ap") as after:
        after.load(ModelRef("toy_chain"))
        infer(after)


def knock(ap: Standalone) -> tuple[socket.socket, Connection[Any]]:
    sock = socket.create_connection((ap.address.host, ap.address.port), timeout=DEADLINE_S)
    return sock, Connection(sock, FromWorker, "the AP")


def enter(ap: Standalone, *, checksum: bool = False) -> tuple[socket.socket, Connection[Any], int]:
    """Shake hands and load toy_chain by hand."""
    sock, connection = knock(ap)
    sock.sendall(framed(Hello(boot="", body_checksum=checksum)))
    welcome = connection.receive(DEADLINE_S).message
    assert isinstance(welcome, Welcome)
    sock.sendall(framed(Load(ModelRef("toy_chain")), session=welcome.session, checksum=checksum))
    assert isinstance(connection.receive(DEADLINE_S).message, Loaded)
    return sock, connection, welcome.session


@pytest.mark.usefixtures("others_are_served")
def test_what_comes_before_the_handshake(ap: Standalone) -> None:
    for name, sent in AT_THE_DOOR.items():
        sock, connection = knock(ap)
        try:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            failed = answer_or_close(connection)
            assert failed is None or answer_or_close(connection) is None, f"{name}: still open"
        except OSError as error:
            if error.errno not in CLOSED:
                raise
        finally:
            connection.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("http", "does not speak splitnet"),
        ("wrong version", "version 77, this is 1"),
        ("oversized header", "max_header_bytes"),
        ("oversized body", "max_body_bytes"),
        ("no message", "not a message"),
        ("no Hello", "opens with Hello, not Load"),
        ("rate of zero", "rate of 0 bit/s"),
        ("endless delay", "delay of inf s"),
    ],
)
def test_the_reason_is_said_where_it_can_be_heard(name: str, reason: str, ap: Standalone) -> None:
    sock, connection = knock(ap)
    try:
        sock.sendall(AT_THE_DOOR[name])
        failed = answer_or_close(connection)
        assert failed is not None
        assert reason in failed.reason
    finally:
        connection.close()


def tensor(dtype: str = "float32", shape: Sequence[int] = (1, 3, 8, 8), nbytes: int = 768) -> TensorSpec:
    stride = [math.prod(shape[at + 1 :]) for at in range(len(shape))]
    return TensorSpec(dtype, tuple(shape), tuple(stride), 0, nbytes)


IMAGE = bytes(768)
WELL_FRAMED: dict[str, tuple[object, bytes, str]] = {
    "cut out of range": (Infer(99, [tensor()]), IMAGE, "cut 99 is out of range"),
    "negative cut": (Infer(-1, [tensor()]), IMAGE, "cut -1 is out of range"),
    "wrong dtype": (Infer(0, [tensor("int32")]), IMAGE, "image at cut 0 came as torch.int32"),
    "unknown dtype": (Infer(0, [tensor("object")]), IMAGE, "dtype 'object'"),
    "wrong dimensions": (Infer(0, [tensor(shape=(3, 64))]), IMAGE, "image at cut 0 came as"),
    "wrong sizes": (Infer(0, [tensor(shape=(1, 64, 3, 1))]), IMAGE, "RuntimeError"),
    "a tensor too many": (Infer(0, [tensor(), 1]), IMAGE, "2 values came, 1 cross cut 0"),
    "no tensor": (Infer(0, []), b"", "0 values came"),
    "a scalar": (Infer(0, [3]), b"", ""),
    "a dict": (Infer(0, [DictSpec({"a": tensor()})]), IMAGE, ""),
    "a body too short": (Infer(0, [tensor(nbytes=768)]), bytes(100), ""),
    "a body too long": (Infer(0, [tensor()]), bytes(1000), "the body has 1000 bytes"),
    "sizes that lie": (Infer(0, [tensor(shape=(1, 3, 8, 1 << 40))]), IMAGE, ""),
    "a model of someone's": (Load(ModelRef("/etc/net.py:make")), b"", "was not started with"),
    "a model of no kind": (Load(ModelRef("no_model")), b"", "no model 'no_model'"),
    "weights by path": (Load(ModelRef("resnet18", weights="../x")), b"", "no weights '../x'"),
    "a measurement": (Measure(0), b"", "an AP does not know Measure"),
    "a connection": (Connect("127.0.0.1", 1), b"", "an AP does not know Connect"),
    "a second Hello": (Hello(boot=""), b"", "an AP does not know Hello"),
}


@pytest.mark.usefixtures("others_are_served")
def test_a_wrong_request_is_answered_and_the_next_one_too(ap: Standalone) -> None:
    for name, (request, body, reason) in WELL_FRAMED.items():
        sock, connection, session = enter(ap)
        try:
            sock.sendall(framed(request, body, session))
            failed = answer_or_close(connection)
            assert failed is not None, name
            assert reason in failed.reason, name
            sock.sendall(framed(Load(ModelRef("toy_multi")), session=session))
            assert isinstance(connection.receive(DEADLINE_S).message, Loaded), name
        finally:
            connection.close()


@pytest.mark.usefixtures("others_are_served")
def test_a_frame_of_another_session_ends_the_connection(ap: Standalone) -> None:
    sock, connection, session = enter(ap)
    try:
        sock.sendall(framed(Infer(0, [tensor()]), IMAGE, session ^ 2))
        failed = answer_or_close(connection)
        assert failed is not None
        assert f"belongs to session {session ^ 2}" in failed.reason
        assert answer_or_close(connection) is None
    finally:
        connection.close()


@pytest.mark.usefixtures("others_are_served")
def test_a_flipped_bit_is_caught_where_the_checksum_is_on(ap: Standalone) -> None:
    for damage in ("flipped", "left out"):
        sock, connection, session = enter(ap, checksum=True)
        try:
            frame = framed(Infer(0, [tensor()]), IMAGE, session, checksum=damage == "flipped")
            sock.sendall(frame[:-5] + b"\x10" + frame[-4:])
            failed = answer_or_close(connection)
            assert failed is not None
            assert "checksum" in failed.reason
            assert answer_or_close(connection) is None
        finally:
            connection.close()


@pytest.mark.usefixtures("others_are_served")
def test_a_peer_that_leaves_inside_a_frame(ap: Standalone) -> None:
    frame_bytes = len(framed(Infer(0, [tensor()]), IMAGE, 1 << 62))
    for reset in (False, True):
        for keep in (1, 20, 60, frame_bytes - 1):
            sock, connection, session = enter(ap)
            sock.sendall(framed(Infer(0, [tensor()]), IMAGE, session)[:keep])
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            connection.close()


@pytest.mark.usefixtures("others_are_served")
def test_a_peer_that_never_reads_its_answer(ap: Standalone) -> None:
    sock, connection, session = enter(ap)
    sock.sendall(framed(Infer(0, [tensor()]), IMAGE, session) * 20)
    connection.close()


def test_a_gateway_says_which_peer_does_not_speak_the_protocol() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address(*listener.getsockname())

        def answer() -> None:
            with listener.accept()[0] as sock:
                sock.recv(1 << 16)
                sock.sendall(AT_THE_DOOR["http"])
                sock.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ProtocolError, match=f"the ap at {address}: the peer does not speak splitnet"):
            Client.connect(address, role="ap")
        thread.join(DEADLINE_S)

"""Two APs find out who the other is; whoever sits between them can cut the connection, and do no more."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from splitnet.consensus.channel import ForeignBytesError
from splitnet.consensus.handshake import Introduced, introduce
from splitnet.consensus.messages import Announce, Hello, Opening, Ping, Prove, Sealed, Value
from splitnet.errors import ProtocolError, SplitnetError
from splitnet.runtime.connection import Connection, PeerGoneError
from splitnet.wire.frames import FrameDecoder, Limits, encode_frame
from tests.consortium import a_key, some_rules

RULES = some_rules(aps=3, gateways=3, devices=6)
DEADLINE_S = 10.0
encode = msgspec.msgpack.Encoder().encode


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


OPENED: list[socket.socket] = []


@pytest.fixture(autouse=True)
def close_all() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, closed when the test ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ends = socket.create_connection(server.getsockname(), DEADLINE_S), server.accept()[0]
    OPENED.extend(ends)
    return ends


def begin(pool: ThreadPoolExecutor, sock: socket.socket, number: int, dialled: bool) -> Future[Introduced]:
    return pool.submit(introduce, sock, f"AP's {number}", RULES, a_key("ap", number), number, dialled=dialled)


def between(pool: ThreadPoolExecutor) -> tuple[Introduced, Introduced]:
    one, other = pair()
    first, second = begin(pool, one, 0, True), begin(pool, other, 1, False)
    return first.result(DEADLINE_S), second.result(DEADLINE_S)


def test_both_know_the_other_and_understand_each_other(pool: ThreadPoolExecutor) -> None:
    one, other = between(pool)
    assert (one.ap, other.ap) == (1, 0)
    body = bytes(range(256)) * 5000
    for sender, receiver in ((one, other), (other, one)):
        sender.channel.send(Value(bytes(32)), body)
        sender.channel.send(Ping())
        assert receiver.channel.receive(DEADLINE_S) == (Value(bytes(32)), body)
        assert receiver.channel.receive(DEADLINE_S) == (Ping(), b"")
    for each in (one, other):
        each.channel.close()


class Relay:
    """Somebody without a key between two APs, whose every frame passes through `change`."""

    def __init__(self, one: socket.socket, other: socket.socket) -> None:
        self.ends = [Connection[Opening](sock, Opening, "an AP", limits=Limits()) for sock in (one, other)]

    def pass_on(self, sender: int, change: Callable[[Opening], Opening] = lambda said: said) -> Opening:
        received = self.ends[sender].receive(DEADLINE_S)
        said = change(received.message)
        self.ends[1 - sender].send(said, [bytes(received.body.numpy())] if len(received.body) else [])
        return said


def relayed(
    pool: ThreadPoolExecutor, dialled: tuple[bool, bool]
) -> tuple[Relay, Future[Introduced], Future[Introduced]]:
    (first, near), (second, far) = pair(), pair()
    return Relay(near, far), begin(pool, first, 0, dialled[0]), begin(pool, second, 1, dialled[1])


def test_a_signature_that_was_passed_on_opens_nothing_to_who_dialled_both(pool: ThreadPoolExecutor) -> None:
    relay, first, second = relayed(pool, (False, False))
    for sender in (0, 1, 0, 1):
        relay.pass_on(sender)
    for each in (first, second):
        with pytest.raises(ProtocolError, match="and cannot prove it"):
            each.result(DEADLINE_S)


def test_who_passes_on_a_whole_handshake_can_neither_read_nor_speak(pool: ThreadPoolExecutor) -> None:
    relay, first, second = relayed(pool, (True, False))
    hellos = [relay.pass_on(sender) for sender in (0, 1)]
    assert all(isinstance(hello, Hello) for hello in hellos)
    for sender in (0, 1):
        relay.pass_on(sender)
    one, other = first.result(DEADLINE_S).channel, second.result(DEADLINE_S).channel
    secret = b"an activation that is nobody's business"
    one.send(Value(bytes(32)), secret)
    frame = relay.ends[0].receive(DEADLINE_S)
    sealed = bytes(frame.body.numpy())
    assert secret not in sealed
    session = relay.ends[0]._decoder.session
    assert session == 0, "the relay has agreed on nothing, and guesses the session from a frame"
    relay.ends[1].send(Sealed(), [sealed])
    with pytest.raises(ForeignBytesError, match="session 0"):
        other.receive(DEADLINE_S)
    for each in (one, other):
        each.close()


@pytest.mark.parametrize("what", ["changed", "again", "swallowed", "turned round", "cut short"])
def test_nothing_that_was_changed_on_the_way_is_heard(pool: ThreadPoolExecutor, what: str) -> None:
    (first, near), (far, second) = pair(), pair()
    one, other = begin(pool, first, 0, True), begin(pool, second, 1, False)
    tap, out = Tap(near), Tap(far)
    for sender, receiver in ((tap, out), (out, tap)) * 2:
        receiver.put(*sender.take())
    here, there = one.result(DEADLINE_S).channel, other.result(DEADLINE_S).channel
    for slot in range(2):
        here.send(Announce(bytes([slot])))
    message, body, session = tap.take()
    if what == "swallowed":
        out.put(*tap.take())
    elif what == "turned round":
        tap.put(message, body, session)
        with pytest.raises(ForeignBytesError, match="was not sent by it"):
            here.receive(DEADLINE_S)
        out.put(message, body[:-1], session)
    elif what == "again":
        out.put(message, body, session)
        assert there.receive(DEADLINE_S) == (Announce(b"\0"), b"")
        out.put(message, body, session)
    else:
        out.put(message, body[:-1] if what == "cut short" else bytes([body[0] ^ 1]) + body[1:], session)
    with pytest.raises(ForeignBytesError, match="was not sent by it"):
        there.receive(DEADLINE_S)
    for each in (here, there):
        each.close()


class Tap:
    """A socket from which whole frames are taken, and put in again."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.settimeout(DEADLINE_S)

    def take(self) -> tuple[bytes, bytes, int]:
        decoder: FrameDecoder[Any] = FrameDecoder(Opening, Limits())
        session = 0
        while True:
            count = self._sock.recv_into(decoder.buffer())
            assert count, "closed"
            frame = decoder.received(count)
            session = int.from_bytes(decoder._prefix[8:16])
            if frame is not None:
                return encode(frame.message), bytes(frame.body.numpy()), session

    def put(self, message: bytes, body: bytes, session: int) -> None:
        for part in encode_frame(message, [body] if body else [], session=session):
            self._sock.sendall(part)


@pytest.mark.parametrize("fresh_key", [bytes(32), bytes([1]) + bytes(31)])
def test_a_fresh_key_of_small_order_is_refused(pool: ThreadPoolExecutor, fresh_key: bytes) -> None:
    """It would make the secret everybody's; AP 1 itself sends it here."""
    from splitnet.consensus.handshake import _proof
    from splitnet.consensus.identity import sign

    sock, far = pair()
    node = begin(pool, far, 0, False)
    connection: Connection[Opening] = Connection(sock, Opening, "node")
    mine = Hello(RULES.network, 1, fresh_key)
    connection.send(mine)
    theirs = connection.receive(DEADLINE_S).message
    assert isinstance(theirs, Hello)
    connection.send(Prove(sign(a_key("ap", 1), _proof(RULES, (mine, theirs), 1))))
    with pytest.raises(ProtocolError, match="small order"):
        node.result(DEADLINE_S)
    connection.close()


def test_its_own_words_do_not_convince_an_ap(pool: ThreadPoolExecutor) -> None:
    sock, far = pair()
    node = begin(pool, far, 0, False)
    mirror: Connection[Opening] = Connection(sock, Opening, "node")
    mirror.send(mirror.receive(DEADLINE_S).message)
    with pytest.raises(SplitnetError, match="not another one of"):
        node.result(DEADLINE_S)
    mirror.close()


def test_strangers_send_nothing_large(pool: ThreadPoolExecutor) -> None:
    sock, far = pair()
    node = begin(pool, far, 0, False)
    connection: Connection[Opening] = Connection(sock, Opening, "node")
    connection.send(Hello(RULES.network, 1, bytes(32)), [bytes(100)])
    with pytest.raises(ProtocolError, match="a body of 100 bytes is over"):
        node.result(DEADLINE_S)
    connection.close()


def test_a_silent_stranger_is_told_apart_from_a_wrong_one(pool: ThreadPoolExecutor) -> None:
    sock, far = pair()
    node = begin(pool, far, 0, False)
    sock.close()
    with pytest.raises(PeerGoneError):
        node.result(DEADLINE_S)

"""Frames: whatever happens to the byte stream, the right frames come out or a ProtocolError does."""

from __future__ import annotations

import ast
import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import splitnet.wire.frames
from splitnet.errors import ProtocolError
from splitnet.wire.frames import ALIGNMENT, Buffer, Frame, FrameDecoder, Limits, allocate_body, encode_frame

SESSION = 0x1122334455667788


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    number: int


class Note(msgspec.Struct, frozen=True, tag="note"):
    text: str
    children: list[Note] = []


Events = list[tuple[Ping | Note, bytes]]


def decoder(
    limits: Limits | None = None, *, session: int = 0, require_checksum: bool = False
) -> FrameDecoder[Ping | Note]:
    frames: FrameDecoder[Ping | Note] = FrameDecoder(Ping | Note, limits)
    frames.session, frames.require_checksum = session, require_checksum
    return frames


def encoded(message: object, body: bytes = b"", *, session: int = SESSION, checksum: bool = False) -> bytes:
    half = len(body) // 2
    buffers: list[Buffer] = [memoryview(body)[:half], body[half:]]
    return b"".join(encode_frame(msgspec.msgpack.encode(message), buffers, session=session, checksum=checksum))


def by_hand(
    header: bytes,
    body: bytes = b"",
    *,
    magic: bytes = b"SPLT",
    version: int = 1,
    flags: int = 0,
    session: int = SESSION,
    header_bytes: int | None = None,
    body_bytes: int | None = None,
    body_crc: int = 0,
) -> bytes:
    """A frame put together from the table in the README, not by the code under test."""
    fields = magic + struct.pack(">HHQ", version, flags, session)
    fields += struct.pack(">I", len(header) if header_bytes is None else header_bytes)
    fields += struct.pack(">Q", len(body) if body_bytes is None else body_bytes)
    fields += struct.pack(">II", body_crc, crc32(header))
    return fields + struct.pack(">I", crc32(fields)) + header + body


def feed(
    frames: FrameDecoder[Ping | Note], stream: bytes, sizes: Iterator[int] | None = None
) -> Iterator[Frame[Ping | Note]]:
    """Give `stream` to the decoder as a socket would that has `sizes` bytes ready, one after the other."""
    sizes = sizes or repeat(1 << 30)
    position = 0
    while position < len(stream):
        buffer = frames.buffer()
        assert len(buffer) > 0
        count = min(len(buffer), next(sizes), len(stream) - position)
        buffer[:count] = stream[position : position + count]
        position += count
        frame = frames.received(count)
        if frame is not None:
            yield frame


def events(frames: FrameDecoder[Ping | Note], stream: bytes, sizes: Iterator[int] | None = None) -> Events:
    return [(frame.message, bytes(frame.body.numpy())) for frame in feed(frames, stream, sizes)]


@given(
    st.lists(st.tuples(st.integers(0, 2**40), st.binary(max_size=300), st.booleans()), max_size=4),
    st.lists(st.integers(1, 80), min_size=1, max_size=8),
)
@settings(derandomize=True, deadline=None, max_examples=150)
def test_any_split_of_the_stream_gives_the_same_events(sent: list[tuple[int, bytes, bool]], sizes: list[int]) -> None:
    stream = b"".join(encoded(Ping(number), body, checksum=checksum) for number, body, checksum in sent)
    frames = decoder(session=SESSION)
    forever = chain.from_iterable(repeat(sizes))
    assert events(frames, stream, forever) == [(Ping(number), body) for number, body, _ in sent]
    frames.eof()


def test_the_layout_is_the_one_in_the_readme() -> None:
    header = msgspec.msgpack.encode(Ping(1))
    assert encoded(Ping(1), b"body") == by_hand(header, b"body")
    assert encoded(Ping(1), b"body", checksum=True) == by_hand(header, b"body", flags=1, body_crc=crc32(b"body"))


def test_every_truncation_is_an_error_and_only_inside_a_frame() -> None:
    first, second = encoded(Ping(1), b"abc", checksum=True), encoded(Note("x"))
    stream = first + second
    for length in range(len(stream) + 1):
        frames = decoder()
        list(feed(frames, stream[:length]))
        if length in (0, len(first), len(stream)):
            frames.eof()
        else:
            with pytest.raises(ProtocolError, match="inside a frame"):
                frames.eof()


@pytest.mark.parametrize("checksum", [False, True])
def test_every_flipped_bit_of_prefix_and_header_is_caught_at_once(checksum: bool) -> None:
    """At once: not by waiting for the bytes that a garbled length promises."""
    message = Note("a note")
    good = encoded(message, b"body", checksum=checksum)
    for bit in range(8 * (len(good) - len(b"body"))):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError):
            events(decoder(session=SESSION), bytes(bad))


def test_every_flipped_bit_of_the_body_is_caught_with_the_checksum() -> None:
    good = encoded(Ping(1), bytes(range(40)), checksum=True)
    for bit in range(8 * (len(good) - 40), 8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError, match="body does not match"):
            events(decoder(), bytes(bad), repeat(7))


def test_sizes_over_the_limits_are_refused_before_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(nbytes: int) -> torch.Tensor:
        raise AssertionError(f"{nbytes} bytes were taken")

    header = msgspec.msgpack.encode(Ping(1))
    limits = Limits(max_header_bytes=1000, max_body_bytes=1000)
    monkeypatch.setattr(splitnet.wire.frames, "allocate_body", never)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="header of 4294967295 bytes is over max_header_bytes = 1000"):
            events(decoder(limits), by_hand(header, header_bytes=2**32 - 1))
        with pytest.raises(ProtocolError, match="body of 1001 bytes is over max_body_bytes = 1000"):
            events(decoder(limits), by_hand(header, body_bytes=1001))
        with pytest.raises(ProtocolError, match=f"body of {2**64 - 1} bytes"):
            events(decoder(), by_hand(header, body_bytes=2**64 - 1))
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
        monkeypatch.undo()
    exact = Limits(max_header_bytes=len(header), max_body_bytes=1000)
    assert events(decoder(exact), encoded(Ping(1), bytes(1000))) == [(Ping(1), bytes(1000))]
    with pytest.raises(ProtocolError, match="header of"):
        events(decoder(exact), by_hand(header + b"\xc0"))


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (b"GET / HTTP/1.1\r\nHost: here\r\nAccept: text\r\n\r\n", "does not speak splitnet"),
        (by_hand(b"x", version=7), "peer speaks protocol version 7, this is 1; update the older side"),
        (by_hand(b"x", version=7, session=3, flags=9), "version 7"),
        (by_hand(b"x", session=3, header_bytes=2**31), "belongs to session 3"),
        (by_hand(b"x", flags=2), "unknown flags"),
        (by_hand(b""), "no header"),
        (by_hand(msgspec.msgpack.encode(Ping(1)), body_crc=5), "empty body"),
    ],
)
def test_each_wrong_field_has_its_own_line(stream: bytes, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint) as caught:
        events(decoder(session=SESSION), stream)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        b"\xc1",
        b"\x93\x01",
        msgspec.msgpack.encode({"type": "unknown"}),
        msgspec.msgpack.encode({"type": "ping"}),
        msgspec.msgpack.encode({"type": "ping", "number": "one"}),
        msgspec.msgpack.encode(Ping(1)) + b"\x00",
        msgspec.msgpack.encode(Note("abc")).replace(b"abc", b"\xff\xfe\xfd"),
        # Containers that promise more than there is: must not be believed.
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x83\xa4type\xa4note\xa4text\xa1x\xa8children\xdd\x7f\xff\xff\xff\xc0",
        b"\x83\xa4type\xa4note\xa4text\xdb\xff\xff\xff\xff",
        # Nested beyond any stack.
        b"\x83\xa4type\xa4note\xa4text\xa1x\xa8children\x91" * 30_000,
        b"\x91" * 500_000,
    ],
)
def test_a_header_that_is_no_message_is_refused_without_taking_memory(header: bytes) -> None:
    stream = by_hand(header)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="not a message") as caught:
            events(decoder(), stream)
        assert tracemalloc.get_traced_memory()[1] < len(header) + 4_000_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=60))
@settings(derandomize=True, deadline=None, max_examples=300)
def test_a_header_of_any_bytes_gives_a_message_or_a_protocol_error(header: bytes) -> None:
    try:
        got = events(decoder(), by_hand(header))
    except ProtocolError:
        return
    assert len(got) == 1


def test_a_dead_decoder_says_the_same_again() -> None:
    frames = decoder(session=SESSION)
    with pytest.raises(ProtocolError) as first:
        events(frames, by_hand(b"x", session=3))
    calls: list[Callable[[], object]] = [frames.buffer, frames.eof, lambda: frames.received(1)]
    for call in calls:
        with pytest.raises(ProtocolError) as again:
            call()
        assert again.value is first.value


def test_the_session_counts_from_the_moment_it_is_set() -> None:
    frames = decoder()
    assert events(frames, encoded(Ping(1), session=0) + encoded(Ping(2), session=9)) != []
    frames.session = 9
    assert events(frames, encoded(Ping(3), session=9)) == [(Ping(3), b"")]
    with pytest.raises(ProtocolError, match="session 0, this connection is session 9"):
        events(frames, encoded(Ping(4), session=0))


def test_a_required_checksum_is_required() -> None:
    frames = decoder(require_checksum=True)
    assert events(frames, encoded(Ping(1), b"abc", checksum=True)) == [(Ping(1), b"abc")]
    with pytest.raises(ProtocolError, match="checksum, which this connection requires"):
        events(frames, encoded(Ping(1), b"abc"))


def test_bodies_are_aligned_and_share_one_memory_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def allocate(nbytes: int) -> torch.Tensor:
        taken.append(nbytes)
        return allocate_body(nbytes)

    monkeypatch.setattr(splitnet.wire.frames, "allocate_body", allocate)
    frames = decoder()
    for length in (100, 7, 0, 100, 5000, 100):
        (frame,) = feed(frames, encoded(Ping(length), bytes([length % 251]) * length))
        assert frame.body.dtype == torch.uint8
        assert frame.body.shape == (length,)
        assert frame.body.data_ptr() % ALIGNMENT == 0
        assert bool((frame.body == length % 251).all())
    assert taken == [100, 5000]


def test_the_body_can_be_changed_in_place_outside_inference_mode() -> None:
    with torch.inference_mode():
        (frame,) = feed(decoder(), encoded(Ping(1), b"body"))
    frame.body.zero_()


def test_a_body_that_memory_cannot_hold_is_a_protocol_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(nbytes: int) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(splitnet.wire.frames, "allocate_body", full)
    with pytest.raises(ProtocolError, match="no memory for a body of 3 bytes"):
        events(decoder(), encoded(Ping(1), b"abc"))


@pytest.mark.parametrize("count", [-1, 0, 1000])
def test_a_count_that_cannot_be_is_a_mistake_of_the_caller(count: int) -> None:
    frames = decoder()
    frames.buffer()
    with pytest.raises(ValueError, match="received"):
        frames.received(count)


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="positive"):
        Limits(max_header_bytes=0)


def test_buffers_of_a_frame_are_the_ones_given() -> None:
    body: list[Buffer] = [memoryview(b"abc"), b"defg"]
    joined, *rest = encode_frame(b"\x01", body, session=1)
    assert [id(buffer) for buffer in rest] == [id(buffer) for buffer in body]
    assert isinstance(joined, bytes)


@pytest.mark.parametrize("checksum", [False, True])
def test_over_a_real_socket(checksum: bool) -> None:
    body = bytes(range(256)) * 8000
    here, there = socket.socketpair()
    frames = decoder(session=SESSION, require_checksum=checksum)
    got: Events = []

    def read() -> None:
        while (count := there.recv_into(frames.buffer())) > 0:
            frame = frames.received(count)
            if frame is not None:
                got.append((frame.message, bytes(frame.body.numpy())))
        frames.eof()

    with here, there:
        reader = threading.Thread(target=read)
        reader.start()
        for number in range(3):
            header = msgspec.msgpack.encode(Ping(number))
            for buffer in encode_frame(header, [body], session=SESSION, checksum=checksum):
                here.sendall(buffer)
        here.sendmsg(encode_frame(msgspec.msgpack.encode(Ping(3)), [b"a", b"b"], session=SESSION, checksum=True))
        here.close()
        reader.join(20)
    assert got == [*((Ping(number), body) for number in range(3)), (Ping(3), b"ab")]


def test_nothing_here_can_run_code_from_a_peer() -> None:
    """No pickle in any of its forms is imported by the protocol, nor torch.load called."""
    banned = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "copyreg", "joblib"}
    sources = sorted(Path(splitnet.wire.__path__[0]).glob("*.py"))
    assert len(sources) >= 4
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                assert not banned & {alias.name.split(".")[0] for alias in node.names}, source
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in banned, source
            elif isinstance(node, ast.Attribute | ast.Name):
                name = node.attr if isinstance(node, ast.Attribute) else node.id
                assert name not in {"load", "eval", "exec"}, source

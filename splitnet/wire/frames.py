"""Frames: one typed message and one body of raw bytes, to and from a byte stream. No socket is opened here.

Decides: the layout of a frame, what is checked and in which order, and when memory is taken. `encode_frame`
gives what `socket.sendmsg` wants; `FrameDecoder` says where `socket.recv_into` should put the next bytes.
Neither copies a body. Does not know: which messages exist, what a body means, when a peer is too slow.

    field          type   what it is
    magic          4s     b"SPLT"
    version        u16    `VERSION`; checked before anything else is believed
    flags          u16    bit 0: the body has a checksum; the other bits are zero
    session        u64    0 in the handshake, then the number that the handshake agreed on
    header length  u32    bytes of the message
    body length    u64    bytes of the body
    body crc32     u32    0 without bit 0
    header crc32   u32    always
    prefix crc32   u32    of all the fields above: a garbled length is never believed
    header         bytes  the message: msgpack, a tagged msgspec.Struct
    body           bytes  raw

Numbers are in network order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar
from zlib import crc32

import msgspec
import torch

from splitnet.errors import ProtocolError

MAGIC = b"SPLT"
VERSION = 1
FLAG_BODY_CRC = 1
ALIGNMENT = 64
"""A body starts at a multiple of this many bytes, as torch's own CPU memory does."""

_FIELDS = struct.Struct("!4sHHQIQII")
_CRC = struct.Struct("!I")
PREFIX_BYTES = _FIELDS.size + _CRC.size

_PREFIX, _HEADER, _BODY = "prefix", "header", "body"

Buffer: TypeAlias = bytes | memoryview
Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a receiver is ready to hold; checked before memory is taken."""

    max_header_bytes: int = 1 << 20
    max_body_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        if self.max_header_bytes < 1 or self.max_body_bytes < 0:
            raise ValueError(f"limits must be positive, not {self}")


class Frame(msgspec.Struct, Generic[Message], frozen=True):
    """One whole frame. `body`: torch.uint8, one-dimensional, at a multiple of `ALIGNMENT`."""

    message: Message
    body: torch.Tensor


def encode_frame(
    message: bytes, buffers: Sequence[Buffer] = (), *, session: int, checksum: bool = False
) -> list[Buffer]:
    """The buffers of one frame, ready for `socket.sendmsg`.

    `message` is msgpack; `buffers` make up the body and are passed on untouched: each must be one-dimensional
    and of single bytes, and must not change until it is sent. `checksum` reads the whole body once more.
    The caller minds the system's limit on buffers in one `sendmsg` (1024 on Linux).
    """
    body_bytes = body_crc = 0
    for buffer in buffers:
        body_bytes += len(buffer)
        if checksum:
            body_crc = crc32(buffer, body_crc)
    flags = FLAG_BODY_CRC if checksum else 0
    fields = _FIELDS.pack(MAGIC, VERSION, flags, session, len(message), body_bytes, body_crc, crc32(message))
    return [b"".join((fields, _CRC.pack(crc32(fields)), message)), *buffers]


def allocate_body(nbytes: int) -> torch.Tensor:
    """Uninitialised torch.uint8 memory that starts at a multiple of `ALIGNMENT`."""
    # A normal tensor also where the caller infers: an inference tensor could not be changed in place outside.
    with torch.inference_mode(False):
        memory = torch.empty(nbytes, dtype=torch.uint8)
        if memory.data_ptr() % ALIGNMENT:  # torch aligns CPU memory itself; a foreign allocator might not
            memory = torch.empty(nbytes + ALIGNMENT, dtype=torch.uint8)
            skip = -memory.data_ptr() % ALIGNMENT
            memory = memory[skip : skip + nbytes]
        return memory


class FrameDecoder(Generic[Message]):
    """Bytes in, frames out. Read into `buffer()`, then tell `received` how many bytes came:

        while (count := sock.recv_into(decoder.buffer())) > 0:
            if (frame := decoder.received(count)) is not None:
                ...
        decoder.eof()

    `buffer()` is exactly the rest of the prefix, of the header or of the body, so nothing is read beyond a
    frame and bodies land where they stay. One memory serves all bodies and grows on demand: **a body is valid
    until the next frame's body begins to arrive**; whoever keeps one longer copies it.

    `session` is the session that frames must carry; while it is 0 any will do (the handshake).
    `require_checksum` refuses frames without a checksum of the body. Both, and `limits`, are set between frames.
    After a ProtocolError the decoder is dead: every call raises that error again.
    """

    session: int
    require_checksum: bool
    limits: Limits

    def __init__(self, message_type: Any, limits: Limits | None = None) -> None:
        """`message_type` is a Struct or a union of tagged ones."""
        self.session = 0
        self.require_checksum = False
        self.limits = limits or Limits()
        self._decode_message = msgspec.msgpack.Decoder(message_type).decode
        self._failure: ProtocolError | None = None
        self._memory = self._body = _NO_BODY  # `_body` is the part of `_memory` that the last body took
        self._memory_view = memoryview(b"")
        self._prefix = memoryview(bytearray(PREFIX_BYTES))
        # What is being read: which part of the frame, where it goes, and how much of it is there.
        self._reading = _PREFIX
        self._part = self._prefix
        self._filled = 0
        self._body_is_checked = False
        self._running_crc = 0
        # What the prefix and the header of this frame said.
        self._body_bytes = 0
        self._body_crc = 0
        self._header_crc = 0
        self._message: Message

    def buffer(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        return self._part[self._filled :]

    def received(self, count: int) -> Frame[Message] | None:
        """`count` bytes (at least one) were put at the start of `buffer()`. The frame, if they complete one.

        Raises ProtocolError when they are not the protocol.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        filled = self._filled + count
        if count < 1 or filled > len(self._part):
            raise ValueError(f"received {count} bytes, the buffer had {len(self._part) - self._filled}")
        if self._body_is_checked:  # while the bytes are still warm in the cache
            self._running_crc = crc32(self._part[self._filled : filled], self._running_crc)
        self._filled = filled
        if filled < len(self._part):
            return None
        try:
            if self._reading is _PREFIX:
                self._finish_prefix()
                return None
            return self._finish_header() if self._reading is _HEADER else self._finish_body()
        except ProtocolError as error:
            self._failure = error
            raise

    def eof(self) -> None:
        """The peer has closed its side: fine between frames, a ProtocolError inside one."""
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        if self._filled or self._reading is not _PREFIX:
            self._failure = ProtocolError(
                f"the peer closed the connection inside a frame, {len(self._part) - self._filled} bytes "
                f"before the end of its {self._reading}"
            )
            raise self._failure

    def _expect(self, reading: str, part: memoryview) -> None:
        self._reading, self._part, self._filled = reading, part, 0

    def _finish_prefix(self) -> None:
        fields = self._prefix[: _FIELDS.size]
        magic, version, flags, session, header_bytes, body_bytes, body_crc, header_crc = _FIELDS.unpack(fields)
        if magic != MAGIC:
            raise ProtocolError(f"the peer does not speak splitnet: a frame starts with {MAGIC!r}, not {magic!r}")
        if version != VERSION:
            raise ProtocolError(f"peer speaks protocol version {version}, this is {VERSION}; update the older side")
        if _CRC.unpack_from(self._prefix, _FIELDS.size)[0] != crc32(fields):
            raise _changed("prefix")
        if self.session and session != self.session:
            raise ProtocolError(f"a frame belongs to session {session}, this connection is session {self.session}")
        limits = self.limits
        if header_bytes > limits.max_header_bytes:
            raise ProtocolError(
                f"a header of {header_bytes} bytes is over max_header_bytes = {limits.max_header_bytes}"
            )
        if body_bytes > limits.max_body_bytes:
            raise ProtocolError(f"a body of {body_bytes} bytes is over max_body_bytes = {limits.max_body_bytes}")
        if flags & ~FLAG_BODY_CRC:
            raise ProtocolError(f"a frame has unknown flags {flags:#x}")
        if not flags and self.require_checksum:
            raise ProtocolError(
                "a frame has no body checksum, which this connection requires; switch it on at the peer"
            )
        if header_bytes == 0:
            raise ProtocolError("a frame has no header")
        self._body_bytes, self._body_crc, self._header_crc = body_bytes, body_crc, header_crc
        self._checksum = bool(flags)
        self._expect(_HEADER, memoryview(bytearray(header_bytes)))

    def _finish_header(self) -> Frame[Message] | None:
        header = self._part
        if crc32(header) != self._header_crc:
            raise _changed("header")
        try:
            self._message = self._decode_message(header)
        except (msgspec.MsgspecError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            raise ProtocolError(f"a frame's header is not a message: {_one_line(error)}") from error
        body_bytes = self._body_bytes
        if body_bytes:
            if body_bytes > len(self._memory_view):
                self._grow(body_bytes)
            if body_bytes != self._body.numel():
                self._body = self._memory[:body_bytes]
            self._running_crc = 0
            self._body_is_checked = self._checksum
            self._expect(_BODY, self._memory_view[:body_bytes])
            return None
        self._expect(_PREFIX, self._prefix)
        if self._body_crc:
            raise ProtocolError("an empty body has a checksum other than 0")
        return Frame(self._message, _NO_BODY)

    def _finish_body(self) -> Frame[Message]:
        if self._body_is_checked:
            self._body_is_checked = False
            if self._running_crc != self._body_crc:
                raise _changed("body")
        self._expect(_PREFIX, self._prefix)
        return Frame(self._message, self._body)

    def _grow(self, nbytes: int) -> None:
        self._memory = self._body = _NO_BODY  # the old memory and the new are never held at once
        self._memory_view = memoryview(b"")
        try:
            self._memory = allocate_body(nbytes)
        except (MemoryError, RuntimeError) as error:  # torch says RuntimeError
            raise ProtocolError(f"no memory for a body of {nbytes} bytes; lower max_body_bytes") from error
        self._memory_view = self._memory.numpy().data


_NO_BODY = allocate_body(0)


def _changed(part: str) -> ProtocolError:
    return ProtocolError(f"a frame's {part} does not match its checksum; the bytes were changed on the way")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

"""A connection on which only two APs can speak, and only they can listen.

Each message travels with its body as one ChaCha20-Poly1305 ciphertext, under a key for each direction and a number
that counts: whoever sits between them can cut the connection, and do no more. The handshake (`handshake.py`) makes
the keys.
"""

from __future__ import annotations

import contextlib
from typing import final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from splitnet.consensus.messages import Message, Opening, Said, Sealed
from splitnet.consensus.sizes import MOST_BLOCK_BYTES, MOST_VALUE_BYTES
from splitnet.errors import ProtocolError
from splitnet.runtime.connection import Connection, PeerGoneError
from splitnet.wire.frames import Limits

MOST_MESSAGE_BYTES = 1 << 19
"""Of a message without its body, before it is sealed."""
MOST_BODY_BYTES = max(MOST_BLOCK_BYTES, MOST_VALUE_BYTES)
"""Of what is sent with a message: a block, or a value."""
KEY_BYTES = 32
"""Of an X25519 public key and of a ChaCha20-Poly1305 key."""
TAG_BYTES = 16
"""With which Poly1305 makes a sealed message longer."""
_LENGTH_BYTES = 4
_NONCE_BYTES = 12
LIMITS = Limits(max_header_bytes=64, max_body_bytes=_LENGTH_BYTES + MOST_MESSAGE_BYTES + MOST_BODY_BYTES + TAG_BYTES)
"""Of a frame: all of a message is sealed in its body."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


class ForeignBytesError(PeerGoneError):
    """What came was not sent by the AP at the other side, or was changed on the way."""


@final
class Channel:
    """Messages to and from one AP. One thread may send while another receives."""

    def __init__(self, connection: Connection[Opening], sending: bytes, receiving: bytes) -> None:
        """
        Args:
            connection: after the handshake, with `LIMITS`; the channel's own from here.
            sending, receiving: [32] keys, used for nothing else.
        """
        self._connection = connection
        self._sending, self._receiving = ChaCha20Poly1305(sending), ChaCha20Poly1305(receiving)
        self._sent = self._received = 0

    def send(self, message: Said, body: bytes = b"") -> None:
        """Send one message.

        Raises:
            PeerGoneError: nobody reads at the other side.
        """
        said = _encode(message)
        plain = b"".join((len(said).to_bytes(_LENGTH_BYTES), said, body))
        sealed = self._sending.encrypt(self._sent.to_bytes(_NONCE_BYTES), plain, None)
        self._sent += 1
        self._connection.send(Sealed(), [sealed])

    def receive(self, deadline_s: float) -> tuple[Message, bytes]:
        """The next message, with its body.

        Raises:
            PeerGoneError: the connection was closed, or `deadline_s` passed without a byte.
            ForeignBytesError: somebody else has written to it; the AP is not to blame.
            ProtocolError: the AP sent what is no message.
        """
        try:
            received = self._connection.receive(deadline_s)
        except ProtocolError as error:  # whoever writes between frames has no key
            raise ForeignBytesError(str(error)) from error
        if not isinstance(received.message, Sealed):
            raise ForeignBytesError(f"{type(received.message).__name__} does not belong here")
        nonce = self._received.to_bytes(_NONCE_BYTES)
        self._received += 1
        try:
            plain = self._receiving.decrypt(nonce, received.body.numpy().data, None)
        except InvalidTag:
            raise ForeignBytesError(f"what came from {self._connection.peer} was not sent by it") from None
        end = _LENGTH_BYTES + int.from_bytes(plain[:_LENGTH_BYTES])
        if not _LENGTH_BYTES <= end <= len(plain) or end > _LENGTH_BYTES + MOST_MESSAGE_BYTES:
            raise ProtocolError(f"a message of {end - _LENGTH_BYTES} bytes came in {len(plain)}")
        try:
            message = _decode(plain[_LENGTH_BYTES:end])
        except (msgspec.MsgspecError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            raise ProtocolError(f"the bytes are no message: {' '.join(str(error).split())}") from None
        return message, plain[end:]

    def close(self) -> None:
        """Close both directions; a thread that waits in `receive` gets PeerGoneError."""
        with contextlib.suppress(OSError):
            self._connection.close()

"""Canonical bytes: each value has one encoding, and a digest says what kind of thing it is and of which network.

Values are msgspec Structs written as msgpack arrays, in the order of their fields. Decoding checks types and ranges,
and then encodes again: bytes that another encoder would have written otherwise (longer integers, more fields) are
refused, so that one thing cannot have two digests.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, TypeVar

import msgspec

from splitnet.consensus.errors import EncodingError

DIGEST_BYTES = 32
"""Of SHA-256."""
SIGNATURE_BYTES = 64
"""Of Ed25519."""
MOST = 2**62
"""Of any number that is encoded: sums of two still fit 64 bits."""

Digest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
PublicKeyBytes = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
Number = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=MOST)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z")]

NO_DIGEST = bytes(DIGEST_BYTES)
"""Stands where there is nothing to point to."""

Value = TypeVar("Value")
encode = msgspec.msgpack.Encoder().encode


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Something with canonical bytes."""


def decode(data: bytes | memoryview, kind: type[Value], most_bytes: int) -> Value:
    """The value whose one encoding these bytes are.

    Raises:
        EncodingError: too long, not of that kind, out of a field's range, or not the canonical encoding.
    """
    if len(data) > most_bytes:
        raise EncodingError(f"{len(data)} bytes of {kind.__name__} are over the limit of {most_bytes}")
    try:
        value = msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise EncodingError(f"the bytes are no {kind.__name__}: {' '.join(str(error).split())}") from None
    if encode(value) != data:
        raise EncodingError(f"the bytes are not the canonical encoding of this {kind.__name__}")
    return value


def digest_of(kind: str, network: bytes, *parts: bytes) -> bytes:
    """SHA-256 over a kind, the network's id, and parts of fixed or self-delimiting length.

    What one kind signs cannot be shown as another, nor in another network.
    """
    return hashlib.sha256(b"".join((b"splitnet/", kind.encode(), b"\0", network, *parts))).digest()


def check_encodable(value: Any) -> None:
    """The ranges of the fields hold also for what was built here and not decoded.

    Raises:
        EncodingError: a field is out of its range.
    """
    decode(encode(value), type(value), MOST)

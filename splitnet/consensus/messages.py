"""What members say to each other, over the project's wire protocol; large things are in the body.

A connection opens with `Hello` and `Prove` from either side. After that come `Sealed` frames alone, each with one
`Message` inside: anybody may say anything at any time; what is asked for (`Get…`) is answered within a deadline.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from splitnet.consensus.block import MOST_HEADER_BYTES
from splitnet.consensus.canonical import Digest, Number, PublicKeyBytes, Signature
from splitnet.consensus.receipt import MOST_RECEIPT_BYTES

MOST_HEADERS = 256
"""In one message."""
MOST_BLOCKS_ASKED = 16
"""Bodies, in one message."""
MOST_LOCATOR = 64
"""Hashes by which a chain says what it has; they double their distance, so that 64 reach any genesis block."""

HeaderBytes = Annotated[bytes, msgspec.Meta(max_length=MOST_HEADER_BYTES)]
ReceiptBytes = Annotated[bytes, msgspec.Meta(max_length=MOST_RECEIPT_BYTES)]


class Said(msgspec.Struct, frozen=True, tag=True):
    """One message."""


class Hello(Said, frozen=True):
    """The first message of either side."""

    network: Digest
    ap: Number
    fresh_key: PublicKeyBytes
    """X25519, for this connection alone; both sides sign it, so that nobody speaks in another's name."""


class Prove(Said, frozen=True):
    """The second message of either side: its signature over what both have said."""

    signature: Signature


class Sealed(Said, frozen=True):
    """A message with its body, both in the frame's body, encrypted."""


class Announce(Said, frozen=True):
    """A block that the sender has on disk."""

    sealed: HeaderBytes


class GetHeaders(Said, frozen=True):
    """Headers of the receiver's chain after the first of these hashes that is in it."""

    locator: Annotated[list[Digest], msgspec.Meta(max_length=MOST_LOCATOR)]


class Headers(Said, frozen=True):
    """Sealed headers, each the parent of the next. More may follow if there are `MOST_HEADERS`."""

    sealed: Annotated[list[HeaderBytes], msgspec.Meta(max_length=MOST_HEADERS)]


class GetBlocks(Said, frozen=True):
    """Blocks by hash; each is answered by a `BlockBytes`, or by `NotHere`."""

    hashes: Annotated[list[Digest], msgspec.Meta(min_length=1, max_length=MOST_BLOCKS_ASKED)]


class BlockBytes(Said, frozen=True):
    """A whole block in the body."""

    hash: Digest


class ReceiptBody(Said, frozen=True):
    """A receipt; its result in the body, unless that is larger than may travel with it."""

    signed: ReceiptBytes
    with_result: bool


class GetReceipts(Said, frozen=True):
    """The receipts that wait for a block; they are told of little by little."""


class GetValue(Said, frozen=True):
    """A result, or an activation for an audit, by its digest; answered by a `Value` or by `NotHere`."""

    digest: Digest


class Value(Said, frozen=True):
    """Bytes in the body."""

    digest: Digest


class NotHere(Said, frozen=True):
    """What was asked for by this hash or digest is not here."""

    digest: Digest


class Fraud(Said, frozen=True):
    """A fraud proof; its evidence is asked for by digest."""

    proof: ReceiptBytes


class VoidVote(Said, frozen=True):
    """A vote against a receipt."""

    signed: ReceiptBytes
    verifier: Number
    signature: Signature


class Ping(Said, frozen=True):
    """Somebody is here."""


Opening: TypeAlias = Hello | Prove | Sealed
"""What a frame holds."""

Message: TypeAlias = (
    Announce
    | GetHeaders
    | Headers
    | GetBlocks
    | BlockBytes
    | ReceiptBody
    | GetReceipts
    | GetValue
    | Value
    | NotHere
    | Fraud
    | VoidVote
    | Ping
)

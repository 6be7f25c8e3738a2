"""What a node is told to do by its state machine, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from splitnet.consensus.block import Block
from splitnet.consensus.entry import Entry
from splitnet.consensus.messages import Said
from splitnet.consensus.receipt import SignedReceipt


@dataclass(frozen=True, slots=True)
class Send:
    """A message to a peer."""

    peer: int
    message: Said
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class SendBlock:
    """A stored block to a peer."""

    peer: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class SendValue:
    """A stored value to a peer."""

    peer: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class StoreBlocks:
    """Put blocks on disk, parents first."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class StoreValue:
    """Put a value on disk."""

    value: bytes


@dataclass(frozen=True, slots=True)
class ValueStored:
    """Tell `Gossip.value_stored`, now that the value is on disk."""

    digest: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Examine:
    """Run a receipt's top again for an audit, beside everything else; then tell `Gossip.examined`."""

    signed: SignedReceipt


@dataclass(frozen=True, slots=True)
class Drop:
    """End the connection to a peer; one that broke a rule may not come back at once."""

    peer: int
    reason: str
    broke_rule: bool = True


@dataclass(frozen=True, slots=True)
class NotJudged:
    """What a peer said cannot be judged here; the peer stays."""

    peer: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class HeadMoved:
    """The chain has another head."""

    head: Entry


Instruction: TypeAlias = (
    Send | SendBlock | SendValue | StoreBlocks | StoreValue | ValueStored | Examine | Drop | NotJudged | HeadMoved
)

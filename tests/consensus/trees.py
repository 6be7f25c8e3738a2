"""Trees of mined blocks, for tests of chains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from splitnet.consensus.block import Block, hash_of
from splitnet.consensus.chain import Chain
from splitnet.consensus.entry import Entry
from splitnet.consensus.genesis import Audit
from splitnet.consensus.validation import Place
from tests.consortium import Consortium, some_rules, trusting

CONSORTIUM = Consortium(some_rules(aps=3, gateways=3, devices=6, audit=Audit(1_000_000, suspended_slots=10)))
RULES = CONSORTIUM.rules


def a_chain() -> Chain:
    return Chain(RULES, trusting)


def place_of(block: Block) -> Place:
    return Place.of_block(hash_of(RULES, block.sealed), block.header)


def hashes(entries: Sequence[Entry]) -> list[bytes]:
    return [entry.hash for entry in entries]


def line(count: int, parent: Place | None = None, slot: int = 0, miner: int = 0, **changes: Any) -> list[Block]:
    """Empty blocks, one on the other, in slots from `slot`."""
    found: list[Block] = []
    for number in range(count):
        found.append(CONSORTIUM.block(slot + number, miner, parent=parent, **changes))
        parent = place_of(found[-1])
    return found

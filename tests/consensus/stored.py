"""Stores of the small network, for tests of what is on disk."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from splitnet.consensus.block import Block
from splitnet.consensus.chain import Chain
from splitnet.consensus.database import FILE
from splitnet.consensus.genesis import Audit
from splitnet.consensus.store import Store
from splitnet.consensus.validation import Place
from tests.consortium import NOW_MS, Consortium, Contents, some_rules, trusting

CONSORTIUM = Consortium(some_rules(audit=Audit(share_millionths=100_000)))


def a_chain(consortium: Consortium, length: int, receipts: int = 2) -> list[Block]:
    """Blocks on one another, mined in turn, each with receipts of its slot."""
    chain, blocks = Chain(consortium.rules, trusting), []
    aps = len(consortium.rules.genesis.aps)
    for slot in range(length):
        block = consortium.on(chain, slot, slot % aps, Contents(consortium.receipts(slot, range(receipts))))
        chain.add(block, NOW_MS)
        blocks.append(block)
    return blocks


def a_branch(consortium: Consortium, parent: Block | None, slot: int, miner: int = 0) -> Block:
    """An empty block on another."""
    place = None if parent is None else Place.of_block(hash_in(consortium, parent), parent.header)
    return consortium.block(slot, miner, parent=place)


def hash_in(consortium: Consortium, block: Block) -> bytes:
    from splitnet.consensus.block import hash_of

    return hash_of(consortium.rules, block.sealed)


def fill(folder: Path, blocks: list[Block], *values: bytes, consortium: Consortium = CONSORTIUM) -> None:
    """A new store with these, closed again."""
    with Store.create(folder, consortium.rules) as store:
        store.append(blocks)
        for value in values:
            store.put_value(value)


@contextlib.contextmanager
def edited(folder: Path) -> Iterator[sqlite3.Connection]:
    """The file, opened past the store; what is done to it stays, without waiting for the disk."""
    with contextlib.closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        yield connection


def seen(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a folder with its time of change and content."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}

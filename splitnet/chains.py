"""The stores of a run: found below a folder, verified one by one, compared, and read for people.

Decides which stores belong to what was asked for, and what it means that they agree. The rules themselves are in
`splitnet.consensus`. What is listed or exported is only as true as `verify_one` finds it: listing checks that
bytes are blocks and have the hash they are stored under, no more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from splitnet.consensus.block import Block, Header, hash_of
from splitnet.consensus.canonical import decode
from splitnet.consensus.database import FILE, damaged
from splitnet.consensus.entry import rank_of
from splitnet.consensus.errors import ConsensusError, StoreError
from splitnet.consensus.genesis import Rules
from splitnet.consensus.sizes import MOST_BLOCK_BYTES
from splitnet.consensus.store import Row, Store
from splitnet.consensus.verifying import BrokenBlockError, Verified, verify_store

LEAST_DIGITS = 4
"""Of a hash that is looked for: fewer are a height."""

Step = Callable[[int, int, str], None]


def stores_below(folder: Path) -> list[Path]:
    """Every folder with a store, `folder` itself or anywhere below it, sorted.

    Raises:
        StoreError: there is none, a symbolic link, which is not followed, or a folder that cannot be looked into.
    """

    def refused(error: OSError) -> None:
        raise StoreError(f"cannot look into {error.filename}: {error.strerror}; name a folder that may be read")

    found = []
    for place, folders, names in os.walk(folder, onerror=refused):
        for name in (*folders, *names):
            link = Path(place, name)
            if link.is_symlink() and (name == FILE or (link / FILE).exists()):
                raise StoreError(f"{link} is a symbolic link, and what it points to is not of {folder}; name that")
        if FILE in (*folders, *names):  # a folder of that name is for the store to refuse
            found.append(Path(place))
    if not found:
        raise StoreError(f"there is no {FILE} in {folder} nor below it; name a store's folder or a run's")
    return sorted(found)


def missing_stores(run: Path, stores: Sequence[Path]) -> list[str]:
    """Names of the APs of a run that has begun which have no store in its folder.

    Args:
        stores: those that are there.
    """
    for place in stores:
        try:
            with Store.read(place) as store:
                return [ap.name for ap in store.rules.genesis.aps if run / ap.name not in stores]
        except ConsensusError:  # a broken one; the next knows the members too
            continue
    return []


def label(store: Path, root: Path) -> str:
    """What a store is called among those below a folder."""
    return str(store) if store == root else str(store.relative_to(root))


# --- verified


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one store's verification: one of the two is there.

    Attributes:
        store: its name among those that were looked at.
    """

    store: str
    verified: Verified | None
    error: ConsensusError | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON, bytes in hexadecimal."""
        if self.verified is None:
            error = self.error
            block = error if isinstance(error, BrokenBlockError) else None
            return {
                "store": self.store,
                "clean": False,
                "rule": error.rule if error else None,
                "error": str(error),
                "height": block.height if block else None,
                "block": block.block_hash.hex() if block else None,
            }
        found = self.verified
        return {
            "store": self.store,
            "clean": True,
            "network": found.network.hex(),
            "height": found.height,
            "slot": found.slot,
            "head": found.head.hex(),
            "blocks": found.blocks,
            "receipts": found.receipts,
            "frauds": found.frauds,
            "voids": found.voids,
            "frauds_not_reexecuted": found.not_reexecuted,
            "results": found.values,
            "mined": dict(found.mined),
        }


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the chains of clean stores lie to one another.

    Attributes:
        networks: different ones among them.
        height: up to which all chains are the same; None of several networks.
        highest: height of the longest.
        parted: two of them differ at a height that both have.
    """

    networks: int
    height: int | None
    highest: int
    parted: bool

    def __str__(self) -> str:
        if self.height is None:
            return f"the stores are of {self.networks} networks"
        if self.parted:
            return (
                f"same chain up to height {self.height}, where the chains part; the longest has height {self.highest}"
            )
        longer = "" if self.highest == self.height else f"; the longest goes on to height {self.highest}"
        return f"same chain up to height {self.height}{longer}"


def verify_one(
    folder: Path, name: str, now_ms: int, network: bytes | None = None, step: Step | None = None
) -> Outcome:
    """Verify a store; whatever is wrong with it is its outcome, so that others can be looked at after it.

    Args:
        name: what it is called.
        network: the id of the network that it must be of.
    """
    try:
        with Store.read(folder) as store:
            store.check_network(network)
            return Outcome(name, verify_store(store, now_ms, step=step), None)
    except ConsensusError as error:
        return Outcome(name, None, error)


def agreement(found: Sequence[Verified]) -> Agreement:
    """Compare the chains of one store or more."""
    networks = len({one.network for one in found})
    highest = max(one.height for one in found)
    if networks > 1:
        return Agreement(networks, None, highest, False)
    least = min(one.height for one in found)
    same, beyond = 0, least + 1  # equal at `same`, not (or not there) at `beyond`; a hash commits to all below it
    while beyond - same > 1:
        middle = (same + beyond) // 2
        if len({one.hashes[middle] for one in found}) == 1:
            same = middle
        else:
            beyond = middle
    return Agreement(1, same, highest, same < least)


# --- read for people


@dataclass(frozen=True, slots=True)
class Listed:
    """A block in a list."""

    hash: bytes
    header: Header
    receipts: int


def read_block(store: Store, row: Row) -> Block:
    """The block of a row. Raises StoreError: it is none, or has another hash."""
    try:
        block = decode(row.data, Block, MOST_BLOCK_BYTES)
    except ConsensusError as error:
        raise damaged(store.path, f"row {row.number} of its blocks is none: {error}") from error
    if hash_of(store.rules, block.sealed) != row.hash:
        raise damaged(store.path, f"row {row.number} of its blocks is stored under another hash")
    return block


def listed(store: Store) -> list[Listed]:
    """The chain, oldest first: the longest branch, of two as long the one with the lower hash * gamma.

    Raises:
        StoreError: damaged.
    """
    found: dict[bytes, Listed] = {}
    head: Listed | None = None
    for row in store.rows():
        block = read_block(store, row)
        one = Listed(row.hash, block.header, len(block.body.receipts))
        found[one.hash] = one
        if head is None or rank_of(one.hash, one.header) > rank_of(head.hash, head.header):
            head = one
    chain = []
    while head is not None:
        chain.append(head)
        head = found.pop(head.header.previous, None)  # taken out, so that no circle is walked twice
    return chain[::-1]


def find_block(store: Store, wanted: str) -> Block | None:
    """A block by its height in the chain, or by the beginning of its hash in any branch.

    Raises:
        StoreError: damaged, or several hashes begin so.
    """
    chain = listed(store)
    if wanted.isdecimal() and 1 <= int(wanted) <= len(chain):
        start = chain[int(wanted) - 1].hash.hex()
    elif len(wanted) < LEAST_DIGITS:
        return None
    else:
        start = wanted.lower()
    hits = [row for row in store.rows() if row.hash.hex().startswith(start)]
    if len(hits) > 1:
        raise StoreError(f"{len(hits)} blocks of {store.path} begin with {wanted}; give more digits of the hash")
    return read_block(store, hits[0]) if hits else None


def export_records(store: Store, name: str) -> Iterator[dict[str, Any]]:
    """Every stored block with all its fields, parents first. Raises StoreError: damaged."""
    chain = {one.hash for one in listed(store)}
    for row in store.rows():
        block = read_block(store, row)
        yield {"store": name, "hash": row.hash.hex(), "in_chain": row.hash in chain, **record(block)}


def block_record(rules: Rules, block: Block) -> dict[str, Any]:
    """A block with all its fields and its hash."""
    return {"hash": hash_of(rules, block.sealed).hex(), **record(block)}


def record(value: msgspec.Struct) -> dict[str, Any]:
    """All fields by name, bytes in hexadecimal."""
    return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return record(value)
    if isinstance(value, bytes):
        return value.hex()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value

"""The store: a network's genesis, blocks and results on disk, in `chain.sqlite3` in a folder of its own.

    settings   `genesis` and `registry`, the canonical bytes, and `network`, the network's id
    blocks     by number 1, 2, …, each after its parent: hash and canonical bytes, of all branches
    results    by digest: results of inferences, and what proofs of fraud rest on

What is appended is on disk when the call returns, so that a block is on disk before it is announced; how, says
`database.py`. Blocks and results are never changed or taken out.

Decides what is kept and in which order. It does not know whether a block is valid: a `Chain` does, before a block
comes here and again in `load_chain` when it comes back.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

from splitnet.consensus import database
from splitnet.consensus.block import Block, hash_of
from splitnet.consensus.canonical import DIGEST_BYTES, decode, encode
from splitnet.consensus.chain import Chain, Judge
from splitnet.consensus.database import BLOCKS, FILE, SETTINGS, VALUES, HalfWrittenError, damaged, refusals
from splitnet.consensus.errors import ConsensusError, ParentError, StoreError
from splitnet.consensus.genesis import MOST_GENESIS_BYTES, Genesis, Rules
from splitnet.consensus.receipt import validate_receipt, value_digest
from splitnet.consensus.registry import MOST_REGISTRY_BYTES, Registry
from splitnet.consensus.rows import Rows
from splitnet.consensus.sizes import MOST_BLOCK_BYTES, MOST_VALUE_BYTES
from splitnet.consensus.validation import ReceiptCheck

Step = Callable[[int, int, str], None]
"""Is told what is done, the total, and what is going on."""


@dataclass(frozen=True, slots=True)
class Row:
    """A stored block, unread.

    Attributes:
        number: its place in the order of appending, from 1.
        hash: that it is stored under.
        data: what should be its canonical bytes.
    """

    number: int
    hash: bytes
    data: bytes


@final
class Store:
    """An open store; a context manager. Made by `create`, `open` or `read`. Several threads may use it in turn.

    Attributes:
        path: the file.
        rules: of the stored genesis block and registry.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, resources: contextlib.ExitStack) -> None:
        """Raises StoreError: genesis block, registry or network's id are damaged."""
        self.path = path
        self._rows = Rows(path, connection)
        self._resources = resources
        self.rules = self._read_rules()

    @classmethod
    def create(cls, folder: Path, rules: Rules) -> Store:
        """A new store for a network, opened for writing; the folder is made where it is missing.

        Raises:
            StoreError: there is one already, the folder is in use, or the disk refuses; then there is none.
        """
        genesis, registry = encode(rules.genesis), encode(rules.registry)
        for what, data, most in (
            ("genesis block", genesis, MOST_GENESIS_BYTES),
            ("FLOPs registry", registry, MOST_REGISTRY_BYTES),
        ):
            if len(data) > most:
                raise StoreError(f"a {what} of {len(data)} bytes is over the limit of {most}; take fewer members")
        made = not folder.exists()
        with refusals(folder):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            with contextlib.ExitStack() as resources:
                resources.callback(os.close, database.lock(folder))
                database.create(folder, {"genesis": genesis, "registry": registry, "network": rules.network})
                return cls._opened(folder, resources)
        except BaseException:
            if made:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise

    @classmethod
    def open(cls, folder: Path, network: bytes | None = None) -> Store:
        """The store of a folder, for its one writer; what a crash left half written is undone.

        Args:
            network: the id of the network that it must be of.

        Raises:
            StoreError: none there, in use by another node, read-only, damaged, of another network or format.
        """
        with contextlib.ExitStack() as resources:
            resources.callback(os.close, database.lock(folder))
            store = cls._opened(folder, resources)
        try:
            store.check_network(network)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def _opened(cls, folder: Path, resources: contextlib.ExitStack) -> Store:
        path = folder / FILE
        return cls._kept(path, database.connect(path, writable=True), resources)

    @classmethod
    def _kept(cls, path: Path, connection: sqlite3.Connection, resources: contextlib.ExitStack) -> Store:
        resources.callback(connection.close)
        store = cls(path, connection, resources)
        store._resources = resources.pop_all()
        return store

    @classmethod
    def read(cls, folder: Path) -> Store:
        """The store of a folder, to be read only, while a node writes to it or not; nothing there is changed.

        A file that its node left half written is read as a temporary copy, without what was half written.

        Raises:
            StoreError: none there, damaged, or of another format.
        """
        path = folder / FILE
        with contextlib.ExitStack() as resources:
            try:
                connection = database.connect(path, writable=False)
            except HalfWrittenError:
                copy = resources.enter_context(database.recovered_copy(path))
                connection = database.connect(copy, writable=True)
            return cls._kept(path, connection, resources)

    def close(self) -> None:
        """Give the file and the folder back; may be called twice."""
        with self._rows.turn:
            self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, network {self.rules.network.hex()[:12]})"

    def check_network(self, network: bytes | None) -> None:
        """Raises StoreError: it is not of this network (None: any will do)."""
        if network is not None and network != self.rules.network:
            raise StoreError(
                f"{self.path} is of network {self.rules.network.hex()}, not of {network.hex()}; "
                f"use another folder for another network"
            )

    # --- writing

    def append(self, blocks: Sequence[Block]) -> None:
        """Keep blocks, all or none: on disk when this returns. Those it has already are passed over.

        Args:
            blocks: valid ones, each after its parent, which is stored, among them, or the genesis block.

        Raises:
            ParentError: a block whose parent is not there.
            StoreError: too large, or the disk refuses; what was stored before is as it was.
        """
        with self._rows.transaction():
            for block in blocks:
                block_hash, previous = hash_of(self.rules, block.sealed), block.header.previous
                if self._has(block_hash):
                    continue
                if previous != self.rules.network and not self._has(previous):
                    raise ParentError(
                        f"block {block_hash.hex()[:12]} cannot be stored before its parent {previous.hex()[:12]}"
                    )
                data = encode(block)
                if len(data) > MOST_BLOCK_BYTES:
                    raise StoreError(f"a block of {len(data)} bytes is over the limit of {MOST_BLOCK_BYTES}")
                self._rows.execute(f"INSERT INTO {BLOCKS} (hash, data) VALUES (?, ?)", block_hash, data)

    def put_value(self, data: bytes) -> bytes:
        """Keep a result or evidence, on disk when this returns; its digest.

        Raises:
            StoreError: too large, or the disk refuses; what was stored before is as it was.
        """
        if len(data) > MOST_VALUE_BYTES:
            raise StoreError(f"a result of {len(data)} bytes is over the limit of {MOST_VALUE_BYTES}")
        digest = value_digest(data)
        with self._rows.transaction():
            self._rows.execute(f"INSERT OR IGNORE INTO {VALUES} VALUES (?, ?)", digest, data)
        return digest

    # --- reading

    def block_bytes(self, block_hash: bytes) -> bytes | None:
        """The canonical bytes of a block. Raises StoreError: damaged."""
        return self._rows.one(f"FROM {BLOCKS} WHERE hash = ?", MOST_BLOCK_BYTES, block_hash)

    def value(self, digest: bytes) -> bytes | None:
        """What was kept under a digest, which it is checked to have. Raises StoreError: damaged."""
        data = self._rows.one(f"FROM {VALUES} WHERE digest = ?", MOST_VALUE_BYTES, digest)
        if data is not None and value_digest(data) != digest:
            raise damaged(self.path, f"what is kept under {digest.hex()[:12]} has another digest")
        return data

    def block_count(self) -> int:
        """Blocks of all branches."""
        return int(self._rows.execute(f"SELECT coalesce(max(number), 0) FROM {BLOCKS}")[0][0])

    def blocks(self) -> Iterator[Block]:
        """All blocks, each after its parent; also those that are appended meanwhile.

        Raises:
            StoreError: a row that cannot be read.
            EncodingError: what stands in a row is no block.
        """
        for row in self.rows():
            yield decode(row.data, Block, MOST_BLOCK_BYTES)

    def rows(self) -> Iterator[Row]:
        """The rows of the blocks, unread, by number. Raises StoreError: a row that cannot be."""
        number = 0
        while found := self._rows.after(BLOCKS, "number", "hash", number, MOST_BLOCK_BYTES):
            next_number, block_hash, data = found
            if next_number != number + 1:
                raise damaged(self.path, f"block {number} is followed by block {next_number}")
            number = next_number
            yield Row(number, block_hash, data)

    def values(self) -> Iterator[tuple[bytes, bytes]]:
        """Digests and what is kept under them, unread. Raises StoreError: a row that cannot be."""
        digest = b""
        while found := self._rows.after(VALUES, "digest", "digest", digest, MOST_VALUE_BYTES):
            digest = found[0]
            yield digest, found[2]

    def check_structure(self) -> None:
        """What `rows` and `values` do not see: pages, indices, rows that no call here has written.

        Looks at every page in one go; a commit has to wait meanwhile.

        Raises:
            StoreError: damaged.
        """
        (said,) = self._rows.execute("PRAGMA integrity_check(1)")
        if said != ("ok",):
            raise damaged(self.path, " ".join(str(said[0]).split()))
        self._check_end()
        names = [name for (name,) in self._rows.execute(f"SELECT name FROM {SETTINGS} ORDER BY name LIMIT 100")]
        if names != ["genesis", "network", "registry"]:
            raise damaged(self.path, "its settings are not those of a store")
        for what, odd in (
            ("blocks", f"FROM {BLOCKS} WHERE number < 1"),
            ("results", f"FROM {VALUES} WHERE typeof(digest) <> 'blob' OR length(digest) <> {DIGEST_BYTES}"),
        ):
            if count := self._rows.execute(f"SELECT count(*) {odd}")[0][0]:
                raise damaged(self.path, f"{count} of its {what} cannot have been written by a node")

    def _check_end(self) -> None:
        """Nothing stands behind the last page, where SQLite does not look."""
        with self._rows.turn, refusals(self.path):
            self._rows.execute("BEGIN")
            try:  # until the read ends no commit can make the file longer
                size = self._rows.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")[
                    0
                ][0]
                found = Path(self._rows.execute("PRAGMA database_list")[0][2]).stat().st_size
            finally:
                self._rows.execute("COMMIT")
        if found != size:
            raise damaged(self.path, f"it has {found} bytes where its pages have {size}")

    def _read_rules(self) -> Rules:
        settings = {
            name: self._rows.one(f"FROM {SETTINGS} WHERE name = ?", most, name)
            for name, most in (
                ("genesis", MOST_GENESIS_BYTES),
                ("registry", MOST_REGISTRY_BYTES),
                ("network", DIGEST_BYTES),
            )
        }
        for name, data in settings.items():
            if data is None:
                raise damaged(self.path, f"it has no {name}")
        try:
            rules = Rules(
                decode(settings["genesis"] or b"", Genesis, MOST_GENESIS_BYTES),
                decode(settings["registry"] or b"", Registry, MOST_REGISTRY_BYTES),
            )
        except ConsensusError as error:
            raise damaged(
                self.path, f"its genesis block or registry breaks the rule {error.rule}: {error}"
            ) from error
        if rules.network != settings["network"]:
            raise damaged(self.path, "its genesis block is not that of its network")
        return rules

    def _has(self, block_hash: bytes) -> bool:
        return bool(self._rows.execute(f"SELECT 1 FROM {BLOCKS} WHERE hash = ?", block_hash))


def load_chain(
    store: Store, judge: Judge, now_ms: int, check: ReceiptCheck = validate_receipt, step: Step | None = None
) -> Chain:
    """The chain of all stored blocks, each validated again.

    Args:
        judge: re-executes what fraud proofs accuse.
        now_ms: ms since 1970 by this machine's clock.
        check: of one receipt by itself.
        step: is told how far it is.

    Raises:
        ConsensusError: a block that breaks a rule, or is further ahead of the clock than it may be.
    """
    chain = Chain(store.rules, judge, check)
    total = store.block_count()
    for number, block in enumerate(store.blocks(), 1):
        if missing := chain.add(block, now_ms).missing:
            raise damaged(store.path, f"block {number} stands on {missing.hex()[:12]}, which does not come before it")
        if step is not None:
            step(number, max(number, total), "replaying blocks")
    return chain

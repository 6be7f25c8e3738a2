"""Rows of a store's tables: statements one at a time, transactions, and cells that are measured before they are read.

Decides how much is read at once. Does not know what the cells hold.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

from splitnet.consensus.canonical import DIGEST_BYTES
from splitnet.consensus.database import damaged, refusals


@final
class Rows:
    """A connection that several threads may use in turn.

    Attributes:
        turn: held by the thread that uses it.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.turn = threading.RLock()
        self._path = path
        self._connection = connection

    def execute(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """All that a statement gives. Raises StoreError: the disk refuses, or the file is damaged."""
        with self.turn, refusals(self._path):
            return self._connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block is on disk when it ends, or nothing of it."""
        with self.turn:
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # after some refusals SQLite has gone back by itself
                    self.execute("ROLLBACK")
                raise

    def one(self, where: str, most_bytes: int, key: bytes | str) -> bytes | None:
        """The `data` of a row. Raises StoreError: it is no blob of at most so many bytes."""
        with self.turn:
            found = self.execute(f"SELECT typeof(data), length(data) {where}", key)
            if not found:
                return None
            self._check("data", found[0], most_bytes)
            return bytes(self.execute(f"SELECT data {where}", key)[0][0])

    def after(self, table: str, order: str, key: str, last: Any, most_bytes: int) -> tuple[Any, bytes, bytes] | None:
        """The next row of a table: the column it is ordered by, its key, its `data`.

        Raises:
            StoreError: the key is no digest, or the data no blob of at most so many bytes.
        """
        statement = f"FROM {table} WHERE {order} > ? ORDER BY {order} LIMIT 1"
        with self.turn:
            found = self.execute(f"SELECT typeof({key}), length({key}), typeof(data), length(data) {statement}", last)
            if not found:
                return None
            where = f" of {table} after {last.hex()[:12] if isinstance(last, bytes) else last}"
            self._check(key + where, found[0][:2], DIGEST_BYTES)
            self._check("data" + where, found[0][2:], most_bytes)
            place, name, data = self.execute(f"SELECT {order}, {key}, data {statement}", last)[0]
            return place, name, data

    def _check(self, column: str, cell: tuple[Any, ...], most_bytes: int) -> None:
        kind, length = cell
        if kind != "blob" or length > most_bytes:
            raise damaged(self._path, f"a {column} is {kind} of {length}, not a blob of at most {most_bytes} bytes")

"""The file under a store: SQLite with one fixed schema, made whole or not at all, one writer at a time.

A rollback journal, not a write-ahead log: at rest the store is one file, a reader beside a writing node needs no
files of its own and leaves none, and a copy of the file is a copy of the chain. `synchronous = EXTRA` syncs the
journal, the file and, after the journal is gone, the folder before a commit returns; FULL leaves out the last, and a
power cut right after a commit could undo it. It costs some syncs more than a log for each block, of which there is
one a slot.

Decides layout, durability, locks, and what a refusal of the disk is called. Does not know what the rows mean.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from splitnet.consensus.errors import StoreError
from splitnet.consensus.opening import open_at_once

FILE = "chain.sqlite3"
"""The name of a store's file in its folder."""
JOURNAL_SUFFIX = "-journal"
"""What SQLite appends to it for the journal of a commit."""
FORMAT = 1
"""Of the layout; kept as SQLite's user_version."""
APPLICATION = 0x73706C74
"""SQLite's application_id of such a file."""
MOST_ROW_BYTES = (1 << 26) + 4096
"""SQLite itself reads no longer row."""
BUSY_S = 30.0
"""How long a reader waits for a commit, and a commit for a reader."""
LOCK_S = 0.25
"""A process that is just being started has, for an instant, what its parent had."""
COPY_DEADLINE_S = 30.0
"""For a copy that no commit falls into."""

SETTINGS, BLOCKS, VALUES = "settings", "blocks", "results"
"""The tables: whose store it is; blocks of all branches; results by digest."""
SCHEMA = {
    ("table", SETTINGS, SETTINGS): (
        f"CREATE TABLE {SETTINGS} (name TEXT PRIMARY KEY NOT NULL, data BLOB NOT NULL) WITHOUT ROWID"
    ),
    ("table", BLOCKS, BLOCKS): (
        f"CREATE TABLE {BLOCKS} (number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, data BLOB NOT NULL)"
    ),
    ("index", f"sqlite_autoindex_{BLOCKS}_1", BLOCKS): None,
    ("table", VALUES, VALUES): (
        f"CREATE TABLE {VALUES} (digest BLOB PRIMARY KEY NOT NULL, data BLOB NOT NULL) WITHOUT ROWID"
    ),
}
"""All there is in such a file. Each `data` is known by the key beside it, which is derived from it."""

_MAGIC = b"SQLite format 3\0"
_ROLLBACK_JOURNAL = b"\x01\x01"
_NEW = f".{FILE}.new"
_DAMAGED = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_MISMATCH,
}
_HOT_JOURNAL = {sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY}


class HalfWrittenError(StoreError):
    """A store whose node ended in the middle of writing, which only its node may mend."""


def damaged(path: Path, what: str) -> StoreError:
    """What is wrong with the file, and what helps."""
    return StoreError(
        f"{path} is damaged: {what}; take a copy of it, or have the node fetch the chain from its peers"
    )


@contextlib.contextmanager
def refusals(path: Path) -> Iterator[None]:
    """What SQLite or the disk refuses inside becomes a StoreError of one line; wrong use stays what it is."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.Error as error:
        raise _told(path, error) from error
    except UnicodeDecodeError as error:  # in a name that SQLite complains about
        raise damaged(path, "names in it are no text") from error
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror or error}; what was stored before is untouched, mend that and try again"
        ) from error


def _told(path: Path, error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", None)  # none: the text of a column cannot be decoded
    primary = sqlite3.SQLITE_ERROR if code is None else code & 0xFF
    if primary in _DAMAGED:
        return damaged(path, str(error))
    if primary == sqlite3.SQLITE_FULL:
        return StoreError(f"{path}: the disk is full; what was stored before is untouched, make room and try again")
    if code in _HOT_JOURNAL:
        return HalfWrittenError(
            f"{path}: its node ended in the middle of writing while this was reading it; try again"
        )
    if primary == sqlite3.SQLITE_READONLY:
        return StoreError(f"{path} is read-only here; give the node a folder that it may write")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(f"{path} was locked for over {BUSY_S:g} s by another process; end that and try again")
    return StoreError(f"{path}: {error}; what was stored before is untouched, look at disk and permissions")


def lock(folder: Path) -> int:
    """A descriptor of the folder that holds its lock until it is closed, or the process is gone.

    The folder's own lock needs no further file, and is none of those that SQLite takes.

    Raises:
        StoreError: no such folder, or another node has it.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StoreError(f"cannot open {folder}: {error.strerror}; name a store's folder") from error
    end_s = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if time.monotonic() < end_s:
                time.sleep(LOCK_S / 10)
                continue
            os.close(descriptor)
            raise StoreError(
                f"the store in {folder} is in use by another node; end that, or use another folder"
            ) from error
        return descriptor


def create(folder: Path, settings: Mapping[str, bytes]) -> None:
    """Put a file with these settings into a locked folder: the whole file, or none.

    Raises:
        StoreError: there is one already, or the disk refuses.
    """
    path, new = folder / FILE, folder / _NEW
    if os.path.lexists(path):
        raise StoreError(f"{folder} holds a store already; open that, or choose another folder")
    with refusals(path):
        # A journal without its file, left behind by someone else, would be played into the new file.
        for stale in (path, new):
            stale.with_name(stale.name + JOURNAL_SUFFIX).unlink(missing_ok=True)
        new.unlink(missing_ok=True)
        try:
            with contextlib.closing(_connect(new, "rwc")) as connection:
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")
                connection.execute("BEGIN IMMEDIATE")
                for statement in filter(None, SCHEMA.values()):
                    connection.execute(statement)
                connection.executemany(f"INSERT INTO {SETTINGS} VALUES (?, ?)", sorted(settings.items()))
                connection.execute("COMMIT")
            new.rename(path)
        except BaseException:
            new.unlink(missing_ok=True)
            new.with_name(new.name + JOURNAL_SUFFIX).unlink(missing_ok=True)
            raise
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Names in it are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    """A connection to a file of this layout; of its writer it finishes or undoes what a crash left behind.

    Raises:
        StoreError: none there, no such file, of another layout, read-only, or damaged.
    """
    _check_head(path)
    with refusals(path):
        connection = _connect(path, "rw" if writable else "ro")
        try:
            if writable:
                connection.execute("BEGIN IMMEDIATE")
            _check_schema(path, connection)
            if writable:  # only a write shows whether one is possible
                connection.execute(f"PRAGMA user_version = {FORMAT}")
                connection.execute("ROLLBACK")
        except BaseException:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def recovered_copy(path: Path) -> Iterator[Path]:
    """A copy of a file and of the journal beside it, for reading what a node left in the middle of writing.

    The original is for its node to mend. If a node does so meanwhile, this begins again.

    Raises:
        StoreError: there is no room for it, or the file does not come to rest.
    """
    journal = path.with_name(path.name + JOURNAL_SUFFIX)
    with refusals(path), tempfile.TemporaryDirectory(prefix="splitnet-store-") as folder:
        copy = Path(folder, FILE)
        end_s = time.monotonic() + COPY_DEADLINE_S
        while True:
            before = _stamps(path, journal)
            for source in (path, journal):
                target = copy.with_name(copy.name + source.name.removeprefix(path.name))
                target.unlink(missing_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(source, target)
            if before == _stamps(path, journal):
                break
            if time.monotonic() > end_s:
                raise StoreError(f"{path} changes faster than it can be copied; try again")
        yield copy


def _stamps(*paths: Path) -> list[tuple[int, int, int] | None]:
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            seen = path.stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((seen.st_ino, seen.st_size, seen.st_mtime_ns))
    return found


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Nothing that stands in the file is trusted or executed; several threads may use it in turn."""
    name = quote(os.fsencode(path.absolute()))
    connection = sqlite3.connect(
        f"file:{name}?mode={mode}", uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_ROW_BYTES)
        for pragma in ("synchronous = EXTRA", "trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_head(path: Path) -> None:
    """Before SQLite sees it: a file that claims another journal would have files made beside it.

    Nor does SQLite see a journal that is no file: it would wait for ever at a pipe.
    """
    journal = path.with_name(path.name + JOURNAL_SUFFIX)
    try:
        with open_at_once(path) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise StoreError(f"{path} is no file; name a store's folder")
            head = file.read(100)
        if os.path.lexists(journal) and not stat.S_ISREG(journal.lstat().st_mode):
            raise damaged(path, f"{journal.name} beside it is no file")
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"there is no store in {path.parent}; name the folder of a {FILE}") from None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    if len(head) < 100 or not head.startswith(_MAGIC):
        raise damaged(path, "it is no SQLite file, or cut short")
    if head[18:20] != _ROLLBACK_JOURNAL or int.from_bytes(head[68:72]) != APPLICATION:
        raise damaged(path, "it is no store of splitnet's, or its first bytes were changed")
    if (version := int.from_bytes(head[60:64])) != FORMAT:
        raise StoreError(f"{path} is of store format {version}, this is {FORMAT}; use the splitnet that made it")


def _check_schema(path: Path, connection: sqlite3.Connection) -> None:
    """Exactly the tables, columns and indices that belong there."""
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema LIMIT 100").fetchall()
    found = {(kind, name, table): sql for kind, name, table, sql in rows}
    if found != SCHEMA or len(rows) != len(SCHEMA):
        odd = sorted(str(name) for _, name, _ in found.keys() ^ SCHEMA.keys()) or ["a column"]
        raise damaged(path, f"its tables are not those of a store ({odd[0][:40]!r})")

"""The store: what it keeps comes back, what it refuses leaves it as it was, and one node has it at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from splitnet.consensus import database
from splitnet.consensus import store as store_module
from splitnet.consensus.canonical import encode
from splitnet.consensus.chain import Chain
from splitnet.consensus.database import FILE, JOURNAL_SUFFIX
from splitnet.consensus.errors import AheadError, ParentError, StoreError
from splitnet.consensus.genesis import Rules
from splitnet.consensus.receipt import value_digest
from splitnet.consensus.sizes import MOST_BLOCK_BYTES, MOST_VALUE_BYTES
from splitnet.consensus.store import Store, load_chain
from tests.consensus.stored import CONSORTIUM, a_branch, a_chain, edited, fill, hash_in, seen
from tests.consortium import NOW_MS, STARTED_MS, Consortium, a_registry, some_rules, trusting
from tests.limits import files_up_to

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
BLOCKS = a_chain(CONSORTIUM, 4)
HASHES = [hash_in(CONSORTIUM, block) for block in BLOCKS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ap-0"


@contextlib.contextmanager
def child(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process that is killed when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


# --- what is kept comes back


def test_what_is_kept_comes_back(folder: Path) -> None:
    side = a_branch(CONSORTIUM, BLOCKS[0], 9, 1)
    with Store.create(folder, CONSORTIUM.rules) as store:
        assert (store.block_count(), list(store.blocks()), list(store.values())) == (0, [], [])
        store.append(BLOCKS[:2])
        store.append([*BLOCKS, side])  # those that it has are passed over
        store.append([])
        digest = store.put_value(b"a result")
        assert store.put_value(b"a result") == digest == value_digest(b"a result")
    for opening in (Store.open, lambda place: Store.open(place, CONSORTIUM.rules.network), Store.read):
        with opening(folder) as store:
            assert store.rules.network == CONSORTIUM.rules.network
            assert store.rules.registry == a_registry()
            assert store.rules.genesis == CONSORTIUM.rules.genesis
            assert list(store.blocks()) == [*BLOCKS, side]
            assert store.block_count() == 5
            assert [store.block_bytes(one) for one in HASHES] == [encode(block) for block in BLOCKS]
            assert store.value(digest) == b"a result"
            assert list(store.values()) == [(digest, b"a result")]
            assert store.block_bytes(bytes(32)) is store.value(bytes(32)) is None
            store.check_structure()
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_the_chain_is_that_which_was_stored(folder: Path) -> None:
    """Forks too: every entry of the chain that was never on disk is in the one that comes from it."""
    blocks = [*BLOCKS, *(a_branch(CONSORTIUM, parent, 20, 1) for parent in (None, BLOCKS[0], BLOCKS[2]))]
    never_stored = Chain(CONSORTIUM.rules, trusting)
    for block in blocks:
        never_stored.add(block, NOW_MS)
    fill(folder, blocks)
    told: list[tuple[int, int, str]] = []
    with Store.read(folder) as store:
        chain = load_chain(store, trusting, NOW_MS, step=lambda *step: told.append(step))
    assert chain.head.hash == never_stored.head.hash
    assert len(chain) == 4
    for block in blocks:
        entry, other = chain.get(hash_in(CONSORTIUM, block)), never_stored.get(hash_in(CONSORTIUM, block))
        assert entry is not None
        assert other is not None
        assert (entry.place, entry.sealed, entry.standings) == (other.place, other.sealed, other.standings)
    assert [step[:2] for step in told] == [(number, 7) for number in range(1, 8)]


def test_a_clock_set_back_is_said(folder: Path) -> None:
    fill(folder, BLOCKS)
    with Store.read(folder) as store, pytest.raises(AheadError, match=r"ahead of this clock.*are the clocks right"):
        load_chain(store, trusting, STARTED_MS - 10_000)


def test_a_check_of_receipts_is_used(folder: Path) -> None:
    """A node that has seen receipts before need not verify their signatures again."""
    fill(folder, BLOCKS)
    asked = []
    with Store.read(folder) as store:
        load_chain(store, trusting, NOW_MS, check=lambda rules, signed: asked.append(signed.key))
    assert sorted(asked) == [(slot, twin) for slot in range(4) for twin in range(2)]


def test_parents_come_first_all_or_none(folder: Path) -> None:
    with Store.create(folder, CONSORTIUM.rules) as store:
        with pytest.raises(ParentError, match=f"{HASHES[1].hex()[:12]} cannot be stored before its parent"):
            store.append([BLOCKS[1]])
        with pytest.raises(ParentError):
            store.append([BLOCKS[0], BLOCKS[2], BLOCKS[1]])
        assert store.block_count() == 0
        store.append(BLOCKS[:1])
        store.append(BLOCKS[1:])
        assert list(store.blocks()) == BLOCKS


def test_sizes_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(folder, CONSORTIUM.rules) as store:
        with pytest.raises(StoreError, match=f"{MOST_VALUE_BYTES + 1} bytes is over the limit of {MOST_VALUE_BYTES}"):
            store.put_value(bytes(MOST_VALUE_BYTES + 1))
        most = len(encode(BLOCKS[0]))
        monkeypatch.setattr(store_module, "MOST_BLOCK_BYTES", most - 1)
        with pytest.raises(StoreError, match=f"a block of {most} bytes is over the limit of {most - 1}"):
            store.append([BLOCKS[0]])
        assert (store.block_count(), list(store.values())) == (0, [])
        monkeypatch.setattr(store_module, "MOST_GENESIS_BYTES", 100)
        with pytest.raises(StoreError, match=r"genesis block of .* bytes is over the limit of 100"):
            Store.create(folder.with_name("other"), CONSORTIUM.rules)
    assert not folder.with_name("other").exists()


def test_a_large_value_comes_back(folder: Path) -> None:
    value = os.urandom(3 << 20)
    with Store.create(folder, CONSORTIUM.rules) as store:
        assert store.value(store.put_value(value)) == value


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE blocks SET data = zeroblob({MOST_BLOCK_BYTES + 1}) WHERE number = 2",
        "UPDATE blocks SET data = 'text' WHERE number = 2",
        "UPDATE blocks SET data = 7 WHERE number = 2",
    ],
)
def test_an_odd_row_is_not_read(folder: Path, statement: str) -> None:
    fill(folder, BLOCKS)
    with edited(folder) as connection:
        connection.execute(statement)
    with Store.read(folder) as store:
        with pytest.raises(StoreError, match=r"is damaged: a data is .*, not a blob of at most"):
            store.block_bytes(HASHES[1])
        with pytest.raises(StoreError, match="is damaged"):
            list(store.blocks())
        assert store.block_bytes(HASHES[0]) == encode(BLOCKS[0])


def test_a_row_beyond_all_bounds_is_refused_by_sqlite(folder: Path) -> None:
    """Even where no length is asked for first."""
    fill(folder, BLOCKS)
    with edited(folder) as connection:
        connection.execute(
            f"UPDATE settings SET name = zeroblob({database.MOST_ROW_BYTES + 1}) WHERE name = 'network'"
        )
    with pytest.raises(StoreError, match="has no network"):
        Store.read(folder)


def test_threads_take_turns(folder: Path) -> None:
    with Store.create(folder, CONSORTIUM.rules) as store:
        found: list[bytes | None] = []

        def work(name: int) -> None:
            for number in range(10):
                store.append(BLOCKS)
                found.append(store.value(store.put_value(b"%d %d" % (name, number))))

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        expected = sorted(b"%d %d" % (name, number) for name in range(4) for number in range(10))
        assert sorted(filter(None, found)) == expected
        assert sorted(data for _, data in store.values()) == expected
        assert list(store.blocks()) == BLOCKS


# --- made whole or not at all


def test_nothing_is_made_over_a_store(folder: Path) -> None:
    fill(folder, BLOCKS)
    before = seen(folder)
    with pytest.raises(StoreError, match="holds a store already"):
        Store.create(folder, some_rules(aps=1))
    assert seen(folder) == before


def test_a_store_that_cannot_be_finished_is_taken_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(StoreError, match="No space left on device"):
            Store.create(folder, CONSORTIUM.rules)
        assert not folder.exists()
        folder.mkdir()
        (folder / "mine").write_text("note")
        with pytest.raises(StoreError, match="No space left on device"):
            Store.create(folder, CONSORTIUM.rules)
    assert [path.name for path in folder.iterdir()] == ["mine"]
    fill(folder, BLOCKS)


def test_what_a_kill_leaves_of_a_new_store_is_no_store(folder: Path) -> None:
    """The new file under its first name, and journals without their files."""
    fill(folder.with_name("other"), BLOCKS)
    folder.mkdir()
    shutil.copy(folder.with_name("other") / FILE, folder / f".{FILE}.new")
    for name in (f".{FILE}.new{JOURNAL_SUFFIX}", FILE + JOURNAL_SUFFIX):
        (folder / name).write_bytes(os.urandom(5000))
    with pytest.raises(StoreError, match="there is no store in"):
        Store.open(folder)
    with Store.create(folder, CONSORTIUM.rules) as store:
        store.append(BLOCKS[:1])
        assert list(store.blocks()) == BLOCKS[:1]
    assert [path.name for path in folder.iterdir()] == [FILE]


# --- one node at a time


def test_one_writer_at_a_time(folder: Path) -> None:
    with Store.create(folder, CONSORTIUM.rules) as store:
        with pytest.raises(StoreError, match="in use by another node"):
            Store.open(folder)
        with pytest.raises(StoreError, match="in use by another node"):
            Store.create(folder, CONSORTIUM.rules)
        store.append(BLOCKS)
        Store.read(folder).close()  # a reader comes and goes, and the store is in use as before
        with pytest.raises(StoreError, match="in use by another node"):
            Store.open(folder)
    store.close()
    Store.open(folder).close()


def test_a_node_that_is_killed_gives_the_store_back(folder: Path) -> None:
    fill(folder, BLOCKS)
    code = (
        "import sys; from pathlib import Path; from splitnet.consensus.store import Store\n"
        "store = Store.open(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    with child(code, folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match="in use by another node"):
            Store.open(folder)
        with Store.read(folder) as reader:
            assert reader.block_count() == 4
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE_S)
        Store.open(folder).close()


def test_processes_that_a_node_starts_do_not_hold_its_store(folder: Path) -> None:
    with Store.create(folder, CONSORTIUM.rules) as store:
        started = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
        try:
            store.close()
            Store.open(folder).close()
            assert started.poll() is None
        finally:
            started.communicate(b"\n", timeout=DEADLINE_S)


# --- readers


def test_a_reader_changes_nothing(folder: Path) -> None:
    fill(folder, BLOCKS, b"a result")
    folder.chmod(0o755)
    before = seen(folder), folder.stat().st_mtime_ns
    with Store.read(folder) as store:
        load_chain(store, trusting, NOW_MS)
        store.check_structure()
        assert seen(folder) == before[0]
        with pytest.raises(StoreError, match="is read-only here"):
            store.append(a_chain(CONSORTIUM, 5))
        with pytest.raises(StoreError, match="is read-only here"):
            store.put_value(b"more")
    assert (seen(folder), folder.stat().st_mtime_ns) == before


def test_a_reader_beside_a_node_that_writes(folder: Path) -> None:
    """In the middle of a transaction it sees what was there before, afterwards what is there then."""
    fill(folder, BLOCKS[:2])
    with Store.open(folder) as store, edited(folder) as node:
        node.execute("BEGIN IMMEDIATE")
        node.execute("INSERT INTO blocks (hash, data) VALUES (?, ?)", (HASHES[2], encode(BLOCKS[2])))
        assert (folder / (FILE + JOURNAL_SUFFIX)).exists()
        with Store.read(folder) as reader:
            assert list(reader.blocks()) == BLOCKS[:2]
            node.execute("COMMIT")
            assert list(reader.blocks()) == BLOCKS[:3]
            blocks = reader.blocks()
            assert next(blocks) == BLOCKS[0]
            store.append(BLOCKS)  # a reader between two rows is in nobody's way
            assert list(blocks) == BLOCKS[1:]


def test_what_is_written_is_journalled_and_synced(folder: Path) -> None:
    """In the middle of a transaction what undoes it is on disk; EXTRA is 3."""
    journal = folder / (FILE + JOURNAL_SUFFIX)
    with Store.create(folder, CONSORTIUM.rules) as store:
        assert store._rows.execute("PRAGMA synchronous") == [(3,)]
        with store._rows.transaction():
            store._rows.execute("INSERT INTO results VALUES (zeroblob(32), zeroblob(5000))")
            assert journal.exists()
        assert not journal.exists()
        assert store._rows.execute("SELECT count(*) FROM results") == [(1,)]


def half_written(folder: Path) -> None:
    """What a kill leaves in the middle of a large write: a file changed in part, and the journal that undoes it."""
    code = (
        "import os, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA cache_size = 1')\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "connection.execute('UPDATE blocks SET data = zeroblob(9000)')\n"
        "for number in range(200):\n"
        "    row = os.urandom(32), os.urandom(5000)\n"
        "    connection.execute('INSERT INTO blocks (hash, data) VALUES (?, ?)', row)\n"
        "os.kill(os.getpid(), 9)"
    )
    with child(code, folder / FILE) as process:
        assert process.wait(DEADLINE_S) == -signal.SIGKILL


def test_what_was_left_half_written_is_read_without_it(folder: Path) -> None:
    fill(folder, BLOCKS)
    whole = (folder / FILE).read_bytes()
    half_written(folder)
    before = seen(folder)
    assert set(before) == {FILE, FILE + JOURNAL_SUFFIX}
    assert before[FILE][1] != whole
    with Store.read(folder) as store:
        assert list(store.blocks()) == BLOCKS
        store.check_structure()
        assert repr(str(folder / FILE)) in repr(store)
    assert seen(folder) == before
    with Store.open(folder) as store:
        assert list(store.blocks()) == BLOCKS
    assert seen(folder).keys() == {FILE}
    assert (folder / FILE).read_bytes() == whole


# --- what is no store, or another's


def test_other_networks_are_refused(folder: Path) -> None:
    fill(folder, BLOCKS)
    other = some_rules(aps=1)
    with pytest.raises(
        StoreError, match=f"of network {CONSORTIUM.rules.network.hex()}, not of {other.network.hex()}"
    ):
        Store.open(folder, other.network)
    Store.open(folder).close()  # and is not held


def with_bytes(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def test_what_is_no_store_is_said_in_one_line(folder: Path, tmp_path: Path) -> None:
    path = folder / FILE

    def restored() -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        fill(folder, BLOCKS)
        return path

    def a_folder_there() -> None:
        restored().unlink()
        path.mkdir()

    def a_pipe_there() -> None:
        restored().unlink()
        os.mkfifo(path)

    size = restored().stat().st_size
    cases: dict[str, Callable[[], object]] = {
        "there is no store in": lambda: restored().unlink(),
        "is no file; name a store's folder|Is a directory": a_folder_there,
        "is no file; name a store's folder": a_pipe_there,
        "journal beside it is no file": lambda: os.mkfifo(restored().with_name(f"{FILE}-journal")),
        "is damaged: it is no SQLite file, or cut short": lambda: restored().write_bytes(b""),
        "is damaged: it is no SQLite file": lambda: restored().write_bytes(os.urandom(5000)),
        "is of store format 2, this is 1; use the splitnet": lambda: with_bytes(restored(), 60, bytes([0, 0, 0, 2])),
        "no store of splitnet's": lambda: with_bytes(restored(), 68, bytes(4)),
        "its first bytes were changed": lambda: with_bytes(restored(), 18, b"\2\2"),  # as for a write-ahead log
        "is damaged": lambda: os.truncate(restored(), size // 2 // 4096 * 4096),
    }
    for message, damage in cases.items():
        damage()
        before = sorted(one.name for one in folder.iterdir())
        for opening in (Store.read, Store.open):
            with pytest.raises(StoreError, match=message) as refused, opening(folder) as store:
                store.check_structure()
            assert "\n" not in str(refused.value)
            assert str(folder) in str(refused.value)
        assert sorted(one.name for one in folder.iterdir()) == before
    for opening in (Store.read, Store.open):
        with pytest.raises(StoreError):
            opening(tmp_path / "nowhere")
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError):
            opening(tmp_path / "file")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM settings WHERE name = 'genesis'", "has no genesis"),
        ("UPDATE settings SET data = x'00' WHERE name = 'registry'", "breaks the rule Encoding"),
        ("UPDATE settings SET data = zeroblob(32) WHERE name = 'network'", "not that of its network"),
        ("CREATE TABLE more (x)", "not those of a store .'more'"),
        ("CREATE VIEW blocks_too AS SELECT * FROM blocks", "not those of a store .'blocks_too'"),
        ("CREATE TRIGGER t AFTER INSERT ON blocks BEGIN DELETE FROM blocks; END", "not those of a store .'t'"),
        ("ALTER TABLE blocks ADD COLUMN more", "not those of a store .'a column'"),
        ("DROP TABLE results", "not those of a store .'results'"),
        ("CREATE INDEX i ON blocks (data)", "not those of a store .'i'"),
    ],
)
def test_other_contents_are_refused(folder: Path, statement: str, message: str) -> None:
    fill(folder, BLOCKS)
    with edited(folder) as connection:
        connection.execute(statement)
    for opening in (Store.read, Store.open):
        with pytest.raises(StoreError, match=message):
            opening(folder)


def test_a_registry_of_another_network_is_refused(folder: Path) -> None:
    with pytest.raises(Exception, match="registry is not the one"):
        Rules(CONSORTIUM.rules.genesis, type(a_registry())(a_registry().models[:1]))
    fill(folder, BLOCKS)
    with edited(folder) as connection:
        registry = encode(type(a_registry())(a_registry().models[:1]))
        connection.execute("UPDATE settings SET data = ? WHERE name = 'registry'", (registry,))
    with pytest.raises(StoreError, match="breaks the rule Genesis: the FLOPs registry is not the one"):
        Store.read(folder)


# --- a disk that refuses


def test_a_full_disk_loses_nothing(folder: Path) -> None:
    """The kernel writes a part and refuses the rest; with space again, the store goes on."""
    blocks = a_chain(CONSORTIUM, 40, receipts=4)
    with Store.create(folder, CONSORTIUM.rules) as store:
        store.append(blocks[:2])
        stored = 2

        def go_on() -> None:
            nonlocal stored
            for block in blocks[2:]:
                store.append([block])
                stored += 1

        with files_up_to((folder / FILE).stat().st_size + 10_000), pytest.raises(StoreError) as refused:
            go_on()
        assert "what was stored before is untouched" in str(refused.value)
        assert "\n" not in str(refused.value)
        assert 2 <= stored < 40
        assert list(store.blocks()) == blocks[:stored]
        with Store.read(folder) as reader:
            reader.check_structure()
            assert list(reader.blocks()) == blocks[:stored]
        store.append(blocks)
        assert list(store.blocks()) == blocks
    with files_up_to(1000), pytest.raises(StoreError, match="what was stored before is untouched"):
        Store.create(folder.with_name("other"), CONSORTIUM.rules)
    assert not folder.with_name("other").exists()


def test_a_full_database_is_called_a_full_disk(folder: Path) -> None:
    """As SQLite reports ENOSPC: the same code as for its own limit of pages."""
    with Store.create(folder, CONSORTIUM.rules) as store:
        store.append(BLOCKS[:1])
        rows = store._rows
        (pages,) = rows.execute("PRAGMA page_count")
        rows.execute(f"PRAGMA max_page_count = {pages[0] + 1}")
        with pytest.raises(StoreError, match="the disk is full; what was stored before is untouched"):
            store.put_value(os.urandom(50_000))
        assert list(store.values()) == []
        assert list(store.blocks()) == BLOCKS[:1]
        rows.execute("PRAGMA max_page_count = 100000")
        store.append(BLOCKS)
        assert store.value(store.put_value(bytes(50_000))) == bytes(50_000)


def test_read_only_media_are_said() -> None:
    """As somebody who may only read: a store can be read, not opened nor made; also by root, who gives that up."""
    code = (
        "import os, sys; from pathlib import Path; from splitnet.consensus.store import Store\n"
        "from splitnet.consensus.errors import StoreError\n"
        "folder = Path(sys.argv[1])\n"
        "with Store.read(folder) as store: rules = store.rules\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "with Store.read(folder) as store: print(store.block_count(), len(list(store.blocks())))\n"
        "for ask in (lambda: Store.open(folder), lambda: Store.create(folder / 'new', rules)):\n"
        "    try: ask()\n"
        "    except StoreError as error: print(error)\n"
    )
    place = Path(tempfile.mkdtemp(prefix="splitnet-test-"))  # pytest's own folders are closed to others
    try:
        fill(place / "ap-0", BLOCKS)
        (place / "ap-0" / FILE).chmod(0o444)
        (place / "ap-0").chmod(0o555)
        place.chmod(0o755)
        before = seen(place / "ap-0")
        with child(code, place / "ap-0") as process:
            said, complaints = process.communicate(timeout=DEADLINE_S)
        counts, opening, making = said.splitlines() or [complaints, "", ""]
        assert counts == "4 4"
        assert opening.endswith(f"{FILE} is read-only here; give the node a folder that it may write")
        assert "Permission denied" in making
        assert seen(place / "ap-0") == before
    finally:
        (place / "ap-0").chmod(0o755)
        shutil.rmtree(place)


def test_wrong_use_is_no_users_error(folder: Path) -> None:
    store = Store.create(folder, CONSORTIUM.rules)
    store.close()
    store.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        store.block_count()


def test_names_of_folders_may_be_odd(tmp_path: Path) -> None:
    for name in ("with space?mode=memory&x#y%20", "ü" * 10, os.fsdecode(b"\xff\xfe")):
        fill(tmp_path / name, BLOCKS[:1])
        with Store.read(tmp_path / name) as store:
            assert list(store.blocks()) == BLOCKS[:1]


def test_another_consortium_of_other_size(folder: Path) -> None:
    """Genesis blocks of hundreds of members go through the same bounds."""
    many = Consortium(some_rules(aps=3, gateways=9, devices=500))
    blocks = a_chain(many, 2, receipts=500)
    fill(folder, blocks, consortium=many)
    with Store.open(folder, many.rules.network) as store:
        assert load_chain(store, trusting, NOW_MS, check=lambda rules, signed: None).head.height == 2

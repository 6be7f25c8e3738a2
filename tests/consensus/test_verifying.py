"""Verification: what is whole is reported as it is, and whatever is changed, block and rule are named."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from splitnet.consensus.audit_records import FraudProof, prove_fraud
from splitnet.consensus.block import Block, Body, sign_block
from splitnet.consensus.canonical import encode
from splitnet.consensus.database import FILE
from splitnet.consensus.errors import ConsensusError, StoreError
from splitnet.consensus.plan import SignedPlan
from splitnet.consensus.store import Store
from splitnet.consensus.validation import Place, Standing
from splitnet.consensus.verifying import BrokenBlockError, Verified, verify_store
from tests.consensus.stored import CONSORTIUM, a_branch, a_chain, edited, fill, hash_in
from tests.consortium import NOW_MS, Contents, a_key

BLOCKS = a_chain(CONSORTIUM, 3)
HASHES = [hash_in(CONSORTIUM, block) for block in BLOCKS]


def verified(folder: Path, **how: Any) -> Verified:
    with Store.read(folder) as store:
        return verify_store(store, NOW_MS, **how)


def contents(path: Path) -> dict[str, list[Any]] | None:
    """Every row of every table, and the schema, as SQLite reads them with no code of ours; None if it cannot."""
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            schema = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
            rows = {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables}
            return {"schema": schema, **rows}
        finally:
            connection.close()
    except (sqlite3.Error, UnicodeDecodeError):
        return None


# --- whole


def test_a_whole_store_is_reported(tmp_path: Path) -> None:
    """Counted by hand: three blocks in turn, two receipts each, and a branch of one."""
    fill(tmp_path, [*BLOCKS, a_branch(CONSORTIUM, BLOCKS[0], 9, 1)], b"one", b"two")
    told: list[tuple[int, int, str]] = []
    found = verified(tmp_path, step=lambda *step: told.append(step))
    assert found == Verified(
        network=CONSORTIUM.rules.network,
        hashes=(CONSORTIUM.rules.network, *HASHES),
        slot=2,
        blocks=4,
        receipts=6,
        frauds=0,
        voids=0,
        not_reexecuted=0,
        values=2,
        mined={"ap-0": 2, "ap-1": 1},
    )
    assert (found.height, found.head) == (3, HASHES[2])
    assert [step[:2] for step in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_empty_store_is_whole(tmp_path: Path) -> None:
    fill(tmp_path, [])
    found = verified(tmp_path)
    assert (found.height, found.slot, found.head, found.mined) == (
        0,
        -1,
        CONSORTIUM.rules.network,
        {"ap-0": 0, "ap-1": 0},
    )


def test_fraud_proofs_are_judged_or_counted(tmp_path: Path) -> None:
    accused = CONSORTIUM.receipt(0, 0)
    fraud = prove_fraud(CONSORTIUM.rules, a_key("ap", 1), 1, accused)
    recorded = Contents(receipts=(accused,), frauds=(fraud,))
    block = CONSORTIUM.block(0, 0, recorded, standing=Standing(suspended_to=10**6))
    fill(tmp_path, [block])
    assert (verified(tmp_path).frauds, verified(tmp_path).not_reexecuted) == (1, 1)
    judged = []

    def judge(one: FraudProof) -> bool:
        judged.append(one)
        return True

    found = verified(tmp_path, judge=judge)
    assert (found.not_reexecuted, judged) == (0, [fraud])
    with pytest.raises(BrokenBlockError, match="breaks the rule FraudProof") as broken:
        verified(tmp_path, judge=lambda one: False)
    assert (broken.value.rule, broken.value.height) == ("FraudProof", 1)


# --- rules that a block breaks, though it is stored as a node would store it


def forged(**changes: Any) -> Callable[[], Block]:
    """A second block with another header, mined and signed anew."""

    def make() -> Block:
        body = Contents(CONSORTIUM.receipts(1, range(2)))
        return CONSORTIUM.block(1, 1, body, parent=Place.of_block(HASHES[0], BLOCKS[0].header), **changes)

    return make


def resealed(**changes: Any) -> Callable[[], Block]:
    """The second block with another nonce or signature."""
    return lambda: Block(msgspec.structs.replace(BLOCKS[1].sealed, **changes), BLOCKS[1].body)


def with_body(body: Body) -> Callable[[], Block]:
    return lambda: Block(BLOCKS[1].sealed, body)


def lazy_nonce() -> Block:
    """The first nonce that does not meet the target, signed by the miner all the same."""
    for number in range(1000):
        block = sign_block(CONSORTIUM.rules, a_key("ap", 1), BLOCKS[1].header, number.to_bytes(16), BLOCKS[1].body)
        if hash_in(CONSORTIUM, block) >= BLOCKS[1].header.target:
            return block
    raise AssertionError


@pytest.mark.parametrize(
    ("rule", "make"),
    [
        ("Reputation", forged(standing=Standing(suspended_to=10**6))),
        ("Difficulty", forged(difficulty=BLOCKS[1].header.difficulty + 1)),
        ("Target", forged(target=b"\xff" * 32)),
        ("Miner", lambda: msgspec.structs.replace(forged()(), sealed=as_miner(7))),
        ("Work", lazy_nonce),
        ("SealSignature", resealed(signature=bytes(64))),
        ("Root", with_body(Body(BLOCKS[1].body.plan))),
        ("Root", with_body(msgspec.structs.replace(BLOCKS[1].body, plan=CONSORTIUM.plan(1, {3: 0})))),
        ("PlanOfBlock", lambda: planned(CONSORTIUM.plan(2))),
        ("PlanOfBlock", lambda: planned(msgspec.structs.replace(CONSORTIUM.plan(1), signature=bytes(64)))),
        ("PlannedCut", lambda: planned(CONSORTIUM.plan(1, {1: 0}))),
        ("Slot", lambda: a_branch(CONSORTIUM, BLOCKS[0], 0, 1)),
        ("Time", lambda: at_time(BLOCKS[0].header.time_ms)),
        ("Ahead", forged(time_ms=NOW_MS + 5001)),
        ("Parent", forged(height=7)),
        ("Parent", forged(previous=bytes(32))),
        ("RecordedTwice", lambda: twice()),
    ],
)
def test_the_block_and_the_rule_are_named(tmp_path: Path, rule: str, make: Callable[[], Block]) -> None:
    block = make()
    fill(tmp_path, BLOCKS[:1])
    with edited(tmp_path) as connection:
        row = hash_in(CONSORTIUM, block), encode(block)
        connection.execute("INSERT INTO blocks (hash, data) VALUES (?, ?)", row)
    with pytest.raises(BrokenBlockError) as broken:
        verified(tmp_path)
    error = broken.value
    assert (error.rule, error.height, error.block_hash) == (rule, block.header.height, hash_in(CONSORTIUM, block))
    assert str(error).startswith(
        f"block {block.header.height} ({hash_in(CONSORTIUM, block).hex()[:12]}) breaks the rule {rule}: "
    )
    assert "\n" not in str(error)


def as_miner(number: int) -> Any:
    block = forged()()
    return msgspec.structs.replace(block.sealed, header=msgspec.structs.replace(block.header, miner=number))


def at_time(time_ms: int) -> Block:
    block = forged()()
    return CONSORTIUM.mined(msgspec.structs.replace(block.header, time_ms=time_ms), block.body)


def planned(plan: SignedPlan) -> Block:
    """The second block with another plan, mined and signed anew."""
    block = forged()()
    body = msgspec.structs.replace(block.body, plan=plan)
    return CONSORTIUM.mined(msgspec.structs.replace(block.header, plan=body.plan_digest()), body)


def twice() -> Block:
    """A receipt of the first block again in the second."""
    return CONSORTIUM.block(
        1, 1, Contents(CONSORTIUM.receipts(0, range(2))), parent=Place.of_block(HASHES[0], BLOCKS[0].header)
    )


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM blocks WHERE number = 2", "block 1 is followed by block 3"),
        ("DELETE FROM blocks WHERE number = 1", "block 0 is followed by block 2"),
        ("UPDATE blocks SET number = -number", "3 of its blocks cannot have been written"),
        ("UPDATE blocks SET number = 0 WHERE number = 3", "1 of its blocks cannot have been written"),
        ("INSERT INTO blocks SELECT 9, zeroblob(32), data FROM blocks WHERE number = 3", "3 is followed by block 9"),
        ("INSERT INTO blocks SELECT 4, zeroblob(32), data FROM blocks WHERE number = 3", "stored under 0000"),
        ("UPDATE blocks SET data = x'00' WHERE number = 3", "a block .* breaks the rule Encoding"),
        ("INSERT INTO settings VALUES ('more', x'00')", "its settings are not those of a store"),
        ("INSERT INTO settings VALUES (x'00', x'00')", "its settings are not those of a store"),
        ("INSERT INTO results VALUES (x'', x'00')", "1 of its results cannot have been written"),
        ("INSERT INTO results VALUES ('text', x'00')", "1 of its results cannot have been written"),
        ("INSERT INTO results VALUES (7, x'00')", "1 of its results cannot have been written"),
        ("INSERT INTO results VALUES (zeroblob(33), x'00')", "1 of its results cannot have been written"),
        ("INSERT INTO results VALUES (zeroblob(32), x'00')", "has another digest"),
        ("UPDATE blocks SET data = 'text' WHERE number = 3", "a data of blocks after 2 is text of 4, not a blob"),
        ("UPDATE blocks SET hash = 'text' WHERE number = 3", "a hash of blocks after 2 is text of 4, not a blob"),
        ("UPDATE results SET data = 'result'", "a data of results after .* not a blob"),
    ],
)
def test_odd_rows_are_named(tmp_path: Path, statement: str, message: str) -> None:
    fill(tmp_path, BLOCKS, b"result")
    with edited(tmp_path) as connection:
        connection.execute(statement)
    with pytest.raises(ConsensusError, match=message) as refused:
        verified(tmp_path)
    assert "\n" not in str(refused.value)


def test_swapped_blocks_are_found(tmp_path: Path) -> None:
    fill(tmp_path, BLOCKS)
    with edited(tmp_path) as connection:
        for before, after in ((2, 99), (3, 2), (99, 3)):
            connection.execute("UPDATE blocks SET number = ? WHERE number = ?", (after, before))
    with pytest.raises(BrokenBlockError, match=f"stands on {HASHES[1].hex()[:12]}, which is not stored before it"):
        verified(tmp_path)


# --- every byte


def cells(folder: Path) -> Iterator[tuple[str, str, Any, str, bytes]]:
    """Table, key's column and value, column and content of every blob, and of every name."""
    with edited(folder) as connection:
        for table, key, columns in (
            ("settings", "name", ("data",)),
            ("blocks", "number", ("hash", "data")),
            ("results", "digest", ("digest", "data")),
        ):
            for column in columns:
                for name, content in connection.execute(f"SELECT {key}, {column} FROM {table}").fetchall():
                    yield table, key, name, column, content


def test_no_changed_byte_of_any_row_is_clean(tmp_path: Path) -> None:
    """One bit of each byte of each column in turn, which bit is drawn; the row's place and names too."""
    fill(tmp_path, a_chain(CONSORTIUM, 2, receipts=1), b"a small result")
    whole = verified(tmp_path)
    chance = random.Random(5)
    tried = 0
    with edited(tmp_path) as connection:
        for table, key, name, column, content in list(cells(tmp_path)):
            for place in range(len(content)):
                changed = bytearray(content)
                changed[place] ^= 1 << chance.randrange(8)
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (bytes(changed), name))
                where = bytes(changed) if column == key else name
                with pytest.raises(ConsensusError):
                    verified(tmp_path)
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (content, where))
                tried += 1
        for table, key in (("blocks", "number"), ("settings", "name")):
            for (name,) in connection.execute(f"SELECT {key} FROM {table}").fetchall():
                for changed_key in [name ^ 1 << bit for bit in range(62)] if table == "blocks" else [name + "s"]:
                    taken = f"SELECT 1 FROM {table} WHERE {key} = ?"
                    if connection.execute(taken, (changed_key,)).fetchone():
                        continue
                    connection.execute(f"UPDATE {table} SET {key} = ? WHERE {key} = ?", (changed_key, name))
                    with pytest.raises(ConsensusError):
                        verified(tmp_path)
                    connection.execute(f"UPDATE {table} SET {key} = ? WHERE {key} = ?", (name, changed_key))
                    tried += 1
    assert tried > 2000
    assert verified(tmp_path) == whole


def test_no_changed_byte_of_the_file_is_clean(tmp_path: Path) -> None:
    """Drawn bytes, and all of the first 128: where SQLite still reads the same rows, and only there, it is clean."""
    fill(tmp_path / "whole", a_chain(CONSORTIUM, 2, receipts=1), b"a small result")
    content = (tmp_path / "whole" / FILE).read_bytes()
    rows = contents(tmp_path / "whole" / FILE)
    assert rows is not None
    whole = verified(tmp_path / "whole")
    chance = random.Random(6)
    (tmp_path / "changed").mkdir()
    path = tmp_path / "changed" / FILE
    unused = found = 0
    used = [place for place, byte in enumerate(content) if byte]
    for place in [*range(128), *chance.choices(range(len(content)), k=100), *chance.choices(used, k=400)]:
        changed = bytearray(content)
        changed[place] ^= chance.randrange(1, 256)
        path.write_bytes(changed)
        try:
            same = verified(tmp_path / "changed") == whole
        except ConsensusError:
            found += 1
        else:
            assert same
            assert contents(path) == rows, f"byte {place} of the file was changed, and nobody noticed"
            unused += 1
        assert [one.name for one in (tmp_path / "changed").iterdir()] == [FILE]
    assert found > 400
    assert unused < 228


@pytest.mark.parametrize("more", [b"x", bytes(4096), bytes(5000)])
def test_bytes_behind_the_last_page_are_found(tmp_path: Path, more: bytes) -> None:
    fill(tmp_path, BLOCKS, b"result")
    with (tmp_path / FILE).open("ab") as file:
        file.write(more)
    with pytest.raises(StoreError, match=r"has \d+ bytes where its pages have \d+"):
        verified(tmp_path)


def test_a_file_cut_short_is_never_clean(tmp_path: Path) -> None:
    fill(tmp_path / "whole", BLOCKS, b"a small result")
    content = (tmp_path / "whole" / FILE).read_bytes()
    chance = random.Random(7)
    (tmp_path / "cut").mkdir()
    for size in [*range(0, len(content), 4096), *chance.choices(range(len(content)), k=40)]:
        (tmp_path / "cut" / FILE).write_bytes(content[:size])
        with pytest.raises(StoreError):
            verified(tmp_path / "cut")
    shutil.copy(tmp_path / "whole" / FILE, tmp_path / "cut" / FILE)
    assert verified(tmp_path / "cut").blocks == 3

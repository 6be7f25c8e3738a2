"""Nodes that are killed while they write: nothing acknowledged is lost, and the store is whole each time."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from splitnet.consensus.store import Store
from splitnet.consensus.verifying import verify_store
from tests.consortium import NOW_MS
from tests.crashing import ACTIVITIES, CONSORTIUM, DEADLINE_S, ROOT, check_store, crash

KILLS = {"writing": 20, "creating": 6, "mining": 8, "syncing": 6}


@pytest.mark.parametrize("name", ACTIVITIES)
def test_kills_at_any_instant_lose_nothing(tmp_path: Path, name: str) -> None:
    told: list[bytes] = []
    crashes = []
    for number in range(KILLS[name]):
        folder = tmp_path / name
        if ACTIVITIES[name].prepare is None:
            folder, told = tmp_path / f"{name}-{number}", []
        crashes.append(crash(name, folder, number, told))
    assert sum(one.acknowledged for one in crashes) > KILLS[name]  # it did write between the kills
    if name == "writing":
        assert any(one.journal_left for one in crashes)  # and was in the middle of it when it was killed
        with Store.open(tmp_path / name, CONSORTIUM.rules.network) as store:
            assert store.block_count() > 0


def test_a_store_is_verified_while_its_node_writes(tmp_path: Path) -> None:
    """Every time whole, never shorter than before, and the node is not disturbed."""
    folder = tmp_path / "store"
    Store.create(folder, CONSORTIUM.rules).close()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crashing", "writing", str(folder), "1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        told = [process.stdout.readline() for _ in range(4)]
        assert told[0] == b"ready\n"
        blocks = [0]
        end_s = time.monotonic() + DEADLINE_S
        while blocks[-1] < 20 and time.monotonic() < end_s:
            with Store.read(folder) as store:
                blocks.append(verify_store(store, NOW_MS).blocks)
            told += [process.stdout.readline() for _ in range(10)]
    finally:
        process.kill()
        told += process.stdout.read().splitlines(keepends=True)
        process.wait(DEADLINE_S)
        process.stdout.close()
    assert process.returncode == -signal.SIGKILL  # it had not ended by itself
    assert blocks == sorted(blocks)
    assert blocks[-1] >= 20
    check_store(folder, [bytes.fromhex(line.decode()) for line in told[1:] if line.endswith(b"\n")])


def test_a_lost_block_would_be_seen(tmp_path: Path) -> None:
    """The check itself: a block that was never stored counts as lost."""
    told: list[bytes] = []
    crash("writing", tmp_path / "store", 3, told)
    check_store(tmp_path / "store", told)
    with pytest.raises(AssertionError, match=r"1 of .* acknowledged are gone"):
        check_store(tmp_path / "store", [*told, bytes(32)])

"""The mining process: what it finds and counts, how it is paced and stopped, and that it never outlives its owner."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitnet.consensus.mining_process import BATCH_S, MiningProcess
from splitnet.consensus.proof_of_work import HASHES, meets, search, work_hash
from splitnet.errors import WorkerError
from tests.simulations import processes, until

DEADLINE_S = 60.0
NEVER = 1
"""A target that no hash will meet."""
ALWAYS = HASHES - 1
SEAL, OTHER = bytes(range(32)), bytes(32)

OWNER = """
import time
from splitnet.consensus.mining_process import MiningProcess

with MiningProcess() as busy, MiningProcess() as idle, MiningProcess() as slow:
    busy.start(bytes(32), 1)
    slow.start(bytes(32), 1, 1e-3)
    for one in (busy, idle, slow):
        one.wait_ready()
    print(busy.pid, idle.pid, slow.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[MiningProcess]:
    """Whatever the tests tell it, it goes on."""
    with MiningProcess() as miner:
        yield miner
        miner.stop()


@pytest.fixture
def miner(shared: MiningProcess) -> MiningProcess:
    shared.stop()
    return shared


@pytest.mark.parametrize("hash_rate", [None, 50_000.0])
def test_the_first_nonce_below_the_target_is_found_and_hashes_are_counted(
    miner: MiningProcess, hash_rate: float | None
) -> None:
    target = HASHES // 3000
    miner.start(SEAL, target, hash_rate)
    found = miner.wait(DEADLINE_S)
    assert found is not None
    assert meets(work_hash(SEAL, found.nonce), target)
    first = int.from_bytes(found.nonce[:8], "big") << 64  # random; then it counts from 0
    assert search(SEAL, first, found.effort.hashes, target) == int.from_bytes(found.nonce, "big")
    assert int.from_bytes(found.nonce[8:], "big") == found.effort.hashes - 1
    assert miner.wait(0) is None
    assert miner.effort() == miner.stop() == found.effort


def test_every_start_has_nonces_of_its_own(miner: MiningProcess) -> None:
    nonces = []
    for _ in range(5):
        miner.start(SEAL, ALWAYS)
        found = miner.wait(DEADLINE_S)
        assert found is not None
        nonces.append(found.nonce[:8])
    assert len(set(nonces)) == 5


def test_no_hash_is_done_before_it_is_due(miner: MiningProcess) -> None:
    rate = 20_000.0
    miner.start(SEAL, HASHES // 5000, rate)
    found = miner.wait(DEADLINE_S)
    assert found is not None
    assert found.effort.asked_hash_rate == rate
    assert found.effort.mining_s >= found.effort.hashes / rate
    miner.start(SEAL, NEVER, rate)
    until(lambda: miner.effort().hashes > 2000, "2,000 hashes")
    spent = miner.stop()
    assert spent.hashes <= rate * (spent.mining_s + BATCH_S)
    assert spent.hash_rate == spent.hashes / spent.mining_s


def test_a_rate_that_cannot_be_reached_is_told_as_it_was(miner: MiningProcess) -> None:
    miner.start(SEAL, NEVER, 1e12)
    until(lambda: miner.effort().hashes > 10_000, "10,000 hashes")
    spent = miner.stop()
    assert spent.asked_hash_rate == 1e12
    assert spent.hash_rate < 1e10


def test_after_a_stop_nothing_is_computed(miner: MiningProcess) -> None:
    miner.start(SEAL, NEVER)
    until(lambda: miner.effort().hashes > 1000, "1,000 hashes")
    spent = miner.stop()
    before_s = cpu_s(miner.pid)
    time.sleep(0.3)
    assert miner.effort() == spent
    assert cpu_s(miner.pid) - before_s < 0.1
    assert miner.wait(0) is None


@pytest.mark.parametrize("hash_rate", [1e-3, 5e-324])
def test_a_long_sleep_is_interrupted(miner: MiningProcess, hash_rate: float) -> None:
    miner.start(SEAL, NEVER, hash_rate)
    until(lambda: miner.effort().hashes == 1, "the first hash")
    assert miner.wait(0.05) is None
    spent = miner.stop()
    assert spent.hashes == 1
    assert spent.mining_s < DEADLINE_S


def test_a_nonce_is_told_when_its_hash_is_due(miner: MiningProcess) -> None:
    miner.start(SEAL, ALWAYS, 1 / 600)  # found at once, due in ten minutes
    until(lambda: miner.effort().hashes == 1, "the first hash")
    assert miner.wait(0.1) is None
    assert miner.stop().hashes == 1


def test_a_start_replaces_what_was_mined(miner: MiningProcess) -> None:
    miner.start(SEAL, NEVER)
    miner.start(OTHER, HASHES // 100)
    found = miner.wait(DEADLINE_S)
    assert found is not None
    assert meets(work_hash(OTHER, found.nonce), HASHES // 100)


def test_a_nonce_of_an_earlier_start_is_not_taken_for_one_of_this(miner: MiningProcess) -> None:
    for end in (lambda: miner.start(OTHER, NEVER), miner.stop):
        miner.start(SEAL, ALWAYS)
        until(lambda: readable(miner), "a nonce")
        end()
        assert miner.wait(0.05) is None


def test_nor_is_one_that_was_told_while_this_start_was_on_its_way(
    miner: MiningProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(miner, "_forget_found", lambda: None)  # it came just after
        miner.start(SEAL, ALWAYS)
        until(lambda: readable(miner), "a nonce")
        miner.start(OTHER, NEVER)
    assert readable(miner)
    assert miner.wait(0.05) is None
    assert not readable(miner)


def test_nonces_that_nobody_waits_for_do_not_block_it(miner: MiningProcess) -> None:
    for _ in range(2000):  # several times what a pipe holds
        miner.start(SEAL, ALWAYS)
        while miner.effort() != miner.effort():  # until the nonce is found and told
            pass
    assert miner.stop().hashes == 1


def test_several_are_waited_for_together(miner: MiningProcess) -> None:
    with MiningProcess() as second, selectors.DefaultSelector() as selector:
        for one in (miner, second):
            selector.register(one, selectors.EVENT_READ)
        miner.start(SEAL, NEVER)
        second.start(SEAL, ALWAYS)
        ready = [key.fileobj for key, _ in selector.select(DEADLINE_S)]
        assert ready == [second]
        assert second.wait(0) is not None
        assert selector.select(0) == []


def test_bad_input_changes_nothing(miner: MiningProcess) -> None:
    miner.start(SEAL, NEVER, 1e4)
    for rate in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"^a hash rate of \S+ is not a number above 0$"):
            miner.start(SEAL, NEVER, rate)
    for target in (0, -5, HASHES):
        with pytest.raises(ValueError, match=r"^target -?\d+ is not within 1\.\.2\^256-1$"):
            miner.start(SEAL, target)
    with pytest.raises(ValueError, match=r"^a seal of 4 bytes: it has 32$"):
        miner.start(b"seal", NEVER)
    until(lambda: miner.effort().hashes > 100, "100 hashes")
    assert miner.stop().asked_hash_rate == 1e4


def test_one_that_mined_nothing() -> None:
    with MiningProcess() as fresh:
        fresh.wait_ready()
        for spent in (fresh.effort(), fresh.stop()):
            assert (spent.hashes, spent.mining_s, spent.asked_hash_rate, spent.hash_rate) == (0, 0, None, 0)
        assert fresh.wait(0) is None


def test_one_that_was_killed_is_named() -> None:
    with MiningProcess() as victim:
        victim.start(SEAL, NEVER)
        victim.wait_ready()
        os.kill(victim.pid, signal.SIGKILL)
        for call in (lambda: victim.wait(DEADLINE_S), victim.effort, victim.stop):
            with pytest.raises(WorkerError, match=r"^the mining process ended with status -9: it said nothing$"):
                call()
        with pytest.raises(WorkerError, match="ended with status -9"):
            victim.start(SEAL, NEVER)


def test_one_that_does_not_answer_is_named() -> None:
    with MiningProcess() as victim:
        victim.wait_ready()
        os.kill(victim.pid, signal.SIGSTOP)
        with pytest.raises(WorkerError, match=r"^the mining process \d+ did not answer within 0\.1 s$"):
            victim.wait_ready(0.1)
        os.kill(victim.pid, signal.SIGCONT)
        victim.start(SEAL, NEVER)
        assert victim.stop().mining_s > 0  # the late answer, before it mined, is not taken for this one


def test_one_that_cannot_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(WorkerError, match=r"^the mining process cannot be started: No such file or directory$"):
        MiningProcess()
    broken.write_text("#!/bin/sh\necho one >&2\necho broken >&2\nexit 3\n")
    broken.chmod(0o700)
    with (
        MiningProcess() as ended,
        pytest.raises(WorkerError, match=r"^the mining process ended with status 3: broken$"),
    ):
        ended.wait(DEADLINE_S)


def test_closed_is_ended() -> None:
    closed = MiningProcess()
    closed.start(SEAL, NEVER)
    closed.wait_ready()
    pid = closed.pid
    closed.close()
    assert pid not in processes()
    closed.close()
    for call in (
        closed.fileno,
        closed.effort,
        closed.stop,
        lambda: closed.wait(0),
        lambda: closed.start(SEAL, NEVER),
    ):
        with pytest.raises(WorkerError, match=r"^the mining process was closed$"):
            call()


def test_it_ends_quietly_when_its_owner_is_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pids: list[int] = []
    try:
        assert owner.stdout is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(pids) == 3
        assert processes().keys() >= set(pids)
        owner.kill()
        owner.wait(DEADLINE_S)
        until(lambda: processes().keys().isdisjoint(pids), "the end of the mining processes")
    finally:
        owner.kill()
        owner.communicate(timeout=DEADLINE_S)
        for pid in set(pids) & processes().keys():
            os.kill(pid, signal.SIGKILL)


def readable(miner: MiningProcess) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(miner, selectors.EVENT_READ)
        return bool(selector.select(0))


def cpu_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

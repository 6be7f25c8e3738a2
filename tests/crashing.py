"""Processes that write to a store until they are killed, and what must be there afterwards.

An activity runs in a process of its own, says `ready`, and from then on tells the key of whatever the store has
acknowledged, a line each, right after the call returned. It is killed with SIGKILL at a drawn instant. Whatever it
told must be there, and the whole store must verify, before any node opens it again. A kill is no power cut: what the
kernel has taken it still writes.

    python -m tests.crashing ACTIVITY FOLDER SEED
"""

from __future__ import annotations

import itertools
import os
import random
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from splitnet.consensus.block import hash_of
from splitnet.consensus.database import FILE, JOURNAL_SUFFIX
from splitnet.consensus.errors import StoreError
from splitnet.consensus.node import Node, wall_clock_ms
from splitnet.consensus.store import Store, load_chain
from splitnet.consensus.verifying import verify_store
from splitnet.runtime.address import Address
from tests.consortium import NOW_MS, Consortium, Contents, a_key, no_models, some_rules, trusting

ROOT = Path(__file__).parents[1]
DEADLINE_S = 60.0
CONSORTIUM = Consortium(some_rules(aps=2, gateways=2, devices=12))
LOOPBACK = Address("127.0.0.1", 0)
BEHIND = 60
"""Blocks that a node has to fetch, before it follows a node that mines."""
Tell = Callable[[bytes], None]


# --- in the process that is killed


def writing(folder: Path, chances: random.Random, tell: Tell) -> None:
    """Opens the store, and so mends what the last kill left, then appends some blocks or puts a value, on and on."""
    store = Store.open(folder, CONSORTIUM.rules.network)
    chain = load_chain(store, trusting, NOW_MS, check=lambda rules, signed: None)
    while True:
        blocks = []
        for _ in range(chances.randint(1, 3)):
            slot = chain.head.place.slot + 1
            receipts = CONSORTIUM.receipts(slot, range(chances.choice((0, 1, 8))))
            blocks.append(CONSORTIUM.on(chain, slot, chances.randrange(2), Contents(receipts)))
            chain.add(blocks[-1], NOW_MS)
        store.append(blocks)
        for block in blocks:
            tell(hash_of(CONSORTIUM.rules, block.sealed))
        if chances.random() < 0.5:  # large ones, so that kills fall between a commit's writes, not in its syncs alone
            tell(store.put_value(chances.randbytes(chances.choice((10, 1_500_000)))))


def creating(folder: Path, chances: random.Random, tell: Tell) -> None:
    """Makes one store after the other."""
    for number in itertools.count():
        with Store.create(folder / str(number), CONSORTIUM.rules):
            tell(number.to_bytes(8))


def mining(folder: Path, chances: random.Random, tell: Tell) -> None:
    """An AP's node that takes receipts and mines one block after the other, each really hashed for."""
    with Store.open(folder, CONSORTIUM.rules.network) as store, _node(store, 0) as node:
        while True:
            tell(_mined(node, chances.choice((0, 1, 8))))


def syncing(folder: Path, chances: random.Random, tell: Tell) -> None:
    """A node that joins late: fetches headers and bodies over a connection, then follows the AP that mines on."""
    network = CONSORTIUM.rules.network
    with (
        Store.open(_source(folder), network) as theirs,
        Store.open(folder, network) as own,
        _node(theirs, 1) as source,
        _node(own, 0, source.address) as node,
    ):
        told, end_s = node.status().head, time.monotonic() + DEADLINE_S
        while time.monotonic() < end_s:
            if (head := node.status().head) != told:
                tell(told := head)
            if head == source.status().head:
                _mined(source, chances.choice((0, 1, 8)))


def _mined(node: Node, receipts: int) -> bytes:
    """The hash of the block of the next slot, with so many receipts, once it is the head."""
    slot = node.status().slot + 1
    for signed in CONSORTIUM.receipts(slot, range(receipts)):
        node.submit(signed, b"result")
    node.mine(slot, CONSORTIUM.plan(slot))
    head = node.wait_slot(slot, DEADLINE_S)
    assert head is not None, f"no block of slot {slot} in {DEADLINE_S:g} s"
    return head.hash


def _node(store: Store, number: int, *peers: Address) -> Node:
    return Node(store, a_key("ap", number), LOOPBACK, peers, no_models)


def _source(folder: Path) -> Path:
    """The store from which the one in the folder is fetched."""
    return folder / "source"


# --- outside


def make_store(folder: Path) -> None:
    """An empty one, unless it is there."""
    if not folder.exists():
        Store.create(folder, CONSORTIUM.rules).close()


def make_stores(folder: Path) -> None:
    """One, and another that is some blocks ahead of it."""
    make_store(folder)
    make_store(_source(folder))
    with Store.open(_source(folder), CONSORTIUM.rules.network) as store:
        chain = load_chain(store, trusting, wall_clock_ms(), check=lambda rules, signed: None)
        blocks = []
        for _ in range(BEHIND):
            slot, time_ms = chain.head.place.slot + 1, chain.head.place.time_ms + 1
            body = CONSORTIUM.body(slot, Contents(CONSORTIUM.receipts(slot, range(4))))
            blocks.append(CONSORTIUM.mined(chain.candidate(body, 1, time_ms), body))
            chain.add(blocks[-1], wall_clock_ms())
        store.append(blocks)
        store.put_value(b"result")


def check_store(folder: Path, told: list[bytes]) -> None:
    """Everything acknowledged is in a store that verifies."""
    with Store.read(folder) as store:
        missing = [key.hex() for key in told if store.block_bytes(key) is None and store.value(key) is None]
        assert not missing, f"{len(missing)} of {len(told)} acknowledged are gone: {missing[:3]}"
        verify_store(store, wall_clock_ms(), trusting)


def check_stores(folder: Path, told: list[bytes]) -> None:
    """Neither the one that fetches has lost anything, nor the one that was asked."""
    check_store(folder, told)
    check_store(_source(folder), [])


def check_creating(folder: Path, told: list[bytes]) -> None:
    """What was acknowledged is whole; what was being made is whole or not there, and can be made."""
    for number in range(len(told)):
        with Store.open(folder / str(number), CONSORTIUM.rules.network) as store:
            assert verify_store(store, NOW_MS).blocks == 0
    try:
        store = Store.open(folder / str(len(told)))
    except StoreError:
        assert not (folder / str(len(told)) / FILE).exists()
        store = Store.create(folder / str(len(told)), CONSORTIUM.rules)
    with store:
        assert verify_store(store, NOW_MS).network == CONSORTIUM.rules.network


@dataclass(frozen=True, slots=True)
class Activity:
    """What is killed, and how it is judged.

    Attributes:
        act: runs in the process: folder, chances, where it tells what was acknowledged.
        check: asserts that all that was acknowledged, ever, is there and whole.
        longest_s: the kill comes at a drawn instant up to so long after `ready`.
        prepare: makes what the process opens; None: it makes stores itself, in a new folder each time.
    """

    act: Callable[[Path, random.Random, Tell], None]
    check: Callable[[Path, list[bytes]], None]
    longest_s: float
    prepare: Callable[[Path], None] | None


ACTIVITIES: Mapping[str, Activity] = {
    "writing": Activity(writing, check_store, 0.15, make_store),
    "creating": Activity(creating, check_creating, 0.2, None),
    "mining": Activity(mining, check_store, 0.8, make_store),
    "syncing": Activity(syncing, check_stores, 1.5, make_stores),
}


@dataclass(frozen=True, slots=True)
class Crash:
    """One kill.

    Attributes:
        delay_s: after the process was ready.
        acknowledged: so many times since it was ready.
        journal_left: it was in the middle of a commit.
        check_s: what reading and verifying took.
    """

    activity: str
    delay_s: float
    acknowledged: int
    journal_left: bool
    check_s: float


def crash(name: str, folder: Path, seed: int, told: list[bytes]) -> Crash:
    """Start an activity, kill it at an instant that the seed draws, and check what is there.

    Args:
        told: what the activity's earlier processes were acknowledged in this folder; what this one was is added.

    Raises:
        AssertionError, SplitnetError: something acknowledged is gone, or the store does not verify.
    """
    activity, delay_s = ACTIVITIES[name], random.Random(seed).uniform(0, ACTIVITIES[name].longest_s)
    if activity.prepare is not None:
        activity.prepare(folder)
    before = len(told)
    told += _killed(name, folder, seed, delay_s)
    started_s = time.monotonic()
    left = list(folder.rglob(f"{FILE}{JOURNAL_SUFFIX}")) + list(folder.rglob(f".{FILE}.new*"))
    activity.check(folder, told)
    return Crash(name, delay_s, len(told) - before, bool(left), time.monotonic() - started_s)


def _killed(name: str, folder: Path, seed: int, delay_s: float) -> list[bytes]:
    """What the process had told when it was gone."""
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, name, str(folder), str(seed)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        output = process.stdout.fileno()
        said, end_s, ready = b"", time.monotonic() + DEADLINE_S, False
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while selector.select(max(0.0, end_s - time.monotonic())):
                part = os.read(output, 1 << 16)
                assert part, f"{name} ended by itself"
                said += part
                if not ready and b"\n" in said:
                    ready, end_s = True, time.monotonic() + delay_s
        assert ready, f"{name} was not ready in {DEADLINE_S:g} s"
        process.send_signal(signal.SIGKILL)
        said += process.stdout.read()
    finally:
        process.kill()
        process.wait(DEADLINE_S)
        process.stdout.close()
    assert process.returncode == -signal.SIGKILL, f"{name} ended by itself"
    head, *lines, _cut_short = said.split(b"\n")
    assert head == b"ready"
    return [bytes.fromhex(line.decode()) for line in lines]


def main() -> None:
    name, folder, seed = sys.argv[1:]
    print("ready", flush=True)
    ACTIVITIES[name].act(Path(folder), random.Random(seed), lambda key: print(key.hex(), flush=True))


if __name__ == "__main__":
    main()

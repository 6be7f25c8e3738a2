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
from splitnet.consensus.store import Store, load_chain
from splitnet.consensus.verifying import verify_store
from tests.consortium import NOW_MS, Consortium, Contents, some_rules, trusting

ROOT = Path(__file__).parents[1]
DEADLINE_S = 60.0
CONSORTIUM = Consortium(some_rules(aps=2, gateways=2, devices=12))
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


# --- outside


def check_writing(folder: Path, told: list[bytes]) -> None:
    """Everything acknowledged is in a store that verifies."""
    with Store.read(folder) as store:
        missing = [key.hex() for key in told if store.block_bytes(key) is None and store.value(key) is None]
        assert not missing, f"{len(missing)} of {len(told)} acknowledged are gone: {missing[:3]}"
        verify_store(store, NOW_MS, trusting)


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
        has_store: the folder is that of one store, which is there before.
    """

    act: Callable[[Path, random.Random, Tell], None]
    check: Callable[[Path, list[bytes]], None]
    longest_s: float
    has_store: bool


ACTIVITIES: Mapping[str, Activity] = {
    "writing": Activity(writing, check_writing, 0.15, True),
    "creating": Activity(creating, check_creating, 0.2, False),
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
    if activity.has_store and not folder.exists():
        Store.create(folder, CONSORTIUM.rules).close()
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

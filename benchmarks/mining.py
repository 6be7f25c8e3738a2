"""Whether real mining is what the model says: rates, stops, block times, win shares and the slope of difficulty.

    .venv/bin/python -m benchmarks.mining              some 10 minutes on an idle machine
    .venv/bin/python -m benchmarks.mining --quick      some 30 seconds

*rate*: hashes/s of one mining process, from its own exact count, in turns with plain hashlib loops of this process.
*stops*: from calling `stop` to its return, when no hash is computed any longer. *throttle*: achieved hashes/s against
asked ones; one is more than any machine can do and shows what is told then. *times*: blocks that processes mine
alone. *races*: blocks of `APS` APs with reputations and hash rates of their own; the first to find ends it and the
others are stopped, as in the consensus; then the winner, which has nothing to do, is asked as many questions: what
that takes is messages and scheduler alone. Beside what lambda predicts stands what the hashes that were computed
predict: where these two agree and wins do not, it is SHA-256's luck and no defect of pacing. *slope*: races at equal
U, several U in random order. All hash rates are f^bloc / c_h of MODEL.md row 10, kept by throttling, so that lambda
is known beforehand and nothing is fitted; several chains are mined side by side, together far below what two cores
can do. Seals follow from the block before.

A block time goes from before the first process is told to start until the nonce has been read here. It holds what
messages and the scheduler add, which is shown and not taken off. The sequence of hashes is random and not repeatable:
nonces begin anywhere. Each test at 1% fails by chance in one run of a hundred, and there are four of them.

It does not know blocks, signatures or networks, nor how fast a hash could be outside Python.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
import selectors
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.command_line import keep, parser_of
from benchmarks.mining_report import draw, show
from splitnet.consensus.canonical import digest_of
from splitnet.consensus.difficulty import MICRO, Mining, difficulty_of, target_of
from splitnet.consensus.mining_process import Found, MiningProcess
from splitnet.consensus.proof_of_work import meets, work_hash
from splitnet.profiling.machine import machine_fingerprint
from splitnet.terminal import Terminal

ALPHA = 2
CHAINS, APS = 4, 3
REPUTATIONS, RATES = (0.1, 0.4, 0.8), (60e3, 50e3, 30e3)
"""U and hashes/s of the APs of a race: the slowest wins most."""
EQUAL = (0.0, 0.375, 0.75, 1.125, 1.5)
"""The U of the slope."""
ALONE_RATE = 40e3
ASKED = (1e3, 1e4, 1e5, 3e5, 1e6, 1.5e6, 1e8, None)
NEVER = 1
"""A target that no hash meets."""
BARE = 20_000
"""Hashes of a plain loop between two looks at the clock."""
DEADLINE_S = 120.0
"""Of one block, against hanging."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of what, and how long.

    Attributes:
        rounds, span_s: of the hash rates.
        stops: for each of two ways to mine.
        throttle_rounds, throttle_s: of each asked rate.
        alone, alone_s: blocks of each process, and their mean time.
        races, race_s: of all chains together, and the mean time.
        slope, slope_s: races at each U, and the mean time at U = 0.
    """

    rounds: int
    span_s: float
    stops: int
    throttle_rounds: int
    throttle_s: float
    alone: int
    alone_s: float
    races: int
    race_s: float
    slope: tuple[int, ...]
    slope_s: float


FULL = Counts(24, 0.25, 300, 3, 1.0, 84, 0.4, 8000, 0.08, (600, 800, 1200, 1600, 2000), 0.5)
QUICK = Counts(5, 0.2, 100, 2, 0.3, 20, 0.1, 300, 0.04, (60, 80, 120, 160, 200), 0.2)


# --- one chain


class Chain:
    """Some APs, each with a mining process of its own, and the blocks they mine one after the other."""

    def __init__(self, number: int, miners: Sequence[MiningProcess]) -> None:
        self._miners = miners
        self._head = digest_of("benchmark", number.to_bytes(32))
        self._height = 0

    def race(self, targets: Sequence[int], rates: Sequence[float]) -> Row:
        """One block: all start, in turns in another order, the first to find wins, the others are stopped."""
        seals = [digest_of("block", self._head, bytes([ap])) for ap in range(len(self._miners))]
        order = [(self._height + ap) % len(self._miners) for ap in range(len(self._miners))]
        started_s = [0.0] * len(order)
        began_s = time.perf_counter()
        for ap in order:
            started_s[ap] = time.perf_counter()
            self._miners[ap].start(seals[ap], targets[ap], rates[ap])
        found = self._first()
        block_s = time.perf_counter() - began_s
        winner = min(found, key=lambda ap: started_s[ap] + found[ap].effort.mining_s)
        stopping_s = time.perf_counter()
        efforts = [found[ap].effort if ap == winner else miner.stop() for ap, miner in enumerate(self._miners)]
        stop_s = time.perf_counter() - stopping_s
        asking_s = time.perf_counter()
        for _ in range(len(efforts) - 1):
            self._miners[winner].effort()
        idle_s = time.perf_counter() - asking_s
        self._head, self._height = work_hash(seals[winner], found[winner].nonce), self._height + 1
        if not meets(self._head, targets[winner]):
            raise RuntimeError(f"AP {winner} told a nonce that is not below its target")
        return {
            "winner": winner,
            "together": len(found) > 1,
            "block_s": round(block_s, 7),
            "winner_s": round(efforts[winner].mining_s, 7),
            "stop_s": round(stop_s, 7),
            "idle_s": round(idle_s, 7),
            "hashes": [effort.hashes for effort in efforts],
            "mining_s": [effort.mining_s for effort in efforts],
        }

    def _first(self) -> dict[int, Found]:
        """Of each AP that had a nonce when the first came."""
        end_s = time.monotonic() + DEADLINE_S
        with selectors.DefaultSelector() as selector:
            for ap, miner in enumerate(self._miners):
                selector.register(miner, selectors.EVENT_READ, ap)
            while ready := selector.select(end_s - time.monotonic()):
                told = {key.data: self._miners[key.data].wait(0) for key, _ in ready}
                if found := {ap: one for ap, one in told.items() if one is not None}:
                    return found
        raise RuntimeError(f"no block within {DEADLINE_S:g} s")


def side_by_side(chains: Sequence[Chain], work: Callable[[Chain, int], list[Row]]) -> list[Row]:
    """Each chain by a thread of its own; rows of all."""
    with ThreadPoolExecutor(len(chains)) as threads:
        return [row for rows in threads.map(work, chains, range(len(chains))) for row in rows]


def columns(rows: Sequence[Row]) -> Row:
    """Rows by column; hashes and seconds also as totals of each AP, from which achieved rates follow."""
    kept = ("winner", "together", "block_s", "winner_s", "stop_s", "idle_s")
    return {name: [row[name] for row in rows] for name in kept} | {
        "hashes": [sum(row["hashes"]) for row in rows],
        "ap_hashes": [sum(one) for one in zip(*(row["hashes"] for row in rows), strict=True)],
        "ap_mining_s": [sum(one) for one in zip(*(row["mining_s"] for row in rows), strict=True)],
    }


# --- targets and what the model predicts from them


def mining_of(hashes: float) -> Mining:
    """alpha = 2 and beta = 0, with that H_0."""
    return Mining(ALPHA * MICRO, 0, round(hashes), "linear", 1, 2 * MICRO)


def target_at(mining: Mining, reputation: float) -> int:
    return target_of(mining, difficulty_of(mining, round(reputation * MICRO)))


def lambdas(hashes: float, reputations: Iterable[float], rates: Iterable[float]) -> list[float]:
    """lambda_j of MODEL.md rows 9 and 10 in floats, blocks/s: an oracle for the targets."""
    return [
        rate / (round(hashes) * math.exp(-ALPHA * reputation))
        for reputation, rate in zip(reputations, rates, strict=True)
    ]


def hashes_for(mean_s: float, reputations: Sequence[float], rates: Sequence[float]) -> float:
    """H_0 at which the mean block time is that."""
    return mean_s * sum(lambdas(1, reputations, rates))


# --- sections


def bare_loop(seal: bytes, first: int, count: int, below: bytes) -> int | None:
    """The plain search: the seal's state copied for every nonce."""
    copy = hashlib.sha256(seal).copy
    for nonce in range(first, first + count):
        hasher = copy()
        hasher.update(nonce.to_bytes(16))
        if hasher.digest() < below:
            return nonce
    return None


def one_shot_loop(seal: bytes, first: int, count: int, below: bytes) -> int | None:
    """The plainest: everything hashed anew."""
    for nonce in range(first, first + count):
        if hashlib.sha256(seal + nonce.to_bytes(16)).digest() < below:
            return nonce
    return None


def loop_rate(loop: Callable[[bytes, int, int, bytes], int | None], seal: bytes, span_s: float) -> float:
    below, hashes, began_s = NEVER.to_bytes(32), 0, time.perf_counter()
    while time.perf_counter() - began_s < span_s:
        loop(seal, hashes, BARE, below)
        hashes += BARE
    return hashes / (time.perf_counter() - began_s)


def process_rate(miner: MiningProcess, seal: bytes, span_s: float, asked: float | None = None) -> float:
    miner.start(seal, NEVER, asked)
    time.sleep(span_s)
    return miner.stop().hash_rate


def rate(counts: Counts, miners: list[MiningProcess]) -> Row:
    """Hashes/s in turns."""
    found: Row = {"mining process": [], "bare loop": [], "one-shot loop": []}
    for number in range(counts.rounds):
        seal = digest_of("benchmark", number.to_bytes(32))
        found["bare loop"].append(loop_rate(bare_loop, seal, counts.span_s))
        found["mining process"].append(process_rate(miners[0], seal, counts.span_s))
        found["one-shot loop"].append(loop_rate(one_shot_loop, seal, counts.span_s))
    return found


def stops(counts: Counts, miners: list[MiningProcess]) -> Row:
    """Seconds of `stop`, at random moments."""
    found: Row = {"unlimited": [], "throttled": []}
    seal = digest_of("benchmark", bytes(32))
    for _ in range(counts.stops):
        for name, asked in (("unlimited", None), ("throttled", ALONE_RATE)):
            miners[0].start(seal, NEVER, asked)
            time.sleep(random.uniform(0.01, 0.03))
            began_s = time.perf_counter()
            miners[0].stop()
            found[name].append(time.perf_counter() - began_s)
    return found


def throttle(counts: Counts, miners: list[MiningProcess]) -> list[Row]:
    """Asked and achieved hashes/s; the rates in turns."""
    seal = digest_of("benchmark", bytes(32))
    return [
        {"asked": asked, "achieved": process_rate(miners[0], seal, counts.throttle_s, asked)}
        for _ in range(counts.throttle_rounds)
        for asked in ASKED
    ]


def times(counts: Counts, miners: list[MiningProcess]) -> Row:
    """Blocks of processes that mine alone."""
    hashes = round(counts.alone_s * ALONE_RATE)
    targets, rates = [target_at(mining_of(hashes), 0)], [ALONE_RATE]
    chains = [Chain(number, [miner]) for number, miner in enumerate(miners)]
    rows = side_by_side(chains, lambda chain, _: [chain.race(targets, rates) for _ in range(counts.alone)])
    return {"rates": rates, "expected_hashes": hashes, "expected_s": hashes / ALONE_RATE, **columns(rows)}


def races(counts: Counts, miners: list[MiningProcess]) -> Row:
    """Blocks of APs that differ."""
    hashes = hashes_for(counts.race_s, REPUTATIONS, RATES)
    each = lambdas(hashes, REPUTATIONS, RATES)
    targets = [target_at(mining_of(hashes), reputation) for reputation in REPUTATIONS]
    rows = side_by_side(
        chains_of(miners), lambda chain, _: [chain.race(targets, RATES) for _ in range(counts.races // CHAINS)]
    )
    predicted = {"expected_s": 1 / sum(each), "expected_shares": [one / sum(each) for one in each]}
    chances = [target / 2**256 for target in targets]
    return {"rates": RATES, "reputations": REPUTATIONS, "chances": chances, **predicted, **columns(rows)}


def slope(counts: Counts, miners: list[MiningProcess]) -> list[Row]:
    """Blocks at equal U, the U in random order; for each U."""
    hashes = hashes_for(counts.slope_s, [0.0] * APS, RATES)
    targets = {reputation: [target_at(mining_of(hashes), reputation)] * APS for reputation in EQUAL}
    asked = [reputation for reputation, number in zip(EQUAL, counts.slope, strict=True) for _ in range(number)]
    random.shuffle(asked)

    def work(chain: Chain, number: int) -> list[Row]:
        own = asked[number::CHAINS]
        return [chain.race(targets[reputation], RATES) | {"reputation": reputation} for reputation in own]

    rows = side_by_side(chains_of(miners), work)
    return [
        {
            "reputation": reputation,
            "rates": RATES,
            "expected_s": 1 / sum(lambdas(hashes, [reputation] * APS, RATES)),
            **columns([row for row in rows if row["reputation"] == reputation]),
        }
        for reputation in EQUAL
    ]


def chains_of(miners: list[MiningProcess]) -> list[Chain]:
    return [Chain(number, miners[number * APS : (number + 1) * APS]) for number in range(CHAINS)]


SECTIONS: dict[str, Callable[[Counts, list[MiningProcess]], Any]] = {
    "rate": rate,
    "stops": stops,
    "throttle": throttle,
    "times": times,
    "races": races,
    "slope": slope,
}


def measure(counts: Counts, sections: Iterable[str]) -> Row:
    """Raw figures of each section."""
    found: Row = {"machine": machine_fingerprint(), "alpha": ALPHA}
    with contextlib.ExitStack() as stack:
        miners = [stack.enter_context(MiningProcess()) for _ in range(CHAINS * APS)]
        for miner in miners:
            miner.wait_ready()
        for name in sections:
            with Terminal().waiting(name):
                began_s = time.perf_counter()
                found[name] = SECTIONS[name](counts, miners)
                found.setdefault("section_s", {})[name] = time.perf_counter() - began_s
    return found


def main() -> None:
    parser = parser_of(__doc__, "mining", quick="a tenth of the blocks", sections=SECTIONS)
    options = parser.parse_args()
    results = measure(QUICK if options.quick else FULL, options.only)
    keep(results, options.output)
    if {"times", "races", "slope"} <= results.keys():
        draw(results, options.output.with_suffix(".png"))
    show(results)


if __name__ == "__main__":
    main()

"""What receipts cost: signing and verifying 1,000 of them, encoding, decoding, and a block that holds 1,000.

    .venv/bin/python -m benchmarks.receipts             some 2 minutes on an idle machine
    .venv/bin/python -m benchmarks.receipts --quick     some 15 seconds

*sign*: device, AP and gateway sign 1,000 receipts, three signatures each. *verify*: each receipt by itself, members,
caps, FLOPs and three signatures. *block*: bytes of a block of 1,000 receipts become the head of a chain: decoding,
header, Merkle roots, plan, receipts, reputation, what the chain holds already. One thread, public keys loaded,
nothing verified before.

How much of it is cryptography is measured in two ways. *bare*: the same signatures and the same hashes once more, of
the same bytes and in the same number, straight in a loop over `cryptography` and hashlib; it stands beside the real
thing in every round, and the share is the median of bare / real, in processor time of the thread. *profile*: what
cProfile books to functions of the two libraries in one more pass; it slows every call down, the many small ones of
Python most, so its share is too low. Knows nothing of the network or the disk, nor how an AP
spreads verification over a slot.
"""

from __future__ import annotations

import cProfile
import hashlib
import pstats
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from benchmarks.command_line import keep, parser_of
from splitnet.consensus import identity, receipt
from splitnet.consensus.block import Block, Body, hash_of, seal_of, sign_block
from splitnet.consensus.canonical import decode, encode
from splitnet.consensus.chain import Chain, make_header
from splitnet.consensus.difficulty import Mining
from splitnet.consensus.genesis import MILLION, VERSION, Genesis, Member, Rules
from splitnet.consensus.plan import CutPlan, sign_plan
from splitnet.consensus.proof_of_work import NONCE_BYTES, meets, work_hash
from splitnet.consensus.receipt import (
    MOST_RECEIPT_BYTES,
    Arrival,
    Receipt,
    SignedReceipt,
    countersign,
    sign_arrival,
    sign_as_ap,
    validate_receipt,
)
from splitnet.consensus.registry import ModelFlops, Registry
from splitnet.consensus.sizes import MOST_BLOCK_BYTES
from splitnet.consensus.validation import (
    Place,
    Standing,
    validate_claim,
    validate_order,
    validate_plan_of_block,
    validate_roots,
    validate_sealed,
)
from splitnet.profiling.machine import machine_fingerprint
from splitnet.terminal import Terminal

RECEIPTS, DEVICES, GATEWAYS, APS, LAYERS = 1000, 100, 10, 3, 60
FULL, QUICK = 30, 4
"""Rounds."""
AIM = 0.8
"""Of the time in `cryptography` and hashlib."""
LIBRARIES = ("Ed25519", "openssl_sha256", "_hashlib.HASH")
"""In the names by which cProfile knows their functions."""

Call = Callable[[], object]
Row = dict[str, Any]


# --- what is signed


class Network:
    """A network whose keys are all here, and 1,000 receipts of ten slots."""

    def __init__(self) -> None:
        def keys(role: str, count: int) -> list[Ed25519PrivateKey]:
            seeds = (hashlib.sha256(f"{role} {number}".encode()).digest() for number in range(count))
            return [Ed25519PrivateKey.from_private_bytes(seed) for seed in seeds]

        def members(role: str, own: list[Ed25519PrivateKey]) -> tuple[Member, ...]:
            return tuple(Member(f"{role}-{n}", identity.public_bytes(key)) for n, key in enumerate(own))

        self.devices, self.gateways, self.aps = keys("device", DEVICES), keys("gateway", GATEWAYS), keys("ap", APS)
        graph, weights = (hashlib.sha256(name).digest() for name in (b"graph", b"weights"))
        registry = Registry((ModelFlops(graph, weights, tuple(range(1_000_000, 1_000_000 + LAYERS))),))
        self.controller = keys("controller", 1)[0]
        genesis = Genesis(
            version=VERSION,
            controller=members("controller", [self.controller])[0],
            gateways=members("gateway", self.gateways),
            aps=members("ap", self.aps),
            devices=members("device", self.devices),
            gateway_of=tuple(number % GATEWAYS for number in range(DEVICES)),
            ap_of=tuple(number % APS for number in range(GATEWAYS)),
            most_data_points=(15,) * DEVICES,
            models=(0,) * DEVICES,
            mining=Mining(2_000_000, 0, 16, "linear", 10**10, 1_000_000),
            registry=registry.digest(),
            started_ms=0,
        )
        self.rules = Rules(genesis, registry)
        self.unsigned = [self._unsigned(registry.models[0], *divmod(number, DEVICES)) for number in range(RECEIPTS)]
        self.signed = self.sign_all()
        self.block = self._block()

    def _unsigned(self, model: ModelFlops, slot: int, twin: int) -> Receipt:
        digests = [
            hashlib.sha256(f"{what} {slot} {twin}".encode()).digest() for what in ("batch", "crossed", "result")
        ]
        gateway = self.rules.genesis.gateway_of[twin]
        arrival = Arrival(slot, twin, 5 + twin % 11, digests[0])
        ap = self.rules.genesis.ap_of[gateway]
        return Receipt(arrival, gateway, ap, *model.key, twin % LAYERS, *digests[1:])

    def sign_all(self) -> tuple[SignedReceipt, ...]:
        """By device, AP and gateway."""
        signed = []
        for unsigned in self.unsigned:
            device = sign_arrival(self.rules, self.devices[unsigned.arrival.twin], unsigned.arrival)
            ap = sign_as_ap(self.rules, self.aps[unsigned.ap], unsigned, device)
            signed.append(countersign(self.rules, self.gateways[unsigned.gateway], unsigned, device, ap))
        return tuple(signed)

    def _block(self) -> Block:
        slot, cuts = RECEIPTS // DEVICES - 1, tuple(twin % LAYERS for twin in range(DEVICES))
        plan = CutPlan(slot, cuts, (0,) * GATEWAYS, (MILLION,) * APS)
        body = Body(sign_plan(self.rules, self.controller, plan), self.signed)
        header = make_header(self.rules, Place.of_genesis(self.rules), body, 0, 1000, Standing())
        seal, target, number = seal_of(self.rules, header), int.from_bytes(header.target), 0
        while not meets(work_hash(seal, number.to_bytes(NONCE_BYTES)), target):
            number += 1
        return sign_block(self.rules, self.aps[0], header, number.to_bytes(NONCE_BYTES), body)

    def verify_all(self) -> None:
        for signed in self.signed:
            validate_receipt(self.rules, signed)

    def take_block(self, data: bytes) -> None:
        """From bytes to the head of a chain."""
        chain = Chain(self.rules, lambda fraud: True)
        chain.add(decode(data, Block, MOST_BLOCK_BYTES), 1000)
        assert len(chain) == 1


# --- the same cryptography, and nothing else


@dataclass
class Calls:
    """What was asked of the two libraries in one pass."""

    hashed: list[bytes] = field(default_factory=list)
    signed: list[tuple[Ed25519PrivateKey, bytes]] = field(default_factory=list)
    verified: list[tuple[Ed25519PublicKey, bytes, bytes]] = field(default_factory=list)

    def again(self) -> None:
        """All of it, with nothing in between."""
        sha256 = hashlib.sha256
        for data in self.hashed:
            sha256(data).digest()
        for private, digest in self.signed:
            private.sign(digest)
        for public, signature, digest in self.verified:
            public.verify(signature, digest)


@contextmanager
def recorded() -> Iterator[Calls]:
    """Write down every SHA-256, signature and verification; what is timed runs without this."""
    calls = Calls()
    sha256, public_key = hashlib.sha256, identity._public_key

    class Public:
        def __init__(self, key: Ed25519PublicKey) -> None:
            self.key = key

        def verify(self, signature: bytes, digest: bytes) -> None:
            calls.verified.append((self.key, signature, digest))
            self.key.verify(signature, digest)

    def hashing(data: bytes = b"") -> Any:
        calls.hashed.append(data)
        return sha256(data)

    def signing(key: Ed25519PrivateKey, digest: bytes) -> bytes:
        calls.signed.append((key, digest))
        return key.sign(digest)

    with (
        patch.object(hashlib, "sha256", hashing),
        patch.object(receipt, "sign", signing),
        patch.object(identity, "_public_key", lambda public: Public(public_key(public))),
    ):
        yield calls


# --- measuring


def timed(call: Call) -> tuple[float, float]:
    """Seconds on the clock, and of this thread's processor time."""
    start_ns, start_cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
    call()
    return (time.perf_counter_ns() - start_ns) / 1e9, (time.thread_time_ns() - start_cpu_ns) / 1e9


def share_in_profile(call: Call) -> float:
    """Of cProfile's own time: what it books to functions of the two libraries."""
    profile = cProfile.Profile()
    profile.runcall(call)
    found: dict[tuple[str, int, str], tuple[Any, ...]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    own_s = {name: numbers[2] for (_, _, name), numbers in found.items()}
    inside = sum(spent for name, spent in own_s.items() if any(library in name for library in LIBRARIES))
    return float(inside / sum(numbers[2] for numbers in found.values()))


def cases(network: Network) -> dict[str, Call]:
    """What is set beside its own cryptography."""
    data = encode(network.block)
    return {
        "sign 1,000 receipts": network.sign_all,
        "verify 1,000 receipts": network.verify_all,
        "block of 1,000 receipts": lambda: network.take_block(data),
    }


def steps(network: Network) -> dict[str, Call]:
    """Parts of the three, each by itself."""
    rules, block, receipts = network.rules, network.block, network.signed
    data, packed = encode(block), [encode(signed) for signed in receipts]
    return {
        "encode 1,000 receipts": lambda: [encode(signed) for signed in receipts],
        "decode 1,000 receipts": lambda: [decode(each, SignedReceipt, MOST_RECEIPT_BYTES) for each in packed],
        "block: decode": lambda: decode(data, Block, MOST_BLOCK_BYTES),
        "block: sealed header": lambda: validate_sealed(rules, block.sealed),
        "block: order": lambda: validate_order(rules, block.body),
        "block: Merkle roots": lambda: validate_roots(block.header, block.body),
        "block: plan": lambda: validate_plan_of_block(rules, block.header, block.body),
        "block: reputation": lambda: validate_claim(rules, block.header, block.body),
        "block: receipts": network.verify_all,
        "block: what it records": block.body.records,
        "block: hash": lambda: hash_of(rules, block.sealed),
    }


def measure(rounds: int) -> Row:
    """Raw seconds of every round."""
    network, order = Network(), random.Random(0)
    real = cases(network)
    bare: dict[str, Calls] = {}
    for name, call in real.items():
        with recorded() as calls:
            call()
        bare[name] = calls
    groups = [[("real", name, call), ("bare", name, bare[name].again)] for name, call in real.items()]
    groups += [[("step", name, call)] for name, call in steps(network).items()]
    found: dict[str, dict[str, list[tuple[float, float]]]] = {"real": {}, "bare": {}, "step": {}}
    with Terminal().progress("rounds") as tick:
        for number in range(-1, rounds):  # the first warms up
            tick(number + 1, rounds + 1, "rounds")
            for group in order.sample(groups, len(groups)):
                for what, name, call in order.sample(group, len(group)):
                    taken_s = timed(call)
                    if number >= 0:
                        found[what].setdefault(name, []).append(taken_s)
    return {
        "machine": machine_fingerprint(),
        "receipts": RECEIPTS,
        "receipt_bytes": len(encode(network.signed[0])),
        "block_bytes": len(encode(network.block)),
        "calls": {
            name: {
                "hashes": len(calls.hashed),
                "hashed_bytes": sum(map(len, calls.hashed)),
                "signatures": len(calls.signed),
                "verifications": len(calls.verified),
            }
            for name, calls in bare.items()
        },
        "profiled_share": {name: [share_in_profile(call) for _ in range(3)] for name, call in real.items()},
        "wall_and_cpu_s": found,
    }


# --- what it says


def medians_ms(samples: list[tuple[float, float]]) -> list[str]:
    """On the clock and of the processor."""
    return [f"{1e3 * statistics.median(column):.2f}" for column in zip(*samples, strict=True)]


def shares(results: Row, name: str) -> list[float]:
    """bare / real of the processor's time, round by round."""
    taken = results["wall_and_cpu_s"]
    pairs = zip(taken["bare"][name], taken["real"][name], strict=True)
    return [bare_cpu_s / real_cpu_s for (_, bare_cpu_s), (_, real_cpu_s) in pairs]


def show(results: Row, terminal: Terminal) -> None:
    taken = results["wall_and_cpu_s"]
    rows = []
    for name, real in taken["real"].items():
        calls, found = results["calls"][name], shares(results, name)
        rows.append(
            [
                name,
                *medians_ms(real),
                medians_ms(taken["bare"][name])[1],
                f"{statistics.median(found):.1%}",
                f"{min(found):.1%} to {max(found):.1%}",
                f"{statistics.median(results['profiled_share'][name]):.1%}",
                f"{calls['signatures']} / {calls['verifications']} / {calls['hashes']}",
                "reached" if statistics.median(found) >= AIM else "missed",
            ]
        )
    rounds = len(next(iter(taken["real"].values())))
    head = ["", "ms", "CPU ms", "bare", "share", "in rounds", "in profile", "signed/verified/hashed", f"{AIM:.0%}"]
    terminal.table(
        head,
        rows,
        f"Medians of {rounds} rounds; share = bare / real of CPU time. Bytes: a receipt {results['receipt_bytes']}, "
        f"the block {results['block_bytes']:,}.",
    )
    whole_s = statistics.median(cpu_s for _, cpu_s in taken["real"]["block of 1,000 receipts"])
    rows = []
    for name, samples in sorted(taken["step"].items()):
        part = statistics.median(cpu_s for _, cpu_s in samples) / whole_s
        rows.append([name, *medians_ms(samples), f"{part:.1%}" if name.startswith("block") else ""])
    terminal.table(["step", "ms", "CPU ms", "of the block"], rows, "Each step by itself; some repeat an encoding.")


def main() -> None:
    parser = parser_of(__doc__, "receipts", quick=f"{QUICK} rounds, not {FULL}")
    options = parser.parse_args()
    results = measure(QUICK if options.quick else FULL)
    keep(results, options.output)
    show(results, Terminal())


if __name__ == "__main__":
    main()

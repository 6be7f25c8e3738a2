"""A small network whose members' keys are all known: genesis, receipts and mined blocks for tests of the consensus.

Everything is drawn from fixed seeds, so that canonical bytes can be compared with golden ones.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus.audit_records import FraudProof, Void
from splitnet.consensus.block import Block, Body, Header, seal_of, sign_block
from splitnet.consensus.chain import Chain, make_header
from splitnet.consensus.difficulty import Mining
from splitnet.consensus.errors import ReexecutionError
from splitnet.consensus.genesis import MILLION, VERSION, Genesis, Member, Rules
from splitnet.consensus.identity import public_bytes
from splitnet.consensus.plan import CutPlan, SignedPlan, sign_plan
from splitnet.consensus.proof_of_work import NONCE_BYTES, meets, work_hash
from splitnet.consensus.receipt import Arrival, Receipt, SignedReceipt, countersign, sign_arrival, sign_as_ap
from splitnet.consensus.registry import ModelFlops, Registry
from splitnet.consensus.validation import Place, Standing

GRAPH, OTHER_GRAPH, WEIGHTS, OTHER_WEIGHTS = (
    hashlib.sha256(name).digest() for name in (b"graph", b"other graph", b"weights", b"other weights")
)
FLOPS = (300, 200, 100, 0, 50)
"""Of the layers of the model of all devices; all of it 650."""
CUT = 2
"""That is planned unless a test says otherwise."""
STARTED_MS = 1_700_000_000_000
NOW_MS = STARTED_MS + 10_000_000
MINING = Mining(
    alpha_micro=2_000_000, beta_micro=0, hashes=8, reputation="linear", reference_flops=10_000, most_micro=1_000_000
)


def a_key(role: str, number: int = 0) -> Ed25519PrivateKey:
    """The private key of a member, the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"{role} {number}".encode()).digest())


def a_registry() -> Registry:
    """The devices' model, and another."""
    models = ModelFlops(GRAPH, WEIGHTS, FLOPS), ModelFlops(OTHER_GRAPH, WEIGHTS, (7,))
    return Registry(tuple(sorted(models, key=lambda model: model.key)))


def a_genesis(aps: int = 2, gateways: int = 2, devices: int = 4, **changes: Any) -> Genesis:
    """Devices and gateways are connected round robin."""

    def members(role: str, count: int) -> tuple[Member, ...]:
        return tuple(Member(f"{role}-{n}", public_bytes(a_key(role, n))) for n in range(count))

    values: dict[str, Any] = {
        "version": VERSION,
        "controller": Member("controller", public_bytes(a_key("controller"))),
        "gateways": members("gateway", gateways),
        "aps": members("ap", aps),
        "devices": members("device", devices),
        "gateway_of": tuple(n % gateways for n in range(devices)),
        "ap_of": tuple(m % aps for m in range(gateways)),
        "most_data_points": (15,) * devices,
        "models": (a_registry().number(GRAPH, WEIGHTS),) * devices,
        "mining": MINING,
        "registry": a_registry().digest(),
        "started_ms": STARTED_MS,
    }
    return Genesis(**(values | changes))


def some_rules(**changes: Any) -> Rules:
    return Rules(a_genesis(**changes), a_registry())


@dataclass(frozen=True)
class Contents:
    """What a block records; it becomes a body with the plan of the block's slot."""

    receipts: tuple[SignedReceipt, ...] = ()
    frauds: tuple[FraudProof, ...] = ()
    voids: tuple[Void, ...] = ()


@dataclass(frozen=True)
class Consortium:
    """Rules, and the power to sign as anybody."""

    rules: Rules

    def receipt(
        self,
        slot: int,
        twin: int,
        *,
        cut: int = CUT,
        data_points: int = 10,
        result: bytes = b"result",
        **changes: Any,
    ) -> SignedReceipt:
        """A valid receipt; `changes` of the inner receipt's fields are signed as well."""
        genesis = self.rules.genesis
        gateway = genesis.gateway_of[twin]
        arrival = Arrival(slot, twin, data_points, hashlib.sha256(f"{slot} {twin}".encode()).digest())
        receipt = Receipt(
            arrival,
            gateway,
            genesis.ap_of[gateway],
            GRAPH,
            WEIGHTS,
            cut,
            hashlib.sha256(b"activation").digest(),
            hashlib.sha256(result).digest(),
        )
        return self.signed(msgspec.structs.replace(receipt, **changes))

    def signed(self, receipt: Receipt) -> SignedReceipt:
        """Signed by whoever it names."""
        rules, arrival = self.rules, receipt.arrival
        device = sign_arrival(rules, a_key("device", arrival.twin), arrival)
        ap = sign_as_ap(rules, a_key("ap", receipt.ap), receipt, device)
        return countersign(rules, a_key("gateway", receipt.gateway), receipt, device, ap)

    def receipts(self, slot: int, twins: Iterable[int] | None = None) -> tuple[SignedReceipt, ...]:
        """Of a slot; of every device by default."""
        return tuple(
            self.receipt(slot, twin) for twin in (range(len(self.rules.genesis.devices)) if twins is None else twins)
        )

    def plan(self, slot: int, cuts: Mapping[int, int] | None = None) -> SignedPlan:
        """The controller's, with other cuts for some DTs."""
        genesis, cuts = self.rules.genesis, cuts or {}
        twins = range(len(genesis.devices))
        plan = CutPlan(
            slot,
            tuple(cuts.get(twin, min(CUT, self.rules.models[twin].last_cut)) for twin in twins),
            (0,) * len(genesis.gateways),
            (MILLION,) * len(genesis.aps),
        )
        return sign_plan(self.rules, a_key("controller"), plan)

    def body(self, slot: int, contents: Contents | None = None) -> Body:
        """With a plan of the cuts at which the receipts of the slot were run."""
        contents = contents or Contents()
        arrivals = {signed.receipt.arrival: signed.receipt.cut for signed in contents.receipts}
        cuts = {arrival.twin: cut for arrival, cut in arrivals.items() if arrival.slot == slot}
        devices = range(len(self.rules.genesis.devices))
        known = {
            twin: cut for twin, cut in cuts.items() if twin in devices and cut <= self.rules.models[twin].last_cut
        }
        return Body(self.plan(slot, known), contents.receipts, contents.frauds, contents.voids)

    def block(
        self,
        slot: int = 0,
        miner: int = 0,
        contents: Contents | Body | None = None,
        *,
        parent: Place | None = None,
        standing: Standing | None = None,
        time_ms: int | None = None,
        **changes: Any,
    ) -> Block:
        """A mined and signed block; `changes` of header fields are mined and signed as well."""
        parent = parent or Place.of_genesis(self.rules)
        body = contents if isinstance(contents, Body) else self.body(slot, contents)
        time_ms = time_ms or parent.time_ms + 1000
        header = make_header(self.rules, parent, body, miner, time_ms, standing or Standing())
        return self.mined(msgspec.structs.replace(header, **changes), body)

    def on(self, chain: Chain, slot: int, miner: int = 0, contents: Contents | Body | None = None) -> Block:
        """A block on a chain's head."""
        body = contents if isinstance(contents, Body) else self.body(slot, contents)
        return self.mined(chain.candidate(body, miner, chain.head.place.time_ms + 1000), body)

    def mined(self, header: Header, body: Body) -> Block:
        """With real proof of work, at few hashes."""
        seal, target = seal_of(self.rules, header), int.from_bytes(header.target)
        for number in itertools.count():
            nonce = number.to_bytes(NONCE_BYTES)
            if meets(work_hash(seal, nonce), target):
                return sign_block(self.rules, a_key("ap", header.miner), header, nonce, body)
        raise AssertionError


def trusting(fraud: object) -> bool:
    """A judge for tests that are not about audits."""
    return True


def real_time_rules(aps: int, hashes: int = 20_000) -> Rules:
    """For nodes that live by the clock: so many expected hashes of a block at gamma = 1, two devices on each AP."""
    mining = msgspec.structs.replace(MINING, hashes=hashes)
    return some_rules(aps=aps, gateways=aps, devices=2 * aps, mining=mining)


def no_models(receipt: Receipt, values: list[Any]) -> list[Any]:
    """For nodes in tests that are not about audits: nothing can be run again."""
    raise ReexecutionError(f"the model {receipt.graph.hex()[:12]} is not held here")

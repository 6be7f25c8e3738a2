"""A network whose members' keys are all known, real inferences in it, and auditors that run them again.

Everything is drawn from seeds. An auditor's draws are as unforeseeable to the liar here as they would be with
`secrets`: it does not look at them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.auditing import Reexecutor, data_points_of, model_key
from splitnet.consensus.audit import Evidence, examine, judge
from splitnet.consensus.audit_records import FraudProof, Void
from splitnet.consensus.auditor import Ask, Auditor, Examine, Instruction, PublishFraud, PublishVoid, PublishVote
from splitnet.consensus.block import Block, Body, Header, seal_of, sign_block
from splitnet.consensus.difficulty import Mining
from splitnet.consensus.genesis import MILLION, VERSION, Audit, Genesis, Member, Rules
from splitnet.consensus.identity import public_bytes
from splitnet.consensus.plan import CutPlan, SignedPlan, sign_plan
from splitnet.consensus.proof_of_work import NONCE_BYTES, meets, work_hash
from splitnet.consensus.receipt import (
    Arrival,
    Receipt,
    SignedReceipt,
    countersign,
    sign_arrival,
    sign_as_ap,
    value_digest,
)
from splitnet.consensus.registry import Registry
from splitnet.consensus.values import value_bytes, values_from
from splitnet.inference import exact_inference
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.profiling.facts import model_facts
from splitnet.resident import ModelInputs, ResidentModel

TOLERANCE_MICRO = Audit().tolerance_micro
SUSPENDED_SLOTS = 100
DEVICES_OF_AP = 2
MOST_DATA_POINTS, MEAN_DATA_POINTS = 15, 10
"""The cap on D_n, and its mean in the default scenario (uniform 5..15)."""
STARTED_MS = 1_700_000_000_000


def a_model(name: str, seed: int = 0) -> ResidentModel:
    """On the CPU."""
    return ResidentModel(build_model(ModelRef(name, seed=seed)), torch.device("cpu"))


def registry_of(model: ResidentModel) -> Registry:
    """Of one model."""
    return Registry.of([model_facts(model, ModelInputs(model))])


@dataclass(frozen=True)
class Run:
    """What an AP has in hand after one inference.

    Attributes:
        activation: canonical bytes of what the top was given.
        leaves: what it gave.
    """

    cut: int
    data_points: int
    activation: bytes
    leaves: list[torch.Tensor]


def run_of(model: ResidentModel, cut: int, data_points: int, seed: int) -> Run:
    """One inference on random inputs."""
    chance = torch.Generator().manual_seed(seed)
    example = data_points_of(model, [value for _, value in model.example()], data_points)
    with exact_inference():
        live = list(model.bottom(cut).run([torch.randn(value.shape, generator=chance) for value in example]))
    return Run(cut, data_points, value_bytes(live), top_of(model, cut, value_bytes(live)))


def top_of(model: ResidentModel, cut: int, activation: bytes) -> list[torch.Tensor]:
    """What a model's top gives for an activation."""
    with exact_inference():
        return list(model.top(cut).run(values_from(activation)))


@dataclass(frozen=True)
class Made:
    """A signed receipt and what its digests name."""

    signed: SignedReceipt
    evidence: Evidence


class Network:
    """Rules of J APs, each with a gateway and some devices, and the power to sign as anybody."""

    def __init__(self, model: ResidentModel, registry: Registry, share_millionths: int, aps: int) -> None:
        self.graph, self.weights = model_key(model)
        devices = aps * DEVICES_OF_AP
        self.keys = {
            (role, number): _key(role, number)
            for role, count in (("controller", 1), ("gateway", aps), ("ap", aps), ("device", devices))
            for number in range(count)
        }
        flops = registry.models[0].top(0, MOST_DATA_POINTS)
        genesis = Genesis(
            version=VERSION,
            controller=self._members("controller")[0],
            gateways=self._members("gateway"),
            aps=self._members("ap"),
            devices=self._members("device"),
            gateway_of=tuple(device // DEVICES_OF_AP for device in range(devices)),
            ap_of=tuple(range(aps)),
            most_data_points=(MOST_DATA_POINTS,) * devices,
            models=(0,) * devices,
            mining=Mining(
                alpha_micro=2_000_000,
                beta_micro=0,
                hashes=4,
                reputation="linear",
                reference_flops=flops * DEVICES_OF_AP,
                most_micro=2_000_000,
            ),
            registry=registry.digest(),
            started_ms=STARTED_MS,
            audit=Audit(share_millionths, TOLERANCE_MICRO, SUSPENDED_SLOTS),
        )
        self.rules = Rules(genesis, registry)

    def _members(self, role: str) -> tuple[Member, ...]:
        return tuple(
            Member(f"{kind}-{number}", public_bytes(key)) for (kind, number), key in self.keys.items() if kind == role
        )

    def twins(self, ap: int) -> range:
        """Devices of an AP."""
        return range(ap * DEVICES_OF_AP, (ap + 1) * DEVICES_OF_AP)

    def made(
        self, slot: int, twin: int, run: Run, result: bytes | None = None, data_points: int | None = None
    ) -> Made:
        """A receipt of this run, or of whatever is claimed about it, signed by device, AP and gateway."""
        ap = twin // DEVICES_OF_AP
        given = value_bytes(run.leaves) if result is None else result
        arrival = Arrival(slot, twin, data_points or run.data_points, value_digest(f"{slot} {twin}".encode()))
        receipt = Receipt(
            arrival, ap, ap, self.graph, self.weights, run.cut, value_digest(run.activation), value_digest(given)
        )
        device = sign_arrival(self.rules, self.keys["device", twin], arrival)
        by_ap = sign_as_ap(self.rules, self.keys["ap", ap], receipt, device)
        signed = countersign(self.rules, self.keys["gateway", ap], receipt, device, by_ap)
        return Made(signed, Evidence(run.activation, given))

    def plan(self, slot: int, made: Sequence[Made]) -> SignedPlan:
        """The controller's, of the cuts at which these inferences were run."""
        genesis, cuts = self.rules.genesis, {one.signed.key: one.signed.receipt.cut for one in made}
        planned = tuple(cuts.get((slot, twin), 0) for twin in range(len(genesis.devices)))
        plan = CutPlan(slot, planned, (0,) * len(genesis.gateways), (MILLION,) * len(genesis.aps))
        return sign_plan(self.rules, self.keys["controller", 0], plan)

    def mined(self, header: Header, body: Body) -> Block:
        """With real proof of work, at few hashes."""
        seal, target = seal_of(self.rules, header), int.from_bytes(header.target)
        number = 0
        while not meets(work_hash(seal, number.to_bytes(NONCE_BYTES)), target):
            number += 1
        return sign_block(self.rules, self.keys["ap", header.miner], header, number.to_bytes(NONCE_BYTES), body)


def _key(role: str, number: int) -> Ed25519PrivateKey:
    seed = random.Random(f"{role} {number}").randbytes(32)
    return Ed25519PrivateKey.from_private_bytes(seed)


@dataclass
class Outcome:
    """What all auditors together did about one receipt."""

    audits: int = 0
    frauds: list[FraudProof] = field(default_factory=list)
    voids: list[Void] = field(default_factory=list)


class Watch:
    """One auditor in each AP; messages between them arrive at once."""

    def __init__(self, network: Network, reexecutor: Reexecutor, seed: int) -> None:
        self.network = network
        self.reexecutor = reexecutor
        self.auditors = [
            Auditor(network.rules, ap, network.keys["ap", ap], random.Random(f"{seed} {ap}"))
            for ap in range(len(network.rules.genesis.aps))
        ]

    def see(self, made: Made, gives: bool = True) -> Outcome:
        """A receipt is shown to everybody.

        Args:
            gives: whether gateway and AP give the activation.
        """
        signed, outcome = made.signed, Outcome()
        waiting: list[tuple[Auditor, Instruction]] = []
        for auditor in self.auditors:
            auditor.advance(signed.receipt.arrival.slot, 0.0)
            waiting += [(auditor, instruction) for instruction in auditor.receipt_seen(signed, 0.0)]
        while waiting:
            auditor, instruction = waiting.pop(0)
            match instruction:
                case Ask():
                    more = auditor.activation_arrived(signed) if gives else auditor.refused(signed)
                    waiting += [(auditor, next_one) for next_one in more]
                case Examine():
                    outcome.audits += 1
                    deviation = examine(signed, made.evidence, self.reexecutor.run)
                    waiting += [(auditor, next_one) for next_one in auditor.examined(signed, deviation)]
                case PublishVote(_, vote):
                    for other in self.auditors:
                        if other is not auditor and other.number != signed.receipt.ap:
                            waiting += [(other, next_one) for next_one in other.vote_arrived(signed, vote, 0.0)]
                case PublishFraud(fraud):
                    outcome.frauds.append(fraud)
                case PublishVoid(void):
                    outcome.voids.append(void)
        return outcome

    def accepts(self, made: Made, fraud: FraudProof) -> bool:
        """Whether another AP, which runs it again, agrees."""
        return judge(self.network.rules, fraud.signed, made.evidence, self.reexecutor.run)


def changed(receipt: SignedReceipt, **changes: object) -> SignedReceipt:
    """With other fields in the arrival, and the old signatures."""
    arrival = msgspec.structs.replace(receipt.receipt.arrival, **changes)
    return msgspec.structs.replace(receipt, receipt=msgspec.structs.replace(receipt.receipt, arrival=arrival))

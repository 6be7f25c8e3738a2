"""An AP of a run: a lane at its own speed for each of its gateways, signed results, and a node that mines.

A gateway's tops run one after the other on the thread of its connection, at speed x rho of one core.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.auditing import Reexecutor, model_key
from splitnet.consensus.canonical import decode
from splitnet.consensus.genesis import MILLION, Rules
from splitnet.consensus.node import Node
from splitnet.consensus.plan import MOST_PLAN_BYTES, CutPlan, SignedPlan, validate_plan
from splitnet.consensus.receipt import (
    MOST_RECEIPT_BYTES,
    Arrival,
    Receipt,
    SignedReceipt,
    sign_as_ap,
    value_digest,
)
from splitnet.consensus.values import value_bytes, values_from
from splitnet.errors import ProtocolError, WorkerError
from splitnet.inference import clone_tensors, exact_inference
from splitnet.machines.halves import Halves, example_batch
from splitnet.machines.keepers import Keepers
from splitnet.machines.messages import (
    Arrived,
    AwaitBlock,
    Block,
    Calibrate,
    Calibrated,
    Countersigned,
    CutCost,
    Done,
    Follow,
    Greet,
    Join,
    Measure,
    Message,
    Mine,
    Results,
    Upload,
)
from splitnet.machines.service import Answer
from splitnet.resident import ResidentModel
from splitnet.runtime.address import Address
from splitnet.runtime.connection import Received
from splitnet.runtime.paced import PacedHalf
from splitnet.runtime.speed import Actuator, Pause, Use
from splitnet.wire.decoding import decode_values
from splitnet.wire.encoding import encode_values
from splitnet.wire.frames import ALIGNMENT

MAX_UPLOAD_BYTES = 1 << 30
RESULTS_KEPT = 4096
"""Until their receipts come back countersigned."""
CALIBRATION = "calibration"
"""The lane in which tops are run before the first slot."""
_CPU = torch.device("cpu")


class Ap:
    """One AP."""

    def __init__(
        self,
        rules: Rules,
        number: int,
        key: Ed25519PrivateKey,
        models: Sequence[ResidentModel],
        cuts: Sequence[Sequence[int]],
        actuator: Actuator,
        speed: float,
        hash_rate: float,
        node: Node,
        keepers: Keepers,
        reexecutor: Reexecutor,
    ) -> None:
        """
        Args:
            models, cuts: of each DT of the run.
            speed: fraction of one core at f^max.
            hash_rate: hashes/s at f^max.
            keepers: this AP's gateways, which keep activations.
        """
        self._rules, self._number, self._key, self._models = rules, number, key, models
        self._actuator, self._speed, self._hash_rate = actuator, speed, hash_rate
        self._node, self._keepers, self._reexecutor = node, keepers, reexecutor
        self._cuts = cuts
        self._halves = Halves(models, lambda model, cut: PacedHalf(model.top(cut)))
        self._plan: SignedPlan | None = None
        self._results: OrderedDict[bytes, bytes] = OrderedDict()
        self._rates: dict[int, float] = {}

    def handle(self, greet: Greet, received: Received[Message]) -> Answer:
        """Answer a gateway or the coordinator."""
        match received.message:
            case Measure():
                return Answer(Arrived(received.at_ns))
            case Calibrate():
                with torch.inference_mode(), exact_inference():
                    return Answer(Calibrated(self._costs()))
            case Follow(plan):
                return self._follow(decode(plan, SignedPlan, MOST_PLAN_BYTES))
            case Upload() as upload:
                with torch.inference_mode(), exact_inference():
                    return self._infer(self._gateway(greet), upload, received)
            case Join(addresses, gateways):
                for address in addresses:
                    self._node.dial(Address.parse(address))
                self._keepers.connect(gateways)
                return Answer(Done())
            case Countersigned(receipts):
                self._gateway(greet)
                for receipt in receipts:
                    signed = decode(receipt, SignedReceipt, MOST_RECEIPT_BYTES)
                    self._node.submit(signed, self._results.get(signed.receipt.result, b""))
                return Answer(Done())
            case Mine(slot):
                own = self._plan_of(slot)
                hash_rate = self._hash_rate * own.plan.mining_shares[self._number] / MILLION
                self._rates[slot] = hash_rate
                if hash_rate > 0:
                    self._node.mine(slot, own, hash_rate)
                return Answer(Done())
            case AwaitBlock(slot, deadline_s):
                return Answer(self._block(slot, deadline_s))
            case other:
                raise ProtocolError(f"an AP does not know {type(other).__name__}")

    def _gateway(self, greet: Greet) -> int:
        gateway = greet.gateway
        ap_of = self._rules.genesis.ap_of
        if gateway is None or not 0 <= gateway < len(ap_of) or ap_of[gateway] != self._number:
            raise ProtocolError(f"gateway {gateway} is not on AP {self._number}")
        return gateway

    def _plan_of(self, slot: int) -> SignedPlan:
        if self._plan is None or self._plan.plan.slot != slot:
            raise WorkerError(f"there is no plan for slot {slot}")
        return self._plan

    def _follow(self, signed: SignedPlan) -> Answer:
        """Each gateway's lane gets its share of this AP's speed (C2). Raises PlanError for a plan of another's."""
        validate_plan(self._rules, signed)
        plan = signed.plan
        for gateway, ap in enumerate(self._rules.genesis.ap_of):
            if ap == self._number and plan.shares[gateway]:
                self._actuator.set(f"gateway {gateway}", self._speed * plan.shares[gateway] / MILLION)
        self._plan = signed
        return Answer(Done())

    def _costs(self) -> list[CutCost]:
        genesis = self._rules.genesis
        own = [twin for twin, gateway in enumerate(genesis.gateway_of) if genesis.ap_of[gateway] == self._number]
        self._actuator.set(CALIBRATION, self._speed)

        def values(twin: int, cut: int) -> list[Any]:
            live: list[Any] = clone_tensors(
                list(self._models[twin].bottom(cut).run(example_batch(self._models[twin])))
            )
            return live

        costs = self._halves.costs(own, self._cuts, values, self._actuator, CALIBRATION)
        self._actuator.release(CALIBRATION)
        return costs

    def _infer(self, gateway: int, upload: Upload, received: Received[Message]) -> Answer:
        plan = self._plan_of(upload.slot).plan
        live = self._decoded(upload, received.body)
        kept = [value_bytes(one) for one in live]  # before the tops, which may change their input
        leaves, use = self._tops(gateway, upload, live, plan)
        computed_ns = time.monotonic_ns()
        results = [value_bytes(one) for one in leaves]
        signatures = [
            self._sign(gateway, upload.slot, one, plan, activation, result)
            for one, activation, result in zip(upload.activations, kept, results, strict=True)
        ]
        encoded = encode_values([leaf for one in leaves for leaf in one])
        places = iter(encoded.specs)
        message = Results(
            received.at_ns,
            computed_ns,
            [value_digest(one) for one in kept],
            [value_digest(one) for one in results],
            signatures,
            [[next(places) for _ in one] for one in leaves],
            use,
        )
        return Answer(message, encoded.buffers)

    def _decoded(self, upload: Upload, body: torch.Tensor) -> list[list[Any]]:
        """The live values of each DT, which lie one after the other in the body, each at a multiple of 64."""
        live, start = [], 0
        for one in upload.activations:
            end = start + one.body_bytes
            if not 0 <= one.body_bytes <= len(body) - start:
                raise ProtocolError(
                    f"device {one.twin} claims {one.body_bytes} bytes of activation, not all are there"
                )
            live.append(decode_values(one.values, body[start:end], _CPU, max_bytes=MAX_UPLOAD_BYTES))
            start = end + -end % ALIGNMENT
        return live

    def _tops(
        self, gateway: int, upload: Upload, live: Sequence[list[Any]], plan: CutPlan
    ) -> tuple[list[list[Any]], Use]:
        for one in upload.activations:
            if not 0 <= one.twin < len(self._models):
                raise ProtocolError(f"there is no device {one.twin}")
        tops = [self._halves.of(one.twin, plan.cuts[one.twin]) for one in upload.activations]

        def work(pause: Pause) -> list[list[Any]]:
            return [list(top.run(values, pause)) for top, values in zip(tops, live, strict=True)]

        return self._actuator.run(f"gateway {gateway}", work)

    def _sign(self, gateway: int, slot: int, one: Any, plan: CutPlan, activation: bytes, result: bytes) -> bytes:
        graph, weights = model_key(self._models[one.twin])
        receipt = Receipt(
            Arrival(slot, one.twin, one.data_points, one.batch),
            gateway,
            self._number,
            graph,
            weights,
            plan.cuts[one.twin],
            value_digest(activation),
            value_digest(result),
        )
        self._reexecutor.check_activation(receipt, values_from(activation))
        self._results[receipt.result] = result
        while len(self._results) > RESULTS_KEPT:
            self._results.popitem(last=False)
        return sign_as_ap(self._rules, self._key, receipt, one.device_signature)

    def _block(self, slot: int, deadline_s: float) -> Block:
        head = self._node.wait_slot(slot, deadline_s)
        if head is None:
            raise WorkerError(f"slot {slot} has no block after {deadline_s:g} s; is mining too hard here?")
        effort = self._node.effort(slot)
        status = self._node.status()
        return Block(
            slot=head.header.slot,
            height=head.height,
            hash=head.hash,
            miner=head.header.miner,
            reputation_micro=head.header.reputation_micro,
            difficulty=head.header.difficulty,
            receipts=sum(kind == "receipt" for kind, _ in head.records),
            hashes=effort.hashes if effort else 0,
            mining_s=effort.mining_s if effort else 0.0,
            hash_rate=self._rates.get(slot, 0.0),
            dropped=list(status.dropped),
        )

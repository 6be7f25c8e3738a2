"""A gateway of a run: it holds the digital twins, runs the bottoms at its speed, and countersigns what came of them.

All bottoms run first, then everything crosses the link as one upload, then the AP runs the tops in this gateway's
lane: the order of the analytical model (MODEL.md rows 1, 4, 6 and 7), so that each component can be told apart.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch.utils import _pytree as pytree

from splitnet.auditing import model_key
from splitnet.consensus.canonical import encode
from splitnet.consensus.genesis import Rules
from splitnet.consensus.plan import CutPlan, read_plan
from splitnet.consensus.receipt import Receipt, countersign, value_digest
from splitnet.consensus.values import value_bytes
from splitnet.errors import ProtocolError, WorkerError
from splitnet.inference import bitwise_equal, clone_tensors, exact_inference, max_abs_error
from splitnet.machines.halves import Halves, example_batch
from splitnet.machines.messages import (
    Activation,
    Activations,
    Arrived,
    Calibrate,
    Calibrated,
    Check,
    Checked,
    Countersigned,
    CutCost,
    Done,
    Follow,
    Greet,
    Infer,
    Inferred,
    Kept,
    Measure,
    Message,
    Observe,
    Observed,
    Results,
    State,
    TwinRun,
    Upload,
    Vary,
)
from splitnet.machines.service import Answer, Asker
from splitnet.machines.twins import DigitalTwin, TwinState
from splitnet.resident import ResidentModel
from splitnet.runtime.connection import Received
from splitnet.runtime.link_pace import Pace
from splitnet.runtime.paced import PacedHalf
from splitnet.runtime.rates import FASTEST_BPS, RateTrace
from splitnet.runtime.speed import Actuator, Pause, Use
from splitnet.runtime.transfers import Transfer, TransferLog
from splitnet.wire.decoding import decode_values
from splitnet.wire.encoding import Encoded, encode_values
from splitnet.wire.frames import ALIGNMENT, allocate_body

LANE = "bottoms"
PROBE_S = 0.02
"""How long a link is measured for: short beside a slot, long beside the time in which a sleeper wakes up."""
LEAST_PROBE_BYTES = 4096
PROBES = 2
ACTIVATIONS_KEPT_BYTES = 1 << 28
"""For audits; the oldest go first."""
MAX_STATE_BYTES = 1 << 28
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class _Ran:
    """One DT's bottom."""

    state: TwinState
    cut: int
    live: tuple[Any, ...]
    is_whole: bool
    """Nothing is left for the AP: what lives is the result, and there is no receipt for work that nobody did."""
    age_s: float


class Gateway:
    """One gateway and its link to its AP."""

    def __init__(
        self,
        rules: Rules,
        number: int,
        key: Ed25519PrivateKey,
        models: Sequence[ResidentModel],
        cuts: Sequence[Sequence[int]],
        codecs: Sequence[str],
        actuator: Actuator,
        ap: Asker,
        paced: bool,
    ) -> None:
        """
        Args:
            models, cuts, codecs: of each DT of the run; only those of this gateway's are used.
            actuator: with this machine's speed set for `LANE`.
            ap: the connection to its AP.
            paced: it is this machine that keeps the link's rate; else the kernel does.
        """
        self._rules, self._number, self._key = rules, number, key
        self._models, self._codecs, self._actuator, self._ap = models, codecs, actuator, ap
        self._pace = Pace(FASTEST_BPS) if paced else None
        ap.connection.pace = self._pace
        ap.connection.transfers = TransferLog()
        own = [twin for twin, gateway in enumerate(rules.genesis.gateway_of) if gateway == number]
        self._twins = {twin: DigitalTwin(rules, twin) for twin in own}
        self._cuts = cuts
        self._halves = Halves(models, lambda model, cut: PacedHalf(model.bottom(cut)))
        self._plan: CutPlan | None = None
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._results: list[tuple[_Ran, list[Any]]] = []
        self._turn = threading.Lock()

    def handle(self, greet: Greet, received: Received[Message]) -> Answer:
        """Answer a device, the coordinator, or the AP."""
        match received.message:
            case State() as state:
                with self._turn:
                    return self._update(state, received)
            case Calibrate():
                with self._turn, torch.inference_mode(), exact_inference():
                    return Answer(Calibrated(self._costs()))
            case Vary(starts_s, rates_bps):
                if self._pace is not None:
                    self._pace.set(RateTrace(tuple(starts_s), tuple(rates_bps)))
                return Answer(Done())
            case Observe(rate_bps, hold):
                with self._turn:
                    return Answer(Observed(self._observe(rate_bps, hold)))
            case Follow(plan):
                self._plan = read_plan(self._rules, plan)
                return Answer(Done())
            case Infer(slot):
                with self._turn, torch.inference_mode(), exact_inference():
                    return Answer(self._infer(slot))
            case Check():
                with self._turn, torch.inference_mode(), exact_inference():
                    return Answer(self._check())
            case Activations(digest):
                kept = self._kept.get(digest)
                return Answer(Kept(kept is not None), [kept] if kept else [])
            case other:
                raise ProtocolError(f"a gateway does not know {type(other).__name__}")

    def _update(self, state: State, received: Received[Message]) -> Answer:
        if state.twin not in self._twins:
            raise ProtocolError(f"device {state.twin} is not on gateway {self._number}")
        values = decode_values(state.values, received.body, _CPU, max_bytes=MAX_STATE_BYTES)
        if len(values) != 1 or not isinstance(values[0], torch.Tensor):
            raise ProtocolError(f"device {state.twin} sends {len(values)} values, not one tensor")
        batch = values[0].clone()
        self._twins[state.twin].update(state.slot, state.data_points, batch, state.measured_ns, state.signature)
        return Answer(Done())

    def _costs(self) -> list[CutCost]:
        def values(twin: int, cut: int) -> list[Any]:
            return example_batch(self._models[twin])

        return self._halves.costs(list(self._twins), self._cuts, values, self._actuator, LANE)

    def _observe(self, rate_bps: float, hold: bool) -> Transfer:
        """Set the rate if it is to hold, then send bytes for a moment and have the AP say when they were there.

        The faster of two: a receiver that was late to wake says something of itself and not of the link.
        """
        if self._pace is not None and hold:
            self._pace.set(rate_bps)
        size = max(LEAST_PROBE_BYTES, int(rate_bps / 8 * PROBE_S))
        probes = [self._arrived(self._ap.ask(Measure(), Arrived, [bytes(size)]).at_ns) for _ in range(PROBES)]
        return max(probes, key=lambda probe: probe.achieved_bps)

    def _arrived(self, at_ns: int) -> Transfer:
        """What was sent last was at the AP then, on the clock that both share."""
        log = self._ap.connection.transfers
        assert log is not None
        log.received(at_ns, self._pace)
        return log.take()[-1]

    # --- a slot

    def _infer(self, slot: int) -> Inferred:
        plan = self._plan
        if plan is None or plan.slot != slot:
            raise WorkerError(f"there is no plan for slot {slot}")
        states = [state for twin in self._twins.values() if (state := twin.state(slot)) is not None]
        started_ns = time.monotonic_ns()
        ran, bottom = self._bottoms(states, plan, started_ns)
        bottoms_ns = time.monotonic_ns()
        twins = [TwinRun(one.state.arrival.twin, one.state.arrival.data_points, one.cut, one.age_s) for one in ran]
        self._results = [(one, list(one.live)) for one in ran if one.is_whole]
        crossing = [one for one in ran if not one.is_whole]
        if not crossing:
            return Inferred(twins, started_ns, *(bottoms_ns,) * 5, transfer=None, bottom=bottom, top=None)
        sent_ns = time.monotonic_ns()
        results, transfer = self._upload(slot, crossing)
        self._sign(crossing, results)
        return Inferred(
            twins,
            started_ns,
            bottoms_ns,
            sent_ns,
            results.received_ns,
            results.computed_ns,
            time.monotonic_ns(),
            transfer,
            bottom,
            results.use,
        )

    def _bottoms(self, states: Sequence[TwinState], plan: CutPlan, started_ns: int) -> tuple[list[_Ran], Use | None]:
        if not states:
            return [], None

        def work(pause: Pause) -> list[_Ran]:
            ran = []
            for state in states:
                twin = state.arrival.twin
                cut = plan.cuts[twin]
                live = self._halves.of(twin, cut).run([state.batch], pause)
                whole = cut == self._models[twin].graph.last_cut
                ran.append(_Ran(state, cut, live, whole, state.age_s(started_ns)))
            return ran

        return self._actuator.run(LANE, work)

    def _upload(self, slot: int, ran: Sequence[_Ran]) -> tuple[Results, Transfer]:
        encoded = [encode_values(one.live, self._codecs[one.state.arrival.twin]) for one in ran]
        activations = [
            Activation(
                one.state.arrival.twin,
                one.state.arrival.data_points,
                one.state.arrival.batch,
                one.state.signature,
                sum(map(len, values.buffers)),
                values.specs,
            )
            for one, values in zip(ran, encoded, strict=True)
        ]
        buffers: list[bytes | memoryview] = []
        for activation, values in zip(activations, encoded, strict=True):
            buffers += [*values.buffers, bytes(-activation.body_bytes % ALIGNMENT)]
        results, received = self._ap.ask_whole(Upload(slot, activations), Results, buffers)
        transfer = self._arrived(results.received_ns)
        if {len(results.values), len(results.ap_signatures)} != {len(ran)}:
            raise ProtocolError(f"{len(results.values)} results came for {len(ran)} activations")
        specs = [spec for values in results.values for spec in values]
        leaves = iter(clone_tensors(decode_values(specs, received.body, _CPU, max_bytes=MAX_STATE_BYTES)))
        for one, own in zip(ran, results.values, strict=True):
            self._results.append((one, [next(leaves) for _ in own]))
        return results, transfer

    def _sign(self, ran: Sequence[_Ran], results: Results) -> None:
        """Check what the AP signed against what was sent and received here, and countersign it."""
        receipts = []
        crossed = [(one, leaves) for one, leaves in self._results if not one.is_whole]
        for (one, leaves), ap_signature in zip(crossed, results.ap_signatures, strict=True):
            model = self._models[one.state.arrival.twin]
            sent = value_bytes(_decoded(encode_values(one.live, self._codecs[one.state.arrival.twin])))
            self._keep(sent)
            graph, weights = model_key(model)
            receipt = Receipt(
                one.state.arrival,
                self._number,
                self._rules.genesis.ap_of[self._number],
                graph,
                weights,
                one.cut,
                value_digest(sent),
                value_digest(value_bytes(leaves)),
            )
            receipts.append(encode(countersign(self._rules, self._key, receipt, one.state.signature, ap_signature)))
        self._ap.connection.pace = None  # receipts are some hundred bytes, and no part of the upload
        try:
            self._ap.ask(Countersigned(receipts), Done)
        finally:
            self._ap.connection.pace = self._pace
            assert self._ap.connection.transfers is not None
            self._ap.connection.transfers.take()

    def _keep(self, activation: bytes) -> None:
        self._kept[value_digest(activation)] = activation
        while sum(map(len, self._kept.values())) > ACTIVATIONS_KEPT_BYTES:
            self._kept.popitem(last=False)

    def _check(self) -> Checked:
        """Run the unsplit models on the last slot's batches, unpaced, and compare."""
        equal, error = 0, 0.0
        for one, leaves in self._results:
            module = self._models[one.state.arrival.twin].module
            reference = pytree.tree_leaves(module(one.state.batch))
            if bitwise_equal(leaves, reference):
                equal += 1
            else:
                error = max(error, max_abs_error(leaves, reference))
        return Checked(len(self._results), equal, error)


def _decoded(encoded: Encoded) -> list[Any]:
    """As the AP decodes it."""
    body = allocate_body(sum(map(len, encoded.buffers)))
    filled = 0
    for buffer in encoded.buffers:
        body.numpy().data[filled : filled + len(buffer)] = buffer
        filled += len(buffer)
    return decode_values(encoded.specs, body, _CPU, max_bytes=MAX_STATE_BYTES)

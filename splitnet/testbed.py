"""The whole system on real processes, slot after slot.

A slot: the devices bring their twins up to date and the links are measured (observe); the policy decides; the signed
plan goes to gateways and APs; bottoms run, activations travel, tops run; results and receipts are signed and
exchanged; the APs mine and one wins; what was measured comes back and the queues move on.

Decides the order of things and what is measured of them. Machines and how they are asked are in `machines/`, links in
`runtime/links.py`, the policy in `controller/`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from splitnet.consensus.canonical import encode
from splitnet.consensus.genesis import MILLION, Rules
from splitnet.consensus.plan import CutPlan, sign_plan
from splitnet.controller.policy import Policy, State
from splitnet.controller.slot import Network, Observation, SlotPlan
from splitnet.emulation import Emulation
from splitnet.errors import WorkerError
from splitnet.machines.assignment import Assignment
from splitnet.machines.crew import Crew
from splitnet.machines.messages import (
    Arrive,
    AwaitBlock,
    Block,
    Calibrate,
    Calibrated,
    Check,
    Checked,
    Done,
    Follow,
    Infer,
    Inferred,
    Mine,
    Observe,
    Observed,
    Vary,
)
from splitnet.prediction import predicted_times, slot_energy
from splitnet.runtime.connection import ANSWER_DEADLINE_S
from splitnet.runtime.core_plan import CorePlan
from splitnet.runtime.links import Links
from splitnet.runtime.meters import SpanMeters
from splitnet.runtime.rates import RateTrace
from splitnet.runtime.speed import LEAST_FRACTION
from splitnet.runtime.transfers import Transfer
from splitnet.slot_record import Mined, Reading, SlotRecord, SlotTimes, Twin
from splitnet.slowness import Slowness, slowness_of

BLOCK_DEADLINE_FACTOR, BLOCK_DEADLINE_S = 60.0, 30.0
"""A block that takes that many times longer than expected has a defect, not bad luck: e^-60."""
AGREE_EVERY_S, AGREE_DEADLINE_S = 0.02, 30.0
"""For APs that won a slot at the same time, and hear of the other's block."""

Step = Callable[[str], None]


class Testbed:
    """Running machines that play slots; a context manager that ends them all."""

    def __init__(
        self,
        emulation: Emulation,
        rules: Rules,
        controller_key: Ed25519PrivateKey,
        assignment: Assignment,
        assignment_path: Path,
        links: Links,
        cores: CorePlan,
    ) -> None:
        """Nothing runs before it is entered.

        Args:
            links: not started; ended with the testbed.
            cores: on which the machines `gateway 0`, …, `AP 0`, … run.
        """
        self._emulation, self._rules, self._key = emulation, rules, controller_key
        assignment.write(assignment_path)
        self._links, self._crew = links, Crew(rules.genesis, assignment_path, links, cores)
        self._stack = contextlib.ExitStack()
        self._slowness = Slowness(np.ones(len(rules.genesis.gateways)), np.ones(len(rules.genesis.aps)))
        self._meters = SpanMeters.of_host()
        self._trace: RateTrace | None = None
        self._trace_from_s = 0.0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._links)
            stack.enter_context(self._crew)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def calibrate(self) -> Emulation:
        """Run every cut on all machines at once, so that the controller knows how slow each is in this company."""
        machines = [*self._crew.gateways, *self._crew.aps]
        costs = [answer.costs for answer in self._crew.ask_all(machines, Calibrate(), Calibrated)]
        genesis = self._rules.genesis
        self._slowness = slowness_of(costs, len(genesis.gateways), self._emulation, len(genesis.devices))
        return self._slowness.applied(self._emulation)

    def _informed(self, policy: Policy) -> Policy:
        """The policy with what is known of the machines now; consensus stays as it has it."""
        network = replace(policy.setting.network, tables=self._network().tables)
        return replace(policy, setting=replace(policy.setting, network=network))

    def _network(self) -> Network:
        return self._slowness.applied(self._emulation).network

    def follow_trace(self, trace: RateTrace) -> None:
        """From now on every link's rate follows this trace, whatever the world's channel is."""
        self._crew.ask_all(self._crew.gateways, Vary(list(trace.starts_s), list(trace.rates_bps)), Done)
        for number in range(len(self._crew.gateways)):
            self._links.set_rate(number, trace)
        self._trace, self._trace_from_s = trace, time.monotonic()

    # --- a slot

    def play(
        self, slot: int, policy: Policy, state: State, world: Observation, tell: Step
    ) -> tuple[State, SlotRecord]:
        """One slot, from what arrives to the queues' next state.

        Args:
            world: what this slot brings; the links' rates are what is asked of them.
            tell: is told what goes on.

        Raises:
            WorkerError: a machine is gone, cannot do its part, or no block came.
        """
        started_s = time.monotonic()
        self._meters.start()
        tell("observe")
        observation, asked_bps = self._observe(slot, world)
        tell("decide")
        decided, decision = self._informed(policy).step(state, observation)
        plan = decision.plan
        cut_plan = self._cut_plan(slot, plan)
        tell("infer")
        self._follow(cut_plan)
        inferred = self._crew.ask_all(self._crew.gateways, Infer(slot), Inferred)
        tell("mine")
        blocks = self._mine(slot, plan)
        slot_s, used_j = time.monotonic() - started_s, self._meters.used_j()
        tell("check")
        checked = self._crew.ask_all(self._crew.gateways, Check(), Checked)
        record = SlotRecord(
            slot=slot,
            twins=_twins(world, cut_plan, inferred),
            asked_bps=asked_bps,
            rate_bps=observation.rate_bps.tolist(),
            plan=describe(cut_plan),
            predicted=predicted_times(self._network(), observation, plan),
            measured=_measured(inferred, _block_s(blocks)),
            exchange_s=max(one.signed_ns for one in inferred) * 1e-9
            - max(one.computed_ns for one in inferred) * 1e-9,
            slot_s=slot_s,
            results=sum(one.results for one in checked),
            equal=sum(one.equal for one in checked),
            max_error=max(one.max_error for one in checked),
            uploads=self._recorded([one.transfer for one in inferred]),
            bottoms=[one.bottom for one in inferred],
            tops=[one.top for one in inferred],
            mined=[_mined(block) for block in blocks],
            energy=slot_energy(self._network(), observation, plan, _block_s(blocks), self._readings(used_j)),
            reputation=plan.reputation.tolist(),
            queue=decided.queues.backlog.tolist(),
            infeasible=decision.infeasible,
            state=decided.as_dict(),
            dropped=sorted({dropped for block in blocks for dropped in block.dropped}),
            slowness=[*self._slowness.gateways.tolist(), *self._slowness.aps.tolist()],
        )
        self._slowness = self._slowness.after(record.predicted, record.measured, self._rules.genesis.ap_of)
        return decided, record

    def rehearse(self, slot: int, world: Observation, plan: SlotPlan) -> tuple[SlotTimes, SlotTimes]:
        """The inferences of a slot by this plan, without a block: what was predicted, and what was measured.

        Nobody mines, so the measured block time is the predicted one.
        """
        observation, _ = self._observe(slot, world)
        self._follow(self._cut_plan(slot, plan))
        inferred = self._crew.ask_all(self._crew.gateways, Infer(slot), Inferred)
        predicted = predicted_times(self._network(), observation, plan)
        return predicted, _measured(inferred, predicted.block_s)

    def _observe(self, slot: int, world: Observation) -> tuple[Observation, list[float]]:
        """Devices bring their twins up to date; links take their rates and are measured.

        Returns:
            The world as it was measured, and the rates that were asked of the links.
        """
        self._crew.devices.ask(Arrive(slot, [int(points) for points in world.points]), Done)
        if self._trace is None:
            rates = world.rate_bps.tolist()
            for number, rate_bps in enumerate(rates):
                self._links.set_rate(number, rate_bps)
        else:
            rates = [self._trace.at(time.monotonic() - self._trace_from_s)] * len(self._crew.gateways)
        asked = [Observe(rate_bps, self._trace is None) for rate_bps in rates]
        observed = self._crew.ask_each(self._crew.gateways, asked, Observed)
        probes = self._recorded([one.transfer for one in observed])
        measured_bps = np.array([_rate_bps(probe) for probe in probes if probe is not None])
        return replace(world, rate_bps=measured_bps), rates

    def _readings(self, used_j: Mapping[str, float | None]) -> list[Reading]:
        return [Reading(device, meter, used_j[device]) for device, meter in self._meters.names.items()]

    def _recorded(self, transfers: Sequence[Transfer | None]) -> list[Transfer | None]:
        """[gateways] with what only the links know of each."""
        found: list[Transfer | None] = [None] * len(transfers)
        for number, transfer in enumerate(transfers):
            if transfer is not None:
                self._links.record(number, transfer)
        for number, transfer in self._links.transfers():
            found[number] = transfer
        return found

    def _cut_plan(self, slot: int, plan: SlotPlan) -> CutPlan:
        """The decision in the numbers that are signed; a lane that works gets the least share that can be played."""
        network, frequencies = self._emulation.network, plan.frequencies
        shares = frequencies.serving_hz / network.max_hz[network.ap_of]
        least = LEAST_FRACTION / self._emulation.ap_speed[network.ap_of]
        shares = np.where(shares > 0, np.maximum(shares, least), 0.0)
        total = np.bincount(network.ap_of, shares, len(network.max_hz))
        shares /= np.maximum(total, 1.0)[network.ap_of]
        return CutPlan(
            slot=slot,
            cuts=tuple(table.cuts[option] for table, option in zip(network.tables, plan.options, strict=True)),
            shares=tuple(int(share * MILLION) for share in shares),
            mining_shares=tuple(int(share * MILLION) for share in frequencies.mining_hz / network.max_hz),
        )

    def _follow(self, plan: CutPlan) -> None:
        """Cuts and frequencies are set on the controller's word."""
        message = Follow(encode(sign_plan(self._rules, self._key, plan)))
        self._crew.ask_all([*self._crew.aps, *self._crew.gateways], message, Done)

    def _mine(self, slot: int, plan: SlotPlan) -> list[Block]:
        """All APs mine until one has won; the block, as each AP tells it. Raises WorkerError."""
        self._crew.ask_all(self._crew.aps, Mine(slot), Done)
        deadline_s = BLOCK_DEADLINE_S + BLOCK_DEADLINE_FACTOR * plan.frequencies.block_s
        blocks = self._crew.ask_all(
            self._crew.aps, AwaitBlock(slot, deadline_s), Block, deadline_s=deadline_s + ANSWER_DEADLINE_S
        )
        agreed_by_s = time.monotonic() + AGREE_DEADLINE_S
        while len({block.hash for block in blocks}) > 1 and time.monotonic() < agreed_by_s:  # two won at once
            time.sleep(AGREE_EVERY_S)
            blocks = self._crew.ask_all(self._crew.aps, AwaitBlock(slot, deadline_s), Block)
        if len({block.hash for block in blocks}) > 1:
            raise WorkerError(
                f"the APs follow different chains {AGREE_DEADLINE_S:g} s after slot {slot}: are they cut off from "
                f"each other? Whom they dropped: {sorted({drop for block in blocks for drop in block.dropped})}"
            )
        return blocks


def _rate_bps(probe: Transfer) -> float:
    """Of what did not pass at once; a burst is part of a short message only."""
    slowed_bytes = probe.size_bytes - min(probe.burst_bytes, probe.size_bytes // 2)
    return slowed_bytes * 8e9 / max(1, probe.ended_ns - probe.started_ns)


def describe(plan: CutPlan) -> str:
    """A plan as one line: cuts by DT, shares by gateway and AP."""
    cuts = ",".join(map(str, plan.cuts))
    shares, mining = (
        ",".join(f"{share / MILLION:.2f}" for share in column) for column in (plan.shares, plan.mining_shares)
    )
    return f"l={cuts} rho={shares} bloc={mining}"


def _twins(world: Observation, plan: CutPlan, inferred: Sequence[Inferred]) -> list[Twin]:
    ages = {run.twin: run.age_s for one in inferred for run in one.twins}
    return [
        Twin(int(points), cut, ages.get(twin))
        for twin, (points, cut) in enumerate(zip(world.points, plan.cuts, strict=True))
    ]


def _measured(inferred: Sequence[Inferred], block_s: float) -> SlotTimes:
    """Instants are of the one monotonic clock that all processes of a host share."""
    return SlotTimes(
        gateway_s=[(one.bottoms_ns - one.started_ns) * 1e-9 for one in inferred],
        link_s=[(one.received_ns - one.sent_ns) * 1e-9 for one in inferred],
        ap_s=[(one.computed_ns - one.received_ns) * 1e-9 for one in inferred],
        barrier_s=(max(one.computed_ns for one in inferred) - min(one.started_ns for one in inferred)) * 1e-9,
        block_s=block_s,
    )


def _block_s(blocks: Sequence[Block]) -> float:
    """How long the AP that won had mined."""
    return next(block.mining_s for number, block in enumerate(blocks) if block.miner == number)


def _mined(block: Block) -> Mined:
    return Mined(
        height=block.height,
        hash=block.hash.hex(),
        miner=block.miner,
        receipts=block.receipts,
        hashes=block.hashes,
        mining_s=block.mining_s,
        asked_hash_rate=block.hash_rate,
    )

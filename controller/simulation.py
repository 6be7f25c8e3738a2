"""The slotted loop: a policy meets one observation after the other, and what came of it becomes numbers.

A trace keeps every slot; a summary is computed from it when it is read. Does not know where observations come from,
nor files: a caller that wants to stop and go on keeps traces and joins them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from splitnet.controller.policy import Decision, Policy, Setting, State
from splitnet.controller.slot import Matrix, Observation, Vector

BATCHES = 20
"""Of batch means, where one seed must do."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What a policy did and what came of it, slot by slot.

    Attributes:
        latency_s: [slots] tau (row 12).
        barrier_s: [slots] Theta (row 7).
        block_s: [slots] blocks/Lambda (row 11).
        hashes_per_block: [slots] expected: sum_j f_j^bloc / (c_h Lambda).
        solve_s: [slots] how long the decision took.
        reputation: [slots, APs] U_j, with the true g, also where consensus makes no use of it.
        queue: [slots, APs] Z_j^+ + Z_j^- after the slot.
        difficulty: [slots, APs] gamma_j.
        cuts: [slots, DTs] the cuts' numbers.
        infeasible: [slots] why no feasible plan existed; None where one did.
        state: after the last slot: where to go on.
    """

    latency_s: Vector
    barrier_s: Vector
    block_s: Vector
    hashes_per_block: Vector
    solve_s: Vector
    reputation: Matrix
    queue: Matrix
    difficulty: Matrix
    cuts: NDArray[np.int64]
    infeasible: tuple[str | None, ...]
    state: State

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """[slots]"""
        return np.array([reason is None for reason in self.infeasible], dtype=bool)

    @property
    def slots(self) -> int:
        return len(self.latency_s)

    @classmethod
    def join(cls, parts: Sequence[Trace]) -> Trace:
        """One trace of consecutive parts; the state is the last one's.

        Raises:
            ValueError: no part, or one that does not begin where the one before it ends.
        """
        if not parts:
            raise ValueError("no parts to join")
        for before, after in itertools.pairwise(parts):
            begin = after.state.slot - after.slots
            if begin != before.state.slot:
                raise ValueError(f"a part begins at slot {begin}, the one before it ends at {before.state.slot}")
        columns: dict[str, Any] = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(cls)
            if field.name not in ("infeasible", "state")
        }
        reasons = tuple(reason for part in parts for reason in part.infeasible)
        return cls(**columns, infeasible=reasons, state=parts[-1].state)


def simulate(
    policy: Policy,
    observations: Iterable[Observation],
    *,
    state: State | None = None,
    on_slot: Callable[[State, Decision], None] | None = None,
) -> Trace:
    """Runs a policy over observations, one slot each.

    Args:
        state: where an earlier trace ended; a fresh one otherwise.
        on_slot: called after every slot with the state it led to.
    """
    setting, network = policy.setting, policy.setting.network
    state = policy.init() if state is None else state
    numbers = np.array(
        [table.cuts + (0,) * (int(network.counts.max()) - len(table.cuts)) for table in network.tables]
    )
    twins = np.arange(len(network.tables))
    totals, reputation, queue, cuts, infeasible = [], [], [], [], []
    for observation in observations:
        state, decision = policy.step(state, observation)
        plan, frequencies = decision.plan, decision.plan.frequencies
        hashed = frequencies.mining_hz.sum() / (setting.hash_cycles * frequencies.block_rate)
        totals.append((plan.latency_s, frequencies.barrier_s, frequencies.block_s, hashed, decision.solve_s))
        reputation.append(plan.reputation)
        queue.append(state.queues.backlog)
        cuts.append(numbers[twins, plan.options])
        infeasible.append(decision.infeasible)
        if on_slot is not None:
            on_slot(state, decision)
    slots, aps = len(totals), len(network.max_hz)
    latency_s, barrier_s, block_s, hashes, solve_s = np.array(totals).reshape(slots, 5).T
    earned = np.array(reputation).reshape(slots, aps)
    return Trace(
        latency_s=latency_s,
        barrier_s=barrier_s,
        block_s=block_s,
        hashes_per_block=hashes,
        solve_s=solve_s,
        reputation=earned,
        queue=np.array(queue).reshape(slots, aps),
        difficulty=network.difficulty(earned),
        cuts=np.array(cuts, dtype=np.int64).reshape(slots, len(twins)),
        infeasible=tuple(infeasible),
        state=state,
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """A policy's long-run figures, in the names of `splitnet simulate --json`.

    Attributes:
        mean_latency_s: mean of tau over slots (and seeds).
        ci95: half width of its 95% confidence interval; None where one number cannot tell.
        mean_reputation: [APs] mean U_j.
        c6_violation: max_j max(mean U_j - U^max, U^min - mean U_j, 0) of a run; its mean over seeds.
        mean_queue: mean over slots of sum_j Z_j^+ + Z_j^-.
        mean_difficulty: mean of gamma_j over slots and APs.
        hashes_per_block: mean over slots.
        infeasible_slots: of all runs together.
    """

    mean_latency_s: float
    ci95: float | None
    mean_reputation: tuple[float, ...]
    c6_violation: float
    mean_queue: float
    mean_difficulty: float
    hashes_per_block: float
    infeasible_slots: int


def summary(trace: Trace, setting: Setting) -> Summary:
    """The figures of one run; its confidence interval is from batch means, as neighbouring slots are alike.

    Raises:
        ValueError: the trace holds no slot.
    """
    if not trace.slots:
        raise ValueError("a trace without slots has no mean")
    batches = np.array_split(trace.latency_s, min(BATCHES, trace.slots))
    reputation = trace.reputation.mean(axis=0)
    return Summary(
        mean_latency_s=float(trace.latency_s.mean()),
        ci95=half_width(np.array([batch.mean() for batch in batches])),
        mean_reputation=tuple(reputation.tolist()),
        c6_violation=max(0.0, float((reputation - setting.u_max).max()), float((setting.u_min - reputation).max())),
        mean_queue=float(trace.queue.sum(axis=1).mean()),
        mean_difficulty=float(trace.difficulty.mean()),
        hashes_per_block=float(trace.hashes_per_block.mean()),
        infeasible_slots=int((~trace.feasible).sum()),
    )


def combine(summaries: Sequence[Summary]) -> Summary:
    """Runs with different seeds as one: means over the seeds, and Student's t over them for the interval.

    A single run keeps its batch means.

    Raises:
        ValueError: nothing to combine.
    """
    if not summaries:
        raise ValueError("no summaries to combine")
    if len(summaries) == 1:
        return summaries[0]

    def mean(name: str) -> float:
        return float(np.mean([getattr(one, name) for one in summaries]))

    return Summary(
        mean_latency_s=mean("mean_latency_s"),
        ci95=half_width(np.array([one.mean_latency_s for one in summaries])),
        mean_reputation=tuple(np.mean([one.mean_reputation for one in summaries], axis=0).tolist()),
        c6_violation=mean("c6_violation"),
        mean_queue=mean("mean_queue"),
        mean_difficulty=mean("mean_difficulty"),
        hashes_per_block=mean("hashes_per_block"),
        infeasible_slots=sum(one.infeasible_slots for one in summaries),
    )


def half_width(values: Vector) -> float | None:
    """Half of the 95% confidence interval of the mean of independent values, by Student's t; None for one value."""
    if len(values) < 2:
        return None
    return float(stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values)))

"""A controller as a value: one slot's observation and a state go in, the next state and a decision come out.

DPRA and everything it is compared with are `Policy` values; they differ in their rule, which chooses the cuts, in the
network they live in, and in whether they heed the queues. The frequencies are always the best ones for those cuts
(MODEL.md section 2a). Knows neither where observations come from nor what becomes of decisions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from splitnet.controller.queues import Queues
from splitnet.controller.slot import Network, Observation, SlotPlan, SlotProblem, Solver, sums
from splitnet.errors import SettingsError

Options = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What a controller is asked to do, and in which network.

    Attributes:
        network: what does not change from slot to slot.
        u_min, u_max: the limits of C6 on each AP's mean reputation, in units of U.
        v: V, the weight of latency against the queues.
        hash_cycles: c_h, cycles for one hash; H_0 = cycles_per_block / hash_cycles (row 10).

    Raises:
        SettingsError: a number out of its range.
    """

    network: Network
    u_min: float
    u_max: float
    v: float
    hash_cycles: float

    def __post_init__(self) -> None:
        if not 0 <= self.u_min <= self.u_max < math.inf:
            raise SettingsError(
                f"u_min {self.u_min:g} and u_max {self.u_max:g} leave nothing between; 0 <= u_min <= u_max is needed"
            )
        for name in ("v", "hash_cycles"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise SettingsError(f"{name} {value:g} is out of range; it must be above 0 and finite")

    @property
    def hashes_alone(self) -> float:
        """H_0, expected hashes of a block at gamma = 1."""
        return self.network.cycles_per_block / self.hash_cycles


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What a controller remembers between slots.

    Attributes:
        slot: slots that are done.
        queues: the virtual queues; a policy that does not heed them keeps them all the same, for the report.
        last: the options of the last slot, where solvers start; None before the first.
    """

    slot: int
    queues: Queues
    last: Options | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON; floats survive it bit for bit."""
        return {
            "slot": self.slot,
            "plus": self.queues.plus.tolist(),
            "minus": self.queues.minus.tolist(),
            "last": None if self.last is None else list(self.last),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> State:
        queues = Queues(np.array(values["plus"], dtype=float), np.array(values["minus"], dtype=float))
        return cls(values["slot"], queues, None if values["last"] is None else tuple(values["last"]))


@dataclass(frozen=True, slots=True)
class Choice:
    """The cuts a rule has chosen, within C4, and why they are not the ones it stands for, if they are not."""

    options: Options
    infeasible: str | None = None


class Rule(Protocol):
    """Chooses the cuts of a slot. The problem it is given has a feasible plan."""

    def __call__(self, problem: SlotProblem, state: State) -> Choice: ...


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What is to be done in a slot.

    Attributes:
        plan: the cuts with their frequencies.
        infeasible: why there was no feasible plan, or none by the policy's rule; then the plan is its fallback.
        solve_s: how long the decision took.
    """

    plan: SlotPlan
    infeasible: str | None
    solve_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """An immutable controller: `init`, then `step` slot by slot.

    Attributes:
        name: as on the command line.
        setting: with the network that the policy lives in; one without reputation in consensus has its own.
        rule: chooses the cuts.
        heeds_queues: whether w_j comes from the queues; otherwise w_j = 0, and C6 is dropped.
        clock: seconds, monotonic.
    """

    name: str
    setting: Setting
    rule: Rule
    heeds_queues: bool = False
    clock: Callable[[], float] = time.perf_counter

    def init(self) -> State:
        return State(0, Queues.empty(len(self.setting.network.max_hz)))

    def step(self, state: State, observation: Observation) -> tuple[State, Decision]:
        """One slot.

        Where some gateway affords no cut at all, its budget counts as the least energy it needs: it takes its cuts of
        least energy, which is the least violation of C4, and the rule decides the rest. The decision says so, and the
        plan's `excess_j` by how much.

        Raises:
            ValueError: the observation does not fit the network, or holds numbers that cannot be.
        """
        started = self.clock()
        setting = self.setting
        weights = state.queues.weights if self.heeds_queues else np.zeros(len(setting.network.max_hz))
        problem = SlotProblem(setting.network, observation, weights, setting.v)
        unaffordable = None
        affordable = problem
        try:
            problem.check()
        except SettingsError as error:
            unaffordable = str(error)
            affordable = relaxed(problem)
        choice = self.rule(affordable, state)
        plan = problem.evaluate(choice.options)
        queues = state.queues.after(plan.reputation, setting.u_min, setting.u_max)
        decision = Decision(plan, unaffordable or choice.infeasible, self.clock() - started)
        return State(state.slot + 1, queues, plan.options), decision


def relaxed(problem: SlotProblem) -> SlotProblem:
    """The problem with every gateway's budget at least at its least need, so that some plan is feasible."""
    gateways = len(problem.network.ap_of)
    least_j = sums(problem.network.gateway_of, problem.used_j.min(axis=1), gateways)
    seen = problem.observation
    return replace(problem, observation=replace(seen, gateway_energy_j=np.maximum(seen.gateway_energy_j, least_j)))


@dataclass(frozen=True, slots=True)
class Solved:
    """The rule of DPRA: the cuts that a solver of P1 finds, started at the last slot's."""

    solver: Solver

    def __call__(self, problem: SlotProblem, state: State) -> Choice:
        return Choice(self.solver(problem, state.last).plan.options)

"""DPRA beside its baselines on real processes, and how good DPRA's cuts are against the measured best.

    .venv/bin/python -m benchmarks.policies_measured             some 20 minutes on an idle machine
    .venv/bin/python -m benchmarks.policies_measured --quick     some 4 minutes

*policies*: each plays the scenario `small` with real gateways, APs, links and mining, in the same worlds; policies
alternate in a random order within each seed. Latency is measured: from the first bottom to the last top, and until
the AP that won had found its block; the time that mining happened to take is random, so the same mean with the
expected block time of each plan stands beside it. Queues start empty, and so few slots leave C6 broken by Z(T)/T.

*regret*: of slots with DPRA's weights, the plan that DPRA takes and others that the model calls nearly as good are
played several times in turns, without mining. The best is found on one half of the rounds; both are judged on the
other: (objective of DPRA's plan - objective of the best) / (V tau), objective = V (Theta measured + expected block
time) + sum_j w_j U_j. Half the width of an interval by paired bootstrap says what could be told.

It does not know other hosts, nor scenarios whose machines need more cores than there are.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.command_line import keep, parser_of
from benchmarks.policies_measured_report import show
from splitnet.controller.policies import make_policy
from splitnet.controller.slot import SlotPlan, SlotProblem
from splitnet.profiling.machine import machine_fingerprint
from splitnet.running.folder import read_records
from splitnet.running.preparing import read_scenario
from splitnet.running.run import Stage, make_testbed, open_run, play_run, prepare_run
from splitnet.running.settings import RunSettings
from splitnet.terminal import Terminal

POLICIES = ("dpra", "wdpo", "wdpo-best", "wtcm", "wtcm-fair", "wtcm-fair-c6")
SCENARIO = "small"
NEAR = 0.25
"""Of V tau: how much worse a plan may be by the model to be tried against DPRA's."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """How much of what: slots and seeds of each policy; worlds, plans and rounds of the regret."""

    slots: int
    seeds: int
    worlds: int
    plans: int
    rounds: int


FULL, QUICK = Counts(50, 3, 10, 6, 6), Counts(5, 1, 2, 3, 4)


def policies(counts: Counts, step: Any) -> list[Row]:
    """Every slot of every policy."""
    scenario, order = read_scenario(SCENARIO), random.Random(0)
    rows: list[Row] = []
    total = len(POLICIES) * counts.seeds
    for seed in range(counts.seeds):
        for policy in order.sample(POLICIES, len(POLICIES)):
            step(len({(row["policy"], row["seed"]) for row in rows}), total, f"{policy}, seed {seed}")
            settings = RunSettings(policy, counts.slots, scenario.v, seed=seed)
            with tempfile.TemporaryDirectory() as parent:
                path = Path(parent, "run")
                with open_run(scenario, settings, path=path) as folder:
                    found = play_run(prepare_run(scenario, settings, folder), folder)
                    records = read_records(path)
            for record in records:
                rows.append(
                    {
                        "policy": policy,
                        "seed": seed,
                        "slot": record.slot,
                        "barrier_s": record.measured.barrier_s,
                        "block_s": record.measured.block_s,
                        "predicted_barrier_s": record.predicted.barrier_s,
                        "expected_block_s": record.predicted.block_s,
                        "reputation": record.reputation,
                        "hashes": sum(mined.hashes for mined in record.mined),
                        "expected_hashes": found.predicted_hashes_per_block,
                        "equal": record.equal == record.results,
                        "c6": [found.u_min, found.u_max],
                    }
                )
    return rows


def regret(counts: Counts, step: Any) -> list[Row]:
    """Plans of DPRA beside others that the model calls nearly as good, played in turns."""
    scenario, order = read_scenario(SCENARIO), random.Random(0)
    settings = RunSettings("dpra", 1, scenario.v)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as parent:
        path = Path(parent, "run")
        with open_run(scenario, settings, path=path) as folder:
            prepared = prepare_run(scenario, settings, folder)
            assert prepared.stage is not None
            stage: Stage = prepared.stage
            with make_testbed(settings, stage, path) as testbed:
                emulation = testbed.calibrate()
                policy = make_policy("dpra", emulation.setting())
                state, slots = policy.init(), itertools.count()
                for place, world in enumerate(emulation.scenario.world.observations(1, counts.worlds)):
                    problem = SlotProblem(emulation.network, world, state.queues.weights, scenario.v)
                    state, decision = policy.step(state, world)
                    plans = candidates(problem, decision.plan, counts.plans, order)
                    for turn in range(counts.rounds):
                        for number in order.sample(range(len(plans)), len(plans)):
                            step(place * counts.rounds + turn, counts.worlds * counts.rounds, "plans in turns")
                            measured = testbed.rehearse(next(slots), world, plans[number])[1]
                            rows.append(
                                {
                                    "world": place,
                                    "round": turn,
                                    "plan": number,
                                    "options": list(plans[number].options),
                                    "barrier_s": measured.barrier_s,
                                    "predicted_barrier_s": plans[number].frequencies.barrier_s,
                                    "objective": plans[number].objective
                                    + problem.v * (measured.barrier_s - plans[number].frequencies.barrier_s),
                                    "v_tau": problem.v * plans[number].latency_s,
                                }
                            )
    return rows


def candidates(problem: SlotProblem, taken: SlotPlan, count: int, order: random.Random) -> list[SlotPlan]:
    """DPRA's plan first, then others within `NEAR` of it by the model: the best, and some at random."""
    plans = [problem.evaluate(options) for options in itertools.product(*map(range, problem.network.counts))]
    near = taken.objective + NEAR * problem.v * taken.latency_s
    others = [plan for plan in plans if plan.feasible and plan.objective <= near and plan.options != taken.options]
    others.sort(key=lambda plan: plan.objective)
    best, rest = others[: count // 2], others[count // 2 :]
    return [taken, *best, *order.sample(rest, min(len(rest), count - 1 - len(best)))]


PARTS = {"policies": policies, "regret": regret}


def main() -> None:
    parser = parser_of(__doc__, "policies_measured", quick="a tenth of the slots", sections=PARTS)
    parser.add_argument("--slots", type=int, help="of each run")
    parser.add_argument("--seeds", type=int, help="worlds of each policy")
    options = parser.parse_args()
    counts = QUICK if options.quick else FULL
    counts = replace(counts, slots=options.slots or counts.slots, seeds=options.seeds or counts.seeds)
    found: dict[str, Any] = {"machine": machine_fingerprint()}
    terminal = Terminal()
    for name in options.only:
        with terminal.progress(name) as step:
            found[name] = PARTS[name](counts, step)
    keep(found, options.output)
    show(found)


if __name__ == "__main__":
    main()

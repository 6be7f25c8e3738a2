"""At how many hashes per block a consensus without reputation is as fast as DPRA, with C6 kept by both.

    .venv/bin/python -m benchmarks.break_even          some 15 minutes
    .venv/bin/python -m benchmarks.break_even --quick

The WTCM of equal hashes per block is handed DPRA's mean difficulty in every slot; DPRA's APs have to earn theirs.
*Replayed* are DPRA's own cuts at that constant difficulty, with frequencies that are best for it: as much as they
take is an upper bound of what the best WTCM takes that keeps C6 as well as DPRA. What earning costs is then told in
the unit in which it is paid: the share by which the WTCM's blocks must be harder than DPRA's before the two take as
long. For each seed DPRA is simulated, then WTCM with C6 kept at several constant difficulties from DPRA's mean on, in
the same world; the break-even lies on the line through the two differences next to 0.

At each V the queues start empty, and only the second half of the slots counts, for latencies and for DPRA's mean
difficulty alike; a larger V settles in more slots. At the larger ones WTCM is met at DPRA's own mean alone.

It does not know real processes, where block times are drawn, nor what a security that is not earned is worth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.command_line import keep, parser_of
from splitnet.controller.policies import fair_gamma, make_policy, without_reputation
from splitnet.controller.policy import Choice, Policy, Rule, Setting
from splitnet.controller.simulation import Trace, half_width, simulate
from splitnet.controller.slot import Observation
from splitnet.profiling.machine import machine_fingerprint
from splitnet.scenario import load_scenario
from splitnet.terminal import Terminal

HARDER = (0.0, 0.01, 0.02, 0.04, 0.08)
"""Hashes per block beyond DPRA's mean, as a share."""
SEEDS, QUICK_SEEDS = 4, 2


@dataclass(frozen=True, slots=True)
class Case:
    """One V; half of the slots are for the queues to settle."""

    v: float
    slots: int
    harder: tuple[float, ...]


CASES = (Case(16, 4000, HARDER), Case(64, 6000, (0.0,)), Case(256, 10_000, (0.0,)))
QUICK_CASES = (Case(16, 400, HARDER), Case(64, 400, (0.0,)))
PROCESSES = 2

Row = dict[str, Any]


def figures(trace: Trace) -> Row:
    """Means over the second half."""
    settled = slice(trace.slots // 2, None)
    return {
        "latency_s": float(trace.latency_s[settled].mean()),
        "hashes_per_block": float(trace.hashes_per_block[settled].mean()),
        "reputation": trace.reputation[settled].mean(axis=0).tolist(),
    }


def one_seed(seed: int, case: Case) -> Row:
    """DPRA, then the WTCM at each difficulty, in one world."""
    scenario = load_scenario("default")
    setting = scenario.setting(case.v)

    def world() -> Iterator[Observation]:
        return scenario.world.observations(seed, case.slots)

    def played(name: str, gamma: float) -> Row:
        return figures(simulate(make_policy(name, setting, seed=seed, fair_gamma=gamma), world()))

    trace = simulate(make_policy("dpra", setting, seed=seed), world())
    dpra = figures(trace)
    gammas = [fair_gamma(setting, (1 + harder) * dpra["hashes_per_block"]) for harder in case.harder]
    replay = Policy("replay", without_reputation(setting, gammas[0]), replaying(setting, trace))
    return {
        "seed": seed,
        "dpra": dpra,
        "replayed": figures(simulate(replay, world())),
        "wtcm": [played("wtcm-fair-c6", gamma) for gamma in gammas],
    }


def replaying(setting: Setting, trace: Trace) -> Rule:
    """The cuts of a trace, slot by slot."""
    tables = setting.network.tables
    options = [
        tuple(table.cuts.index(cut) for table, cut in zip(tables, cuts, strict=True)) for cuts in trace.cuts.tolist()
    ]
    return lambda problem, state: Choice(options[state.slot])


def break_even(harder: tuple[float, ...], differences_s: list[float]) -> float | None:
    """Where a rising broken line crosses 0, as a share; None where it does not within the range."""
    for (left, below_s), (right, above_s) in pairwise(zip(harder, differences_s, strict=True)):
        if below_s <= 0 < above_s:
            return left + (right - left) * -below_s / (above_s - below_s)
    return None


def measure(cases: Sequence[Case], seeds: int) -> Row:
    jobs = [(seed, case) for case in cases for seed in range(seeds)]
    with ProcessPoolExecutor(PROCESSES) as pool, Terminal().waiting(f"{len(jobs)} worlds"):
        rows = list(pool.map(one_seed, *zip(*jobs, strict=True)))
    return {
        "machine": machine_fingerprint(),
        "cases": [
            {**asdict(case), "seeds": rows[place * seeds : (place + 1) * seeds]} for place, case in enumerate(cases)
        ],
    }


def show(results: Row) -> None:
    for case in results["cases"]:
        _show_case(case)


def _show_case(case: Row) -> None:
    rows, harder = case["seeds"], tuple(case["harder"])
    differences_s = [[one["latency_s"] - row["dpra"]["latency_s"] for one in row["wtcm"]] for row in rows]
    table = []
    for place, share in enumerate(harder):
        values = np.array([of_seed[place] for of_seed in differences_s])
        hashes = np.mean([row["wtcm"][place]["hashes_per_block"] for row in rows])
        table.append((f"{share:+.0%}", f"{hashes / 1e6:.2f} M", f"{values.mean():+.4f} ±{half_width(values):.4f}"))
    dpra_s = np.mean([row["dpra"]["latency_s"] for row in rows])
    Terminal().table(
        ("harder than DPRA's", "hashes per block", "WTCM's latency against DPRA, s"),
        table,
        caption=f"V = {case['v']:g}; {len(rows)} seeds, the second half of {case['slots']} slots; DPRA {dpra_s:.4f} "
        f"s, mean U of its APs {_range([row['dpra'] for row in rows])}; "
        f"of the WTCM's at {harder[0]:+.0%} {_range([row['wtcm'][0] for row in rows])}; ±: half of 95%",
    )
    replayed = np.array([row["replayed"]["latency_s"] - row["dpra"]["latency_s"] for row in rows])
    print(f"DPRA's own cuts at its mean difficulty: {replayed.mean():+.4f} ±{half_width(replayed):.4f} s")
    if len(harder) == 1:
        return
    found = [break_even(harder, of_seed) for of_seed in differences_s]
    if None in found:
        print("no break-even within the range in some seed")
        return
    shares = np.array(found, dtype=float)
    print(
        f"DPRA is as fast as the WTCM that keeps C6 where that one's blocks take {shares.mean():.2%} "
        f"±{half_width(shares):.2%} more hashes; at more it is faster"
    )


def _range(rows: Sequence[Row]) -> str:
    """Least and largest mean U over APs and seeds."""
    values = np.array([row["reputation"] for row in rows])
    return f"{values.min():.4f}..{values.max():.4f}"


def main() -> None:
    parser = parser_of(__doc__, "break_even", quick=f"{QUICK_SEEDS} seeds of 400 slots at two V")
    options = parser.parse_args()
    results = measure(QUICK_CASES, QUICK_SEEDS) if options.quick else measure(CASES, SEEDS)
    keep(results, options.output)
    show(results)


if __name__ == "__main__":
    main()

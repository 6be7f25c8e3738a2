"""At how many hashes per block a consensus without reputation is as fast as DPRA, with C6 kept by both.

    .venv/bin/python -m benchmarks.break_even          some 4 minutes
    .venv/bin/python -m benchmarks.break_even --quick

The WTCM of equal hashes per block is handed DPRA's mean difficulty in every slot; DPRA's APs have to earn theirs.
*Replayed* are DPRA's own cuts at that constant difficulty, with frequencies that are best for it: as much as they
take is an upper bound of what the best WTCM takes that keeps C6 as well as DPRA. What earning costs is then told in
the unit in which it is paid: the share by which the WTCM's blocks must be harder than DPRA's before the two take as
long. For each seed DPRA is simulated, then WTCM with C6 kept at several constant difficulties from DPRA's mean on, in
the same world; the break-even lies on the line through the two differences next to 0.

It does not know real processes, where block times are drawn, nor what a security that is not earned is worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
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
SEEDS, SLOTS = 4, 2000
QUICK_SEEDS, QUICK_SLOTS = 2, 200
PROCESSES = 2

Row = dict[str, Any]


def figures(trace: Trace) -> Row:
    return {
        "latency_s": float(trace.latency_s.mean()),
        "hashes_per_block": float(trace.hashes_per_block.mean()),
        "reputation": trace.reputation.mean(axis=0).tolist(),
    }


def one_seed(seed: int, slots: int) -> Row:
    """DPRA, then the WTCM at each difficulty, in one world."""
    scenario = load_scenario("default")
    setting = scenario.setting()

    def world() -> Iterator[Observation]:
        return scenario.world.observations(seed, slots)

    def played(name: str, gamma: float) -> Row:
        return figures(simulate(make_policy(name, setting, seed=seed, fair_gamma=gamma), world()))

    trace = simulate(make_policy("dpra", setting, seed=seed), world())
    dpra = figures(trace)
    gammas = [fair_gamma(setting, (1 + harder) * dpra["hashes_per_block"]) for harder in HARDER]
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


def measure(seeds: int, slots: int) -> Row:
    with ProcessPoolExecutor(PROCESSES) as pool, Terminal().waiting(f"{seeds} seeds of {slots} slots"):
        rows = list(pool.map(one_seed, range(seeds), [slots] * seeds))
    return {"machine": machine_fingerprint(), "slots": slots, "harder": HARDER, "seeds": rows}


def show(results: Row) -> None:
    rows, harder = results["seeds"], tuple(results["harder"])
    differences_s = [[one["latency_s"] - row["dpra"]["latency_s"] for one in row["wtcm"]] for row in rows]
    table = []
    for place, share in enumerate(harder):
        values = np.array([of_seed[place] for of_seed in differences_s])
        hashes = np.mean([row["wtcm"][place]["hashes_per_block"] for row in rows])
        table.append((f"{share:+.0%}", f"{hashes / 1e6:.2f} M", f"{values.mean():+.4f} ±{half_width(values):.4f}"))
    dpra_s = np.mean([row["dpra"]["latency_s"] for row in rows])
    Terminal().table(
        ("harder than DPRA's", "hashes per block", "latency against DPRA, s"),
        table,
        caption=f"DPRA {dpra_s:.4f} s; {len(rows)} seeds of {results['slots']} slots; ±: half of 95%",
    )
    replayed = np.array([row["replayed"]["latency_s"] - row["dpra"]["latency_s"] for row in rows])
    print(f"DPRA's own cuts at its mean difficulty: {replayed.mean():+.4f} ±{half_width(replayed):.4f} s")
    found = [break_even(harder, of_seed) for of_seed in differences_s]
    if None in found:
        print("no break-even within the range in some seed")
        return
    shares = np.array(found, dtype=float)
    print(
        f"DPRA is as fast as the WTCM that keeps C6 where that one's blocks take {shares.mean():.2%} "
        f"±{half_width(shares):.2%} more hashes; at more it is faster"
    )


def main() -> None:
    parser = parser_of(__doc__, "break_even", quick=f"{QUICK_SEEDS} seeds of {QUICK_SLOTS} slots")
    options = parser.parse_args()
    results = measure(*((QUICK_SEEDS, QUICK_SLOTS) if options.quick else (SEEDS, SLOTS)))
    keep(results, options.output)
    show(results)


if __name__ == "__main__":
    main()

"""Audits: how many lies are found, what they cost, what a liar gains before, and what collusion still gains.

    .venv/bin/python -m benchmarks.audit             some 4 minutes
    .venv/bin/python -m benchmarks.audit --quick     about a minute

*found*: a lying AP signs real inferences of VGG-11 at 32x32 with another result; the J-1 others audit each with
chance p, each by itself, so 1 - (1-p)^(J-1) of the lies should be found. Every audit runs the top again; every proof
is judged by another AP. As many honest receipts beside them: none may be accused. *cost*: seconds of an audit
(digests, decoding, top, comparison) beside the top's own, interleaved, one thread. *gain*: toy_chain in a real chain;
the liar computes nothing while its word counts, and stops when a proof is out: found after 1/q slots on average,
where q = 1 - (1-p)^(n(J-1)) for n receipts a slot; one more slot until the proof is recorded, then K at zero. So its
mean reputation is (1/q + 1) / (1/q + 1 + K) of an honest AP's.

Where the AP is not alone: *tricks* of AP and gateway, with and without the device's key; *inflation*, how much more
work they may claim; *withholding* activations; *below*, what stays within the tolerance.

It does not know messages that are lost, auditors that are offline or dishonest, or what an AP values more than
reputation: here all auditors hear of everything at once. Weights are random, so margins between classes are not
those of a trained net, and the arithmetic of other machines is not in it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

from benchmarks.audit_chain import APS, CUTS, GAIN_SHARES, HONEST, LIAR, Counts, Living, vgg_runs
from benchmarks.audit_collusion import below_tolerance, inflation, tricks, withholding
from benchmarks.audit_network import (
    MEAN_DATA_POINTS,
    SUSPENDED_SLOTS,
    TOLERANCE_MICRO,
    Network,
    Run,
    Watch,
    a_model,
    registry_of,
    run_of,
    top_of,
)
from benchmarks.audit_report import draw_found, show
from benchmarks.command_line import keep, parser_of
from splitnet.auditing import Reexecutor
from splitnet.consensus.audit import examine
from splitnet.consensus.genesis import MILLION
from splitnet.consensus.values import value_bytes, values_from
from splitnet.inference import exact_inference
from splitnet.profiling.machine import machine_fingerprint
from splitnet.resident import ResidentModel
from splitnet.terminal import Terminal

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
Row = dict[str, Any]


FULL = Counts(lies=400, pool=40, repeats=40, slots=4000, colluding=100)
QUICK = Counts(lies=60, pool=12, repeats=8, slots=600, colluding=20)


def lies_about(run: Run, other: ResidentModel) -> dict[str, bytes]:
    """Results that are not this run's."""
    logits = run.leaves[0]
    nudged = logits.clone()
    nudged[0, 0] += 3 * TOLERANCE_MICRO / MILLION * logits.abs().max()
    return {
        "another class": value_bytes([logits.roll(1, dims=1)]),
        "another data point's": value_bytes([logits.roll(1, dims=0)]),
        "other weights": value_bytes(top_of(other, run.cut, run.activation)),
        "nothing computed": value_bytes([torch.zeros_like(logits)]),
        "one number, 3 tolerances": value_bytes([nudged]),
    }


def found(counts: Counts) -> list[Row]:
    """Lies and honest receipts at each p."""
    model, other = a_model("vgg11_cifar"), a_model("vgg11_cifar", seed=1)
    registry, reexecutor = registry_of(model), Reexecutor([model])
    pool = vgg_runs(model, counts.pool)
    lies = [(run, name, result) for run in pool for name, result in lies_about(run, other).items()]
    random.Random(1).shuffle(lies)
    rows = []
    for share in SHARES:
        network = Network(model, registry, round(share * MILLION), APS)
        watch = Watch(network, reexecutor, seed=round(share * MILLION))
        row: Row = {"share": share, "others": APS - 1, "lies": counts.lies, "found": 0, "accepted": 0, "audits": 0}
        row |= {"honest": counts.lies, "accused": 0, "kinds": {}}
        for slot in range(counts.lies):
            run, name, result = lies[slot % len(lies)]
            made = network.made(slot, network.twins(LIAR)[0], run, result)
            outcome = watch.see(made)
            row["audits"] += outcome.audits
            row["found"] += bool(outcome.frauds)
            row["accepted"] += bool(outcome.frauds) and watch.accepts(made, outcome.frauds[0])
            of_kind = row["kinds"].setdefault(name, [0, 0])
            of_kind[0] += bool(outcome.frauds)
            of_kind[1] += 1
            honest = network.made(slot, network.twins(HONEST)[0], pool[slot % len(pool)])
            row["accused"] += bool(watch.see(honest).frauds)
        rows.append(row)
    return rows


def cost(counts: Counts) -> list[Row]:
    """Seconds of the top alone and of its audit, all cuts in a random order."""
    model = a_model("vgg11_cifar")
    network = Network(model, registry_of(model), MILLION, APS)
    reexecutor = Reexecutor([model])
    runs = [run_of(model, cut, MEAN_DATA_POINTS, 0) for cut in CUTS]
    made = [network.made(0, 0, run) for run in runs]
    rows: list[Row] = [
        {"cut": run.cut, "activation_bytes": len(run.activation), "top_s": [], "audit_s": []} for run in runs
    ]
    order = random.Random(0)
    for number in range(-2, counts.repeats):  # the first two rounds are for warming
        for place in order.sample(range(len(runs)), len(runs)):
            run, one = runs[place], made[place]
            live, top = values_from(run.activation), model.top(run.cut)
            with exact_inference():
                started = time.perf_counter()
                top.run(live)
                top_s = time.perf_counter() - started
            started = time.perf_counter()
            examine(one.signed, one.evidence, reexecutor.run)
            audit_s = time.perf_counter() - started
            if number >= 0:
                rows[place]["top_s"].append(top_s)
                rows[place]["audit_s"].append(audit_s)
    return rows


def gain(counts: Counts) -> list[Row]:
    """A liar that nobody helps, in a chain mined by the others."""
    model = a_model("toy_chain")
    registry = registry_of(model)
    run = run_of(model, 1, MEAN_DATA_POINTS, 0)
    zeros = value_bytes([torch.zeros_like(leaf) for leaf in run.leaves])
    rows = []
    for share in GAIN_SHARES:
        living = Living.of(model, registry, share)
        network, twins = living.network, living.network.twins(LIAR)
        full = living.reputation(0, [network.made(0, twin, run) for twin in twins])
        row: Row = {"share": share, "receipts": len(twins), "others": APS - 1, "suspended": SUSPENDED_SLOTS}
        row |= {"slots": counts.slots, "honest_u": full, "sum_u": 0.0, "lying": 0, "until_found": []}
        since = 0
        for slot in range(counts.slots):
            lies = slot > living.chain.head.standings[LIAR].suspended_to and not living.frauds
            made = [network.made(slot, twin, run, zeros if lies else None) for twin in twins]
            row["sum_u"] += living.reputation(slot, made)
            living.add(slot, 1 + slot % (APS - 1), made)
            if lies:
                row["lying"] += 1
                since += 1
                living.audit(made)
                if living.frauds:
                    row["until_found"].append(since)
                    since = 0
        rows.append(row)
    return rows


SECTIONS: dict[str, Callable[[Counts], Any]] = {
    "found": found,
    "cost": cost,
    "gain": gain,
    "tricks": tricks,
    "inflation": inflation,
    "withholding": withholding,
    "below": below_tolerance,
}


def measure(counts: Counts, sections: Iterable[str]) -> dict[str, Any]:
    """Raw figures of each section."""
    torch.set_num_threads(1)
    results: dict[str, Any] = {
        "machine": machine_fingerprint(),
        "tolerance": TOLERANCE_MICRO / MILLION,
    }
    for name in sections:
        with Terminal().waiting(name):
            results[name] = SECTIONS[name](counts)
    return results


def main() -> None:
    parser = parser_of(__doc__, "audit", quick="a seventh of the cases", sections=SECTIONS)
    options = parser.parse_args()
    results = measure(QUICK if options.quick else FULL, options.only)
    keep(results, options.output)
    if "found" in results:
        draw_found(results["found"], options.output.with_name(options.output.stem + "_found.png"))
    show(results)


if __name__ == "__main__":
    main()

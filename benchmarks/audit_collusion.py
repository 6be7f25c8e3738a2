"""What a liar still gains with the help of its gateway, or of gateway and device, or below the tolerance.

Every figure is of real receipts, audited by all other APs unless p is said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.audit_chain import APS, CUTS, GAIN_SHARES, HONEST, LIAR, Counts, Living, once, vgg_runs
from benchmarks.audit_network import (
    MEAN_DATA_POINTS,
    MOST_DATA_POINTS,
    Made,
    Network,
    Run,
    Watch,
    a_model,
    changed,
    registry_of,
    run_of,
)
from splitnet.auditing import Reexecutor
from splitnet.consensus.audit import deviation
from splitnet.consensus.errors import ReceiptError
from splitnet.consensus.genesis import MILLION
from splitnet.consensus.receipt import top_flops, validate_receipt
from splitnet.consensus.values import value_bytes, values_from
from splitnet.inference import exact_inference

Row = dict[str, Any]


def tricks(counts: Counts) -> list[Row]:
    """What AP and gateway may sign together, every receipt audited by all others."""
    model = a_model("vgg11_cifar")
    registry = registry_of(model)
    network = Network(model, registry, MILLION, APS)
    reexecutor = Reexecutor([model])
    few, many = run_of(model, CUTS[1], 5, 0), run_of(model, CUTS[1], MOST_DATA_POINTS, 0)
    chance = torch.Generator().manual_seed(0)

    def raised(slot: int) -> Made:
        made = network.made(slot, 0, many, data_points=5)
        return Made(changed(made.signed, data_points=MOST_DATA_POINTS), made.evidence)

    def replayed(slot: int) -> Made:
        (live,) = values_from(few.activation)
        noisy = live * (1 + 1e-6 * torch.randn(live.shape, generator=chance))
        return network.made(slot, 0, Run(few.cut, few.data_points, value_bytes([noisy]), few.leaves))

    ways: dict[str, Callable[[int], Made]] = {
        "D_n raised after the device signed it": raised,
        "D_n right, fewer data points run": lambda slot: network.made(slot, 0, few, data_points=MOST_DATA_POINTS),
        "result of another inference": lambda slot: network.made(slot, 0, few, value_bytes([few.leaves[0].flip(0)])),
        "one inference replayed with noise": replayed,
        "D_n invented with the device's key": lambda slot: network.made(slot, 0, many),
    }
    return [_tried(Watch(network, reexecutor, seed=0), name, make, counts.colluding) for name, make in ways.items()]


def _tried(watch: Watch, name: str, make: Callable[[int], Made], count: int) -> Row:
    row: Row = {"trick": name, "count": count, "refused": 0, "found": 0}
    for slot in range(count):
        made = make(slot)
        try:
            validate_receipt(watch.network.rules, made.signed)
        except ReceiptError:
            row["refused"] += 1
        else:
            row["found"] += bool(watch.see(made).frauds)
    return row


def inflation(counts: Counts) -> Row:
    """How much more work may be claimed than was planned: by the cut, and by D_n up to its cap."""
    model = a_model("vgg11_cifar")
    network = Network(model, registry_of(model), MILLION, APS)

    def claimed(cut: int, data_points: int) -> int:
        return top_flops(network.rules, network.made(0, 0, Run(cut, data_points, b"", [])).signed.receipt)

    by_cut = {
        cut: [claimed(first, MEAN_DATA_POINTS) / claimed(cut, MEAN_DATA_POINTS) for first in (0, 1)] for cut in CUTS
    }
    cap = claimed(CUTS[0], MOST_DATA_POINTS) / claimed(CUTS[0], MEAN_DATA_POINTS)
    return {"by_cut": {str(cut): ratios for cut, ratios in by_cut.items()}, "by_data_points": cap}


def below_tolerance(counts: Counts) -> list[Row]:
    """Cheaper arithmetic, and results nudged as far as nobody would publish."""
    model = a_model("vgg11_cifar")
    rows = []
    for run in vgg_runs(model, counts.pool):
        logits = run.leaves[0]
        best = logits.topk(2, dim=1).values
        row: Row = {"cut": run.cut, "margins": ((best[:, 0] - best[:, 1]) / logits.abs().max()).tolist()}
        for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
            with exact_inference(), torch.autocast("cpu", dtype=dtype):
                cheap = [leaf.float() for leaf in model.top(run.cut).run(values_from(run.activation))]
            row[name] = deviation(cheap, run.leaves)
        rows.append(row)
    return rows


def withholding(counts: Counts) -> list[Row]:
    """AP and gateway lie about everything and give no activation; every other block is the liar's."""
    model = a_model("toy_chain")
    registry = registry_of(model)
    run = run_of(model, 1, MEAN_DATA_POINTS, 0)
    zeros = value_bytes([torch.zeros_like(leaf) for leaf in run.leaves])
    rows = []
    for share in GAIN_SHARES:
        living = Living.of(model, registry, share)
        network, twins = living.network, living.network.twins(LIAR)
        full = living.reputation(0, [network.made(0, twin, run) for twin in twins])
        row: Row = {"share": share, "others": APS - 1, "honest_u": full, "u": [], "voids": 0, "receipts": 0}
        for slot in range(0, counts.slots // 2, 2):
            made = [network.made(slot, twin, run, zeros) for twin in twins]
            row["u"].append(living.reputation(slot, made))
            living.add(slot, LIAR, made)
            living.audit(made, gives=False)
            row["voids"] += len(list(once(living.voids)))
            row["receipts"] += len(made)
            living.add(slot + 1, HONEST, [])
        row["suspended_to"] = living.chain.head.standings[LIAR].suspended_to
        rows.append(row)
    return rows

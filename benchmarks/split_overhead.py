"""What a split costs beside its two halves: against raw TCP, against pickle, and against computing in process.

    .venv/bin/python -m benchmarks.split_overhead             some 3 minutes on an idle machine

All cases of a table are interleaved in one run. A *round trip* takes the same bytes up and back: for splitnet it
is `total_s` of a model that computes nothing, cut before its only layer, between two real workers (encode, frame,
send, decode, encode, send back, decode); for raw TCP a send and a receive of preallocated memory; for pickle a
`send` and a `recv`. Gateway and clients are pinned to one core, AP and servers to another.

It does not know other hosts' networks, nor more than one gateway at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from benchmarks.null_model import SIZES_BYTES
from benchmarks.peers import pickle_echo, raw_echo
from rich.console import Console
from rich.table import Table

from splitnet.graph import layer_graph
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.profiling.machine import machine_fingerprint
from splitnet.rundir import write_json_atomic
from splitnet.runtime.launch import split_cores
from splitnet.runtime.link import Link
from splitnet.session import Placement, SplitSession
from splitnet.slicing import slice_model

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "split_overhead.json"
RATE_BPS = 50e6
LIMITS = {10_000: 1.5, 100_000: 1.5, 800_000: 1.15, 3_200_000: 1.15, 12_800_000: 1.15}
"""Round trip against raw TCP, by size in bytes."""

Case = Callable[[], float]


def interleave(cases: dict[str, Case], repeats: int, warmup: int = 5) -> dict[str, list[float]]:
    """Seconds of each case, all run once per round, each round in a new order."""
    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(-warmup, repeats):
        for name in order.sample(list(cases), len(cases)):
            taken = cases[name]()
            if number >= 0:
                seconds[name].append(taken)
    return seconds


def round_trips(repeats: int, gateway_cores: Sequence[int], ap_cores: Sequence[int]) -> dict[int, Any]:
    """Seconds of a round trip, by size and by what carries it."""
    found = {}
    for size in SIZES_BYTES:
        model = f"{HERE / 'null_model.py'}:null_{size}"
        tensor = torch.rand(size // 4)
        payload = memoryview(tensor.numpy()).cast("B")
        with ExitStack() as stack:
            plain = stack.enter_context(SplitSession(model))
            checked = stack.enter_context(SplitSession(model, Placement(checksum=True)))
            raw = stack.enter_context(raw_echo(ap_cores))
            pickled = stack.enter_context(pickle_echo(ap_cores))
            if gateway_cores:
                os.sched_setaffinity(0, gateway_cores)
            found[size] = interleave(
                {
                    "raw": lambda: raw.round_trip_s(payload),
                    "raw again": lambda: raw.round_trip_s(payload),
                    "splitnet": lambda: plain.measure(0).timeline.total_s,
                    "splitnet, checksum": lambda: checked.measure(0).timeline.total_s,
                    "pickle": lambda: pickled.round_trip_s(tensor),
                },
                repeats,
            )
    return found


def resnet18(repeats: int, gateway_cores: Sequence[int]) -> dict[str, Any]:
    """Seconds of ResNet-18 split where 0.8 MB cross, of the same halves in one process, and unsplit."""
    cut = "maxpool"
    built = build_model(ModelRef("resnet18"))
    graph = layer_graph(built.module, built.args, name="resnet18")
    bottom, top = slice_model(graph, cut)
    image = built.args[0]
    torch.set_num_threads(1)
    if gateway_cores:
        os.sched_setaffinity(0, gateway_cores)

    def halves() -> float:
        start_ns = time.monotonic_ns()
        top(bottom(image))
        return (time.monotonic_ns() - start_ns) * 1e-9

    with SplitSession("resnet18") as plain, SplitSession("resnet18", Placement(checksum=True)) as checked:
        seconds = interleave(
            {
                "halves in process": halves,
                "halves again": halves,
                "split": lambda: plain.measure(cut).timeline.total_s,
                "split, checksum": lambda: checked.measure(cut).timeline.total_s,
                "unsplit on the gateway": lambda: plain.local("gateway"),
                "unsplit on the AP": lambda: plain.local("ap"),
            },
            repeats,
        )
        samples = [plain.measure(cut) for _ in range(repeats)]
    return {
        "payload_bytes": graph.cut(cut).payload_bytes,
        "seconds": seconds,
        "overhead_s": [sample.timeline.overhead_s for sample in samples],
    }


def paced_upload(repeats: int) -> dict[str, Any]:
    """Seconds of a 3.2 MB upload at 50 Mbit/s."""
    model = f"{HERE / 'null_model.py'}:null_3200000"
    with SplitSession(model, Placement(link=Link(RATE_BPS))) as split:
        samples = [split.measure(0) for _ in range(repeats)]
    return {
        "bytes": samples[0].sent_bytes,
        "asked_s": samples[0].sent_bytes * 8 / RATE_BPS,
        "seconds": [sample.timeline.link_s for sample in samples],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    all_cores = os.sched_getaffinity(0)
    gateway_cores, ap_cores = split_cores(1, 1)
    results = {"machine": machine_fingerprint(), "repeats": options.repeats}
    trips = round_trips(options.repeats, gateway_cores, ap_cores)
    os.sched_setaffinity(0, all_cores)
    results["resnet18"] = resnet18(max(20, options.repeats // 2), gateway_cores)
    os.sched_setaffinity(0, all_cores)
    results["paced_upload"] = paced_upload(max(5, options.repeats // 20))
    results["round_trips"] = {str(size): seconds for size, seconds in trips.items()}
    options.output.parent.mkdir(exist_ok=True)
    write_json_atomic(options.output, results)
    show(results)


def show(results: dict[str, Any]) -> None:
    """Print medians and ratios of raw results."""
    console = Console(width=118, highlight=False)
    table = Table(title="round trip of the same bytes, loopback: medians in ms, and ratio to raw TCP")
    for head in ("bytes", "raw", "noise", "splitnet", "ratio", "limit", "with checksum", "ratio", "pickle", "ratio"):
        table.add_column(head, justify="right")
    for size, seconds in results["round_trips"].items():
        raw = statistics.median(seconds["raw"])

        def cells(name: str, raw: float = raw, seconds: Any = seconds) -> tuple[str, str]:
            median = statistics.median(seconds[name])
            return f"{median * 1e3:.3f}", f"{median / raw:.2f}"

        noise = abs(statistics.median(seconds["raw again"]) / raw - 1)
        table.add_row(
            f"{int(size):,}",
            f"{raw * 1e3:.3f}",
            f"{noise:.1%}",
            *cells("splitnet"),
            f"{LIMITS[int(size)]:g}",
            *cells("splitnet, checksum"),
            *cells("pickle"),
        )
    console.print(table)
    split = results["resnet18"]
    medians = {name: statistics.median(seconds) for name, seconds in split["seconds"].items()}
    halves = medians["halves in process"]
    limit = 1e-3 + 0.01 * halves
    console.print(f"ResNet-18 split at {split['payload_bytes']:,} bytes, medians:")
    for name, median in medians.items():
        console.print(
            f"  {name:24} {median * 1e3:8.3f} ms   {(median - halves) * 1e3:+7.3f} ms to the halves in process"
        )
    console.print(
        f"  limit: +{limit * 1e3:.3f} ms; overhead_s within a split: "
        f"{statistics.median(split['overhead_s']) * 1e3:.3f} ms"
    )
    upload = results["paced_upload"]
    taken = statistics.median(upload["seconds"])
    console.print(
        f"{upload['bytes']:,} bytes at 50 Mbit/s: {taken * 1e3:.2f} ms, asked {upload['asked_s'] * 1e3:.2f} ms, "
        f"{taken / upload['asked_s'] - 1:+.2%} (limit 2%)"
    )


if __name__ == "__main__":
    main()

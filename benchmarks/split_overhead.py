"""What a split costs beside its two halves: against raw TCP, against pickle, and against computing in process.

    .venv/bin/python -m benchmarks.split_overhead        some 4 minutes on an idle machine

A *round trip* takes the same bytes up and back over loopback, in bursts of a dozen, the burst's first not counted;
bursts of all ways alternate in one run. *harness* is `total_s` of a model that computes nothing, between two real
workers: it has the two clocks, the queue and the bookkeeping of an inference in it. Gateway and clients are pinned
to one core, AP and servers to another. splitnet polls a socket for a quarter of a millisecond before it sleeps,
raw TCP does not: in a burst that saves it most wake-ups, after a model's forward pass hardly any.

The second table sleeps before each round trip, so that both ends of both ways start asleep and from cold caches.

It does not know other hosts' networks, nor more than one gateway at a time, nor whether two cores are two
hyperthreads of one.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.command_line import keep, parser_of
from benchmarks.peers import RoundTrip, pickle_echo, raw_echo, wire_echo
from splitnet.graph import layer_graph
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.profiling.machine import machine_fingerprint
from splitnet.runtime.launch import split_cores
from splitnet.runtime.link import Link
from splitnet.session import Placement, SplitSession
from splitnet.slicing import slice_model

HERE = Path(__file__).parent
NULL = f"{HERE / 'null_model.py'}:null"
SIZES_BYTES = (10_000, 100_000, 800_000, 3_200_000, 12_800_000)
LIMITS = {10_000: 1.5, 100_000: 1.5, 800_000: 1.15, 3_200_000: 1.15, 12_800_000: 1.15}
"""Round trip against raw TCP, by size in bytes."""
RATE_BPS = 50e6
RESNET_CUT = "maxpool"
BURST = 12
PAUSE_S = 4e-3

Case = Callable[[], float]


def interleave(cases: dict[str, Case], rounds: int, burst: int = 1) -> dict[str, list[float]]:
    """Seconds of each case: every round all of them in a new order, `burst` times each, the first for warming."""
    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(-2, rounds):
        for name in order.sample(list(cases), len(cases)):
            taken = [cases[name]() for _ in range(burst)]
            if number >= 0:
                seconds[name] += taken[1:] if burst > 1 else taken
    return seconds


def round_trips(rounds: int, gateway_cores: Sequence[int], ap_cores: Sequence[int]) -> dict[str, Any]:
    """Seconds of a round trip, by size and by what carries it."""
    with ExitStack() as stack:
        harness = stack.enter_context(SplitSession(NULL))
        raw = stack.enter_context(raw_echo(ap_cores))
        wire = stack.enter_context(wire_echo(ap_cores))
        checked = stack.enter_context(wire_echo(ap_cores, checksum=True))
        pickled = stack.enter_context(pickle_echo(ap_cores))
        _pin(gateway_cores)

        def at(size: int) -> dict[str, list[float]]:
            tensor = torch.rand(1, size // 4)
            harness.set_inputs([tensor])
            found = interleave(
                {
                    "raw, paused": lambda: _after_a_pause(raw, tensor),
                    "raw again, paused": lambda: _after_a_pause(raw, tensor),
                    "splitnet, paused": lambda: _after_a_pause(wire, tensor),
                    "pickle, paused": lambda: _after_a_pause(pickled, tensor),
                },
                rounds * 4,
            )
            return found | interleave(
                {
                    "raw": lambda: raw(tensor),
                    "raw again": lambda: raw(tensor),
                    "splitnet": lambda: wire(tensor),
                    "checksum": lambda: checked(tensor),
                    "harness": lambda: harness.measure(0).timeline.total_s,
                    "pickle": lambda: pickled(tensor),
                },
                rounds,
                BURST,
            )

        return {str(size): at(size) for size in SIZES_BYTES}


def resnet18(rounds: int, gateway_cores: Sequence[int]) -> dict[str, Any]:
    """Seconds of ResNet-18 split where 0.8 MB cross, of the same halves in one process, and unsplit."""
    built = build_model(ModelRef("resnet18"))
    graph = layer_graph(built.module, built.args, name="resnet18")
    bottom, top = slice_model(graph, RESNET_CUT)
    image = built.args[0]
    with SplitSession("resnet18") as plain, SplitSession("resnet18", Placement(checksum=True)) as checked:
        _pin(gateway_cores)
        overheads: dict[str, list[float]] = {"split": [], "split, checksum": []}

        def halves() -> float:
            start_ns = time.monotonic_ns()
            top(bottom(image))
            return (time.monotonic_ns() - start_ns) * 1e-9

        def split(name: str, session: SplitSession) -> float:
            timeline = session.measure(RESNET_CUT).timeline
            overheads[name].append(timeline.overhead_s)
            return timeline.total_s

        seconds = interleave(
            {
                "halves in process": halves,
                "halves again": halves,
                "split": lambda: split("split", plain),
                "split, checksum": lambda: split("split, checksum", checked),
                "unsplit on the gateway": lambda: plain.local("gateway"),
                "unsplit on the AP": lambda: plain.local("ap"),
            },
            rounds,
        )
    return {"payload_bytes": graph.cut(RESNET_CUT).payload_bytes, "seconds": seconds, "overhead_s": overheads}


def paced_upload(repeats: int) -> dict[str, Any]:
    """Seconds of a 3.2 MB upload at 50 Mbit/s."""
    with SplitSession(NULL, Placement(link=Link(RATE_BPS))) as split:
        split.set_inputs([torch.rand(1, 800_000)])
        samples = [split.measure(0) for _ in range(repeats)]
    return {
        "bytes": samples[0].sent_bytes,
        "asked_s": samples[0].sent_bytes * 8 / RATE_BPS,
        "seconds": [sample.timeline.link_s for sample in samples],
    }


def main() -> None:
    parser = parser_of(__doc__, "split_overhead")
    parser.add_argument("--rounds", type=int, default=40, help="rounds of every table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    all_cores = sorted(os.sched_getaffinity(0))
    gateway_cores, ap_cores = split_cores(1, 1)
    results: dict[str, Any] = {"machine": machine_fingerprint(), "rounds": options.rounds, "burst": BURST}
    results["round_trips"] = round_trips(options.rounds, gateway_cores, ap_cores)
    _pin(all_cores)
    results["resnet18"] = resnet18(options.rounds * 2, gateway_cores)
    _pin(all_cores)
    results["paced_upload"] = paced_upload(max(5, options.rounds // 4))
    keep(results, options.output)
    show(results)


def show(results: dict[str, Any]) -> None:
    """Print medians and ratios of raw results."""
    console = Console(width=118, highlight=False)
    console.print(_trips_table(results["round_trips"]))
    console.print(_paused_table(results["round_trips"]))
    split = results["resnet18"]
    medians = {name: statistics.median(seconds) for name, seconds in split["seconds"].items()}
    halves = medians["halves in process"]
    console.print(f"ResNet-18 split after {RESNET_CUT}, where {split['payload_bytes']:,} bytes cross, medians:")
    for name, median in medians.items():
        console.print(
            f"  {name:24}{median * 1e3:9.3f} ms {(median - halves) * 1e3:+9.3f} ms to the halves in process"
        )
    for name, seconds in split["overhead_s"].items():
        console.print(f"  {name:24}{statistics.median(seconds) * 1e3:9.3f} ms that are neither half (overhead_s)")
    console.print(f"  limit                   {(1e-3 + 0.01 * halves) * 1e3:9.3f} ms")
    upload = results["paced_upload"]
    taken = statistics.median(upload["seconds"])
    console.print(
        f"{upload['bytes']:,} bytes at 50 Mbit/s: {taken * 1e3:.2f} ms, asked {upload['asked_s'] * 1e3:.2f} ms, "
        f"{taken / upload['asked_s'] - 1:+.2%} (limit 2%)"
    )


def _trips_table(trips: dict[str, dict[str, list[float]]]) -> Table:
    table = Table(title="round trips of the same bytes: medians in ms, and ratios to raw TCP")
    names = ("splitnet", "checksum", "harness", "pickle")
    for head in ("bytes", "raw", "noise", "limit", *(part for name in names for part in (name, "ratio"))):
        table.add_column(head, justify="right")
    for size, seconds in trips.items():
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        raw = medians["raw"]
        cells = [f"{int(size):,}", f"{raw * 1e3:.3f}", f"{abs(medians['raw again'] / raw - 1):.1%}"]
        cells.append(f"{LIMITS[int(size)]:g}")
        for name in names:
            cells += [f"{medians[name] * 1e3:.3f}", f"{medians[name] / raw:.2f}"]
        table.add_row(*cells)
    return table


def _paused_table(trips: dict[str, dict[str, list[float]]]) -> Table:
    table = Table(title=f"round trips after {PAUSE_S * 1e3:g} ms of sleep: medians in ms, and ratios to raw TCP")
    for head in ("bytes", "raw", "noise", "splitnet", "ratio", "pickle", "ratio"):
        table.add_column(head, justify="right")
    for size, seconds in trips.items():
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        raw = medians["raw, paused"]
        cells = [f"{int(size):,}", f"{raw * 1e3:.3f}", f"{abs(medians['raw again, paused'] / raw - 1):.1%}"]
        for name in ("splitnet, paused", "pickle, paused"):
            cells += [f"{medians[name] * 1e3:.3f}", f"{medians[name] / raw:.2f}"]
        table.add_row(*cells)
    return table


def _after_a_pause(round_trip_s: RoundTrip, tensor: torch.Tensor) -> float:
    time.sleep(PAUSE_S)
    return round_trip_s(tensor)


def _pin(cores: Sequence[int]) -> None:
    if cores:
        os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    main()

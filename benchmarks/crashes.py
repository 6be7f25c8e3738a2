"""Crashes: processes that write to a store are killed at drawn instants, and nothing acknowledged may be gone.

    .venv/bin/python -m benchmarks.crashes               200 kills, some 9 minutes
    .venv/bin/python -m benchmarks.crashes --kills 20

The kills are shared out among the activities of `tests/crashing.py`: *writing* appends blocks with receipts and puts
results, *creating* makes new stores, *mining* is an AP's node that mines with its process, *syncing* one that fetches
a chain from another node and then follows it. After each kill the store is verified from its genesis block, as it was
left, before a node opens it again; the next process mends it and goes on. After `--rounds` kills one is begun anew.
*In a commit* counts the kills that left a journal, so that the store had to be mended. One loss, or one store that
does not verify, ends the run with an error. It does not know power cuts: what the kernel has taken it still writes.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.command_line import keep, parser_of
from splitnet.profiling.machine import machine_fingerprint
from splitnet.terminal import Terminal
from tests.crashing import ACTIVITIES, Crash, crash

WAY_OUT = "choose another --output"


def measure(kills: int, rounds: int) -> dict[str, Any]:
    """Every kill, the activities in turn."""
    started_s = time.monotonic()
    crashes: list[Crash] = []
    told: dict[str, list[bytes]] = {name: [] for name in ACTIVITIES}
    folders: dict[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="splitnet-crashes-") as place, Terminal().progress("killing") as step:
        for number in range(kills):
            name = tuple(ACTIVITIES)[number % len(ACTIVITIES)]
            turn = number // len(ACTIVITIES)
            if turn % (1 if ACTIVITIES[name].prepare is None else rounds) == 0:
                folders[name], told[name] = Path(place, f"{name}-{turn}"), []
            crashes.append(crash(name, folders[name], number, told[name]))
            step(number + 1, kills, f"killing, {name}")
    return {
        "machine": machine_fingerprint(),
        "kills": kills,
        "rounds": rounds,
        "crashes": [asdict(one) for one in crashes],
        "seconds": time.monotonic() - started_s,
    }


def show(results: dict[str, Any]) -> None:
    """One row for each activity."""
    rows = []
    for name in ACTIVITIES:
        found = [one for one in results["crashes"] if one["activity"] == name]
        if not found:
            continue
        rows.append(
            (
                name,
                str(len(found)),
                str(sum(one["acknowledged"] for one in found)),
                str(sum(one["journal_left"] for one in found)),
                f"{statistics.median(one['check_s'] for one in found):.2f}",
            )
        )
    Terminal().table(
        ("activity", "kills", "acknowledged", "in a commit", "verifying, median s"),
        rows,
        caption=f"none lost, every store verified each time; {results['seconds']:.0f} s",
    )


def main() -> None:
    parser = parser_of(__doc__, "crashes")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=25, help="kills of one store")
    options = parser.parse_args()
    if options.kills < 1 or options.rounds < 1:
        parser.error("--kills and --rounds must be at least 1")
    results = measure(options.kills, options.rounds)
    keep(results, options.output)
    show(results)


if __name__ == "__main__":
    main()

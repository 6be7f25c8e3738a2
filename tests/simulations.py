"""A scenario of three layers, small enough that a job takes a blink, ways to run simulations of it, and a trace."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from splitnet.controller.policy import State
from splitnet.controller.queues import Queues
from splitnet.controller.simulation import Trace
from splitnet.scenario import Scenario, scenario_from_text
from splitnet.simulating.folder import TRACES
from splitnet.simulating.jobs import SimulateSettings
from splitnet.simulating.result import Simulation
from splitnet.simulating.run import open_folder, simulate

LAYER_FLOPS = (40_000_000, 30_000_000, 30_000_000)
GATEWAY_HZ, FLOPS_PER_CYCLE = 1e9, 4

TINY = f"""
[scenario]
name = "tiny"
slots = 8
v = 4

[dnn.net]
layer_flops = {list(LAYER_FLOPS)}
payload_bits = [300000, 100000, 0]

[devices]
count = 3
points = [5, 15]
dnn = "net"

[gateways]
count = 2
frequency_hz = {GATEWAY_HZ}
flops_per_cycle = {FLOPS_PER_CYCLE}
kappa = 1e-28
send_w = 0.2
energy_j = [0.7, 1.2]

[aps]
count = 2
max_hz = [3e9, 5e9]
flops_per_cycle = 8
kappa = 1e-28
energy_j = [1.8, 4.9]

[link]
bandwidth_hz = 1.5e6
distance_m = [20, 150]

[mining]
cycles_per_block = 8e9
cycles_per_hash = 1000

[reputation]
reference_flops = 2e9

[c6]
u_min = 0.1
u_max = 0.4
"""


def tiny() -> Scenario:
    return scenario_from_text(TINY, "tiny.toml")


def asked(*policies: str, **changes: Any) -> SimulateSettings:
    """Eight slots of two worlds at V = 4, but for the changes."""
    settings: dict[str, Any] = {"slots": 8, "v": (4.0,), "seeds": 2, **changes}
    return SimulateSettings(policies or ("dpra", "wdpo"), **settings)


def run(path: Path, settings: SimulateSettings, scenario: Scenario | None = None, **options: Any) -> Simulation:
    """A whole simulation into a new folder."""
    scenario = scenario or tiny()
    with open_folder(scenario, settings, path=path) as folder:
        return simulate(scenario, settings, folder, **options)


def resumed(path: Path, settings: SimulateSettings, **options: Any) -> Simulation:
    scenario = tiny()
    with open_folder(scenario, settings, resume=path) as folder:
        return simulate(scenario, settings, folder, **options)


def decided(run_dir: Path) -> dict[str, Any]:
    """All that the jobs of a run decided: the bytes of traces, and their seals without the times."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in (run_dir / TRACES).glob("*.npz")}
    for path in (run_dir / TRACES).glob("*.json"):
        seal = json.loads(path.read_text())
        assert len(seal.pop("solve_s")) > 0
        del seal["digest"]  # of the times too
        found[path.name] = seal
    return found


def a_trace(slots: int = 5, aps: int = 2, *, latency_s: float = 1.0, seed: int = 0) -> Trace:
    draw = np.random.default_rng(seed)
    return Trace(
        latency_s=np.full(slots, latency_s),
        barrier_s=np.full(slots, 0.75 * latency_s),
        block_s=np.full(slots, 0.25 * latency_s),
        hashes_per_block=np.full(slots, 8e6),
        solve_s=np.full(slots, 0.002),
        reputation=np.tile([0.1, 0.5], (slots, 1)),
        queue=draw.random((slots, aps)),
        difficulty=draw.random((slots, aps)),
        cuts=draw.integers(1, 4, (slots, 3)),
        infeasible=(None, "gateway 1 cannot afford any cut", *[None] * (slots - 2)),
        state=State(slots, Queues(np.array([0.1, 1 / 3]), np.zeros(2)), (1, 2, 0)),
    )


# --- processes

DEADLINE_S = 100.0


def processes() -> dict[int, tuple[int, int]]:
    """Parent and group of every process that has not ended."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, group = status.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has ended meanwhile
            continue
        if state != "Z":
            found[int(status.parent.name)] = int(parent), int(group)
    return found


def descendants(pid: int) -> list[int]:
    """What a process has started, and what those have."""
    return [
        one for child, (parent, _) in processes().items() if parent == pid for one in (child, *descendants(child))
    ]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for it, within the deadline."""
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s, f"{what} did not come in {DEADLINE_S} s"
        time.sleep(0.02)

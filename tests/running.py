"""A scenario whose slots take half a second on real processes, and runs of it as a user starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.simulations import DEADLINE_S

TINY = """
[scenario]
name = "toys"
slots = 3
v = 16

[dnn.toy]
model = "toy_chain"
latency = "measured"
cuts = [1, 3]  # so that something is left for the APs

[devices]
count = 3
points = [3, 5]
dnn = "toy"

[gateways]
count = 2
frequency_hz = [0.8e9, 1.4e9]
kappa = 1e-28
send_w = 0.2
energy_j = 10

[aps]
count = 2
max_hz = [3e9, 5e9]
kappa = 1e-28
energy_j = 10

[link]
rate_bps = [2e5, 3e5]

[mining]
cycles_per_block = 8e9
cycles_per_hash = 1000

[reputation]
reference_flops = 10000

[c6]
u_min = 0.01
u_max = 0.6

[testbed]
gateway_speed = 0.1
ap_speed = 0.1
"""


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """`splitnet run` as a process in a group of its own; what is left of it is killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "splitnet", "run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        process_group=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's `&` has us ignore it
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


def lines(folder: Path) -> int:
    """Slots that are on disk."""
    path = folder / "slots.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0

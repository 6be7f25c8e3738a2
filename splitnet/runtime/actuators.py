"""Which actuator a worker uses, by name.

Decides that it is `pacing` if nothing is said, which needs no rights and slows each lane on its own. Nothing falls
back in silence: an actuator that this machine does not offer is an error that says why.
"""

from __future__ import annotations

from pathlib import Path

import torch

from splitnet.errors import SettingsError
from splitnet.runtime.cgroups import CgroupActuator
from splitnet.runtime.hardware_clocks import CpufreqActuator, NvmlActuator
from splitnet.runtime.speed import Actuator, Pacing

ACTUATORS = ("pacing", "cgroup", "cpufreq", "nvml")


def make_actuator(
    name: str = Pacing.name, *, threads: int = 1, device: torch.device | None = None, root: Path = Path("/")
) -> Actuator:
    """The actuator for this process; close it in the end.

    Args:
        name: one of ACTUATORS.
        threads: compute threads of the work.
        device: what the work runs on, by default the CPU.
        root: where /proc and /sys lie, so that recorded ones can be read.

    Raises:
        SettingsError: unknown, not available here, or of no use for that device.
    """
    device = device or torch.device("cpu")
    if name not in ACTUATORS:
        raise SettingsError(f"actuator {name!r} is unknown: give {', '.join(ACTUATORS[:-1])} or {ACTUATORS[-1]}")
    if name == "nvml":
        return NvmlActuator(device)
    if device.type != "cpu":
        raise SettingsError(f"{name} slows the CPU, and the work is on {device}; use nvml, or the device cpu")
    if name == "cgroup":
        return CgroupActuator(threads, root)
    if name == "cpufreq":
        return CpufreqActuator(root=root)
    return Pacing(threads)


def why_not(name: str, *, threads: int = 1, device: torch.device | None = None, root: Path = Path("/")) -> str | None:
    """Why `make_actuator` would refuse; None where it would not. Leaves nothing behind."""
    try:
        make_actuator(name, threads=threads, device=device, root=root).close()
    except SettingsError as error:
        return str(error)
    return None

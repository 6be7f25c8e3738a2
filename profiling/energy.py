"""Energy by the meters a machine has: RAPL for the CPU, NVML for an NVIDIA GPU. No meter, no figure.

Decides which counter belongs to a device and how a coarse counter measures a short run. Knows nothing of models.
A meter counts all that its chip does, not this process alone: other work at the same time, and idling, are in it.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch


class Meter(ABC):
    """A counter of energy; the difference of two readings is what was used between them.

    Attributes:
        name: what is measured and by what, `rapl package-0`.
        resolution_j: the counter's smallest step, where it is documented.
        update_interval_s: how often the counter is brought up to date, where that is documented.
    """

    name: str
    resolution_j: float | None
    update_interval_s: float | None

    @abstractmethod
    def read_j(self) -> float:
        """Joules since some fixed instant; never less than at the reading before.

        Raises:
            OSError: the counter can no longer be read.
        """


def find_meter(
    device: torch.device,
    root: Path = Path("/"),
    *,
    nvml: Any | None = None,
    uuid_of: Callable[[torch.device], str | None] | None = None,
) -> Meter | None:
    """The meter of a device: RAPL for the CPU, NVML for a CUDA device; None where there is none or none is readable.

    Args:
        root: where /sys lies, so that a recorded one can be read.
        nvml: the module `pynvml` or one like it; by default it is imported, if the extra `nvml` is installed.
        uuid_of: what tells the UUID of a CUDA device; by default torch.
    """
    if device.type == "cpu":
        return rapl_meter(root)
    if device.type != "cuda":
        return None
    uuid = (uuid_of or cuda_uuid)(device)
    nvml = nvml or import_pynvml()
    return None if uuid is None or nvml is None else nvml_meter(uuid, nvml)


def measure_j(
    meter: Meter, run: Callable[[], object], at_least_s: float = 0.2, *, clock: Callable[[], float] = time.monotonic
) -> float | None:
    """Joules of one call of `run`: the mean over calls repeated for at least `at_least_s` between two readings.

    Inside: the whole chip between the readings, its idle power included. Each reading may be as old as the meter's
    update interval, so the error is up to that share of the span. `run` must be warm, and on a GPU wait until the
    device is done. It is called at least once.

    Returns:
        None if the counter did not move: the span was shorter than its update, or the meter stands still, as some
        virtual machines show it. That is no reading of 0 J.

    Raises:
        ValueError: `at_least_s` is below 0 or no number.
    """
    if not at_least_s >= 0:
        raise ValueError(f"at_least_s must be at least 0, not {at_least_s}")
    calls = 0
    before_j = meter.read_j()
    start_s = clock()
    while calls == 0 or clock() - start_s < at_least_s:
        run()
        calls += 1
    used_j = meter.read_j() - before_j
    return used_j / calls if used_j > 0 else None


# --- RAPL


@dataclass(frozen=True, slots=True)
class RaplZone:
    """One power zone of Linux's powercap (Documentation/ABI/testing/sysfs-class-powercap)."""

    name: str
    counter: Path
    """Its file `energy_uj`: 0..range_uj, then from 0 again."""
    range_uj: int

    def __post_init__(self) -> None:
        if self.range_uj <= 0:
            raise ValueError(f"the range of {self.name} must be above 0, not {self.range_uj}")

    def read_uj(self) -> int:
        return int(self.counter.read_text())


@final
class RaplMeter(Meter):
    """The CPU packages' counters, added up. DRAM, and what else hangs on the board, are not in it.

    A counter that came round to 0 once since the last reading is put right to within its own step. Read the meter
    more often than a round takes (some 262 kJ, or 65 kJ: several minutes at full power); two rounds look like one.
    """

    def __init__(self, zones: tuple[RaplZone, ...]) -> None:
        """
        Raises:
            ValueError: there is no zone, or one does not hold a number.
            OSError: a counter cannot be read.
        """
        if not zones:
            raise ValueError("a RAPL meter needs at least one zone")
        self.name = f"rapl {'+'.join(zone.name for zone in zones)}"
        self.resolution_j = None  # the energy unit lies in an MSR that powercap does not show
        self.update_interval_s = 1e-3  # Intel SDM vol. 3B, "RAPL interfaces": updated every ~1 msec
        self._zones = zones
        self._last_uj = [zone.read_uj() for zone in zones]
        self._total_uj = 0

    def read_j(self) -> float:
        for place, zone in enumerate(self._zones):
            now_uj = zone.read_uj()
            step_uj = now_uj - self._last_uj[place]
            self._total_uj += step_uj if step_uj >= 0 else step_uj + zone.range_uj
            self._last_uj[place] = now_uj
        return self._total_uj * 1e-6


def rapl_meter(root: Path = Path("/")) -> RaplMeter | None:
    """All CPU packages of this machine; None if any of them cannot be read (by default only root may).

    The zones are told by name: `psys` stands beside the packages and contains them, `core` and `dram` stand below
    them, and `intel-rapl-mmio` shows the same package a second time.
    """
    zones = []
    folder = root / "sys/class/powercap"
    try:
        for path in sorted(folder.iterdir()):
            if not re.fullmatch(r"intel-rapl:\d+", path.name):
                continue
            name = (path / "name").read_text().strip()
            if name.startswith("package"):
                zones.append(RaplZone(name, path / "energy_uj", int((path / "max_energy_range_uj").read_text())))
        return RaplMeter(tuple(zones)) if zones else None
    except (OSError, ValueError):  # absent, not for us to read, or not a counter
        return None


# --- NVML


@final
class NvmlMeter(Meter):
    """The total energy counter of one NVIDIA GPU with its board (Volta and later)."""

    def __init__(self, uuid: str, nvml: Any) -> None:
        """
        Args:
            uuid: of the device, `GPU-...`; torch's numbers are not NVML's.
            nvml: the module `pynvml`, or one like it; it is initialised, and left so while the process lasts.

        Raises:
            nvml.NVMLError: no driver, no such device, or one without this counter.
        """
        nvml.nvmlInit()
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        self.name = "nvml total energy"
        self.resolution_j = 1e-3  # counted in mJ
        self.update_interval_s = None  # not documented
        self.read_j()

    def read_j(self) -> float:
        try:
            return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) * 1e-3
        except self._nvml.NVMLError as error:
            raise OSError(f"the GPU's energy counter cannot be read: {error}") from error


def nvml_meter(uuid: str, nvml: Any) -> NvmlMeter | None:
    """The meter of the GPU with that UUID; None if NVML or the device does not offer it (a MIG instance does not)."""
    try:
        return NvmlMeter(uuid, nvml)
    except (nvml.NVMLError, OSError):
        return None


def import_pynvml() -> Any | None:
    """The module `pynvml`; None without the extra `nvml`."""
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def cuda_uuid(device: torch.device) -> str | None:
    """NVML's name of a device, which does not depend on CUDA_VISIBLE_DEVICES; None without CUDA."""
    if not torch.cuda.is_available():
        return None
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"

"""The clocks of the hardware as actuators: cpufreq for the cores of this process, NVML for an NVIDIA GPU.

Decides which clock realises a fraction of the highest one, and reads back what came of it. A clock is of a whole core
or GPU, so there is one lane, and whatever else runs there is slowed with it. Clocks come in steps: a fraction that
none of them meets is refused and not rounded.

A process that is killed leaves the clock as it set it: only `close` puts it back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

import torch

from splitnet.errors import SettingsError
from splitnet.profiling.energy import cuda_uuid, import_pynvml
from splitnet.runtime.speed import Actuator, Clock, Fractions, Result, ThreadClock, Use, Work, unhindered

TOLERANCE = 0.02
"""How far a clock may lie from what was asked, relative."""
_WAY_OUT = "use pacing"


def nearest_clock(asked: float, available: Iterable[int], unit: str) -> int:
    """The available clock nearest to what was asked.

    Raises:
        SettingsError: none lies within the tolerance; it names the nearest.
    """
    nearest = min(available, key=lambda clock: abs(clock - asked))
    if abs(nearest - asked) > TOLERANCE * asked:
        raise SettingsError(
            f"a clock of {asked:.0f} {unit} cannot be set: the nearest is {nearest} {unit}; "
            f"give a fraction that meets one, or {_WAY_OUT}"
        )
    return nearest


# --- cpufreq


@final
class CpufreqActuator(Actuator):
    """The frequency of the cores that this process may use, as a share of the highest (Linux, root).

    Under the governor `userspace` it is set, under the others it is the upper limit that the governor keeps to.
    `achieved` is the mean of the frequencies that the kernel names before and after the work.
    """

    name = "cpufreq"

    def __init__(
        self, cores: Iterable[int] | None = None, root: Path = Path("/"), clock: Clock | None = None
    ) -> None:
        """`cores`: by default those of this process's affinity mask.

        Raises:
            SettingsError: not available here, and why.
        """
        numbers = sorted(os.sched_getaffinity(0) if cores is None else cores)
        self._folders = [root / f"sys/devices/system/cpu/cpu{number}/cpufreq" for number in numbers]
        self._clock = clock or ThreadClock()
        self._fractions = Fractions(1, f"a frequency is of whole cores, for one lane; {_WAY_OUT}")
        self._before: dict[Path, str] = {}
        for folder in self._folders:
            if not folder.is_dir():
                raise _unavailable(self.name, f"the kernel offers no {folder.relative_to(root)}")
            if not os.access(_knob(folder), os.W_OK):
                raise _unavailable(self.name, f"{_knob(folder).name} is not writable for this user")
        self._highest_khz = min(_read_khz(folder / "cpuinfo_max_freq") for folder in self._folders)
        self._lowest_khz = max(_read_khz(folder / "cpuinfo_min_freq") for folder in self._folders)

    def set(self, lane: str, fraction: float) -> None:
        self._fractions.check(lane, fraction)
        asked_khz = round(fraction * self._highest_khz)
        if asked_khz < self._lowest_khz:
            raise SettingsError(
                f"lane {lane} cannot run at {fraction:g}: the least frequency is {self._lowest_khz} kHz, "
                f"{self._lowest_khz / self._highest_khz:.3g} of the highest; give at least that, or {_WAY_OUT}"
            )
        for folder in self._folders:
            steps = _steps_khz(folder)
            khz = nearest_clock(asked_khz, steps, "kHz") if steps else asked_khz
            knob = _knob(folder)
            try:
                self._before.setdefault(knob, knob.read_text().strip())
                knob.write_text(str(khz))
            except OSError as error:
                raise SettingsError(f"{khz} kHz is refused by {knob} ({error.strerror}); {_WAY_OUT}") from error
            nearest_clock(asked_khz, [_read_khz(knob)], "kHz")
        self._fractions.set(lane, fraction)

    def run(self, lane: str, work: Work[Result]) -> tuple[Result, Use]:
        asked = self._fractions.of(lane)
        before = self._current()
        result, cpu_s, wall_s = unhindered(self._clock, work)
        return result, Use(lane, asked, (before + self._current()) / 2, cpu_s, wall_s)

    def close(self) -> None:
        for knob, text in self._before.items():
            with contextlib.suppress(OSError):
                knob.write_text(text)
        self._before.clear()

    def _current(self) -> float:
        """Mean frequency of the cores now, as a share of the highest."""
        now_khz = [_read_khz(folder / "scaling_cur_freq") for folder in self._folders]
        return sum(now_khz) / len(now_khz) / self._highest_khz


def _knob(folder: Path) -> Path:
    """The file that sets the frequency."""
    try:
        governor = (folder / "scaling_governor").read_text().strip()
    except OSError:
        governor = ""
    return folder / ("scaling_setspeed" if governor == "userspace" else "scaling_max_freq")


def _steps_khz(folder: Path) -> list[int]:
    """The frequencies that there are; none where the driver takes any."""
    try:
        return [int(word) for word in (folder / "scaling_available_frequencies").read_text().split()]
    except (OSError, ValueError):
        return []


def _read_khz(path: Path) -> int:
    try:
        khz = int(path.read_text())
    except (OSError, ValueError) as error:
        raise _unavailable("cpufreq", f"{path.name} holds no frequency ({error})") from error
    if khz <= 0:
        raise _unavailable("cpufreq", f"{path.name} is {khz}")
    return khz


# --- NVML


@final
class NvmlActuator(Actuator):
    """The clock of one NVIDIA GPU's multiprocessors, locked to a share of its highest (root, extra `nvml`).

    `achieved` is the mean of the clocks that NVML names before and after the work.
    """

    name = "nvml"

    def __init__(
        self, device: torch.device, *, nvml: Any | None = None, uuid: str | None = None, clock: Clock | None = None
    ) -> None:
        """
        Args:
            nvml: the module `pynvml`, or one like it; by default it is imported.
            uuid: of the device, by default what torch names; torch's numbers are not NVML's.

        Raises:
            SettingsError: not available here, and why.
        """
        if device.type != "cuda":
            raise _unavailable(self.name, f"{device} is no NVIDIA GPU")
        nvml = nvml or import_pynvml()
        if nvml is None:
            raise _unavailable(self.name, "the extra `nvml` is not installed")
        uuid = uuid or cuda_uuid(device)
        if uuid is None:
            raise _unavailable(self.name, "torch sees no CUDA device")
        try:
            nvml.nvmlInit()
            self._handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            self._highest_mhz = int(nvml.nvmlDeviceGetMaxClockInfo(self._handle, nvml.NVML_CLOCK_SM))
            memory_mhz = max(nvml.nvmlDeviceGetSupportedMemoryClocks(self._handle))
            self._steps_mhz = [
                int(mhz) for mhz in nvml.nvmlDeviceGetSupportedGraphicsClocks(self._handle, memory_mhz)
            ]
        except nvml.NVMLError as error:
            raise _unavailable(self.name, str(error)) from error
        self._nvml = nvml
        self._clock = clock or ThreadClock()
        self._fractions = Fractions(1, "a clock is of a whole GPU, for one lane; take a GPU for each")
        self._locked = False

    def set(self, lane: str, fraction: float) -> None:
        self._fractions.check(lane, fraction)
        mhz = nearest_clock(fraction * self._highest_mhz, self._steps_mhz, "MHz")
        try:
            self._nvml.nvmlDeviceSetGpuLockedClocks(self._handle, mhz, mhz)
        except self._nvml.NVMLError as error:
            raise SettingsError(f"a GPU clock of {mhz} MHz cannot be set ({error}); run as root") from error
        self._locked = True
        self._fractions.set(lane, fraction)

    def run(self, lane: str, work: Work[Result]) -> tuple[Result, Use]:
        """The work must wait until the device is done."""
        asked = self._fractions.of(lane)
        before = self._current()
        result, cpu_s, wall_s = unhindered(self._clock, work)
        return result, Use(lane, asked, (before + self._current()) / 2, cpu_s, wall_s)

    def close(self) -> None:
        if self._locked:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlDeviceResetGpuLockedClocks(self._handle)
            self._locked = False

    def _current(self) -> float:
        try:
            mhz = int(self._nvml.nvmlDeviceGetClockInfo(self._handle, self._nvml.NVML_CLOCK_SM))
        except self._nvml.NVMLError as error:
            raise SettingsError(f"the GPU's clock cannot be read ({error}); check nvidia-smi") from error
        return mhz / self._highest_mhz


def _unavailable(name: str, why: str) -> SettingsError:
    return SettingsError(f"{name} is not available ({why}); {_WAY_OUT}")

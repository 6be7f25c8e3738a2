"""cpufreq over trees as the kernel shows them, NVML by a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from splitnet.errors import SettingsError
from splitnet.runtime.actuators import make_actuator
from splitnet.runtime.hardware_clocks import CpufreqActuator, NvmlActuator, nearest_clock
from splitnet.runtime.speed import Pause

CUDA = torch.device("cuda", 0)


def cpu(root: Path, number: int, **files: object) -> Path:
    """The folder of one core, 800 MHz to 3.2 GHz, with other or further files."""
    folder = root / f"sys/devices/system/cpu/cpu{number}/cpufreq"
    folder.mkdir(parents=True)
    usual: dict[str, object] = {
        "cpuinfo_min_freq": 800_000,
        "cpuinfo_max_freq": 3_200_000,
        "scaling_max_freq": 3_200_000,
        "scaling_cur_freq": 3_200_000,
        "scaling_governor": "performance",
    }
    for name, value in {**usual, **files}.items():
        (folder / name).write_text(f"{value}\n")
    return folder


def test_cpufreq_sets_the_upper_limit_reads_it_back_and_restores_it(tmp_path: Path) -> None:
    folders = [cpu(tmp_path, number) for number in (0, 1)]
    actuator = CpufreqActuator((0, 1), tmp_path)
    actuator.set("g0", 0.5)
    assert [(folder / "scaling_max_freq").read_text() for folder in folders] == ["1600000", "1600000"]
    actuator.set("g0", 0.25)
    assert (folders[1] / "scaling_max_freq").read_text() == "800000"

    def work(pause: Pause) -> str:
        pause()
        for folder in folders:
            (folder / "scaling_cur_freq").write_text("800000\n")
        return "done"

    result, use = actuator.run("g0", work)
    # before the work both ran at 3.2 GHz, after it at 0.8: 1 and 0.25 of the highest
    assert (result, use.asked, use.achieved) == ("done", 0.25, 0.625)
    actuator.close()
    assert [(folder / "scaling_max_freq").read_text() for folder in folders] == ["3200000", "3200000"]
    (folders[0] / "scaling_max_freq").write_text("1")
    actuator.close()
    assert (folders[0] / "scaling_max_freq").read_text() == "1"


def test_cpufreq_under_userspace_sets_the_speed(tmp_path: Path) -> None:
    steps = "3200000 2400000 1600000 800000"
    folder = cpu(
        tmp_path, 0, scaling_governor="userspace", scaling_setspeed=3_200_000, scaling_available_frequencies=steps
    )
    actuator = CpufreqActuator((0,), tmp_path)
    actuator.set("g0", 0.76)  # 2432 MHz: 1.3% over a step
    assert (folder / "scaling_setspeed").read_text() == "2400000"
    assert (folder / "scaling_max_freq").read_text() == "3200000\n"
    with pytest.raises(
        SettingsError, match=r"a clock of 1920000 kHz cannot be set: the nearest is 1600000 kHz; give"
    ):
        actuator.set("g0", 0.6)
    assert actuator.run("g0", lambda pause: None)[1].asked == 0.76


def test_cpufreq_refuses_what_it_cannot_give(tmp_path: Path) -> None:
    folder = cpu(tmp_path, 0)
    actuator = CpufreqActuator((0,), tmp_path)
    with pytest.raises(
        SettingsError, match=r"cannot run at 0\.2: the least frequency is 800000 kHz, 0\.25 of the high"
    ):
        actuator.set("g0", 0.2)
    assert (folder / "scaling_max_freq").read_text() == "3200000\n"
    actuator.set("g0", 0.5)
    with pytest.raises(SettingsError, match="lane g1 cannot be beside g0: a frequency is of whole cores"):
        actuator.set("g1", 0.5)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"cpuinfo_max_freq": "unknown"}, "cpuinfo_max_freq holds no frequency"),
        ({"cpuinfo_min_freq": 0}, "cpuinfo_min_freq is 0"),
        (None, "the kernel offers no sys/devices/system/cpu/cpu0/cpufreq"),
    ],
)
def test_cpufreq_says_why_it_is_not_available(tmp_path: Path, files: dict[str, object] | None, why: str) -> None:
    if files is not None:
        cpu(tmp_path, 0, **files)
    with pytest.raises(SettingsError, match=rf"^cpufreq is not available \({why}.*; use pacing$"):
        CpufreqActuator((0,), tmp_path)
    with pytest.raises(SettingsError, match="cpufreq is not available"):
        make_actuator("cpufreq", root=tmp_path / "nothing")


def test_the_nearest_clock() -> None:
    assert nearest_clock(1000.0, [900, 985, 1200], "MHz") == 985
    assert nearest_clock(1000.0, [980], "MHz") == 980
    with pytest.raises(SettingsError, match="a clock of 1000 MHz cannot be set: the nearest is 979 MHz"):
        nearest_clock(1000.0, [979, 1100], "MHz")


# --- NVML


class NvmlRefusalError(Exception):
    pass


class FakeNvml:
    """What of `pynvml` the actuator needs: one GPU of 1980 MHz in steps of 15."""

    NVMLError = NvmlRefusalError
    NVML_CLOCK_SM = 1

    def __init__(self, broken: str = "") -> None:
        """`broken`: the function that refuses."""
        self.locked: list[tuple[int, int] | None] = []
        self.clock_mhz = 1980
        self._broken = broken

    def _check(self, name: str) -> None:
        if name == self._broken:
            raise NvmlRefusalError("Insufficient Permissions")

    def nvmlInit(self) -> None:  # noqa: N802
        self._check("nvmlInit")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return f"handle of {uuid}"

    def nvmlDeviceGetMaxClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802
        assert kind == self.NVML_CLOCK_SM
        return 1980

    def nvmlDeviceGetSupportedMemoryClocks(self, handle: str) -> list[int]:  # noqa: N802
        return [1593, 2619]

    def nvmlDeviceGetSupportedGraphicsClocks(self, handle: str, memory_mhz: int) -> list[int]:  # noqa: N802
        self._check("nvmlDeviceGetSupportedGraphicsClocks")
        return list(range(345, 1981, 15)) if memory_mhz == 2619 else [345]

    def nvmlDeviceSetGpuLockedClocks(self, handle: str, low_mhz: int, high_mhz: int) -> None:  # noqa: N802
        self._check("nvmlDeviceSetGpuLockedClocks")
        assert handle == "handle of GPU-1"
        self.locked.append((low_mhz, high_mhz))
        self.clock_mhz = high_mhz

    def nvmlDeviceResetGpuLockedClocks(self, handle: str) -> None:  # noqa: N802
        self.locked.append(None)

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:  # noqa: N802
        self._check("nvmlDeviceGetClockInfo")
        return self.clock_mhz


def test_nvml_locks_the_nearest_clock_and_frees_it() -> None:
    nvml = FakeNvml()
    actuator = NvmlActuator(CUDA, nvml=nvml, uuid="GPU-1")
    actuator.set("g0", 0.5)
    assert nvml.locked == [(990, 990)]

    def work(pause: Pause) -> None:
        nvml.clock_mhz = 495  # the GPU grew hot

    use = actuator.run("g0", work)[1]
    assert (use.asked, use.achieved) == (0.5, 0.375)
    with pytest.raises(SettingsError, match="lane g1 cannot be beside g0: a clock is of a whole GPU"):
        actuator.set("g1", 0.5)
    with pytest.raises(SettingsError, match="a clock of 198 MHz cannot be set: the nearest is 345 MHz"):
        actuator.set("g0", 0.1)
    actuator.close()
    actuator.close()
    assert nvml.locked == [(990, 990), None]


def test_nvml_that_was_never_set_frees_nothing() -> None:
    nvml = FakeNvml()
    NvmlActuator(CUDA, nvml=nvml, uuid="GPU-1").close()
    assert nvml.locked == []


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetSupportedGraphicsClocks"])
def test_nvml_says_why_it_is_not_available(broken: str) -> None:
    with pytest.raises(SettingsError, match=r"^nvml is not available \(Insufficient Permissions\); use pacing$"):
        NvmlActuator(CUDA, nvml=FakeNvml(broken), uuid="GPU-1")


@pytest.mark.parametrize(
    ("broken", "act", "message"),
    [
        (
            "nvmlDeviceSetGpuLockedClocks",
            lambda actuator: actuator.set("g0", 0.5),
            r"a GPU clock of 990 MHz cannot be set \(Insufficient Permissions\); run as root",
        ),
        (
            "nvmlDeviceGetClockInfo",
            lambda actuator: (actuator.set("g0", 0.5), actuator.run("g0", lambda pause: None)),
            r"the GPU's clock cannot be read \(Insufficient Permissions\)",
        ),
    ],
)
def test_nvml_refuses_in_one_line(broken: str, act: Callable[[NvmlActuator], object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        act(NvmlActuator(CUDA, nvml=FakeNvml(broken), uuid="GPU-1"))


def test_nvml_needs_an_nvidia_gpu() -> None:
    with pytest.raises(SettingsError, match=r"nvml is not available \(cpu is no NVIDIA GPU\); use pacing"):
        make_actuator("nvml")
    if not torch.cuda.is_available():
        with pytest.raises(SettingsError, match="torch sees no CUDA device"):
            NvmlActuator(CUDA, nvml=FakeNvml())

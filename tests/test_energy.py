"""Meters against recorded powercap trees, a stand-in for NVML, and this machine's own where it has any."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from splitnet.profiling.energy import Meter, NvmlMeter, RaplMeter, RaplZone, find_meter, measure_j

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
POWERCAP = "sys/class/powercap"


def zone(root: Path, folder: str, name: str, energy_uj: int | str, range_uj: int | str = 262143328850) -> Path:
    path = root / POWERCAP / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path / "energy_uj"


def rapl(root: Path) -> Meter:
    meter = find_meter(CPU, root)
    assert meter is not None
    return meter


# --- RAPL


def test_no_powercap_no_meter(tmp_path: Path) -> None:
    assert find_meter(CPU, tmp_path) is None
    (tmp_path / POWERCAP / "intel-rapl").mkdir(parents=True)
    assert find_meter(CPU, tmp_path) is None


def test_packages_are_added_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    counters = {
        "package-0": zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000),
        "package-1": zone(tmp_path, "intel-rapl:1", "package-1", 5_000_000),
        "psys": zone(tmp_path, "intel-rapl:2", "psys", 0),
        "core": zone(tmp_path, "intel-rapl:0:0", "core", 0),
        "dram": zone(tmp_path, "intel-rapl:1:0", "dram", 0),
        "again": zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0),
    }
    meter = rapl(tmp_path)
    assert meter.name == "rapl package-0+package-1"
    before = meter.read_j()
    counters["package-0"].write_text("3500000\n")
    counters["package-1"].write_text("5250000\n")
    for other in ("psys", "core", "dram", "again"):
        counters[other].write_text("90000000\n")
    assert meter.read_j() - before == pytest.approx(2.5 + 0.25)


def test_a_counter_that_comes_round_goes_on(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 900, range_uj=1000)
    steady = zone(tmp_path, "intel-rapl:1", "package-1", 0, range_uj=10**9)
    meter = rapl(tmp_path)
    readings = [meter.read_j()]
    for raw in (990, 40, 40, 700, 10):  # +90, +50 over the end, none, +660, +310 over the end
        counter.write_text(str(raw))
        readings.append(meter.read_j())
    steps = [round((after - before) * 1e6) for before, after in pairwise(readings)]
    assert steps == [90, 50, 0, 660, 310]
    steady.write_text("2000000")
    assert meter.read_j() - readings[-1] == pytest.approx(2)


@pytest.mark.parametrize("broken", ["energy_uj", "max_energy_range_uj", "name"])
def test_one_unreadable_package_means_no_meter(tmp_path: Path, broken: str) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    zone(tmp_path, "intel-rapl:1", "package-1", 1)
    file = tmp_path / POWERCAP / "intel-rapl:1" / broken
    file.unlink()
    file.mkdir()  # reading it fails for root too, as a file of another user does for others
    assert find_meter(CPU, tmp_path) is None


@pytest.mark.parametrize(("energy_uj", "range_uj"), [("", 10), ("unknown", 10), (1, ""), (1, 0)])
def test_a_garbled_counter_means_no_meter(tmp_path: Path, energy_uj: int | str, range_uj: int | str) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", energy_uj, range_uj)
    assert find_meter(CPU, tmp_path) is None


def test_a_counter_that_goes_away_is_an_error_and_no_number(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    meter = rapl(tmp_path)
    counter.unlink()
    with pytest.raises(OSError, match="energy_uj"):
        meter.read_j()


def test_impossible_zones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="above 0, not 0"):
        RaplZone("package-0", tmp_path, 0)
    with pytest.raises(ValueError, match="at least one zone"):
        RaplMeter(())


# --- NVML


class NvmlRefusalError(Exception):
    pass


class FakeNvml:
    """What of `pynvml` a meter needs: devices by UUID with a count of mJ, or None for those that have no counter."""

    NVMLError = NvmlRefusalError

    def __init__(self, counters_mj: dict[str, int | None], driver: bool = True) -> None:
        self.counters_mj = counters_mj
        self._driver = driver
        self._ready = False

    def nvmlInit(self) -> None:  # noqa: N802
        if not self._driver:
            raise NvmlRefusalError("Driver Not Loaded")
        self._ready = True

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if not self._ready:
            raise NvmlRefusalError("Uninitialized")
        if uuid not in self.counters_mj:
            raise NvmlRefusalError("Not Found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        found = self.counters_mj[handle]
        if found is None:
            raise NvmlRefusalError("Not Supported")
        return found


def second_gpu(device: torch.device) -> str:
    assert device == CUDA
    return "GPU-b"


def test_nvml_reads_the_device_of_that_uuid() -> None:
    nvml = FakeNvml({"GPU-a": 1, "GPU-b": 2500})
    meter = find_meter(CUDA, nvml=nvml, uuid_of=second_gpu)
    assert isinstance(meter, NvmlMeter)
    assert meter.resolution_j == 1e-3
    assert meter.read_j() == pytest.approx(2.5)
    nvml.counters_mj["GPU-b"] = 4000
    assert meter.read_j() == pytest.approx(4.0)


@pytest.mark.parametrize(
    "nvml", [FakeNvml({"GPU-b": None}), FakeNvml({"GPU-a": 1}), FakeNvml({"GPU-b": 1}, driver=False)]
)
def test_no_counter_no_device_no_driver_no_meter(nvml: FakeNvml) -> None:
    assert find_meter(CUDA, nvml=nvml, uuid_of=second_gpu) is None


def test_a_gpu_counter_that_goes_away_is_an_error() -> None:
    nvml = FakeNvml({"GPU-b": 1})
    meter = find_meter(CUDA, nvml=nvml, uuid_of=second_gpu)
    assert meter is not None
    nvml.counters_mj["GPU-b"] = None
    with pytest.raises(OSError, match="Not Supported"):
        meter.read_j()


def test_a_meter_belongs_to_its_device(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    nvml = FakeNvml({"GPU-b": 1})
    assert isinstance(find_meter(CPU, tmp_path, nvml=nvml, uuid_of=second_gpu), RaplMeter)
    assert find_meter(CUDA, tmp_path, nvml=nvml, uuid_of=lambda device: None) is None
    assert find_meter(torch.device("meta"), tmp_path, nvml=nvml, uuid_of=second_gpu) is None


# --- measuring


UPDATE_S = 0.05


class Bench:
    """A clock that work moves on."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.calls = 0

    def clock(self) -> float:
        return self.now_s

    def work(self, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.now_s += seconds
            self.calls += 1

        return run


class BenchMeter(Meter):
    """Of a chip whose power is known, brought up to date every 50 ms."""

    def __init__(self, bench: Bench, watts: float = 50) -> None:
        self.name, self.resolution_j, self.update_interval_s = "bench", None, UPDATE_S
        self._bench = bench
        self._watts = watts

    def read_j(self) -> float:
        updates = int(self._bench.now_s / UPDATE_S + 1e-9)
        return self._watts * UPDATE_S * updates


@pytest.mark.parametrize(("call_s", "calls"), [(0.003, 67), (0.05, 4), (0.5, 1)])
def test_joules_of_one_call_to_within_an_update(call_s: float, calls: int) -> None:
    bench = Bench()
    found = measure_j(BenchMeter(bench), bench.work(call_s), at_least_s=0.199, clock=bench.clock)
    assert bench.calls == calls
    assert found == pytest.approx(50 * call_s, abs=50 * UPDATE_S / calls)


def test_longer_spans_are_more_exact() -> None:
    bench = Bench()
    found = measure_j(BenchMeter(bench), bench.work(0.003), at_least_s=50, clock=bench.clock)
    assert found == pytest.approx(50 * 0.003, rel=0.001)


def test_a_counter_that_did_not_move_gave_no_reading() -> None:
    bench = Bench()
    assert measure_j(BenchMeter(bench), bench.work(0.001), at_least_s=0, clock=bench.clock) is None
    assert bench.calls == 1
    assert measure_j(BenchMeter(bench, watts=0), bench.work(0.1), clock=bench.clock) is None


def test_a_span_below_0_is_refused() -> None:
    bench = Bench()
    for span in (-1, float("nan")):
        with pytest.raises(ValueError, match="at_least_s"):
            measure_j(BenchMeter(bench), bench.work(1), at_least_s=span, clock=bench.clock)


# --- this machine


def test_this_machines_cpu_has_a_meter_or_none() -> None:
    meter = find_meter(CPU)
    if meter is None:
        pytest.skip("no readable RAPL on this machine")
    before = meter.read_j()
    assert meter.read_j() >= before


@pytest.mark.gpu
def test_this_machines_gpu_has_a_meter_or_none() -> None:
    meter = find_meter(torch.device("cuda"))
    if meter is None:
        pytest.skip("no NVML energy counter, or the extra nvml is not installed")
    matrix = torch.randn(4096, 4096, device="cuda")

    def run() -> None:
        matrix @ matrix
        torch.cuda.synchronize()

    run()
    found = measure_j(meter, run, at_least_s=1.0)
    assert found is not None
    assert 0 < found < 1000

"""What machine a figure was measured on: read once, kept in the manifest beside the samples.

Decides which facts describe a machine well enough to compare two runs. Knows nothing of whose machine it is:
no host name, no user name, and the boot id only as a digest. A fact that this system does not tell is None.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """One CUDA device as torch sees it."""

    name: str
    memory_bytes: int
    capability: str


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine with the libraries that compute on it."""

    system: str
    architecture: str
    kernel: str
    cpu_model: str | None
    cores: int | None
    """Logical cores of the machine."""
    usable_cores: int | None
    """Cores that the affinity mask leaves to this process."""
    cpu_quota_cores: float | None
    """CPU seconds per second that the control group allows; None: no limit that we can see."""
    memory_bytes: int | None
    boot_digest: str | None
    """Equal on two processes of one running host, and after a reboot no more."""
    python: str
    torch: str
    torchvision: str | None
    numpy: str | None
    cuda_driver: str | None
    cuda_devices: tuple[CudaDevice, ...]

    def __post_init__(self) -> None:
        for name in ("cores", "usable_cores", "cpu_quota_cores", "memory_bytes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, not {value}")

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a manifest: what comes back from JSON equals it."""
        return {**asdict(self), "cuda_devices": [asdict(device) for device in self.cuda_devices]}


def machine_fingerprint() -> dict[str, Any]:
    """This machine, for a manifest; the first call sets up CUDA if there is any."""
    return read_machine().to_dict()


def read_machine(root: Path = Path("/")) -> Machine:
    """This machine; `root` is where /proc and /sys lie, so that recorded ones can be read."""
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        kernel=platform.release(),
        cpu_model=cpu_model(root),
        cores=os.cpu_count(),
        usable_cores=_usable_cores(),
        cpu_quota_cores=cpu_quota_cores(root),
        memory_bytes=_memory_bytes(),
        boot_digest=boot_digest(root),
        python=platform.python_version(),
        torch=str(torch.__version__),
        torchvision=_version("torchvision"),
        numpy=_version("numpy"),
        cuda_driver=cuda_driver(root),
        cuda_devices=_cuda_devices(),
    )


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Names of the fields in which two fingerprints differ, sorted; one that either of them lacks differs."""
    absent = object()
    return sorted(name for name in {*a, *b} if a.get(name, absent) != b.get(name, absent))


def cpu_model(root: Path) -> str | None:
    """The CPU's name; on boards whose /proc/cpuinfo has none, the board's."""
    fields: dict[str, str] = {}
    for line in (_read(root / "proc/cpuinfo") or "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    board = (_read(root / "proc/device-tree/model") or "").strip("\0 \n")
    candidates = (fields.get("model name"), fields.get("Model"), board, fields.get("Hardware"))
    return next((name for name in candidates if name), None)


def cpu_quota_cores(root: Path) -> float | None:
    """The tightest CPU quota of this process's control group and the groups above it, in cores."""
    quotas = []
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            quotas += [_v2_quota(folder) for folder in _upwards(root / "sys/fs/cgroup", group)]
        elif "cpu" in controllers.split(","):
            for name in ("cpu", controllers):
                quotas += [_v1_quota(folder) for folder in _upwards(root / "sys/fs/cgroup" / name, group)]
    return min((quota for quota in quotas if quota is not None), default=None)


def boot_digest(root: Path = Path("/")) -> str | None:
    """A digest of the kernel's boot id."""
    boot_id = (_read(root / "proc/sys/kernel/random/boot_id") or "").strip()
    return hashlib.sha256(f"splitnet boot {boot_id}".encode()).hexdigest()[:16] if boot_id else None


def cuda_driver(root: Path) -> str | None:
    """Version of the NVIDIA kernel driver."""
    text = _read(root / "proc/driver/nvidia/version") or ""
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text)
    return found.group(1) if found else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def _upwards(mount: Path, group: str) -> list[Path]:
    """The group's folder and all above it, up to the mount point."""
    parts = [part for part in group.split("/") if part not in ("", ".", "..")]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _v2_quota(folder: Path) -> float | None:
    quota, _, period = (_read(folder / "cpu.max") or "").strip().partition(" ")
    return _ratio(quota, period)


def _v1_quota(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _ratio(quota_us: str | None, period_us: str | None) -> float | None:
    try:
        quota, period = int(quota_us or ""), int(period_us or "")
    except ValueError:  # no such file, or "max"
        return None
    return quota / period if quota > 0 and period > 0 else None


def _usable_cores() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on every system
        return None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


@lru_cache
def _version(package: str) -> str | None:
    """The installed version, without importing the package (torchvision may not fit torch)."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cuda_devices() -> tuple[CudaDevice, ...]:
    if not torch.cuda.is_available():
        return ()
    properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return tuple(CudaDevice(p.name, p.total_memory, f"{p.major}.{p.minor}") for p in properties)

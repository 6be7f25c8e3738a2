"""The fingerprint against recorded /proc and /sys trees, and against this machine's own tools."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from splitnet.profiling.machine import (
    CudaDevice,
    cpu_model,
    cpu_quota_cores,
    cuda_driver,
    differences,
    machine_fingerprint,
    read_machine,
)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_fingerprint_of_this_machine() -> None:
    found = machine_fingerprint()
    assert json.loads(json.dumps(found)) == found
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert 1 <= found["usable_cores"] <= found["cores"]
    assert len(found["cuda_devices"]) == torch.cuda.device_count()
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        total_kib = int(next(line for line in meminfo.read_text().splitlines() if "MemTotal" in line).split()[1])
        assert found["memory_bytes"] == pytest.approx(1024 * total_kib, rel=0.01)


def test_fingerprint_tells_neither_host_nor_user_nor_boot_id() -> None:
    text = json.dumps(machine_fingerprint())
    secrets = [socket.gethostname(), str(Path.home())]
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    if boot_id.exists():
        secrets.append(boot_id.read_text().strip())
    assert [secret for secret in secrets if len(secret) > 4 and secret in text] == []


def test_no_proc_and_no_sys_give_none(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    assert (machine.cpu_model, machine.cpu_quota_cores, machine.boot_digest, machine.cuda_driver) == (None,) * 4


def test_boot_digest_changes_with_the_boot(tmp_path: Path) -> None:
    one = tree(tmp_path / "one", {"proc/sys/kernel/random/boot_id": "9b6c\n"})
    two = tree(tmp_path / "two", {"proc/sys/kernel/random/boot_id": "9b6d\n"})
    assert read_machine(one).boot_digest == hashlib.sha256(b"splitnet boot 9b6c").hexdigest()[:16]
    assert read_machine(one).boot_digest != read_machine(two).boot_digest


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"proc/cpuinfo": "processor\t: 0\nmodel name\t: Fast CPU @ 2 GHz\nmodel name\t: Other\n"},
            "Fast CPU @ 2 GHz",
        ),
        ({"proc/cpuinfo": "CPU part : 0xd0b\nHardware : BCM\nModel : Small Board 5\n"}, "Small Board 5"),
        ({"proc/cpuinfo": "CPU part : 0xd42\n", "proc/device-tree/model": "Big Board\0"}, "Big Board"),
        ({"proc/cpuinfo": "CPU part : 0xd42\n"}, None),
    ],
)
def test_cpu_model(tmp_path: Path, files: dict[str, str], expected: str | None) -> None:
    assert cpu_model(tree(tmp_path, files)) == expected


V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # version 2: the tightest limit on the way up counts
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            },
            1.5,
        ),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "200000 100000\n",
            },
            0.5,
        ),
        # inside a container the group's own folder is the mount point
        ({"proc/self/cgroup": "0::/far/outside\n", "sys/fs/cgroup/cpu.max": "5000 10000\n"}, 0.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        # version 1
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/job\n3:cpuset:/\n0::/\n",
                f"{V1}/cpu.cfs_quota_us": "-1\n",
                f"{V1}/cpu.cfs_period_us": "100000\n",
                f"{V1}/job/cpu.cfs_quota_us": "30000\n",
                f"{V1}/job/cpu.cfs_period_us": "10000\n",
            },
            3.0,
        ),
        ({"proc/self/cgroup": "garbled\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "much more\n"}, None),
    ],
)
def test_cpu_quota(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    assert cpu_quota_cores(tree(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 2024\nGCC version: 12\n",
            "550.54.15",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  555.42.02  Release Build\n", "555.42.02"),
        ("something else 1.2.3\n", None),
    ],
)
def test_cuda_driver(tmp_path: Path, text: str, expected: str | None) -> None:
    assert cuda_driver(tree(tmp_path, {"proc/driver/nvidia/version": text})) == expected


def test_differences_name_the_fields() -> None:
    here = read_machine()
    there = replace(here, cpu_model="another", cuda_devices=(CudaDevice("GPU", 1 << 30, "9.0"),))
    assert differences(here.to_dict(), there.to_dict()) == ["cpu_model", "cuda_devices"]
    assert differences(here.to_dict(), json.loads(json.dumps(here.to_dict()))) == []
    older = {name: value for name, value in here.to_dict().items() if name != "cpu_quota_cores"}
    assert differences(here.to_dict(), older) == ["cpu_quota_cores"]


def test_impossible_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="cores must be above 0, not 0"):
        replace(read_machine(), cores=0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity masks")
def test_usable_cores_follow_the_affinity_mask() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert machine_fingerprint()["usable_cores"] == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_devices_of_this_machine() -> None:
    first = machine_fingerprint()["cuda_devices"][0]
    assert first["name"] == torch.cuda.get_device_name(0)
    assert first["memory_bytes"] == pytest.approx(torch.cuda.mem_get_info(0)[1], rel=0.02)

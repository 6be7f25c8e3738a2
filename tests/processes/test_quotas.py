"""CPU quotas on real processes, where this user may set them: they hold, they go, and so do those of a killed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from splitnet.runtime.actuators import make_actuator, why_not
from splitnet.runtime.cgroups import PREFIX, CpuGroup, find_hierarchy, remove_leftovers, start_ticks

DEADLINE_S = 60.0
REFUSED = why_not("cgroup")
pytestmark = pytest.mark.skipif(REFUSED is not None, reason=str(REFUSED))

WORKER = """
import json, sys, time
from splitnet.runtime.actuators import make_actuator

def burn(pause):
    end = time.thread_time() + 0.15
    while time.thread_time() < end:
        pass

actuator = make_actuator("cgroup")
actuator.set("lane", 0.2)
_, use = actuator.run("lane", burn)
print(json.dumps([use.asked, use.achieved, use.cpu_s]), flush=True)
sys.stdin.readline()
actuator.close()
print("closed", flush=True)
sys.stdin.readline()
"""


@contextmanager
def worker() -> Iterator[tuple[subprocess.Popen[str], list[float]]]:
    """A process under a quota of 0.2, and what it says of its first work."""
    process = subprocess.Popen([sys.executable, "-c", WORKER], stdin=-1, stdout=-1, text=True)
    try:
        assert process.stdout is not None
        said: Any = json.loads(process.stdout.readline())
        yield process, said
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


def group_of(process: subprocess.Popen[str]) -> Path:
    return find_hierarchy().parent / f"{PREFIX}{process.pid}-{start_ticks(process.pid)}"


@pytest.mark.timeout(300)
def test_a_quota_holds_and_goes_with_its_process() -> None:
    with worker() as (process, (asked, achieved, cpu_s)):
        folder = group_of(process)
        assert str(process.pid) in (folder / "cgroup.procs").read_text().split()
        assert asked == 0.2
        assert cpu_s >= 0.15
        assert achieved < 0.3  # 0.15 s of CPU: the first quota of 2 ms that comes at once is 1% of it
        assert remove_leftovers(find_hierarchy()) == []
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "closed\n"
        assert not folder.exists()
        assert process.poll() is None


@pytest.mark.timeout(300)
def test_the_group_of_a_killed_process_is_removed_by_the_next() -> None:
    with worker() as (process, _):
        folder = group_of(process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)
        assert folder.is_dir()
        make_actuator("cgroup").close()
        assert not folder.exists()


@pytest.mark.timeout(300)
def test_a_quota_of_another_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as child:
        group = CpuGroup(find_hierarchy(), child.pid)
        try:
            group.set(0.05)
            version = find_hierarchy().version
            names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            assert [(group.folder / name).read_text().split() for name in names] in (
                [["1000", "20000"]],
                [["1000"], ["20000"]],
            )
        finally:
            group.close()
            child.kill()
        assert not group.folder.exists()

"""Finding, naming and setting groups, over trees as the kernel shows them. Real ones: `processes/test_quotas.py`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from splitnet.errors import SettingsError
from splitnet.runtime.cgroups import (
    CgroupActuator,
    CpuGroup,
    Hierarchy,
    find_hierarchy,
    quota_and_period_us,
    remove_leftovers,
    start_ticks,
)
from splitnet.runtime.speed import Pause

V1 = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n"
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
OTHER = "cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\ntmpfs /sys/fs/cgroup tmpfs rw 0 0\n"


def tree(root: Path, mounts: str, groups: str, files: dict[str, str]) -> Path:
    """A recorded /proc and /sys."""
    everything = {"proc/self/mounts": mounts, "proc/self/cgroup": groups, **files}
    for name, text in everything.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def process(root: Path, pid: int, started: int, name: str = "python") -> None:
    """Its /proc/PID/stat: the start is field 22."""
    folder = root / f"proc/{pid}"
    folder.mkdir(parents=True, exist_ok=True)
    fields = ["S", *(str(field) for field in range(4, 22)), str(started), "23", "24"]
    (folder / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")


def thrice(pause: Pause) -> str:
    for _ in range(3):
        pause()
    return "done"


def v1_tree(root: Path) -> Path:
    quota = "sys/fs/cgroup/cpu,cpuacct/user/cpu.cfs_quota_us"
    return tree(root, OTHER + V1, "4:cpuset:/\n3:cpu,cpuacct:/user\n0::/\n", {quota: "-1\n"})


def v2_tree(root: Path, handed_on: str = "cpu memory") -> Path:
    slices = {
        "sys/fs/cgroup/cgroup.subtree_control": "memory\n",
        "sys/fs/cgroup/user.slice/cgroup.subtree_control": handed_on + "\n",
        "sys/fs/cgroup/user.slice/run.scope/cgroup.subtree_control": "\n",
    }
    return tree(root, V2, "0::/user.slice/run.scope\n", slices)


@pytest.mark.parametrize(
    ("fraction", "quota_us", "period_us"),
    [
        (1.0, 10_000, 10_000),
        (0.5, 5_000, 10_000),
        (0.333, 3_330, 10_000),
        (0.1, 1_000, 10_000),
        (0.05, 1_000, 20_000),
    ],
)
def test_the_period_is_ten_milliseconds_until_the_quota_would_be_below_one(
    fraction: float, quota_us: int, period_us: int
) -> None:
    assert quota_and_period_us(fraction) == (quota_us, period_us)


def test_where_groups_are_made(tmp_path: Path) -> None:
    user = tmp_path / "one/sys/fs/cgroup/cpu,cpuacct/user"
    assert find_hierarchy(v1_tree(tmp_path / "one")) == Hierarchy(1, user, user)
    inner = tree(tmp_path / "in", V1, "3:cpu,cpuacct:/user/splitnet-3-4\n", {})
    user = inner / "sys/fs/cgroup/cpu,cpuacct/user"
    tree(inner, V1, "3:cpu,cpuacct:/user/splitnet-3-4\n", {f"{user}/splitnet-3-4/cpu.cfs_quota_us": "-1"})
    assert find_hierarchy(inner) == Hierarchy(1, user, user / "splitnet-3-4")
    above = tmp_path / "two/sys/fs/cgroup/user.slice"
    assert find_hierarchy(v2_tree(tmp_path / "two")) == Hierarchy(2, above, above / "run.scope")


def test_both_versions_say_why_they_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"^cgroup is not available \(v1: no cpu controller is mounted; v2: not mou"
    ):
        find_hierarchy(tmp_path)
    with pytest.raises(
        SettingsError, match=r"no group between .*run\.scope and .*cgroup hands on the cpu controller"
    ):
        find_hierarchy(v2_tree(tmp_path / "v2", handed_on="memory"))
    hidden = tree(tmp_path / "hidden", V1, "3:cpu,cpuacct:/docker/abc\n", {})
    with pytest.raises(SettingsError, match="the group /docker/abc of this process cannot be seen under"):
        find_hierarchy(hidden)
    (hidden / "sys/fs/cgroup/cpu,cpuacct/docker/abc").mkdir(parents=True)
    with pytest.raises(SettingsError, match="v1: this kernel has no CPU quotas"):
        find_hierarchy(hidden)


def test_a_group_of_version_2(tmp_path: Path) -> None:
    root = v2_tree(tmp_path)
    process(root, 77, 4321, name="a) b (c")
    hierarchy = find_hierarchy(root)
    folder = hierarchy.parent / "splitnet-77-4321"
    folder.mkdir()
    for name in ("cgroup.procs", "cpu.max"):
        (folder / name).write_text("")
    group = CpuGroup(hierarchy, 77, root)
    assert group.folder == folder
    assert (folder / "cgroup.procs").read_text() == "77"
    group.set(0.25)
    assert (folder / "cpu.max").read_text() == "2500 10000"
    (hierarchy.home / "cgroup.procs").write_text("")
    group.close()
    assert (hierarchy.home / "cgroup.procs").read_text() == "77"


def test_an_actuator_over_a_group_of_version_1(tmp_path: Path) -> None:
    root = v1_tree(tmp_path)
    process(root, os.getpid(), 99)
    folder = root / f"sys/fs/cgroup/cpu,cpuacct/user/splitnet-{os.getpid()}-99"
    folder.mkdir()
    files = {name: folder / name for name in ("cgroup.procs", "cpu.cfs_quota_us", "cpu.cfs_period_us")}
    for path in files.values():
        path.write_text("")
    actuator = CgroupActuator(root=root)
    actuator.set("g0", 0.05)
    assert files["cpu.cfs_quota_us"].read_text().startswith("-1"), "none between pieces of work"

    def looking(pause: Pause) -> str:
        assert files["cpu.cfs_period_us"].read_text() == "20000"
        assert files["cpu.cfs_quota_us"].read_text().startswith("1000")  # the kernel's file holds the last alone
        return thrice(pause)

    result, use = actuator.run("g0", looking)
    assert result == "done"
    assert files["cpu.cfs_quota_us"].read_text().startswith("-1")
    with pytest.raises(ZeroDivisionError):
        actuator.run("g0", lambda pause: 1 // 0)
    assert files["cpu.cfs_quota_us"].read_text().startswith("-1")
    assert (use.lane, use.asked) == ("g0", 0.05)
    assert use.achieved == pytest.approx(use.cpu_s / use.wall_s)
    with pytest.raises(SettingsError, match="lane g1 cannot be beside g0: a quota is of a whole process"):
        actuator.set("g1", 0.5)
    with pytest.raises(
        SettingsError, match=r"a quota cannot be 0\.0009 of one core: it is at least 0\.001; use pacing"
    ):
        actuator.set("g0", 0.0009)
    files["cpu.cfs_period_us"].unlink()
    with pytest.raises(
        SettingsError, match=r"a quota of 5000 us in 10000 us \(0\.5 of one core\) is refused \(No such"
    ):
        actuator.set("g0", 0.5)
    files["cpu.cfs_period_us"].write_text("")
    assert actuator.run("g0", lambda pause: None)[1].asked == 0.05, "what was asked before holds"


def test_a_process_that_cannot_be_moved_leaves_no_group(tmp_path: Path) -> None:
    root = v1_tree(tmp_path)
    hierarchy = find_hierarchy(root)
    with pytest.raises(SettingsError, match="process 55 cannot have a CPU quota: there is no such process"):
        CpuGroup(hierarchy, 55, root)
    process(root, 55, 1)
    with pytest.raises(SettingsError, match=r"process 55 cannot be moved to .*splitnet-55-1: No such file"):
        CpuGroup(hierarchy, 55, root)  # a plain folder has no cgroup.procs
    assert sorted(path.name for path in hierarchy.parent.iterdir()) == ["cpu.cfs_quota_us"]


def test_only_groups_of_dead_processes_are_leftovers(tmp_path: Path) -> None:
    root = v1_tree(tmp_path)
    process(root, 10, 500)
    process(root, 11, 999)
    hierarchy = find_hierarchy(root)
    names = ("splitnet-10-500", "splitnet-11-600", "splitnet-12-700", "splitnet-mine", "other-12-700")
    for name in names:
        (hierarchy.parent / name).mkdir()
    # 10 lives; 11 is another process with an old number; 12 is no more
    assert remove_leftovers(hierarchy, root) == ["splitnet-11-600", "splitnet-12-700"]
    left = sorted(path.name for path in hierarchy.parent.iterdir() if path.is_dir())
    assert left == ["other-12-700", "splitnet-10-500", "splitnet-mine"]


def test_when_a_process_started(tmp_path: Path) -> None:
    process(tmp_path, 5, 123456, name="x) 1 2 (y")
    assert start_ticks(5, tmp_path) == 123456
    assert start_ticks(6, tmp_path) is None
    (tmp_path / "proc/5/stat").write_text("garbled")
    assert start_ticks(5, tmp_path) is None
    own = start_ticks(os.getpid())
    assert own is None or own > 0

"""CPU quotas of the kernel (cgroup v1 and v2) for one process, where this user may set them.

Decides where a group is made, what its quota and period are, and how leftovers of dead processes are known: a group's
name holds the process it was made for and when that one started. The period is 10 ms: at the usual 100 ms a short
inference runs through unthrottled. The kernel takes no quota below 1 ms, so that below 0.1 of a core it is the period
that grows, up to 1 s.

A quota is of the whole process, so there is one lane, and it is there only while that works: what else the process
does, such as listening to others, goes on at full speed in between. It lets the first quota of each period through at
full speed: work that is shorter than that is not slowed.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import final

from splitnet.errors import SettingsError
from splitnet.runtime.speed import Actuator, Clock, Fractions, Result, Use, Work, clock_for, unhindered

PERIOD_US = 10_000
LEAST_QUOTA_US = 1_000
LONGEST_PERIOD_US = 1_000_000
PREFIX = "splitnet-"
_NAME = re.compile(rf"{PREFIX}(\d+)-(\d+)")
_WAY_OUT = "use pacing"


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where groups can be made.

    Attributes:
        version: 1 or 2.
        parent: the folder in which a group becomes one with a CPU quota.
        home: the folder of the group that this process is in, to which it goes back.
    """

    version: int
    parent: Path
    home: Path


def find_hierarchy(root: Path = Path("/")) -> Hierarchy:
    """Where this process may have a CPU quota.

    Args:
        root: where /proc and /sys lie, so that recorded ones can be read.

    Raises:
        SettingsError: nowhere; it says why.
    """
    reasons = []
    for version, find in ((1, _find_v1), (2, _find_v2)):
        found = find(root)
        if isinstance(found, str):
            reasons.append(f"v{version}: {found}")
        elif not os.access(found.parent, os.W_OK | os.X_OK):
            reasons.append(f"v{version}: {found.parent} is not writable for this user")
        else:
            return found
    raise SettingsError(f"cgroup is not available ({'; '.join(reasons)}); {_WAY_OUT}")


def quota_and_period_us(fraction: float) -> tuple[int, int]:
    """What to write for a fraction of one core; exact to 0.01% of a core, or 0.1% of the fraction."""
    if fraction * PERIOD_US >= LEAST_QUOTA_US:
        return round(fraction * PERIOD_US), PERIOD_US
    return LEAST_QUOTA_US, round(LEAST_QUOTA_US / fraction)


@final
class CpuGroup:
    """A group of its own for one process; gone after `close`."""

    def __init__(self, hierarchy: Hierarchy, pid: int, root: Path = Path("/")) -> None:
        """
        Raises:
            SettingsError: the group cannot be made, or the process not be moved into it; nothing is left of it.
        """
        self._hierarchy, self._pid = hierarchy, pid
        started = start_ticks(pid, root)
        if started is None:
            raise SettingsError(f"process {pid} cannot have a CPU quota: there is no such process")
        self.folder = hierarchy.parent / f"{PREFIX}{pid}-{started}"
        try:
            self.folder.mkdir(exist_ok=True)
            _write(self.folder / "cgroup.procs", str(pid))
        except OSError as error:
            self.close()
            raise SettingsError(
                f"cgroup is not available (process {pid} cannot be moved to {self.folder}: {error.strerror}); "
                f"{_WAY_OUT}"
            ) from error

    def set(self, fraction: float) -> None:
        """Take effect at once.

        Raises:
            SettingsError: the kernel refuses; a group above may have less.
        """
        quota_us, period_us = quota_and_period_us(fraction)
        if period_us > LONGEST_PERIOD_US:
            least = LEAST_QUOTA_US / LONGEST_PERIOD_US
            raise SettingsError(f"a quota cannot be {fraction:g} of one core: it is at least {least:g}; {_WAY_OUT}")
        try:
            if self._hierarchy.version == 2:
                _write(self.folder / "cpu.max", f"{quota_us} {period_us}")
                return
            _write(self.folder / "cpu.cfs_quota_us", "-1")  # or a new period might not fit the old quota
            _write(self.folder / "cpu.cfs_period_us", str(period_us))
            _write(self.folder / "cpu.cfs_quota_us", str(quota_us))
        except OSError as error:
            raise SettingsError(
                f"a quota of {quota_us} us in {period_us} us ({fraction:g} of one core) is refused "
                f"({error.strerror}): a group above {self.folder} may have less; give a lower fraction, or {_WAY_OUT}"
            ) from error

    def lift(self) -> None:
        """No quota any more."""
        name, nothing = ("cpu.max", "max") if self._hierarchy.version == 2 else ("cpu.cfs_quota_us", "-1")
        with contextlib.suppress(OSError):
            _write(self.folder / name, nothing)

    def close(self) -> None:
        """The process goes back where it was, and the group away."""
        if not self.folder.exists():
            return
        for pid in _read_pids(self.folder):
            with contextlib.suppress(OSError):  # it may have ended
                _write(self._hierarchy.home / "cgroup.procs", pid)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def remove_leftovers(hierarchy: Hierarchy, root: Path = Path("/")) -> list[str]:
    """Remove the groups whose process is no more (a killed run); their names. Groups that hold a process stay."""
    removed = []
    for folder in sorted(hierarchy.parent.glob(f"{PREFIX}*")):
        match = _NAME.fullmatch(folder.name)
        if match is None or start_ticks(int(match[1]), root) == int(match[2]):
            continue
        with contextlib.suppress(OSError):
            folder.rmdir()
            removed.append(folder.name)
    return removed


def start_ticks(pid: int, root: Path = Path("/")) -> int | None:
    """When a process started, in ticks since boot, which tells it from others of its number; None without one."""
    try:
        text = (root / f"proc/{pid}/stat").read_text()
        return int(text.rpartition(")")[2].split()[19])  # the name before the bracket may hold anything
    except (OSError, ValueError, IndexError):
        return None


@final
class CgroupActuator(Actuator):
    """A quota for the whole of this process; what it was before comes back with `close`."""

    name = "cgroup"

    def __init__(self, threads: int = 1, root: Path = Path("/"), clock: Clock | None = None) -> None:
        """Removes what dead processes left, and makes this one's group.

        Raises:
            SettingsError: not available here, and why.
        """
        hierarchy = find_hierarchy(root)
        remove_leftovers(hierarchy, root)
        self._clock = clock or clock_for(threads)
        self._fractions = Fractions(1, f"a quota is of a whole process; start a process for each lane, or {_WAY_OUT}")
        self._group = CpuGroup(hierarchy, os.getpid(), root)

    def set(self, lane: str, fraction: float) -> None:
        """Also asks the kernel whether it would take it."""
        self._fractions.check(lane, fraction)
        self._group.set(fraction)
        self._group.lift()
        self._fractions.set(lane, fraction)

    def run(self, lane: str, work: Work[Result]) -> tuple[Result, Use]:
        asked = self._fractions.of(lane)
        self._group.set(asked)
        try:
            result, cpu_s, wall_s = unhindered(self._clock, work)
        finally:
            self._group.lift()
        return result, Use(lane, asked, cpu_s / wall_s, cpu_s, wall_s)

    def close(self) -> None:
        self._group.close()


# --- where groups are


def _find_v1(root: Path) -> Hierarchy | str:
    own = _own_groups(root).get("cpu")
    mount = _mount(root, "cgroup", "cpu")
    if own is None or mount is None:
        return "no cpu controller is mounted"
    home = _below(mount, own)
    if not home.is_dir():
        return f"the group {own} of this process cannot be seen under {mount}"
    if not (home / "cpu.cfs_quota_us").exists():
        return "this kernel has no CPU quotas"
    return Hierarchy(1, home.parent if _NAME.fullmatch(home.name) else home, home)  # who started us may have a group


def _find_v2(root: Path) -> Hierarchy | str:
    """The nearest group above that hands on the cpu controller: one with processes in it cannot, but for the root."""
    own = _own_groups(root).get("")
    mount = _mount(root, "cgroup2", None)
    if own is None or mount is None:
        return "not mounted"
    home = _below(mount, own)
    if not home.is_dir():
        return f"the group {own} of this process cannot be seen under {mount}"
    folder = home
    while True:
        with contextlib.suppress(OSError):
            if "cpu" in (folder / "cgroup.subtree_control").read_text().split():
                return Hierarchy(2, folder, home)
        if folder == mount:
            return f"no group between {home} and {mount} hands on the cpu controller (cgroup.subtree_control)"
        folder = folder.parent


def _own_groups(root: Path) -> dict[str, str]:
    """This process's group by v1 controller; that of v2 by ""."""
    groups: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, _, rest = line.partition(":")
            controllers, _, group = rest.partition(":")
            for controller in controllers.split(","):
                groups[controller] = group
    return groups


def _mount(root: Path, kind: str, option: str | None) -> Path | None:
    """Where a file system of that kind, with that option, is mounted."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/mounts").read_text().splitlines():
            fields = line.split()
            if len(fields) >= 4 and fields[2] == kind and (option is None or option in fields[3].split(",")):
                return _below(root, fields[1])
    return None


def _below(folder: Path, path: str) -> Path:
    return folder.joinpath(*(part for part in path.split("/") if part not in ("", ".", "..")))


def _read_pids(folder: Path) -> list[str]:
    try:
        return (folder / "cgroup.procs").read_text().split()
    except OSError:
        return []


def _write(path: Path, text: str) -> None:
    """One write, without making the file: the kernel's files are there or not."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)

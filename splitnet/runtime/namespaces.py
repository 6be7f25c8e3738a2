"""Network namespaces of this host: made, named, entered, removed, through iproute2's `ip` and `tc`.

Decides the names, which say whose a namespace is: `splitnet-PID-START-SERIAL-MACHINE`, with the process's own number
and start time, so that what a process left behind that was killed is told from what another one uses. Commands and
not netlink from Python: no dependency, root has them on any Linux, and each says itself why the kernel refuses.
A machine's command is started by `nsenter`, which changes its network alone (`ip netns exec` also hides /sys, and
with it the cgroups). It does not know links.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from splitnet.errors import SettingsError

FOLDER = Path("/run/netns")
TOOLS = {"ip": "iproute2", "tc": "iproute2", "nsenter": "util-linux"}
WAY_OUT = "take --link-backend user, which needs no rights"
DEADLINE_S = 20.0
END_DEADLINE_S = 5.0
_NAME = re.compile(r"splitnet-(\d+)-(\d+)-(\d+)-[a-z0-9]+")
_serials = itertools.count()


def new_prefix() -> tuple[str, str]:
    """What the names of a new set of namespaces begin with, and the name of its one interface outside of them."""
    process, serial = os.getpid(), next(_serials)
    return f"splitnet-{process}-{start_of(process)}-{serial}-", f"sn{process}-{serial}"


def start_of(process: int) -> int | None:
    """When a process was started, in ticks since this host was; None where it is gone."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])  # a zombie holds nothing any more


def abandoned(names: Iterable[str], started: Callable[[int], int | None] = start_of) -> list[str]:
    """Those of the names that a process gave which is gone; `started` tells when a running one was started."""
    found = ((name, _NAME.fullmatch(name)) for name in names)
    return [name for name, match in found if match and started(int(match[1])) != int(match[2])]


def remove_abandoned() -> list[str]:
    """End and remove what processes that are gone have left, and say what it was."""
    names = abandoned(present())
    for name in names:
        remove(name)
    return names


def present() -> list[str]:
    """The names of all namespaces of this host."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(path.name for path in FOLDER.iterdir())
    return []


def check_possible() -> None:
    """Raises SettingsError where namespaces cannot be made: no root, or a tool is missing."""
    if os.geteuid() != 0:
        raise SettingsError(f"--link-backend kernel makes network namespaces, which only root may; {WAY_OUT}")
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise SettingsError(f"--link-backend kernel needs `{tool}`; install {package}, or {WAY_OUT}")


def tool(*words: str) -> str:
    """Run `ip` or `tc`, and give what it printed. Raises SettingsError with what it says if it refuses."""
    try:
        ended = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SettingsError(f"`{' '.join(words)}` cannot be run: {error}; {WAY_OUT}") from error
    if ended.returncode:
        said = " ".join(ended.stderr.split()) or f"status {ended.returncode}"
        raise SettingsError(f"`{' '.join(words)}` was refused: {said[:200]}; {WAY_OUT}")
    return ended.stdout


def inside(name: str, command: Iterable[str]) -> list[str]:
    """The command that runs this command with this namespace's network."""
    return ["nsenter", f"--net={FOLDER / name}", "--", *command]


def remove(name: str) -> None:
    """End what still runs in a namespace and remove it; one that is gone already is left alone.

    Its interfaces, and the other ends of its cables, go with it, as soon as nothing runs in it.
    """
    end_s = time.monotonic() + END_DEADLINE_S
    while name in present() and (running := _processes(name)) and time.monotonic() < end_s:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    with contextlib.suppress(SettingsError):  # another run removes the same leftovers
        tool("ip", "netns", "del", name)
    if name in present():
        raise SettingsError(f"cannot remove the network namespace {name}; try `ip netns del {name}`")


def _processes(name: str) -> list[int]:
    with contextlib.suppress(SettingsError):
        return [int(word) for word in tool("ip", "netns", "pids", name).split()]
    return []

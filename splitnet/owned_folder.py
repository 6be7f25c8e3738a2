"""A run's folder that one process at a time works in, and that is only gone on with for what it was begun with.

Decides when a folder may be begun or opened, and the one line that is said when it may not. It does not know what is
kept in it. The lock is the folder itself (flock): it ends with its process, however that ends, and leaves nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

from splitnet.errors import SettingsError
from splitnet.files import refusals
from splitnet.rundir import RUNS_WAY_OUT, create_run_dir

WAY_OUT = "choose another folder with -o DIR"


@final
class OwnedFolder:
    """A folder while this process has it: no other process can open it until it is closed."""

    def __init__(self, path: Path, kind: str) -> None:
        """Take the folder, which exists.

        Args:
            kind: of run, in words that fit "another …".

        Raises:
            SettingsError: it cannot be had, or another process has it.
        """
        self.path = path
        try:
            self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise SettingsError(f"cannot open {path}: {error.strerror}; name a {kind}'s folder") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise SettingsError(f"{path} is in use by another {kind}; wait until it ends, or {WAY_OUT}") from error

    @classmethod
    def begin(cls, path: Path | None, kind: str, name: str) -> Self:
        """A new or empty folder, `path` or one under runs/ that is named after the time and `name`.

        Raises:
            SettingsError: there is something in it already, or the disk refuses.
        """
        if path is None:
            try:
                path = create_run_dir(Path("runs"), name)
            except SettingsError as error:
                raise SettingsError(str(error).replace(RUNS_WAY_OUT, WAY_OUT)) from error
        else:
            if path.exists() and not path.is_dir():
                raise SettingsError(f"cannot write {path}: Not a directory; {WAY_OUT}")
            with refusals(path, WAY_OUT):
                path.mkdir(parents=True, exist_ok=True)
        folder = cls(path, kind)
        if any(path.iterdir()):
            folder.close()
            raise SettingsError(f"{path} is not empty; go on with its run by --resume {path}, or {WAY_OUT}")
        return folder

    def close(self) -> None:
        """Let others have the folder; a second call does nothing."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_same(
    path: Path,
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    options: Mapping[str, str],
    groups: Sequence[str] = ("settings", "versions"),
) -> None:
    """Insist that a run is gone on with as it was begun.

    Args:
        then, now: manifests, with `scenario`, `scenario_digest` and the groups.
        options: names of settings as a user gives them.

    Raises:
        SettingsError: it is of another scenario, or something in a group differs.
    """
    if then["scenario"] != now["scenario"]:
        raise SettingsError(f"{path} is a run of scenario {then['scenario']}, not {now['scenario']}; {WAY_OUT}")
    if then["scenario_digest"] != now["scenario_digest"]:
        raise SettingsError(f"scenario {now['scenario']} has changed since the run in {path} was begun; {WAY_OUT}")
    for group in groups:
        for name in {**then[group], **now[group]}:
            before, wanted = (found[group].get(name) for found in (then, now))
            if before != wanted:
                label = options.get(name, name)
                raise SettingsError(f"{path} was begun with {label} {_told(before)}, not {_told(wanted)}; {WAY_OUT}")


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_told, value)) or "none"
    if value is None:
        return "none"
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)

"""Where things are kept that can always be made again: calibrations of this machine's devices."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from splitnet.profiling.profile import NOT_ITS_SPEED

VARIABLE = "SPLITNET_CACHE"


def cache_dir() -> Path:
    """`$SPLITNET_CACHE`, else `splitnet` in the user's cache folder; it need not exist yet."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "splitnet"


def calibration_path(machine: Mapping[str, Any], device: str, threads: int) -> Path:
    """Where the calibration of one device of one machine is kept."""
    lasting = {name: value for name, value in machine.items() if name not in NOT_ITS_SPEED}
    key = json.dumps(lasting, sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return cache_dir() / f"calibration-{digest}-{device.replace(':', '')}-{threads}.json"

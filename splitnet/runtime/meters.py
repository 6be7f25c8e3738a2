"""Energy of a slot by this machine's meters, side by side: joules where there is a meter, None where there is none.

Decides how readings of a span become figures. The meters themselves are those of `profiling/energy.py`: each counts
all that its chip does, so they are of the host and not of one emulated machine. What the model says an emulated
machine uses is in `controller/energy_model.py`, and never mixed with these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import torch

from splitnet.profiling.energy import Meter, find_meter


@final
class SpanMeters:
    """Joules between two instants, by device."""

    def __init__(self, meters: Mapping[str, Meter | None]) -> None:
        """`meters`: by device, `cpu` or `cuda:0`; None where it has none."""
        self._meters = dict(meters)
        self._before: dict[str, float] = {}

    @classmethod
    def find(cls, devices: Sequence[torch.device], root: Path = Path("/")) -> SpanMeters:
        """The meters of these devices; `root` is where /sys lies, so that a recorded one can be read."""
        return cls({str(device): find_meter(device, root) for device in devices})

    @classmethod
    def of_host(cls, root: Path = Path("/")) -> SpanMeters:
        """The meters of this host's CPU and of every CUDA device that torch can use."""
        gpus = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
        return cls.find([torch.device("cpu"), *gpus], root)

    @property
    def names(self) -> dict[str, str | None]:
        """What each device is measured by; None: by nothing."""
        return {device: meter.name if meter else None for device, meter in self._meters.items()}

    def start(self) -> None:
        """The first instant."""
        self._before = {device: value for device in self._meters if (value := self._read(device)) is not None}

    def used_j(self) -> dict[str, float | None]:
        """Joules since `start`, by device.

        None without a meter, where it can no longer be read, or where it did not move: the span was shorter than its
        update, or it stands still, as some virtual machines show it. That is no reading of 0 J.
        """
        used: dict[str, float | None] = {}
        for device in self._meters:
            now_j, before_j = self._read(device), self._before.get(device)
            moved = now_j is not None and before_j is not None and now_j > before_j
            used[device] = now_j - before_j if moved and now_j is not None and before_j is not None else None
        return used

    def _read(self, device: str) -> float | None:
        meter = self._meters[device]
        try:
            return None if meter is None else meter.read_j()
        except OSError:
            return None

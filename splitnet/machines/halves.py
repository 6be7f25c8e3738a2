"""The paced halves of a machine, made before they are needed, and what they cost here.

Making a half writes code and the first pass of a shape prepares kernels; both would be taken for slow hardware.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from splitnet.machines.messages import CutCost
from splitnet.resident import ResidentModel
from splitnet.runtime.paced import PacedHalf
from splitnet.runtime.speed import Actuator, Pause

WARM_UPS, REPEATS = 1, 3
"""Of each cut, when a machine is calibrated."""
REST_S = 0.1
"""Before each pass: in a slot a machine has slept while others worked, and its caches are cold."""


class Halves:
    """Bottoms or tops of the DTs' models, by cut."""

    def __init__(self, models: Sequence[ResidentModel], make: Callable[[ResidentModel, int], PacedHalf]) -> None:
        self._models, self._make = models, make
        self._made: dict[tuple[int, int], PacedHalf] = {}
        self._making = threading.Lock()

    def of(self, twin: int, cut: int) -> PacedHalf:
        """The half of a DT's model at a cut. DTs of one model share it."""
        key = id(self._models[twin]), cut
        with self._making:
            if key not in self._made:
                self._made[key] = self._make(self._models[twin], cut)
            return self._made[key]

    def costs(
        self,
        twins: Sequence[int],
        cuts: Sequence[Sequence[int]],
        values: Callable[[int, int], list[Any]],
        actuator: Actuator,
        lane: str,
    ) -> list[CutCost]:
        """Run every cut that is offered, as in a slot: at the lane's speed, after a rest, never one twice in a row.

        Args:
            cuts: of every DT.
            values: what a DT's half takes at a cut, in memory of their own.
        """
        places = {
            (id(self._models[twin]), cut): (twin, cut)
            for twin in twins
            for cut in cuts[twin]
            if self.of(twin, cut).boundaries
        }
        taken: dict[tuple[int, int], list[float]] = {place: [] for place in places.values()}
        for number in range(WARM_UPS + REPEATS):
            for twin, cut in taken:
                given, half = values(twin, cut), self.of(twin, cut)

                def work(pause: Pause, given: list[Any] = given, half: PacedHalf = half) -> None:
                    half.run(given, pause)

                time.sleep(REST_S)
                use = actuator.run(lane, work)[1]
                if number >= WARM_UPS:
                    taken[twin, cut].append(use.cpu_s)
        return [CutCost(twin, cut, sorted(seconds)[REPEATS // 2]) for (twin, cut), seconds in taken.items()]


def example_batch(model: ResidentModel) -> list[Any]:
    """The model's example inputs, of the batch that it was built with."""
    return [value.clone() if isinstance(value, torch.Tensor) else value for _, value in model.example()]

"""The models that a worker holds: built once, moved to its device, sliced on demand, run one at a time.

A worker runs code of its own side only. Torchvision's models and the toy nets are part of splitnet; a factory or
a saved program is used only where this worker was started with it.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Sequence

import torch

from splitnet.errors import ModelError
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef, is_code
from splitnet.resident import ResidentModel

MODELS_KEPT = 4
"""Models that peers asked for by name; those the worker was started with are never dropped."""


class Engine:
    """All models of one worker. One forward pass runs at a time: `lane` is the queue before the device."""

    def __init__(self, device: torch.device, threads: int, own_code: Sequence[str] = ()) -> None:
        self.device = device
        self.threads = threads
        self.own_code = tuple(own_code)
        self._models: OrderedDict[ModelRef, ResidentModel] = OrderedDict()
        self._kept: set[ModelRef] = set()
        self._building = threading.Lock()
        self.lane = threading.Lock()

    def keep(self, ref: ModelRef) -> ResidentModel:
        """Build a model that the worker was started with; it is never dropped."""
        self._kept.add(ref)
        return self.load(ref)

    def load(self, ref: ModelRef, graph: str | None = None, weights: str | None = None) -> ResidentModel:
        """Find or build a model, and insist on its fingerprint.

        Raises:
            ModelError: the model cannot be built, is code that is not this worker's own, or differs.
        """
        ref = self._own(ref)
        with self._building, self.lane, torch.inference_mode(False):  # weights are normal tensors
            model = self._models.get(ref)
            if model is None:
                model = self._models[ref] = ResidentModel(build_model(ref), self.device)
                self._drop_oldest()
            self._models.move_to_end(ref)
        found = model.graph.fingerprint
        for what, asked, have in (("graph", graph, found.graph), ("weights", weights, found.weights)):
            if asked is not None and asked != have:
                raise ModelError(
                    f"the {what} of {ref.name} differ here ({have[:12]}) from what was asked for "
                    f"({asked[:12]}); use the same model, seed or weights, and library versions on both sides"
                )
        return model

    def _own(self, ref: ModelRef) -> ModelRef:
        """The reference as this worker was started with it: paths differ from host to host, file names do not."""
        if not is_code(ref.name) or ref.name in self.own_code:
            return ref
        alike = [name for name in self.own_code if _file_name(name) == _file_name(ref.name)]
        if len(alike) != 1:
            raise ModelError(
                f"{ref.name} is code that this worker was not started with; start it with --model {ref.name}"
            )
        return dataclasses.replace(ref, name=alike[0])

    def _drop_oldest(self) -> None:
        asked_for = [ref for ref in self._models if ref not in self._kept]
        for ref in asked_for[: max(0, len(asked_for) - MODELS_KEPT)]:
            del self._models[ref]


def _file_name(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]

"""One model ready to run on one device: whole, in halves, or layer by layer with a clock reading after each.

Knows nothing of workers: they hold these, and so does the profiler.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils import _pytree as pytree

from splitnet.errors import ModelError, SettingsError
from splitnet.graph import Cut, LayerGraph, layer_graph
from splitnet.inference import bitwise_equal, clone_tensors, max_abs_error, synchronize
from splitnet.models.reference import BuiltModel
from splitnet.profiling.timing import StampedPass
from splitnet.recording import does_not_run
from splitnet.slicing import Bottom, Top

REST_S = 0.02
"""Before a half that is timed alone. In a split each side sleeps while the other works, and a core that has slept
runs its first milliseconds slowly: a top after 50 ms of sleep took 0.7-1 ms more than right after its bottom."""
HALVES_KEPT = 512
"""Halves share their model's weights, so each costs only its code."""

Half = TypeVar("Half", Bottom, Top)


def parse_device(text: str) -> torch.device:
    """`cpu`, `cuda` or `cuda:k`, checked against what this machine has.

    Raises:
        SettingsError: no such device here.
    """
    try:
        device = torch.device(text)
    except RuntimeError:
        raise SettingsError(f"device {text!r} is unknown: give cpu, cuda or cuda:0, cuda:1, …") from None
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise SettingsError(f"device {text!r} is not supported: give cpu, cuda or cuda:0, cuda:1, …")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise SettingsError(f"device {text!r} is not here: this machine has {count} CUDA devices; use --device cpu")
    return torch.device("cuda", device.index or 0)


class ResidentModel:
    """One model on the worker's device: the unsplit module, its layer graph, and halves built so far."""

    def __init__(self, built: BuiltModel, device: torch.device) -> None:
        self.built = built
        self.device = device
        self.graph: LayerGraph = layer_graph(
            built.module, built.args, built.kwargs, name=built.ref.name, exported=built.exported
        )
        self.graph.trace.move_to(device)
        self.module: nn.Module = built.module.to(device)
        self._bottoms: dict[int, Bottom] = {}
        self._tops: dict[int, Top] = {}
        self._stamped: StampedPass | None = None
        self._building = threading.Lock()

    def example(self) -> list[tuple[str, Any]]:
        """Name and value of each input of the model's example, in flat order."""
        trace = self.graph.trace
        values = trace.flatten_inputs(self.built.args, self.built.kwargs)
        return list(zip(trace.input_names, values, strict=True))

    def bottom(self, cut: int) -> Bottom:
        """The bottom of a cut, from the cache or built now."""
        return self._bottoms.get(cut) or self._build(self._bottoms, Bottom, cut)

    def top(self, cut: int) -> Top:
        """The top of a cut, from the cache or built now."""
        return self._tops.get(cut) or self._build(self._tops, Top, cut)

    def stamped(self) -> StampedPass:
        """The pass with a clock reading after every layer."""
        if self._stamped is None:
            with self._building, torch.inference_mode(False):
                self._stamped = StampedPass(self.graph, self.device)
        return self._stamped

    def _build(self, halves: dict[int, Half], kind: Callable[[LayerGraph, Cut], Half], cut: int) -> Half:
        with self._building, torch.inference_mode(False):
            half = kind(self.graph, self.graph.cut(cut))
            if len(halves) >= HALVES_KEPT:
                halves.pop(next(iter(halves)))
            halves[cut] = half
            return half


class ModelInputs:
    """Inputs of one model on its device, and what the unsplit model makes of them."""

    def __init__(self, model: ResidentModel, values: Sequence[Any] | None = None) -> None:
        """`values` in the flat order of the graph's inputs; by default the model's own example.

        Raises:
            ModelError: the model does not run on these values.
        """
        trace, built = model.graph.trace, model.built
        example = trace.flatten_inputs(built.args, built.kwargs)
        if values is None:
            values = example
        if len(values) != len(example):
            raise ModelError(f"{len(values)} input values given, {model.graph.name} takes {len(example)}")
        for given, expected, name in zip(values, example, trace.input_names, strict=True):
            _check_like(given, expected, name)
        self._model = model
        self._values = [value.to(model.device) if isinstance(value, torch.Tensor) else value for value in values]
        self._args, self._kwargs = trace.unflatten_inputs(self._values, built.args, built.kwargs)
        self._reference: list[Any] | None = None
        self._stamped_is_right = False

    def flat(self) -> list[Any]:
        """The values for one forward pass; copies where the model changes its input."""
        values: list[Any] = clone_tensors(self._values) if self._model.graph.changes_input else self._values
        return values

    def reference(self) -> list[Any]:
        """The unsplit model's output leaves."""
        if self._reference is None:
            self.run_unsplit()
        assert self._reference is not None
        return self._reference

    def run_unsplit(self) -> float:
        """Seconds of one forward pass of the unsplit module; its output becomes the reference.

        Raises:
            ModelError: the module does not run on these inputs.
        """
        args, kwargs = self._args, self._kwargs
        if self._model.graph.changes_input:
            args, kwargs = clone_tensors((args, kwargs))
        synchronize(self._model.device)
        start_ns = time.monotonic_ns()
        try:
            output = self._model.module(*args, **kwargs)
        except Exception as error:
            raise ModelError(does_not_run(self._model.graph.name, self._values, error)) from error
        synchronize(self._model.device)
        end_ns = time.monotonic_ns()
        if self._reference is None:
            self._reference = clone_tensors(pytree.tree_leaves(output))
        return (end_ns - start_ns) * 1e-9

    def layers_ns(self) -> list[int]:
        """Nanoseconds of layers 1..L in one pass of the whole model.

        Raises:
            ModelError: the pass does not give the unsplit model's bits.
        """
        taken_ns, leaves = self._model.stamped().run(self.flat())
        if not self._stamped_is_right:
            if not self.compare(leaves)[0]:
                raise ModelError(f"{self._model.graph.name} run layer by layer differs from the whole; report it")
            self._stamped_is_right = True
        return taken_ns

    def halves_ns(self, cut: int) -> tuple[int, int]:
        """Nanoseconds of the bottom and of the top of a cut, each after a rest, as when the other side worked."""
        bottom, top, device = self._model.bottom(cut), self._model.top(cut), self._model.device
        inputs = self.flat()
        synchronize(device)
        time.sleep(REST_S)
        start_ns = time.monotonic_ns()
        live = bottom.run(inputs)
        synchronize(device)
        bottom_ns = time.monotonic_ns() - start_ns
        time.sleep(REST_S)
        start_ns = time.monotonic_ns()
        top.run(live)
        synchronize(device)
        return bottom_ns, time.monotonic_ns() - start_ns

    def compare(self, leaves: Sequence[Any]) -> tuple[bool, float]:
        """Whether output leaves have the reference's bits, and their largest absolute difference."""
        reference = self.reference()
        if bitwise_equal(list(leaves), reference):
            return True, 0.0
        return False, max_abs_error(list(leaves), reference)


def _check_like(given: Any, expected: Any, name: str) -> None:
    """An input value must be of the example's kind; sizes may differ where the graph allows."""
    if isinstance(expected, torch.Tensor):
        if not isinstance(given, torch.Tensor):
            raise ModelError(f"input {name} must be a tensor, not {type(given).__name__}")
        if given.dtype != expected.dtype or given.dim() != expected.dim():
            raise ModelError(
                f"input {name} is {given.dtype} with shape {tuple(given.shape)}; it must be {expected.dtype} with "
                f"{expected.dim()} dimensions like {tuple(expected.shape)}"
            )
    elif type(given) is not type(expected) or given != expected:
        raise ModelError(f"input {name} is fixed at {expected!r}, not {given!r}")

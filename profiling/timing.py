"""One forward pass of a whole model with a clock reading after every layer.

The readings stand inside the one graph module that runs the model, so that a pass costs what the model costs:
modules run layer by layer would add microseconds each. From one pass follow the time of every layer, and that of
every prefix and suffix, all under the same conditions: a layer's weights have been driven from the caches by the
others, as in a split.

A CUDA device is read by events, which the device stamps when it reaches them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import fx

from splitnet.graph import LayerGraph
from splitnet.inference import synchronize


class StampedPass:
    """The whole model, with a reading before layer 1 and one after each of the layers 1..L."""

    def __init__(self, graph: LayerGraph, device: torch.device) -> None:
        self._device = device
        self._stamps = len(graph.layers) + 1
        self._module = _stamped(graph, _event if device.type == "cuda" else time.monotonic_ns)

    def run(self, inputs: Sequence[Any]) -> tuple[list[int], tuple[Any, ...]]:
        """Nanoseconds of layers 1..L, and the flat output leaves; call it inside `exact_inference`."""
        synchronize(self._device)
        returned = self._module.forward(*inputs)
        stamps, leaves = returned[: self._stamps], returned[self._stamps :]
        if self._device.type == "cuda":
            synchronize(self._device)
            between = [a.elapsed_time(b) for a, b in pairwise(stamps)]
            return [round(ms * 1e6) for ms in between], leaves
        return [after - before for before, after in pairwise(stamps)], leaves


def layer_of_node(graph: LayerGraph) -> dict[str, int]:
    """The layer 1..L that each node runs with: its own, or for nodes that need no input the first that reads them.

    Nodes of position 0 (views of the inputs) run with layer 1; placeholders have 0, the output L+1.
    """
    layers: dict[str, int] = {}
    for node in reversed(graph.trace.root.graph.nodes):
        position = graph.positions[node.name]
        if node.op == "placeholder":
            layers[node.name] = 0
        elif position is not None:
            layers[node.name] = max(position, 1)
        else:
            readers = {user.name for user in node.users} | graph.readers.get(node.name, frozenset())
            layers[node.name] = min((layers[name] for name in readers), default=graph.last_cut)
    return layers


def _stamped(graph: LayerGraph, clock: Any) -> fx.GraphModule:
    layers = layer_of_node(graph)
    nodes = sorted(graph.trace.root.graph.nodes, key=lambda node: layers[node.name])  # stable: else as traced
    stamped = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    stamps: list[fx.Node] = []
    current = 0
    for node in nodes:
        for _ in range(current, layers[node.name]):
            stamps.append(stamped.call_function(clock))
        current = layers[node.name]
        if node.op == "output":
            leaves = fx.map_arg(node.args[0], lambda used: copies[used])
            stamped.output((*stamps, *leaves))
        else:
            copies[node] = stamped.node_copy(node, lambda used: copies[used])
            copies[node].meta = {}
    return fx.GraphModule(graph.trace.root, stamped, f"{graph.name}_stamped")


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event

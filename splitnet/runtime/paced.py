"""The layers of a half, one after the other, with a boundary after each where the work may be held up.

Decides where the boundaries are: after every layer of the traced graph. They are calls inside the one graph module
that runs the half, so that it computes the same in the same order, and without pauses costs what the half costs. How
long a pause is, is the business of whoever runs it (`speed.py`).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import fx

from splitnet.runtime.speed import Pause
from splitnet.slicing import Bottom, Top


@final
class PacedHalf:
    """A bottom or a top that calls `pause` after each of its layers. Shares the half's weights."""

    def __init__(self, half: Bottom | Top) -> None:
        self.half = half
        layers = {layer.node for layer in half.graph.layers}
        with torch.inference_mode(False):
            self._part, self.boundaries = _with_boundaries(half.part, layers)

    def run(self, values: Sequence[Any], pause: Pause) -> tuple[Any, ...]:
        """What `half.run(values)` gives, bit for bit; call it inside `exact_inference`."""
        found: tuple[Any, ...] = self._part.forward(*values, pause)
        return found


def _with_boundaries(part: fx.GraphModule, layers: set[str]) -> tuple[fx.GraphModule, int]:
    """A module that takes one value more, the pause, and calls it after each node of these names; how many there are.

    Nodes that copy nothing (views, sizes) follow the layer that they belong to and cost next to nothing: they are
    charged to the layer after it.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    nodes = list(part.graph.nodes)
    for node in nodes:
        if node.op == "placeholder":
            copies[node] = graph.node_copy(node)
    pause = graph.placeholder("pause")
    boundaries = 0
    for node in nodes:
        if node.op == "placeholder":
            continue
        copies[node] = graph.node_copy(node, lambda used: copies[used])
        if node.name in layers and node.op != "output":
            graph.call_function(operator.call, (pause,))
            boundaries += 1
    return fx.GraphModule(part, graph, f"paced_{part.__class__.__name__}"), boundaries

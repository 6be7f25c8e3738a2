"""Digests by which two workers know that they hold the same graph and the same weights.

The graph's digest covers operations, their arguments and the configuration of modules, not devices and not
shapes (an exported graph has its shapes in its arguments). The digest of the weights covers every parameter,
buffer and constant. The same graph with other weights would give wrong answers in silence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from splitnet.inference import tensor_bits


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """SHA-256 digests in hexadecimal."""

    graph: str
    weights: str

    def difference(self, other: Fingerprint) -> str | None:
        """`graph`, `weights`, or None where both agree."""
        if self.graph != other.graph:
            return "graph"
        return "weights" if self.weights != other.weights else None


def fingerprint(root: fx.GraphModule) -> Fingerprint:
    """The digests of a traced graph and of all tensors it can reach."""
    return Fingerprint(graph=_graph_digest(root), weights=_weights_digest(root))


def _graph_digest(root: fx.GraphModule) -> str:
    numbers = {node: f"%{number}" for number, node in enumerate(root.graph.nodes)}
    digest = hashlib.sha256()
    for node in root.graph.nodes:
        target = str(node.target)
        if node.op == "call_function":
            target = f"{getattr(node.target, '__module__', '')}.{getattr(node.target, '__name__', node.target)}"
        elif node.op == "call_module":
            module = root.get_submodule(target)
            target = f"{target}:{type(module).__name__}({module.extra_repr()})"
        elif node.op in ("placeholder", "output"):
            target = ""
        line = f"{node.op} {target} {_text(node.args, numbers)} {_text(node.kwargs, numbers)}\n"
        digest.update(line.encode())
    return digest.hexdigest()


def _text(argument: Any, numbers: dict[fx.Node, str]) -> str:
    match argument:
        case fx.Node():
            return numbers[argument]
        case torch.device():
            return "device"
        case dict():
            return "{" + ",".join(f"{key}:{_text(item, numbers)}" for key, item in argument.items()) + "}"
        case tuple() | list():
            return "(" + ",".join(_text(item, numbers) for item in argument) + ")"
        case slice():
            return "slice" + _text((argument.start, argument.stop, argument.step), numbers)
        case int() | float() | bool() | str() | None | torch.dtype() | torch.memory_format() | torch.layout():
            return repr(argument)
        case _ if argument is Ellipsis:
            return "..."
        case _:
            return f"<{type(argument).__name__}>"  # never an address


def _weights_digest(root: fx.GraphModule) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(_named_tensors(root), key=lambda pair: pair[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor_bits(tensor).cpu().numpy().data)
    return digest.hexdigest()


def _named_tensors(root: fx.GraphModule) -> Iterator[tuple[str, torch.Tensor]]:
    seen = set()
    for name, tensor in (
        *root.named_parameters(remove_duplicate=False),
        *root.named_buffers(remove_duplicate=False),
    ):
        seen.add(name)
        yield name, tensor
    for node in root.graph.nodes:
        if node.op == "get_attr" and node.target not in seen:
            value: Any = root
            for part in str(node.target).split("."):
                value = getattr(value, part)
            if isinstance(value, torch.Tensor):
                seen.add(str(node.target))
                yield str(node.target), value

"""From an `nn.Module` to one flat graph of its computation: FX first, `torch.export` as the fallback.

FX takes a tenth of a second and its graphs accept other batch and image sizes; export takes seconds, specialises
on the example's shapes, and follows models that FX cannot (Hugging Face, some of timm). Either way the result is
a plain `fx.GraphModule`: one placeholder per input leaf, one output node with a flat tuple.

What FX cannot see is a branch on an argument that is a proxy (`if mask is not None`): arguments that the example
does not give are therefore fixed at their defaults, and `recording.py` compares the graph with the module.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from splitnet.errors import ModelError

_TRACE_CHECKS = ("_assert_is_none", "_assert")


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One model as a flat graph.

    Attributes:
        root: placeholders are the input leaves in order; the output is a flat tuple of leaves.
        input_names: the placeholders' names.
        out_spec: how the flat outputs nest in what the model returns.
        fallback_reason: why FX could not trace it, when `frontend` is `export`.
        parameters: the names of `forward`'s parameters, in order (FX only).
        in_spec: how the example inputs nest (export only).
    """

    root: fx.GraphModule
    frontend: Literal["fx", "export"]
    input_names: tuple[str, ...]
    out_spec: pytree.TreeSpec
    fallback_reason: str | None = None
    parameters: tuple[str, ...] = ()
    in_spec: pytree.TreeSpec | None = None
    keywords: tuple[str, ...] = ()

    def flatten_inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> list[Any]:
        """The inputs of one call in the order of the placeholders.

        Raises:
            ModelError: the call gives other inputs than the model was traced with.
        """
        kwargs = dict(kwargs or {})
        if self.in_spec is not None:
            if set(kwargs) != set(self.keywords):
                raise ModelError(
                    f"keyword inputs {sorted(kwargs)} given, the model was traced with {sorted(self.keywords)}"
                )
            leaves, spec = pytree.tree_flatten((args, {name: kwargs[name] for name in self.keywords}))
            if spec != self.in_spec:
                raise ModelError(
                    f"{len(leaves)} input values given, the model was traced with "
                    f"{self.in_spec.num_leaves} in another nesting: give inputs like the example's"
                )
            return leaves
        given = dict(zip(self.parameters, args, strict=False)) | kwargs
        missing = [name for name in self.input_names if name not in given]
        if missing or len(args) > len(self.parameters):
            raise ModelError(
                f"{len(args) + len(kwargs)} inputs given, the model takes {len(self.input_names)}: "
                f"{', '.join(self.input_names)}"
            )
        return [given[name] for name in self.input_names]

    def unflatten_inputs(
        self, values: Sequence[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Flat values nested as in the call `(args, kwargs)`, whose other arguments stay as they are."""
        if self.in_spec is not None:
            nested_args, nested_kwargs = pytree.tree_unflatten(list(values), self.in_spec)
            return nested_args, nested_kwargs
        given = dict(zip(self.input_names, values, strict=True))
        positional = zip(self.parameters, args, strict=False)
        return (
            tuple(given.get(name, value) for name, value in positional),
            {name: given.get(name, value) for name, value in kwargs.items()},
        )

    def move_to(self, device: torch.device) -> None:
        """Move parameters, constants and the devices that stand in the graph's arguments."""
        self.root.to(device)
        for node in self.root.graph.nodes:
            if node.op == "get_attr":
                path, _, attribute = str(node.target).rpartition(".")
                owner = self.root.get_submodule(path)
                value = getattr(owner, attribute)
                if type(value) is torch.Tensor and attribute not in owner._buffers:
                    setattr(owner, attribute, value.to(device))

            def moved(argument: Any) -> Any:
                return device if isinstance(argument, torch.device) else argument

            node.args = fx.node.map_aggregate(node.args, moved)
            node.kwargs = fx.node.map_aggregate(node.kwargs, moved)
        self.root.recompile()


def trace(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], exported: Any | None = None) -> Trace:
    """Trace a model in eval mode with the front end that can.

    Args:
        model: put into eval mode; its parameters are shared with the graph, not copied.
        args, kwargs: example inputs; what they leave out is fixed at its default.
        exported: an `ExportedProgram` that `model` came from; then nothing is traced again.

    Raises:
        ModelError: neither front end can trace it; the message has both reasons.
    """
    if exported is not None:
        return _from_exported(exported, model, args, kwargs, "it is a saved export program")
    model.eval()
    try:
        return _trace_fx(model, args, kwargs)
    except Exception as error:  # FX raises whatever the model's own code raises on a proxy
        reason = _one_line(error)
    try:
        return trace_export(model, args, kwargs, reason)
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} cannot be traced: torch.fx says '{reason}'; "
            f"torch.export says '{_one_line(error)}'; slice a submodule of it that can"
        ) from error


def trace_export(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], fallback_reason: str) -> Trace:
    """Trace with `torch.export` (non-strict) for exactly the example's shapes."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # export warns about its own internals
        program = torch.export.export(model, args, dict(kwargs), strict=False)
    return _from_exported(program, module_of(program), args, kwargs, fallback_reason)


def _trace_fx(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Trace:
    signature = inspect.signature(model.forward)
    parameters = signature.parameters.values()
    if any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in parameters):
        raise ModelError("forward takes *args or **kwargs")
    given = signature.bind(*args, **kwargs).arguments
    tensors = [name for name, value in given.items() if isinstance(value, torch.Tensor)]
    fixed = {
        parameter.name: given.get(parameter.name, parameter.default)
        for parameter in parameters
        if parameter.name not in tensors
    }
    nested = [name for name, value in fixed.items() if _holds_tensor(value)]
    if nested:
        raise ModelError(f"input {nested[0]} is a container of tensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph_module = fx.symbolic_trace(model, concrete_args=fixed or None)
    graph = graph_module.graph
    _drop_fixed_inputs(graph, set(tensors))
    names = tuple(str(node.target) for node in graph.nodes if node.op == "placeholder")
    output = next(node for node in graph.nodes if node.op == "output")
    leaves, out_spec = pytree.tree_flatten(plain_containers(output.args[0]))
    output.args = (tuple(leaves),)
    graph.set_codegen(fx.graph.CodeGen())
    return Trace(
        root=fx.GraphModule(graph_module, graph, type(model).__name__),
        frontend="fx",
        input_names=names,
        out_spec=out_spec,
        parameters=tuple(signature.parameters),
    )


def _drop_fixed_inputs(graph: fx.Graph, tensors: set[str]) -> None:
    """Remove the placeholders of fixed arguments and the checks that FX puts behind them."""
    for node in list(graph.nodes):
        if node.op == "placeholder" and node.target not in tensors:
            _erase_checks(graph, node)


def _erase_checks(graph: fx.Graph, node: fx.Node) -> None:
    for user in list(node.users):
        is_check = user.op == "call_function" and (
            user.users or getattr(user.target, "__name__", "") in _TRACE_CHECKS
        )
        if not is_check:
            raise ModelError(f"input {node.target} is used though the example does not give it as a tensor")
        _erase_checks(graph, user)
    graph.erase_node(node)


def _from_exported(
    program: Any, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], reason: str
) -> Trace:
    """The trace of an exported program; `module` is the program's, and stays as it is."""
    if not isinstance(module, fx.GraphModule):
        raise ModelError(f"an exported program's module is a GraphModule, not {type(module).__name__}")
    graph = fx.Graph()
    result = graph.graph_copy(module.graph, {})
    graph.output(tuple(pytree.tree_leaves(plain_containers(result))))
    for node in list(graph.nodes):
        if node.op == "call_module" and str(node.target).startswith("_guards"):
            graph.erase_node(node)
    leaves, in_spec = pytree.tree_flatten((args, dict(kwargs)))
    names = tuple(str(node.target) for node in graph.nodes if node.op == "placeholder")
    if len(names) != len(leaves):
        raise ModelError(f"the exported program takes {len(names)} values, {len(leaves)} are given")
    return Trace(
        root=fx.GraphModule(module, graph, type(module).__name__),
        frontend="export",
        input_names=names,
        out_spec=program.call_spec.out_spec,
        fallback_reason=reason,
        in_spec=in_spec,
        keywords=tuple(kwargs),
    )


def module_of(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """The module of an exported program, without the checks of its guards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.6 warns about its own get_attr nodes
        try:
            module: fx.GraphModule = program.module(check_guards=False)
        except TypeError:  # before torch 2.9
            module = program.module()
    return module


def _holds_tensor(value: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value))


def plain_containers(value: Any) -> Any:
    """FX's immutable containers as plain ones, so that outputs come back as the model's own types."""
    if isinstance(value, dict):
        return {key: plain_containers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_containers(item) for item in value]
    if type(value) is tuple:
        return tuple(plain_containers(item) for item in value)
    return value


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."

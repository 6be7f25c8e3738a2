"""Runs tops again for audits: the models that this node holds, by the fingerprints that stand in receipts.

Decides what an activation must be: the live values of the receipt's cut, of the shapes that D_n data points give, so
that nobody is credited for data points that were never run. Shapes are learnt by running the bottom on 1, 2 and 3
data points; each size must be constant or grow evenly with them. An AP checks what arrives in the same way
(`check_activation`) before it signs.

Does not know: where activations come from, and what a difference means (`consensus.audit`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from splitnet.consensus.errors import ActivationError, ReexecutionError
from splitnet.consensus.receipt import Receipt
from splitnet.inference import clone_tensors, exact_inference
from splitnet.resident import ResidentModel

ModelKey: TypeAlias = tuple[bytes, bytes]
"""Fingerprints of graph and weights."""

_PROBED = (1, 2, 3)
"""Data points: two determine how sizes grow, the third confirms it."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is known of a cut's live values before they arrive.

    Attributes:
        form: kinds, nesting, dtypes, and plain values that are no numbers.
        first, growth: every size and whole number for one data point, and what each further one adds.
    """

    form: tuple[Any, ...]
    first: tuple[int, ...]
    growth: tuple[int, ...]

    def sizes(self, data_points: int) -> tuple[int, ...]:
        return tuple(first + (data_points - 1) * more for first, more in zip(self.first, self.growth, strict=True))


class Reexecutor:
    """Held models; `run` is an `audit.Reexecute`."""

    def __init__(self, models: Iterable[ResidentModel]) -> None:
        """The models stay where they are, each on its device."""
        self._models: dict[ModelKey, ResidentModel] = {model_key(model): model for model in models}
        self._shapes: dict[tuple[ModelKey, int], _Shape] = {}

    def run(self, receipt: Receipt, values: list[Any]) -> list[Any]:
        """The output leaves of the receipt's top, on the CPU. The values may be changed in place.

        Raises:
            ActivationError: the values are not what crosses that cut for so many data points.
            ReexecutionError: the model is not held, has no such cut, or does not run.
        """
        self.check_activation(receipt, values)
        model = self._held(receipt)
        try:
            live = [_on(value, model.device) for value in values]
            top = model.top(receipt.cut)
            with exact_inference():
                return [_on(leaf, torch.device("cpu")) for leaf in top.run(live)]
        except Exception as error:
            raise _cannot(receipt, error) from error

    def check_activation(self, receipt: Receipt, values: list[Any]) -> None:
        """These are live values of the receipt's cut, for its D_n data points.

        Raises:
            ActivationError: they are not.
            ReexecutionError: that cannot be told here.
        """
        data_points = receipt.arrival.data_points
        shape = self._shape(receipt)
        form, numbers = _described(values)
        where = f"slot {receipt.arrival.slot}, device {receipt.arrival.twin}: the activation"
        if form != shape.form:
            raise ActivationError(f"{where} is not of the kinds and dtypes that cross cut {receipt.cut}")
        if numbers != shape.sizes(data_points):
            raise ActivationError(
                f"{where} has the sizes {_short(numbers)}; {data_points} data points at cut {receipt.cut} give "
                f"{_short(shape.sizes(data_points))}"
            )

    def _held(self, receipt: Receipt) -> ResidentModel:
        model = self._models.get((receipt.graph, receipt.weights))
        if model is None:
            raise ReexecutionError(
                f"the model with graph {receipt.graph.hex()[:12]} and weights {receipt.weights.hex()[:12]} is not "
                f"held here, so its inferences cannot be audited; start the node with that model"
            )
        return model

    def _shape(self, receipt: Receipt) -> _Shape:
        key = (receipt.graph, receipt.weights), receipt.cut
        if key not in self._shapes:
            model = self._held(receipt)
            try:
                self._shapes[key] = _probe(model, receipt.cut)
            except Exception as error:
                raise _cannot(receipt, error) from error
        return self._shapes[key]


def model_key(model: ResidentModel) -> ModelKey:
    """As receipts name it."""
    found = model.graph.fingerprint
    return bytes.fromhex(found.graph), bytes.fromhex(found.weights)


def data_points_of(model: ResidentModel, values: Iterable[Any], data_points: int) -> list[Any]:
    """The model's example inputs for another number of data points: its first data point so many times."""
    batch = model.built.ref.batch
    return [
        value[:1].expand(data_points, *value.shape[1:]).contiguous()
        if isinstance(value, torch.Tensor) and value.dim() and value.shape[0] == batch
        else value
        for value in values
    ]


def _probe(model: ResidentModel, cut: int) -> _Shape:
    """Raises ReexecutionError where sizes do not grow evenly."""
    bottom = model.bottom(cut)
    example = [value for _, value in model.example()]
    found = []
    for data_points in _PROBED:
        inputs = clone_tensors(data_points_of(model, example, data_points))
        with exact_inference():
            found.append(_described(bottom.run([_on(value, model.device) for value in inputs])))
    (form, first), (_, second), (_, third) = found
    growth = tuple(b - a for a, b in zip(first, second, strict=False))
    shape = _Shape(form, first, growth)
    if any(other != form for other, _ in found) or shape.sizes(_PROBED[-1]) != third:
        raise ReexecutionError(
            f"what crosses cut {cut} of {model.graph.name} does not grow evenly with the data points, so it cannot "
            f"be audited; choose another cut"
        )
    return shape


def _described(values: Iterable[Any]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """What the values are, and separately every size and whole number in them."""
    form: list[Any] = []
    numbers: list[int] = []

    def describe(value: Any) -> None:
        match value:
            case torch.Tensor():
                form.extend(("tensor", value.dtype, value.dim()))
                numbers.extend(value.shape)
            case bool() | float() | str() | None | torch.dtype():
                form.append((type(value), repr(value)))
            case int():
                form.append(int)
                numbers.append(value)
            case dict():
                form.append((dict, tuple(value)))
                for item in value.values():
                    describe(item)
            case tuple() | list():  # torch.Size too
                form.append((type(value), len(value)))
                for item in value:
                    describe(item)
            case _:  # a device is the reader's own
                form.append(type(value))

    for value in values:
        describe(value)
    return tuple(form), tuple(numbers)


def _on(value: Any, device: torch.device) -> Any:
    """Tensors of any nesting on a device."""
    match value:
        case torch.Tensor():
            return value.to(device)
        case torch.Size():
            return value
        case tuple() | list():
            return type(value)(_on(item, device) for item in value)
        case dict():
            return {key: _on(item, device) for key, item in value.items()}
        case torch.device():
            return device
    return value


def _cannot(receipt: Receipt, error: Exception) -> ReexecutionError:
    if isinstance(error, ReexecutionError):
        return error
    reason = " ".join(str(error).split()) or type(error).__name__
    return ReexecutionError(
        f"slot {receipt.arrival.slot}, device {receipt.arrival.twin}: the top after cut {receipt.cut} does not run "
        f"here: {reason}"
    )


def _short(numbers: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, numbers[:12]))
    return f"({shown}, …)" if len(numbers) > 12 else f"({shown})"

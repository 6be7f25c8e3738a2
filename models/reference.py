"""How a model is asked for, and what comes back once it is built.

`ModelRef` holds plain values only: it stands in scenarios, in saved runs and in messages, and two processes
that build the same reference get the same network. It decides nothing about *which* names exist; `build.py`
does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from splitnet.errors import ModelError

LARGEST_SEED = 2**63 - 1
"""What fits a signed 64-bit number in a message."""


@dataclass(frozen=True, slots=True)
class ModelRef:
    """How a model is asked for.

    Attributes:
        name: `resnet18`, `toy_chain`, `path/to/net.py:factory`, `package.module:factory`, or `program.pt2`.
        weights: published weights of a torchvision model (`DEFAULT`, `IMAGENET1K_V1`); None is a seeded
            random start.
        seed: seeds the random start, a factory, and the example inputs.
        batch: size of the batch dimension of the example inputs.
        input_size: side in pixels of the square images or frames of a torchvision model; None is its own
            default.
        input_shape: for a factory that returns a module alone: one shape an input, without the batch
            dimension.

    Raises:
        ModelError: a value is out of its range, or does not fit a model of that name.
    """

    name: str
    weights: str | None = None
    seed: int = 0
    batch: int = 1
    input_size: int | None = None
    input_shape: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable():
            raise ModelError(f"model name {self.name!r} is empty or not printable; see `splitnet models`")
        if self.weights is not None and not self.weights.isprintable():
            raise ModelError(f"weights name {self.weights!r} is not printable")
        if self.batch < 1:
            raise ModelError(f"batch {self.batch} is below 1")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ModelError(f"seed {self.seed} is outside 0..2^63-1")
        if self.input_size is not None and self.input_size < 1:
            raise ModelError(f"input size {self.input_size} is below 1 pixel")
        if self.input_shape is None:
            return
        if not self.input_shape:
            raise ModelError("input shape () names no input; give one shape an input, such as 3,224,224")
        for shape in self.input_shape:
            if any(size < 1 for size in shape):
                raise ModelError(f"input shape {format_shape(shape)} has a size below 1")

    def __str__(self) -> str:
        return f"{self.name} ({self.weights or f'random weights, seed {self.seed}'}, batch {self.batch})"


@dataclass(frozen=True, slots=True, eq=False)
class BuiltModel:
    """A model ready to be traced.

    Attributes:
        module: on the CPU, in eval mode, no parameter requires a gradient.
        args, kwargs: example inputs, batch dimension included; the same in every process.
        exported: the program that `module` came from, when it was a `.pt2` file.
        random_weights: the weights are splitnet's seeded draw, so outputs mean nothing; False also for users'
            own models, about which nothing is known.
    """

    ref: ModelRef
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    exported: torch.export.ExportedProgram | None = None
    random_weights: bool = False


def is_code(name: str) -> bool:
    """Whether a model name brings the user's own code or file (a factory, a `.pt2`).

    A worker builds such a model only when its own operator named it, never because a peer did: loading it
    runs what is in it.
    """
    return any(mark in name for mark in ":./\\")


def format_shape(shape: tuple[int, ...]) -> str:
    """A shape as a user types it: `3,224,224`."""
    return ",".join(map(str, shape))

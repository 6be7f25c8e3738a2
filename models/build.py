"""From a reference to a network: which kind of name goes to which builder.

A name with a colon, dot or slash is the user's own code or file; any other name is a toy net, a network for 32x32 or
a torchvision model. Nothing is guessed: a name of no kind is an error that offers near ones.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import nn

from splitnet.errors import ModelError
from splitnet.models.cifar import CIFAR_NETS, INPUT_SHAPE
from splitnet.models.exported import build_exported
from splitnet.models.reference import BuiltModel, ModelRef, is_code
from splitnet.models.seeding import build_seeded, example_input
from splitnet.models.toy import TOY_NETS
from splitnet.models.user import build_user
from splitnet.models.zoo import build_zoo, families


def build_model(ref: ModelRef) -> BuiltModel:
    """Build a model and its example inputs, the same in every process that is given an equal reference.

    The caller's random generators are as they were afterwards.

    Raises:
        ModelError: the name is unknown, or the model cannot be built; one line with the way out.
    """
    if is_code(ref.name):
        if ref.name.endswith(".pt2"):
            return build_exported(ref)
        if ":" not in ref.name and not ref.name.endswith(".py"):
            raise ModelError(
                f"{ref.name} is no model name: give path/net.py:factory, package.module:factory or a .pt2 "
                "file; `splitnet models` lists the built-in names"
            )
        return build_user(ref)
    if ref.name in TOY_NETS:
        return _build_fixed(ref, TOY_NETS[ref.name].factory, TOY_NETS[ref.name].input_shapes)
    if ref.name in CIFAR_NETS:
        return _build_fixed(ref, CIFAR_NETS[ref.name], (INPUT_SHAPE,))
    if ref.name in families():
        return build_zoo(ref)
    near = difflib.get_close_matches(ref.name, [*TOY_NETS, *CIFAR_NETS, *families()], n=3)
    hint = f"; near names: {', '.join(near)}" if near else ""
    raise ModelError(f"no model {ref.name!r}{hint}; `splitnet models` lists all")


def _build_fixed(
    ref: ModelRef, factory: Callable[[], nn.Module], input_shapes: tuple[tuple[int, ...], ...]
) -> BuiltModel:
    for given, option in (
        (ref.weights, "weights"),
        (ref.input_size, "input-size"),
        (ref.input_shape, "input-shape"),
    ):
        if given is not None:
            raise ModelError(f"{ref.name} has fixed inputs and no published weights; drop --{option}")
    return BuiltModel(
        ref=ref,
        module=build_seeded(factory, ref.seed).eval().requires_grad_(False),
        args=example_input(input_shapes, ref.batch, ref.seed),
        kwargs={},
        random_weights=True,
    )

"""Specs: what stands in a message about live values, whose tensors lie in the body of its frame.

A value is a tensor, int, float, bool, None, str, torch.Size, torch.dtype, torch.device, or a tuple, list or
dict (with str keys) of values. Here is what `encoding` and `decoding` agree on: the structs, the names of the
dtypes, the bounds, and which strides a tensor that crosses may have.

Tensors lie in the body in the order of their specs, with less than 64 bytes of padding before each and none
behind the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import msgspec
import torch

MAX_DEPTH = 16
"""Containers within containers."""
MAX_VALUES = 4096
"""Values of one message, containers and what is in them."""
MAX_DIMS = 64
"""Dimensions of a tensor, as in torch's own kernels."""
MAX_STRIDE = 1 << 48
"""A stride that no address space exceeds; matters for dimensions of size 1, whose stride is free."""

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.complex64,
        torch.complex128,
    )
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
SCALARS = frozenset({int, float, bool, str, type(None)})


class TensorSpec(msgspec.Struct, frozen=True, array_like=True, tag="tensor"):
    """One tensor: how it is to lie in memory, and where its bytes stand in the body."""

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    """In elements, as torch counts."""
    offset: int
    """Of the first byte in the body; modulo 64 it is the address that the tensor had, for codec `none`."""
    nbytes: int
    """In the body, after the codec."""
    codec: str = "none"
    scale: float = 0.0
    low: float = 0.0


class SizeSpec(msgspec.Struct, frozen=True, array_like=True, tag="size"):
    """A torch.Size."""

    dims: tuple[int, ...]


class DtypeSpec(msgspec.Struct, frozen=True, array_like=True, tag="dtype"):
    """A torch.dtype."""

    name: str


class DeviceSpec(msgspec.Struct, frozen=True, array_like=True, tag="device"):
    """A torch.device: the receiver's, whichever the sender's was."""


class TupleSpec(msgspec.Struct, frozen=True, array_like=True, tag="tuple"):
    items: list[ValueSpec]


class ListSpec(msgspec.Struct, frozen=True, array_like=True, tag="list"):
    items: list[ValueSpec]


class DictSpec(msgspec.Struct, frozen=True, array_like=True, tag="dict"):
    items: dict[str, ValueSpec]


ValueSpec: TypeAlias = (
    TensorSpec | SizeSpec | DtypeSpec | DeviceSpec | TupleSpec | ListSpec | DictSpec | int | float | bool | str | None
)
"""int, float, bool, str and None stand for themselves: msgpack keeps them apart, with NaN, inf and -0.0."""


class Layout(NamedTuple):
    """A strided tensor without its dimensions of size 1 and stride 0, the largest stride first."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    extent: int
    """Elements from the first to the last, gaps included."""
    dense: bool
    """There are no gaps."""


def storage_layout(shape: Sequence[int], stride: Sequence[int]) -> Layout | None:
    """The layout of a tensor that is not empty; None if it may overlap itself (but for strides of 0)."""
    dims = sorted((step, size) for size, step in zip(shape, stride, strict=True) if size > 1 and step > 0)
    extent, dense = 1, True
    for step, size in dims:
        if step < extent:
            return None
        dense = dense and step == extent
        extent += (size - 1) * step
    dims.reverse()
    return Layout(tuple(size for _, size in dims), tuple(step for step, _ in dims), extent, dense)

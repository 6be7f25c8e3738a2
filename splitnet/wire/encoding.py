"""Live values into specs, which go into a message, and buffers, which make up the body of its frame.

Decides: how a tensor lies in the body. With codec `none` the receiver gets the same bits, shape, strides and
dtype, at the same address modulo 64, because kernels choose by strides and alignment, then round differently:

- a tensor that fills a block of memory in any order of its dimensions (contiguous, channels_last, permuted,
  with a storage offset) is sent in storage order without a copy, and is a view of the body at the receiver;
- a dimension of stride 0 (expand) is sent once;
- a view with gaps (a chunk along the channels, x[:, ::2]) is sent without them and laid out again with them.

Does not know: aliasing. Two tensors that share storage arrive as two; a cut where that matters must be refused
before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from splitnet.errors import CutError
from splitnet.wire import codecs
from splitnet.wire.frames import ALIGNMENT, Buffer
from splitnet.wire.specs import (
    DTYPE_NAMES,
    DTYPES,
    MAX_DEPTH,
    MAX_VALUES,
    SCALARS,
    DeviceSpec,
    DictSpec,
    DtypeSpec,
    ListSpec,
    SizeSpec,
    TensorSpec,
    TupleSpec,
    ValueSpec,
    storage_layout,
)

_PADDING = memoryview(bytes(ALIGNMENT))


class Encoded(NamedTuple):
    """Values ready to be sent. The buffers are the tensors' own memory: leave those alone until then."""

    specs: list[ValueSpec]
    buffers: list[Buffer]
    payload_bytes: int
    """Bytes of encoded tensors; padding is not counted."""


def encode_values(values: Sequence[Any], codec: str = "none") -> Encoded:
    """Specs and body of `values`, floating tensors encoded with `codec` (one of `codecs.CODECS`).

    Raises CutError for what cannot cross: other types and layouts, tensors that overlap themselves, integers
    beyond 64 bits, more than `MAX_VALUES` values, containers deeper than `MAX_DEPTH`.
    """
    if codec == "none" and len(values) == 1 and (plain := _encode_plain(values[0])) is not None:
        return plain
    codecs.check_codec(codec)
    writer = _Writer(codec)
    specs = [writer.spec(value, 0) for value in values]
    return Encoded(specs, writer.buffers, writer.payload_bytes)


def _encode_plain(value: Any) -> Encoded | None:
    """One contiguous tensor on the CPU, as at most clean cuts, with as little code as will do; else None.

    After a forward pass all of this runs from a cold cache, where code costs ten times what it costs in a loop.
    """
    if type(value) is not torch.Tensor:
        return None
    try:
        array = value.numpy()
    except (TypeError, RuntimeError):  # on a device, with a gradient, sparse, bfloat16, …
        return None
    data, name = array.data, DTYPE_NAMES.get(value.dtype)
    nbytes, residue = data.nbytes, value.data_ptr() % ALIGNMENT
    if name is None or not nbytes or not data.c_contiguous or residue % data.itemsize:
        return None
    buffers: list[Buffer] = [_PADDING[:residue], data.cast("B")] if residue else [data.cast("B")]
    return Encoded([TensorSpec(name, array.shape, value.stride(), residue, nbytes)], buffers, nbytes)


class _Writer:
    def __init__(self, codec: str) -> None:
        self.codec = codec
        self.buffers: list[Buffer] = []
        self.payload_bytes = 0
        self.cursor = 0
        self.count = 0

    def spec(self, value: Any, depth: int) -> ValueSpec:
        self.count += 1
        if self.count > MAX_VALUES:
            raise CutError(f"more than {MAX_VALUES} live values cannot cross a cut")
        kind = type(value)
        if kind is torch.Tensor or kind is torch.nn.Parameter:
            return self.tensor(value)
        if kind in SCALARS:
            _check_scalar(value)
            scalar: int | float | bool | str | None = value
            return scalar
        if kind is torch.Size:
            return SizeSpec(tuple(value))
        if kind is torch.dtype:
            return DtypeSpec(_dtype_name(value))
        if kind is torch.device:
            return DeviceSpec()
        if depth >= MAX_DEPTH:
            raise CutError(f"a live value nests deeper than {MAX_DEPTH} containers")
        if kind is tuple:
            return TupleSpec([self.spec(item, depth + 1) for item in value])
        if kind is list:
            return ListSpec([self.spec(item, depth + 1) for item in value])
        if kind is dict:
            items = {}
            for key, item in value.items():
                if type(key) is not str:
                    raise CutError(f"a live dict with the key {key!r} cannot cross a cut; keys must be str")
                _check_scalar(key)
                items[key] = self.spec(item, depth + 1)
            return DictSpec(items)
        name = f"{kind.__module__}.{kind.__qualname__}"
        raise CutError(f"a live value of type {name} cannot cross a cut; choose another cut")

    def tensor(self, tensor: torch.Tensor) -> TensorSpec:
        dtype = tensor.dtype
        name = _dtype_name(dtype)
        if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_meta:
            kind = "meta" if tensor.is_meta else "nested" if tensor.is_nested else str(tensor.layout)
            raise CutError(f"a live {kind} tensor cannot cross a cut, only strided ones with data can")
        shape, stride = tuple(tensor.shape), tensor.stride()
        coded = codecs.encode(_stored(tensor, shape, stride), self.codec)
        nbytes = len(coded.data)
        if nbytes == 0:
            return TensorSpec(name, shape, stride, self.cursor, 0)
        residue = 0
        if coded.codec == "none":
            residue = tensor.data_ptr() % ALIGNMENT
            if residue % dtype.itemsize:  # an address that is odd even for its dtype cannot be kept
                residue = 0
        padding = (residue - self.cursor) % ALIGNMENT
        if padding:
            self.buffers.append(_PADDING[:padding])
        self.buffers.append(coded.data)
        offset = self.cursor + padding
        self.cursor = offset + nbytes
        self.payload_bytes += nbytes
        return TensorSpec(name, shape, stride, offset, nbytes, coded.codec, coded.scale, coded.low)


def _stored(tensor: torch.Tensor, shape: Sequence[int], stride: Sequence[int]) -> torch.Tensor:
    """Every stored element once, contiguous, in storage order; a view where there are no gaps."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    if not tensor.is_contiguous():
        layout = storage_layout(shape, stride)
        if layout is None:
            raise CutError(
                f"a live tensor of shape {tuple(shape)} and strides {tuple(stride)} overlaps itself; "
                "cut elsewhere, or make it contiguous in the model"
            )
        if layout.dense:
            tensor = tensor.as_strided((layout.extent,), (1,))
        else:
            tensor = tensor.as_strided(layout.sizes, layout.strides).contiguous()
    if tensor.is_complex():
        tensor = tensor.resolve_conj()
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def _check_scalar(value: Any) -> None:
    if type(value) is int and not -(1 << 63) <= value < 1 << 64:
        raise CutError(f"a live integer of {value.bit_length()} bits cannot cross a cut; 64 bits can")
    if type(value) is str and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise CutError(f"the live string {value!r} cannot cross a cut: it is not valid Unicode") from None


def _dtype_name(dtype: torch.dtype) -> str:
    name = DTYPE_NAMES.get(dtype)
    if name is None:
        raise CutError(f"a live value of {dtype} cannot cross a cut; these can: {', '.join(DTYPES)}")
    return name

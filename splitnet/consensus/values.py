"""Canonical bytes of live values and results, so that a batch, an activation and a result have one digest each.

    4 bytes    length of the specs, most significant byte first
    specs      the wire's, msgpack, codec `none`
    zeros      up to a multiple of 64
    body       each tensor's stored elements, each starting at a multiple of 64, zeros between, none behind the last

What the digest covers: nesting, plain values and, of each tensor, dtype, shape, strides and the bits of its elements
in the order in which they are stored. Strides, because kernels choose by them and round differently: a transposed
copy is another activation. What it does not cover: where the memory lies (device, storage offset, address modulo 64)
and gaps between elements. Address modulo 64 can change last bits too; the tolerance of audits is for such.

Which values: those that the top was given, so the decoded ones. With a lossy codec these are not what the bottom
made. A gateway that countersigns decodes what it sent, as the AP does; decoding is exact arithmetic on every machine.
A result is the list of the output's leaves, as the top made them.

Does not know: models, receipts, who asks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import torch

from splitnet.consensus.errors import EncodingError
from splitnet.consensus.sizes import MOST_VALUE_BYTES
from splitnet.errors import CutError, ProtocolError
from splitnet.wire.decoding import decode_values
from splitnet.wire.encoding import encode_values
from splitnet.wire.frames import ALIGNMENT, Buffer, allocate_body
from splitnet.wire.specs import DTYPES, DictSpec, ListSpec, TensorSpec, TupleSpec, ValueSpec

MOST_HELD_BYTES = 2 * MOST_VALUE_BYTES
"""In memory: a tensor as it was stored, and expanded in full."""
MOST_SPECS_BYTES = 1 << 20
"""Of shapes, strides and types in front of a value's tensors."""
_LENGTH_BYTES = 4
_CPU = torch.device("cpu")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[ValueSpec]).decode


def value_bytes(values: Sequence[Any]) -> bytes:
    """The one encoding of these values, from any device.

    Raises:
        CutError: a value that cannot cross a link.
        EncodingError: so large that nobody would read it.
    """
    encoded = encode_values(values)
    held = sum(map(_held_bytes, _tensors(encoded.specs)))
    if held > MOST_HELD_BYTES:
        raise EncodingError(
            f"values that may take {held} bytes in memory are over the limit of {MOST_HELD_BYTES}; "
            f"use fewer data points or another cut"
        )
    layout = _Layout(encoded.buffers)
    header = _encode([layout.placed(spec) for spec in encoded.specs])
    if len(header) > MOST_SPECS_BYTES:
        raise EncodingError(f"specs of {len(header)} bytes are over the limit of {MOST_SPECS_BYTES}; use another cut")
    zeros = bytes(-(_LENGTH_BYTES + len(header)) % ALIGNMENT if layout.parts else 0)
    data = b"".join((len(header).to_bytes(_LENGTH_BYTES), header, zeros, *layout.parts))
    if len(data) > MOST_VALUE_BYTES:
        raise EncodingError(
            f"values of {len(data)} bytes are over the limit of {MOST_VALUE_BYTES}; "
            f"use fewer data points or another cut"
        )
    return data


def values_from(data: bytes | memoryview, max_bytes: int = MOST_HELD_BYTES) -> list[Any]:
    """The values whose one encoding these bytes are; tensors on the CPU, in memory of their own.

    Args:
        max_bytes: of the data, and of the tensors in memory, expanded ones in full.

    Raises:
        EncodingError: over the limit, no such encoding, or not the one.
    """
    data = bytes(data) if isinstance(data, memoryview) else data
    if len(data) > max_bytes:
        raise EncodingError(f"{len(data)} bytes of values are over the limit of {max_bytes}")
    length = int.from_bytes(data[:_LENGTH_BYTES])
    end = _LENGTH_BYTES + length
    if not _LENGTH_BYTES <= end <= len(data) or length > MOST_SPECS_BYTES:
        raise EncodingError(f"values whose specs would have {length} bytes came in {len(data)}")
    start = min(end + -end % ALIGNMENT, len(data))
    body = allocate_body(len(data) - start)
    body.numpy().data[:] = memoryview(data)[start:]
    try:
        values = decode_values(_decode(data[_LENGTH_BYTES:end]), body, _CPU, max_bytes=max_bytes)
        again = value_bytes(values)
    except (msgspec.MsgspecError, ValueError, RecursionError, ProtocolError, CutError) as error:  # text not UTF-8 too
        raise EncodingError(f"the bytes are no values: {' '.join(str(error).split())}") from None
    if again != data:
        raise EncodingError("the bytes are not the canonical encoding of these values")
    return values


def _tensors(specs: Iterable[ValueSpec]) -> Iterator[TensorSpec]:
    for spec in specs:
        match spec:
            case TensorSpec():
                yield spec
            case TupleSpec(items) | ListSpec(items):
                yield from _tensors(items)
            case DictSpec(items):
                yield from _tensors(items.values())


def _held_bytes(spec: TensorSpec) -> int:
    """At least what a reader takes to hold it: expanded in full, and laid out with its gaps."""
    steps = zip(spec.shape, spec.stride, strict=True)
    extent = 1 + sum((size - 1) * step for size, step in steps if size > 1)
    return DTYPES[spec.dtype].itemsize * (math.prod(max(size, 1) for size in spec.shape) + extent)


class _Layout:
    """Where tensors lie in a body that does not depend on addresses."""

    def __init__(self, buffers: Iterable[Buffer]) -> None:
        """What was to be sent, paddings included."""
        self.parts: list[Buffer] = []
        self._sent: dict[int, Buffer] = {}
        self._cursor = start = 0
        for buffer in buffers:
            self._sent[start] = buffer
            start += len(buffer)

    def placed(self, spec: ValueSpec) -> ValueSpec:
        """The spec with its place in `parts`, which grow."""
        match spec:
            case TensorSpec(nbytes=0):
                return msgspec.structs.replace(spec, offset=0)
            case TensorSpec():
                padding = -self._cursor % ALIGNMENT
                offset = self._cursor + padding
                self.parts += [bytes(padding), self._sent[spec.offset]]
                self._cursor = offset + spec.nbytes
                return msgspec.structs.replace(spec, offset=offset)
            case TupleSpec(items):
                return TupleSpec([self.placed(item) for item in items])
            case ListSpec(items):
                return ListSpec([self.placed(item) for item in items])
            case DictSpec(pairs):
                return DictSpec({key: self.placed(item) for key, item in pairs.items()})
        return spec

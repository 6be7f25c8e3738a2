"""Specs and a body back into live values; nothing that the peer said is trusted.

Bytes of the body are claimed once and in order, and every size is bounded before memory is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from splitnet.errors import ProtocolError
from splitnet.wire import codecs
from splitnet.wire.frames import ALIGNMENT, allocate_body
from splitnet.wire.specs import (
    DTYPES,
    MAX_DEPTH,
    MAX_DIMS,
    MAX_STRIDE,
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


def decode_values(
    specs: Sequence[ValueSpec], body: torch.Tensor, device: torch.device, *, max_bytes: int
) -> list[Any]:
    """The values, tensors on `device`; on a CPU most are views of `body` and live as long as it does.

    `body` is a frame's: torch.uint8, one-dimensional, on the CPU, aligned to 64 bytes. `max_bytes` bounds the
    sum of the tensors' sizes, unpacked and expanded. Raises ProtocolError for specs that contradict the body,
    themselves or a bound.
    """
    if body.data_ptr() % ALIGNMENT or body.dtype != torch.uint8:
        raise ValueError(f"a body must be torch.uint8 and aligned to {ALIGNMENT} bytes")
    if len(specs) == 1 and (plain := _decode_plain(specs[0], body, device, max_bytes)) is not None:
        return [plain]
    reader = _Reader(body, device, max_bytes)
    values = [reader.value(spec, 0) for spec in specs]
    if reader.cursor != reader.body_bytes:
        raise ProtocolError(f"the body has {reader.body_bytes} bytes, its values end at {reader.cursor}")
    return values


def _decode_plain(spec: ValueSpec, body: torch.Tensor, device: torch.device, max_bytes: int) -> torch.Tensor | None:
    """What `encoding._encode_plain` sent; None for anything else, or where any number is off."""
    if type(spec) is not TensorSpec or spec.codec != "none" or device.type != "cpu":
        return None
    dtype, shape, stride, offset = DTYPES.get(spec.dtype), spec.shape, spec.stride, spec.offset
    if dtype is None or dtype is torch.bool or len(shape) != len(stride) or len(shape) > MAX_DIMS:
        return None
    numel, itemsize, body_bytes = 1, dtype.itemsize, body.numel()
    for size, step in zip(reversed(shape), reversed(stride), strict=True):
        if size < 1 or not (step == numel or (size == 1 and 0 <= step <= MAX_STRIDE)):
            return None
        numel *= size
    nbytes = numel * itemsize
    if (
        nbytes != spec.nbytes
        or nbytes > max_bytes
        or offset + nbytes != body_bytes
        or not 0 <= offset < ALIGNMENT
        or offset % itemsize
        or body_bytes % itemsize
        or body.storage_offset()
    ):
        return None
    return body.view(dtype).as_strided(shape, stride, offset // itemsize)


class RepeatDecoder:
    """`decode_values` for the messages of one connection, of which most are as the one before.

    The same specs over the same memory make the same view: it is made and checked once, then handed out again.
    That halves what a message of 0.8 MB costs beside its bytes. Holds the last body's memory.
    """

    def __init__(self, device: torch.device, *, max_bytes: int) -> None:
        self._device, self._max_bytes = device, max_bytes
        self._specs: Sequence[ValueSpec] = ()
        self._body: torch.Tensor | None = None
        self._plain: torch.Tensor | None = None

    def decode(self, specs: Sequence[ValueSpec], body: torch.Tensor) -> list[Any]:
        """As `decode_values`; the tensors are fresh objects each time, so that a model may reshape them in place."""
        if self._plain is not None and body is self._body and specs == self._specs:
            return [self._plain.detach()]
        self._plain = self._body = None
        if len(specs) == 1:
            self._plain = _decode_plain(specs[0], body, self._device, self._max_bytes)
            if self._plain is not None:
                self._specs, self._body = specs, body
                return [self._plain.detach()]
        return decode_values(specs, body, self._device, max_bytes=self._max_bytes)


class _Reader:
    def __init__(self, body: torch.Tensor, device: torch.device, max_bytes: int) -> None:
        self.body = body
        self.body_bytes = body.numel()
        self.device = device
        # One copy of the whole body keeps every address modulo 64, and is cheaper than one for each tensor.
        self.on_device: torch.Tensor | None = body if device.type == "cpu" else None
        self.typed: dict[torch.dtype, torch.Tensor] = {}  # the body on the device, seen as each dtype
        self.max_bytes = max_bytes
        self.bytes_left = max_bytes
        self.cursor = 0
        self.count = 0

    def value(self, spec: ValueSpec, depth: int) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            raise ProtocolError(f"a message has more than {MAX_VALUES} values")
        kind = type(spec)
        if kind is TensorSpec:
            return self.tensor(spec)  # type: ignore[arg-type]
        if kind in SCALARS:
            return spec
        match spec:
            case SizeSpec(dims):
                if not all(0 <= dim < 1 << 63 for dim in dims):
                    raise ProtocolError(f"a torch.Size has a dimension out of range: {_short(dims)}")
                return torch.Size(dims)
            case DtypeSpec(name):
                return _dtype(name)
            case DeviceSpec():
                return self.device
        if depth >= MAX_DEPTH:
            raise ProtocolError(f"a message nests values deeper than {MAX_DEPTH} containers")
        match spec:
            case TupleSpec(items):
                return tuple([self.value(item, depth + 1) for item in items])
            case ListSpec(items):
                return [self.value(item, depth + 1) for item in items]
            case DictSpec(pairs):
                return {key: self.value(item, depth + 1) for key, item in pairs.items()}
        raise ProtocolError(f"a message has a value of an unknown kind {kind.__name__}")

    def tensor(self, spec: TensorSpec) -> torch.Tensor:
        dtype = _dtype(spec.dtype)
        shape, stride = spec.shape, spec.stride
        if len(shape) != len(stride) or len(shape) > MAX_DIMS:
            raise ProtocolError(
                f"a tensor has {len(shape)} sizes and {len(stride)} strides, not as many or over {MAX_DIMS}"
            )
        numel, bound, contiguous = 1, dtype.itemsize, True
        for size, step in zip(reversed(shape), reversed(stride), strict=True):
            if not (0 <= size <= MAX_STRIDE and 0 <= step <= MAX_STRIDE):
                raise ProtocolError(f"a tensor's {_described(spec)} are out of range")
            if size != 1:
                contiguous = contiguous and step == numel
                numel *= size
                bound *= size or 1  # no dimension may be absurd, not even beside a 0
        self._spend(bound, spec)
        if numel == 0:
            if spec.nbytes or spec.codec != "none":
                raise ProtocolError(f"an empty tensor of shape {_short(shape)} came with {spec.nbytes} bytes")
            return torch.empty(0, dtype=dtype, device=self.device).as_strided(shape, stride)
        if contiguous:
            flat, start = self._flat(spec, dtype, numel)
            return flat.as_strided(shape, stride, start)

        layout = storage_layout(shape, stride)
        if layout is None:
            raise ProtocolError(f"a tensor of {_described(spec)} overlaps itself")
        if layout.dense:
            flat, start = self._flat(spec, dtype, layout.extent)
            return flat.as_strided(shape, stride, start)
        extent_bytes = layout.extent * dtype.itemsize
        self._spend(extent_bytes, spec)
        stored = math.prod(layout.sizes)
        flat, start = self._flat(spec, dtype, stored)
        residue = spec.offset % ALIGNMENT
        memory = self._allocate(residue + extent_bytes)[residue:].view(dtype)
        memory.as_strided(layout.sizes, layout.strides).copy_(
            flat.as_strided((stored,), (1,), start).view(layout.sizes)
        )
        return memory.as_strided(shape, stride)

    def _flat(self, spec: TensorSpec, dtype: torch.dtype, numel: int) -> tuple[torch.Tensor, int]:
        """A tensor whose storage holds the `numel` stored elements in storage order, and where they start.

        Their bytes are known to be in the body by then: torch itself checks only the end of the storage.
        """
        offset, nbytes, codec = spec.offset, spec.nbytes, spec.codec
        end = offset + nbytes
        if not (self.cursor <= offset < self.cursor + ALIGNMENT and nbytes >= 0 and end <= self.body_bytes):
            raise ProtocolError(
                f"a tensor claims bytes {offset} to {end} of a body of {self.body_bytes}, of which "
                f"{self.cursor} are taken"
            )
        needed = codecs.encoded_bytes(codec, dtype, numel)
        if needed is not None and nbytes != needed:
            raise ProtocolError(
                f"a {spec.dtype} tensor of {_described(spec)} needs {needed} bytes in codec {codec!r}, "
                f"it came with {nbytes}"
            )
        if offset % dtype.itemsize:
            raise ProtocolError(f"a {spec.dtype} tensor starts at {offset}, no multiple of {dtype.itemsize}")
        self.cursor = end
        if codec == "none":
            if dtype is torch.bool and self.body[offset:end].max() > 1:
                raise ProtocolError("a bool tensor has bytes other than 0 and 1")
            typed = self.typed.get(dtype)
            if typed is None:
                whole = self._device_body()
                odd = self.body_bytes % dtype.itemsize
                typed = self.typed[dtype] = (whole[:-odd] if odd else whole).view(dtype)
            return typed, int(typed.storage_offset()) + offset // dtype.itemsize
        if not (math.isfinite(spec.scale) and math.isfinite(spec.low)):
            raise ProtocolError(f"a tensor has scale {spec.scale} and low {spec.low}; both must be finite")
        source = self.body if codec == "int8+lz4" else self._device_body()
        flat = codecs.decode(source[offset:end], codec, dtype, numel, spec.scale, spec.low, self.device)
        return flat, int(flat.storage_offset())

    def _spend(self, nbytes: int, spec: TensorSpec) -> None:
        self.bytes_left -= nbytes
        if self.bytes_left < 0:
            raise ProtocolError(
                f"the tensors of a message take more than max_bytes = {self.max_bytes}, up to one of "
                f"{spec.dtype} and {_described(spec)}"
            )

    def _device_body(self) -> torch.Tensor:
        if self.on_device is None:
            self.on_device = self.body.to(self.device)
        return self.on_device

    def _allocate(self, nbytes: int) -> torch.Tensor:
        if self.device.type == "cpu":
            return allocate_body(nbytes)
        return torch.empty(nbytes, dtype=torch.uint8, device=self.device)


def _dtype(name: str) -> torch.dtype:
    dtype = DTYPES.get(name)
    if dtype is None:
        raise ProtocolError(f"dtype {name[:40]!r} is none of {', '.join(DTYPES)}")
    return dtype


def _described(spec: TensorSpec) -> str:
    return f"shape {_short(spec.shape)} and strides {_short(spec.stride)}"


def _short(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"({shown}, …)" if len(numbers) > 8 else f"({shown})"

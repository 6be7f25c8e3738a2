"""Live values across a cut: what stands in a header about them, and what stands in the body.

A value is a tensor, int, float, bool, None, str, torch.Size, torch.dtype, torch.device, or a tuple, list or
dict (with str keys) of values. `encode_values` turns values into specs, which go into a message, and buffers,
which make up the body of its frame; `decode_values` turns them back and trusts nothing that the peer said.

Decides: how a tensor lies in the body. With codec `none` the receiver gets the same bits, shape, strides and
dtype, at the same address modulo 64, because kernels choose by strides and alignment, then round differently:

- a tensor that fills a block of memory in any order of its dimensions (contiguous, channels_last, permuted,
  with a storage offset) is sent in storage order without a copy, and is a view of the body at the receiver;
- a dimension of stride 0 (expand) is sent once;
- a view with gaps (a chunk along the channels, x[:, ::2]) is sent without them and laid out again with them.

Tensors lie in the body in the order of their specs, with less than 64 bytes of padding before each and none
behind the last. Does not know: aliasing. Two tensors that share storage arrive as two; a cut where that
matters must be refused before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
import torch

from splitnet.errors import CutError, ProtocolError
from splitnet.wire import codecs
from splitnet.wire.frames import ALIGNMENT, Buffer, allocate_body

MAX_DEPTH = 16
"""Containers within containers."""
MAX_VALUES = 4096
"""Values of one message, containers and what is in them."""
MAX_DIMS = 64
"""Dimensions of a tensor, as in torch's own kernels."""
_MAX_STRIDE = 1 << 48
"""A stride that no address space exceeds; matters for dimensions of size 1, whose stride is free."""

_DTYPES = {
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
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_SCALARS = frozenset({int, float, bool, str, type(None)})
_PADDING = memoryview(bytes(ALIGNMENT))


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
    data, name = array.data, _DTYPE_NAMES.get(value.dtype)
    nbytes, residue = data.nbytes, value.data_ptr() % ALIGNMENT
    if name is None or not nbytes or not data.c_contiguous or residue % data.itemsize:
        return None
    buffers: list[Buffer] = [_PADDING[:residue], data.cast("B")] if residue else [data.cast("B")]
    return Encoded([TensorSpec(name, array.shape, value.stride(), residue, nbytes)], buffers, nbytes)


def _decode_plain(spec: ValueSpec, body: torch.Tensor, device: torch.device, max_bytes: int) -> torch.Tensor | None:
    """What `_encode_plain` sent; None for anything else, or where any number is off."""
    if type(spec) is not TensorSpec or spec.codec != "none" or device.type != "cpu":
        return None
    dtype, shape, stride, offset = _DTYPES.get(spec.dtype), spec.shape, spec.stride, spec.offset
    if dtype is None or dtype is torch.bool or len(shape) != len(stride) or len(shape) > MAX_DIMS:
        return None
    numel, itemsize, body_bytes = 1, dtype.itemsize, body.numel()
    for size, step in zip(reversed(shape), reversed(stride), strict=True):
        if size < 1 or not (step == numel or (size == 1 and 0 <= step <= _MAX_STRIDE)):
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


class _Layout(NamedTuple):
    """A strided tensor without its dimensions of size 1 and stride 0, the largest stride first."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    extent: int
    """Elements from the first to the last, gaps included."""
    dense: bool
    """There are no gaps."""


def _layout(shape: Sequence[int], stride: Sequence[int]) -> _Layout | None:
    """The layout of a tensor that is not empty; None if it may overlap itself (but for strides of 0)."""
    dims = sorted((step, size) for size, step in zip(shape, stride, strict=True) if size > 1 and step > 0)
    extent, dense = 1, True
    for step, size in dims:
        if step < extent:
            return None
        dense = dense and step == extent
        extent += (size - 1) * step
    dims.reverse()
    return _Layout(tuple(size for _, size in dims), tuple(step for step, _ in dims), extent, dense)


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
        if kind in _SCALARS:
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
        layout = _layout(shape, stride)
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
    name = _DTYPE_NAMES.get(dtype)
    if name is None:
        raise CutError(f"a live value of {dtype} cannot cross a cut; these can: {', '.join(_DTYPES)}")
    return name


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
        if kind in _SCALARS:
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
            if not (0 <= size <= _MAX_STRIDE and 0 <= step <= _MAX_STRIDE):
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

        layout = _layout(shape, stride)
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
    dtype = _DTYPES.get(name)
    if dtype is None:
        raise ProtocolError(f"dtype {name[:40]!r} is none of {', '.join(_DTYPES)}")
    return dtype


def _described(spec: TensorSpec) -> str:
    return f"shape {_short(spec.shape)} and strides {_short(spec.stride)}"


def _short(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"({shown}, …)" if len(numbers) > 8 else f"({shown})"

"""Codecs: what may be done to a tensor's numbers before they cross a link, and how they come back.

A codec works on a contiguous tensor, on the device where it lies; shapes and strides are the affair of
`encoding`. Integers and booleans always go as `none`, and so does a tensor that the codec cannot
represent: its spec says so, and nothing is clipped or turned into inf in silence.

    none       the same bits
    fp16       cast to float16, nearest. Relative error <= 2^-11 from 2^-14 upwards, below that 2^-25 in all.
               As `none`: float16 itself, and tensors that would hold inf or NaN after the cast.
    int8       q = round((x - low) / scale) in 0..255, scale = (high - low) / 255; back: low + q scale. Error
               <= scale / 2 and the rounding of the dtype; `low` (the zeros behind a ReLU) and constants come
               back exact. As `none`: tensors with NaN or inf, beyond 8.5e37, or with `scale` below 1.2e-38.
    int8+lz4   int8, then an lz4 block. As `int8` where that is not smaller.

Does not know: what the error does to a model's accuracy; that is measured.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

import lz4.block
import torch

from splitnet.errors import ProtocolError, SettingsError
from splitnet.wire.frames import Buffer

CODECS = ("none", "fp16", "int8", "int8+lz4")

_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_LZ4_MAX_BYTES = 0x7E000000
"""LZ4_MAX_INPUT_SIZE of the lz4 library."""
_LEVELS = 255
_BUFFER_DTYPES = (_FLOATS - {torch.bfloat16}) | {torch.bool, torch.uint8, torch.int32, torch.int64}
"""The common ones of which NumPy makes a buffer that memoryview can cast to bytes."""
_FLOAT32_TINY = torch.finfo(torch.float32).tiny
_INT8_MAX = torch.finfo(torch.float32).max / 4
"""Numbers up to here can be subtracted and scaled in float32 without overflow."""


class Coded(NamedTuple):
    """What is sent of one tensor."""

    codec: str
    """The codec that was used, which may be a lesser one than was asked for."""
    data: Buffer
    scale: float = 0.0
    """int8: the step between two levels."""
    low: float = 0.0
    """int8: the value of level 0."""


def check_codec(name: str) -> str:
    """`name`, if it is a codec; SettingsError otherwise."""
    if name in CODECS:
        return name
    near = difflib.get_close_matches(name, CODECS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise SettingsError(f"codec {name!r} is unknown; {hint}there are {', '.join(CODECS)}")


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor without a copy (from another device: one copy)."""
    if not tensor.is_cpu:
        tensor = tensor.cpu()
    count = tensor.numel()
    if count == 0:
        return memoryview(b"")
    view: memoryview
    if tensor.dtype in _BUFFER_DTYPES:
        view = tensor.numpy().data.cast("B")
    else:
        view = tensor.as_strided((count,), (1,)).view(torch.uint8).numpy().data
    return view


def encode(tensor: torch.Tensor, codec: str) -> Coded:
    """Encode `tensor` (contiguous, without gradient, conjugation or negation bit) with one of `CODECS`."""
    if codec == "none" or tensor.dtype not in _FLOATS or tensor.numel() == 0:
        return Coded("none", tensor_bytes(tensor))
    if codec == "fp16":
        return _encode_fp16(tensor)
    coded = _encode_int8(tensor)
    size = len(coded.data)
    if codec == "int8" or coded.codec == "none" or size > _LZ4_MAX_BYTES:
        return coded
    packed: bytes = lz4.block.compress(coded.data, store_size=False)
    return coded._replace(codec="int8+lz4", data=packed) if len(packed) < size else coded


def _encode_fp16(tensor: torch.Tensor) -> Coded:
    if tensor.dtype != torch.float16:
        half = tensor.to(torch.float16)
        low, high = (bound.item() for bound in torch.aminmax(half))
        if high - low < torch.inf:  # False for inf and for NaN; cannot overflow, these are Python floats
            return Coded("fp16", tensor_bytes(half))
    return Coded("none", tensor_bytes(tensor))


def _encode_int8(tensor: torch.Tensor) -> Coded:
    wide = tensor if tensor.dtype == torch.float64 else tensor.float()
    low, high = (bound.item() for bound in torch.aminmax(wide))
    span = high - low
    if span == 0:
        levels = torch.zeros_like(tensor, dtype=torch.uint8)
        return Coded("int8", tensor_bytes(levels), 0.0, low)
    scale = span / _LEVELS
    if not (scale >= _FLOAT32_TINY and low >= -_INT8_MAX and high <= _INT8_MAX):  # NaN and inf too
        return Coded("none", tensor_bytes(tensor))
    levels = torch.sub(wide, low).mul_(1 / scale).round_()
    # By way of int16: on a CPU three times as fast as straight to uint8, for which torch has no vector code.
    return Coded("int8", tensor_bytes(levels.to(torch.int16).to(torch.uint8)), scale, low)


def encoded_bytes(codec: str, dtype: torch.dtype, numel: int) -> int | None:
    """Bytes of `numel` encoded numbers, None if only decoding tells; ProtocolError for what cannot be."""
    if codec == "none":
        return numel * dtype.itemsize
    if codec not in CODECS:
        raise ProtocolError(f"a tensor came in codec {codec!r}; there are {', '.join(CODECS)}")
    if dtype not in _FLOATS or numel == 0:
        raise ProtocolError(f"a tensor of {numel} {dtype} numbers cannot come in codec {codec!r}")
    return {"fp16": 2 * numel, "int8": numel}.get(codec)


def decode(
    raw: torch.Tensor,
    codec: str,
    dtype: torch.dtype,
    numel: int,
    scale: float,
    low: float,
    device: torch.device,
) -> torch.Tensor:
    """The flat tensor that was encoded, on `device`. Not for codec `none`, where `raw` holds it as it is.

    `raw` is torch.uint8, of `encoded_bytes` where that is known; on the CPU for `int8+lz4`, else on `device`.
    Never more than `numel` numbers are made, whatever the bytes say.
    """
    if codec == "fp16":
        return raw.view(torch.float16).to(dtype)
    if codec == "int8+lz4":
        try:
            unpacked = lz4.block.decompress(raw.numpy().data, uncompressed_size=numel, return_bytearray=True)
        except (lz4.block.LZ4BlockError, ValueError, OverflowError, MemoryError) as error:
            raise ProtocolError(f"a tensor's lz4 block does not unpack to {numel} bytes") from error
        if len(unpacked) != numel:
            raise ProtocolError(f"a tensor's lz4 block holds {len(unpacked)} bytes, its shape needs {numel}")
        raw = torch.frombuffer(unpacked, dtype=torch.uint8).to(device)
    wide = raw.to(torch.float64 if dtype == torch.float64 else torch.float32)
    return wide.mul_(scale).add_(low).to(dtype)

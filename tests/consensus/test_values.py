"""Canonical bytes of values: one encoding, wherever the memory lies, and nothing else is taken for it."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from splitnet.consensus.errors import EncodingError
from splitnet.consensus.values import MOST_HELD_BYTES, value_bytes, values_from
from splitnet.errors import CutError
from splitnet.wire.encoding import encode_values
from splitnet.wire.specs import TensorSpec
from tests.consensus.audited import held, split

DTYPES = (torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Any bits, in a layout that a model might give."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    dtype = draw(st.sampled_from(DTYPES))
    chance = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    raw = torch.randint(0, 256, (*shape, dtype.itemsize), generator=chance, dtype=torch.uint8)
    whole = raw.view(dtype).reshape(shape) if dtype is not torch.bool else (raw > 127).reshape(shape)
    if draw(st.booleans()):
        whole = whole.permute(draw(st.permutations(range(len(shape)))))
    if draw(st.booleans()) and shape:
        whole = whole[..., ::2]
    return whole[:1].expand(3, *whole.shape[1:]) if draw(st.booleans()) and shape and len(whole) else whole


VALUES = st.lists(
    st.recursive(
        tensors() | SCALARS,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=5,
    ),
    max_size=3,
)


def moved(values: Any, offset: int) -> Any:
    """The same values, tensors in other memory that starts at another address."""
    if isinstance(values, torch.Tensor):
        extent = 1 + sum((n - 1) * step for n, step in zip(values.shape, values.stride(), strict=True) if n)
        memory = torch.full((extent + offset,), 1, dtype=values.dtype)
        copy = memory.as_strided(values.shape, values.stride(), offset)
        bare = tuple(slice(0, 1) if step == 0 else slice(None) for step in values.stride())  # expanded ones once
        copy[bare].copy_(values[bare])
        return copy
    if isinstance(values, (list, tuple)):
        return type(values)(moved(item, offset) for item in values)
    if isinstance(values, dict):
        return {key: moved(item, offset) for key, item in values.items()}
    return values


def bits(tensor: torch.Tensor) -> bytes:
    """Of the elements in index order."""
    fresh = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor).reshape(-1)
    return fresh.view(torch.uint8).numpy().tobytes() if fresh.numel() else b""


def same(ones: Any, others: Any) -> bool:
    """Bits, kinds and strides."""
    if isinstance(ones, torch.Tensor):
        alike = (ones.shape, ones.stride(), ones.dtype) == (others.shape, others.stride(), others.dtype)
        return alike and bits(ones) == bits(others)
    if isinstance(ones, (list, tuple)):
        return type(ones) is type(others) and len(ones) == len(others) and all(map(same, ones, others))
    if isinstance(ones, dict):
        return list(ones) == list(others) and all(same(ones[key], others[key]) for key in ones)
    if isinstance(ones, float):
        return type(others) is float and struct.pack("d", ones) == struct.pack("d", others)
    return type(ones) is type(others) and bool(ones == others)


@given(VALUES)
def test_what_goes_in_comes_out(values: list[Any]) -> None:
    data = value_bytes(values)
    back = values_from(data)
    assert same(values, back)
    assert value_bytes(back) == data


@given(VALUES, st.integers(0, 80))
def test_addresses_do_not_matter(values: list[Any], offset: int) -> None:
    assert value_bytes(moved(values, offset)) == value_bytes(values)


@given(VALUES, st.randoms(use_true_random=False))
def test_changed_bytes_are_other_values_or_none(values: list[Any], chance: Any) -> None:
    data = value_bytes(values)
    broken = bytearray(data)
    broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
    try:
        back = values_from(bytes(broken))
    except EncodingError:
        return
    assert value_bytes(back) == broken
    assert not same(values, back)


@given(st.binary(max_size=200))
def test_rubbish_is_refused_or_canonical(data: bytes) -> None:
    with contextlib.suppress(EncodingError):
        assert value_bytes(values_from(data)) == data


def test_bytes_by_hand() -> None:
    """One tensor [2] of float32, then a number."""
    value = torch.tensor([1.0, -2.0])
    spec = [["tensor", "float32", [2], [1], 0, 8, "none", 0.0, 0.0], 7]
    header = msgspec.msgpack.encode(spec)
    zeros = bytes(64 - 4 - len(header))
    assert len(header) < 60
    assert value_bytes([value, 7]) == struct.pack(">I", len(header)) + header + zeros + struct.pack("<ff", 1.0, -2.0)


def test_the_second_tensor_starts_at_a_multiple_of_64() -> None:
    one, two = torch.ones(3, dtype=torch.uint8), torch.tensor([258], dtype=torch.int16)
    data = value_bytes([one, two])
    assert data[-66:-2] == bytes([1, 1, 1]) + bytes(61)
    assert data[-2:] == b"\x02\x01"


@pytest.mark.parametrize(
    "other",
    [
        torch.arange(6.0).reshape(2, 3),
        torch.arange(6.0).reshape(3, 2).double(),
        torch.arange(6.0).reshape(2, 3).t(),
        torch.tensor([[0.0, 1], [2, 3], [4, 5.0000005]]),
        torch.tensor([[-0.0, 1], [2, 3], [4, 5]]),
    ],
)
def test_other_values_have_other_digests(other: torch.Tensor) -> None:
    value = torch.arange(6.0).reshape(3, 2)
    assert hashlib.sha256(value_bytes([value])).digest() != hashlib.sha256(value_bytes([other])).digest()


def test_a_transposed_copy_is_another_activation_and_gaps_are_not() -> None:
    square = torch.arange(9.0).reshape(3, 3)
    assert value_bytes([square.t()]) != value_bytes([square.t().contiguous()])
    wide = torch.full((3, 6), 9.0)
    wide[:, ::2] = square
    gappy = wide[:, ::2]
    other = torch.full((3, 6), 4.0)
    other[:, ::2] = square
    assert value_bytes([gappy]) == value_bytes([other[:, ::2]])


def with_specs(specs: list[Any], body: bytes) -> bytes:
    header = msgspec.msgpack.encode(specs)
    return struct.pack(">I", len(header)) + header + bytes(-(4 + len(header)) % 64) + body


@pytest.mark.parametrize(
    "specs",
    [
        [TensorSpec("float32", (1 << 40,), (0,), 0, 4)],  # expanded beyond the limit
        [TensorSpec("float32", (2, 2), (1 << 40, 1), 0, 16)],  # gaps beyond the limit
        [TensorSpec("float32", (1 << 40,), (1,), 0, 4)],
        [TensorSpec("float32", (1,), (1,), 0, 4, "fp16")],
        [TensorSpec("float32", (4,), (1,), 0, 4, "int8", 0.5, 1.0)],  # another codec: not the one encoding
        [TensorSpec("float32", (1,), (1,), 32, 4)],
        [TensorSpec("nothing", (1,), (1,), 0, 4)],
    ],
)
def test_hostile_specs_are_refused(specs: list[Any]) -> None:
    with pytest.raises(EncodingError):
        values_from(with_specs(specs, bytes(4)))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(EncodingError):
        values_from(struct.pack(">I", 200_000) + b"\x91" * 200_000)


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x00\x00\x00\x02\x90", b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\x90 "]
)
def test_short_and_long_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(EncodingError):
        values_from(data)


def test_limits() -> None:
    data = value_bytes([torch.zeros(100)])
    assert len(values_from(data, len(data))[0]) == 100
    with pytest.raises(EncodingError, match=f"{len(data)} bytes of values are over the limit of {len(data) - 1}"):
        values_from(data, len(data) - 1)
    wide = torch.zeros(1).expand(MOST_HELD_BYTES // 4)
    with pytest.raises(EncodingError, match="fewer data points"):
        value_bytes([wide])
    with pytest.raises(EncodingError, match="specs of"):
        value_bytes(["x" * (1 << 20)])
    with pytest.raises(CutError):
        value_bytes([object()])


def test_reading_leaves_the_bytes_alone() -> None:
    data = value_bytes([torch.zeros(8)])
    before = bytes(data)
    values_from(data)[0].fill_(7.0)
    values_from(memoryview(data))[0].fill_(7.0)
    assert data == before


@pytest.mark.parametrize("codec", ["none", "fp16", "int8", "int8+lz4"])
def test_gateway_and_ap_get_the_same_bytes_through_every_codec(codec: str) -> None:
    """The gateway decodes what it sent; the AP what arrived, in other memory."""
    model = held("toy_residual")
    for cut in (1, 4, 7):
        gateway, _ = split(model, cut, 3, codec)
        ap, _ = split(model, cut, 3, codec)
        assert value_bytes(gateway) == value_bytes(ap)
        bare = value_bytes(split(model, cut, 3, "none")[0])
        assert (value_bytes(ap) == bare) == (codec == "none")


def test_the_wire_itself_is_not_canonical() -> None:
    """The reason for an encoding of its own: the wire keeps addresses modulo 64."""
    memory = torch.zeros(64, dtype=torch.uint8)
    one, two = memory[:8], memory[8:16]
    assert encode_values([one]).specs != encode_values([two]).specs
    assert value_bytes([one]) == value_bytes([two])

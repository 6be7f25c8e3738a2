"""Specs from a peer that lies: refused, or decoded within bounds; nothing is read outside of the body."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitnet.errors import ProtocolError
from splitnet.wire.codecs import CODECS
from splitnet.wire.decoding import decode_values
from splitnet.wire.encoding import Encoded, encode_values
from splitnet.wire.specs import (
    MAX_DEPTH,
    MAX_DIMS,
    MAX_VALUES,
    DictSpec,
    DtypeSpec,
    ListSpec,
    SizeSpec,
    TensorSpec,
    TupleSpec,
    ValueSpec,
)

CPU = torch.device("cpu")
MAX_BYTES = 1 << 16
BODY = torch.arange(4096).to(torch.uint8)
"""Larger than any body here, as a decoder's memory is: what is read behind the body would not fault."""


def spec(**changes: Any) -> TensorSpec:
    good = TensorSpec("float32", (2, 3), (3, 1), 0, 24)
    return msgspec.structs.replace(good, **changes)


def decode(*specs: ValueSpec, nbytes: int = 24, max_bytes: int = MAX_BYTES) -> list[Any]:
    return decode_values(specs, BODY[:nbytes], CPU, max_bytes=max_bytes)


def test_the_spec_that_the_cases_change_is_good() -> None:
    (got,) = decode(spec())
    assert got.stride() == (3, 1)


CASES: dict[str, tuple[list[ValueSpec], str]] = {
    "dtype unknown": ([spec(dtype="object")], "dtype 'object' is none of"),
    "dtype quantized": ([spec(dtype="quint8")], "dtype 'quint8' is none of"),
    "dtype endless": ([spec(dtype="x" * 10_000)], "dtype 'x{40}' is none of"),
    "dtype spec": ([DtypeSpec("quint8")], "dtype 'quint8' is none of"),
    "shape and stride differ": ([spec(stride=(3,))], "2 sizes and 1 strides"),
    "too many dimensions": ([spec(shape=(1,) * 65, stride=(1,) * 65)], f"over {MAX_DIMS}"),
    "negative size": ([spec(shape=(-2, -3))], "out of range"),
    "negative stride": ([spec(stride=(-3, 1))], "out of range"),
    "absurd stride": ([spec(shape=(1, 6), stride=(2**63, 1))], "out of range"),
    "too few bytes": ([spec(nbytes=20)], "needs 24 bytes in codec 'none', it came with 20"),
    "larger shape": ([spec(shape=(20, 3))], "needs 240 bytes in codec 'none', it came with 24"),
    "negative bytes": ([spec(nbytes=-4)], "claims bytes 0 to -4"),
    "negative offset": ([spec(offset=-4)], "claims bytes -4 to 20"),
    "beyond the body": ([spec(shape=(2, 4), stride=(4, 1), nbytes=32)], "0 to 32 of a body of 24"),
    "offset beyond the body": ([spec(offset=60)], "60 to 84 of a body of 24"),
    "offset far": ([spec(offset=64)], "claims bytes 64"),
    "offset odd": ([spec(offset=2, shape=(5,), stride=(1,), nbytes=20)], "no multiple of 4"),
    "same bytes twice": ([spec(), spec()], "of which 24 are taken"),
    "bytes left over": ([spec(shape=(3,), stride=(1,), nbytes=12)], "24 bytes, its values end at 12"),
    "no values": ([], "24 bytes, its values end at 0"),
    "overlap": ([spec(stride=(1, 1))], "overlaps itself"),
    "overlap, interleaved": ([spec(stride=(3, 2))], "overlaps itself"),
    "gaps too wide": ([spec(stride=(3, 2**30))], "more than max_bytes"),
    "expanded too far": ([spec(shape=(2**20, 2, 3), stride=(0, 3, 1))], "more than max_bytes"),
    "huge": ([spec(shape=(2**40, 2**40, 2**40), stride=(0, 0, 0))], "more than max_bytes"),
    "empty and huge": ([spec(shape=(0, 2**40), stride=(2**40, 1), nbytes=0)], "more than max_bytes"),
    "empty with bytes": ([spec(shape=(0, 3))], "empty tensor"),
    "empty with a codec": ([spec(shape=(0, 3), nbytes=0, codec="int8")], "empty tensor"),
    "codec unknown": ([spec(codec="zip")], "came in codec 'zip'"),
    "int8 of wrong size": ([spec(codec="int8")], "needs 6 bytes in codec 'int8'"),
    "fp16 of wrong size": ([spec(codec="fp16")], "needs 12 bytes in codec 'fp16'"),
    "int8 of integers": ([spec(dtype="int32", codec="int8")], "cannot come in codec 'int8'"),
    "lz4 that is none": ([spec(codec="int8+lz4")], "lz4 block"),
    "scale not finite": (
        [spec(codec="int8", shape=(24,), stride=(1,), scale=math.nan)],
        "both must be finite",
    ),
    "low not finite": ([spec(codec="int8", shape=(24,), stride=(1,), low=math.inf)], "both must be finite"),
    "bool of other bytes": ([spec(dtype="bool", shape=(24,), stride=(1,))], "bool tensor has bytes"),
    "size negative": ([SizeSpec((-1,))], "dimension out of range"),
    "size huge": ([SizeSpec((2**63,))], "dimension out of range"),
    "too many values": ([0] * (MAX_VALUES + 1), f"more than {MAX_VALUES} values"),
    "too many values inside": ([ListSpec([0] * MAX_VALUES)], f"more than {MAX_VALUES} values"),
}


@pytest.mark.parametrize(("specs", "complaint"), CASES.values(), ids=CASES.keys())
def test_each_lie_has_its_own_line(specs: list[ValueSpec], complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint) as caught:
        decode(*specs)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_depth_is_bounded() -> None:
    for kind in (
        lambda item: TupleSpec([item]),
        lambda item: ListSpec([item]),
        lambda item: DictSpec({"x": item}),
    ):
        value: ValueSpec = 1
        for _ in range(MAX_DEPTH):
            value = kind(value)
        decode(value, nbytes=0)
        with pytest.raises(ProtocolError, match="deeper than"):
            decode(kind(value), nbytes=0)


def test_max_bytes_bounds_the_sum() -> None:
    second = spec(offset=64)
    assert len(decode(spec(), second, nbytes=88, max_bytes=48)) == 2
    with pytest.raises(ProtocolError, match="more than max_bytes = 47"):
        decode(spec(), second, nbytes=88, max_bytes=47)


def test_many_small_expansions_are_bounded_too() -> None:
    wide = TensorSpec("uint8", (30_000,), (0,), 0, 1)
    specs = [msgspec.structs.replace(wide, offset=offset) for offset in range(3)]
    with pytest.raises(ProtocolError, match="more than max_bytes"):
        decode(*specs, nbytes=3)


def test_an_unaligned_or_wrong_body_is_a_mistake_of_the_caller() -> None:
    for body in (BODY[1:25], BODY[:24].to(torch.int8)):
        with pytest.raises(ValueError, match="aligned"):
            decode_values([spec()], body, CPU, max_bytes=MAX_BYTES)


def sources() -> list[Encoded]:
    generator = torch.Generator().manual_seed(0)
    memory = torch.randn(2, 4, 3, 5, generator=generator)
    values: list[list[Any]] = [
        [memory],
        [memory.contiguous(memory_format=torch.channels_last), 3],
        [memory[:, ::2], memory.to(torch.bfloat16)],
        [memory[:1, :1].expand(4, 4, 3, 5), (memory > 0, [memory[0, 0, 0, 0]])],
        [memory[:0], torch.Size([3]), memory.double().permute(3, 1, 0, 2)],
    ]
    return [encode_values(some, codec) for some in values for codec in CODECS]


SOURCES = sources()


numbers = st.one_of(
    st.integers(-3, 70),
    st.sampled_from([2**16, 2**31, 2**31 - 1, 2**32, 2**48, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)]),
)
tuples = st.lists(numbers, max_size=5).map(tuple)
changes: dict[str, st.SearchStrategy[Any]] = {
    "dtype": st.sampled_from(["float16", "bfloat16", "float64", "int8", "bool", "complex128", "float8_e5m2", ""]),
    "shape": tuples,
    "stride": tuples,
    "offset": numbers,
    "nbytes": numbers,
    "codec": st.sampled_from([*CODECS, "", "zip"]),
    "scale": st.floats(),
    "low": st.floats(),
}


def tensor_specs(value: Any) -> list[TensorSpec]:
    if isinstance(value, TensorSpec):
        return [value]
    if isinstance(value, TupleSpec | ListSpec):
        return [found for item in value.items for found in tensor_specs(item)]
    return []


def check_within(value: Any, body: torch.Tensor) -> None:
    """Every byte that the tensor can reach lies in the body, or in memory of its own within the bound."""
    if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
        for item in value:
            check_within(item, body)
    if not isinstance(value, torch.Tensor):
        return
    assert value.numel() * value.element_size() <= MAX_BYTES
    value.clone()
    if value.numel() == 0:
        return
    last = sum((size - 1) * step for size, step in zip(value.shape, value.stride(), strict=True))
    end = value.data_ptr() + (last + 1) * value.element_size()
    storage = value.untyped_storage()
    if storage.data_ptr() == body.untyped_storage().data_ptr():
        assert body.data_ptr() <= value.data_ptr()
        assert end <= body.data_ptr() + body.numel()
    else:
        assert storage.nbytes() <= MAX_BYTES + 128
        assert storage.data_ptr() <= value.data_ptr()
        assert end <= storage.data_ptr() + storage.nbytes()


@given(st.data())
@settings(derandomize=True, deadline=None, max_examples=600)
def test_garbled_specs_are_refused_or_stay_within_bounds(data: st.DataObject) -> None:
    encoded = data.draw(st.sampled_from(SOURCES))
    stream = b"".join(encoded.buffers)
    specs = msgspec.to_builtins(encoded.specs)

    def garble(built: Any) -> Any:
        """The same specs, where each tensor has one or two fields changed, or none."""
        if built and isinstance(built, list) and built[0] == "tensor":
            names = data.draw(st.lists(st.sampled_from(sorted(changes)), max_size=2))
            fields = dict(zip(TensorSpec.__struct_fields__, built[1:], strict=True))
            fields.update({name: data.draw(changes[name]) for name in names})
            return ["tensor", *fields.values()]
        return [garble(item) for item in built] if isinstance(built, list) else built

    length = len(stream)
    if data.draw(st.integers(0, 9)) == 0:
        length = data.draw(st.integers(0, length))
    memory = torch.full((8192,), 255, dtype=torch.uint8)
    memory[: len(stream)] = torch.frombuffer(bytearray(stream), dtype=torch.uint8)
    body = memory[:length]
    try:
        hostile = msgspec.msgpack.decode(msgspec.msgpack.encode(garble(specs)), type=list[ValueSpec])
        got = decode_values(hostile, body, CPU, max_bytes=MAX_BYTES)
    except (ProtocolError, msgspec.ValidationError):
        return
    assert tensor_specs(TupleSpec(hostile))
    check_within(got, body)


@given(st.binary(max_size=80), st.integers(0, 64))
@settings(derandomize=True, deadline=None, max_examples=300)
def test_specs_of_any_bytes_do_no_harm(header: bytes, length: int) -> None:
    try:
        hostile = msgspec.msgpack.decode(header, type=list[ValueSpec])
        decode_values(hostile, BODY[:length], CPU, max_bytes=MAX_BYTES)
    except (ProtocolError, msgspec.MsgspecError, ValueError):
        return

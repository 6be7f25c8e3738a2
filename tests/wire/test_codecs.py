"""Codecs: the error stays within the stated bound, or the numbers go as they are."""

from __future__ import annotations

import math
import tracemalloc

import lz4.block
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from splitnet.errors import ProtocolError, SettingsError
from splitnet.wire import codecs
from splitnet.wire.codecs import CODECS, Coded, check_codec

CPU = torch.device("cpu")
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def body_of(coded: Coded) -> torch.Tensor:
    return torch.frombuffer(bytearray(coded.data), dtype=torch.uint8) if coded.data else torch.empty(0)


def decoded(coded: Coded, like: torch.Tensor) -> torch.Tensor:
    needed = codecs.encoded_bytes(coded.codec, like.dtype, like.numel())
    assert needed in (None, len(coded.data))
    raw = body_of(coded)
    if coded.codec == "none":
        return raw.view(like.dtype).view(like.shape)
    flat = codecs.decode(raw, coded.codec, like.dtype, like.numel(), coded.scale, coded.low, CPU)
    return flat.view(like.shape)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and bytes(codecs.tensor_bytes(one)) == bytes(codecs.tensor_bytes(other))


def some_floats(limit: float) -> st.SearchStrategy[list[float]]:
    return st.one_of(
        st.lists(st.floats(-limit, limit), min_size=1, max_size=40),
        st.lists(st.floats(-10, 10), min_size=1, max_size=40),
        st.builds(  # a narrow range far from 0
            lambda far, near: [far + x for x in near],
            st.floats(-limit / 2, limit / 2),
            st.lists(st.floats(0, 1), min_size=1, max_size=40),
        ),
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("codec", ["int8", "int8+lz4"])
@given(numbers=some_floats(60_000))
@example(numbers=[0.0, -0.0])
@example(numbers=[1e-38, 0.0])
@settings(derandomize=True, deadline=None, max_examples=60)
def test_int8_errs_by_half_a_step_at_most(codec: str, dtype: torch.dtype, numbers: list[float]) -> None:
    tensor = torch.tensor(numbers, dtype=dtype)
    coded = codecs.encode(tensor, codec)
    back = decoded(coded, tensor)
    if coded.codec == "none":
        assert same_bits(back, tensor)
        return
    exact, got = tensor.double(), back.double()
    step = (exact.max() - exact.min()).item() / 255
    assert math.isclose(coded.scale, step, rel_tol=1e-6)
    # Half a step; then the result is rounded to its dtype, as was what float32 held in between.
    rounding = torch.finfo(dtype).eps + 4 * torch.finfo(torch.float32).eps
    assert ((got - exact).abs() <= step * (0.5 + 1e-4) + rounding * exact.abs().max()).all()
    assert (got[exact == exact.min()] == exact.min()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@given(numbers=some_floats(65_504))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_fp16_errs_by_half_a_unit_at_most(dtype: torch.dtype, numbers: list[float]) -> None:
    tensor = torch.tensor(numbers, dtype=dtype)
    coded = codecs.encode(tensor, "fp16")
    back = decoded(coded, tensor)
    if coded.codec == "none":
        assert same_bits(back, tensor)
        assert tensor.abs().max() >= 65_520
        return
    exact, got = tensor.double(), back.double()
    bound = torch.maximum(exact.abs() * 2**-11, torch.tensor(2.0**-25, dtype=torch.float64))
    assert ((got - exact).abs() <= bound * 1.0001).all()


@pytest.mark.parametrize("codec", ["fp16", "int8", "int8+lz4"])
@pytest.mark.parametrize(
    "numbers",
    [
        [1.0, math.nan],
        [math.inf, 0.0],
        [-math.inf, math.inf],
        [-3e38, 3e38],
        [-3e38, 0.0],
        [1e38, 2e38],
    ],
)
def test_what_a_codec_cannot_represent_goes_as_it_is(codec: str, numbers: list[float]) -> None:
    tensor = torch.tensor(numbers)
    coded = codecs.encode(tensor, codec)
    assert coded.codec == "none"
    assert same_bits(decoded(coded, tensor), tensor)


def test_subnormal_ranges_do_not_become_nan() -> None:
    tensor = torch.tensor([0.0, 1e-45, 3e-45])
    assert codecs.encode(tensor, "int8").codec == "none"


def test_fp16_keeps_its_largest_number_and_refuses_the_next() -> None:
    assert codecs.encode(torch.tensor([65_504.0]), "fp16").codec == "fp16"
    assert codecs.encode(torch.tensor([65_520.0]), "fp16").codec == "none"


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("number", [0.0, -7.25, 60_000.0])
def test_constants_come_back_exact(dtype: torch.dtype, number: float) -> None:
    tensor = torch.full((3, 5), number, dtype=dtype)
    coded = codecs.encode(tensor, "int8")
    assert (coded.codec, coded.scale, len(coded.data)) == ("int8", 0.0, 15)
    assert same_bits(decoded(coded, tensor), tensor)


def test_zeros_behind_a_relu_come_back_exact() -> None:
    tensor = torch.randn(10_000, generator=torch.Generator().manual_seed(0)).relu()
    back = decoded(codecs.encode(tensor, "int8"), tensor)
    assert (back[tensor == 0] == 0).all()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(50),
        torch.arange(50, dtype=torch.uint8),
        torch.tensor([True, False]),
        torch.tensor([1 + 2j]),
        torch.empty(0),
        torch.empty(0, 3, dtype=torch.float64),
    ],
)
def test_all_but_floats_and_all_that_is_empty_goes_as_it_is(codec: str, tensor: torch.Tensor) -> None:
    coded = codecs.encode(tensor, codec)
    assert coded.codec == "none"
    assert bytes(coded.data) == bytes(codecs.tensor_bytes(tensor))


def test_sizes_shrink_as_promised() -> None:
    tensor = torch.randn(40, 1000, generator=torch.Generator().manual_seed(0)).relu()
    sizes = {codec: len(codecs.encode(tensor, codec).data) for codec in CODECS}
    assert (sizes["none"], sizes["fp16"], sizes["int8"]) == (160_000, 80_000, 40_000)
    assert sizes["int8+lz4"] < 40_000
    assert len(codecs.encode(tensor.half(), "fp16").data) == 80_000


def test_lz4_that_does_not_pay_is_left_out() -> None:
    noise = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert codecs.encode(noise, "int8+lz4").codec == "int8"


def test_a_block_that_unpacks_to_more_than_its_shape_takes_no_memory() -> None:
    bomb = lz4.block.compress(bytes(50_000_000), store_size=False)
    raw = torch.frombuffer(bytearray(bomb), dtype=torch.uint8)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="does not unpack to 10 bytes"):
            codecs.decode(raw, "int8+lz4", torch.float32, 10, 1.0, 0.0, CPU)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=80), st.integers(1, 1000))
@settings(derandomize=True, deadline=None, max_examples=200)
def test_a_block_of_any_bytes_unpacks_to_its_shape_or_is_refused(block: bytes, numel: int) -> None:
    raw = torch.tensor(list(block), dtype=torch.uint8)
    try:
        got = codecs.decode(raw, "int8+lz4", torch.float32, numel, 1.0, 0.0, CPU)
    except ProtocolError:
        return
    assert got.shape == (numel,)


@pytest.mark.parametrize(
    ("codec", "dtype", "numel", "complaint"),
    [
        ("zip", torch.float32, 4, "there are none, fp16"),
        ("int8", torch.int64, 4, "cannot come in codec 'int8'"),
        ("fp16", torch.float32, 0, "cannot come in codec 'fp16'"),
    ],
)
def test_codecs_that_cannot_be_are_refused(codec: str, dtype: torch.dtype, numel: int, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        codecs.encoded_bytes(codec, dtype, numel)


def test_an_unknown_codec_offers_the_near_one() -> None:
    assert [check_codec(name) for name in CODECS] == list(CODECS)
    with pytest.raises(SettingsError, match=r"'fp61' is unknown; did you mean 'fp16'\? there are none, fp16, int8"):
        check_codec("fp61")
    with pytest.raises(SettingsError, match="'zzz' is unknown; there are none"):
        check_codec("zzz")

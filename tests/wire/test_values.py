"""Values: what goes in comes out, to the bit, the stride and the address modulo 64."""

from __future__ import annotations

import math
import struct
from collections import OrderedDict
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitnet.errors import CutError, ProtocolError, SettingsError
from splitnet.wire.codecs import CODECS
from splitnet.wire.decoding import RepeatDecoder, decode_values
from splitnet.wire.encoding import Encoded, encode_values
from splitnet.wire.frames import ALIGNMENT, Frame, FrameDecoder, encode_frame
from splitnet.wire.specs import MAX_DEPTH, MAX_VALUES, TensorSpec, ValueSpec

CPU = torch.device("cpu")
MAX_BYTES = 1 << 24

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
]


class Carrier(msgspec.Struct, tag="carrier"):
    values: list[ValueSpec]


def through(decoder: FrameDecoder[Carrier], encoded: Encoded) -> Frame[Carrier]:
    """Specs and buffers, frame, byte stream, frame."""
    stream = b"".join(encode_frame(msgspec.msgpack.encode(Carrier(encoded.specs)), encoded.buffers, session=1))
    while True:
        buffer = decoder.buffer()
        buffer[:], stream = stream[: len(buffer)], stream[len(buffer) :]
        frame = decoder.received(len(buffer))
        if frame is not None:
            assert stream == b""
            return frame


def cross(values: list[Any], codec: str = "none", device: torch.device = CPU) -> list[Any]:
    """The whole way of one message."""
    frame = through(FrameDecoder(Carrier), encode_values(values, codec))
    return decode_values(frame.message.values, frame.body, device, max_bytes=MAX_BYTES)


def some_memory(dtype: torch.dtype, count: int, seed: int = 0) -> torch.Tensor:
    """`count` numbers of random bits (for bool: of random truth)."""
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.bool:
        return torch.randint(0, 2, (count,), generator=generator).bool()
    return torch.randint(0, 256, (count * dtype.itemsize,), generator=generator, dtype=torch.uint8).view(dtype)


def bits(tensor: torch.Tensor) -> bytes:
    if tensor.numel() == 0:
        return b""
    flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().as_strided((tensor.numel(),), (1,))
    return bytes(flat.view(torch.uint8).numpy())


def assert_same(got: torch.Tensor, sent: torch.Tensor) -> None:
    assert (got.dtype, got.shape, got.stride()) == (sent.dtype, sent.shape, sent.stride())
    assert bits(got) == bits(sent)
    if sent.numel():
        assert got.data_ptr() % ALIGNMENT == sent.data_ptr() % ALIGNMENT
    assert not got.requires_grad


def assert_close(got: torch.Tensor, sent: torch.Tensor, atol: float) -> None:
    # torch.testing would do, but takes seconds to import.
    assert ((got - sent).abs() <= atol + 2**-11 * sent.abs()).all()


def memory_format_3d(memory: torch.Tensor) -> torch.Tensor:
    return memory[:240].view(2, 3, 4, 5, 2).contiguous(memory_format=torch.channels_last_3d)


LAYOUTS: dict[str, Any] = {
    "contiguous": lambda m: m[:120].view(2, 3, 4, 5),
    "scalar": lambda m: m[3],
    "one element": lambda m: m[:1].view(1, 1, 1),
    "empty": lambda m: m[:0],
    "empty, with dimensions": lambda m: m[:0].view(3, 0, 4),
    "empty, permuted": lambda m: m[:0].view(3, 0, 4).permute(2, 0, 1),
    "channels last": lambda m: m[:120].view(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "channels last 3d": memory_format_3d,
    "transposed": lambda m: m[:12].view(3, 4).t(),
    "permuted": lambda m: m[:120].view(2, 3, 4, 5).permute(3, 0, 2, 1),
    "offset": lambda m: m[7:127].view(2, 3, 4, 5),
    "offset and permuted": lambda m: m[7:127].view(2, 3, 4, 5).permute(1, 0, 3, 2),
    "last half": lambda m: m[:240].view(4, 60)[2:],
    "chunk of channels": lambda m: m[:240].view(2, 6, 4, 5).chunk(2, dim=1)[1],
    "every other": lambda m: m[:240].view(2, 6, 4, 5)[:, ::2],
    "every other, channels last": lambda m: (
        m[:240].view(2, 6, 4, 5).contiguous(memory_format=torch.channels_last)[:, ::2]
    ),
    "slice of a slice": lambda m: m[:240].view(4, 6, 10)[1:3, ::3, 2:9:2],
    "column": lambda m: m[:240].view(24, 10)[:, 3],
    "expanded": lambda m: m[:12].view(3, 1, 4).expand(3, 50, 4),
    "expanded scalar": lambda m: m[5].expand(7, 8),
    "expanded and permuted": lambda m: m[:12].view(3, 1, 4).expand(3, 5, 4).permute(1, 2, 0),
    "expanded with gaps": lambda m: m[:24].view(3, 1, 8)[:, :, ::2].expand(3, 5, 4),
    "expanded to nothing": lambda m: m[:12].view(3, 1, 4).expand(3, 0, 4),
    "odd strides in dimensions of 1": lambda m: m.as_strided((1, 5, 1), (99, 1, 77)),
    "gaps, odd strides in dimensions of 1": lambda m: m.as_strided((1, 5, 1), (99, 3, 77)),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_of_every_dtype_comes_back_to_the_bit(layout: Any) -> None:
    for dtype in DTYPES:
        sent = layout(some_memory(dtype, 300))
        (got,) = cross([sent])
        assert_same(got, sent)
        (again, other) = cross([got, sent])  # what was received can be sent on
        assert_same(again, sent)
        assert_same(other, sent)


@st.composite
def any_view(draw: st.DrawFn) -> torch.Tensor:
    """A tensor cut, permuted and expanded out of a larger one, as deep as torch's own views go."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(1, 6), max_size=5))
    offset = draw(st.integers(0, 40))
    memory = some_memory(dtype, offset + math.prod(shape), seed=draw(st.integers(0, 5)))
    tensor = memory[offset:].view(shape)
    tensor = tensor.permute(draw(st.permutations(range(tensor.dim()))))
    for dim, size in enumerate(tensor.shape):
        start = draw(st.integers(0, size - 1))
        stop = draw(st.integers(start, size))
        step = draw(st.integers(1, 3))
        if draw(st.booleans()):
            tensor = tensor[(slice(None),) * dim + (slice(start, stop, step),)]
    if draw(st.booleans()):
        tensor = tensor.unsqueeze(draw(st.integers(0, tensor.dim())))
        grown = [draw(st.integers(1, 4)) if size == 1 else size for size in tensor.shape]
        tensor = tensor.expand(grown)
    return tensor.permute(draw(st.permutations(range(tensor.dim()))))


@given(st.lists(any_view(), max_size=4))
@settings(derandomize=True, deadline=None, max_examples=150)
def test_views_of_all_kinds_come_back_to_the_bit(sent: list[torch.Tensor]) -> None:
    for got, tensor in zip(cross(sent), sent, strict=True):
        assert_same(got, tensor)


@given(st.lists(st.tuples(any_view(), st.integers(1, 3)), max_size=6))
def test_messages_of_one_connection_come_as_each_alone(messages: list[tuple[torch.Tensor, int]]) -> None:
    frames: FrameDecoder[Carrier] = FrameDecoder(Carrier)
    decoder = RepeatDecoder(CPU, max_bytes=MAX_BYTES)
    for tensor, times in messages:
        for _ in range(times):
            frame = through(frames, encode_values([tensor]))
            (got,) = decoder.decode(frame.message.values, frame.body)
            assert_same(got, tensor)
            got.unsqueeze_(0)  # what a top may do with it must not come back


def test_a_lie_after_good_messages_is_still_found() -> None:
    frames: FrameDecoder[Carrier] = FrameDecoder(Carrier)
    decoder = RepeatDecoder(CPU, max_bytes=MAX_BYTES)
    encoded = encode_values([torch.rand(3, 4)])
    for _ in range(2):
        frame = through(frames, encoded)
        decoder.decode(frame.message.values, frame.body)
    (spec,) = encoded.specs
    assert isinstance(spec, TensorSpec)
    lie = msgspec.structs.replace(spec, shape=(3, 5))
    frame = through(frames, encoded._replace(specs=[lie]))
    with pytest.raises(ProtocolError, match="overlaps itself"):
        decoder.decode(frame.message.values, frame.body)


@given(any_view(), st.sampled_from(CODECS))
@settings(derandomize=True, deadline=None, max_examples=150)
def test_codecs_keep_shapes_strides_and_dtypes(sent: torch.Tensor, codec: str) -> None:
    (got,) = cross([sent], codec)
    assert (got.dtype, got.shape, got.stride()) == (sent.dtype, sent.shape, sent.stride())


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_codecs_put_every_number_back_in_its_place(layout: Any, codec: str) -> None:
    sent = layout(torch.arange(300).float())
    (got,) = cross([sent], codec)
    assert (got.shape, got.stride()) == (sent.shape, sent.stride())
    assert_close(got, sent, atol=0.6)


NAN_WITH_PAYLOAD = struct.unpack(">d", bytes.fromhex("7ff80000deadbeef"))[0]
PLAIN: list[Any] = [
    *(0, 1, -1, 2**63 - 1, -(2**63), 2**64 - 1),
    *(0.0, -0.0, 1.0, 0.1, 1e308, 5e-324, math.inf, -math.inf, math.nan, NAN_WITH_PAYLOAD),
    *(True, False, None, "", "text", "ünï ☃", "\x00"),
    *(torch.Size([]), torch.Size([1, 2, 2**40]), torch.float32, torch.bool, torch.float8_e5m2),
    *((), (1,), [], [[]], [1.0, (2, None)], {}, {"b": 1, "a": {"": ()}}),
    (torch.Size([3]), [torch.int64, {"x": (True, 1, 1.0)}]),
]


def exact(value: Any) -> Any:
    """`value` with everything that == overlooks."""
    if type(value) is float:
        return struct.pack(">d", value)
    if type(value) in (tuple, list, torch.Size):
        return type(value), [exact(item) for item in value]
    if type(value) is dict:
        return [(key, exact(item)) for key, item in value.items()]
    return type(value), value


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_values_keep_their_exact_type(value: Any) -> None:
    assert [exact(got) for got in cross([value])] == [exact(value)]


def test_all_plain_values_at_once_and_in_order() -> None:
    assert [exact(got) for got in cross(PLAIN)] == [exact(value) for value in PLAIN]


def test_a_device_is_the_receivers() -> None:
    assert cross([torch.device("cuda:3"), (torch.device("meta"),)]) == [CPU, (CPU,)]


def test_tensors_within_containers() -> None:
    first, second = torch.arange(5), torch.ones(3, 4, dtype=torch.bfloat16).t()
    ((got_first, mapping), size) = cross([(first, {"x": [second]}), torch.Size([5])])
    assert_same(got_first, first)
    assert_same(mapping["x"][0], second)
    assert size == torch.Size([5])


def address(buffer: Any) -> int:
    return torch.frombuffer(buffer, dtype=torch.uint8).data_ptr()


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")
@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(2, 3, 4, 5),
        torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        torch.randn(130)[7:127].view(2, 3, 4, 5).permute(1, 0, 3, 2),
        torch.randn(10).bfloat16(),
    ],
)
def test_dense_tensors_are_copied_on_neither_side(tensor: torch.Tensor) -> None:
    encoded = encode_values([tensor])
    data = encoded.buffers[-1]
    assert (address(data), len(data)) == (tensor.data_ptr(), tensor.nbytes)
    body = body_of(encoded)
    (got,) = decode_values(encoded.specs, body, CPU, max_bytes=MAX_BYTES)
    assert got.untyped_storage().data_ptr() == body.untyped_storage().data_ptr()


def body_of(encoded: Encoded) -> torch.Tensor:
    return torch.tensor(list(b"".join(encoded.buffers)), dtype=torch.uint8)


@pytest.mark.parametrize("codec", CODECS)
def test_a_body_may_lie_anywhere_in_its_storage(codec: str) -> None:
    sent = [torch.arange(120.0).view(2, 3, 4, 5).permute(0, 2, 3, 1), torch.arange(20.0)[::2]]
    encoded = encode_values(sent, codec)
    body = body_of(encoded)
    memory = torch.full((4096,), 255, dtype=torch.uint8)
    memory[64 : 64 + len(body)] = body
    got = decode_values(encoded.specs, memory[64 : 64 + len(body)], CPU, max_bytes=MAX_BYTES)
    for one, other in zip(got, sent, strict=True):
        assert_close(one, other, atol=0.3)


def test_views_and_expansions_send_no_byte_twice_and_none_in_vain() -> None:
    memory = torch.randn(2, 6, 4, 5)
    assert encode_values([memory[:, ::2]]).payload_bytes == 2 * 3 * 4 * 5 * 4
    assert encode_values([memory.unsqueeze(0).expand(100, 2, 6, 4, 5)]).payload_bytes == memory.nbytes


def test_padding_is_not_payload() -> None:
    memory = torch.zeros(300, dtype=torch.uint8)
    encoded = encode_values([memory[:3], memory[:3], memory[7:10], 5, memory[:0]])
    assert encoded.payload_bytes == 9
    offsets = [spec.offset for spec in encoded.specs if isinstance(spec, TensorSpec)]
    assert offsets == [0, 64, 71, 74]
    assert sum(map(len, encoded.buffers)) == 74


def test_memory_that_the_caller_kept_is_not_needed() -> None:
    """The buffers hold the memory of a tensor that nobody else does."""
    encoded = encode_values([torch.full((1000,), 7.0)])
    torch.zeros(1000)
    assert bytes(encoded.buffers[0]) == struct.pack("f", 7.0) * 1000


@pytest.mark.parametrize("codec", CODECS)
def test_gradients_and_inference_mode_do_not_matter(codec: str) -> None:
    weight = torch.nn.Parameter(torch.arange(12.0).view(3, 4))
    for tensor in (weight, weight.t(), weight[:, ::2], weight * 1):
        (got,) = cross([tensor], codec)
        assert type(got) is torch.Tensor
        assert not got.requires_grad
        assert_close(got, tensor.detach(), atol=0.05)
    with torch.inference_mode():
        tensor = torch.arange(12.0).view(3, 4)[:, ::2]
        (got,) = cross([tensor], codec)
        assert_close(got, tensor, atol=0.05)
        got.add_(1)
    (got,) = cross([tensor], codec)
    got.add_(1)


def test_lazy_conjugation_and_negation_are_carried_out() -> None:
    tensor = torch.tensor([[1 + 2j, 3 - 4j], [5j, 6]])
    for sent in (tensor.conj(), tensor.conj().t(), tensor.conj()[:, 1], tensor.conj().imag):
        (got,) = cross([sent])
        assert got.tolist() == sent.tolist()
        assert got.stride() == sent.stride()


def test_an_address_that_is_odd_for_its_dtype_is_mended() -> None:
    memory = bytearray(41)
    sent = torch.frombuffer(memory, dtype=torch.float32, count=10, offset=1).fill_(3.0)
    (got,) = cross([sent])
    assert got.tolist() == [3.0] * 10


class Odd(torch.Tensor):
    pass


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = (value,)
    return value


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (torch.eye(3).to_sparse(), "torch.sparse_coo tensor"),
        (torch.empty(3, device="meta"), "live meta tensor"),
        (torch.zeros(2, dtype=torch.float8_e4m3fnuz), "live value of torch.float8_e4m3fnuz"),
        (torch.zeros(3).as_subclass(Odd), "Odd cannot cross"),
        (torch.arange(5).unfold(0, 3, 1), r"shape \(3, 3\) and strides \(1, 1\) overlaps itself"),
        (2**64, "integer of 65 bits"),
        (-(2**63) - 1, "integer of 64 bits"),
        ("\ud800", "not valid Unicode"),
        ({"\ud800": 1}, "not valid Unicode"),
        ({1: 2}, "dict with the key 1"),
        (1j, "type builtins.complex"),
        (b"bytes", "type builtins.bytes"),
        ({1, 2}, "type builtins.set"),
        (slice(1), "type builtins.slice"),
        (OrderedDict(a=1), "type collections.OrderedDict"),
        (torch.max(torch.eye(3), 0), "return_types.max"),
        (torch.complex32, "live value of torch.complex32"),
        (nested(MAX_DEPTH + 1), f"deeper than {MAX_DEPTH}"),
        ([0] * MAX_VALUES, f"more than {MAX_VALUES}"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse")
def test_what_cannot_cross_is_refused_in_one_line(value: Any, complaint: str) -> None:
    with pytest.raises(CutError, match=complaint) as caught:
        encode_values([value])
    assert "\n" not in str(caught.value)


def test_the_bounds_themselves_can_be_reached() -> None:
    assert cross([nested(MAX_DEPTH)]) == [nested(MAX_DEPTH)]
    assert cross([[0] * (MAX_VALUES - 1)]) == [[0] * (MAX_VALUES - 1)]


def test_an_unknown_codec_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(SettingsError, match="'zip' is unknown"):
        encode_values([1], "zip")


@pytest.mark.parametrize("codec", ["none", "fp16", "int8"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_another_device_gets_the_same_layout(layout: Any, codec: str) -> None:
    """The meta device stands for a GPU: shapes, strides and dtypes without data."""
    sent = layout(torch.arange(300).float())
    (got,) = cross([sent], codec, torch.device("meta"))
    assert got.device.type == "meta"
    assert (got.dtype, got.shape, got.stride()) == (sent.dtype, sent.shape, sent.stride())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("codec", CODECS)
def test_from_gpu_to_gpu(codec: str) -> None:
    for layout in LAYOUTS.values():
        sent = layout(torch.arange(300).float().cuda())
        (got,) = cross([sent], codec, torch.device("cuda"))
        assert got.is_cuda
        assert (got.shape, got.stride()) == (sent.shape, sent.stride())
        if codec == "none":
            assert_same(got, sent)
        assert_close(got, sent, atol=0.6)

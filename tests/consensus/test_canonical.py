"""One value, one encoding: what is read back, and what is refused though it means the same."""

from __future__ import annotations

import itertools
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.consensus.audit_records import FraudProof, Void, Vote
from splitnet.consensus.block import Block, Body, Header, SealedHeader
from splitnet.consensus.canonical import MOST, Record, check_encodable, decode, digest_of, encode
from splitnet.consensus.errors import EncodingError
from splitnet.consensus.genesis import MILLION, Audit, Genesis, Member
from splitnet.consensus.plan import CutPlan, SignedPlan
from splitnet.consensus.receipt import Arrival, Receipt, SignedReceipt
from splitnet.consensus.registry import ModelFlops, Registry
from splitnet.consensus.sizes import MOST_AUDIT_ENTRIES, MOST_BLOCK_BYTES, MOST_RECEIPTS
from tests.consensus.by_hand import packed
from tests.consortium import MINING, Consortium, Contents, a_genesis, a_registry, some_rules

numbers = st.integers(0, MOST)
positive = st.integers(1, MOST)
digests = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=64, max_size=64)
nonces = st.binary(min_size=16, max_size=16)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


def lists_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=3).map(tuple)


arrivals = st.builds(Arrival, numbers, numbers, positive, digests)
receipts = st.builds(Receipt, arrivals, numbers, numbers, digests, digests, numbers, digests, digests)
signed = st.builds(SignedReceipt, receipts, signatures, signatures, signatures)
frauds = st.builds(FraudProof, signed, numbers, signatures)
voids = st.builds(Void, signed, lists_of(st.builds(Vote, numbers, signatures)))
headers = st.builds(
    Header, digests, positive, numbers, numbers, digests, digests, digests, numbers, positive, digests, numbers
)
millionths = st.integers(0, MILLION)
plans = st.builds(
    SignedPlan,
    st.builds(CutPlan, numbers, lists_of(numbers), lists_of(millionths), lists_of(millionths)),
    signatures,
)
bodies = st.builds(Body, plans, lists_of(signed), lists_of(frauds), lists_of(voids))
blocks = st.builds(Block, st.builds(SealedHeader, headers, nonces, signatures), bodies)
members = st.builds(Member, names, digests)
models = st.builds(ModelFlops, digests, digests, lists_of(numbers))
records = st.one_of(arrivals, receipts, signed, frauds, voids, headers, plans, bodies, blocks, members, models)


def plain(value: Any) -> Any:
    """Without types, for the encoder by hand."""
    if isinstance(value, Record):
        return [plain(getattr(value, field.name)) for field in msgspec.structs.fields(value)]
    return [plain(item) for item in value] if isinstance(value, tuple) else value


@given(records)
def test_round_trip(value: Record) -> None:
    data = encode(value)
    assert data == packed(plain(value))
    assert decode(data, type(value), MOST_BLOCK_BYTES) == value
    assert decode(memoryview(data), type(value), MOST_BLOCK_BYTES) == value
    check_encodable(value)


# --- the same value in other bytes


def other_forms(value: Any) -> Iterator[bytes]:
    """Bytes that a lenient decoder would read as this number, text, or head of bytes or list."""
    shortest = packed(value)
    forms: tuple[tuple[int, str], ...]
    if isinstance(value, int):
        forms = ((0xCC, ">B"), (0xCD, ">H"), (0xCE, ">I"), (0xCF, ">Q"), (0xD0, ">b"), (0xD1, ">h"), (0xD2, ">i"))
        yield from (form for form in fitting((*forms, (0xD3, ">q")), value, b"") if form != shortest)
        yield b"\xcb" + struct.pack(">d", value)
        yield b"\xca" + struct.pack(">f", value)
        if value == 0:
            yield from (b"\xcb" + struct.pack(">d", -0.0), b"\xc2", b"\xc0")
        if value == 1:
            yield b"\xc3"
        yield packed(str(value))
        yield packed([value])
    elif isinstance(value, bytes):
        bins = fitting(((0xC4, ">B"), (0xC5, ">H"), (0xC6, ">I")), len(value), value)
        texts = fitting(((0xD9, ">B"), (0xDA, ">H"), (0xDB, ">I")), len(value), value)
        yield from (form for form in (*bins, *texts) if form != shortest)
        if len(value) < 32:
            yield bytes([0xA0 | len(value)]) + value
        yield b"\xc7" + struct.pack(">BB", len(value), 0) + value  # an extension
        yield packed(list(value))
    elif isinstance(value, str):
        texts = fitting(((0xD9, ">B"), (0xDA, ">H"), (0xDB, ">I")), len(value), value.encode())
        yield from (form for form in texts if form != shortest)
        yield packed(value.encode())
    else:
        items = b"".join(map(packed, value))
        lists = fitting(((0xDC, ">H"), (0xDD, ">I")), len(value), items)
        yield from (form for form in lists if form != shortest)
        yield packed([*value, 0])
        yield packed([*value, b""])
        if value:
            yield packed(value[:-1])
        pairs = b"".join(packed(str(number)) + packed(item) for number, item in enumerate(value))
        yield fitting(((0xDE, ">H"),), len(value), pairs)[0]  # a map


def fitting(forms: tuple[tuple[int, str], ...], number: int, rest: bytes) -> list[bytes]:
    found = []
    for code, form in forms:
        try:
            found.append(bytes([code]) + struct.pack(form, number) + rest)
        except struct.error:
            continue
    return found


class Raw(bytes):
    """Bytes to be put in as they are."""


def altered(value: Any) -> Iterator[bytes]:
    """The whole value, one part of it in another form; each part in turn."""
    yield from other_forms(value)
    if isinstance(value, list):
        for place, item in enumerate(value):
            before, after = value[:place], value[place + 1 :]
            head = packed(value)[: len(packed(value)) - len(b"".join(map(packed, value)))]
            for form in altered(item):
                yield head + b"".join([*map(packed, before), form, *map(packed, after)])


CONSORTIUM = Consortium(some_rules())
EXAMPLES: tuple[Record, ...] = (
    CONSORTIUM.receipt(0, 1),
    CONSORTIUM.receipt(300, 1, cut=5),
    CONSORTIUM.block(1, 0, Contents(CONSORTIUM.receipts(1, [0, 1]))),
    CONSORTIUM.body(2, Contents(frauds=(FraudProof(CONSORTIUM.receipt(0, 0), 1, bytes(64)),))),
    CONSORTIUM.body(2, Contents(voids=(Void(CONSORTIUM.receipt(0, 0), (Vote(1, bytes(64)),)),))),
    a_genesis(audit=Audit()),
    a_registry(),
)


@pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: type(value).__name__)
def test_no_other_bytes_mean_the_same(value: Record) -> None:
    """A list one item shorter or longer may be another value, but never this one."""
    data, refused, others = encode(value), 0, 0
    for form in altered(plain(value)):
        assert form != data
        try:
            found = decode(form, type(value), MOST_BLOCK_BYTES)
        except EncodingError:
            refused += 1
        else:
            others += 1
            assert found != value
            assert encode(found) == form
    assert refused > 50
    assert others == 0 or not isinstance(value, SignedReceipt)


def test_trailing_and_missing_bytes() -> None:
    data = encode(EXAMPLES[0])
    for count in range(len(data)):
        with pytest.raises(EncodingError):
            decode(data[:count], SignedReceipt, 1024)
    for tail in (b"\0", b"\xc0", data):
        with pytest.raises(EncodingError):
            decode(data + tail, SignedReceipt, 1024)


def test_one_byte_too_many_is_named() -> None:
    data = encode(EXAMPLES[0])
    assert decode(data, SignedReceipt, len(data)) == EXAMPLES[0]
    message = f"^{len(data)} bytes of SignedReceipt are over the limit of {len(data) - 1}$"
    with pytest.raises(EncodingError, match=message):
        decode(data, SignedReceipt, len(data) - 1)


# --- bytes that mean nothing

KINDS: tuple[type[Record], ...] = (Arrival, SignedReceipt, SealedHeader, Block, Body, Void, Genesis, Registry)


@given(st.binary(max_size=300), st.sampled_from(KINDS))
def test_random_bytes_raise_nothing_else(data: bytes, kind: type[Record]) -> None:
    with pytest.raises(EncodingError) as caught:
        decode(data, kind, 1 << 20)
    assert "\n" not in str(caught.value)


@given(records, st.data())
def test_damaged_bytes_raise_nothing_else(value: Record, data: st.DataObject) -> None:
    good = encode(value)
    place = data.draw(st.integers(0, len(good) - 1))
    bad = good[:place] + data.draw(st.binary(max_size=12)) + good[place + data.draw(st.integers(0, 12)) :]
    try:
        found = decode(bad, type(value), 1 << 20)
    except EncodingError:
        return
    assert encode(found) == bad


def test_lists_are_bounded() -> None:
    """Whatever the decoder's version does about a list's length."""
    plan, vote = CONSORTIUM.plan(0), Vote(0, bytes(64))
    fraud = FraudProof(CONSORTIUM.receipt(0, 0), 1, bytes(64))
    long: tuple[Record, ...] = (
        Body(plan, (CONSORTIUM.receipt(0, 0),) * (MOST_RECEIPTS + 1)),
        Body(plan, (), (fraud,) * (MOST_AUDIT_ENTRIES + 1)),
        Body(plan, (), (), (Void(fraud.signed, ()),) * (MOST_AUDIT_ENTRIES + 1)),
        Void(fraud.signed, (vote,) * 10_001),
        CutPlan(0, (0,) * 10_001, (), ()),
        CutPlan(0, (), (0,) * 10_001, ()),
        CutPlan(0, (), (), (0,) * 10_001),
        ModelFlops(bytes(32), bytes(32), (0,) * 65_537),
        Registry((ModelFlops(bytes(32), bytes(32), (1,)),) * 10_001),
        a_genesis(models=(0,) * 10_001),
        a_genesis(gateway_of=(0,) * 10_001),
        a_genesis(most_data_points=(1,) * 10_001),
        a_genesis(aps=10_001),
    )
    for value in long:
        with pytest.raises(EncodingError, match="of length <= "):
            decode(encode(value), type(value), 1 << 26)


BOMBS: dict[str, Callable[[], bytes]] = {
    "lists in lists": lambda: b"\x91" * 1_000_000,
    "long lists in lists": lambda: b"\xdd\x00\x00\x00\x01" * 200_000,
    "maps in maps": lambda: b"\x81\xa0" * 500_000,
    "bodies of bodies": lambda: b"\x93" * 1_000_000,
    "a list of 4 billion": lambda: b"\x93\xdd\xff\xff\xff\xff",
    "lists of 4 billion in a list": lambda: b"\x93" + b"\xdd\xff\xff\xff\xff" * 1000,
    "a list of 65,535": lambda: b"\x93\xdc\xff\xff",
    "4 GB": lambda: b"\x92\x93\xc6\xff\xff\xff\xff",
    "4 GB of text": lambda: b"\x92\x93\xdb\xff\xff\xff\xff",
    "an extension of 4 GB": lambda: b"\xc9\xff\xff\xff\xff\x01",
    "a map of 4 billion": lambda: b"\xdf\xff\xff\xff\xff",
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("kind", [Block, Body, Genesis, Registry])
def test_what_claims_to_be_large_takes_no_memory(bomb: str, kind: type[Record]) -> None:
    data = BOMBS[bomb]()
    tracemalloc.start()
    try:
        with pytest.raises(EncodingError):
            decode(data, kind, MOST_BLOCK_BYTES)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


# --- ranges hold also for what is built here

OUT_OF_RANGE = (
    Arrival(-1, 0, 1, bytes(32)),
    Arrival(0, 0, 0, bytes(32)),
    Arrival(0, MOST + 1, 1, bytes(32)),
    Arrival(0, 0, 1, bytes(31)),
    Arrival(0, 0, 1, bytes(33)),
    Arrival(0, 0, cast(int, 1.0), bytes(32)),
    Vote(0, bytes(63)),
    Member("", bytes(32)),
    Member("-a", bytes(32)),
    Member("a" * 65, bytes(32)),
    Member("a b", bytes(32)),
    Member("a\n", bytes(32)),
    Member("ä", bytes(32)),
    msgspec.structs.replace(MINING, reputation="sqrt"),
)


@pytest.mark.parametrize("value", OUT_OF_RANGE, ids=str)
def test_out_of_range(value: Record) -> None:
    with pytest.raises(EncodingError):
        check_encodable(value)


# --- digests


def test_digests_differ_by_kind_network_and_parts() -> None:
    """Also where the same bytes are divided elsewhere: kinds end with a zero byte, networks have one length."""
    kinds, networks, parts = ("a", "ab", "arrival"), (bytes(32), b"\1" * 32), ((b"x",), (b"x", b"y"), (b"",))
    found = [digest_of(kind, network, *part) for kind, network, part in itertools.product(kinds, networks, parts)]
    assert len(set(found)) == len(found) == 18

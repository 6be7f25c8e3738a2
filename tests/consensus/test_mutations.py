"""100,000 mutations of valid blocks and receipts, counted; not one is accepted.

Exhaustively every single bit and every truncation; with a seed, damaged bytes, fields with other values that look
valid, parts swapped between blocks, receipts and networks, and receipts that a miner puts into a block anew.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from splitnet.consensus.audit_records import Void, prove_fraud, vote_void
from splitnet.consensus.block import Block, hash_of
from splitnet.consensus.canonical import Record, decode, encode
from splitnet.consensus.chain import Chain
from splitnet.consensus.errors import ConsensusError, EncodingError, ReceiptError, ReceiptSlotError
from splitnet.consensus.genesis import Audit
from splitnet.consensus.receipt import MOST_RECEIPT_BYTES, SignedReceipt, validate_receipt
from splitnet.consensus.sizes import MOST_BLOCK_BYTES
from splitnet.consensus.validation import Place
from tests.consortium import GRAPH, NOW_MS, OTHER_GRAPH, Consortium, Contents, a_key, some_rules, trusting

NETWORK, SISTER = (
    Consortium(some_rules(aps=3, gateways=3, devices=6, most_ahead_ms=ms, audit=Audit(1))) for ms in (5000, 4999)
)
RULES = NETWORK.rules
DAMAGED, FIELDS, SWAPPED, REMINED = 40_000, 6000, 2000, 1500
"""Of receipts and blocks together."""


def audited(network: Consortium) -> Contents:
    accused = network.receipt(1, 1)
    votes = tuple(vote_void(network.rules, a_key("ap", ap), ap, accused) for ap in (0, 2))
    fraud = prove_fraud(network.rules, a_key("ap", 0), 0, network.receipt(1, 2))
    return Contents((network.receipt(2, 0),), (fraud,), (Void(accused, votes),))


def a_base(network: Consortium) -> Block:
    """With the receipt that is voided later."""
    return network.block(1, 1, Contents((network.receipt(1, 1),)))


def examples(network: Consortium) -> list[Block | SignedReceipt]:
    """An empty block, one with receipts, one with proofs and voids, and three receipts."""
    blocks = [network.block(0, 1), network.block(2, 0, Contents(network.receipts(2, [0, 3, 4])))]
    base = a_base(network)
    place = Place.of_block(hash_of(network.rules, base.sealed), base.header)
    blocks.append(network.block(2, 0, audited(network), parent=place))
    return [*blocks, network.receipt(2, 0), network.receipt(300, 4, cut=0), network.receipt(2, 5, data_points=15)]


VALUES, SISTERS = examples(NETWORK), examples(SISTER)
MEMBER = Chain(RULES, trusting)
"""Knows the base, and nothing else throughout: a block that is refused changes nothing."""
MEMBER.add(a_base(NETWORK), NOW_MS)


def offer(value: Record, chain: Chain = MEMBER) -> None:
    """Returns where it is accepted."""
    if isinstance(value, Block):
        chain.add(value, NOW_MS)
    else:
        assert isinstance(value, SignedReceipt)
        validate_receipt(RULES, value)


def offer_bytes(data: bytes, kind: type[Block | SignedReceipt], chain: Chain = MEMBER) -> None:
    value: Block | SignedReceipt
    if kind is Block:
        value = decode(data, Block, MOST_BLOCK_BYTES)
    else:
        value = decode(data, SignedReceipt, MOST_RECEIPT_BYTES)
    offer(value, chain)


def refused(attempt: Callable[..., None], *arguments: Any) -> type[ConsensusError]:
    """The class of the refusal; anything else that happens fails the test."""
    try:
        attempt(*arguments)
    except ConsensusError as error:
        return type(error)
    raise AssertionError(f"accepted: {arguments}")


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    yield
    assert len(MEMBER) == 1
    assert not list(MEMBER.orphans())


def bits(data: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def truncations(data: bytes) -> Iterator[bytes]:
    for count in range(len(data)):
        yield data[:count]
        yield data[count + 1 :]
        yield data[:count] + data[count + 1 :]
        yield data[:count] + b"\0" + data[count:]


def damaged(chance: random.Random, data: bytes) -> bytes:
    """Some bytes replaced, inserted, removed, repeated or moved; never as they were."""
    changed = bytearray(data)
    while bytes(changed) == data:
        for _ in range(chance.randint(1, 4)):
            start = chance.randrange(len(changed) - 1)
            end = min(len(changed), start + chance.choice((1, 1, 1, 2, 4, 8, 32, 66)))
            part, other = changed[start:end], chance.randrange(len(changed))
            match chance.randrange(6):
                case 0:
                    changed[start:end] = chance.randbytes(end - start)
                case 1:
                    changed[start:start] = chance.randbytes(chance.randint(1, 9))
                case 2:
                    del changed[start : min(end, len(changed) - 2)]
                case 3:
                    changed[start:start] = part
                case 4:
                    changed[other : other + len(part)] = part
                case _:
                    changed[start:end] = part[::-1]
    return bytes(changed)


# --- bytes


def exhaustive() -> Iterator[tuple[bytes, type[Block | SignedReceipt]]]:
    for value in VALUES:
        data = encode(value)
        for mutate in (bits, truncations):
            yield from ((changed, type(value)) for changed in mutate(data) if changed != data)


EXHAUSTIVE = sum(1 for _ in exhaustive())


def test_single_bits_and_truncations() -> None:
    tried = 0
    seen = set()
    for data, kind in exhaustive():
        seen.add(refused(lambda data=data, kind=kind: offer_bytes(data, kind)))
        tried += 1
    assert tried == EXHAUSTIVE
    assert EncodingError in seen
    assert len(seen) >= 12


def test_damaged_bytes() -> None:
    chance = random.Random(1)
    tried = 0
    while tried < DAMAGED:
        value = chance.choice(VALUES)
        data = damaged(chance, encode(value))
        refused(offer_bytes, data, type(value))
        tried += 1


# --- values


def parts_of(value: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Every field and item, and where it is."""
    yield path, value
    if isinstance(value, Record):
        value = [getattr(value, field.name) for field in msgspec.structs.fields(value)]
    if isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from parts_of(part, (*path, number))


def with_part(value: Any, path: tuple[int, ...], new: Any) -> Any:
    if not path:
        return new
    if isinstance(value, Record):
        name = msgspec.structs.fields(value)[path[0]].name
        return msgspec.structs.replace(value, **{name: with_part(getattr(value, name), path[1:], new)})
    return (*value[: path[0]], with_part(value[path[0]], path[1:], new), *value[path[0] + 1 :])


def likely(chance: random.Random, old: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(old, int):
        near = old + chance.choice((-1, 1, 2, 8, 1000)), old ^ 1 << chance.randrange(40), chance.randrange(6)
        return min(2**62, max(0, chance.choice((*near, 2**62, chance.randrange(2**62)))))
    if isinstance(old, bytes):
        if len(old) == 32 and chance.random() < 0.3:
            return chance.choice((GRAPH, OTHER_GRAPH, bytes(32), RULES.network, b"\xff" * 32))
        return chance.choice((chance.randbytes(len(old)), bytes(len(old)), old[::-1]))
    if isinstance(old, tuple) and old:
        return chance.choice((old[:-1], old[1:], old[::-1], (*old, old[0]), ()))
    return old


def changed_field(chance: random.Random, value: Record) -> Record:
    """One field or list with another value, within what the encoding allows."""
    places = list(parts_of(value))
    while True:
        path, old = chance.choice(places)
        new = likely(chance, old)
        if new == old:
            continue
        changed: Record = with_part(value, path, new)
        try:
            decode(encode(changed), type(value), MOST_BLOCK_BYTES)
        except EncodingError:
            continue
        return changed


def _kind(part: Any) -> tuple[type, int]:
    return type(part), len(part) if isinstance(part, bytes) else 0


SWAPPABLE: dict[tuple[type, int], list[Any]] = {}
for _value in (*VALUES, *SISTERS):
    for _, _part in parts_of(_value):
        if not isinstance(_part, int):
            SWAPPABLE.setdefault(_kind(_part), []).append(_part)


def swapped_part(chance: random.Random, value: Record) -> Record:
    """A part of this kind and size from another value, of this network or of the sister network."""
    places = list(parts_of(value))
    while True:
        path, old = chance.choice(places)
        new = chance.choice(SWAPPABLE.get(_kind(old), [old]))
        if not path or new == old:
            continue
        changed: Record = with_part(value, path, new)
        try:
            decode(encode(changed), type(value), MOST_BLOCK_BYTES)
        except EncodingError:
            continue
        if changed not in VALUES:
            return changed


@pytest.mark.parametrize(("mutate", "count"), [(changed_field, FIELDS), (swapped_part, SWAPPED)])
def test_other_values(mutate: Callable[[random.Random, Record], Record], count: int) -> None:
    chance = random.Random(2)
    tried = 0
    seen = set()
    while tried < count:
        changed = mutate(chance, chance.choice(VALUES))
        seen.add(refused(lambda changed=changed: offer(changed)))
        tried += 1
    assert len(seen) >= 6


def test_mutated_receipts_in_a_block_that_is_mined_anew() -> None:
    """The miner takes part: roots, work and signature are right, and only the receipt stands in the way."""
    chance = random.Random(3)
    receipts = [value for value in VALUES if isinstance(value, SignedReceipt) and value.key[0] == 2]
    base = NETWORK.block(2, 2).header
    tried = 0
    seen = set()
    while tried < REMINED:
        mutate = chance.choice((changed_field, swapped_part))
        changed = mutate(chance, chance.choice(receipts))
        assert isinstance(changed, SignedReceipt)
        body = NETWORK.body(2, Contents((changed,)))
        roots = {"plan": body.plan_digest(), "receipts": body.receipts_root()}
        block = NETWORK.mined(msgspec.structs.replace(base, **roots), body)
        seen.add(refused(offer, block))
        tried += 1
    assert all(issubclass(error, ReceiptError | ReceiptSlotError) for error in seen)
    assert len(seen) >= 6


# --- and together


def test_what_is_mutated_is_accepted() -> None:
    chain = Chain(RULES, trusting)
    chain.add(a_base(NETWORK), NOW_MS)
    for value in VALUES:
        offer_bytes(encode(value), type(value), chain)
    assert len(chain) == 2


def test_there_are_100_000_of_them() -> None:
    assert EXHAUSTIVE + DAMAGED + FIELDS + SWAPPED + REMINED >= 100_000

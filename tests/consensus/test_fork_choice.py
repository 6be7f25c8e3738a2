"""Which branch is the chain: against brute force over every path, in any order; reorganisations."""

from __future__ import annotations

import math
import random

import pytest

from splitnet.consensus.block import Block, hash_of
from splitnet.consensus.chain import Chain
from splitnet.consensus.errors import ConsensusError, SignatureOfReceiptError
from splitnet.consensus.receipt import SignedReceipt
from splitnet.consensus.validation import Place
from tests.consensus.trees import CONSORTIUM, RULES, a_chain, hashes, line, place_of
from tests.consortium import NOW_MS, STARTED_MS, Consortium, Contents, some_rules, trusting


def random_tree(chance: random.Random, count: int) -> list[Block]:
    """Valid blocks, each on the genesis block or on one before it."""
    blocks: list[Block] = []
    while len(blocks) < count:
        parent = chance.choice([None, *blocks, *blocks[-2:]])
        place = place_of(parent) if parent else Place.of_genesis(RULES)
        slot = place.slot + chance.randint(1, 3)
        body = Contents(CONSORTIUM.receipts(slot, sorted(chance.sample(range(6), chance.randint(0, 2)))))
        block = CONSORTIUM.block(slot, chance.randrange(3), body, parent=place)
        if block not in blocks:
            blocks.append(block)
    return blocks


def chain_by_brute_force(blocks: list[Block]) -> list[bytes]:
    """Of every path from the genesis block, the longest; of these the one whose last hash times gamma is lowest."""
    parent_of = {hash_of(RULES, block.sealed): block.header.previous for block in blocks}
    gamma_of = {hash_of(RULES, block.sealed): block.header.difficulty for block in blocks}
    paths = []
    for block_hash in parent_of:
        path = [block_hash]
        while path[0] in parent_of:
            path.insert(0, parent_of[path[0]])
        paths.append(path)
    return min(paths, key=lambda path: (-len(path), int.from_bytes(path[-1]) * gamma_of[path[-1]]))


@pytest.mark.parametrize("seed", range(25))
def test_the_head_does_not_depend_on_the_order(seed: int) -> None:
    chance = random.Random(seed)
    blocks = random_tree(chance, 14)
    expected = chain_by_brute_force(blocks)
    for _ in range(6):
        chance.shuffle(blocks)
        chain = a_chain()
        chosen: list[bytes] = [RULES.network]
        added: list[bytes] = []
        for block in blocks:
            result = chain.add(block, NOW_MS)
            added += [hash_of(RULES, known.sealed) for known in result.blocks]
            assert hashes(result.left) == chosen[::-1][: len(result.left)]
            chosen = chosen[: len(chosen) - len(result.left)] + hashes(result.joined)
            present = [chain.at(height) for height in range(len(chain) + 1)]
            assert chosen == [entry.hash for entry in present if entry]
        assert chosen == expected
        assert chain.head.hash == expected[-1]
        assert sorted(added) == sorted(hash_of(RULES, block.sealed) for block in blocks)
        assert not list(chain.orphans())


def test_a_reorganisation_says_what_left_and_what_joined() -> None:
    second, first = sorted((line(3), line(3, miner=1)), key=lambda blocks: place_of(blocks[2]).hash, reverse=True)
    second += line(1, place_of(second[2]), slot=3)
    chain = a_chain()
    for block in first:
        chain.add(block, NOW_MS)
    results = [chain.add(block, NOW_MS) for block in second]
    moved = results[3]
    assert hashes(moved.left) == [place_of(block).hash for block in first[::-1]]
    assert hashes(moved.joined) == [place_of(block).hash for block in second]
    assert chain.head.hash == place_of(second[3]).hash
    assert [result.joined for result in results[:3]] == [(), (), ()]


def test_a_tie_goes_by_hash_times_gamma() -> None:
    """U = 1 makes gamma e^-2: a hash 7.3 times as high as that of an AP at U = 0 still wins, one 7.5 times not."""
    seen = set()
    for slot in range(60):
        high = CONSORTIUM.block(slot, 0, Contents(tuple(CONSORTIUM.receipt(slot, twin, cut=0) for twin in (0, 3))))
        low = CONSORTIUM.block(slot, 1)
        assert high.header.reputation_micro == 1_000_000
        ratio = int.from_bytes(place_of(high).hash) / int.from_bytes(place_of(low).hash)
        wins = ratio < math.exp(2)
        seen.add((ratio < 1, wins))
        for order in ((high, low), (low, high)):
            chain = a_chain()
            for block in order:
                chain.add(block, NOW_MS)
            assert (chain.head.header.miner == 0) == wins
    assert seen >= {(False, True), (False, False)}


def test_of_two_as_long_the_lower_hash_wins_at_the_same_gamma() -> None:
    blocks = [line(1, miner=miner)[0] for miner in range(3)]
    lowest = min(place_of(block).hash for block in blocks)
    for order in (blocks, blocks[::-1]):
        chain = a_chain()
        for block in order:
            chain.add(block, NOW_MS)
        assert chain.head.hash == lowest


def test_a_longer_invalid_chain_loses() -> None:
    """One receipt with a forged signature in its second block; all else is mined, signed, and longer."""
    good, bad = line(2), line(1, miner=1)
    forged = CONSORTIUM.receipt(5, 0)
    forged = SignedReceipt(forged.receipt, forged.device_signature, forged.ap_signature, bytes(64))
    bad.append(CONSORTIUM.block(5, 1, Contents((forged,)), parent=place_of(bad[0])))
    bad += line(6, place_of(bad[1]), slot=6, miner=1)
    chain = a_chain()
    for block in good:
        chain.add(block, NOW_MS)
    chain.add(bad[0], NOW_MS)
    with pytest.raises(SignatureOfReceiptError):
        chain.add(bad[1], NOW_MS)
    for block in bad[2:]:
        assert chain.add(block, NOW_MS).missing == place_of(bad[1]).hash
    assert chain.head.hash == place_of(good[1]).hash


def test_a_longer_chain_of_another_genesis_block_loses() -> None:
    other = Consortium(some_rules(aps=3, gateways=3, devices=6, started_ms=STARTED_MS + 1))
    chain, theirs = a_chain(), Chain(other.rules, trusting)
    chain.add(line(1)[0], NOW_MS)
    head = chain.head
    for slot in range(4):
        block = other.on(theirs, slot)
        theirs.add(block, NOW_MS)
        with pytest.raises(ConsensusError):
            chain.add(block, NOW_MS)
    assert chain.head is head
    assert not list(chain.orphans())

"""The tree of blocks: where a block may stand, and a receipt once ever."""

from __future__ import annotations

import itertools
import random

import msgspec
import pytest

from splitnet.consensus.block import EntryKey
from splitnet.consensus.errors import (
    AheadError,
    ConsensusError,
    ParentError,
    RecordedTwiceError,
    SlotError,
    TimeError,
)
from splitnet.consensus.validation import Place
from tests.consensus.trees import CONSORTIUM, RULES, a_chain, line, place_of
from tests.consortium import NOW_MS, STARTED_MS, Contents

# --- place


def test_a_block_is_added_once_whatever_its_signature() -> None:
    block = line(1)[0]
    chain = a_chain()
    assert len(chain.add(block, NOW_MS).blocks) == 1
    again = chain.add(block, NOW_MS)
    assert (again.blocks, again.left, again.joined, again.missing) == ((), (), (), None)
    assert len(chain) == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"height": 3}, ParentError),
        ({"height": 1}, ParentError),
        ({"slot": 0}, SlotError),
        ({"time_ms": STARTED_MS + 1000}, TimeError),
    ],
)
@pytest.mark.parametrize("as_orphan", [False, True])
def test_places_that_do_not_fit(changes: dict[str, int], error: type[ConsensusError], as_orphan: bool) -> None:
    """An orphan's place is judged once its parent is there."""
    chain, first = a_chain(), line(1)[0]
    good = CONSORTIUM.block(changes.get("slot", 1), 1, parent=place_of(first))
    bad = CONSORTIUM.mined(msgspec.structs.replace(good.header, **changes), good.body)
    if as_orphan:
        assert chain.add(bad, NOW_MS).missing == place_of(first).hash
        chain.add(first, NOW_MS)
    else:
        chain.add(first, NOW_MS)
        with pytest.raises(error):
            chain.add(bad, NOW_MS)
    assert chain.head.hash == place_of(first).hash
    assert place_of(bad).hash not in chain
    assert not list(chain.orphans())


def test_a_clock_that_has_gone_on_lets_a_block_in() -> None:
    block = line(1, time_ms=NOW_MS + 6000)[0]
    chain = a_chain()
    with pytest.raises(AheadError):
        chain.add(block, NOW_MS)
    chain.add(block, NOW_MS + 1000)
    assert len(chain) == 1


def test_no_candidate_for_a_slot_that_has_passed() -> None:
    chain = a_chain()
    chain.add(line(1, slot=7)[0], NOW_MS)
    assert chain.candidate(CONSORTIUM.body(8), 0, NOW_MS).slot == 8
    for slot in (0, 6, 7):
        with pytest.raises(SlotError, match=f"slot {slot} does not come after the parent's slot 7"):
            chain.candidate(CONSORTIUM.body(slot), 0, NOW_MS)


# --- a receipt counts once ever


def test_a_receipt_is_recorded_once_on_a_branch() -> None:
    receipt = CONSORTIUM.receipt(0, 0)
    chain = a_chain()
    first = CONSORTIUM.block(0, 0, Contents((receipt,)))
    between = CONSORTIUM.block(1, 1, parent=place_of(first))
    for block in (first, between):
        chain.add(block, NOW_MS)
    other_content = CONSORTIUM.receipt(0, 0, cut=0)
    for replayed in (receipt, other_content):
        for parent in (first, between):
            block = CONSORTIUM.block(9, 2, Contents((replayed,)), parent=place_of(parent))
            with pytest.raises(RecordedTwiceError, match="slot 0 and device 0 stands in block 1 already"):
                chain.add(block, NOW_MS)
        with pytest.raises(RecordedTwiceError):
            chain.candidate(CONSORTIUM.body(9, Contents((replayed,))), 2, NOW_MS)
    assert chain.head.hash == place_of(between).hash


def test_each_branch_may_record_it() -> None:
    """Beside the chain, on the chain after a reorganisation, and then not once more."""
    receipt = CONSORTIUM.receipt(0, 0)
    body = Contents((receipt,))
    ours = [CONSORTIUM.block(0, 0, body)]
    ours.append(CONSORTIUM.block(1, 0, parent=place_of(ours[0])))
    theirs = line(1, miner=1)
    theirs.append(CONSORTIUM.block(1, 1, body, parent=place_of(theirs[0])))
    theirs += line(1, place_of(theirs[1]), slot=2, miner=1)
    chain = a_chain()
    for block in (*ours, *theirs):
        chain.add(block, NOW_MS)
    assert chain.head.hash == place_of(theirs[2]).hash
    holder = chain.recorded(("receipt", (0, 0)))
    assert holder is not None
    assert holder.hash == place_of(theirs[1]).hash
    for parent in (theirs[2], theirs[1], ours[1], ours[0]):
        with pytest.raises(RecordedTwiceError):
            chain.add(CONSORTIUM.block(7, 2, body, parent=place_of(parent)), NOW_MS)
    aside = CONSORTIUM.block(7, 2, body, parent=place_of(theirs[0]))
    chain.add(aside, NOW_MS)
    assert place_of(aside).hash in chain


@pytest.mark.parametrize("seed", range(6))
def test_who_holds_what_below_is_what_a_walk_finds(seed: int) -> None:
    """In random trees, in which several branches hold the same receipts."""
    chance, chain = random.Random(seed), a_chain()
    places = [Place.of_genesis(RULES)]
    for _ in range(25):
        parent = chance.choice(places[-6:])
        slot = parent.slot + 1
        walked = chain.get(parent.hash)
        below = set[EntryKey]()
        while walked is not None:
            below |= walked.records.keys()
            walked = walked.parent
        free = [
            key
            for key in itertools.product(range(max(0, slot - 3), slot + 1), (0, 1, 3))
            if ("receipt", key) not in below
        ]
        chosen = sorted(chance.sample(free, min(2, len(free))))
        block = CONSORTIUM.block(slot, 2, Contents(tuple(CONSORTIUM.receipt(*key) for key in chosen)), parent=parent)
        chain.add(block, NOW_MS)
        places.append(place_of(block))
    keys: set[EntryKey] = {key for place in places if (entry := chain.get(place.hash)) for key in entry.records}
    assert len(keys) > 15
    for place in places:
        entry = chain.get(place.hash)
        assert entry is not None
        for key in keys:
            walked = entry
            while walked is not None and key not in walked.records:
                walked = walked.parent
            assert chain._holder(key, chain._branch(entry)) is walked

"""Merkle roots against a recursion from the top, and the two classical ways to give two lists one root."""

from __future__ import annotations

import hashlib
import itertools

from hypothesis import given
from hypothesis import strategies as st

from splitnet.consensus.merkle import merkle_root
from tests.consensus.by_hand import root

items = st.lists(st.binary(max_size=40), max_size=40)


@given(items)
def test_the_root_is_that_of_the_recursion(leaves: list[bytes]) -> None:
    assert merkle_root(leaves) == root(leaves)


def test_every_number_of_leaves() -> None:
    leaves = [bytes([number]) for number in range(70)]
    roots = [merkle_root(leaves[:count]) for count in range(71)]
    assert roots == [root(leaves[:count]) for count in range(71)]
    assert len(set(roots)) == 71


def test_a_doubled_tail_is_another_list() -> None:
    """Where the last node is doubled, a list and the same list with its tail again share their root."""
    leaves = [bytes([number]) for number in range(12)]
    for count, tail in ((3, 1), (5, 1), (6, 2), (7, 1), (9, 1), (10, 2), (12, 4)):
        kept = leaves[:count]
        assert merkle_root(kept) != merkle_root(kept + kept[-tail:])


def test_no_inner_node_can_be_shown_as_a_leaf() -> None:
    first, second = b"first", b"second"
    hashes = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in (first, second)]
    whole = merkle_root([first, second])
    for forged in (b"".join(hashes), b"\x01" + b"".join(hashes)):
        assert merkle_root([forged]) != whole
    pairs = merkle_root([first, second, b"third", b"fourth"])
    halves = [merkle_root([first, second]), merkle_root([b"third", b"fourth"])]
    assert merkle_root(halves) != pairs
    assert merkle_root([b"\x01" + halves[0] + halves[1]]) != pairs
    assert merkle_root([]) not in (merkle_root([b""]), merkle_root([b"\x02"]), hashlib.sha256(b"").digest())


def test_order_counts() -> None:
    orders = list(itertools.permutations([b"a", b"b", b"c", b"d", b"e"]))
    assert len({merkle_root(order) for order in orders}) == len(orders)


@given(items, st.data())
def test_any_change_changes_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    changed = data.draw(items)
    assert (merkle_root(leaves) == merkle_root(changed)) == (leaves == changed)

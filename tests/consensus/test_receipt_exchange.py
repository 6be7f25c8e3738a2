"""Receipts among APs that are slow, behind, or wish each other ill."""

from __future__ import annotations

import pytest

from splitnet.consensus.audit_records import vote_void
from splitnet.consensus.canonical import encode
from splitnet.consensus.contact import ANSWER_DEADLINE_MS, MOST_VALUES_ASKED
from splitnet.consensus.errors import UntimelyError
from splitnet.consensus.genesis import Audit
from splitnet.consensus.instructions import Drop, Send
from splitnet.consensus.messages import GetReceipts, GetValue, NotHere, ReceiptBody, VoidVote
from splitnet.consensus.pool import SLOTS_AHEAD, SLOTS_KEPT
from splitnet.consensus.receipt import MOST_TRAVELLING_BYTES
from splitnet.consensus.receipt_exchange import TOLD_AT_ONCE
from tests.consensus.fakes import FakeNetwork
from tests.consortium import NOW_MS, a_key

LARGE = bytes(MOST_TRAVELLING_BYTES + 1)


def deliver(network: FakeNetwork, sender: int, receiver: int) -> None:
    message, body = network.links[sender, receiver].popleft()
    network.nodes[receiver].perform(network.nodes[receiver].gossip.heard(sender, message, body, NOW_MS))


def tick(network: FakeNetwork, times: int) -> None:
    for _ in range(times):
        for node in network.nodes:
            node.perform(node.gossip.tick(NOW_MS))
        network.settle()


def ready(network: FakeNetwork, number: int, slot: int) -> list[tuple[int, int]]:
    """What the next block of this AP would hold."""
    body = network.nodes[number].gossip.body(network.consortium.plan(slot), number)
    return [signed.key for signed in body.receipts]


def test_a_receipt_is_told_once_its_result_is_here() -> None:
    """So that whoever hears of it gets the result from the teller, and not a shrug."""
    network = FakeNetwork(3)
    network.connect_all()
    network.settle()
    network.submit(0, 0, LARGE)
    deliver(network, 0, 1)
    assert not network.links[1, 2]
    deliver(network, 1, 0)
    deliver(network, 0, 1)
    assert [type(message).__name__ for message, _ in network.links[1, 2]] == ["ReceiptBody"]
    network.settle()
    assert [ready(network, number, 0) for number in range(3)] == [[(0, 0)]] * 3


def test_a_result_is_asked_of_the_next_where_the_first_teller_does_not_have_it() -> None:
    network = FakeNetwork(4)
    network.connect_all()
    network.settle()
    network.submit(0, 0, LARGE)
    data = encode(network.consortium.receipt(0, 0, result=LARGE))
    node = network.nodes[2]
    node.perform(node.gossip.heard(3, ReceiptBody(data, False), b"", NOW_MS))
    assert [type(message).__name__ for message, _ in network.links[2, 3]] == ["GetValue"]
    network.settle()
    assert ready(network, 2, 0) == [(0, 0)]
    assert not node.dropped


@pytest.mark.parametrize("end", ["is silent", "goes"])
def test_a_result_is_asked_of_the_next_where_the_first_teller(end: str) -> None:
    network = FakeNetwork(3)
    node = network.nodes[2]
    signed = network.consortium.receipt(0, 0, result=LARGE)
    for peer in (0, 1):
        node.gossip.connected(peer, NOW_MS)
    asked = [
        one
        for peer in (1, 0)
        for one in node.gossip.heard(peer, ReceiptBody(encode(signed), False), b"", NOW_MS)
        if isinstance(one, Send)
    ]
    assert asked == [Send(1, GetValue(signed.receipt.result))], "of one at a time"
    if end == "is silent":
        late = node.gossip.tick(NOW_MS + ANSWER_DEADLINE_MS + 1)
        assert {one.peer for one in late if isinstance(one, Drop)} == {0, 1}, "0 owes its headers"
        node.gossip.disconnected(0)
        node.gossip.connected(0, NOW_MS)
        node.gossip.heard(0, ReceiptBody(encode(signed), False), b"", NOW_MS)
    node.gossip.disconnected(1)
    done = node.gossip.tick(NOW_MS)
    wanted = Send(0, GetValue(signed.receipt.result))
    assert (wanted in done) or (end == "is silent" and wanted not in done)
    assert signed.receipt.result in node.gossip._peers[0].asked_values


def test_a_rival_that_is_first_with_a_receipt_does_not_take_it_away() -> None:
    network = FakeNetwork(3)
    network.connect_all()
    network.settle()
    signed = network.consortium.receipt(0, 0)
    owner, rival = network.nodes[0], 1
    owner.perform(owner.gossip.heard(rival, ReceiptBody(encode(signed), False), b"", NOW_MS))
    owner.perform(owner.gossip.heard(rival, NotHere(signed.receipt.result), b"", NOW_MS))
    network.submit(0, 0)
    assert ready(network, 0, 0) == [(0, 0)]
    assert signed.receipt.result in owner.values
    network.settle()
    assert ready(network, 2, 0) == [(0, 0)]


@pytest.mark.parametrize("seed", range(5))
def test_a_joiner_catches_up_while_a_receipt_waits(seed: int) -> None:
    network = FakeNetwork(2, seed)
    for slot in range(3):
        network.nodes[0].mine(slot)
    network.submit(3, 0)
    network.connect(0, 1)
    network.settle()
    assert len(network.heads()) == 1
    assert ready(network, 1, 3) == [(3, 0)]


def test_a_block_is_fetched_while_a_result_is() -> None:
    network = FakeNetwork(2)
    network.connect_all()
    network.settle()
    network.submit(0, 0, LARGE)
    network.nodes[0].mine(0)
    network.settle()
    assert len(network.heads()) == 1


def test_a_void_takes_the_word_of_the_accused_alone() -> None:
    """A liar votes and says itself, unasked, that the activation is not here."""
    network = FakeNetwork(4, audit=Audit(share_millionths=1))
    network.connect_all()
    network.settle()
    signed = network.consortium.receipt(0, 0)
    accused, liar = signed.receipt.ap, 1
    network.submit(0, 0)
    network.settle()
    network.nodes[accused].values[signed.receipt.activation] = b"activation"
    network.nodes[accused].mine(0)
    network.settle()
    vote = vote_void(network.consortium.rules, a_key("ap", liar), liar, signed)
    for honest in (2, 3):
        network.links[liar, honest].append((VoidVote(encode(signed), liar, vote.signature), b""))
        network.links[liar, honest].append((NotHere(signed.receipt.activation), b""))
    network.settle()
    assert all(not network.nodes[honest].gossip.accusations.voids for honest in (2, 3))
    assert all(
        [(drop.peer, drop.reason) for drop in network.nodes[honest].dropped]
        == [(liar, "it does not have what nobody asked for")]
        for honest in (2, 3)
    )
    assert network.nodes[2].mine(1).body.voids == ()


def test_what_waits_is_told_little_by_little() -> None:
    """More than an outbox holds; the joiner asks for so many results at a time."""
    network = FakeNetwork(2)
    receipts = 3 * TOLD_AT_ONCE + 10
    for slot in range(receipts // 2):
        for twin in (0, 2):
            network.submit(slot, twin, result=b"%d %d" % (slot, twin))
    network.connect(0, 1)
    most_waiting = 0
    for _ in range(20_000):
        busy = [link for link, waiting in network.links.items() if waiting]
        if not busy:
            break
        deliver(network, *busy[0])
        most_waiting = max(most_waiting, *map(len, network.links.values()))
    assert most_waiting <= TOLD_AT_ONCE + MOST_VALUES_ASKED + 10
    assert len(network.nodes[1].gossip.pool) == TOLD_AT_ONCE
    tick(network, 4)
    assert len(network.nodes[1].gossip.pool) == 2 * (receipts // 2)
    assert all(pooled.has_result for pooled in network.nodes[1].gossip.pool)
    assert not any(node.dropped for node in network.nodes)


def test_who_asks_for_all_again_and_again_is_told_no_faster() -> None:
    network = FakeNetwork(2)
    for slot in range(TOLD_AT_ONCE + 1):
        network.submit(slot, 0)
    node = network.nodes[0]
    node.gossip.connected(1, NOW_MS)
    assert len(node.gossip.heard(1, GetReceipts(), b"", NOW_MS)) == TOLD_AT_ONCE
    assert [node.gossip.heard(1, GetReceipts(), b"", NOW_MS) for _ in range(10)] == [[]] * 10


def test_receipts_of_far_slots_wait_until_the_chain_is_near() -> None:
    network = FakeNetwork(2)
    last = SLOTS_AHEAD + 5
    for slot in (0, last):
        network.nodes[0].mine(slot)
    network.submit(last + 1, 0)
    data = encode(network.consortium.receipt(last + 1, 0))
    joiner = network.nodes[1]
    joiner.gossip.connected(0, NOW_MS)
    assert joiner.gossip.heard(0, ReceiptBody(data, True), b"result", NOW_MS) == []
    assert len(joiner.gossip.pool) == 0
    joiner.gossip.disconnected(0)
    network.connect(0, 1)
    network.settle()
    tick(network, 2)
    assert len(network.heads()) == 1
    assert ready(network, 1, last + 1) == [(last + 1, 0)]


def test_a_far_receipt_of_this_ap_is_refused() -> None:
    network = FakeNetwork(2)
    with pytest.raises(UntimelyError, match=f"slot 2000, where the chain's last is .* {SLOTS_AHEAD} ahead"):
        network.submit(2000, 0)
    network.nodes[0].mine(1000)
    with pytest.raises(UntimelyError, match=f"at most {SLOTS_KEPT} behind it"):
        network.submit(0, 0)


def test_a_receipt_of_long_ago_is_not_told_again() -> None:
    """It was recorded, and its pool has forgotten it."""
    network = FakeNetwork(3)
    network.connect_all()
    network.submit(0, 0)
    network.settle()
    for slot in (0, SLOTS_KEPT + 1):
        network.nodes[0].mine(slot)
        network.settle()
    assert not any(len(node.gossip.pool) for node in network.nodes)
    replayed = ReceiptBody(encode(network.consortium.receipt(0, 0)), True)
    for state in network.nodes[1].gossip._peers.values():
        state.known.clear()
    assert network.nodes[1].gossip.heard(2, replayed, b"result", NOW_MS) == []
    assert len(network.nodes[1].gossip.pool) == 0

"""A node among peers that are honest, broken, or lie about who they are: real sockets and mining, in one process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from splitnet.consensus.canonical import encode
from splitnet.consensus.channel import Channel
from splitnet.consensus.errors import PlanError, ResultDigestError, ResultSizeError, StoreError
from splitnet.consensus.genesis import Rules
from splitnet.consensus.handshake import introduce
from splitnet.consensus.merkle import leaf_hash
from splitnet.consensus.messages import Announce, BlockBytes, GetValue, Headers, Hello, Opening, Ping, Prove
from splitnet.consensus.node import Node, wall_clock_ms
from splitnet.consensus.receipt import value_digest
from splitnet.consensus.sizes import MOST_BLOCK_BYTES
from splitnet.consensus.store import Store
from splitnet.errors import ProtocolError, SettingsError, SplitnetError
from splitnet.runtime.address import Address
from splitnet.runtime.connection import Connection, PeerGoneError
from tests.consortium import NOW_MS, Consortium, a_key, no_models, real_time_rules, some_rules

DEADLINE_S = 20.0
LOOPBACK = Address("127.0.0.1", 0)
RULES = real_time_rules(3, hashes=500)
CONSORTIUM = Consortium(RULES)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def a_node(stack: contextlib.ExitStack, folder: Path, number: int, *peers: Address, rules: Rules = RULES) -> Node:
    store = stack.enter_context(Store.create(folder / str(number), rules))
    return stack.enter_context(Node(store, a_key("ap", number), LOOPBACK, peers, no_models))


def until(holds: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end_s, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.01)


def dial(node: Node) -> socket.socket:
    return socket.create_connection((node.address.host, node.address.port), DEADLINE_S)


def until_gone(channel: Channel) -> None:
    """Read until the other side closes."""
    with contextlib.suppress(PeerGoneError):
        while True:
            channel.receive(DEADLINE_S)


def as_ap(node: Node, number: int) -> Channel:
    """A channel that has introduced itself as this AP."""
    return introduce(dial(node), "node", RULES, a_key("ap", number), number, dialled=True).channel


def test_the_first_to_mine_wins_and_the_others_stop(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    first = a_node(stack, tmp_path, 0)
    second = a_node(stack, tmp_path, 1, first.address)
    third = a_node(stack, tmp_path, 2, first.address, second.address)
    nodes = (first, second, third)
    until(lambda: all(len(node.status().peers) == 2 for node in nodes), "all connected")
    for slot in range(3):
        first.submit(CONSORTIUM.receipt(slot, 0), b"result")
        until(lambda: all(len(node.waiting()) == 1 for node in nodes), "the receipt is everywhere")
        for node in nodes:
            node.mine(slot, CONSORTIUM.plan(slot), 2000.0)
        heads = [node.wait_slot(slot, DEADLINE_S) for node in nodes]
        assert all(head is not None and head.place.slot == slot for head in heads)
        until(lambda: len({node.status().head for node in nodes}) == 1, "one head")
        until(lambda slot=slot: all(node.effort(slot) for node in nodes), "everybody has stopped")  # type: ignore[misc]
        assert not any(node.waiting() for node in nodes)
        assert all(node.status().mining is None for node in nodes)
    assert sum(effort.hashes for node in nodes if (effort := node.effort(2))) > 0
    assert third.status().height == 3
    with pytest.raises(ResultDigestError):
        first.submit(CONSORTIUM.receipt(9, 0), b"another result")
    third.mine(1, CONSORTIUM.plan(1))
    assert third.status().mining is None, "that slot has its block"


def test_a_plan_is_checked_before_it_is_mined(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    """What was mined before goes on."""
    node = a_node(stack, tmp_path, 0)
    node.mine(5, CONSORTIUM.plan(5), 1.0)
    with pytest.raises(PlanError, match="slot 4 cannot be mined with the plan of slot 6; wait for its own"):
        node.mine(4, CONSORTIUM.plan(6))
    forged = msgspec.structs.replace(CONSORTIUM.plan(6), signature=bytes(64))
    with pytest.raises(PlanError, match="the plan of slot 6 is not signed by controller, the controller"):
        node.mine(6, forged)
    assert node.status().mining == 5
    node.stop_mining()


def test_a_node_that_starts_anew_on_another_parent_keeps_its_plan(
    stack: contextlib.ExitStack, tmp_path: Path
) -> None:
    node = a_node(stack, tmp_path, 0)
    plan = CONSORTIUM.plan(7, {0: 4})
    node.mine(7, plan, 50.0)
    connection = as_ap(node, 1)
    until(lambda: node.status().peers == ("ap-1",), "connected")
    connection.send(BlockBytes(bytes(32)), encode(CONSORTIUM.block(0, 1)))
    until(lambda: node.status().height == 1, "the other's block is its head")
    assert node.status().mining == 7
    job = node._mining._job
    assert job is not None
    assert (job.header.previous, job.body.plan) == (node.status().head, plan)
    node.mine(7, plan)
    head = node.wait_slot(7, DEADLINE_S)
    assert head is not None
    assert (head.height, head.header.plan) == (2, leaf_hash(encode(plan)))
    connection.close()


def test_a_node_goes_on_where_its_store_ends(tmp_path: Path) -> None:
    with Store.create(tmp_path / "0", RULES) as store, Node(store, a_key("ap", 0), LOOPBACK, (), no_models) as node:
        node.mine(4, CONSORTIUM.plan(4))
        assert node.wait_slot(4, DEADLINE_S) is not None
        head = node.status().head
    with Store.open(tmp_path / "0") as store, Node(store, a_key("ap", 0), LOOPBACK, (), no_models) as node:
        assert node.status().head == head
        assert node.wait_slot(5, 0.01) is None
        node.mine(5, CONSORTIUM.plan(5))
        assert node.wait_slot(5, DEADLINE_S) is not None


def test_a_clock_set_back_is_told(tmp_path: Path) -> None:
    with Store.create(tmp_path / "0", RULES) as store:
        store.append([CONSORTIUM.block(0, time_ms=NOW_MS)])
        behind_ms = NOW_MS - RULES.genesis.most_ahead_ms - 1000
        with pytest.raises(SettingsError, match=r"this clock is 6 s behind the chain's last block; set it right"):
            Node(store, a_key("ap", 0), LOOPBACK, (), no_models, clock_ms=lambda: behind_ms)
        Node(store, a_key("ap", 0), LOOPBACK, (), no_models, clock_ms=lambda: behind_ms + 1000).close()


def test_a_key_of_no_ap_is_refused(tmp_path: Path) -> None:
    with (
        Store.create(tmp_path / "0", RULES) as store,
        pytest.raises(SettingsError, match="is of no AP of network"),
    ):
        Node(store, a_key("device", 0), LOOPBACK, (), no_models)


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        Store.create(tmp_path / "0", RULES) as store,
        pytest.raises(SettingsError, match=r"cannot listen on 127\.0\.0\.1:\d+: "),
    ):
        Node(store, a_key("ap", 0), Address("127.0.0.1", taken.getsockname()[1]), (), no_models)


def test_a_disk_that_fails_ends_the_promises(
    stack: contextlib.ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = a_node(stack, tmp_path, 0)

    def full(self: Store, blocks: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Store, "append", full)
    node.mine(0, CONSORTIUM.plan(0))
    with pytest.raises(StoreError, match="the disk is full"):
        node.wait_slot(0, DEADLINE_S)
    with pytest.raises(StoreError):
        node.mine(1, CONSORTIUM.plan(1))


# --- peers that are not what they should be


@pytest.mark.parametrize("rubbish", [b"GET / HTTP/1.1\r\n\r\n" * 10, bytes(1000), b"SPLT\xff\xff" + bytes(100)])
def test_rubbish_before_the_handshake(stack: contextlib.ExitStack, tmp_path: Path, rubbish: bytes) -> None:
    node = a_node(stack, tmp_path, 0)
    with dial(node) as sock:
        sock.sendall(rubbish)
        name = f"127.0.0.1:{sock.getsockname()[1]}"
        until(lambda: node.status().refused, "it is refused")
    assert node.status().refused[0][0] == name
    node.mine(0, CONSORTIUM.plan(0))
    assert node.wait_slot(0, DEADLINE_S) is not None


def test_another_network_is_told_apart(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    node = a_node(stack, tmp_path, 0)
    other = real_time_rules(3, hashes=501)
    with pytest.raises(ProtocolError, match="both must have the same genesis block"):
        introduce(dial(node), "node", other, a_key("ap", 1), 1, dialled=True)
    until(lambda: node.status().refused, "it is refused")
    assert "is of network" in node.status().refused[0][1]


@pytest.mark.parametrize("liar", ["gateway", "device", "controller", "nobody"])
def test_nobody_speaks_in_the_name_of_an_ap(stack: contextlib.ExitStack, tmp_path: Path, liar: str) -> None:
    node = a_node(stack, tmp_path, 0)
    channel = introduce(dial(node), "node", RULES, a_key(liar, 0), 1, dialled=True).channel  # the node is honest
    with pytest.raises(PeerGoneError):
        channel.receive(DEADLINE_S)
    channel.close()
    until(lambda: node.status().refused, "it is refused")
    assert "says it is ap-1 and cannot prove it" in node.status().refused[0][1]
    assert node.status().peers == ()


def test_a_recorded_proof_is_of_no_use(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    """What an AP signed for one connection does not open another."""
    node = a_node(stack, tmp_path, 0)
    connection: Connection[Opening] = Connection(dial(node), Opening, "node")
    connection.send(Hello(RULES.network, 1, bytes(32)))
    hello = connection.receive(DEADLINE_S).message
    assert isinstance(hello, Hello)
    theirs = connection.receive(DEADLINE_S).message
    assert isinstance(theirs, Prove)
    connection.send(theirs)  # the node's own words, played back
    with pytest.raises(PeerGoneError):
        connection.receive(DEADLINE_S)
    connection.close()
    assert node.status().peers == ()


@pytest.mark.parametrize("number", [0, 3, 2**40])
def test_an_ap_that_cannot_be(stack: contextlib.ExitStack, tmp_path: Path, number: int) -> None:
    node = a_node(stack, tmp_path, 0)
    connection: Connection[Opening] = Connection(dial(node), Opening, "node")
    connection.send(Hello(RULES.network, number, bytes(32)))
    until(lambda: node.status().refused, "it is refused")
    connection.close()
    assert f"says it is AP {number}: not another one of 3 APs" in node.status().refused[0][1]


def test_who_breaks_a_rule_is_dropped_named_and_not_let_in_again(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    node = a_node(stack, tmp_path, 0)
    connection = as_ap(node, 1)
    until(lambda: node.status().peers == ("ap-1",), "connected")
    block = CONSORTIUM.block(0, 1)
    sealed = msgspec.structs.replace(block.sealed, signature=bytes(64))
    connection.send(BlockBytes(bytes(32)), encode(msgspec.structs.replace(block, sealed=sealed)))
    until(lambda: node.status().dropped, "it is dropped")
    name, reason = node.status().dropped[0]
    assert name == "ap-1"
    assert reason.startswith("SealSignature: ")
    again = as_ap(node, 1)
    until_gone(again)
    for each in (connection, again):
        each.close()
    assert node.status().peers == ()
    assert node.status().height == 0
    other = as_ap(node, 2)
    until(lambda: node.status().peers == ("ap-2",), "others come in")
    other.close()


def test_a_garbled_frame_in_the_middle_drops_the_peer(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    node = a_node(stack, tmp_path, 0)
    sock = dial(node)
    channel = introduce(sock, "node", RULES, a_key("ap", 1), 1, dialled=True).channel
    until(lambda: node.status().peers == ("ap-1",), "connected")
    sock.sendall(b"rubbish" * 20)
    until(lambda: node.status().dropped, "it is dropped")
    assert node.status().dropped[0][0] == "ap-1"
    channel.close()
    again = as_ap(node, 1)
    until(lambda: node.status().peers == ("ap-1",), "who has no key is not AP 1, which may come back")
    again.close()


def test_a_peer_that_reads_nothing_is_left(
    stack: contextlib.ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outbox is bounded: 40 messages here, while its socket takes no more."""
    monkeypatch.setattr("splitnet.consensus.peer.MOST_WAITING", 40)
    node = a_node(stack, tmp_path, 0)
    connection = as_ap(node, 1)
    until(lambda: node.status().peers == ("ap-1",), "connected")
    for slot in range(3000):
        node.submit(CONSORTIUM.receipt(slot, 0, result=bytes(60_000)), bytes(60_000))
        if node.status().dropped:
            break
    assert node.status().dropped == (("ap-1", "it does not take what it is sent"),)
    connection.close()


def test_two_connections_between_two_become_one(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    node = a_node(stack, tmp_path, 1)
    preferred = as_ap(node, 0)  # dialled by the lower number
    until(lambda: node.status().peers == ("ap-0",), "connected")
    again = as_ap(node, 0)
    until(lambda: node.status().peers == ("ap-0",), "still connected")
    until_gone(preferred)
    again.send(Ping())
    again.send(Headers([]))
    head = CONSORTIUM.block(0, 0)
    again.send(Announce(encode(head.sealed)))
    kinds = set()
    while "GetBlocks" not in kinds:
        kinds.add(type(again.receive(DEADLINE_S)[0]).__name__)
    assert node.status().dropped == ()
    for each in (preferred, again):
        each.close()


def test_closing_is_quick_and_leaves_nothing(tmp_path: Path) -> None:
    with Store.create(tmp_path / "0", some_rules()) as store:
        node = Node(store, a_key("ap", 0), LOOPBACK, [Address("127.0.0.1", 9)], no_models)
        address = node.address
        node.close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((address.host, address.port), 5)


# --- strangers


def test_strangers_who_dawdle_do_not_keep_an_ap_out(
    stack: contextlib.ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold every place there is, and send a byte now and then; the oldest makes room."""
    monkeypatch.setattr("splitnet.consensus.peers.MOST_SHAKING", 8)
    node = a_node(stack, tmp_path, 0)
    strangers = [stack.enter_context(dial(node)) for _ in range(20)]
    for sock in strangers:
        with contextlib.suppress(OSError):
            sock.sendall(b"S")
    until(lambda: len(node._peers._strangers) <= 8, "the others are left")
    channel = as_ap(node, 1)
    until(lambda: node.status().peers == ("ap-1",), "connected")
    channel.close()


def test_a_handshake_has_a_deadline_as_a_whole(
    stack: contextlib.ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitnet.consensus.peers.HANDSHAKE_DEADLINE_S", 0.3)
    node = a_node(stack, tmp_path, 0)
    with dial(node) as sock:
        sock.settimeout(DEADLINE_S)
        until(lambda: node._peers._shaking, "it shakes hands")
        for byte in b"SPLT\0\1\0\0":
            with contextlib.suppress(OSError):
                sock.send(bytes([byte]))
            time.sleep(0.1)
        until(lambda: not node._peers._shaking, "it is left, though never silent")


def test_too_many_descriptors_for_a_while_do_not_close_the_door(
    stack: contextlib.ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = a_node(stack, tmp_path, 0)
    refusals = iter(range(3))

    class Listener:
        """The node's own, which has no descriptors left at first."""

        def __init__(self, own: socket.socket) -> None:
            self.own = own

        def accept(self) -> object:
            if next(refusals, None) is not None:
                raise OSError(24, "Too many open files")
            return self.own.accept()

        def __getattr__(self, name: str) -> object:
            return getattr(self.own, name)

    monkeypatch.setattr(node._peers, "_listener", Listener(node._peers._listener))
    for _ in range(2):
        channel = as_ap(node, 1)
        until(lambda: node.status().peers == ("ap-1",), "connected")
        channel.close()
        until(lambda: node.status().peers == (), "gone")
    assert next(refusals, None) is None


def test_what_strangers_do_does_not_push_out_what_aps_did(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    node = a_node(stack, tmp_path, 0)
    channel = as_ap(node, 1)
    channel.send(Headers([bytes(10)]))
    until(lambda: node.status().dropped, "it is dropped")
    for _ in range(70):
        with dial(node) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
    until(lambda: len(node.status().refused) == 64, "they are refused")
    assert [name for name, _ in node.status().dropped] == ["ap-1"]
    channel.close()


# --- what goes wrong here


def test_a_node_whose_disk_has_failed_serves_nobody(
    stack: contextlib.ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = a_node(stack, tmp_path, 0)
    channel = as_ap(node, 1)
    until(lambda: node.status().peers == ("ap-1",), "connected")

    def full(self: Store, blocks: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Store, "append", full)
    channel.send(BlockBytes(bytes(32)), encode(CONSORTIUM.block(0, 1)))
    until_gone(channel)
    channel.close()
    status = node.status()
    assert (status.peers, status.failure, status.dropped) == ((), "the disk is full", ())
    with pytest.raises(OSError, match="refused"):
        dial(node)


def test_a_damaged_store_is_not_the_peers_fault(
    stack: contextlib.ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = a_node(stack, tmp_path, 0)

    def damaged(self: Store, digest: bytes) -> bytes | None:
        raise StoreError("what is kept under it has another digest")

    monkeypatch.setattr(Store, "value", damaged)
    channel = as_ap(node, 1)
    channel.send(GetValue(bytes(32)))
    until(lambda: node.status().failure, "it has failed")
    until_gone(channel)
    channel.close()
    assert node.status().dropped == ()


@pytest.mark.parametrize("slot", [0, 9])
def test_a_mining_process_that_is_killed_ends_the_node_and_is_no_peers_fault(
    stack: contextlib.ExitStack, tmp_path: Path, slot: int
) -> None:
    """Whoever sees it first: its own thread, or the block of a peer that ends what is mined."""
    node = a_node(stack, tmp_path, 0)
    channel = as_ap(node, 1)
    until(lambda: node.status().peers == ("ap-1",), "connected")
    process = node._mining._process
    with node._lock:
        node.mine(slot, CONSORTIUM.plan(slot), 0.001)
        os.kill(process.pid, signal.SIGKILL)
        process._process.wait(DEADLINE_S)
        if slot == 0:
            node._heard(1, BlockBytes(bytes(32)), encode(CONSORTIUM.block(0, 1)))
    until(lambda: node.status().failure, "it has failed")
    assert node.status().failure == "mining has ended: the mining process ended with status -9: it said nothing"
    until_gone(channel)
    channel.close()
    assert (node.status().peers, node.status().dropped) == ((), ())
    with pytest.raises(SplitnetError, match="mining has ended"):
        node.wait_slot(9, DEADLINE_S)


def test_a_clock_set_back_while_mining_does_not_lose_the_block(tmp_path: Path) -> None:
    behind_ms = 0
    with (
        Store.create(tmp_path / "0", RULES) as store,
        Node(store, a_key("ap", 0), LOOPBACK, (), no_models, clock_ms=lambda: wall_clock_ms() - behind_ms) as node,
    ):
        node.mine(0, CONSORTIUM.plan(0), 500.0)
        behind_ms = 3_600_000  # far more than mining may take
        until(lambda: node.status().not_judged, "it is told")
        assert "this clock was set back" in node.status().not_judged[0]
        assert node.status().height == 0
        behind_ms = 0
        assert node.wait_slot(0, DEADLINE_S) is not None
        node.mine(1, CONSORTIUM.plan(1))
        assert node.wait_slot(1, DEADLINE_S) is not None


def test_a_result_too_large_to_be_sent_is_refused_and_nothing_else_happens(
    stack: contextlib.ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitnet.consensus.receipt.MOST_VALUE_BYTES", 1000)
    node = a_node(stack, tmp_path, 0)
    with pytest.raises(ResultSizeError, match="a result of 1001 bytes is over the limit of 1000; use fewer"):
        node.submit(CONSORTIUM.receipt(0, 0, result=bytes(1001)), bytes(1001))
    node.submit(CONSORTIUM.receipt(0, 0, result=bytes(1000)), bytes(1000))


def test_a_result_larger_than_a_block_is_fetched(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    first = a_node(stack, tmp_path, 0)
    second = a_node(stack, tmp_path, 1, first.address)
    result = bytes(MOST_BLOCK_BYTES + 1)
    first.submit(CONSORTIUM.receipt(0, 0, result=result), result)
    until(lambda: second._store.value(value_digest(result)) is not None, "it is there")
    assert (first.status().dropped, second.status().dropped) == ((), ())

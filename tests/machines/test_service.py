"""Asking and answering: only the run's own processes, one answer for each request, errors in the machine's words."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from splitnet.errors import ProtocolError, SettingsError, WorkerError
from splitnet.machines.messages import Arrived, Done, Greet, Measure, Message, Mine
from splitnet.machines.service import TOKEN_VARIABLE, Answer, Asker, Service, run_token
from splitnet.runtime.address import Address
from splitnet.runtime.connection import PeerGoneError, Received

TOKEN = "secret"


def handle(greet: Greet, received: Received[Message]) -> Answer:
    match received.message:
        case Measure():
            return Answer(Arrived(len(received.body)), [b"body"])
        case Mine(slot):
            raise SettingsError(f"no slot {slot}")
    return Answer(Done())


@pytest.fixture
def address() -> Iterator[Address]:
    service = Service("ap 3", "127.0.0.1", TOKEN, handle)
    yield Address("127.0.0.1", service.port)
    service.close()


def test_requests_are_answered_in_order(address: Address) -> None:
    with Asker(address, TOKEN) as asker:
        assert asker.name == "ap 3"
        for size in (0, 5, 100_000):
            answer, received = asker.ask_whole(Measure(), Arrived, [bytes(size)])
            assert answer.at_ns == size
            assert bytes(received.body.numpy().data) == b"body"


def test_what_cannot_be_done_comes_back_in_its_words_and_the_connection_goes_on(address: Address) -> None:
    with Asker(address, TOKEN) as asker:
        with pytest.raises(WorkerError, match="ap 3: no slot 7"):
            asker.ask(Mine(7), Done)
        assert asker.ask(Measure(), Arrived).at_ns == 0
        with pytest.raises(ProtocolError, match="Measure was answered by Arrived"):
            asker.ask(Measure(), Done)


def test_another_runs_process_is_refused(address: Address) -> None:
    with pytest.raises(WorkerError, match="ap 3 belongs to another run"):
        Asker(address, "guess")


@pytest.mark.parametrize("rubbish", [b"GET / HTTP/1.1\r\n\r\n" * 5, bytes(200)])
def test_rubbish_ends_a_connection_and_nothing_else(address: Address, rubbish: bytes) -> None:
    with socket.create_connection((address.host, address.port), 10) as sock:
        sock.sendall(rubbish)
        sock.settimeout(10)
        while sock.recv(4096):
            pass
    with Asker(address, TOKEN) as asker:
        assert asker.ask(Measure(), Arrived).at_ns == 0


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(WorkerError, match="no machine answers at"):
        Asker(Address("127.0.0.1", port), TOKEN)


def test_a_silent_machine_is_left(address: Address) -> None:
    with Asker(address, TOKEN) as asker, pytest.raises(PeerGoneError, match=r"ap 3 was silent for 0\.05 s"):
        asker.connection.receive(0.05)


def test_a_machine_is_not_started_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(SettingsError, match="which `splitnet run` starts"):
        run_token()

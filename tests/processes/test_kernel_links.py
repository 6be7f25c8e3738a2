"""Links that the kernel keeps, with real namespaces: rates, and that nothing stays behind. Needs root."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitnet.errors import SettingsError
from splitnet.models.reference import ModelRef
from splitnet.runtime import namespaces
from splitnet.runtime.client import Client
from splitnet.runtime.kernel_links import KernelLinks
from splitnet.runtime.launch import LaunchedWorker
from splitnet.runtime.links import Machine
from splitnet.runtime.messages import Connect, Connected, Probe, Probed
from splitnet.runtime.rates import RateTrace
from splitnet.runtime.transfers import Transfer

DEADLINE_S = 30.0
ROOT = Path(__file__).parents[2]
GATEWAY, AP = Machine("gateway", 0), Machine("ap", 0)

SINK = """
import socket, time
with socket.create_server(("0.0.0.0", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        taken, _ = listener.accept()
        count = 0
        while part := taken.recv(1 << 16):
            count += len(part)
        print(count, time.monotonic_ns(), flush=True)
"""
SOURCE = """
import socket, sys, time
link = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
started_ns = time.monotonic_ns()
link.sendall(bytes(int(sys.argv[3])))
print(started_ns)
"""
HOLDER = """
import subprocess, sys, time
from splitnet.runtime.kernel_links import KernelLinks
from splitnet.runtime.links import Machine
links = KernelLinks([0, 0])
links.start()
sleeper = subprocess.Popen(links.command(Machine("ap", 0), ["sleep", "600"]))
print(links._prefix, links._outside, sleeper.pid, flush=True)
time.sleep(600)
"""


def why_not() -> str:
    """Why namespaces cannot be made here; empty where they can."""
    try:
        namespaces.check_possible()
        with KernelLinks([0]) as links:
            links.set_rate(0, 1e6)
    except SettingsError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    if reason := why_not():
        pytest.skip(reason)


def left(prefix: str, outside: str) -> list[str]:
    """What is still there of a set of links."""
    names = [name for name in namespaces.present() if name.startswith(prefix)]
    return names + [name for _, name in socket.if_nameindex() if name == outside]


class Sink:
    """On the AP: takes what comes, and says how much it was and when its last byte came."""

    def __init__(self, links: KernelLinks) -> None:
        self._links = links
        command = links.command(AP, [sys.executable, "-c", SINK])
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self._line())

    def taken(self, size_bytes: int, *, over_link: bool = True) -> Transfer:
        """Send that much from the gateway, over its link or around it."""
        address = self._links.ap_address(0, self.port) if over_link else self._links.address(AP, self.port)
        command = self._links.command(
            GATEWAY, [sys.executable, "-c", SOURCE, address.host, str(address.port), str(size_bytes)]
        )
        said = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout
        count, at_ns = map(int, self._line().split())
        assert count == size_bytes
        self._links.record(0, Transfer(size_bytes, None, int(said), at_ns, received=True))
        ((gateway, transfer),) = self._links.transfers()
        assert gateway == 0
        return transfer

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        self._process.kill()
        self._process.wait(DEADLINE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextlib.contextmanager
def linked() -> Iterator[tuple[KernelLinks, Sink]]:
    with KernelLinks([0]) as links, contextlib.ExitStack() as stack:
        sink = Sink(links)
        stack.callback(sink.close)
        yield links, sink


def seconds(transfer: Transfer) -> float:
    return (transfer.ended_ns - transfer.started_ns) * 1e-9


def test_the_kernel_keeps_the_rate_that_is_set() -> None:
    """2 MB at 20 Mbit/s take 0.8 s, and at 40 half of it; a message within the burst, and the way around, no time."""
    with linked() as (links, sink):
        links.set_rate(0, 20e6)
        slow = sink.taken(2_000_000)
        assert 0.7 < seconds(slow) < 1.2
        assert slow.asked_bps == pytest.approx(20e6)
        assert not slow.is_free
        assert seconds(sink.taken(2_000_000, over_link=False)) < 0.4
        links.set_rate(0, 40e6)
        assert 0.35 < seconds(sink.taken(2_000_000)) < 0.65
        links.set_rate(0, 1e3)  # at which 1,500 bytes would take 12 s
        free = sink.taken(1_500)
        assert seconds(free) < 5
        assert free.is_free


def test_a_trace_changes_the_rate_within_a_message() -> None:
    """4 Mbit/s for 0.6 s or what of it is left, then 40: 1 MB takes at most 0.6 + 0.2 s; at 4 alone it takes 2 s."""
    with linked() as (links, sink):
        links.set_rate(0, RateTrace((0.0, 0.6), (4e6, 40e6)))
        transfer = sink.taken(1_000_000)
        assert 0.25 < seconds(transfer) < 1.6
        assert transfer.asked_bps is not None
        assert 4e6 < transfer.asked_bps <= 40e6
        links.set_rate(0, RateTrace((0.0, 0.2), (20e6, 1e4)))
        links.set_rate(0, RateTrace((0.0, 100.0), (20e6, 1e3)))  # the one before is not followed any more
        time.sleep(0.4)
        assert seconds(sink.taken(200_000)) < 5


def test_real_workers_in_namespaces_meet_over_their_link() -> None:
    """The coordinator reaches both at full speed; 2 MB from the gateway to the AP keep the link's rate."""
    with KernelLinks([0]) as links, contextlib.ExitStack() as stack:
        links.set_rate(0, 20e6)
        workers = {}
        for machine in (GATEWAY, AP):
            workers[machine] = LaunchedWorker(
                machine.role,
                ModelRef("toy_chain"),
                listen=links.listen_host(machine),
                wrap=lambda command, machine=machine: links.command(machine, command),  # type: ignore[misc]
            )
            stack.callback(workers[machine].stop)
        ports = {machine: worker.wait(100.0).port for machine, worker in workers.items()}
        gateway = Client.connect(links.address(GATEWAY, ports[GATEWAY]), role="gateway", token=workers[GATEWAY].token)
        stack.callback(gateway.close)
        gateway.load(ModelRef("toy_chain"))
        ap = links.ap_address(0, ports[AP])
        asked = Connect(
            host=ap.host,
            port=ap.port,
            token=workers[AP].token,
            rate_bps=links.connection.rate_bps,
            delay_s=links.connection.delay_s,
        )
        assert gateway.ask(asked, Connected).message.shared_clock
        timeline = gateway.ask(Probe(2_000_000, 4000), Probed).message.timeline
        assert timeline.ap is not None
        assert 0.7 < (timeline.ap.received_ns - timeline.encoded_ns) * 1e-9 < 1.2


def test_nothing_stays_behind() -> None:
    with KernelLinks([0, 0, 1]) as links:
        made = (links._prefix, links._outside)
        assert len(left(*made)) == 7  # three gateways, two APs, the hub, our cable
        running = subprocess.Popen(links.command(AP, ["sleep", "600"]))
    assert left(*made) == []
    assert running.wait(DEADLINE_S) == -signal.SIGKILL
    links.close()


def test_nothing_stays_behind_an_exception() -> None:
    links = KernelLinks([0])

    def fail() -> None:
        with links:
            assert left(links._prefix, links._outside)
            links.set_rate(0, RateTrace((0.0, 100.0), (1e6, 2e6)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert left(links._prefix, links._outside) == []


@pytest.mark.parametrize("step", ["bridge", "control", "uplink", "gateway0"])
def test_nothing_stays_behind_a_start_that_fails(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from splitnet.runtime import kernel_links

    def failing(*words: str) -> str:
        if words[-1] == step or (step in words and "set" in words):
            raise SettingsError("refused")
        return namespaces.tool(*words)

    monkeypatch.setattr(kernel_links, "tool", failing)
    links = KernelLinks([0])
    with pytest.raises(SettingsError, match="refused"):
        links.start()
    assert left(links._prefix, links._outside) == []


def test_what_a_killed_run_left_is_removed_by_the_next() -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True, cwd=ROOT, stdin=subprocess.DEVNULL
    )
    try:
        assert holder.stdout is not None
        prefix, outside, sleeper = holder.stdout.readline().split()
        assert len(left(prefix, outside)) == 5
        with KernelLinks([0]):  # beside a run that is alive
            assert len(left(prefix, outside)) == 5
    finally:
        holder.kill()
        holder.wait(DEADLINE_S)
        assert holder.stdout is not None
        holder.stdout.close()
    assert len(left(prefix, outside)) == 5
    assert namespaces.start_of(int(sleeper)) is not None
    with KernelLinks([0]):
        end_s = time.monotonic() + DEADLINE_S
        while left(prefix, outside) and time.monotonic() < end_s:
            time.sleep(0.01)  # the cable to the outside goes when the kernel has torn the hub down
        assert left(prefix, outside) == []
        assert namespaces.start_of(int(sleeper)) is None


def test_a_delay_needs_netem() -> None:
    """With netem in the kernel a message takes the delay; without, one line says so and nothing is left."""
    links = KernelLinks([0], 0.2)
    refused = ""
    try:
        with links:
            links.set_rate(0, 20e6)
            sink = Sink(links)
            try:
                assert 0.2 <= seconds(sink.taken(1000)) < 5
            finally:
                sink.close()
    except SettingsError as error:
        refused = str(error)
    assert left(links._prefix, links._outside) == []
    if refused:
        assert "this kernel has no netem (sch_netem); leave the delay out, or take --link-backend user" in refused
        assert "\n" not in refused


def test_our_own_number_is_in_every_name() -> None:
    links = KernelLinks([0])
    assert links._prefix.startswith(f"splitnet-{os.getpid()}-")

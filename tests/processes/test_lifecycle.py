"""How workers end: no orphan, no bound port, no traceback, and what their peers say about it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from splitnet.cli import main
from splitnet.errors import WorkerError
from splitnet.models.reference import ModelRef
from splitnet.runtime import launch
from splitnet.runtime.client import Client
from splitnet.runtime.messages import Connect, Connected, Measure, Measured

if TYPE_CHECKING:
    from tests.processes.conftest import Standalone

DEADLINE_S = 30.0

OWNER = """
import time
from splitnet.session import SplitSession

with SplitSession("toy_chain") as split:
    print(split.measure(2).bitwise_equal, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def two_aps(start_workers: Callable[..., list[Standalone]]) -> list[Standalone]:
    """To be ended by the tests."""
    return start_workers(["ap"], ["ap"])


def assert_gone(worker: Standalone) -> None:
    assert worker.complaints() == ""
    with socket.create_server((worker.address.host, worker.address.port)):
        pass
    with pytest.raises(WorkerError, match=f"no ap at {worker.address}: Connection refused; start one with"):
        Client.connect(worker.address, role="ap")


def test_ctrl_c_ends_a_worker_that_serves(two_aps: list[Standalone]) -> None:
    ap = two_aps[0]
    with Client.connect(ap.address, role="ap") as client:
        client.load(ModelRef("toy_chain"))
        assert ap.end(signal.SIGINT) == 0
        with pytest.raises(WorkerError, match=f"the ap at {ap.address}"):
            client.load(ModelRef("toy_chain"))
    assert_gone(ap)


def test_a_gateway_outlives_its_ap_and_takes_another(
    two_aps: list[Standalone], gateway: Standalone, ap: Standalone
) -> None:
    victim = two_aps[1]
    with Client.connect(gateway.address, role="gateway") as client:
        client.load(ModelRef("toy_chain"))
        client.ask(Connect(victim.address.host, victim.address.port), Connected)
        assert client.ask(Measure(2), Measured).message.bitwise_equal
        assert victim.end(signal.SIGTERM) == 0
        assert_gone(victim)
        with pytest.raises(WorkerError, match=f"the gateway at {gateway.address}: the ap at {victim.address} "):
            client.ask(Measure(2), Measured)
        with pytest.raises(WorkerError, match="connected to none"):
            client.ask(Measure(2), Measured)
        assert client.ask(Measure(5), Measured).message.bitwise_equal  # the last cut needs no AP
        with pytest.raises(WorkerError, match=f"no ap at {victim.address}"):
            client.ask(Connect(victim.address.host, victim.address.port), Connected)
        client.ask(Connect(ap.address.host, ap.address.port), Connected)
        assert client.ask(Measure(2), Measured).message.bitwise_equal


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers in /proc")
def test_launched_workers_end_when_their_owner_is_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE)
    workers: list[int] = []
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"True\n"
        workers = children(owner.pid)
        assert len(workers) == 2
        owner.kill()
        owner.wait(DEADLINE_S)
        end_s = time.monotonic() + DEADLINE_S
        while any(map(runs, workers)):
            assert time.monotonic() < end_s, f"workers {workers} outlive their owner"
            time.sleep(0.05)
    finally:
        owner.kill()
        owner.wait()
        if owner.stdout is not None:
            owner.stdout.close()
        for pid in filter(runs, workers):
            os.kill(pid, signal.SIGKILL)


def test_a_process_that_is_not_ready_is_ended_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """It imports and does not look at its input yet; Ctrl-C at the start of a run waited for each of them."""
    monkeypatch.setattr(launch, "STOP_DEADLINE_S", DEADLINE_S)
    process = launch.LaunchedProcess("sleeper", ["timeit", "-n", "1", "import time; time.sleep(600)"], "token")
    start_s = time.monotonic()
    process.stop()
    assert process.ended()
    assert time.monotonic() - start_s < DEADLINE_S


def _stat(pid: int) -> list[str]:
    """State and parent come first."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["X", "0"]


def children(parent: int) -> list[int]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [pid for pid in pids if _stat(pid)[1] == str(parent)]


def runs(pid: int) -> bool:
    return _stat(pid)[0] not in "XZ"


# --- workers that cannot start; in this process, since they get no further than that


@pytest.fixture
def as_before() -> Iterator[None]:
    """A worker that starts changes its process for good."""
    handler, fused = signal.getsignal(signal.SIGTERM), torch.backends.mha.get_fastpath_enabled()
    yield
    signal.signal(signal.SIGTERM, handler)
    torch.backends.mha.set_fastpath_enabled(fused)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["worker", *arguments])
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert err.startswith("splitnet: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.usefixtures("as_before")
def test_a_busy_port_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        assert f"cannot listen on {address}: Address already in use" in refusal(capsys, "ap", "--listen", address)


@pytest.mark.usefixtures("as_before")
def test_a_model_that_cannot_be_built_leaves_no_port_bound(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert "toy_chain" in refusal(capsys, "gateway", "--listen", address, "--model", "toy_chian")
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        pass


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("router",), "role 'router' is unknown: give gateway or ap"),
        (("ap", "--device", "quantum"), "device 'quantum' is unknown"),
        (("ap", "--device", "meta"), "device 'meta' is not supported"),
        (("ap", "--threads", "0"), "--threads 0 is below 1"),
        (("ap", "--cores", "9999"), "--cores '9999' cannot be had"),
        (("ap", "--cores", "one"), "--cores 'one' cannot be had"),
        (("ap", "--listen", "7000"), "address '7000' is not HOST:PORT"),
        (("ap", "--listen", "127.0.0.1:70000"), "address '127.0.0.1:70000' is not HOST:PORT"),
        (("ap", "--listen", f"127.0.0.1:{'9' * 5000}"), "is not HOST:PORT"),
        (("ap", "--listen", "0.0.0.0:0"), "0.0.0.0:0 is not loopback"),
        (("gateway", "--listen", "[::]:0"), "[::]:0 is not loopback"),
        (("ap", "--listen", "é..b:0", "--insecure"), "'é..b' cannot be a host's name"),
        (("ap", "--listen", "no-such-host.invalid:0", "--insecure"), "cannot listen on no-such-host.invalid:0: "),
        (("ap", "--model", "no_such.module:make"), "no_such"),
        (("ap", "--model", "toy_chain", "--batch", "0"), "batch 0 is below 1"),
    ],
)
def test_what_a_worker_refuses_to_start_with(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refusal(capsys, *arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_a_device_that_is_not_here_is_named(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "gateway", "--device", device)
    assert f"device '{device}' is not here: this machine has 0 CUDA devices; use --device cpu" in said

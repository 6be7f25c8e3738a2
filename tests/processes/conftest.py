"""Real workers on loopback. Starting one takes seconds, so all tests that leave them whole share two."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from splitnet.runtime.address import Address
from splitnet.session import Placement

START_DEADLINE_S = 110.0
STOP_DEADLINE_S = 20.0

OWN_CODE = '''
"""Factories: a good one, and two whose networks differ from process to process."""
import os
import sys
from collections import OrderedDict

import torch
from torch import nn


def build(*more):
    layers = OrderedDict(first=nn.Linear(6, 8), relu=nn.ReLU(), **dict(more), last=nn.Linear(8, 5))
    return nn.Sequential(layers), (torch.randn(2, 6),)


def make():
    return build()


def weights():
    module, inputs = build()
    nn.init.constant_(module.last.bias, os.getpid())
    return module, inputs


def graph():
    return build(("extra", nn.Tanh())) if "ap" in sys.argv else build()
'''


@dataclass(slots=True)
class Standalone:
    """One worker process that no token ties to anyone."""

    role: str
    process: subprocess.Popen[bytes]
    errors: IO[bytes] = field(repr=False)
    _address: Address | None = None

    @property
    def address(self) -> Address:
        assert self._address is not None
        return self._address

    def wait_listening(self) -> None:
        stdout = self.process.stdout
        assert stdout is not None
        end_s = time.monotonic() + START_DEADLINE_S
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                assert selector.select(max(0.0, end_s - time.monotonic())), f"the {self.role} does not listen"
                part = os.read(stdout.fileno(), 65536)
                assert part, f"the {self.role} ended: {self.complaints()}"
                line += part
        said = json.loads(line)
        assert said["role"] == self.role
        self._address = Address.parse(said["listening"])

    def complaints(self) -> str:
        """All of its standard error so far."""
        self.errors.seek(0)
        return self.errors.read().decode()

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_DEADLINE_S)

    def discard(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(STOP_DEADLINE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.errors.close()


@pytest.fixture(scope="session")
def start_workers() -> Iterator[Callable[..., list[Standalone]]]:
    """Starts one worker per list of arguments, all at once; ends what a test leaves running."""
    started: list[Standalone] = []

    def start(*commands: list[str]) -> list[Standalone]:
        new = []
        for arguments in commands:
            errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by discard
            before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has us ignore it
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", "splitnet", "worker", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
            finally:
                signal.signal(signal.SIGINT, before)
            new.append(Standalone(arguments[0], process, errors))
        started.extend(new)
        for worker in new:
            worker.wait_listening()
        return new

    try:
        yield start
    finally:
        for worker in started:
            worker.discard()


@pytest.fixture(scope="session")
def own_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of factories, with which the shared workers were started."""
    path = tmp_path_factory.mktemp("code") / "own.py"
    path.write_text(OWN_CODE)
    return path


@pytest.fixture(scope="session")
def shared(start_workers: Callable[..., list[Standalone]], own_code: Path) -> Iterator[tuple[Standalone, Standalone]]:
    """A gateway and an AP; whatever the tests do to them, they go on serving and have nothing to complain of."""
    held = [part for name in ("make", "weights", "graph") for part in ("--model", f"{own_code}:{name}")]
    gateway, ap = start_workers(["gateway", *held], ["ap", *held])
    yield gateway, ap
    for worker in (gateway, ap):
        assert worker.process.poll() is None, f"the {worker.role} has ended: {worker.complaints()}"
        assert worker.end(signal.SIGTERM) == 0
        assert worker.complaints() == ""


@pytest.fixture
def gateway(shared: tuple[Standalone, Standalone]) -> Standalone:
    return shared[0]


@pytest.fixture
def ap(shared: tuple[Standalone, Standalone]) -> Standalone:
    return shared[1]


@pytest.fixture
def placement(gateway: Standalone, ap: Standalone) -> Placement:
    """The shared workers."""
    return Placement(gateway=gateway.address, ap=ap.address)

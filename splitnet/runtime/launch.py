"""Worker processes on this host: started, waited for until they listen, and always ended.

A launched worker ends by itself when the pipe to its standard input closes, so it cannot outlive us, however we
end. Placing workers on other hosts is left to whoever owns those: `splitnet worker` is all it takes.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias

from splitnet.errors import WorkerError
from splitnet.models.reference import ModelRef, format_shape
from splitnet.runtime.address import Address
from splitnet.runtime.worker import TOKEN_VARIABLE

START_DEADLINE_S = 600.0
"""A large model may take minutes to be built and traced on a small board."""
STOP_DEADLINE_S = 5.0
Wrap: TypeAlias = Callable[[list[str]], list[str]]


class LaunchedProcess:
    """A process of ours that says on one line of JSON when it is ready, and ends when its standard input closes."""

    def __init__(
        self, name: str, command: Sequence[str], token: str, threads: int = 1, wrap: Wrap = lambda command: command
    ) -> None:
        """Start it; `wait` says when it is ready.

        Args:
            name: for messages.
            command: what Python is to run as a module, and its arguments.
            token: what it shall ask of whoever connects.
            threads: compute threads.
            wrap: the command that runs a command somewhere else, such as in a network namespace.
        """
        self.name = name
        self._is_ready = False
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            wrap([sys.executable, "-m", *command]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env={**os.environ, TOKEN_VARIABLE: token, "OMP_NUM_THREADS": str(threads)},
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, deadline_s: float = START_DEADLINE_S) -> dict[str, Any]:
        """What it says when it is ready.

        Raises:
            WorkerError: it ended instead; the message is its own.
        """
        stdout = self._process.stdout
        assert stdout is not None
        end_s = time.monotonic() + deadline_s
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            line = b""
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, end_s - time.monotonic())):
                    raise WorkerError(f"the {self.name} did not listen within {deadline_s:g} s")
                part = os.read(stdout.fileno(), 65536)
                if not part:
                    raise WorkerError(self.last_words())
                line += part
        found: dict[str, Any] = json.loads(line)
        self._is_ready = True
        return found

    def ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """End the process and wait for its end; one that is not ready yet does not look at its input."""
        process = self._process
        if not self._is_ready:
            process.terminate()
        if process.stdin is not None:
            process.stdin.close()
        for end in (process.terminate, process.kill):
            try:
                process.wait(STOP_DEADLINE_S)
                break
            except subprocess.TimeoutExpired:
                end()
        else:
            process.wait(STOP_DEADLINE_S)
        if process.stdout is not None:
            process.stdout.close()
        self._complaints.close()

    def last_words(self) -> str:
        """Why it ended, in its own words."""
        status = self._process.wait(STOP_DEADLINE_S)
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        said = lines[-1].removeprefix("splitnet: ") if lines else "it said nothing"
        return said if status == 2 else f"the {self.name} ended with status {status}: {said}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class LaunchedWorker:
    """One worker process that this process owns."""

    def __init__(
        self,
        role: str,
        model: ModelRef,
        *,
        device: str = "cpu",
        threads: int = 1,
        cores: Sequence[int] = (),
        listen: str = "127.0.0.1",
        wrap: Wrap = lambda command: command,
    ) -> None:
        """Start it; `wait` says when it listens.

        Args:
            cores: the CPU cores that it is pinned to.
            listen: host that it listens on; off loopback only in a network of our own, of which nobody else knows.
            wrap: the command that runs a command somewhere else, such as in a network namespace.
        """
        self.role = role
        self.token = secrets.token_hex(16)
        command = ["splitnet", "worker", role, "--listen", f"{listen}:0"]
        if not Address(listen, 0).is_loopback:
            command.append("--insecure")
        command += ["--device", device, "--threads", str(threads), "--follow-stdin", *model_options(model)]
        if cores:
            command += ["--cores", ",".join(map(str, cores))]
        self._process = LaunchedProcess(role, command, self.token, threads, wrap)

    def wait(self, deadline_s: float = START_DEADLINE_S) -> Address:
        """Wait until it listens.

        Raises:
            WorkerError: it ended instead; the message is its own.
        """
        return Address.parse(self._process.wait(deadline_s)["listening"])

    def stop(self) -> None:
        """End the process and wait for its end."""
        self._process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def model_options(model: ModelRef) -> list[str]:
    """The command line options that ask for a model."""
    options = ["--model", model.name, "--seed", str(model.seed), "--batch", str(model.batch)]
    if model.weights is not None:
        options += ["--weights", model.weights]
    if model.input_size is not None:
        options += ["--input-size", str(model.input_size)]
    for shape in model.input_shape or ():
        options += ["--input-shape", format_shape(shape)]
    return options


def split_cores(gateway_threads: int, ap_threads: int) -> tuple[list[int], list[int]]:
    """Cores of its own for each of two workers; none (no pinning) where there are too few."""
    if not hasattr(os, "sched_getaffinity"):
        return [], []
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < gateway_threads + ap_threads:
        return [], []
    return cores[:gateway_threads], cores[gateway_threads : gateway_threads + ap_threads]

"""Mining at a given rate, in a process of its own that stops when it is told to.

The process mines one seal at a time in batches of some 2 ms, between which it listens, so that it stops when another
AP has won. At a hash rate it is a slower processor: hash number n is done n/rate after the start and no sooner, so a
nonce found early in its batch is told when its hash is due. A rate above what the machine can do is not reached, and
the effort says so.

Decides how hashes are paced. It does not know blocks, nor why it is told to stop.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, final

from splitnet.consensus.proof_of_work import HASH_BYTES, NONCE_BYTES, check_seal, check_target, search
from splitnet.errors import WorkerError

BATCH_S = 2e-3
"""Between two looks at what the parent says."""
FIRST_BATCH = 256
"""Hashes, before the machine's speed is known."""
LONGEST_SLEEP_S = 3600.0
"""In one piece; select refuses centuries."""
MOST_TIMEOUT_S = 2e6
"""Some three weeks; poll refuses more."""
DEADLINE_S = 30.0
"""For an answer, and for the start: against hanging only."""
CLOSE_DEADLINE_S = 5.0
"""To end when asked, then when killed."""


# --- what mining took and gave


@dataclass(frozen=True, slots=True)
class Effort:
    """What was spent on one seal.

    Attributes:
        hashes: computed, exactly; at a hash rate that is up to BATCH_S ahead of what is due.
        mining_s: from when the process took it up until it found a nonce or was stopped, or until now.
        asked_hash_rate: hashes/s it was to keep to; None: as fast as it goes.
    """

    hashes: int
    mining_s: float
    asked_hash_rate: float | None

    @property
    def hash_rate(self) -> float:
        """Hashes/s that were achieved; 0 before anything was."""
        return self.hashes / self.mining_s if self.mining_s else 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """A nonce below the target, as it stands in a block, and what it took."""

    nonce: bytes
    effort: Effort


# --- between the two processes: frames of fixed size, one write each

_START, _ASK, _STOP = range(3)
_COMMAND: Final = struct.Struct("<BQ32s32sd")
"""To the process: what, its number, seal, target, hash rate (0: unlimited); the last three count for _START alone."""
_ANSWER: Final = struct.Struct("<QQd")
"""From it: number of the _ASK or _STOP, hashes, seconds."""
_FOUND: Final = struct.Struct("<Q16sQd")
"""From it, on a pipe of their own that can be waited for: number of the _START, nonce, hashes, seconds."""


@final
class MiningProcess:
    """A process that mines for this one, and ends with it: by `close`, or when its channel closes.

    It can be waited for beside other things: its `fileno` becomes readable when `wait` has something to return. To
    be used by one thread at a time. Every call raises WorkerError once the process has ended, or where it does not
    answer.
    """

    def __init__(self) -> None:
        """Start it; WorkerError where the system refuses. What it is told before it runs waits for it."""
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._channel, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", __spec__.name],
                    stdin=theirs.fileno(),
                    stdout=subprocess.PIPE,
                    stderr=self._complaints,
                    process_group=0,  # Ctrl-C is for the parent: it closes the channel
                )
            except OSError as error:
                self._channel.close()
                self._complaints.close()
                raise WorkerError(f"the mining process cannot be started: {error.strerror}") from None
        assert self._process.stdout is not None
        self._told = self._process.stdout.fileno()
        os.set_blocking(self._told, False)
        self._channel.settimeout(DEADLINE_S)
        self._number = 0
        self._mined = 0
        self._asked: float | None = None

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def fileno(self) -> int:
        """Readable when `wait` has something to return; now and then also when that is None."""
        self._check_open()
        return self._told

    def wait_ready(self, deadline_s: float = DEADLINE_S) -> None:
        """Until it runs, for those who time what follows."""
        self._ask(_ASK, deadline_s)

    def start(self, seal: bytes, target: int, hash_rate: float | None = None) -> None:
        """Mine this, from a random nonce on, and nothing that was mined before.

        Args:
            seal: [32] digest of the header.
            target: what the hash must be below.
            hash_rate: hashes/s, f_j^bloc / c_h of MODEL.md row 10; None: as fast as it goes.

        Raises:
            ValueError: a seal, target or rate that cannot be; what is mined goes on.
        """
        check_seal(seal)
        check_target(target)
        if hash_rate is not None and not 0 < hash_rate < math.inf:
            raise ValueError(f"a hash rate of {hash_rate:g} is not a number above 0")
        self._forget_found()
        self._mined = self._send(_START, seal, target, hash_rate or 0.0)
        self._asked = hash_rate

    def wait(self, timeout_s: float) -> Found | None:
        """The nonce, as soon as there is one; None after the time-out. Each nonce is returned once."""
        end_s = time.monotonic() + timeout_s
        while readable(self.fileno(), end_s - time.monotonic()):
            frame = self._next_found()
            if frame is None:
                raise WorkerError(self._last_words())
            number, nonce, hashes, mining_s = _FOUND.unpack(frame)
            if number == self._mined:
                return Found(nonce, Effort(hashes, mining_s, self._asked))
        return None

    def effort(self) -> Effort:
        """What was spent so far on what it mines, or last mined."""
        return self._ask(_ASK, DEADLINE_S)

    def stop(self) -> Effort:
        """Mine no more; what was spent. When this returns no hash is computed any longer.

        A nonce that was found and not waited for is dropped.
        """
        effort = self._ask(_STOP, DEADLINE_S)
        self._mined = 0
        self._forget_found()
        return effort

    def close(self) -> None:
        """End the process and wait for its end."""
        self._channel.close()
        for end in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(CLOSE_DEADLINE_S)
                break
            except subprocess.TimeoutExpired:
                end()
        else:
            self._process.wait(CLOSE_DEADLINE_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._complaints.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, kind: int, deadline_s: float) -> Effort:
        number = self._send(kind)
        end_s = time.monotonic() + deadline_s
        while readable(self._channel.fileno(), end_s - time.monotonic()):
            frame = _receive(self._channel, _ANSWER.size)
            if not frame:
                raise WorkerError(self._last_words())
            answered, hashes, mining_s = _ANSWER.unpack(frame)
            if answered == number:  # not one that came after its deadline
                return Effort(hashes, mining_s, self._asked)
        raise WorkerError(f"the mining process {self.pid} did not answer within {deadline_s:g} s")

    def _send(self, kind: int, seal: bytes = b"", target: int = 0, hash_rate: float = 0.0) -> int:
        self._check_open()
        self._number += 1
        try:
            self._channel.sendall(_COMMAND.pack(kind, self._number, seal, target.to_bytes(HASH_BYTES), hash_rate))
        except TimeoutError:
            raise WorkerError(f"the mining process {self.pid} takes no orders") from None
        except OSError:
            raise WorkerError(self._last_words()) from None
        return self._number

    def _next_found(self) -> bytes | None:
        """One frame from the pipe, which is readable; None at its end. Writes of one frame are never torn."""
        return os.read(self.fileno(), _FOUND.size) or None

    def _forget_found(self) -> None:
        """Read what nobody waited for, or the pipe would be full one day and the process block."""
        with contextlib.suppress(BlockingIOError):
            while self._next_found() is not None:
                pass

    def _check_open(self) -> None:
        if self._channel.fileno() < 0:
            raise WorkerError("the mining process was closed")

    def _last_words(self) -> str:
        try:
            status = self._process.wait(CLOSE_DEADLINE_S)
        except subprocess.TimeoutExpired:
            return f"the mining process {self.pid} has closed its channel and does not end"
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        return f"the mining process ended with status {status}: {lines[-1] if lines else 'it said nothing'}"


def readable(descriptor: int, timeout_s: float) -> bool:
    """Whether it became readable in time; an end counts. (Unlike select, poll takes any descriptor.)"""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(math.ceil(1e3 * max(0.0, min(timeout_s, MOST_TIMEOUT_S)))))


def _receive(channel: socket.socket, size: int) -> bytes:
    """A frame, the rest of which is there once its first byte is; b"" where the channel has ended."""
    data = b""
    while len(data) < size:
        try:
            part = channel.recv(size - len(data))
        except ConnectionError:
            part = b""
        if not part:
            return b""
        data += part
    return data


# --- inside the process


@final
class _Job:
    """A seal that is mined: one batch after the other, each when it is due."""

    def __init__(self, number: int, seal: bytes, target: int, hash_rate: float) -> None:
        self.number = number
        self.hashes = 0
        self.nonce: int | None = None
        self.ended_s: float | None = None
        self._seal, self._target, self._hash_rate = seal, target, hash_rate
        self._next = int.from_bytes(os.urandom(8)) << 64  # 2^64 nonces from here on: they outlast the machine
        self._batch = min(FIRST_BATCH, self._most())
        self._began_s = time.monotonic()

    def mining_s(self) -> float:
        return (time.monotonic() if self.ended_s is None else self.ended_s) - self._began_s

    def sleep_s(self) -> float | None:
        """Until all hashes so far are due; None: for ever."""
        if self.ended_s is not None:
            return None
        if not self._hash_rate:
            return 0.0
        return min(max(0.0, self.hashes / self._hash_rate - self.mining_s()), LONGEST_SLEEP_S)

    def mine(self) -> None:
        """One batch."""
        began_s = time.monotonic()
        self.nonce = search(self._seal, self._next, self._batch, self._target)
        taken_s = time.monotonic() - began_s
        self.hashes += self._batch if self.nonce is None else self.nonce - self._next + 1
        self._next += self._batch
        fitting = int(self._batch * BATCH_S / max(taken_s, 1e-9))
        self._batch = max(1, min(fitting, 2 * self._batch, self._most()))

    def end(self) -> None:
        if self.ended_s is None:
            self.ended_s = time.monotonic()

    def _most(self) -> int:
        """Hashes in a batch: no more than are due in its time, so that the rate holds also over a short while."""
        return max(1, int(min(self._hash_rate or math.inf, 1e12) * BATCH_S))


def _serve(channel: socket.socket, told: int) -> None:
    """The life of the process: mines what it was last told to, until the channel closes."""
    job: _Job | None = None
    while True:
        if select.select([channel], [], [], None if job is None else job.sleep_s())[0]:
            frame = _receive(channel, _COMMAND.size)
            if not frame:
                return
            kind, number, seal, target, hash_rate = _COMMAND.unpack(frame)
            if kind == _START:
                job = _Job(number, seal, int.from_bytes(target), hash_rate)
                continue
            if kind == _STOP and job is not None:
                job.end()
            spent = (0, 0.0) if job is None else (job.hashes, job.mining_s())
            channel.sendall(_ANSWER.pack(number, *spent))
        elif job is None or job.sleep_s() != 0:
            continue  # woken before its time
        elif job.nonce is None:
            job.mine()
        else:
            job.end()
            os.write(told, _FOUND.pack(job.number, job.nonce.to_bytes(NONCE_BYTES), job.hashes, job.mining_s()))


if __name__ == "__main__":
    with contextlib.suppress(ConnectionError), socket.socket(fileno=sys.stdin.fileno()) as channel:
        _serve(channel, sys.stdout.fileno())

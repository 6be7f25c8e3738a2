"""AP nodes as real processes, and links between them that can be cut and slowed down."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
ANSWER_DEADLINE_S = 60.0


class NodeProcess:
    """A node, asked and answered in lines."""

    def __init__(self, folder: Path, number: int, peers: list[str], aps: int, port: int = 0) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        script = ROOT / "tests" / "processes" / "ap_node.py"
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(folder), str(number), ",".join(peers), str(port), str(aps)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.address = ""

    def listen(self) -> None:
        """Wait until it listens."""
        self.address = self._line()["listening"]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def ask(self, **request: Any) -> dict[str, Any]:
        self.say(**request)
        return self._line()

    def say(self, **request: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        return self._line()

    def status(self) -> dict[str, Any]:
        return self.ask(status=None)

    def _line(self) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None
        end_s = time.monotonic() + ANSWER_DEADLINE_S
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, end_s - time.monotonic())):
                    raise TimeoutError("the node does not answer")
                part = os.read(stdout.fileno(), 1 << 16)
                if not part:
                    self._complaints.seek(0)
                    raise RuntimeError(f"the node has ended: {self._complaints.read().decode()[-2000:]}")
                line += part
        found: dict[str, Any] = json.loads(line)
        return found

    def kill(self) -> None:
        """As by a power cut."""
        self._process.kill()
        self._process.wait(10)
        self._close_pipes()

    def close(self) -> None:
        if self._process.poll() is None:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._complaints.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Wire:
    """A port that passes bytes on to another, unless it is cut, and no faster than it may."""

    def __init__(self, target_port: int, bytes_per_s: float = 1e9) -> None:
        self._target_port, self._bytes_per_s = target_port, bytes_per_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.up = True
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Nothing gets through any more; connections break."""
        with self._lock:
            self.up = False
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        with self._lock:
            self.up = True

    def close(self) -> None:
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if not self.up:
                    raise ConnectionRefusedError
                far = socket.create_connection(("127.0.0.1", self._target_port), 5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._sockets |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while self.up and (data := source.recv(1 << 14)):
                time.sleep(len(data) / self._bytes_per_s)
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._sockets.discard(sock)
            sock.close()

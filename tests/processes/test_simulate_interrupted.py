"""Interrupted simulations: no orphan, nobody holds the folder, and one line that says how to go on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitnet.errors import WorkerError
from splitnet.simulating.folder import TRACES
from splitnet.simulating.run import open_folder
from tests.simulations import DEADLINE_S, asked, descendants, processes, run, tiny, until

SLOW = """
import sys
from pathlib import Path
from tests.simulations import asked, run

if __name__ == "__main__":
    run(Path(sys.argv[1]), asked("random", "wdpo", slots=int(sys.argv[2]), seeds=3), workers=2)
"""


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "run"), "8000"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


def test_workers_end_when_their_owner_is_killed(slow: subprocess.Popen[str], tmp_path: Path) -> None:
    until(lambda: list((tmp_path / "run" / TRACES).glob("*.json")), "a finished job")
    workers = descendants(slow.pid)
    assert len(workers) >= 2
    for pid in workers:
        if processes()[pid][0] != slow.pid:  # the server's children, which have its environment
            assert b"OMP_NUM_THREADS=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    slow.send_signal(signal.SIGKILL)
    slow.wait(DEADLINE_S)
    until(lambda: processes().keys().isdisjoint(workers), "the end of the workers")
    settings = asked("random", "wdpo", slots=8000, seeds=3)
    open_folder(tiny(), settings, resume=tmp_path / "run").close()  # nobody holds it


def test_a_killed_worker_ends_the_run_in_one_line(tmp_path: Path) -> None:
    settings = asked("random", "wdpo", slots=8000, seeds=3)
    killed: list[int] = []

    def kill_one(done: int, total: int, text: str) -> None:
        if done and not killed:
            own = os.getpid()
            killed.append(next(pid for pid in descendants(own) if processes()[pid][0] != own))  # the server's child
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(
        WorkerError, match=r"^the worker of \S+ ended with status -9; go on with --resume \S+run, with"
    ):
        run(tmp_path / "run", settings, workers=2, step=kill_one)
    assert multiprocessing.active_children() == []

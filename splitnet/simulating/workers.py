"""The processes that simulate: each is given one job after the other, and keeps what it decided in the run's folder.

They come from a server process that has imported what they need (`forkserver`), compute on one thread each, and end
when the pipe to this process closes, so they cannot outlive it, however it ends. What a job decides depends neither
on their number nor on what they did before.

Decides who does which job. What a job must wait for, and what becomes of its trace, is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import msgspec

from splitnet.controller.policies import make_policy, spec_of
from splitnet.controller.simulation import Trace, simulate
from splitnet.errors import SettingsError, SplitnetError, WorkerError
from splitnet.scenario import Scenario
from splitnet.simulating.folder import save
from splitnet.simulating.jobs import Job

SAMPLE_SEED = 2**63
"""Of the slots on which static cuts are chosen; none that a run is judged on has it."""
SAMPLE_SLOTS = 64
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
"""Environment of a worker: libraries read it when they are imported."""
TELL_EVERY_S = 0.2
STOP_DEADLINE_S = 5.0


class Order(msgspec.Struct, frozen=True):
    """To a worker: a job, with the constant difficulty that a fair policy needs."""

    job: Job
    fair_gamma: float | None


class Told(msgspec.Struct, frozen=True):
    """From a worker: how many slots of its job are done; whether it has ended, and what went wrong then."""

    slots: int
    ended: bool = False
    wrong: str | None = None
    defect: bool = False


class _Worker:
    """One worker process that this process owns."""

    def __init__(self, scenario: Scenario, slots: int, run: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self.pipe, theirs = context.Pipe()
        self.job: Job | None = None
        self.slots = 0
        self._run = run
        self._process = context.Process(target=_work, args=(theirs, scenario, slots, run.absolute()), daemon=True)
        with _inherited():
            self._process.start()
        theirs.close()

    def give(self, order: Order) -> None:
        self.job, self.slots = order.job, 0
        with contextlib.suppress(OSError):  # it has ended: `hear` says so
            self.pipe.send_bytes(msgspec.json.encode(order))

    def hear(self) -> Job | None:
        """What it has to say; the job, if that has ended.

        Raises:
            SplitnetError: the job cannot be done.
            RuntimeError: a defect.
        """
        job = self.job
        assert job is not None
        try:
            told = msgspec.json.decode(self.pipe.recv_bytes(), type=Told)
        except (EOFError, OSError):
            self._process.join(STOP_DEADLINE_S)
            raise WorkerError(
                f"the worker of {job.name} ended with status {self._process.exitcode}; go on with --resume "
                f"{self._run}, with fewer --jobs if memory was short"
            ) from None
        self.slots = told.slots
        if told.defect:
            raise RuntimeError(f"{job.name}: {told.wrong}")
        if told.wrong is not None:
            raise SettingsError(f"{job.name}: {told.wrong}")
        if not told.ended:
            return None
        self.job = None
        return job

    def stop(self) -> None:
        self.pipe.close()
        self._process.terminate()

    def wait_stopped(self) -> None:
        self._process.join(STOP_DEADLINE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


def run_jobs(
    scenario: Scenario,
    slots: int,
    run: Path,
    jobs: Sequence[Job],
    order: Callable[[Job], Order | None],
    workers: int,
    finish: Callable[[Job], None],
    step: Callable[[int, str], None],
) -> None:
    """Do all jobs on some workers; each leaves what it decided in the folder `run`.

    Args:
        order: what to tell the worker that gets a job; None while it must wait for others.
        finish: is told of every job that has finished.
        step: is told how many slots are done, and which jobs are going on.

    Raises:
        SplitnetError: a job that cannot be done; those that have finished are kept.
    """
    waiting, done = list(jobs), 0
    pool: list[_Worker] = []
    try:
        for _ in range(min(workers, len(waiting))):
            pool.append(_Worker(scenario, slots, run))
        while waiting or any(worker.job for worker in pool):
            for worker in pool:
                ready = next((found for found in map(order, waiting) if found), None) if worker.job is None else None
                if ready is not None:
                    waiting.remove(ready.job)
                    worker.give(ready)
            busy = {worker.pipe: worker for worker in pool if worker.job is not None}
            if not busy:
                raise RuntimeError(f"jobs wait for others that are not there: {[job.name for job in waiting]}")
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                job = busy[pipe].hear()
                if job is not None:
                    finish(job)
                    done += 1
            running = [worker for worker in pool if worker.job is not None]
            step(done * slots + sum(worker.slots for worker in running), _told(running))
    finally:
        for worker in pool:
            worker.stop()
        for worker in pool:
            worker.wait_stopped()
        _end_server()


def _end_server() -> None:
    """Ends the server that the workers came from; left alone it would outlive its owner by a moment."""
    server: Any = forkserver._forkserver
    server._stop()  # nothing public ends it


def _told(running: Sequence[_Worker]) -> str:
    names = [worker.job.name for worker in running if worker.job is not None]
    return " ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


@contextlib.contextmanager
def _inherited() -> Iterator[None]:
    """What a process started inside inherits: one thread for each library, and Ctrl-C left to this process."""
    before = {name: os.environ.get(name) for name in THREADS}
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    os.environ.update(THREADS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if main:
            signal.signal(signal.SIGINT, handler)


def _work(pipe: Connection, scenario: Scenario, slots: int, run: Path) -> None:
    """A worker's life: one order after the other, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, ConnectionError):  # whoever gave the orders is gone
        while True:
            order = msgspec.json.decode(pipe.recv_bytes(), type=Order)
            pipe.send_bytes(msgspec.json.encode(_answer(pipe, scenario, slots, run, order)))


def _answer(pipe: Connection, scenario: Scenario, slots: int, run: Path, order: Order) -> Told:
    due_s = time.monotonic() + TELL_EVERY_S

    def tell(done: int) -> None:
        nonlocal due_s
        if time.monotonic() >= due_s or done == slots:  # the last one: nothing is kept for nobody
            pipe.send_bytes(msgspec.json.encode(Told(done)))
            due_s = time.monotonic() + TELL_EVERY_S

    try:
        save(run, order.job, do_job(scenario, slots, order, tell), order.fair_gamma)
    except ConnectionError:
        raise
    except SplitnetError as error:
        return Told(slots, wrong=str(error))
    except Exception:
        return Told(slots, wrong=traceback.format_exc(), defect=True)
    return Told(slots, ended=True)


def at_devices(scenario: Scenario, devices: int) -> Scenario:
    """The scenario with that number of DTs, itself where that is its own."""
    return scenario if devices == len(scenario.network.tables) else scenario.with_devices(devices)


def do_job(scenario: Scenario, slots: int, order: Order, tell: Callable[[int], None]) -> Trace:
    """One job from its beginning to its end."""
    job = order.job
    scenario = at_devices(scenario, job.devices)
    sample = list(scenario.world.observations(SAMPLE_SEED, SAMPLE_SLOTS)) if spec_of(job.policy).needs_sample else []
    policy = make_policy(
        job.policy, scenario.setting(job.v), seed=job.seed, sample=sample, fair_gamma=order.fair_gamma
    )
    observations = scenario.world.observations(job.seed, slots)
    return simulate(policy, observations, on_slot=lambda state, decision: tell(state.slot))

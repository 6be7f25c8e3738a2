"""How fast an emulated machine is: work is slowed to a fraction of one core, and what came of it is recorded.

Decides when a piece of work has to wait, and what was asked and achieved. The default actuator, `pacing`, lets the
thread that works wait at block boundaries, until `start + CPU time so far / fraction`: after bursts of some 2 ms, and
always at the end. Deadlines count from the start, so a sleep that wakes late shortens the next one, and the whole
takes CPU time / fraction, however short it is.

The work decides where its boundaries are: it calls `pause` there (`paced.py` does so after every layer). Nothing
here knows models or machines; other actuators are in `cgroups.py` and `hardware_clocks.py`, the choice in
`actuators.py`.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar, final

import torch

from splitnet.errors import SettingsError

LEAST_FRACTION = 1e-6
"""A lane with next to no work may have very little; a millisecond of work takes a quarter of an hour there."""
EARLY_NS = 100_000
"""A sleep aims that much before its deadline: it wakes late by 50 to 100 us. The last one is seen out awake."""
LEAST_SLEEP_NS = 300_000
"""Less is left to the next boundary."""
BURST_NS = 2_000_000
"""CPU time between two sleeps. A core that has slept is slow at first: at a tenth of its speed ResNet-18 (64 pixels)
took a third more CPU time than unhindered when it slept after every layer, and a tenth more with these bursts."""

Pause = Callable[[], None]
Result = TypeVar("Result")
Work = Callable[[Pause], Result]
"""Calls `pause` where it may be held up, as often as it likes, on the thread that runs it."""


class Clock(Protocol):
    """Time, and the CPU time that is being slowed."""

    def now_ns(self) -> int:
        """Monotonic."""

    def cpu_ns(self) -> int:
        """CPU time used so far by whoever does the work."""

    def sleep(self, seconds: float) -> None:
        """Wait at least that long."""


@final
class ThreadClock:
    """CPU time of the calling thread: right where it computes alone, whatever other threads do meanwhile."""

    now_ns = staticmethod(time.monotonic_ns)
    cpu_ns = staticmethod(time.thread_time_ns)
    sleep = staticmethod(time.sleep)


@final
class ProcessClock:
    """CPU time of the whole process: right where several threads compute one thing, and nothing else runs."""

    now_ns = staticmethod(time.monotonic_ns)
    cpu_ns = staticmethod(time.process_time_ns)
    sleep = staticmethod(time.sleep)


def clock_for(threads: int) -> Clock:
    """The clock for work on that many compute threads."""
    return ThreadClock() if threads == 1 else ProcessClock()


# --- what was asked and what was achieved


@dataclass(frozen=True, slots=True)
class Use:
    """One piece of work under an actuator.

    Attributes:
        lane: of whom it was.
        asked: the fraction, in (0, 1], of one core, or of a device's highest clock.
        achieved: what it was: cpu_s / wall_s under `pacing` and `cgroup`, mean clock / highest clock otherwise.
        cpu_s: CPU time of the work, without the waiting.
        wall_s: from the first instant to the last, waiting included.
    """

    lane: str
    asked: float
    achieved: float
    cpu_s: float
    wall_s: float


def achieved_over_asked(uses: Iterable[Use]) -> float | None:
    """Of a run, each use weighted by its time; None without uses, or where none took any time.

    Under `pacing` that is the time that all uses should have taken over the time that they took: 1.05 is 5% too fast.
    """
    weighted = wall = 0.0
    for use in uses:
        weighted += use.wall_s * use.achieved / use.asked
        wall += use.wall_s
    return weighted / wall if wall else None


def lane_fractions(speed: float, shares: Mapping[str, float]) -> dict[str, float]:
    """What fraction of one core each lane of an AP gets: speed x rho_m; lanes with rho_m = 0 are left out.

    Args:
        speed: the AP's, in (0, 1].
        shares: rho_m = f_m / f^max by lane; C2 (MODEL.md section 1) keeps their sum at or below 1.

    Raises:
        SettingsError: a speed or share out of range, shares of more than 1 together, a lane below the least fraction.
    """
    check_fraction("an AP's speed", speed)
    for lane, share in shares.items():
        if not 0 <= share <= 1:
            raise SettingsError(f"lane {lane} has a share of {share:g}: it must be within 0..1")
    if (total := sum(shares.values())) > 1 + 1e-9:
        raise SettingsError(f"the shares of an AP's lanes add up to {total:g}: give them 1 at most together")
    fractions = {lane: speed * share for lane, share in shares.items() if share > 0}
    for lane, fraction in fractions.items():
        check_fraction(f"lane {lane}", fraction)
    return fractions


def check_fraction(what: str, fraction: float) -> None:
    """SettingsError unless it is within LEAST_FRACTION..1."""
    if not LEAST_FRACTION <= fraction <= 1:
        raise SettingsError(f"{what} cannot run at {fraction:g} of one core: give {LEAST_FRACTION:g} to 1")


# --- actuators


class Actuator(ABC):
    """Makes work as slow as asked.

    Attributes:
        name: `pacing`, `cgroup`, `cpufreq` or `nvml`.
    """

    name: str
    _fractions: Fractions

    def release(self, lane: str) -> None:
        """It works no more, so that another may take its place; nothing where it never did."""
        self._fractions.forget(lane)

    @abstractmethod
    def set(self, lane: str, fraction: float) -> None:
        """From the lane's next piece of work on.

        Raises:
            SettingsError: this actuator cannot give that fraction, or not to that lane.
        """

    @abstractmethod
    def run(self, lane: str, work: Work[Result]) -> tuple[Result, Use]:
        """Do the work on the calling thread, at the lane's fraction.

        Raises:
            SettingsError: no fraction was set for that lane.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the machine as it was found; may be called twice."""


@final
class Fractions:
    """The fractions of an actuator's lanes, safe to use from several threads."""

    def __init__(self, most_lanes: int | None = None, why: str = "") -> None:
        """`why` says, after "lane x:", why there are no more than `most_lanes`, and the way out."""
        self._most, self._why = most_lanes, why
        self._of: dict[str, float] = {}
        self._lock = threading.Lock()

    def check(self, lane: str, fraction: float) -> None:
        """Raises SettingsError for a fraction out of range, or a lane too many."""
        check_fraction(f"lane {lane}", fraction)
        with self._lock:
            if self._most is not None and lane not in self._of and len(self._of) >= self._most:
                raise SettingsError(f"lane {lane} cannot be beside {', '.join(self._of)}: {self._why}")

    def set(self, lane: str, fraction: float) -> None:
        """Raises as `check`."""
        self.check(lane, fraction)
        with self._lock:
            self._of[lane] = fraction

    def forget(self, lane: str) -> None:
        """Nothing where it is not there."""
        with self._lock:
            self._of.pop(lane, None)

    def of(self, lane: str) -> float:
        """Raises SettingsError where none was set."""
        with self._lock:
            fraction = self._of.get(lane)
        if fraction is None:
            raise SettingsError(f"lane {lane} has no fraction; set one before it works")
        return fraction


@final
class Pacing(Actuator):
    """Waits at block boundaries. Needs no rights, and several lanes of one process work at once, each in its thread.

    With one compute thread a lane is charged its own thread's CPU time. With several, torch's helpers compute too, so
    it is charged the process's, and there can be one lane only; nothing else may run in that process. Those helpers
    spin while they wait, which is charged too (ResNet-18 at 64 pixels on two: twice to five times): one thread is the
    exact way. A fraction is one of one core in either case: an emulated machine is never faster than that.

    The CPU's own work is slowed: a thread that waits for a GPU uses no CPU time.
    """

    name = "pacing"

    def __init__(self, threads: int = 1, clock: Clock | None = None) -> None:
        """`threads`: compute threads of torch that the work uses; `clock`: by default the one for so many."""
        self._threads = threads
        self._clock = clock or clock_for(threads)
        alone = f"with {threads} compute threads one lane fills the process; use 1 thread, or a process for each lane"
        self._fractions = Fractions(None if threads == 1 else 1, alone)

    def set(self, lane: str, fraction: float) -> None:
        self._fractions.set(lane, fraction)

    def run(self, lane: str, work: Work[Result]) -> tuple[Result, Use]:
        asked = self._fractions.of(lane)
        if (threads := torch.get_num_threads()) != self._threads:
            raise SettingsError(
                f"lane {lane} would compute on {threads} threads and be charged for {self._threads}; "
                f"call torch.set_num_threads({self._threads}) first"
            )
        pacer = Pacer(asked, self._clock)
        result = work(pacer.pause)
        cpu_ns, wall_ns = pacer.finish()
        return result, Use(lane, asked, cpu_ns / wall_ns, cpu_ns * 1e-9, wall_ns * 1e-9)

    def close(self) -> None:
        pass


@final
class Pacer:
    """The deadlines of one piece of work. What the waiting itself costs is not charged, and part of the waiting."""

    def __init__(self, fraction: float, clock: Clock) -> None:
        self._fraction, self._clock = fraction, clock
        self._cpu_ns = self._slept_at_ns = 0
        self._start_ns = clock.now_ns()
        self._resumed_ns = clock.cpu_ns()

    def pause(self) -> None:
        """Sleep after a burst; what is less, or was slept too long, is made up for at a later boundary."""
        wait_ns = self._charge()
        if wait_ns >= LEAST_SLEEP_NS and self._cpu_ns - self._slept_at_ns >= BURST_NS:
            self._slept_at_ns = self._cpu_ns
            self._clock.sleep((wait_ns - EARLY_NS) * 1e-9)
            self._resumed_ns = self._clock.cpu_ns()

    def finish(self) -> tuple[int, int]:
        """Wait for the end, to some microseconds; CPU time and time of the whole in ns, at least 1 each."""
        wait_ns = self._charge()
        due_ns = self._clock.now_ns() + wait_ns
        if wait_ns >= LEAST_SLEEP_NS:
            self._clock.sleep((wait_ns - EARLY_NS) * 1e-9)
        now_ns = self._clock.now_ns()
        while now_ns < due_ns:
            now_ns = self._clock.now_ns()
        return max(self._cpu_ns, 1), max(now_ns - self._start_ns, 1)

    def _charge(self) -> int:
        """Add the CPU time since the last boundary; ns until the deadline that follows from it."""
        cpu_ns = self._clock.cpu_ns()
        self._cpu_ns += cpu_ns - self._resumed_ns
        self._resumed_ns = cpu_ns
        return self._start_ns + round(self._cpu_ns / self._fraction) - self._clock.now_ns()


def unhindered(clock: Clock, work: Work[Result]) -> tuple[Result, float, float]:
    """Do work whose pauses do nothing, for actuators that slow the machine; its result, CPU and elapsed seconds."""
    start_ns, cpu_ns = clock.now_ns(), clock.cpu_ns()
    result = work(_no_pause)
    used_ns = clock.cpu_ns() - cpu_ns
    taken_ns = clock.now_ns() - start_ns
    return result, max(used_ns, 1) * 1e-9, max(taken_ns, 1) * 1e-9


def _no_pause() -> None:
    pass

"""Pacing by a clock whose every nanosecond is known, and by real threads; what is recorded of it."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from splitnet.errors import SettingsError
from splitnet.runtime.actuators import make_actuator, why_not
from splitnet.runtime.speed import (
    Pacer,
    Pacing,
    Pause,
    ProcessClock,
    ThreadClock,
    Use,
    achieved_over_asked,
    clock_for,
    lane_fractions,
)

MS, US = 1_000_000, 1_000


class FakeClock:
    """Time that passes only by work, by sleeping, and by 10 ns for each look at it."""

    def __init__(self, late_ns: list[int] | None = None, waking_cpu_ns: int = 0) -> None:
        """`late_ns`: how late each sleep ends, in turn, then 0; `waking_cpu_ns`: what each costs."""
        self._now_ns = self._cpu_ns = 0
        self._late_ns = late_ns or []
        self._waking_cpu_ns = waking_cpu_ns
        self.slept_us: list[int] = []

    def now_ns(self) -> int:
        self._now_ns += 10
        return self._now_ns

    def cpu_ns(self) -> int:
        return self._cpu_ns

    def sleep(self, seconds: float) -> None:
        self.slept_us.append(round(seconds * 1e6))
        self._now_ns += round(seconds * 1e9) + (self._late_ns.pop(0) if self._late_ns else 0)
        self._cpu_ns += self._waking_cpu_ns

    def work(self, cpu_ns: int, elapsed_ns: int | None = None) -> None:
        self._cpu_ns += cpu_ns
        self._now_ns += cpu_ns if elapsed_ns is None else elapsed_ns


def paced(clock: FakeClock, fraction: float, blocks: int, cpu_ns: int, elapsed_ns: int | None = None) -> Use:
    """The use of that many equal blocks, with a boundary after each."""

    def work(pause: Pause) -> None:
        for _ in range(blocks):
            clock.work(cpu_ns, elapsed_ns)
            pause()

    pacing = Pacing(1, clock)
    pacing.set("lane", fraction)
    return pacing.run("lane", work)[1]


# --- the arithmetic


def test_each_boundary_is_left_when_it_is_due() -> None:
    clock = FakeClock(late_ns=[80 * US] * 3)
    use = paced(clock, 0.5, blocks=3, cpu_ns=2 * MS)
    # due at 4, 8 and 12 ms; the sleeps aim 0.1 ms before and end 0.08 ms after that, so each next has 0.02 ms more
    assert clock.slept_us == [1900, 1920, 1920]
    assert use.cpu_s == 6e-3
    assert use.wall_s == pytest.approx(12e-3, abs=1e-7)
    assert use == replace(use, lane="lane", asked=0.5, achieved=use.cpu_s / use.wall_s)


def test_a_sleep_that_ended_far_too_late_is_made_up_for() -> None:
    clock = FakeClock(late_ns=[6 * MS])
    use = paced(clock, 0.5, blocks=10, cpu_ns=2 * MS)
    assert clock.slept_us[0] == 1900
    # left at 9.9 ms; blocks 2 and 3 end at 11.9 and 13.9, due at 8 and 12; 4 ends at 15.9, due at 16: too little to
    # sleep; 5 ends at 17.9, due at 20
    assert clock.slept_us[1] == 2000
    assert use.wall_s == pytest.approx(40e-3, abs=1e-7)


def test_small_blocks_save_up_for_one_sleep() -> None:
    clock = FakeClock()
    use = paced(clock, 0.5, blocks=1000, cpu_ns=10 * US)
    assert clock.slept_us == pytest.approx([1900, 2000, 2000, 2000, 2000], abs=5)  # after each 2 ms, 200 blocks
    assert use.wall_s == pytest.approx(20e-3, abs=1e-7)


def test_near_full_speed_sleeps_are_saved_up_too() -> None:
    clock = FakeClock()
    use = paced(clock, 0.9, blocks=5, cpu_ns=2 * MS)
    # due after each block 0.222 ms more, which is too little; 0.444 after the second, of which 0.1 is kept; 0.322
    # after the third; 0.322 after the fourth and fifth
    assert clock.slept_us == [344, 222, 222, 222]
    assert use.wall_s == pytest.approx(10e-3 / 0.9, abs=1e-7)


def test_work_too_short_to_sleep_is_still_slowed() -> None:
    clock = FakeClock()
    use = paced(clock, 0.25, blocks=2, cpu_ns=30 * US)
    assert clock.slept_us == []
    assert use.wall_s == pytest.approx(240e-6, abs=1e-7)


def test_work_without_boundaries_is_slowed_at_its_end() -> None:
    clock = FakeClock()
    pacing = Pacing(1, clock)
    pacing.set("lane", 0.1)
    _, use = pacing.run("lane", lambda pause: clock.work(5 * MS))
    assert clock.slept_us == [44_900]
    assert use.wall_s == pytest.approx(50e-3, abs=1e-7)


def test_at_full_speed_nothing_waits() -> None:
    clock = FakeClock()
    use = paced(clock, 1.0, blocks=20, cpu_ns=MS)
    assert clock.slept_us == []
    assert use.wall_s == pytest.approx(20e-3, abs=1e-6)  # what the looks at the clock took


def test_waking_up_is_not_charged() -> None:
    clock = FakeClock(waking_cpu_ns=50 * US)
    use = paced(clock, 0.5, blocks=4, cpu_ns=MS)
    assert use.cpu_s == 4e-3
    assert use.wall_s == pytest.approx(8e-3, abs=1e-7)


def test_who_was_held_up_by_others_does_not_wait_on_top() -> None:
    clock = FakeClock()
    use = paced(clock, 0.5, blocks=3, cpu_ns=MS, elapsed_ns=4 * MS)
    assert clock.slept_us == []
    assert use.achieved == pytest.approx(0.25, rel=1e-4)
    caught_up = paced(FakeClock(), 0.5, blocks=3, cpu_ns=MS, elapsed_ns=2 * MS - US)
    assert caught_up.achieved == pytest.approx(0.5, rel=1e-4)


def test_a_pacer_never_ends_early() -> None:
    for fraction in (0.001, 0.0973, 1 / 3, 0.7, 0.999):
        clock = FakeClock()
        pacer = Pacer(fraction, clock)
        ends = []
        for block in range(7):
            clock.work(123_457 * (block + 1))
            pacer.pause()
            ends.append(clock.now_ns())
        cpu_ns, wall_ns = pacer.finish()
        assert cpu_ns == 123_457 * 28
        assert cpu_ns / fraction <= wall_ns <= cpu_ns / fraction + 200
        assert all(before < after for before, after in pairwise(ends))


# --- what is recorded


def test_a_run_is_its_uses_weighted_by_their_time() -> None:
    uses = [Use("a", 0.5, 0.5, 1.0, 2.0), Use("a", 0.25, 0.2, 1.0, 5.0), Use("b", 1.0, 0.5, 0.5, 1.0)]
    # asked: 1/0.5 + 1/0.25 + 0.5/1 = 6.5 s; taken: 8 s
    assert achieved_over_asked(uses) == pytest.approx(6.5 / 8)
    assert achieved_over_asked([]) is None


def test_shares_of_an_ap() -> None:
    assert lane_fractions(0.5, {"g0": 0.6, "g1": 0.4, "idle": 0.0}) == pytest.approx({"g0": 0.3, "g1": 0.2})
    assert lane_fractions(1.0, {"g0": 1.0}) == {"g0": 1.0}
    assert lane_fractions(1.0, dict.fromkeys("abc", 1 / 3)) == pytest.approx(dict.fromkeys("abc", 1 / 3))


@pytest.mark.parametrize(
    ("speed", "shares", "message"),
    [
        (1.2, {"g0": 1.0}, r"an AP's speed cannot run at 1\.2 of one core: give 1e-06 to 1"),
        (float("nan"), {"g0": 1.0}, "cannot run at nan"),
        (0.5, {"g0": 0.7, "g1": 0.4}, r"add up to 1\.1: give them 1 at most"),
        (0.5, {"g0": -0.1}, r"lane g0 has a share of -0\.1"),
        (0.5, {"g0": float("nan")}, "lane g0 has a share of nan"),
        (0.01, {"g0": 1e-5}, "lane g0 cannot run at 1e-07"),
    ],
)
def test_shares_that_cannot_be(speed: float, shares: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        lane_fractions(speed, shares)


# --- what cannot be set


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, 9e-7, float("nan"), float("inf")])
def test_a_fraction_out_of_range_is_refused_and_changes_nothing(fraction: float) -> None:
    pacing = Pacing()
    pacing.set("g0", 0.5)
    with pytest.raises(SettingsError, match=r"lane g0 cannot run at .* give 1e-06 to 1"):
        pacing.set("g0", fraction)
    assert pacing.run("g0", lambda pause: "done")[1].asked == 0.5


def test_a_lane_works_only_once_its_fraction_is_set() -> None:
    with pytest.raises(SettingsError, match="lane g7 has no fraction"):
        Pacing().run("g7", lambda pause: None)


def test_several_threads_make_one_lane_of_the_process() -> None:
    pacing = Pacing(threads=2)
    pacing.set("g0", 0.5)
    pacing.set("g0", 0.6)
    with pytest.raises(SettingsError, match="lane g1 cannot be beside g0: with 2 compute threads"):
        pacing.set("g1", 0.2)
    with pytest.raises(
        SettingsError, match=r"compute on 1 threads and be charged for 2; call torch.set_num_threads\(2"
    ):
        pacing.run("g0", lambda pause: None)
    assert isinstance(clock_for(1), ThreadClock)
    assert isinstance(clock_for(2), ProcessClock)


def test_what_the_work_raises_passes_through() -> None:
    pacing = Pacing()
    pacing.set("g0", 0.5)

    def work(pause: Pause) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pacing.run("g0", work)


def test_actuators_by_name() -> None:
    assert make_actuator().name == make_actuator("pacing").name == "pacing"
    for unknown in ("sigstop", "auto"):
        assert why_not(unknown) == f"actuator '{unknown}' is unknown: give pacing, cgroup, cpufreq or nvml"
    with pytest.raises(SettingsError, match="'sigstop' is unknown: give pacing, cgroup, cpufreq or nvml"):
        make_actuator("sigstop")
    with pytest.raises(SettingsError, match="pacing slows the CPU, and the work is on cuda:0; use nvml"):
        make_actuator(device=torch.device("cuda", 0))


# --- real threads


def burn(seconds: float, pause: Pause) -> None:
    """CPU time of this thread, with a boundary after each millisecond."""
    end_ns = time.thread_time_ns() + round(seconds * 1e9)
    while time.thread_time_ns() < end_ns:
        boundary_ns = time.thread_time_ns() + MS
        while time.thread_time_ns() < boundary_ns:
            pass
        pause()


def test_each_lane_of_a_process_is_charged_for_itself() -> None:
    pacing = Pacing()
    uses: dict[str, Use] = {}
    asked = {"fast": 0.8, "slow": 0.2, "idle": 0.5}
    for lane, fraction in asked.items():
        pacing.set(lane, fraction)

    def lane_of(name: str) -> None:
        def work(pause: Pause) -> None:
            if name == "idle":
                time.sleep(0.1)
            else:
                burn(0.05, pause)

        uses[name] = pacing.run(name, work)[1]

    threads = [threading.Thread(target=lane_of, args=(name,)) for name in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert uses.keys() == asked.keys()
    for name, use in uses.items():
        assert (use.lane, use.asked) == (name, asked[name])
        assert use.achieved == pytest.approx(use.cpu_s / use.wall_s)
        assert use.achieved <= asked[name] * (1 + 1e-6)  # others may slow a lane, never speed it up
    assert uses["fast"].cpu_s > 0.03  # less than 0.05: waking up is in the thread's time, and not charged
    assert uses["slow"].cpu_s > 0.03
    assert uses["idle"].cpu_s < 0.025  # while the others used 0.1 s

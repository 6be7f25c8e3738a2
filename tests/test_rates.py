"""Traces of rates: when bytes are through, against hand-derived values, exact integration and algebra."""

from __future__ import annotations

import math
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.errors import SettingsError
from splitnet.runtime.rates import RateTrace

STEP = RateTrace((0.0, 1.0, 3.0), (8e6, 16e6, 4e6))
"""1 MB/s for a second, 2 MB/s for two, then 0.5 MB/s."""


@pytest.mark.parametrize(
    ("start_s", "size_bytes", "finish_s"),
    [
        (0.0, 0, 0.0),
        (0.0, 500_000, 0.5),
        (0.0, 1_000_000, 1.0),
        (0.0, 3_000_000, 2.0),  # 1 MB in the first second, 2 MB in the next
        (0.0, 6_000_000, 5.0),  # 1 + 4 MB in 3 s, the last one at 0.5 MB/s
        (0.5, 1_000_000, 1.25),
        (2.5, 2_000_000, 5.0),
        (10.0, 1_000_000, 12.0),  # the last rate holds
        (-1.0, 2_000_000, 1.0),  # and so does the first, before
    ],
)
def test_bytes_are_through_when_the_integral_says(start_s: float, size_bytes: int, finish_s: float) -> None:
    assert STEP.finish_s(start_s, size_bytes) == pytest.approx(finish_s, rel=1e-12)


@pytest.mark.parametrize(
    ("start_s", "end_s", "mean_bps"), [(0, 1, 8e6), (0, 2, 12e6), (0.5, 3.5, 38e6 / 3), (4, 4, 4e6), (5, 50, 4e6)]
)
def test_means_by_hand(start_s: float, end_s: float, mean_bps: float) -> None:
    assert STEP.mean_bps(start_s, end_s) == pytest.approx(mean_bps, rel=1e-12)


def test_a_rate_begins_at_its_instant() -> None:
    assert [STEP.at(time_s) for time_s in (-1, 0, 0.999, 1, 2.999, 3, 1e9)] == [
        8e6, 8e6, 8e6, 16e6, 16e6, 4e6, 4e6,
    ]  # fmt: skip


traces = st.lists(st.tuples(st.floats(1e-4, 1e3), st.floats(1, 1e9)), min_size=1, max_size=8).map(
    lambda pieces: RateTrace(
        tuple(sum(length for length, _ in pieces[:place]) for place in range(len(pieces))),
        tuple(rate for _, rate in pieces),
    )
)
instants = st.floats(-10, 5e3)
sizes = st.integers(0, 10**10)


def integral(trace: RateTrace, start_s: float, end_s: float) -> Fraction:
    """Bits between two instants without rounding: each piece's overlap times its rate."""
    whole = Fraction(0)
    for place, rate_bps in enumerate(trace.rates_bps):
        piece_start = -math.inf if place == 0 else trace.starts_s[place]
        piece_end = trace.starts_s[place + 1] if place + 1 < len(trace.starts_s) else math.inf
        low, high = max(piece_start, start_s), min(piece_end, end_s)
        if low < high:
            whole += (Fraction(high) - Fraction(low)) * Fraction(rate_bps)
    return whole


@given(traces, instants, sizes)
def test_exactly_so_many_bits_pass_until_the_finish(trace: RateTrace, start_s: float, size_bytes: int) -> None:
    finish_s = trace.finish_s(start_s, size_bytes)
    assert finish_s >= start_s
    whole = float(integral(trace, -10.0, finish_s))  # what is rounded: the sum of all bits, and the instants
    rounding = 8 * sys.float_info.epsilon * (whole + max(abs(start_s), finish_s) * max(trace.rates_bps))
    assert abs(float(integral(trace, start_s, finish_s) - size_bytes * 8)) <= rounding


@given(traces, instants, st.floats(1e-3, 1e4))
def test_a_mean_is_the_integral_over_the_time(trace: RateTrace, start_s: float, length_s: float) -> None:
    end_s = start_s + length_s
    exact = float(integral(trace, start_s, end_s) / (Fraction(end_s) - Fraction(start_s)))
    rounding = 1e-12 * float(integral(trace, -10.0, end_s)) / length_s
    assert trace.mean_bps(start_s, end_s) == pytest.approx(exact, rel=1e-9, abs=rounding)


@given(traces, instants, sizes, sizes)
def test_two_messages_back_to_back_take_as_long_as_one(
    trace: RateTrace, start_s: float, first: int, second: int
) -> None:
    between_s = trace.finish_s(start_s, first)
    whole_s = trace.finish_s(start_s, first + second)
    assert trace.finish_s(between_s, second) == pytest.approx(whole_s, rel=1e-9, abs=1e-3)
    assert start_s <= between_s <= whole_s


@given(st.floats(1, 1e12), instants, sizes)
def test_a_constant_rate_is_bytes_over_rate(rate_bps: float, start_s: float, size_bytes: int) -> None:
    took_s = RateTrace.constant(rate_bps).finish_s(start_s, size_bytes) - start_s
    assert took_s == pytest.approx(size_bytes * 8 / rate_bps, rel=1e-9, abs=1e-9)


def test_slots_follow_each_other() -> None:
    assert RateTrace.of_slots([1e6, 2e6, 3e6], 0.5) == RateTrace((0.0, 0.5, 1.0), (1e6, 2e6, 3e6))


@given(traces, st.floats(1e-3, 5e3), traces, instants)
def test_another_trace_takes_over_at_an_instant(
    before: RateTrace, at_s: float, after: RateTrace, asked_s: float
) -> None:
    whole = before.then(at_s, after)
    expected = before.at(asked_s) if asked_s < at_s else after.at(asked_s - at_s)
    near = [start_s + at_s for start_s in after.starts_s if abs(start_s + at_s - asked_s) < 1e-9]
    assert near or whole.at(asked_s) == expected


def test_a_trace_takes_over_at_once_and_where_a_piece_begins() -> None:
    other = RateTrace((0.0, 2.0), (1e3, 2e3))
    assert STEP.then(0.0, other) == other
    assert STEP.then(1.0, other) == RateTrace((0.0, 1.0, 3.0), (8e6, 1e3, 2e3))
    assert STEP.then(7.0, other) == RateTrace((0.0, 1.0, 3.0, 7.0, 9.0), (8e6, 16e6, 4e6, 1e3, 2e3))


def test_what_is_before_an_instant_is_left_out() -> None:
    assert STEP.since(0.0) == STEP
    assert STEP.since(0.25) == RateTrace((0.0, 0.75, 2.75), (8e6, 16e6, 4e6))
    assert STEP.since(1.0) == RateTrace((0.0, 2.0), (16e6, 4e6))
    assert STEP.since(5.0) == RateTrace.constant(4e6)


@pytest.mark.parametrize(
    ("starts_s", "rates_bps", "told"),
    [
        ((), (), "0 instants and 0 rates"),
        ((0.0, 1.0), (1e6,), "2 instants and 1 rates"),
        ((0.5,), (1e6,), "first time is 0.5 s; it must be 0"),
        ((math.nan,), (1e6,), "first time is nan"),
        ((0.0, 2.0, 2.0), (1e6, 1e6, 1e6), "2.0 s is not after 2.0 s"),
        ((0.0, math.nan), (1e6, 1e6), "nan s is not after"),
        ((0.0, math.inf), (1e6, 1e6), "inf s is not after"),
        ((0.0,), (0.0,), "rate 0.0 bit/s is outside 1..1e"),
        ((0.0,), (math.nan,), "rate nan"),
        ((0.0,), (1e13,), "outside 1..1e"),
        ((0.0, 1.0), (1e6, -1.0), "rate -1.0"),
    ],
)
def test_a_trace_checks_itself(starts_s: tuple[float, ...], rates_bps: tuple[float, ...], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        RateTrace(starts_s, rates_bps)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)

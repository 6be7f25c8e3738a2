"""Traces from CSV files and from a scenario's channel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.errors import SettingsError
from splitnet.runtime import trace_sources
from splitnet.runtime.rates import RateTrace
from splitnet.runtime.trace_sources import channel_traces, parse_trace, read_trace
from splitnet.scenario import load_scenario


@pytest.mark.parametrize(
    "text",
    [
        "0,1e6\n1.5,20e6\n",
        "time_s,rate_bps\n0,1000000\n1.5,2.e+7",
        " time_s , rate_bps \r\n\r\n 0 , 1E6\r\n1.5,20000000.0\r\n\r\n",
        "\n\n-0,1e6\n1.5 ,+.2e8",
    ],
)
def test_rows_with_and_without_a_header(text: str) -> None:
    assert parse_trace(text, "a.csv") == RateTrace((0.0, 1.5), (1e6, 20e6))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a.csv holds no row"),
        ("time_s,rate_bps\n", "a.csv holds no row"),
        ("0,1e6\ntime_s,rate_bps", "a.csv line 2: 'time_s,rate_bps' is not two numbers"),
        ("rate_bps,time_s\n0,1e6", "a.csv line 1: 'rate_bps,time_s'"),
        ("0,1e6\n\n1", "a.csv line 3: '1' is not two numbers"),
        ("0,1e6,7", "a.csv line 1: '0,1e6,7'"),
        ("0;1e6", "a.csv line 1: '0;1e6'"),
        ("0,20mbit", "a.csv line 1: '0,20mbit'"),
        ("0,nan", "a.csv line 1: '0,nan'"),
        ("0,1_000", "a.csv line 1: '0,1_000'"),
        ("0,٣", "a.csv line 1: '0,٣'"),
        ("0,1e6\n1," + "9" * 200_000, "a.csv line 2: '1,99999"),
        ("1,1e6", "a.csv line 1: the first time is 1.0 s; it must be 0"),
        ("0,1e6\n2,1e6\n2,2e6", "a.csv line 3: time 2.0 s is not after 2.0 s"),
        ("0,1e6\n1,0", "a.csv line 2: rate 0.0 bit/s is outside 1..1e"),
        ("0,-5", "a.csv line 1: rate -5.0 bit/s"),
        ("0,1e999", "a.csv line 1: rate inf bit/s"),
        ("0,1e6\n1e-9,2e6", "a.csv line 2: time 1e-09 s is less than 1e-06 s after"),
        ("0,1e6\n2e7,2e6", "a.csv line 2: a trace has at most 100000 rows and 1e+07 s"),
    ],
)
def test_the_line_that_is_wrong_is_named(text: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_trace(text, "a.csv")
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


numbers = st.one_of(
    st.integers(-3, 10**13).map(str), st.floats(-2, 1e13).map(repr), st.text("0123456789.+-eE nai", max_size=8)
)
lines = st.lists(numbers, min_size=1, max_size=3).map(",".join)


@given(st.text() | st.lists(lines, max_size=6).map("\n".join))
def test_any_text_is_a_trace_or_one_line_that_says_why_not(text: str) -> None:
    refused = ""
    try:
        trace = parse_trace(text, "a.csv")
    except SettingsError as error:
        refused = str(error)
    if refused:
        assert refused.startswith("a.csv")
        assert len(refused.splitlines()) == 1
        return
    rows = [line for line in text.split("\n") if line.strip() and "time_s" not in line]
    assert len(trace.starts_s) == len(rows)
    assert [float(row.split(",")[1]) for row in rows] == list(trace.rates_bps)


@given(st.lists(st.tuples(st.floats(1e-3, 10), st.floats(1, 1e12)), min_size=1, max_size=20), st.booleans())
def test_what_was_written_is_read(pieces: list[tuple[float, float]], header: bool) -> None:
    starts_s = [sum(length for length, _ in pieces[:place]) for place in range(len(pieces))]
    rows = [f"{start_s!r},{rate!r}" for start_s, (_, rate) in zip(starts_s, pieces, strict=True)]
    trace = parse_trace("\n".join(["time_s,rate_bps"] * header + rows), "a.csv")
    assert trace == RateTrace(tuple(map(float, starts_s)), tuple(rate for _, rate in pieces))


def test_too_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_sources, "MOST_ROWS", 3)
    rows = ["0,5", "1,6", "2,7", "3,8"]
    assert len(parse_trace("\n".join(rows[:3]), "a.csv").starts_s) == 3
    with pytest.raises(SettingsError, match=r"a\.csv line 4: a trace has at most 3 rows"):
        parse_trace("\n".join(rows), "a.csv")


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbftime_s,rate_bps\r\n0,5000\r\n")
    assert read_trace(path) == RateTrace.constant(5000.0)


def test_what_is_no_good_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latin, pipe, large = tmp_path / "latin.csv", tmp_path / "pipe", tmp_path / "large.csv"
    latin.write_bytes(b"0,5\n1,6\n2,\xe9")
    os.mkfifo(pipe)
    monkeypatch.setattr(trace_sources, "MOST_BYTES", 100)
    large.write_text("0,5\n" + "\n" * 100)
    for path, told in (
        (latin, "latin.csv line 3: not UTF-8"),
        (pipe, "is no file"),
        (tmp_path, "is no file"),
        (tmp_path / "none.csv", "No such file"),
        (large, "has 104 bytes, a trace at most 100"),
    ):
        with pytest.raises(SettingsError) as caught:
            read_trace(path)
        assert told in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["small", "default"])
def test_channel_traces_are_the_rates_that_a_simulation_sees(name: str) -> None:
    world = load_scenario(name).world
    traces = channel_traces(world, seed=7, slots=20, slot_s=0.25)
    seen = list(world.observations(7, 20))
    assert len(traces) == len(seen[0].rate_bps)
    for gateway, trace in enumerate(traces):
        assert list(trace.rates_bps) == [observation.rate_bps[gateway] for observation in seen]
        assert [trace.at(0.25 * slot + 0.1) for slot in range(20)] == list(trace.rates_bps)
    assert len({trace.rates_bps for trace in traces}) == len(traces)


@pytest.mark.parametrize(("slots", "slot_s"), [(0, 1.0), (10**9, 1.0), (3, 0.0), (3, -1.0)])
def test_a_channel_trace_needs_slots(slots: int, slot_s: float) -> None:
    with pytest.raises(SettingsError):
        channel_traces(load_scenario("small").world, 0, slots, slot_s)

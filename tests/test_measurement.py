"""The components of a latency against the gaps they were built from, on one clock and on two."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitnet.measurement import (
    COMPONENTS,
    ApInstants,
    BenchResult,
    CutRow,
    Sample,
    Timeline,
    interquartile_mean,
    percentile,
)

GAPS_NS = st.integers(0, 10**12)
CLOCK_NS = st.integers(-(10**18), 10**18)


@dataclass(frozen=True)
class Gaps:
    """What happens to one inference, in order, in ns."""

    bottom: int
    encode: int
    up: int
    queue: int
    decode: int
    top: int
    encode_result: int
    back: int
    decode_result: int

    def timeline(self, start_ns: int, ap_clock_ns: int = 0, shared_clock: bool = True) -> Timeline:
        """The instants; `ap_clock_ns` is how far the AP's clock is ahead of the gateway's."""
        instants = [start_ns]
        for field in fields(self):
            instants.append(instants[-1] + getattr(self, field.name))
        start, computed, encoded, *at_ap, received, end = instants
        ap = ApInstants(*(instant + ap_clock_ns for instant in at_ap))
        return Timeline(start, computed, encoded, received, end, ap, shared_clock)


GAPS = st.builds(Gaps, *[GAPS_NS] * len(fields(Gaps)))


def ns(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e9)


@settings(deadline=None)
@given(GAPS, CLOCK_NS)
def test_on_one_clock_every_component_is_its_gap(gaps: Gaps, start_ns: int) -> None:
    line = gaps.timeline(start_ns)
    assert {name: ns(getattr(line, name)) for name in COMPONENTS} == {
        "gateway_s": gaps.bottom,
        "encode_s": gaps.encode + gaps.encode_result,
        "link_s": gaps.up,
        "queue_s": gaps.queue,
        "decode_s": gaps.decode + gaps.decode_result,
        "ap_s": gaps.top,
        "return_s": gaps.back,
    }


@settings(deadline=None)
@given(GAPS, CLOCK_NS, CLOCK_NS, st.booleans())
def test_components_add_up_to_the_total(gaps: Gaps, start_ns: int, ahead_ns: int, shared: bool) -> None:
    line = gaps.timeline(start_ns, 0 if shared else ahead_ns, shared)
    total_ns = sum(getattr(gaps, field.name) for field in fields(gaps))
    assert ns(line.total_s) == total_ns
    assert sum(ns(getattr(line, name)) or 0 for name in COMPONENTS) == total_ns
    assert ns(line.overhead_s) == total_ns - gaps.bottom - gaps.top


@settings(deadline=None)
@given(GAPS, CLOCK_NS, CLOCK_NS)
def test_across_hosts_the_link_is_the_round_trip_less_the_ap(gaps: Gaps, start_ns: int, ahead_ns: int) -> None:
    line = gaps.timeline(start_ns, ahead_ns, shared_clock=False)
    assert ns(line.link_s) == gaps.up + gaps.back
    assert line.return_s is None


@settings(deadline=None)
@given(GAPS_NS, GAPS_NS, CLOCK_NS)
def test_at_the_last_cut_nothing_leaves_the_gateway(bottom: int, copy: int, start_ns: int) -> None:
    computed = start_ns + bottom
    line = Timeline(start_ns, computed, computed, computed, computed + copy, None, True)
    assert ns(line.total_s) == bottom + copy
    assert ns(line.gateway_s) == bottom
    assert (line.link_s, line.queue_s, line.ap_s, line.return_s) == (0, 0, 0, 0)
    assert sum(ns(getattr(line, name)) or 0 for name in COMPONENTS) == bottom + copy


ORDERED = Gaps(*range(1, 10)).timeline(100)


@pytest.mark.parametrize("name", ["computed_ns", "encoded_ns", "received_ns", "end_ns"])
def test_an_instant_of_the_gateway_before_its_forerunner_is_refused(name: str) -> None:
    earlier: dict[str, Any] = {name: ORDERED.start_ns - 1}
    with pytest.raises(ValueError, match="gateway do not follow"):
        replace(ORDERED, **earlier)


@pytest.mark.parametrize("name", ["dequeued_ns", "decoded_ns", "computed_ns", "encoded_ns"])
def test_an_instant_of_the_ap_before_its_forerunner_is_refused(name: str) -> None:
    assert ORDERED.ap is not None
    with pytest.raises(ValueError, match="AP do not follow"):
        replace(ORDERED.ap, **{name: ORDERED.ap.received_ns - 1})


def sample(cut: int, repeat: int, bottom_ms: int, *, equal: bool = True, error: float = 0.0) -> Sample:
    line = Gaps(bottom_ms * 10**6, *[0] * 8).timeline(0)
    return Sample(cut, repeat, line, 4000, equal, error)


def test_statistics_of_a_row_are_those_of_its_samples() -> None:
    samples = tuple(sample(3, at, ms) for at, ms in enumerate([100, *range(100)]))
    row = CutRow(3, "layer", True, 4000, samples)
    # 0, 1, ..., 99, 100 ms: the median is the 51st, the 95th percentile the 96th of them.
    assert row.total_s == pytest.approx(0.050)
    assert row.total_p95_s == pytest.approx(0.095)
    assert row.median_s("gateway_s") == pytest.approx(0.050)
    assert row.median_s("link_s") == 0


def test_one_sample_across_hosts_leaves_the_return_unknown() -> None:
    apart = replace(sample(3, 1, 5), timeline=replace(ORDERED, shared_clock=False))
    assert CutRow(3, "layer", True, 4000, (sample(3, 0, 5), apart)).median_s("return_s") is None


def test_one_differing_output_makes_a_row_differ() -> None:
    row = CutRow(3, "layer", True, 4000, (sample(3, 0, 5), sample(3, 1, 5, equal=False, error=0.25)))
    assert not row.bitwise_equal
    assert row.max_error == 0.25


def test_a_row_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="cut 7 has no samples"):
        CutRow(7, "layer", True, 0, ())


def test_a_result_names_its_best_cut_and_gives_a_record_per_sample() -> None:
    rows = (
        CutRow(0, "input", True, 4000, (sample(0, 0, 9), sample(0, 1, 9), sample(0, 2, 1))),
        CutRow(2, "fc", True, 4000, (sample(2, 0, 5), sample(2, 1, 5), sample(2, 2, 70))),
    )
    result = BenchResult("toy", 2, rows, {"gateway": (0.004, 0.002, 0.009)}, {}, None)
    assert result.to_dict()["best_cut"] == 2
    assert result.to_dict()["local_s"] == {"gateway": 0.004}
    records = result.to_records()
    assert [(record["cut"], record["layer"], record["repeat"]) for record in records] == [
        (0, "input", 0), (0, "input", 1), (0, "input", 2), (2, "fc", 0), (2, "fc", 1), (2, "fc", 2)
    ]  # fmt: skip
    assert records[5]["total_s"] == pytest.approx(0.070)


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (25, 1.5), (50, 2.0), (95, 2.9), (100, 3.0)])
def test_percentile_interpolates_between_neighbours(percent: float, expected: float) -> None:
    assert percentile([3.0, 1.0, 2.0], percent) == pytest.approx(expected)


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    assert interquartile_mean([3.0]) == 3.0
    assert interquartile_mean([9.0, 1.0, 2.0]) == 4.0  # too few to leave any out
    assert interquartile_mean([100.0, 1.0, 2.0, 3.0, -50.0, 4.0, 5.0, 6.0]) == 3.5  # of 2, 3, 4, 5

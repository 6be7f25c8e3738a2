"""The link model: synthetic links of known rate, delay and cost, and files that are not link models."""

from __future__ import annotations

import itertools
import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.controller.link_model import FASTEST_BPS, LinkModel, ProbePoint, fit_link
from splitnet.errors import SettingsError

SIZES = (1_000, 4_000, 16_000, 64_000, 256_000, 1_024_000, 4_096_000)
ANSWER = 4_000

rates = st.floats(1e6, 1e10)
times = st.floats(0.0, 0.05)


def synthetic(
    rate_bps: float, delay_s: float, message_s: float, *, noise: float = 0.0, two_hosts: bool = False, seed: int = 0
) -> list[ProbePoint]:
    """Nine probes of each size of a link that the formulas describe, every time off by up to `noise`."""
    chance = random.Random(seed)

    def off(seconds: float) -> float:
        return seconds * (1 + chance.uniform(-noise, noise))

    points = []
    for size in SIZES * 9:
        up_s, return_s = off(delay_s + 8 * size / rate_bps), off(delay_s + 8 * ANSWER / rate_bps)
        ends_s = off(2 * message_s)
        points.append(
            ProbePoint(size, ANSWER, up_s + return_s, None, ends_s)
            if two_hosts
            else ProbePoint(size, ANSWER, up_s, return_s, ends_s)
        )
    return points


@given(rates, times, times, st.booleans())
def test_exact_probes_give_the_link_back(rate_bps: float, delay_s: float, message_s: float, two_hosts: bool) -> None:
    model = fit_link(synthetic(rate_bps, delay_s, message_s, two_hosts=two_hosts))
    assert model.rate_bps == pytest.approx(rate_bps, rel=1e-6)
    assert model.delay_s == pytest.approx(delay_s, rel=1e-6, abs=1e-9)
    assert model.message_s == pytest.approx(message_s, rel=1e-6, abs=1e-9)
    assert model.up == model.back == ()


@given(st.floats(1e6, 1e9), st.floats(1e-4, 0.02), st.floats(1e-5, 1e-3), st.booleans(), st.integers(0, 99))
def test_noisy_probes_give_nearly_the_link_and_nearly_its_times(
    rate_bps: float, delay_s: float, message_s: float, two_hosts: bool, seed: int
) -> None:
    points = synthetic(rate_bps, delay_s, message_s, noise=0.02, two_hosts=two_hosts, seed=seed)
    model, truth = fit_link(points), LinkModel(rate_bps, delay_s, message_s)
    largest_s = 8 * SIZES[-1] / rate_bps
    assert model.rate_bps == pytest.approx(rate_bps, rel=0.05 * (delay_s + largest_s) / largest_s)
    assert model.message_s == pytest.approx(message_s, rel=0.04)
    for size in (*SIZES, 12_800_000):
        assert model.round_trip_s(size, ANSWER) == pytest.approx(truth.round_trip_s(size, ANSWER), rel=0.06)


def test_a_probe_that_met_other_work_moves_nothing() -> None:
    points = synthetic(50e6, 5e-3, 1e-4)
    disturbed = [replace(point, up_s=point.up_s + 0.5) for point in points[: len(SIZES) * 3]]
    assert fit_link(disturbed + points[len(SIZES) * 3 :]) == fit_link(points)


@given(
    st.lists(
        st.tuples(
            st.integers(4, 10**8),
            st.floats(0.0, 10.0),
            st.one_of(st.none(), st.floats(0.0, 10.0)),
            st.floats(0.0, 1.0),
        ),
        min_size=2,
        unique_by=lambda row: row[0],
    )
)
def test_whatever_was_measured_no_parameter_is_negative_and_more_bytes_take_no_less(rows: list[Any]) -> None:
    model = fit_link(ProbePoint(size, ANSWER, up_s, back_s, ends_s) for size, up_s, back_s, ends_s in rows)
    assert 0 < model.rate_bps <= FASTEST_BPS * (1 + 1e-9)
    assert min(model.delay_s, model.message_s, model.end_byte_s) >= 0
    predicted = [model.upload_s(size) for size in sorted(size for size, *_ in rows)]
    assert all(later >= sooner * (1 - 1e-12) for sooner, later in itertools.pairwise(predicted))
    assert LinkModel.from_dict(json.loads(json.dumps(model.to_dict()))) == model


def test_a_link_that_is_not_linear_in_bytes_is_predicted_by_a_table() -> None:
    """As loopback: bytes that fit the caches cost a third of those that do not."""
    true = {size: 3e-4 + size * 1e-10 + max(size - 1e6, 0) * 3e-10 for size in (*SIZES, 8_192_000)}
    model = fit_link(ProbePoint(size, ANSWER, seconds, 2.5e-4) for size, seconds in true.items() if size != 8_192_000)
    assert len(model.up) == len(SIZES)
    assert model.return_s(ANSWER) == pytest.approx(2.5e-4)
    for size in SIZES:
        assert model.upload_s(size) == pytest.approx(true[size])
    between = (256_000 + 1_024_000) / 2
    assert model.upload_s(between) == pytest.approx((true[256_000] + true[1_024_000]) / 2)
    assert model.upload_s(8_192_000) == pytest.approx(true[8_192_000], rel=0.01)
    assert 0 < model.upload_s(0) <= model.upload_s(1000)


def test_a_table_that_two_hosts_gave_is_of_the_way_up_alone() -> None:
    def up_s(size: int) -> float:
        return 1e-3 + size * (2e-9 if size < 100_000 else 1e-9)

    model = fit_link(ProbePoint(size, ANSWER, up_s(size) + 1e-3, None) for size in SIZES)
    assert len(model.up) == len(SIZES)
    assert model.back == ()
    for size in SIZES:
        assert model.upload_s(size) + model.return_s(ANSWER) == pytest.approx(up_s(size) + 1e-3)


def test_codecs_and_copies_are_paid_by_the_byte_at_the_ends() -> None:
    points = [replace(point, ends_s=2e-4 + 3e-9 * point.sent_bytes) for point in synthetic(1e8, 1e-3, 0)]
    model = fit_link(points)
    assert model.ends_s(500_000) == pytest.approx(2e-4 + 1.5e-3)
    assert model.message_s == pytest.approx(1e-4)


def test_a_named_link_costs_bits_over_rate_and_its_delay() -> None:
    link = LinkModel.of(50e6, 5e-3)
    assert link.upload_s(1_250_000) == pytest.approx(0.2 + 5e-3)
    assert link.round_trip_s(1_250_000, 0) == pytest.approx(0.2 + 10e-3)
    slower = replace(link, up=((1.0, 1.0),), message_s=1e-3).scaled(25e6)
    assert slower == LinkModel(25e6, 5e-3, 1e-3)
    with pytest.raises(ValueError, match="-1 bytes"):
        link.upload_s(-1)


def test_one_size_is_too_little() -> None:
    with pytest.raises(SettingsError, match="at least 2 sizes"):
        fit_link(point for point in synthetic(1e8, 0, 0) if point.sent_bytes == 1000)


GOOD = LinkModel(5e7, 5e-3, 1e-4).to_dict()


@pytest.mark.parametrize(
    ("obj", "complaint"),
    [
        ([1, 2], "a JSON object, not list"),
        ({}, "version None"),
        (GOOD | {"version": 2}, "version 2; this splitnet reads 1"),
        (GOOD | {"rate": 5}, "no field 'rate'"),
        (GOOD | {"rate_bps": 0}, "rate_bps of 0"),
        (GOOD | {"rate_bps": math.inf}, "rate_bps of inf"),
        (GOOD | {"rate_bps": "50mbit"}, "rate_bps"),
        (GOOD | {"delay_s": -1e-3}, "delay_s of -0.001"),
        (GOOD | {"delay_s": math.nan}, "delay_s of nan"),
        (GOOD | {"message_s": math.inf}, "message_s of inf"),
        (GOOD | {"up": [[1, 2, 3]]}, "up"),
        (GOOD | {"up": [[10, 1.0], [20, 0.5]]}, "'up' does not ascend"),
        (GOOD | {"back": [[10, 1.0], [10, 1.5]]}, "'back' does not ascend"),
        (GOOD | {"up": [[10, math.nan]]}, "'up' does not ascend"),
        ({"version": 1}, "rate_bps"),
    ],
)
def test_what_is_no_link_model_is_refused_in_one_line(obj: Any, complaint: str) -> None:
    assert LinkModel.from_dict(GOOD).delay_s == 5e-3
    with pytest.raises(SettingsError) as caught:
        LinkModel.from_dict(obj)
    assert complaint in str(caught.value)
    assert "probe the link" in str(caught.value) or "give" in str(caught.value)
    assert "\n" not in str(caught.value)

"""The best cut at every rate against brute force over dense rates, and what an option costs by hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from splitnet.controller.best_cut import (
    FASTEST_BPS,
    SLOWEST_BPS,
    CodecCost,
    Option,
    best_by_rate,
    best_option,
    codec_costs,
    options,
)
from splitnet.controller.latency import FlopsLatency, cut_table
from splitnet.errors import SettingsError
from tests.profiles import a_layer, a_profile, some_facts


def an_option(bits: int, without_link_s: float, cut: int = 0) -> Option:
    return Option(cut, f"layer{cut}", "none", without_link_s, 0.0, 0.0, 0.0, bits)


def of(pairs: Sequence[tuple[int, float]]) -> list[Option]:
    return [an_option(bits, seconds, cut) for cut, (bits, seconds) in enumerate(pairs)]


# --- the envelope

lines = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 10), st.integers(0, 10**9)),
        st.one_of(st.integers(0, 10).map(float), st.floats(1e-5, 10.0)),
    ),
    min_size=1,
    max_size=12,
).map(of)


@given(lines)
@example(of([(0, 1.0), (100, 1.0 - 100 / SLOWEST_BPS)]))  # equal at the slowest rate
@example(of([(0, 5.0), (0, 5.0)]))
@example(of([(10**6, 3.0), (10**6, 2.0), (10**6, 2.5)]))
@example(of([(0, 3.0), (10**7, 2.0), (2 * 10**7, 1.0), (3 * 10**7, 0.0)]))  # all meet at one rate
@example(of([(0, 1.0), (10**15, 1.0 - 1e-16)]))  # meets beyond any rate
def test_no_rate_has_a_better_option_than_its_stretch(found: list[Option]) -> None:
    stretches = best_by_rate(found)
    assert (stretches[0].from_bps, stretches[-1].to_bps) == (SLOWEST_BPS, FASTEST_BPS)
    for here, after in itertools.pairwise(stretches):
        assert here.to_bps == after.from_bps
    assert all(stretch.from_bps < stretch.to_bps for stretch in stretches)

    meetings = [
        (one.bits - other.bits) / (other.without_link_s - one.without_link_s)
        for one, other in itertools.combinations(found, 2)
        if one.without_link_s != other.without_link_s
    ]
    corners = np.array([rate for rate in meetings if SLOWEST_BPS <= rate <= FASTEST_BPS])
    near = (corners[:, None] * [1 - 1e-6, 1, 1 + 1e-6]).ravel()
    rates = np.concatenate([np.geomspace(SLOWEST_BPS, FASTEST_BPS, 400), near.clip(SLOWEST_BPS, FASTEST_BPS)])
    bits = np.array([float(option.bits) for option in found])
    seconds = np.array([option.without_link_s for option in found])
    least = (seconds[:, None] + bits[:, None] / rates).min(axis=0)
    for rate, best_s in zip(rates, least, strict=True):
        for stretch in stretches:
            if stretch.from_bps <= rate <= stretch.to_bps:
                assert stretch.option.total_s(rate) == pytest.approx(best_s, rel=1e-9, abs=1e-12)


@given(lines)
@example(of([(0, 3.0), (10**7, 2.0), (2 * 10**7, 1.0), (3 * 10**7, 0.0)]))
def test_stretches_change_where_both_are_equal_and_no_oftener(found: list[Option]) -> None:
    for here, after in itertools.pairwise(best_by_rate(found)):
        assert after.option.without_link_s < here.option.without_link_s
        assert after.option.bits > here.option.bits
        at_s = here.option.total_s(here.to_bps)
        assert after.option.total_s(here.to_bps) == pytest.approx(at_s, rel=1e-9, abs=1e-12)


def test_crossovers_by_hand() -> None:
    """All on the gateway takes 100 ms; 1 Mbit with 50 ms wins from 20 Mbit/s, 5 Mbit with 10 ms from 100 Mbit/s."""
    gateway, middle, ap = an_option(0, 0.100, 9), an_option(10**6, 0.050, 4), an_option(5 * 10**6, 0.010, 0)
    never = an_option(2 * 10**6, 0.060, 5)
    stretches = best_by_rate([ap, never, middle, gateway])
    assert [stretch.option for stretch in stretches] == [gateway, middle, ap]
    assert [stretch.to_bps for stretch in stretches] == pytest.approx([20e6, 100e6, 1e10], rel=1e-12)
    assert best_by_rate([ap, never, middle, gateway], 25e6, 90e6)[0].option == middle
    assert len(best_by_rate([ap, never, middle, gateway], 25e6, 90e6)) == 1


def test_one_that_is_equal_at_the_slowest_rate_wins_beyond_it() -> None:
    stays, gains = of([(0, 1.0), (100, 1.0 - 100 / SLOWEST_BPS)])
    assert stays.total_s(SLOWEST_BPS) == gains.total_s(SLOWEST_BPS)
    [stretch] = best_by_rate([stays, gains])
    assert stretch.option == gains


@pytest.mark.parametrize("rate", [1e5, 1e7, 1e10])
def test_of_equals_the_one_that_sends_least_and_then_the_first_cut(rate: float) -> None:
    bits = int(rate)
    same = [an_option(bits, 1.0, 0), an_option(0, 2.0, 7), an_option(0, 2.0, 5)]
    assert best_option(same, rate) == same[2]


def test_nothing_to_choose_from() -> None:
    with pytest.raises(ValueError, match="no cut to choose from"):
        best_by_rate([])
    for rates in ((0.0, 1e6), (1e6, 1e6), (1e7, 1e6), (-1.0, 1e6)):
        with pytest.raises(ValueError, match="not in order"):
            best_by_rate([an_option(0, 1.0)], *rates)


# --- options

FACTS = some_facts(
    [a_layer("a", flops=1000), a_layer("b", "ReLU"), a_layer("c", "Linear", flops=500)],
    payload_bytes=[800, 4000, 2000, 40],
    refused=[2],
    result_bytes=40,
)
GATEWAY, AP = FlopsLatency(1e6), FlopsLatency(1e7)
COSTS = {"none": (CodecCost(1e-5, 0.0), CodecCost(2e-5, 1e-9)), "int8": (CodecCost(1e-4, 1e-8), CodecCost(0.0, 2e-8))}


def test_an_option_by_hand() -> None:
    tables = {codec: cut_table(FACTS, GATEWAY, AP, codec) for codec in ("none", "int8")}
    found = options(FACTS, tables, COSTS, delay_s=3e-3, message_s=2e-4)
    assert [(option.cut, option.codec) for option in found] == [
        (0, "none"),
        (1, "none"),
        (3, "none"),
        (0, "int8"),
        (1, "int8"),
    ]
    coded = found[4]
    assert (coded.layer, coded.bits) == ("a", 8 * 4000 // 4 + 8 * 40)  # the result comes back as it is
    assert coded.gateway_s == pytest.approx(1e-3)
    assert coded.ap_s == pytest.approx(0.5e-4)
    assert coded.codec_s == pytest.approx(1e-4 + 4000 * 1e-8 + 4000 * 2e-8)
    assert coded.fixed_s == pytest.approx(6.4e-3)
    assert coded.total_s(1e6) == pytest.approx(1e-3 + 2.2e-4 + 6.4e-3 + 0.5e-4 + 8.32e-3)


@pytest.mark.parametrize("codec", ["none", "int8"])
def test_all_on_the_gateway_is_an_option_whatever_the_codec_and_uses_no_link(codec: str) -> None:
    found = options(FACTS, {codec: cut_table(FACTS, GATEWAY, AP, codec)}, COSTS, delay_s=3e-3, message_s=2e-4)
    assert [option.cut for option in found] == [0, 1, 3]
    last = found[-1]
    assert (last.codec, last.bits, last.fixed_s, last.codec_s, last.ap_s) == ("none", 0, 0.0, 0.0, 0.0)
    assert last.total_s(1.0) == pytest.approx(1.5e-3)


def test_codec_costs_come_out_of_a_profile_as_they_went_in() -> None:
    profile = a_profile(
        FACTS, [1e-3, 0, 1e-3], encode={"int8": (1e-4, 3e-9), "none": (1e-5, 0)}, decode={"int8": (2e-5, 1e-8)}
    )
    encode, decode = codec_costs(profile, "int8")
    assert (encode.base_s, encode.byte_s) == pytest.approx((1e-4, 3e-9), rel=1e-3)
    assert (decode.base_s, decode.byte_s) == pytest.approx((2e-5, 1e-8), rel=1e-3)
    assert encode.of(10_000) == pytest.approx(1.3e-4, rel=1e-3)
    assert codec_costs(profile, "none")[0].of(10**6) == pytest.approx(1e-5, rel=1e-3)


def test_a_codec_that_was_not_timed() -> None:
    with pytest.raises(SettingsError, match="'zip' was not timed in the profile of net"):
        codec_costs(a_profile(FACTS, [1e-3, 0, 1e-3]), "zip")

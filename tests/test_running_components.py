"""Parts of a run's result, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from splitnet.running.components import (
    component,
    components,
    hash_rates_achieved,
    left_out_errors,
    links_achieved,
    noise_floor,
    speeds_achieved,
)
from splitnet.runtime.speed import Use
from splitnet.slot_record import SlotRecord, Twin
from tests.slot_records import AP_OF, GATEWAY_OF, mined, record, times, transfer, use

# --- predicted against measured


def test_errors_are_relative_to_what_was_measured() -> None:
    found = component([1.0, 2.0], [2.0, 2.0])
    assert (found.count, found.left_out) == (2, 0)
    assert (found.predicted_s, found.measured_s) == (1.5, 2.0)
    assert found.mape == 0.25  # 1/2 and 0
    assert found.ratio == pytest.approx(4 / 3)
    # What the ratio leaves is 2 - 4/3 and 2 - 8/3, over 1.5 that is 4/9 either way. Student's t of one degree is
    # tan(0.95 pi / 2), the standard error 4/9.
    assert found.ci95 == pytest.approx(math.tan(0.475 * math.pi) * 4 / 9)


def test_what_is_too_short_is_left_out_and_counted() -> None:
    found = component([1.0, 9.0, 1.0], [2.0, 0.004, 0.0])
    assert (found.count, found.left_out, found.mape, found.ci95) == (1, 2, 0.5, None)
    nothing = component([1.0], [0.001])
    assert (nothing.count, nothing.left_out, nothing.measured_s, nothing.mape, nothing.ratio) == (
        0,
        1,
        None,
        None,
        None,
    )
    assert component([1.0, 1.0], [0.001, 0.0], shortest_s=0.0).count == 1


def test_what_was_not_predicted_at_all_is_wholly_wrong() -> None:
    found = component([0.0], [0.5])
    assert (found.mape, found.ratio, found.ci95) == (1.0, None, None)


def test_components_of_gateways_are_one_by_one_and_of_slots_too() -> None:
    found = components([record(0), record(1)])
    assert found["gateway"].count == 4
    assert found["gateway"].mape == pytest.approx((0.125 / 0.625 + 0) / 2)
    assert found["link"].mape == 0.0
    assert found["ap"].mape == pytest.approx((0.125 / 0.375 + 0) / 2)
    assert found["barrier"].mape == pytest.approx(0.2)  # 1.0 told, 1.25 taken
    assert (found["block"].mape, found["block"].ratio) == (None, 2.0)
    assert found["block"].ci95 == 0.0  # twice as long each time


# --- the noise floor


def test_a_line_through_the_others_tells_all_that_lies_on_a_line() -> None:
    work = np.array([1.0, 2.0, 4.0, 8.0])
    assert left_out_errors(np.stack([work, 3 + 2 * work], axis=1)) == pytest.approx(np.zeros(4), abs=1e-12)


def test_what_others_tell_is_what_a_fit_without_this_one_says() -> None:
    draw = np.random.default_rng(5)
    work = draw.uniform(1, 2, 12)
    taken = 0.3 + work * draw.uniform(0.9, 1.1, 12)
    others = [
        abs(
            np.polyval(np.polyfit(np.delete(work, place), np.delete(taken, place), 1), work[place]) / taken[place] - 1
        )
        for place in range(12)
    ]
    assert left_out_errors(np.stack([work, taken], axis=1)) == pytest.approx(np.array(others))


def test_of_equal_work_the_mean_of_the_others_counts() -> None:
    errors = left_out_errors(np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 4.0]]))
    assert errors == pytest.approx([1.5, 1.5, 0.75])  # (1 + 4)/2 for 1, and 1 for 4


def test_one_that_alone_has_another_work_cannot_be_told() -> None:
    assert len(left_out_errors(np.array([[1.0, 1.0], [1.0, 1.2], [1.0, 1.1], [5.0, 7.0]]))) == 3


def worked(slot: int, cut: int, points: int, cpu_s: float, slowness: float = 1.0) -> SlotRecord:
    """A slot in which gateway 0 took so much CPU time; its profile says 10 ms a data point, told so much slower."""
    return record(
        slot,
        twins=[Twin(points, cut, 0.1), Twin(7, 4, 0.1)],
        predicted=times([0.02 * points * slowness, 0.25], [0.25, 0.25], [0.0, 0.25], 0.25),
        bottoms=[Use("bottoms", 0.5, 0.5, cpu_s, 2 * cpu_s), None],
        tops=[None, None],
        slowness=[slowness, 1.0, 1.0, 1.0],
    )


def test_the_noise_floor_is_of_the_same_half_at_the_same_cuts() -> None:
    on_lines = [worked(slot, 3, slot + 1, 0.02 * (slot + 1)) for slot in range(4)]
    on_lines += [worked(4 + slot, 6, slot + 1, 0.1 + 0.01 * slot) for slot in range(4)]
    assert noise_floor(on_lines, GATEWAY_OF, AP_OF) == pytest.approx(0.0, abs=1e-12)
    tracked = [worked(slot, 3, slot + 1, 0.02 * (slot + 1), slowness=1 + slot) for slot in range(4)]
    assert noise_floor(tracked, GATEWAY_OF, AP_OF) == pytest.approx(0.0, abs=1e-12)
    mixed = [worked(slot, 3, slot + 1, cpu_s) for slot, cpu_s in enumerate((0.02, 0.04, 0.06, 0.16))]
    # The line through the first three tells 0.08 of 0.16; through the others 0.16 - 0.06, … in the same way.
    others = [
        abs(
            np.polyval(np.polyfit(np.delete([1, 2, 3, 4], place), np.delete([2, 4, 6, 16], place), 1), place + 1)
            - taken
        )
        / taken
        for place, taken in enumerate((2, 4, 6, 16))
    ]
    assert others[3] == pytest.approx(0.5)
    assert noise_floor(mixed, GATEWAY_OF, AP_OF) == pytest.approx(np.mean(others))


def test_tops_count_with_the_slowness_of_their_ap() -> None:
    """Both gateways are on AP 1, which is told to be slower and slower; their tops are as their profile says."""
    slots = [
        record(
            slot,
            predicted=times([0.0, 0.0], [0.25, 0.25], [0.1 * (1 + slot) * points for points in (5, 7 + slot)], 0.25),
            bottoms=[None, None],
            tops=[Use("gateway 0", 0.5, 0.5, 0.25, 0.5), Use("gateway 1", 0.5, 0.5, 0.05 * (7 + slot), 1.0)],
            slowness=[1.0, 1.0, 9.0, 1.0 + slot],
        )
        for slot in range(5)
    ]
    assert noise_floor(slots, GATEWAY_OF, (1, 1)) == pytest.approx(0.0, abs=1e-12)


def test_too_few_or_too_short_repeats_tell_no_noise_floor() -> None:
    assert noise_floor([worked(slot, 3, slot + 1, 0.1) for slot in range(3)], GATEWAY_OF, AP_OF) is None
    short = [worked(slot, 3, slot + 1, 0.002) for slot in range(5)]
    assert noise_floor(short, GATEWAY_OF, AP_OF) is None
    other_cuts = [worked(slot, slot, slot + 1, 0.1) for slot in range(5)]
    assert noise_floor(other_cuts, GATEWAY_OF, AP_OF) is None


# --- asked and achieved


def test_links_are_weighted_by_time_and_short_ones_left_out() -> None:
    slots = [
        record(0, uploads=[transfer(1_000_000, 1.0), None]),  # as asked, for 1 s
        record(1, uploads=[transfer(600_000, 0.5), None]),  # a fifth too fast, for half a second
        record(2, uploads=[transfer(4_000, 0.4), None]),  # 4 ms: waking up decides
        record(3, uploads=[transfer(8_000_000, 1.0, burst_bytes=1_000_000), None]),  # all of it a burst
    ]
    first, second = links_achieved(slots)
    assert first.ratio == pytest.approx((1.0 * 1 + 0.5 * 1.2) / 1.5)
    assert (first.name, first.count, first.left_out, first.total_s) == ("link of gateway 0", 2, 2, 1.5)
    assert (second.ratio, second.count, second.left_out) == (None, 0, 0)


def test_where_the_kernel_keeps_the_rate_it_is_the_slots() -> None:
    slots = [record(0, asked_bps=[5e5, 1e6], uploads=[transfer(1_000_000, 1.0, None), None])]
    assert links_achieved(slots)[0].ratio == pytest.approx(2.0)


def test_speeds_are_of_every_gateway_and_every_lane() -> None:
    slots = [
        record(0, bottoms=[use(1.0, 0.5, 0.5), None], tops=[None, use(0.5, 0.2, 0.25)]),
        record(1, bottoms=[use(3.0, 0.5, 0.4), None], tops=[None, None]),
    ]
    found = speeds_achieved(slots, AP_OF)
    assert [one.name for one in found] == [
        "gateway 0",
        "gateway 1",
        "AP 0, lane of gateway 0",
        "AP 1, lane of gateway 1",
    ]
    assert [one.ratio for one in found] == [pytest.approx((1 + 3 * 0.8) / 4), None, None, pytest.approx(1.25)]
    assert (found[0].count, found[0].total_s) == (2, 4.0)


def test_hash_rates_are_of_all_that_was_mined() -> None:
    slots = [
        record(0, mined=[mined(0, 1000, 0.5, 2000), mined(0, 0, 0.5, 0.0)]),  # as asked; one that shall not mine
        record(1, mined=[mined(0, 3300, 1.5, 2000), mined(0, 5, 0.001, 2000)]),  # a tenth too fast; stopped at once
    ]
    first, second = hash_rates_achieved(slots)
    assert first.ratio == pytest.approx((1000 + 3300) / (2000 * 2.0))
    assert (first.count, second.ratio, second.left_out) == (2, None, 2)

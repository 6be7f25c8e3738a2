"""Profiles: medians and corrections by hand and by closed forms, and what a profile holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from splitnet.errors import SettingsError
from splitnet.models.reference import ModelRef
from splitnet.models.toy import TOY_NETS
from splitnet.profiling import profiler
from splitnet.profiling.energy import Meter, measure_j
from splitnet.profiling.profile import (
    WAKE_NS,
    Anchor,
    CodecTiming,
    Profile,
    affine_s,
    halves_s,
    load_profile,
    pass_medians,
)
from splitnet.profiling.profiler import MAX_THREADS, ProfileSettings, profile_model
from splitnet.wire.codecs import CODECS
from tests.profiles import measured

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def profile() -> Profile:
    return measured()


# --- medians and corrections


def test_medians_of_passes_by_hand() -> None:
    passes = ((1, 9), (5, 1), (2, 2))  # totals 10, 6, 4
    prefix, suffix = pass_medians(passes)
    assert prefix.tolist() == [0, 2, 6]  # of the totals, not the sum of the layers' medians, which is 4
    assert suffix.tolist() == [6, 2, 0]


def test_without_anchors_the_passes_stand() -> None:
    prefix, suffix = halves_s(((1, 9), (5, 1), (2, 2)), ())
    assert prefix == pytest.approx((0, 2e-9, 6e-9))
    assert suffix == pytest.approx((6e-9, 2e-9, 0))


def test_an_anchor_stands_as_it_was_measured_and_shifts_the_others() -> None:
    anchor = Anchor(cut=1, bottom_ns=(900, 500, 700), top_ns=(150, 100, 200))
    prefix, suffix = halves_s(((400, 100),), (anchor,))
    assert prefix == pytest.approx((0, 700e-9, 875e-9))  # 700, the median of what was timed alone, is 75% more
    assert suffix == pytest.approx((750e-9, 150e-9, 0))  # 50% more


def test_no_half_takes_less_than_no_time() -> None:
    anchor = Anchor(cut=1, bottom_ns=(0,), top_ns=(0,))
    prefix, suffix = halves_s(((400, 100),), (anchor,))
    assert prefix == suffix == (0, 0, 0)


@given(
    layers=st.lists(st.integers(1_000, 10_000_000), min_size=3, max_size=12),
    shares=st.tuples(st.integers(-3, 9), st.integers(-3, 9)),
    data=st.data(),
)
def test_a_slow_start_is_recovered_at_every_cut(
    layers: list[int], shares: tuple[int, int], data: st.DataObject
) -> None:
    """The first two milliseconds of a half run slower by a share; what comes after costs no more."""
    layers = [10 * layer for layer in layers]  # so that shares are whole nanoseconds
    until = np.concatenate([[0], np.cumsum(layers)])
    left = until[-1] - until
    inner = st.sampled_from(range(1, len(until) - 1))  # at an end one of the halves is empty and shows nothing
    chosen = data.draw(st.lists(inner, min_size=1, max_size=12, unique=True))
    bottoms = [int(time) + min(int(time), int(WAKE_NS)) * shares[0] // 10 for time in until]
    tops = [int(time) + min(int(time), int(WAKE_NS)) * shares[1] // 10 for time in left]
    anchors = tuple(Anchor(cut=cut, bottom_ns=(bottoms[cut],), top_ns=(tops[cut],)) for cut in chosen)
    prefix, suffix = halves_s((tuple(layers),), anchors)
    assert np.array(prefix) * 1e9 == pytest.approx(bottoms, rel=1e-6, abs=1)
    assert np.array(suffix) * 1e9 == pytest.approx(tops, rel=1e-6, abs=1)


@given(st.floats(0, 1e-3), st.floats(1e-12, 1e-8), st.lists(st.integers(1, 10**8), min_size=2, max_size=6))
def test_an_affine_cost_is_recovered(base: float, slope: float, sizes: list[int]) -> None:
    assume(max(sizes) > 2 * min(sizes))
    points = [(size, base + slope * size) for size in sizes]
    assume(all(seconds > 1e-9 for _, seconds in points))
    found_base, found_slope = affine_s(points)
    for size, seconds in points:
        assert found_base + found_slope * size == pytest.approx(seconds, rel=1e-6)


@pytest.mark.parametrize(
    "points",
    [
        [(10, 1e-3), (1000, 1e-6)],  # falls with the size
        [(1000, 1e-6), (2000, 9e-3)],  # would start below 0
        [(0, 1e-6), (0, 3e-6)],
        [(5, 2e-6)],
        [(5, 0.0), (6, 0.0)],
    ],
)
def test_no_cost_is_ever_negative(points: list[tuple[int, float]]) -> None:
    base, slope = affine_s(points)
    assert base >= 0
    assert slope >= 0
    assert base + slope > 0


# --- what a profile holds


def test_a_profile_holds_every_raw_sample_and_says_which_is_which() -> None:
    profile = measured("toy_residual", ProfileSettings(repeats=4, warmup=1, anchors=3))
    content = profile.to_dict()
    assert [layer["name"] for layer in content["layers"]] == list(TOY_NETS["toy_residual"].flops_by_layer)
    assert [len(layer["samples_ns"]) for layer in content["layers"]] == [4] * 8
    for layer in content["layers"]:
        assert layer["time_s"] == pytest.approx(float(np.median(layer["samples_ns"])) * 1e-9)
    assert [layer["payload_bytes"] for layer in content["layers"]] == list(TOY_NETS["toy_residual"].live_bytes[1:])
    timed = {anchor.cut for anchor in profile.anchors}
    assert len(timed) == 3
    assert [cut for cut, source in enumerate(content["halves_from"]) if source == "halves"] == sorted(timed)
    assert set(content["halves_from"]) == {"halves", "pass"}
    assert len(content["prefix_s"]) == len(content["suffix_s"]) == 9
    for anchor in profile.anchors:
        assert content["prefix_s"][anchor.cut] == pytest.approx(float(np.median(anchor.bottom_ns)) * 1e-9)
        assert content["suffix_s"][anchor.cut] == pytest.approx(float(np.median(anchor.top_ns)) * 1e-9)
    assert content["model"]["flops"] == content["model"]["torch_flops"] == 6912 + 9216 + 1024 + 20
    assert content["machine"]["torch"] == str(torch.__version__)
    assert min(cut["bottom_peak_bytes"] for cut in content["cuts"]) > 0


def test_every_codec_is_timed_at_clean_cuts_of_several_sizes() -> None:
    profile = measured("toy_residual")
    sizes = TOY_NETS["toy_residual"].live_bytes
    assert {timing.codec for timing in profile.codec_timings} == set(CODECS)
    for timing in profile.codec_timings:
        assert timing.cut not in (2, 3, 4)  # where two tensors cross
        assert timing.raw_bytes == sizes[timing.cut]
        assert len(timing.encode_ns) == len(timing.decode_ns) == profiler.CODEC_REPEATS
        assert min(*timing.encode_ns, *timing.decode_ns) > 0
    assert {timing.raw_bytes for timing in profile.codec_timings} >= {min(sizes), max(768, 1024)}


class Counter(Meter):
    """One joule more at every reading."""

    name = "counting"
    resolution_j = None
    update_interval_s = None

    def __init__(self) -> None:
        self.readings = 0

    def read_j(self) -> float:
        self.readings += 1
        return float(self.readings)


def test_energy_is_null_without_a_meter_and_a_number_a_layer_with_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(profiler, "find_meter", lambda device: None)
    without = measured("toy_inplace_skip")
    assert without.energy_j is None
    assert [layer["energy_j"] for layer in without.to_dict()["layers"]] == [None] * 4
    monkeypatch.setattr(profiler, "find_meter", lambda device: Counter())
    monkeypatch.setattr(profiler, "measure_j", lambda meter, run: measure_j(meter, run, 0.0))
    metered = measured("toy_inplace_skip")
    assert metered.meter == "counting"
    assert metered.energy_j == (1.0,) * 4
    metered.save(tmp_path / "p.json")
    assert load_profile(tmp_path / "p.json") == metered


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"layers_ns": ()}, "passes of 5 layers"),
        ({"layers_ns": ((1, 2, 3, 4),)}, "passes of 5 layers"),
        ({"layers_ns": ((1, 2, -3, 4, 5),)}, "a pass took -3"),
        ({"layers_ns": ((1, 2, 1 << 60, 4, 5),)}, "a pass took 1.."),
        ({"threads": 0}, "threads 0"),
        ({"anchors": (Anchor(cut=6, bottom_ns=(1,), top_ns=(1,)),)}, r"cut 6 was timed, it is outside 0\.\.5"),
        ({"anchors": (Anchor(cut=1, bottom_ns=(1,), top_ns=(1,)),) * 2}, "twice"),
        (
            {"codec_timings": (CodecTiming(codec="none", cut=-1, raw_bytes=1, encode_ns=(1,), decode_ns=(1,)),)},
            "cut -1 was timed",
        ),
        ({"energy_j": (1.0,), "meter": "m"}, "1 energies do not fit 5 layers"),
        ({"energy_j": (1.0, 2.0, -1.0, None, 0.0), "meter": "m"}, "below 0"),
        ({"energy_j": (1.0,) * 5, "meter": None}, "name of their meter"),
        ({"energy_j": None, "meter": "m"}, "name of their meter"),
    ],
)
def test_a_profile_that_contradicts_itself_cannot_be_made(
    profile: Profile, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        replace(profile, **change)


def test_timings_check_themselves() -> None:
    for bottom, top in (((), ()), ((1,), (1, 2)), ((-1,), (1,))):
        with pytest.raises(ValueError, match="at cut 2"):
            Anchor(cut=2, bottom_ns=bottom, top_ns=top)
    with pytest.raises(ValueError, match="codec 'zip' is unknown"):
        CodecTiming(codec="zip", cut=2, raw_bytes=1, encode_ns=(1,), decode_ns=(1,))
    with pytest.raises(ValueError, match="decoding by int8 at cut 2 has no samples"):
        CodecTiming(codec="int8", cut=2, raw_bytes=1, encode_ns=(1,), decode_ns=())


def test_bad_settings_are_one_line() -> None:
    for change, named in (({"repeats": 0}, "--repeats 0"), ({"warmup": 0}, "--warmup 0"), ({"anchors": -1}, "-1")):
        with pytest.raises(SettingsError, match=named):
            ProfileSettings(**change)
    for threads in (0, MAX_THREADS + 1, 10**20):
        with pytest.raises(SettingsError, match=rf"{threads} threads are outside 1\.\.{MAX_THREADS}"):
            profile_model(ModelRef("toy_chain"), CPU, threads)

"""What slots bring: closed forms of the laws, streams that do not disturb each other, the same in every process."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

from splitnet.controller.slot import Observation
from splitnet.controller.world import Channel, Uniform, World, fades, path_gain, stream

LEAST_P = 1e-3
"""Seeds are fixed, so a test below this would be wrong for good, not by bad luck."""


def uniform(low: float, high: float, count: int, whole: bool = False) -> Uniform:
    return Uniform(np.full(count, low), np.full(count, high), whole)


def a_channel(**changes: Any) -> Channel:
    values: dict[str, Any] = {
        "bandwidth_hz": np.array([1.5e6, 3e6]),
        "send_w": np.array([0.2, 0.1]),
        "gain": path_gain(np.array([150.0, 1000.0])),
        "noise_w_per_hz": 10**-20.4,
    }
    return Channel(**(values | changes))


def a_world(**changes: Any) -> World:
    values: dict[str, Any] = {
        "points": uniform(5, 15, 4, whole=True),
        "rate_bps": a_channel(),
        "gateway_energy_j": uniform(0.7, 1.2, 2),
        "ap_energy_j": uniform(1.8, 4.9, 3),
    }
    return World(**(values | changes))


def columns(world: World, seed: int, slots: int) -> list[NDArray[np.float64]]:
    """[slots, entities] of points, rates, gateway energies and AP energies."""
    seen = list(world.observations(seed, slots))
    return [
        np.array([getattr(slot, name) for slot in seen])
        for name in ("points", "rate_bps", "gateway_energy_j", "ap_energy_j")
    ]


# --- laws


def test_arrivals_are_uniform_whole_numbers_with_both_ends() -> None:
    points = columns(a_world(), 0, 3000)[0]
    values, counts = np.unique(points, return_counts=True)
    assert values.tolist() == list(range(5, 16))
    assert stats.chisquare(counts).pvalue > LEAST_P
    error = 5 * math.sqrt((11**2 - 1) / 12 / points.size)
    assert points.mean() == pytest.approx(10, abs=error)


def test_energies_are_uniform_between_their_ends() -> None:
    _, _, gateways, aps = columns(a_world(), 0, 2000)
    assert stats.kstest(gateways.ravel(), stats.uniform(0.7, 0.5).cdf).pvalue > LEAST_P
    assert stats.kstest(aps.ravel(), stats.uniform(1.8, 3.1).cdf).pvalue > LEAST_P


def test_fading_power_is_exponential() -> None:
    """Taken back out of the rates: |h|^2 = (2^(R/B) - 1) N_0 B / (P gain)."""
    channel = a_channel()
    rates = columns(a_world(), 0, 3000)[1]
    ratio = 2 ** (rates / channel.bandwidth_hz) - 1
    power = ratio * channel.noise_w_per_hz * channel.bandwidth_hz / (channel.send_w * channel.gain)
    for gateway in range(2):
        assert stats.kstest(power[:, gateway], stats.expon.cdf).pvalue > LEAST_P
    amplitude = np.sqrt(power[:, 0])
    assert stats.kstest(amplitude, stats.rayleigh(scale=math.sqrt(0.5)).cdf).pvalue > LEAST_P


def test_mean_rate_is_the_ergodic_capacity() -> None:
    """E log2(1 + s X), X exponential of mean 1, is e^(1/s) E_1(1/s) / ln 2."""
    channel = a_channel()
    mean = channel.send_w * channel.gain / (channel.noise_w_per_hz * channel.bandwidth_hz)
    expected = channel.bandwidth_hz * special.exp1(1 / mean) * np.exp(1 / mean) / math.log(2)
    rates = columns(a_world(), 0, 20000)[1]
    error = 5 * rates.std(axis=0) / math.sqrt(len(rates))
    assert (np.abs(rates.mean(axis=0) - expected) < error).all()


def test_path_loss_by_hand() -> None:
    decibels = 10 * np.log10(path_gain(np.array([1000.0, 100.0, 10000.0])))
    assert decibels == pytest.approx([-128.1, -128.1 + 37.6, -128.1 - 37.6])


def test_a_rate_without_fading_by_hand() -> None:
    """A ratio of 3 gives two bits a second and Hertz."""
    channel = Channel(np.array([1e6]), np.array([0.3]), np.array([1e-9]), 1e-16, fading=False)
    assert channel.at(np.array([0.7])) == pytest.approx([2e6])


def test_the_deepest_fade_still_sends() -> None:
    assert fades(np.zeros(1))[0] > 0
    assert a_channel().at(np.zeros(2)).min() > 0


def test_a_constant_is_constant() -> None:
    world = a_world(points=uniform(7, 7, 4, whole=True), rate_bps=uniform(2e6, 2e6, 2))
    points, rates, _, _ = columns(world, 3, 20)
    assert (points == 7).all()
    assert (rates == 2e6).all()


# --- streams


def test_a_longer_run_begins_with_the_shorter_one() -> None:
    short, long = columns(a_world(), 7, 20), columns(a_world(), 7, 50)
    assert all((one == other[:20]).all() for one, other in zip(short, long, strict=True))


def test_seeds_give_different_worlds_that_do_not_resemble_each_other() -> None:
    one, other = columns(a_world(), 0, 4000), columns(a_world(), 1, 4000)
    for here, there in zip(one, other, strict=True):
        assert abs(np.corrcoef(here[:, 0], there[:, 0])[0, 1]) < 5 / math.sqrt(4000)


def test_one_stream_does_not_disturb_another() -> None:
    """More devices draw more arrivals; the links and the energies are as they were."""
    few, many = columns(a_world(), 5, 30), columns(a_world(points=uniform(5, 15, 9, whole=True)), 5, 30)
    assert many[0].shape == (30, 9)
    assert all((one == other).all() for one, other in zip(few[1:], many[1:], strict=True))
    other_link = columns(a_world(rate_bps=a_channel(fading=False)), 5, 30)
    assert all((few[place] == other_link[place]).all() for place in (0, 2, 3))


def test_streams_of_one_seed_are_uncorrelated() -> None:
    draws = np.array(
        [stream(0, name).random(4000) for name in ("arrivals", "channel", "gateway energy", "AP energy")]
    )
    off = np.asarray(np.corrcoef(draws))[np.triu_indices(4, 1)]
    assert np.abs(off).max() < 5 / math.sqrt(4000)


def test_slots_and_devices_are_uncorrelated() -> None:
    points = columns(a_world(), 0, 4000)[0]
    limit = 5 / math.sqrt(4000)
    assert abs(np.corrcoef(points[:-1, 0], points[1:, 0])[0, 1]) < limit
    assert np.abs(np.asarray(np.corrcoef(points.T))[np.triu_indices(4, 1)]).max() < limit


def test_the_streams_are_these_for_good() -> None:
    """Runs that are kept must come out again; whoever changes this must raise `LAWS` of the scenario."""
    assert stream(0, "arrivals").random(3).tolist() == [0.7288276504865484, 0.9637286861002218, 0.33092552565252]
    seen = next(iter(a_world().observations(0, 1)))
    assert seen.points.tolist() == [13, 15, 8, 14]


def test_another_process_sees_the_same_world() -> None:
    program = """
import hashlib
import numpy as np
from splitnet.controller.world import Uniform, World, stream
world = World(Uniform(np.zeros(3), np.full(3, 9.0), True), Uniform(np.ones(2), np.full(2, 5.0)),
              Uniform(np.zeros(2), np.ones(2)), Uniform(np.ones(1), np.full(1, 2.0)))
digest = hashlib.sha256()
for seen in world.observations(11, 50):
    for column in (seen.points, seen.rate_bps, seen.gateway_energy_j, seen.ap_energy_j):
        digest.update(column.tobytes())
print(digest.hexdigest())
"""
    world = World(
        Uniform(np.zeros(3), np.full(3, 9.0), True),
        Uniform(np.ones(2), np.full(2, 5.0)),
        Uniform(np.zeros(2), np.ones(2)),
        Uniform(np.ones(1), np.full(1, 2.0)),
    )
    digest = hashlib.sha256()
    for seen in world.observations(11, 50):
        for column in (seen.points, seen.rate_bps, seen.gateway_energy_j, seen.ap_energy_j):
            digest.update(column.tobytes())
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == digest.hexdigest()


def test_observations_come_one_by_one() -> None:
    first = list(islice(a_world().observations(0, 10**12), 2))
    assert all(isinstance(seen, Observation) for seen in first)


# --- what is refused


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: uniform(2, 1, 3), "the lower at most the upper"),
        (lambda: uniform(0, math.nan, 3), "finite"),
        (lambda: uniform(0.5, 2, 3, whole=True), "whole"),
        (lambda: Uniform(np.zeros(2), np.ones(3)), "2 lower ends do not fit 3"),
        (lambda: a_channel(gain=np.array([0.0, 1.0])), "gain must be above 0"),
        (lambda: a_channel(send_w=np.ones(3)), "one for each gateway"),
        (lambda: a_channel(noise_w_per_hz=0.0), "noise_w_per_hz"),
        (lambda: a_world(gateway_energy_j=uniform(0, 1, 3)), "2 links do not fit 3"),
        (lambda: replace(a_world(), points=uniform(5, 15, 4)), "whole numbers"),
    ],
)
def test_laws_that_cannot_be_are_refused(made: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made()

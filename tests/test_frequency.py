"""Section 2a: the one-dimensional search against a modelling language, a dense scan and closed forms."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import expon

from splitnet.controller.frequency import (
    Serving,
    best_frequencies,
    block_rate,
    energy_left_j,
    least_barrier_s,
    serving_hz,
)
from splitnet.controller.reference import FrequencyProgram, dense_scan

GHZ = 1e9
KAPPA = 1e-28
SHAPES = ((0, 0, 1, 1, 2, 2), (0, 1, 0, 0), (0,))
"""The AP of each gateway."""


def a_serving(**changes: Any) -> Serving:
    """One AP and one gateway with work; lists become arrays."""
    values: dict[str, Any] = {
        "ready_s": [0.5],
        "cycles": [1 * GHZ],
        "ap_of": [0],
        "max_hz": [4 * GHZ],
        "kappa": [KAPPA] * len(changes.get("max_hz", [0])),
        "energy_j": [4.0],
        "cycles_per_block": [8 * GHZ],
    }
    values |= changes
    arrays = {name: np.array(value, dtype=float) for name, value in values.items() if isinstance(value, list)}
    return Serving(**(values | arrays | {"ap_of": np.array(values["ap_of"], dtype=np.int64)}))


def random_serving(chance: np.random.Generator, ap_of: tuple[int, ...]) -> Serving:
    """As in the default scenario: some Gcycles of work, some joules; every fifth gateway has no top work."""
    gateways, aps = len(ap_of), max(ap_of) + 1
    return a_serving(
        ready_s=chance.uniform(0.1, 1.0, gateways),
        cycles=chance.uniform(0, 1, gateways) * (chance.random(gateways) < 0.8) * GHZ,
        ap_of=ap_of,
        max_hz=chance.uniform(3, 5, aps) * GHZ,
        kappa=np.full(aps, KAPPA),
        energy_j=chance.uniform(1.8, 4.9, aps) * chance.choice([0.5, 1.0, 3.0]),
        cycles_per_block=8 * GHZ * chance.uniform(0.2, 1.0, aps),
        blocks=float(chance.choice([1.0, -math.log(0.05)])),
    )


def some_serving(seed: int) -> Serving:
    chance = np.random.default_rng(seed)
    return random_serving(chance, SHAPES[int(chance.integers(len(SHAPES)))])


@cache
def program(ap_of: tuple[int, ...], aps: int) -> FrequencyProgram:
    return FrequencyProgram(np.array(ap_of, dtype=np.int64), aps)


def by_modelling_language(serving: Serving) -> float:
    """The least latency as cvxpy and CLARABEL find it."""
    answer = program(tuple(serving.ap_of.tolist()), len(serving.max_hz)).solve(serving)
    assert answer.status == "optimal"
    return answer.latency_s


@pytest.mark.parametrize("ap_of", SHAPES)
def test_it_agrees_with_a_modelling_language(ap_of: tuple[int, ...]) -> None:
    chance = np.random.default_rng(len(ap_of))
    slack = []
    for _ in range(12):
        serving = random_serving(chance, ap_of)
        found = best_frequencies(serving)
        assert found.latency_s == pytest.approx(by_modelling_language(serving), rel=1e-6)
        slack += (found.mining_hz == serving.max_hz).tolist()
    assert set(slack) == {True, False}  # the energy binds at some APs and not at others


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_it_is_the_best_of_a_dense_scan_in_extended_precision(seed: int) -> None:
    serving = some_serving(seed)
    assert best_frequencies(serving).latency_s == pytest.approx(float(dense_scan(serving)), rel=1e-12)


@given(st.integers(0, 10**6))
@settings(max_examples=60)
def test_no_barrier_of_its_own_scan_is_better(seed: int) -> None:
    serving = some_serving(seed)
    found = best_frequencies(serving)
    least_s = least_barrier_s(serving)
    scan = np.concatenate(
        [np.linspace(least_s, found.latency_s, 2000), found.barrier_s * (1 + np.linspace(-1e-3, 1e-3, 201))]
    )
    for barrier_s in scan[scan >= least_s]:
        rate = block_rate(serving, float(barrier_s))
        if rate > 0:
            assert barrier_s + serving.blocks / rate >= found.latency_s * (1 - 1e-12)


@given(st.integers(0, 10**6))
def test_what_is_found_holds_every_constraint(seed: int) -> None:
    serving = some_serving(seed)
    found = best_frequencies(serving)
    works = serving.cycles > 0
    finished_s = serving.ready_s[works] + serving.cycles[works] / found.serving_hz[works]
    assert np.all(finished_s <= found.barrier_s * (1 + 1e-9))
    assert np.all(serving.ready_s <= found.barrier_s)
    total = 0.0
    for ap, max_hz in enumerate(serving.max_hz):
        mine = serving.ap_of == ap
        block = found.mining_hz[ap]
        assert found.serving_hz[mine].sum() <= max_hz * (1 + 1e-9)  # C2
        assert 0 <= block <= max_hz  # C3
        served_j = KAPPA * float((serving.cycles * found.serving_hz**2)[mine].sum())
        assert served_j + KAPPA * block**3 / found.block_rate <= serving.energy_j[ap] * (1 + 1e-9)  # C5
        total += block / serving.cycles_per_block[ap]
    assert found.block_rate == pytest.approx(total)


def test_one_ap_with_nothing_to_serve_mines_at_full_speed() -> None:
    """Energy f^3 kappa / Lambda = kappa f^2 H gamma = 1.6 J of 4.9 J: C3 binds."""
    found = best_frequencies(a_serving(cycles=[0.0], max_hz=[2 * GHZ], energy_j=[4.9], cycles_per_block=[4 * GHZ]))
    assert found.barrier_s == pytest.approx(0.5)
    assert found.mining_hz[0] == pytest.approx(2 * GHZ)
    assert found.latency_s == pytest.approx(0.5 + 2)
    assert found.serving_hz.tolist() == [0.0]


def test_one_ap_with_little_energy_mines_as_fast_as_that_allows() -> None:
    """kappa f^3 / Lambda = kappa f^2 H gamma = E, so f = sqrt(E / (kappa H gamma)) = 1 GHz."""
    found = best_frequencies(a_serving(ready_s=[0.0], cycles=[0.0], max_hz=[5 * GHZ], energy_j=[0.8]))
    assert found.mining_hz[0] == pytest.approx(1 * GHZ)
    assert found.block_rate == pytest.approx(1 / 8)


def test_an_ap_without_gateways_mines() -> None:
    """AP 0 serves at full speed from 0.5 to 0.75 s, which takes 1.6 J; both then mine at 4 GHz: one block/s."""
    found = best_frequencies(a_serving(max_hz=[4 * GHZ] * 2, energy_j=[20.0, 20.0], cycles_per_block=[8 * GHZ] * 2))
    assert found.barrier_s == pytest.approx(0.75)
    assert found.block_rate == pytest.approx(1.0)


def test_the_least_barrier_by_hand() -> None:
    """Two gateways ready at once, 1 and 3 Gcycles, 4 GHz: one second; with energy for half the speed, two."""
    work: dict[str, Any] = {"ready_s": [0.2, 0.2], "cycles": [1 * GHZ, 3 * GHZ], "ap_of": [0, 0]}
    assert least_barrier_s(a_serving(**work, energy_j=[100.0])) == pytest.approx(1.2)
    full_speed_j = KAPPA * GHZ**3 * (1 + 27)  # f_1 = 1, f_2 = 3 GHz
    scarce = a_serving(**work, energy_j=[full_speed_j / 4])
    assert least_barrier_s(scarce) == pytest.approx(2.2)
    assert energy_left_j(scarce, 2.2) == pytest.approx([0], abs=1e-9)
    assert serving_hz(scarce, 2.2) == pytest.approx([0.5 * GHZ, 1.5 * GHZ])


@pytest.mark.parametrize("share", [0.5, 0.95, 0.999])
def test_a_quantile_of_the_block_time(share: float) -> None:
    """Row 11: with -ln(1 - p) for `blocks`, a block is found within block_s with probability p."""
    serving = a_serving(blocks=-math.log1p(-share))
    found = best_frequencies(serving)
    assert expon.cdf(found.block_s, scale=1 / found.block_rate) == pytest.approx(share)
    assert found.latency_s == pytest.approx(by_modelling_language(serving), rel=1e-6)


def test_a_longer_wait_for_the_block_buys_time_before_it() -> None:
    """Where blocks weigh more, the barrier moves out to leave energy for them."""
    mean, late = (best_frequencies(a_serving(energy_j=[1.0], blocks=blocks)) for blocks in (1.0, 3.0))
    assert late.barrier_s > mean.barrier_s
    assert late.block_rate > mean.block_rate


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_hz": [0.0]}, "max_hz"),
        ({"kappa": [-1.0]}, "kappa"),
        ({"energy_j": [math.nan]}, "energy_j"),
        ({"energy_j": [1.0, 1.0]}, "energy_j"),
        ({"cycles_per_block": [math.inf]}, "cycles_per_block"),
        ({"ready_s": [-1.0]}, "ready_s"),
        ({"ready_s": [0.0, 1.0]}, "2 times do not fit 1 amounts of work"),
        ({"cycles": [math.nan]}, "cycles"),
        ({"ap_of": [1]}, r"outside 0\.\.0"),
        ({"ap_of": [-1]}, r"outside 0\.\.0"),
        ({"blocks": 0.0}, "blocks"),
        ({"blocks": math.inf}, "blocks"),
        ({"max_hz": []}, "at least one AP"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        a_serving(**changes)

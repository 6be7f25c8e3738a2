"""The three latency models: closed forms, dense scans, and corpora whose costs were planted."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnet.controller.latency import (
    CutTable,
    FlopsLatency,
    MeasuredLatency,
    cut_table,
    fit_flops,
)
from splitnet.controller.layer_latency import FEW, LayerLatency, features, fit_layers, held_out_errors, kinds
from splitnet.profiling.facts import LayerFacts
from splitnet.profiling.profile import Profile
from tests.profiles import a_layer, a_profile, some_facts

THREE = some_facts(
    [a_layer("a", flops=1000), a_layer("b", "ReLU"), a_layer("c", "Linear", flops=500)],
    payload_bytes=[800, 4000, 2000, 40],
)


# --- flops


@pytest.mark.parametrize("batch", [1, 3])
def test_flops_over_a_constant_speed(batch: int) -> None:
    facts = some_facts(THREE.layers, batch=batch)
    model = FlopsLatency(1e6)
    assert model.bottom_s(facts) == pytest.approx(batch * np.array([0, 1e-3, 1e-3, 1.5e-3]))
    assert model.top_s(facts) == pytest.approx(batch * np.array([1.5e-3, 0.5e-3, 0.5e-3, 0]))


@pytest.mark.parametrize("speed", [0.0, -1.0, math.inf, math.nan])
def test_a_speed_that_is_none(speed: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        FlopsLatency(speed)


halves = st.lists(st.tuples(st.integers(1, 10**12), st.floats(1e-6, 10.0)), min_size=1, max_size=20)


@given(st.floats(1e3, 1e14), st.lists(st.integers(1, 10**12), min_size=1, max_size=20))
def test_times_that_are_flops_over_speed_give_the_speed_back(speed: float, flops: list[int]) -> None:
    assert fit_flops([(count, count / speed) for count in flops]).flops_per_s == pytest.approx(speed, rel=1e-9)


@given(halves)
def test_no_speed_of_a_dense_scan_has_a_smaller_sum_of_squared_relative_errors(
    points: list[tuple[float, float]],
) -> None:
    flops, seconds = np.array(points).T
    slowest, fastest = (flops / seconds).min(), (flops / seconds).max()
    speeds = np.append(np.geomspace(slowest / 2, fastest * 2, 2000), fit_flops(points).flops_per_s)
    lost = np.square(flops / speeds[:, None] / seconds - 1).sum(axis=1)
    assert lost[-1] <= lost.min() * (1 + 1e-9) + 1e-12


@given(halves)
def test_halves_without_flops_or_time_count_for_nothing(points: list[tuple[float, float]]) -> None:
    assert fit_flops([*points, (0.0, 5.0), (7.0, 0.0)]) == fit_flops(points)


def test_nothing_to_fit_a_speed_to() -> None:
    with pytest.raises(ValueError, match="no point has FLOPs"):
        fit_flops([(0.0, 1.0)])


# --- the table of cuts


def test_the_table_of_one_model_between_two_devices() -> None:
    facts = some_facts(THREE.layers, batch=3, payload_bytes=[800, 4000, 2000, 40])
    table = cut_table(facts, FlopsLatency(1e6), FlopsLatency(1e7))
    assert table.gateway_s == pytest.approx([0, 3e-3, 3e-3, 4.5e-3])
    assert table.ap_s == pytest.approx([4.5e-4, 1.5e-4, 1.5e-4, 0])
    assert table.payload_bits.tolist() == [6400, 32000, 16000, 0]  # payloads are of the whole batch already
    assert table.top_flops.tolist() == [4500, 1500, 1500, 0]


@pytest.mark.parametrize(("codec", "share"), [("none", 1), ("fp16", 2), ("int8", 4), ("int8+lz4", 5)])
def test_a_codec_shrinks_the_payload_and_nothing_else(codec: str, share: int) -> None:
    devices = FlopsLatency(1e6), FlopsLatency(1e7)
    plain, coded = (cut_table(THREE, *devices, name) for name in ("none", codec))
    assert (coded.payload_bits * share).tolist() == plain.payload_bits.tolist() == [6400, 32000, 16000, 0]
    assert coded.gateway_s.tolist() == plain.gateway_s.tolist()
    assert coded.ap_s.tolist() == plain.ap_s.tolist()


def test_the_last_cut_has_no_top_even_where_a_profile_timed_one() -> None:
    """The profile's halves at the last cut include a call of an empty top; the runtime makes no such call."""
    profile = a_profile(THREE, [1e-3] * 3, anchors={3: (3.1e-3, 0.2e-3)})
    latency = MeasuredLatency(profile)
    assert latency.top_s(THREE)[-1] == pytest.approx(0.2e-3)
    assert cut_table(THREE, latency, latency).ap_s[-1] == 0


@given(st.floats(0.01, 1.0))
def test_a_slower_ap_takes_longer_by_the_fraction(rho: float) -> None:
    table = cut_table(THREE, FlopsLatency(1e6), FlopsLatency(1e7))
    slower = table.at_speed(rho)
    assert slower.ap_s * rho == pytest.approx(table.ap_s, rel=1e-12)
    assert slower.gateway_s is table.gateway_s
    assert slower.payload_bits is table.payload_bits
    assert slower.top_flops is table.top_flops


@pytest.mark.parametrize("rho", [0.0, -0.5, 1.01, math.nan, math.inf])
def test_speeds_outside_the_full_one(rho: float) -> None:
    with pytest.raises(ValueError, match=r"outside \(0, 1\]"):
        cut_table(THREE, FlopsLatency(1e6), FlopsLatency(1e7)).at_speed(rho)


@pytest.mark.parametrize(
    "change",
    [
        {"gateway_s": np.array([0.0, 1.0])},
        {"ap_s": np.array([1.0, -1e-9, 0.0])},
        {"gateway_s": np.array([0.0, math.nan, 1.0])},
        {"ap_s": np.array([math.inf, 0.0, 0.0])},
        {"payload_bits": np.array([8, -8, 0])},
        {"top_flops": np.array([5, 3, -1])},
    ],
)
def test_a_table_that_cannot_be(change: dict[str, np.ndarray]) -> None:
    good = CutTable(
        gateway_s=np.array([0.0, 1.0, 2.0]),
        payload_bits=np.array([8, 16, 0]),
        ap_s=np.array([2.0, 1.0, 0.0]),
        top_flops=np.array([5, 3, 0]),
    )
    with pytest.raises(ValueError, match=r"different lengths|finite numbers"):
        replace(good, **change)


# --- measured


def test_a_profile_tells_its_own_halves() -> None:
    latency = MeasuredLatency(a_profile(THREE, [3e-3, 1e-3, 2e-3]))
    assert latency.bottom_s(THREE) == pytest.approx([0, 3e-3, 4e-3, 6e-3])
    assert latency.top_s(THREE) == pytest.approx([6e-3, 3e-3, 2e-3, 0])


@pytest.mark.parametrize(
    "other",
    [
        some_facts(THREE.layers, graph="another"),
        some_facts(THREE.layers, batch=2),
        some_facts(THREE.layers, side=16),
    ],
    ids=["graph", "batch", "input size"],
)
def test_a_profile_does_not_answer_for_another_model(other: object) -> None:
    latency = MeasuredLatency(a_profile(THREE, [3e-3, 1e-3, 2e-3]))
    for ask in (latency.bottom_s, latency.top_s):
        with pytest.raises(ValueError, match="a profile of net"):
            ask(other)  # type: ignore[arg-type]


# --- per layer: corpora whose costs were planted

Planted = dict[str, tuple[float, float, float, float]]
"""Seconds by a layer's name: of the call, a FLOP, an activation byte, a parameter byte."""

DENSE = {"kernel": 9, "stride": 1, "groups": 1, "in": 8, "out": 8}
CONFIGS: dict[str, tuple[str, dict[str, int]]] = {
    "dense": ("Conv2d", DENSE),
    "pointwise": ("Conv2d", DENSE | {"kernel": 1}),
    "depthwise": ("Conv2d", DENSE | {"groups": 8}),
    "grouped": ("Conv2d", DENSE | {"groups": 4}),
    "strided": ("Conv2d", DENSE | {"stride": 4}),
    "linear": ("Linear", {"in": 8, "out": 8}),
    "relu": ("ReLU", {}),
}
COSTS: Planted = {
    "dense": (20e-6, 1e-10, 4e-10, 0),
    "pointwise": (15e-6, 3e-10, 2e-10, 0),
    "depthwise": (10e-6, 2e-9, 1e-10, 0),
    "grouped": (30e-6, 5e-10, 0, 0),
    "strided": (25e-6, 2e-10, 9e-10, 0),
    "linear": (8e-6, 5e-11, 0, 3e-10),
    "relu": (5e-6, 0, 2.5e-10, 0),
}


def random_layer(chance: random.Random, name: str) -> LayerFacts:
    kind, config = CONFIGS[name]
    return a_layer(
        name,
        kind,
        flops=0 if name == "relu" else int(10 ** chance.uniform(5, 8)),
        moved=(int(10 ** chance.uniform(4, 7)), int(10 ** chance.uniform(4, 7))),
        param_bytes=0 if name == "relu" else int(10 ** chance.uniform(3, 6)),
        config=config,
    )


def planted_s(layer: LayerFacts, batch: int, costs: Planted = COSTS) -> float:
    """What the layer takes, written out (activation bytes are of the whole batch already)."""
    call, flop, moved, param = costs[layer.name]
    return (
        call
        + flop * layer.flops * batch
        + moved * (layer.input_bytes + layer.output_bytes)
        + param * layer.param_bytes
    )


def planted_profile(name: str, seed: int, *, batch: int = 1, each: int = 4, slower: float = 1.0) -> Profile:
    """A model with so many layers of every kind."""
    chance = random.Random(seed)
    layers = [random_layer(chance, kind) for kind in COSTS for _ in range(each)]
    chance.shuffle(layers)
    return a_profile(
        some_facts(layers, name=name, batch=batch), [slower * planted_s(layer, batch) for layer in layers]
    )


@pytest.fixture(scope="module")
def corpus() -> list[Profile]:
    return [planted_profile(f"net{seed}", seed, batch=1 + seed % 2) for seed in range(6)]


def test_planted_costs_are_recovered(corpus: list[Profile]) -> None:
    """Times are kept in whole nanoseconds, so to within that."""
    fitted = fit_layers(corpus)
    narrowest = {name: kinds(random_layer(random.Random(0), name))[0] for name in COSTS}
    assert len(set(narrowest.values())) == len(COSTS)
    for name, costs in COSTS.items():
        for found, planted, least in zip(
            fitted.weights[narrowest[name]], (*costs, 0.0), (1e-9, 1e-15, 1e-15, 1e-14, 0.0), strict=True
        ):
            assert found == pytest.approx(planted, rel=1e-3, abs=least), name


def test_a_model_that_was_never_profiled_is_predicted_cut_by_cut(corpus: list[Profile]) -> None:
    fresh = planted_profile("fresh", 99, batch=4)
    fitted = fit_layers(corpus)
    times = [planted_s(layer, 4) for layer in fresh.facts.layers]
    until = list(itertools.accumulate(times, initial=0.0))
    assert fitted.bottom_s(fresh.facts) == pytest.approx(until, rel=1e-3)
    assert fitted.top_s(fresh.facts) == pytest.approx([until[-1] - sooner for sooner in until], rel=1e-3, abs=1e-9)


def test_kinds_from_narrow_to_wide() -> None:
    def of(name: str, **config: int) -> tuple[str, ...]:
        kind, own = CONFIGS[name]
        return kinds(a_layer(name, kind, flops=1, config=own | config))

    wide = ("conv2d", "any with FLOPs", "any")
    assert of("dense") == ("conv2d dense 9 / 1", "conv2d dense 9", "conv2d dense", *wide)
    assert of("depthwise", stride=2) == ("conv2d depthwise 9 / 2", "conv2d depthwise 9", "conv2d depthwise", *wide)
    assert of("grouped")[2] == "conv2d grouped"
    assert of("dense", groups=1, **{"in": 1})[2] == "conv2d dense"  # one channel is no depthwise convolution
    assert of("linear") == ("linear", "product", "any with FLOPs", "any")
    assert kinds(a_layer("relu", "ReLU")) == ("relu", "any without FLOPs", "any")
    pool = a_layer("p", "max_pool2d", config={"kernel": 9, "stride": 4})
    assert kinds(pool) == ("maxpool2d 9 / 4", "maxpool2d", "pool", "any without FLOPs", "any")
    by_function = a_layer("f", "conv2d", flops=1, config={"kernel": 9, "groups": 1, "in": 8, "out": 8})
    assert kinds(by_function) == of("dense")


def model_of(layers: Sequence[LayerFacts], cost: Callable[[LayerFacts], float], name: str = "net") -> Profile:
    return a_profile(some_facts(layers, name=name), [cost(layer) for layer in layers])


def test_a_kind_that_the_corpus_lacks_falls_back_to_the_next_wider_one() -> None:
    """Dense convolutions, linear layers and activations cost differently here, whatever their sizes and strides."""
    chance = random.Random(1)

    def dense(kernel: int, stride: int) -> LayerFacts:
        layer = random_layer(chance, "dense")
        return replace(layer, config=layer.config | {"kernel": kernel, "stride": stride})

    layers = [dense(kernel, stride) for kernel in (1, 9) for stride in (1, 4) for _ in range(FEW)]
    layers += [random_layer(chance, name) for name in ("depthwise", "linear", "relu") for _ in range(FEW)]
    fitted = fit_layers([model_of(layers, lambda layer: planted_s(layer, 1))])
    for config in ({"kernel": 9, "stride": 9}, {"kernel": 49, "stride": 4}, {"kernel": 25, "stride": 25}):
        unseen = dense(**config)
        assert kinds(unseen)[0] not in fitted.weights
        assert fitted.layer_s(unseen, 1) == pytest.approx(planted_s(unseen, 1), rel=1e-3)
    for layer in (dense(9, 1), random_layer(chance, "linear")):
        unknown = replace(layer, kind="Enigma", config={})
        weights = fitted.weights["any with FLOPs"]
        moved = unknown.input_bytes + unknown.output_bytes
        by_hand = np.dot(weights, [1, unknown.flops * 3, moved, unknown.param_bytes, 0])
        assert fitted.layer_s(unknown, 3) == pytest.approx(by_hand)
    silent = replace(random_layer(chance, "relu"), kind="Enigma")
    assert fitted.layer_s(silent, 1) == pytest.approx(planted_s(silent, 1), rel=1e-3)  # only relu has no FLOPs


def test_a_few_layers_are_no_kind_of_their_own() -> None:
    chance = random.Random(2)

    def corpus_of(count: int) -> LayerLatency:
        layers = [random_layer(chance, "depthwise") for _ in range(count)]
        layers += [random_layer(chance, "dense") for _ in range(4 * FEW)]
        return fit_layers([model_of(layers, lambda layer: planted_s(layer, 1))])

    assert "conv2d depthwise 9 / 1" not in corpus_of(FEW - 1).weights
    assert "conv2d depthwise 9 / 1" in corpus_of(FEW).weights


def test_a_layer_unlike_all_others_is_predicted_by_all_together() -> None:
    fitted = fit_layers([model_of([a_layer("a", flops=1000)] * FEW, lambda layer: 1e-3)])
    assert fitted.layer_s(a_layer("act", "GELU"), 1) == pytest.approx(
        float(np.dot(features(a_layer("act", "GELU"), 1), fitted.weights["any"]))
    )
    with pytest.raises(ValueError, match="at least one profile"):
        fit_layers([])


sizes = st.integers(0, 10**7)


@given(
    st.lists(st.tuples(st.booleans(), sizes, sizes, sizes, st.floats(0, 0.1)), min_size=1, max_size=20),
    st.tuples(st.booleans(), sizes, sizes, sizes),
)
def test_whatever_was_measured_nothing_is_negative(
    rows: list[tuple[bool, int, int, int, float]], asked: tuple[bool, int, int, int]
) -> None:
    def layer(heavy: bool, flops: int, moved: int, param_bytes: int) -> LayerFacts:
        kind = "Linear" if heavy else "ReLU"
        return a_layer(kind, kind, flops=heavy * (1 + flops), moved=(moved, moved), param_bytes=param_bytes)

    layers = [layer(*row[:4]) for row in rows]
    fitted = fit_layers([a_profile(some_facts(layers), [row[4] for row in rows])])
    assert all(weight >= 0 for weights in fitted.weights.values() for weight in weights)
    unseen = layer(*asked)
    if kinds(unseen)[-1] in fitted.weights:
        facts = some_facts([*layers, unseen])
        bottoms, tops = fitted.bottom_s(facts), fitted.top_s(facts)
        assert (np.diff(bottoms) >= 0).all()
        assert (np.diff(tops) <= 0).all()
        assert bottoms[0] == tops[-1] == 0


# --- judged on what it was not fitted to


def test_held_out_errors_leave_the_judged_model_out(corpus: list[Profile]) -> None:
    """Profiles whose times are a thousand times too long spoil the fit of every other model, not their own."""
    absurd = [planted_profile("absurd", 50, batch=batch, slower=1000.0) for batch in (1, 2)]
    judged = held_out_errors([*absurd, *corpus])
    assert set(judged) == {"absurd", *(f"net{seed}" for seed in range(6))}
    whole_s = sum(planted_s(layer, 2) for layer in absurd[1].facts.layers)
    assert judged["absurd"]["measured_s"] == pytest.approx(1000 * whole_s, rel=1e-6)
    assert judged["absurd"]["predicted_s"] == pytest.approx(whole_s, rel=1e-3)
    assert judged["absurd"]["error"] == pytest.approx(-0.999, abs=1e-5)
    for found in held_out_errors(corpus).values():
        assert found["error"] == pytest.approx(0, abs=1e-3)


def test_nothing_is_held_out_of_one_model(corpus: list[Profile]) -> None:
    assert held_out_errors(corpus[:1]) == {}
    assert held_out_errors([]) == {}

"""Profiles: medians and corrections by hand and by closed forms; the file comes back equal or not at all."""

from __future__ import annotations

import copy
import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console

from splitnet.errors import SettingsError
from splitnet.files import parse_sealed, sealed
from splitnet.models.reference import ModelRef
from splitnet.models.toy import TOY_NETS
from splitnet.profiling import profile as profile_file
from splitnet.profiling import profiler
from splitnet.profiling.corpus import Corpus, collect, load_corpus
from splitnet.profiling.energy import Meter, measure_j
from splitnet.profiling.profile import (
    AGAIN,
    KIND,
    VERSION,
    WAKE_NS,
    Anchor,
    CodecTiming,
    Profile,
    affine_s,
    halves_s,
    load_profile,
    pass_medians,
    profile_from_dict,
)
from splitnet.profiling.profiler import MAX_THREADS, ProfileSettings, profile_model
from splitnet.report.profile import profile_table
from splitnet.wire.codecs import CODECS

CPU = torch.device("cpu")
QUICK = ProfileSettings(repeats=3, warmup=1, anchors=3)


def measured(name: str = "toy_chain", settings: ProfileSettings = QUICK, batch: int = 1) -> Profile:
    return profile_model(ModelRef(name, batch=batch), CPU, 1, settings)


@pytest.fixture(scope="module")
def profile() -> Profile:
    return measured()


@pytest.fixture(scope="module")
def text(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("profile") / "p.json"
    profile.save(path)
    return path.read_bytes()


def load(text: bytes) -> Profile:
    return profile_from_dict(parse_sealed(text, "p.json", KIND, VERSION, AGAIN), "p.json")


def reseal(content: dict[str, Any]) -> bytes:
    """What a careful forger writes: the digest is right."""
    bare = {name: value for name, value in content.items() if name not in ("kind", "version", "digest")}
    return json.dumps(sealed(KIND, VERSION, bare)).encode()


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


# --- the file


@pytest.mark.parametrize("name", TOY_NETS)
def test_what_was_saved_comes_back_equal(name: str, tmp_path: Path) -> None:
    profile = measured(name, ProfileSettings(repeats=1, warmup=1))
    profile.save(tmp_path / "p.json")
    again = load_profile(tmp_path / "p.json")
    assert again == profile
    assert (again.prefix_s, again.suffix_s, again.layer_s) == (profile.prefix_s, profile.suffix_s, profile.layer_s)
    assert json.loads((tmp_path / "p.json").read_text()) == json.loads(json.dumps(profile.to_file()))


@given(st.data())
def test_a_changed_byte_never_loads(text: bytes, profile: Profile, data: st.DataObject) -> None:
    spoilt = bytearray(text)
    for _ in range(data.draw(st.integers(1, 3))):
        spoilt[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    refused_or_equal(bytes(spoilt), profile)


@given(st.data())
def test_a_file_cut_short_or_grown_never_loads(text: bytes, profile: Profile, data: st.DataObject) -> None:
    start, stop = sorted((data.draw(st.integers(0, len(text) - 2)), data.draw(st.integers(0, len(text) - 2))))
    with pytest.raises(SettingsError) as caught:
        load(text[:stop])
    assert "\n" not in str(caught.value)
    refused_or_equal(text[:start] + text[stop:], profile)
    refused_or_equal(text[:stop] + text[start:], profile)


def refused_or_equal(text: bytes, profile: Profile) -> None:
    found = outcome(text)
    if isinstance(found, str):
        assert "\n" not in found
        assert AGAIN in found
    else:
        assert found == profile  # only the white space differs


def outcome(text: bytes) -> Profile | str:
    """The profile, or what is said of it."""
    try:
        return load(text)
    except SettingsError as error:
        return str(error)


def paths(value: Any, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [here, *(path for key, child in inner for path in paths(child, (*here, key)))]


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(
        [2**53, 2**63, 10**30, 10**400, -1, 1e308, 1e-320, 0.5, "", "x", "cpu", [], [[]], {}, [1, 2], [None]]
    ),
    st.text(max_size=4),
)


@given(st.data())
def test_a_forged_digest_over_odd_content_raises_nothing_else(text: bytes, data: st.DataObject) -> None:
    content = json.loads(text)
    for _ in range(data.draw(st.integers(1, 2))):
        every = [path for path in paths(content) if path and path[0] not in ("kind", "version", "digest")]
        *above, last = data.draw(st.sampled_from(every))
        place: Any = content
        for key in above:
            place = place[key]
        if data.draw(st.booleans()):
            del place[last]
        else:
            place[last] = copy.deepcopy(data.draw(ODD))
    found = outcome(reseal(content))
    if isinstance(found, str):
        assert "\n" not in found
        return
    assert json.loads(json.dumps(found.to_file())) == json.loads(reseal(content))
    console = Console(width=110, quiet=True)
    console.print(profile_table(found))


def first(content: dict[str, Any], **changes: Any) -> None:
    content["layers"][0].update(changes)


FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a layer less": lambda content: content["layers"].pop(),
    "a layer and its cut less": lambda content: (content["layers"].pop(), content["cuts"].pop()),
    "layers in another order": lambda content: content["layers"].reverse(),
    "cuts in another order": lambda content: content["cuts"].reverse(),
    "another prefix": lambda content: content["prefix_s"].__setitem__(2, 1.0),
    "another suffix": lambda content: content["suffix_s"].__setitem__(2, 1.0),
    "a prefix less": lambda content: content["prefix_s"].pop(),
    "another time": lambda content: first(content, time_s=1.0),
    "a sample less": lambda content: content["layers"][0]["samples_ns"].pop(),
    "other samples": lambda content: content["layers"][0]["samples_ns"].__setitem__(slice(2), [10**9, 10**9]),
    "samples below 0": lambda content: first(content, samples_ns=[-1, -1, -1]),
    "samples of words": lambda content: first(content, samples_ns=["1", "2", "3"]),
    "another payload": lambda content: first(content, payload_bytes=1),
    "other FLOPs": lambda content: first(content, flops=1),
    "FLOPs below 0": lambda content: first(content, flops=-1),
    "energy without a meter": lambda content: first(content, energy_j=1.0),
    "a meter without energies": lambda content: content.pop("meter"),
    "another total": lambda content: content["model"].update(flops=1),
    "no name": lambda content: content["model"].pop("name"),
    "a field more": lambda content: content.update(more=1),
    "a field more of a layer": lambda content: first(content, more=1),
    "a field more of a cut": lambda content: content["cuts"][0].update(more=1),
    "a cut without a codec": lambda content: content["cuts"][1]["payload_bytes"].pop("int8"),
    "halves from elsewhere": lambda content: content["halves_from"].__setitem__(1, "guess"),
    "an anchor out of range": lambda content: content["anchors"][0].update(cut=99),
    "an anchor less": lambda content: content["anchors"].pop(),
    "an unknown codec": lambda content: content["codecs"][0].update(codec="zip"),
    "no layers": lambda content: content.update(layers=[]),
    "layers that are none": lambda content: content.update(layers={"a": 1}),
    "threads 0": lambda content: content.update(threads=0),
    "threads as text": lambda content: content.update(threads="1"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_digest_over_inconsistent_content_is_refused(text: bytes, forgery: str) -> None:
    content = json.loads(text)
    assert load(reseal(content)) == load(text)
    FORGERIES[forgery](content)
    with pytest.raises(SettingsError, match=r"p\.json (is not a whole profile|contradicts itself)") as caught:
        load(reseal(content))
    assert "\n" not in str(caught.value)
    assert AGAIN in str(caught.value)


def test_a_machine_may_tell_more_than_ours_does(text: bytes) -> None:
    deep: Any = {"fans": [1, 2.5, None]}
    for _ in range(300):
        deep = {"board": deep}
    content = json.loads(text)
    content["machine"] = deep
    assert load(reseal(content)).machine == deep


def test_files_that_are_no_profile(text: bytes, tmp_path: Path) -> None:
    def refused(name: str, given: bytes, reason: str) -> None:
        (tmp_path / name).write_bytes(given)
        with pytest.raises(SettingsError, match=reason) as caught:
            load_profile(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
        assert AGAIN in str(caught.value)

    refused("empty.json", b"", "cut short")
    refused("half.json", text[: len(text) // 2], "cut short")
    refused("digit.json", text.replace(b"6912", b"6913", 1), "edited or damaged")
    refused("other.json", json.dumps(sealed("link probe", 1, {})).encode(), "is not a profile")
    refused("old.json", text.replace(b'"version": 1', b'"version": 99', 1), "profile version 99, this is 1")
    refused("list.json", b"[" + text + b"]", "is not a profile")
    refused("deep.json", b'{"a":' * 200_000, "cut short")
    refused("nan.json", text.replace(b'"threads": 1', b'"threads": NaN', 1), "edited or damaged")
    refused("picture.json", b"\x89PNG\r\n\x1a\n" + bytes(100), "cut short or no JSON")


def test_a_name_that_is_nothing_says_what_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile_file, "SHIPPED", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"^resnt18 is neither a profile's file nor shipped \(those are none\); "):
        load_profile("resnt18")
    shipped = measured()
    shipped.save(tmp_path / "toy_chain.json")
    assert load_profile("toy_chain") == shipped
    with pytest.raises(SettingsError, match=r"\(those are toy_chain\)"):
        load_profile("resnt18")
    with pytest.raises(SettingsError, match=r"cannot read .*none\.json: No such file"):
        load_profile(tmp_path / "none.json")
    with pytest.raises(SettingsError, match="File name too long"):
        load_profile("x" * 300)


# --- writing


def test_a_full_disk_leaves_the_old_profile(profile: Profile, text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    profile.save(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(text) // 2, before[1]))
    try:
        with pytest.raises(SettingsError, match=r"cannot write .*p\.json: File too large; .*-o FILE"):
            replace(profile, threads=2).save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_profile(path) == profile
    assert [found.name for found in tmp_path.iterdir()] == ["p.json"]


def test_an_interrupted_save_leaves_the_old_profile(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.json"
    profile.save(path)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace(profile, threads=2).save(path)
    assert load_profile(path) == profile
    assert [found.name for found in tmp_path.iterdir()] == ["p.json"]


# --- another model, graph or device


def test_a_profile_of_another_model_or_graph_is_refused(profile: Profile) -> None:
    graph = profile.facts.identity.graph
    profile.check_model("toy_chain")
    profile.check_model("toy_chain", graph)
    with pytest.raises(
        SettingsError, match=r"x\.json is a profile of toy_chain, not of resnet18; profile resnet18 first"
    ):
        profile.check_model("resnet18", path="x.json")
    with pytest.raises(SettingsError, match=f"fingerprint {graph[:12]}, here it is {'0' * 12} .*profile it again"):
        profile.check_model("toy_chain", "0" * 64)
    other = measured("toy_residual").facts.identity
    with pytest.raises(SettingsError, match="graph of toy_chain"):
        profile.check_model("toy_chain", other.graph)


def test_another_machine_is_told_by_both_values(profile: Profile) -> None:
    here = profile.machine
    assert profile.unlike(here, "cpu", 1) == []
    assert profile.unlike({**here, "boot_digest": "other", "usable_cores": 77}, "cpu", 1) == []
    told = profile.unlike({**here, "cpu_model": "Abacus " * 20}, "cuda:0", 4)
    assert [phrase.partition(" ")[0] for phrase in told] == ["cpu_model", "device", "threads"]
    assert told[1:] == ["device cpu there, cuda:0 here", "threads 1 there, 4 here"]
    assert "Abacus" in told[0]
    assert len(told[0]) < 200
    without = {name: value for name, value in here.items() if name != "torch"}
    assert profile.unlike(without, "cpu", 1) == [f"torch {torch.__version__} there, None here"]


# --- several profiles in one file


def test_a_corpus_comes_back_and_a_spoilt_one_does_not(tmp_path: Path) -> None:
    told: list[str] = []
    corpus = collect(
        CPU, 1, lambda done, total, text: told.append(f"{done}/{total} {text}"), ("toy_chain", "toy_tuple"), rounds=2
    )
    assert told[0] == "0/8 counting FLOPs and bytes of toy_chain"
    assert told[-1] == "8/8 done"
    assert [len(profile.layers_ns) for profile in corpus.profiles] == [2, 2]
    path = tmp_path / "c.json"
    corpus.save(path)
    assert load_corpus(path) == corpus
    chain = corpus.profiles[0].facts.identity
    assert [kept.facts.identity.name for kept in corpus.without(chain.graph, "anything")] == ["toy_tuple"]
    assert [kept.facts.identity.name for kept in corpus.without("no graph", "toy_tuple")] == ["toy_chain"]
    with pytest.raises(SettingsError, match="is not a profile"):
        load_profile(path)
    with pytest.raises(ValueError, match="of one device and thread count"):
        Corpus((corpus.profiles[0], replace(corpus.profiles[1], threads=2)))
    content = json.loads(path.read_text())
    del content["kind"], content["version"], content["digest"]
    spoilt: list[dict[str, Any]] = [{"profiles": value} for value in ([], [1], None, {"a": 1})]
    for spoil in (*spoilt, {}):
        path.write_text(json.dumps(sealed("calibration", 1, spoil)))
        with pytest.raises(SettingsError, match="splitnet calibrate") as caught:
            load_corpus(path)
        assert "\n" not in str(caught.value)
    content["profiles"][1]["prefix_s"][0] = 5.0
    path.write_text(json.dumps(sealed("calibration", 1, content)))
    with pytest.raises(SettingsError, match="contradicts itself"):
        load_corpus(path)


@pytest.mark.parametrize(
    ("name", "gflops"), [("resnet18", 1.819), ("resnet50", 4.112), ("vgg16", 15.470), ("mobilenet_v3_large", 0.226)]
)
def test_shipped_profiles_are_whole(name: str, gflops: float) -> None:
    profile = load_profile(name)
    assert profile.facts.identity.name == name
    assert profile.facts.flops / 1e9 == pytest.approx(gflops, rel=0.01)
    assert len(profile.anchors) == 12
    assert {timing.codec for timing in profile.codec_timings} == set(CODECS)

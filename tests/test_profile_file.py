"""A profile's file: it comes back equal or not at all; other models, graphs and machines; several in one file."""

from __future__ import annotations

import copy
import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from splitnet.errors import SettingsError
from splitnet.files import parse_sealed, sealed
from splitnet.models.toy import TOY_NETS
from splitnet.profiling import profile as profile_file
from splitnet.profiling.corpus import Corpus, collect, load_corpus
from splitnet.profiling.profile import (
    AGAIN,
    KIND,
    VERSION,
    Profile,
    load_profile,
    profile_from_dict,
)
from splitnet.profiling.profiler import ProfileSettings
from splitnet.report.profile import profile_table
from splitnet.wire.codecs import CODECS
from tests.profiles import measured

CPU = torch.device("cpu")


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


def test_last_digits_of_another_processor_are_no_contradiction(text: bytes) -> None:
    content = json.loads(text)
    for relative, loads in ((1e-14, True), (1e-6, False)):
        changed = {**content, "prefix_s": [value * (1 + relative) for value in content["prefix_s"]]}
        if loads:
            load(reseal(changed))
        else:
            with pytest.raises(SettingsError, match="contradicts itself"):
                load(reseal(changed))


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

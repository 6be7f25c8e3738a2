"""A run's folder: lines that are there whole or not at all, who may begin, use and resume it; its settings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from splitnet.errors import SettingsError
from splitnet.files import sealed
from splitnet.running.folder import (
    FORMAT,
    KIND,
    MANIFEST,
    SLOTS,
    Asked,
    RunFolder,
    is_run,
    lost_slots,
    next_slot,
    profile_file,
    read_manifest,
    read_records,
    read_settings,
)
from splitnet.running.settings import RunSettings, millionths
from tests.slot_records import manifest, record

MINE = manifest()


def asked(**changes: Any) -> Asked:
    values: dict[str, Any] = {
        "scenario": MINE.scenario,
        "scenario_digest": MINE.scenario_digest,
        "settings": MINE.settings,
        "versions": MINE.versions,
        "machine": {"cpu_model": MINE.machine["cpu_model"]},
    }
    return Asked(**{**values, **changes})


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[RunFolder]:
    profile = tmp_path / "profile.json"
    profile.write_text("{}")
    with RunFolder.create(tmp_path / "run", "tiny") as folder:
        folder.begin(MINE, {"net": profile, "../net": profile})
        yield folder


# --- begun


def test_a_run_is_there_once_its_manifest_is(begun: RunFolder) -> None:
    assert is_run(begun.path)
    assert read_manifest(begun.path) == MINE
    assert read_settings(begun.path) == MINE.settings
    assert read_records(begun.path) == []
    assert profile_file(begun.path, "net") == begun.path / "profiles" / "net.json"
    assert profile_file(begun.path, "../net").parent == begun.path / "profiles"
    assert profile_file(begun.path, "../net").read_text() == "{}"
    begun.complete()
    assert read_manifest(begun.path).status == "complete"


def test_a_folder_in_which_no_run_was_begun_is_empty_again(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "run", "tiny") as folder:
        (folder.path / "keys").mkdir()
        (folder.path / "keys" / "ap-0.key").write_text("secret")
        (folder.path / "genesis.msgpack").write_text("")
        folder.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_begun_run_is_never_discarded(begun: RunFolder) -> None:
    begun.append(record(0))
    begun.discard()
    assert read_records(begun.path) == [record(0)]


def test_a_folder_is_one_runs_at_a_time(begun: RunFolder) -> None:
    with pytest.raises(SettingsError, match=r"run is in use by another run; wait until it ends, or choose"):
        RunFolder.resume(begun.path, asked())
    with pytest.raises(SettingsError, match=r"run is in use by another run; wait until it ends, or choose"):
        RunFolder.create(begun.path, "tiny")
    begun.close()
    RunFolder.resume(begun.path, asked()).close()
    with pytest.raises(SettingsError, match=r"run is not empty; go on with its run by --resume"):
        RunFolder.create(begun.path, "tiny")


def test_what_is_no_run_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"No such file or directory; name a run's folder"):
        RunFolder.resume(tmp_path / "none", asked())
    with pytest.raises(SettingsError, match=r"cannot read .*manifest.json: No such file or directory; name a run's"):
        RunFolder.resume(tmp_path, asked())
    assert not is_run(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps(sealed("manifest of a simulation", 1, {})))
    assert not is_run(tmp_path)
    with pytest.raises(SettingsError, match=r"manifest.json is not a manifest of a run"):
        RunFolder.resume(tmp_path, asked())
    (tmp_path / MANIFEST).write_text(json.dumps(sealed(KIND, FORMAT, {"status": "running"})))
    with pytest.raises(SettingsError, match=r"is no manifest of a run \(Object missing required field"):
        RunFolder.resume(tmp_path, asked())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenario": "small"}, "is a run of scenario tiny, not small;"),
        ({"scenario_digest": "11" * 32}, "scenario tiny has changed since the run in"),
        ({"settings": RunSettings("wdpo", 4, 16.0)}, "was begun with --policy dpra, not wdpo;"),
        ({"settings": RunSettings("dpra", 4, 4.5)}, "was begun with --V 16, not 4.5;"),
        ({"settings": RunSettings("dpra", 4, 16.0, images="here")}, "was begun with --images none, not here;"),
        (
            {"settings": RunSettings("dpra", 4, 16.0, audit_millionths=5)},
            "was begun with --audit (in millionths) 0, not 5;",
        ),
        ({"versions": {"numpy": "2"}}, "was begun with numpy 1, not 2;"),
        ({"machine": {"cpu_model": "abacus"}}, "was begun with cpu_model "),
    ],
)
def test_another_run_is_not_gone_on_with(begun: RunFolder, changes: dict[str, Any], message: str) -> None:
    begun.append(record(0))
    before = {path: path.read_bytes() for path in begun.path.rglob("*") if path.is_file()}
    begun.close()
    with pytest.raises(SettingsError) as refused:
        RunFolder.resume(begun.path, asked(**changes))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in begun.path.rglob("*") if path.is_file()} == before


# --- slots


def test_slots_come_back_as_they_were(begun: RunFolder) -> None:
    slots = [record(0), record(1, equal=0, max_error=math.inf), record(5, infeasible="no cut", uploads=[None, None])]
    for one in slots:
        begun.append(one)
    assert read_records(begun.path) == slots
    begun.append(record(6, max_error=math.nan))
    assert math.isnan(read_records(begun.path)[-1].max_error)


@pytest.mark.parametrize("cut", [1, 100, -1])
def test_a_line_cut_short_counts_as_not_written(begun: RunFolder, cut: int) -> None:
    begun.append(record(0))
    whole = (begun.path / SLOTS).read_bytes()
    begun.close()
    (begun.path / SLOTS).write_bytes(whole + whole[:cut])
    assert read_records(begun.path) == [record(0)]
    with RunFolder.resume(begun.path, asked()) as folder:
        assert (begun.path / SLOTS).read_bytes() == whole
        folder.append(record(1))
    assert read_records(begun.path) == [record(0), record(1)]


def test_a_first_line_cut_short_leaves_none(begun: RunFolder) -> None:
    begun.close()
    (begun.path / SLOTS).write_bytes(b'{"slot":0,' + b" " * 100_000)
    RunFolder.resume(begun.path, asked()).close()
    assert (begun.path / SLOTS).read_bytes() == b""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: b"slot\n", "line 2 is damaged (JSON is malformed"),
        (lambda line: b"\n", "line 2 is damaged"),
        (lambda line: line.replace(b'"slot":1', b'"slot":0'), "slot 0 does not come after the one before it"),
        (lambda line: line.replace(b'"queue":[0.25,0.5]', b'"queue":[0.25]'), "it is not of 2 gateways and 2 APs"),
        (lambda line: line.replace(b'"plus"', b'"more"'), "line 2 is damaged ('plus')"),
        (lambda line: line.replace(b'"max_error":0.0', b'"max_error":"none"'), "Expected `float`, got `str`"),
    ],
)
def test_a_damaged_line_is_named(begun: RunFolder, change: Any, message: str) -> None:
    begun.append(record(0))
    begun.append(record(1))
    path = begun.path / SLOTS
    first, second = path.read_bytes().splitlines(keepends=True)
    changed = change(second)
    assert changed != second
    path.write_bytes(first + changed)
    with pytest.raises(SettingsError) as refused:
        read_records(begun.path)
    assert message in str(refused.value)
    assert str(refused.value).endswith("take this line and all after it out")


def test_where_a_run_without_chains_goes_on(begun: RunFolder) -> None:
    assert next_slot(begun.path, []) == 0
    assert next_slot(begun.path, [record(0), record(3)]) == 4
    assert lost_slots([record(0), record(3)], 6) == [1, 2, 4, 5]


# --- settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "drpa"}, "no policy is called 'drpa'; did you mean dpra?"),
        ({"slots": 0}, "--slots 0 is outside 1..100000"),
        ({"slots": 100_001}, "--slots 100001 is outside 1..100000"),
        ({"v": 0.0}, "--V 0 must be above 0 and at most 1e+12; give a number such as 16"),
        ({"v": math.nan}, "--V nan must be above 0"),
        ({"seed": -1}, "--seed -1 is outside 0..2^63-1"),
        ({"link_backend": "radio"}, "--link-backend radio is unknown; give user or kernel"),
        ({"audit_millionths": 1_000_001}, "--audit 1.000001 is outside 0..1"),
        ({"fair_gamma": 0.5}, "--fair-gamma is for wtcm-fair and wtcm-fair-c6; dpra takes none"),
        ({"policy": "wtcm-fair", "fair_gamma": 1.5}, "--fair-gamma 1.5 is outside 1e-43..1, as a chain can have it"),
        ({"policy": "wtcm-fair", "fair_gamma": 1e-44}, "--fair-gamma 1e-44 is outside 1e-43..1, as a chain can have"),
    ],
)
def test_settings_out_of_range_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        RunSettings(**{"policy": "dpra", "slots": 3, "v": 16.0, **changes})
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_not_given_is_as_in_the_others() -> None:
    before = RunSettings("wdpo", 7, 4.0, seed=3)
    assert RunSettings.given(before, {"slots": 8, "seed": None}) == RunSettings("wdpo", 8, 4.0, seed=3)


def test_a_share_is_whole_millionths() -> None:
    assert [millionths("--audit", share) for share in (0, 0.1, 1)] == [0, 100_000, 1_000_000]
    for share in (-0.1, 1.5, math.nan):
        with pytest.raises(SettingsError, match=r"^--audit "):
            millionths("--audit", share)

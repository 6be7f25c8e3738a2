"""A simulation's folder: a job's files come back as they were or not at all; who may begin, use and resume it."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitnet.errors import SettingsError
from splitnet.files import sealed
from splitnet.simulating.folder import COLUMNS, FORMAT, MANIFEST, SEAL, TRACES, SimulationFolder, load, save
from splitnet.simulating.jobs import Job
from splitnet.simulating.run import open_folder
from tests.simulations import a_trace, asked, tiny

# --- a job's files

JOB = Job("dpra", 4.0, 0, 3)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    (tmp_path / TRACES).mkdir()
    save(tmp_path, JOB, a_trace(), 0.5)
    return tmp_path


def test_a_trace_comes_back_as_it_was(kept: Path) -> None:
    found = load(kept, JOB)
    assert found is not None
    trace, gamma = found
    assert gamma == 0.5
    for name in (*COLUMNS, "solve_s"):
        was = getattr(a_trace(), name)
        assert getattr(trace, name).dtype == was.dtype
        np.testing.assert_array_equal(getattr(trace, name), was)
    assert trace.infeasible == a_trace().infeasible
    assert trace.state.as_dict() == a_trace().state.as_dict()


def test_a_job_without_its_seal_has_not_finished(kept: Path) -> None:
    assert load(kept, replace(JOB, seed=1)) is None
    (kept / TRACES / f"{JOB.name}.json").unlink()
    assert load(kept, JOB) is None


def reseal(kept: Path, content: bytes, **changes: Any) -> None:
    """Files whose digests are right: made by somebody who wanted them so."""
    (kept / TRACES / f"{JOB.name}.npz").write_bytes(content)
    path = kept / TRACES / f"{JOB.name}.json"
    seal = {**json.loads(path.read_text()), "trace_sha256": hashlib.sha256(content).hexdigest(), **changes}
    for name in ("kind", "version", "digest"):
        del seal[name]
    path.write_text(json.dumps(sealed(SEAL, FORMAT, seal)))


def arrays(**columns: Any) -> bytes:
    content = io.BytesIO()
    np.savez(content, **columns)
    return content.getvalue()


class Bomb:
    """An object that leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return self.mark.write_text, ("unpickled",)


def test_a_trace_is_never_unpickled(kept: Path) -> None:
    reseal(kept, arrays(**dict.fromkeys(COLUMNS, np.array([Bomb(kept / "mark")], dtype=object))))
    with pytest.raises(SettingsError, match="is no trace of this splitnet"):
        load(kept, JOB)
    assert not (kept / "mark").exists()


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        (arrays(latency_s=np.ones(5)), {}, "is no trace of this splitnet"),
        (b"PK\x03\x04 no archive", {}, "is no trace of this splitnet"),
        (b"", {}, "is no trace of this splitnet"),
        (arrays(**dict.fromkeys(COLUMNS, np.ones(5))), {"state": None}, "is no trace of this splitnet"),
        (arrays(**dict.fromkeys(COLUMNS, np.ones(5))), {"solve_s": "now"}, "is no trace of this splitnet"),
        (arrays(**dict.fromkeys(COLUMNS, np.ones(5))), {"infeasible": 3}, "is no trace of this splitnet"),
        (arrays(**dict.fromkeys(COLUMNS, np.ones(5))), {"job": {"policy": "dpra"}}, "does not match its seal"),
    ],
    ids=["columns", "archive", "empty", "state", "times", "reasons", "job"],
)
def test_a_trace_made_on_purpose_is_refused(
    kept: Path, content: bytes, changes: dict[str, Any], message: str
) -> None:
    reseal(kept, content, **changes)
    with pytest.raises(SettingsError, match=message) as refused:
        load(kept, JOB)
    assert "\n" not in str(refused.value)


def test_an_edited_trace_or_seal_is_refused(kept: Path) -> None:
    path = kept / TRACES / f"{JOB.name}.npz"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(SettingsError, match=rf"^{path} was edited or damaged: .* take {JOB.name}.json out of"):
        load(kept, JOB)
    path.unlink()
    with pytest.raises(SettingsError, match=rf"^cannot read {path}: No such file"):
        load(kept, JOB)
    path.write_bytes(good)
    seal = path.with_suffix(".json")
    seal.write_text(seal.read_text().replace("cannot afford", "could not afford"))
    with pytest.raises(SettingsError, match="edited or damaged"):
        load(kept, JOB)


# --- the folder


def test_a_folder_is_one_simulations_at_a_time(tmp_path: Path) -> None:
    with open_folder(tiny(), asked(), path=tmp_path / "run") as folder:
        with pytest.raises(
            SettingsError, match=r"run is in use by another simulation; wait until it ends, or choose"
        ):
            open_folder(tiny(), asked(), resume=folder.path)
        with pytest.raises(SettingsError, match="is in use"):
            open_folder(tiny(), asked(), path=folder.path)
    open_folder(tiny(), asked(), resume=folder.path).close()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(SettingsError, match=r"is not empty; go on with its run by --resume"):
        open_folder(tiny(), asked(), path=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(SettingsError, match=r"letter.txt: Not a directory; choose another folder with -o DIR"):
        open_folder(tiny(), asked(), path=tmp_path / "letter.txt")
    with pytest.raises(SettingsError, match=r"letter.txt: Not a directory; name a simulation's folder"):
        open_folder(tiny(), asked(), resume=tmp_path / "letter.txt")
    with pytest.raises(SettingsError, match=r"No such file or directory; name a simulation's folder"):
        open_folder(tiny(), asked(), resume=tmp_path / "none")
    with pytest.raises(SettingsError, match=r"cannot read .*manifest.json: No such file or directory"):
        open_folder(tiny(), asked(), resume=tmp_path)


def test_a_folder_that_cannot_be_begun_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise SettingsError("cannot write: No space left on device")

    monkeypatch.setattr(SimulationFolder, "_write_manifest", refuse)
    with pytest.raises(SettingsError, match="No space left"):
        open_folder(tiny(), asked(), path=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": 9}, "was begun with --slots 8, not 9;"),
        ({"seeds": 3}, "was begun with --seeds 2, not 3;"),
        ({"v": (4.0000000001,)}, "was begun with --V 4, not 4.0000000001;"),
        ({"v": (4.0, 16.0)}, "was begun with --V 4, not 4,16;"),
        ({"devices": (5,)}, "was begun with --devices none, not 5;"),
        ({"policies": ("wdpo", "dpra")}, "was begun with --policy dpra,wdpo, not wdpo,dpra;"),
    ],
)
def test_a_run_of_other_settings_is_not_gone_on_with(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    open_folder(tiny(), asked(), path=tmp_path).close()
    with pytest.raises(SettingsError) as refused:
        open_folder(tiny(), replace(asked(), **changes), resume=tmp_path)
    assert message in str(refused.value)


def test_a_run_of_another_scenario_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_folder(tiny(), asked(), path=tmp_path).close()
    more = tiny().with_devices(4)
    with pytest.raises(SettingsError, match=r"^scenario tiny has changed since the run in .* was begun; choose"):
        open_folder(more, asked(), resume=tmp_path)
    monkeypatch.setattr("splitnet.simulating.run.metadata.version", lambda name: "0.0")
    with pytest.raises(SettingsError, match=r"was begun with splitnet .*, not 0.0; choose another folder"):
        open_folder(tiny(), asked(), resume=tmp_path)


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    open_folder(tiny(), asked(), path=tmp_path).close()
    path = tmp_path / MANIFEST
    whole = path.read_text()
    for text in (whole[:100], whole.replace('"running"', '"complete"'), "[]", "{}"):
        path.write_text(text)
        with pytest.raises(SettingsError) as refused:
            open_folder(tiny(), asked(), resume=tmp_path)
        assert str(path) in str(refused.value)

"""What a machine is told: written whole or not at all, and refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitnet.errors import SettingsError
from splitnet.machines.assignment import Assignment, read_assignment
from splitnet.models.reference import ModelRef


def told(folder: Path) -> Assignment:
    return Assignment(
        folder=str(folder),
        models=[ModelRef("toy_chain")],
        cuts=[(1, 3)],
        codecs=["none"],
        gateway_speed=[0.2],
        ap_speed=[0.3],
        ap_hash_rate=[1e5],
        input_shapes=[(3, 8, 8)],
        seed=7,
        actuator="pacing",
        paced_links=True,
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "assignment.json"
    told(tmp_path).write(path)
    assert read_assignment(path) == told(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "assignment.json"
    with pytest.raises(SettingsError, match=r"cannot write .*assignment.json: No such file or directory; make room"):
        told(tmp_path).write(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"folder": 3}'])
def test_what_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "assignment.json"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="cannot read the assignment"):
        read_assignment(path)

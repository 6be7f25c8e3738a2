"""Devices and their digital twins: what is measured, signed, taken over, and how old it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from splitnet.consensus.errors import DataPointsError, SignatureOfReceiptError, UnknownMemberError
from splitnet.consensus.receipt import Arrival, sign_arrival, value_digest
from splitnet.consensus.values import value_bytes
from splitnet.errors import ProtocolError, SettingsError
from splitnet.machines.devices import Sensor
from splitnet.machines.twins import DigitalTwin
from tests.consortium import a_key, some_rules

RULES = some_rules()
SHAPE = (3, 8, 8)


def signed(twin: int, slot: int, batch: torch.Tensor, points: int | None = None, by: int | None = None) -> bytes:
    arrival = Arrival(slot, twin, points or len(batch), value_digest(value_bytes([batch])))
    return sign_arrival(RULES, a_key("device", twin if by is None else by), arrival)


def test_a_sensor_sees_the_same_for_the_same_seed_and_nothing_else_for_another() -> None:
    first, again = (Sensor(1, SHAPE, 7, None).batch(4, 5) for _ in range(2))
    assert first.shape == (5, *SHAPE)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    for other in (
        Sensor(2, SHAPE, 7, None).batch(4, 5),
        Sensor(1, SHAPE, 8, None).batch(4, 5),
        Sensor(1, SHAPE, 7, None).batch(5, 5),
    ):
        assert not torch.equal(first, other)


def test_pictures_come_in_turn(tmp_path: Path) -> None:
    for number, grey in enumerate((0, 128, 255)):
        Image.new("RGB", (16, 8), (grey, grey, grey)).save(tmp_path / f"{number}.png")
    batch = Sensor(0, SHAPE, 0, tmp_path).batch(0, 7)
    assert batch.shape == (7, *SHAPE)
    levels = batch.mean(dim=(1, 2, 3))
    assert len(set(levels.tolist())) == 3
    assert torch.equal(levels[:3], levels[3:6])


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has no pictures"):
        Sensor(0, SHAPE, 0, tmp_path)


def test_a_twin_holds_the_latest_state_and_knows_its_age() -> None:
    twin = DigitalTwin(RULES, 1)
    assert twin.state(0) is None
    for slot in (0, 3):
        batch = torch.full((2, *SHAPE), float(slot))
        twin.update(slot, 2, batch, measured_ns=5_000_000_000, signature=signed(1, slot, batch))
    assert twin.state(0) is None, "an older slot is gone"
    state = twin.state(3)
    assert state is not None
    assert torch.equal(state.batch, torch.full((2, *SHAPE), 3.0))
    assert state.age_s(5_250_000_000) == pytest.approx(0.25)
    assert state.arrival.data_points == 2


def test_a_twin_believes_its_device_alone() -> None:
    batch = torch.zeros(2, *SHAPE)
    twin = DigitalTwin(RULES, 1)
    with pytest.raises(SignatureOfReceiptError, match="not signed by the device device-1"):
        twin.update(0, 2, batch, 0, signed(1, 0, batch, by=2))
    with pytest.raises(SignatureOfReceiptError):
        twin.update(0, 2, batch + 1, 0, signed(1, 0, batch))
    with pytest.raises(SignatureOfReceiptError):
        twin.update(1, 2, batch, 0, signed(1, 0, batch))
    with pytest.raises(ProtocolError, match="sends 2 data points and says 3"):
        twin.update(0, 3, batch, 0, signed(1, 0, batch, points=3))
    many = torch.zeros(16, *SHAPE)
    with pytest.raises(DataPointsError):
        twin.update(0, 16, many, 0, signed(1, 0, many))
    assert twin.state(0) is None
    twin.update(5, 2, batch, 0, signed(1, 5, batch))
    with pytest.raises(ProtocolError, match="sends the state of slot 5 after that of slot 5"):
        twin.update(5, 2, batch, 0, signed(1, 5, batch))
    with pytest.raises(UnknownMemberError):
        DigitalTwin(RULES, 99).update(0, 2, batch, 0, signed(1, 0, batch))

"""Slots of a run with round numbers: two gateways, each on an AP of its own, and a DT on each."""

from __future__ import annotations

from typing import Any

from splitnet.controller.policy import State
from splitnet.controller.queues import Queues
from splitnet.profiling.machine import machine_fingerprint
from splitnet.running.folder import Manifest, Played
from splitnet.running.settings import RunSettings
from splitnet.runtime.speed import Use
from splitnet.runtime.transfers import Transfer
from splitnet.slot_record import Mined, Reading, SlotEnergy, SlotRecord, SlotTimes, Twin

GATEWAY_OF, AP_OF = (0, 1), (0, 1)
SECOND_NS = 1_000_000_000


def times(gateway_s: list[float], link_s: list[float], ap_s: list[float], block_s: float) -> SlotTimes:
    paths = [sum(parts) for parts in zip(gateway_s, link_s, ap_s, strict=True)]
    return SlotTimes(gateway_s, link_s, ap_s, max(paths), block_s)


def use(taken_s: float, asked: float = 0.5, achieved: float = 0.5, lane: str = "bottoms") -> Use:
    return Use(lane, asked, achieved, achieved * taken_s, taken_s)


def transfer(bits: int, taken_s: float, asked_bps: float | None = 1e6, burst_bytes: int = 0) -> Transfer:
    return Transfer(bits // 8, asked_bps, 0, round(taken_s * SECOND_NS), True, burst_bytes)


def mined(ap: int, hashes: int = 1000, mining_s: float = 0.5, asked: float = 2000.0, height: int = 1) -> Mined:
    return Mined(height, "ab" * 32, ap, 2, hashes, mining_s, asked)


def record(slot: int, **changes: Any) -> SlotRecord:
    """Predicted Theta 1.0 and block 0.25; measured 1.25 and 0.5."""
    values: dict[str, Any] = {
        "slot": slot,
        "twins": [Twin(5, 3, 0.1), Twin(7, 4, 0.3)],
        "asked_bps": [1e6, 1e6],
        "rate_bps": [1e6, 1.01e6],
        "plan": "l=3,4 rho=0.50,0.50 bloc=1.00,1.00",
        "predicted": times([0.5, 0.25], [0.25, 0.25], [0.25, 0.25], 0.25),
        "measured": times([0.625, 0.25], [0.25, 0.25], [0.375, 0.25], 0.5),
        "exchange_s": 0.0625,
        "slot_s": 2.0,
        "results": 2,
        "equal": 2,
        "max_error": 0.0,
        "uploads": [transfer(250_000, 0.25), transfer(250_000, 0.25)],
        "bottoms": [use(0.625), use(0.25)],
        "tops": [use(0.375, lane="gateway 0"), use(0.25, lane="gateway 1")],
        "mined": [mined(0, height=slot + 1), mined(0, hashes=500, height=slot + 1)],
        "energy": SlotEnergy([0.5, 0.25], [1.5, 2.5], [3.0, 1.0], [Reading("cpu", "RAPL package", 40.0 + slot)]),
        "reputation": [0.5, 0.125],
        "queue": [0.25, 0.5],
        "infeasible": None,
        "state": State(slot + 1, Queues.empty(2), (1, 2)).as_dict(),
        "dropped": [],
        "slowness": [1.0, 1.0, 1.0, 1.0],
    }
    return SlotRecord(**{**values, **changes})


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "status": "running",
        "created": "2026-01-31T12:00:00+00:00",
        "scenario": "tiny",
        "scenario_digest": "00" * 32,
        "scenario_content": {},
        "settings": RunSettings("dpra", 4, 16.0),
        "machine": machine_fingerprint(),
        "versions": {"numpy": "1"},
        "emulation": Played([0.2, 0.1], [0.3, 0.3], 1e6, 1000, 10, None, 0.15, 0.3, 0.0, {"net": "00"}),
    }
    return Manifest(**{**values, **changes})

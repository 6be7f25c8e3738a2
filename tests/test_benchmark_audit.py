"""The audits' benchmark: its theory by enumeration, and a liar's life in a real chain, slot by slot."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from benchmarks import audit, audit_collusion
from benchmarks.audit_chain import Counts
from benchmarks.audit_network import SUSPENDED_SLOTS
from benchmarks.audit_report import draw_found, expected_reputation, expected_share, show


@pytest.mark.parametrize(("share", "others", "receipts"), [(0.3, 3, 1), (0.3, 2, 2), (0.0, 4, 1), (1.0, 1, 1)])
def test_the_share_found_by_enumeration(share: float, others: int, receipts: int) -> None:
    found = 0.0
    for draws in itertools.product((True, False), repeat=others * receipts):
        chance = 1.0
        for drawn in draws:
            chance *= share if drawn else 1 - share
        found += chance * any(draws)
    assert expected_share(share, others, receipts) == pytest.approx(found, abs=1e-15)


def test_the_reputation_of_a_liar_by_hand() -> None:
    """q = 1/2: two slots of lies, one until it is recorded, seven at zero."""
    assert expected_reputation(0.5, 1, 1, 7) == pytest.approx(3 / 10)


def test_a_liar_counts_until_its_proof_is_recorded_and_then_k_slots_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "GAIN_SHARES", (1.0,))
    (row,) = audit.gain(Counts(lies=1, pool=1, repeats=1, slots=2 * SUSPENDED_SLOTS + 5, colluding=1))
    # slot 0 lies, slot 1 records the proof, 2..101 are zero, 102 lies, 103 records, 104..203 are zero, 204 lies
    assert row["until_found"] == [1, 1, 1]
    assert row["lying"] == 3
    assert row["sum_u"] == pytest.approx(5 * row["honest_u"])


def test_withheld_receipts_earn_nothing_when_all_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_collusion, "GAIN_SHARES", (1.0,))
    (row,) = audit_collusion.withholding(Counts(lies=1, pool=1, repeats=1, slots=24, colluding=1))
    assert row["voids"] == row["receipts"] == 12
    assert row["u"] == [row["honest_u"], *[0.0] * 5]
    assert row["suspended_to"] == -1


def test_tables_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counts(lies=5, pool=4, repeats=2, slots=8, colluding=2)
    results: dict[str, Any] = {
        "tolerance": 0.001,
        "tricks": audit_collusion.tricks(counts),
        "cost": audit.cost(counts),
    }
    show(results)
    printed = capsys.readouterr().out
    assert "one inference replayed with noise" in printed
    assert [(row["refused"], row["found"]) for row in results["tricks"]] == [(2, 0), (0, 2), (0, 2), (0, 0), (0, 0)]
    draw_found([{"share": 0.5, "others": 3, "lies": 10, "found": 9}], tmp_path / "found.png")
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")

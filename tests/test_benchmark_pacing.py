"""The benchmark of pacing: its figures by hand, and that its runs hold what they say."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.pacing import (
    COLUMNS,
    FRACTIONS,
    PASSES,
    Counts,
    Whole,
    alone,
    by_case,
    kept,
    show,
    two_lanes,
    waited_for_a_core_ns,
)
from splitnet.models.reference import ModelRef

Row = dict[str, Any]


def a_case(asked: float, *uses: tuple[float, float, float | None]) -> Row:
    """Of (CPU, elapsed, waited) seconds."""
    rows = [
        {"model": "toy_chain", "actuator": "pacing", "asked": asked, **dict(zip(COLUMNS, use, strict=True))}
        for use in uses
    ]
    (case,) = by_case(rows)
    return case


def test_figures_of_a_run_by_hand() -> None:
    cases = [
        a_case(0.5, (0.5, 1.0, 0.0), (0.8, 2.0, 0.5), (0.45, 1.0, 0.009)),
        a_case(0.25, (0.275, 1.0, 0.0)),
    ]
    found = kept(cases)
    # asked would have taken 1 + 1.6 + 0.9 + 1.1 of 5 s; without the second 3 of 3 s
    assert found.run == pytest.approx(4.6 / 5 - 1)
    assert found.undisturbed == pytest.approx(0.0)
    assert found.share == 0.75
    # errors 0, -20%, -10% and 10%
    assert found.median == pytest.approx(-0.05)
    assert found.quarter == pytest.approx((0.075 + 0.175) / 2)


def test_uses_that_nobody_watched_are_not_called_undisturbed() -> None:
    found = kept([a_case(0.5, (0.5, 1.0, None), (0.5, 1.0, 0.02))])
    assert (found.undisturbed, found.share) == (None, 0.0)


def test_a_small_run(capsys: pytest.CaptureFixture[str]) -> None:
    toy = Whole(ModelRef("toy_chain"))
    rows = alone(Counts(1, 0), [toy], ["pacing"])
    assert sorted(row["asked"] for row in rows) == sorted(FRACTIONS * PASSES)
    assert all(row["achieved"] <= row["asked"] * (1 + 1e-6) for row in rows)
    assert all((row["waited_s"] is None) == (waited_for_a_core_ns() is None) for row in rows)
    lanes = two_lanes(toy, (0.2, 0.6))
    assert {(row["lane"], row["asked"]) for row in lanes} >= {("lane 0", 0.2)}
    assert sum(row["lane"] == "lane 0" for row in lanes) == PASSES
    by_hand = [a_case(0.2, (0.2, 1.0, 0.0), (0.2, 1.0, 0.0))]
    show({"alone": by_case(rows), "together": by_hand, "cgroup": "cgroup: not here"})
    shown = capsys.readouterr().out
    assert "alone, pacing, over the run:" in shown
    assert "together, pacing, over the run: +0.00% of 5% (met), undisturbed +0.00% (100%)" in shown
    assert "cgroup: not here" in shown

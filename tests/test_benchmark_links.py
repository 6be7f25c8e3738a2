"""The benchmark of links: what is judged and how, on transfers whose errors are known, and a real one."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from benchmarks import links
from splitnet.runtime.rates import RateTrace


def row(error: float, **more: Any) -> dict[str, Any]:
    return {
        "backend": "user",
        "rate_bps": 1e6,
        "traced": False,
        "body_bytes": 1000,
        "error": error,
        "small": False,
        "free": False,
        **more,
    }


def test_medians_stand_for_transfers_and_small_ones_are_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(0.01), row(-0.5), row(0.02)]
    rows += [row(0.2, backend="kernel", small=True), row(9.0, body_bytes=10, backend="kernel", free=True, small=True)]
    rows += [row(0.04, traced=True), row(0.05, traced=True)]
    found = {(cell["backend"], cell["body_bytes"], cell["traced"]): cell for cell in links.cells(rows)}
    assert len(found) == 4
    fixed = found["user", 1000, False]
    assert (fixed["error"], fixed["worst"], fixed["count"], fixed["marks"]) == (0.01, -0.5, 3, [])
    assert found["user", 1000, True]["error"] == pytest.approx(0.045)
    assert found["kernel", 1000, False]["marks"] == ["small"]
    assert found["kernel", 10, False]["marks"] == ["free", "small"]
    links.show(
        {
            "transfers": rows,
            "setting_s": {"user": [0.001, 0.003], "kernel": [0.005]},
            "noting_s": {"without": [1e-6], "with": [2e-6]},
            "not_measured": {"other": "no such thing"},
        }
    )
    said = capsys.readouterr().out
    assert "user: 1 of 2 within 3%; to set a rate takes 2.0 ms" in said
    assert "kernel: 0 of 0 within 3%" in said
    assert "other: not measured: no such thing" in said
    assert said.count("over 3%") == 1


def test_an_alternating_rate_has_the_mean_it_is_named_by() -> None:
    trace = links.alternating(8e6, 1_000_000)
    assert trace.rates_bps[:3] == (4e6, 12e6, 4e6)
    assert trace.starts_s[-1] >= 1.0
    assert trace.mean_bps(0.0, 1.0) == pytest.approx(8e6)


def test_a_transfer_between_two_processes() -> None:
    """100 kB at 8 Mbit/s take 0.1 s, no less; then along a trace whose rate is asked over the transfer's own time."""
    with contextlib.ExitStack() as stack:
        backend = links.user(stack)
        transfer = backend.transfer(100_000, 8e6)
        assert 100_000 < transfer.size_bytes < 101_000
        assert transfer.asked_bps == 8e6
        assert transfer.received
        assert 0.1 <= (transfer.ended_ns - transfer.started_ns) * 1e-9 < 10
        traced = backend.transfer(100_000, RateTrace((0.0, 0.05), (8e6, 80e6)))
        assert traced.asked_bps is not None
        assert 8e6 < traced.asked_bps < 80e6
        assert len(backend.setting_s) == 2


def test_noting_times_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "NOTED", 20)
    found = links.noting()
    assert {name: len(seconds) for name, seconds in found.items()} == {"with": 18, "without": 18, "without again": 18}
    assert all(second > 0 for seconds in found.values() for second in seconds)

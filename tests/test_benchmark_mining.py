"""The benchmark of mining: statistics on samples whose answer is known, predictions, the sections run in short."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import mining, mining_report
from splitnet.consensus.difficulty import expected_hashes


def exponential_quantiles(mean: float, count: int) -> list[float]:
    """As even a sample as there can be."""
    return [-mean * math.log(1 - (place + 0.5) / count) for place in range(count)]


def raced(blocks: list[float], **more: Any) -> dict[str, Any]:
    count = len(blocks)
    return {
        "winner": [place % 3 for place in range(count)],
        "together": [False] * count,
        "block_s": blocks,
        "winner_s": [one - 1e-4 for one in blocks],
        "stop_s": [2e-4] * (count - 1) + [0.02],
        "idle_s": [1e-4] * (count - 2) + [0.02, 0.03],
        "hashes": [round(one * 80e3) for one in blocks],
        "ap_hashes": [99, 100, 101],
        "ap_mining_s": [1.0, 1.0, 1.0],
        "rates": [100.0, 100.0, 100.0],
    } | more


def test_exponential_times_pass_and_others_fail() -> None:
    sample = exponential_quantiles(0.1, 500)
    assert mining_report.exponential_p(sample, 0.1) > 0.99
    assert mining_report.exponential_p(sample, 0.13) < 0.01
    assert mining_report.exponential_p([0.1] * 500, 0.1) < 1e-6
    assert mining_report.exponential_p([one + 0.02 for one in sample], 0.1) < 1e-3


def test_chi_square_by_hand() -> None:
    # 40, 30, 30 of 100 where 50, 25, 25 were expected: 2 + 1 + 1 = 4, two degrees of freedom: p = exp(-2).
    assert mining_report.share_p([0] * 40 + [1] * 30 + [2] * 30, [0.5, 0.25, 0.25]) == pytest.approx(math.exp(-2))
    assert mining_report.share_p([0] * 4, [0.5, 0.25, 0.25]) == pytest.approx(math.exp(-2))  # some never win


def test_shares_by_hashes_by_hand() -> None:
    # 400 tickets at 1/100 and 100 at 1/50: 4 and 2 wins.
    assert mining_report.hash_shares({"ap_hashes": [400, 100], "chances": [0.01, 0.02]}) == pytest.approx(
        [2 / 3, 1 / 3]
    )


def test_a_mean_and_its_interval_by_hand() -> None:
    # Deviation sqrt(2.5), five values: 1.96 sqrt(2.5 / 5).
    assert mining_report.mean_of([1, 2, 3, 4, 5]) == pytest.approx((3, 1.959964 * 0.5**0.5))


def test_a_line_through_exact_means() -> None:
    reputations = (0.0, 0.5, 1.5)
    samples = [
        exponential_quantiles(3 * math.exp(-2 * one), count)
        for one, count in zip(reputations, (400, 500, 900), strict=True)
    ]
    line = mining_report.log_line(reputations, samples)
    assert (line.slope, line.intercept) == pytest.approx((-2, math.log(3)), abs=0.01)
    # For exponential samples each weight is their number: centre 8/9, sum of n (U - centre)^2 = 725.
    assert line.half == pytest.approx(1.96 / 725**0.5, rel=0.02)
    assert line.bend_p > 0.9


def test_a_bend_is_seen() -> None:
    samples = [exponential_quantiles(mean, 1000) for mean in (1.0, 0.2, 0.14)]
    assert mining_report.log_line((0.0, 0.5, 1.0), samples).bend_p < 1e-6


def test_targets_are_those_of_the_formula() -> None:
    """gamma by the C library's exp against `decimal`."""
    hashes = mining.hashes_for(0.08, mining.REPUTATIONS, mining.RATES)
    each = mining.lambdas(hashes, mining.REPUTATIONS, mining.RATES)
    assert 1 / sum(each) == pytest.approx(0.08, rel=1e-4)
    for reputation, rate, expected in zip(mining.REPUTATIONS, mining.RATES, each, strict=True):
        target = mining.target_at(mining.mining_of(hashes), reputation)
        assert rate / expected_hashes(target) == pytest.approx(expected, rel=1e-12)
    # By hand: 1/12 s with 100 hashes/s at U = 0 and 100 e^(2 * 0.5) = 271.8 at U = 0.5.
    assert mining.hashes_for(1 / 12, (0.0, 0.5), (100.0, 100.0)) == pytest.approx((100 + 271.828) / 12)


def test_plain_loops_find_what_they_must() -> None:
    below = (2**256 // 500).to_bytes(32)
    found = mining.bare_loop(bytes(32), 0, 20_000, below)
    assert found is not None
    assert mining.one_shot_loop(bytes(32), 0, 20_000, below) == found
    assert mining.bare_loop(bytes(32), 0, found, below) is None


def test_limits_are_judged(capsys: pytest.CaptureFixture[str]) -> None:
    even = exponential_quantiles(0.1, 300)
    shares = {"expected_shares": [1 / 3] * 3, "reputations": [0.1, 0.4, 0.8], "chances": [1e-4] * 3}
    results: dict[str, Any] = {
        "alpha": 2,
        "rate": {"mining process": [96.0, 100.0, 90.0], "bare loop": [100.0, 99.0, 101.0]},
        "stops": {"unlimited": [1e-3] * 99 + [11e-3]},
        "throttle": [{"asked": None, "achieved": 150.0}]
        + [{"asked": asked, "achieved": got} for asked, got in ((100.0, 96.0), (100.0, 99.0), (200.0, 150.0))],
        "times": raced(even, expected_s=0.1, expected_hashes=8000, rates=[105.0, 100.0, 100.0]),
        "races": raced(even, expected_s=0.05, **shares),
        "slope": [
            raced([one * math.exp(-2.2 * u) for one in even], reputation=u, expected_s=0.1 * math.exp(-2 * u))
            for u in (0.0, 0.5, 1.0)
        ],
    }
    mining_report.show(results)
    text = " ".join(capsys.readouterr().out.split())
    for said in (
        "mining process over bare loop, of the medians: 0.960 (limit 0.95: met)",
        "p95 1.00 ms (limit 10: met), longest 11.00 ms (limit 10: NOT met)",
        "off by at most 4.00% (limit 5%: met); more than the process can do, and told so: 200",
        "against the exponential with the predicted rate: p = 1.000 (limit 0.01: met)",
        "lambda_j/Lambda: p = 1.000 (limit 0.01: met)",
        "99 of 105 (-5.71%), 100 of 100 (+0.00%), 101 of 100 (+1.00%) (limit -5%: NOT met)",
        "to an idle process: median 0.100 ms, p95 0.100, longest 30.000, 2 over 10 ms",
        "exponential with Lambda: p = 0.000 (limit 0.01: NOT met)",
        "longest 20.000, 1 over 10 ms; two had a nonce at once in 0 of 300 races",
        "99 of 100 (-1.00%), 100 of 100 (+0.00%), 101 of 100 (+1.00%) (limit -5%: met)",
        "expected -2: off by 10.00% (limit 5%: NOT met); a straight line: p = 1.00",
    ):
        assert said in text


def test_sections_run_and_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = mining.Counts(2, 0.02, 2, 1, 0.02, 3, 0.02, 24, 0.02, (4, 4, 4, 4, 4), 0.02)
    results = mining.measure(counts, mining.SECTIONS)
    assert len(results["times"]["block_s"]) == 3 * mining.CHAINS * mining.APS
    assert len(results["races"]["winner"]) == 24
    assert min(results["races"]["block_s"]) > 0
    assert len(results["races"]["idle_s"]) == 24
    assert min(results["races"]["idle_s"]) > 0
    assert [len(row["block_s"]) for row in results["slope"]] == [4] * 5
    assert all(np.diff([row["expected_s"] for row in results["slope"]]) < 0)
    mining_report.show(results)
    assert "slope of log E tau^bloc" in capsys.readouterr().out
    mining_report.draw(results, tmp_path / "mining.png")
    assert (tmp_path / "mining.png").stat().st_size > 10_000

"""Table, picture and trace of results whose every figure is known."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from splitnet.errors import SettingsError
from splitnet.measurement import ApInstants, BenchResult, CutRow, Sample, Timeline
from splitnet.report.bench import COLOURS, bench_table, chrome_trace, draw_bench, verdict
from splitnet.report.drawing import human_bytes, shorten

MS = 10**6


def split(begin_ms: int, scale: int = 1, *, ahead_ms: int = 0, shared: bool = True) -> Timeline:
    """Nine spans of 1 to 9 ms times `scale`: bottom 1, encode 2, up 3, queue 4, decode 5, top 6, and back."""
    at = [MS * (begin_ms + scale * sum(range(1, n + 1))) for n in range(10)]
    ap = ApInstants(*(instant + MS * ahead_ms for instant in at[3:8]))
    return Timeline(at[0], at[1], at[2], at[8], at[9], ap, shared)


def alone(begin_ms: int, bottom_ms: int) -> Timeline:
    start, end = MS * begin_ms, MS * (begin_ms + bottom_ms)
    return Timeline(start, end, end, end, end, None, True)


LONG = "features.denseblock4.denselayer16.conv2"


def bench(*, ahead_ms: int = 0, shared: bool = True, error: float = 0.0) -> BenchResult:
    def row(cut: int, layer: str, clean: bool, scale: int) -> CutRow:
        lines = [split(1000 * repeat + 100 * cut, scale, ahead_ms=ahead_ms, shared=shared) for repeat in (1, 2)]
        samples = [Sample(cut, at, line, 2_500_000, error == 0, error) for at, line in enumerate(lines)]
        return CutRow(cut, layer, clean, 2_500_000, tuple(samples))

    last = tuple(Sample(3, at, alone(1500 + at, 90), 0, True, 0.0) for at in (0, 1))
    rows = (row(0, "input", True, 2), row(1, LONG, False, 1), CutRow(3, "fc", True, 0, last))
    local: dict[str, tuple[float, ...]] = {"gateway": (0.0321, 0.0323), "ap": (0.0111, 0.0111)}
    return BenchResult("toy", 3, rows, local, {"codec": "none", "link": "50mbit", "batch": 4}, None)


def test_verdict_names_the_best_cut_and_the_unsplit_model() -> None:
    assert verdict(bench()) == "best: cut 1 (after features.denseblock4.denselayer16.conv2), 45.00 ms; " + (
        "unsplit: 32.20 ms on the gateway, 11.10 ms on the AP"
    )
    result = bench()
    ends = (replace(result, rows=result.rows[:1]), replace(result, rows=result.rows[2:]))
    assert [verdict(one).split(",")[0] for one in ends] == [
        "best: cut 0 (all on the AP)",
        "best: cut 3 (all on the gateway)",
    ]


# --- the table


def printed(result: BenchResult, width: int = 100) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(bench_table(result))
    return out.getvalue().splitlines()


def line_with(lines: list[str], word: str) -> str:
    """The first line that holds `word`, with single blanks."""
    return " ".join(next(line for line in lines if word in line).split())


def test_table_shows_each_cut_and_the_unsplit_model() -> None:
    lines = printed(bench())
    assert line_with(lines, "codec") == "toy, codec none, link 50mbit, batch 4 (ms)"
    assert line_with(lines, "payload") == "cut layer payload gateway encode link queue AP decode return total p95"
    # encode is 2 + 7 at scale 1, decode 5 + 9; the total 1 + ... + 9
    assert line_with(lines, "input") == "c 0 input 2.50 MB 2.00 18.00 6.00 8.00 12.00 28.00 16.00 90.00 90.00"
    assert line_with(lines, "conv2").startswith("* 1 features.")
    assert line_with(lines, "conv2").endswith(" 2.50 MB 1.00 9.00 3.00 4.00 6.00 14.00 8.00 45.00 45.00")
    assert line_with(lines, " fc ") == "c 3 fc 0 B 90.00 0.00 0.00 0.00 0.00 0.00 0.00 90.00 90.00"
    assert line_with(lines, "unsplit, gateway") == "unsplit, gateway - - - - - - - 32.20 32.29"
    assert line_with(lines, "unsplit, AP") == "unsplit, AP - - - - - - - 11.10 11.10"


def test_only_the_best_cut_is_bold() -> None:
    result = bench()
    styles = [row.style for row in bench_table(result).rows]
    assert styles == [None, "bold", None, None, None]


def test_table_says_what_total_is_and_whether_outputs_are_equal() -> None:
    text = " ".join(printed(bench()))
    assert "total: one span on the gateway's clock" in text
    assert "Medians of 2 inferences" in text
    assert "bit for bit" in text
    assert "Two hosts" not in text
    wrong = " ".join(printed(bench(error=0.00123)))
    assert "Largest error against the unsplit model: 0.0012 (cut 0)" in wrong
    assert "bit for bit" not in wrong


def test_across_hosts_the_return_is_a_dash() -> None:
    lines = printed(bench(ahead_ms=10**6, shared=False))
    # the link's 22 are the 6 up and the 16 back
    assert line_with(lines, "input") == "c 0 input 2.50 MB 2.00 18.00 22.00 8.00 12.00 28.00 - 90.00 90.00"
    assert "link is the way up and the return together" in " ".join(lines)


@pytest.mark.parametrize("factor", [1, 1000, 10_000])
def test_table_fits_into_100_columns(factor: int) -> None:
    result = bench()
    slow = [
        replace(row, cut=990 + at, samples=(replace(row.samples[0], timeline=split(0, factor)),))
        for at, row in enumerate(result.rows)
    ]
    lines = printed(replace(result, rows=tuple(slow)))
    assert max(map(len, lines)) <= 100
    assert line_with(lines, "input").startswith("*c 990 input 2.50 MB ")
    assert line_with(lines, "conv2").startswith("991 features.de…ayer16.conv2 2.50 MB ")
    assert line_with(lines, " fc ").startswith("c 992 fc 0 B ")


def test_names_are_shortened_in_the_middle() -> None:
    assert shorten("layer1.0.conv1", 14) == "layer1.0.conv1"
    assert shorten("layer1.0.conv1", 9) == "laye…onv1"
    assert shorten("layer1.0.conv1", 8) == "lay…onv1"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (802_816, "803 kB"),
        (999_400, "999 kB"),
        (999_600, "1.00 MB"),
        (12_845_056, "12.8 MB"),
        (5_000_000_000_000, "5000 GB"),
    ],
)
def test_human_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text


# --- the picture


def area(image: Path, colour: str) -> int:
    """Pixels of exactly this colour."""
    with Image.open(image) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return int((pixels == wanted).all(axis=-1).sum())


def test_pieces_of_a_bar_are_as_tall_as_the_components(tmp_path: Path) -> None:
    row = CutRow(1, "a", True, 9, (Sample(1, 0, split(0), 9, True, 0.0),))
    draw_bench(BenchResult("toy", 2, (row,), {}, {}, None), tmp_path / "bench.png")
    expected = {"encode_s": 9, "link_s": 3, "queue_s": 4, "decode_s": 14, "ap_s": 6, "return_s": 8}
    one_ms = area(tmp_path / "bench.png", COLOURS["decode_s"]) / 14
    for name, time_ms in expected.items():
        assert area(tmp_path / "bench.png", COLOURS[name]) / one_ms == pytest.approx(time_ms, rel=0.15), name


def test_colours_are_distinct() -> None:
    assert len(set(COLOURS.values())) == len(COLOURS) == 7


@pytest.mark.parametrize("count", [1, 2, 13, 200])
def test_any_number_of_cuts_can_be_drawn(tmp_path: Path, count: int) -> None:
    rows = tuple(
        CutRow(cut, LONG, True, 9, (Sample(cut, 0, split(0, 1 + cut % 5), 9, True, 0.0),)) for cut in range(count)
    )
    draw_bench(replace(bench(), rows=rows), tmp_path / "bench.png")
    with Image.open(tmp_path / "bench.png") as image:
        width, height = image.size
    assert 1000 < width < 4000
    assert 600 < height < 1200
    assert [path.name for path in tmp_path.iterdir()] == ["bench.png"]


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot write .*bench\.png: No such file or directory; .*--runs DIR"):
        draw_bench(bench(), tmp_path / "nowhere" / "bench.png")
    assert list(tmp_path.iterdir()) == []


# --- the trace


def spans(trace: dict[str, Any], cut: int, repeat: int = 0) -> dict[tuple[int, int, str], tuple[float, float]]:
    """(pid, tid, name) to (from, to) in ms."""
    return {
        (event["pid"], event["tid"], event["name"]): (event["ts"] / 1e3, (event["ts"] + event["dur"]) / 1e3)
        for event in trace["traceEvents"]
        if event["ph"] == "X" and (event["args"]["cut"], event["args"]["repeat"]) == (cut, repeat)
    }


def test_trace_holds_every_span_where_it_was() -> None:
    trace = chrome_trace(bench())
    # cut 1, scale 1, begins 100 ms after the first sample of cut 0, at which the trace begins
    assert spans(trace, 1) == {
        (1, 1, "bottom"): (100, 101),
        (1, 1, "encode"): (101, 103),
        (1, 2, "up"): (103, 106),
        (2, 1, "queue"): (106, 110),
        (2, 1, "decode"): (110, 115),
        (2, 1, "top"): (115, 121),
        (2, 1, "encode"): (121, 128),
        (1, 2, "return"): (128, 136),
        (1, 1, "AP and return"): (103, 136),
        (1, 1, "decode"): (136, 145),
    }
    assert spans(trace, 3, 1) == {(1, 1, "bottom"): (501, 591)}


def test_trace_is_json_that_names_its_processes_and_starts_at_0() -> None:
    trace = json.loads(json.dumps(chrome_trace(bench()), allow_nan=False))
    named = {event["pid"]: event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "process_name"}
    assert named == {1: "gateway", 2: "AP"}
    complete = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(complete) == 2 * (10 + 10 + 1)
    assert min(event["ts"] for event in complete) == 0
    assert [event["ts"] for event in complete] == sorted(event["ts"] for event in complete)
    assert {"cut": 1, "layer": LONG, "repeat": 1, "sent_bytes": 2_500_000} in [event["args"] for event in complete]
    assert "uncertainty_us" not in json.dumps(trace)


@pytest.mark.parametrize("ahead_ms", [-(10**9), 0, 7, 10**9])
def test_across_hosts_the_ap_is_laid_into_the_middle_of_the_round_trip(ahead_ms: int) -> None:
    trace = chrome_trace(bench(ahead_ms=ahead_ms, shared=False))
    # the round trip is 103..136 and the AP took 22 ms of it: 5.5 ms are left for each way
    assert spans(trace, 1) == {
        (1, 1, "bottom"): (100, 101),
        (1, 1, "encode"): (101, 103),
        (1, 2, "up (uncertain)"): (103, 108.5),
        (2, 1, "queue (uncertain)"): (108.5, 112.5),
        (2, 1, "decode (uncertain)"): (112.5, 117.5),
        (2, 1, "top (uncertain)"): (117.5, 123.5),
        (2, 1, "encode (uncertain)"): (123.5, 130.5),
        (1, 2, "return (uncertain)"): (130.5, 136),
        (1, 1, "AP and return"): (103, 136),
        (1, 1, "decode"): (136, 145),
    }
    args = [event["args"] for event in trace["traceEvents"] if event["name"] == "top (uncertain)"]
    assert {arg["cut"]: arg["uncertainty_us"] for arg in args} == {0: 11_000, 1: 5_500}

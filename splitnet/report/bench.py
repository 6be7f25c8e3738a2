"""A measured bench for people: a table for the terminal, a stacked-bar picture, a trace of every span.

Decides how figures are rounded, coloured and named. Computes no statistics of its own: they come from
`splitnet.measurement`. Knows nothing of how samples come about.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich.box
from matplotlib.axes import Axes
from rich.table import Table
from rich.text import Text

from splitnet.measurement import COMPONENTS, ApInstants, BenchResult, Sample, percentile
from splitnet.report.drawing import HALO, human_bytes, new_figure, save_figure, shorten, tidy
from splitnet.rundir import RUNS_WAY_OUT

LABELS = {
    "gateway_s": "gateway",
    "encode_s": "encode",
    "link_s": "link",
    "queue_s": "AP queue",
    "ap_s": "AP",
    "decode_s": "decode",
    "return_s": "return",
}
"""Components in the table's order, with their headings."""

# Okabe and Ito's palette, whose colours stay apart with every common kind of colour blindness.
COLOURS = {
    "gateway_s": "#0072B2",
    "encode_s": "#F0E442",
    "link_s": "#56B4E9",
    "queue_s": "#999999",
    "decode_s": "#E69F00",
    "ap_s": "#009E73",
    "return_s": "#CC79A7",
}
ROLES = {"gateway": ("gateway", "--"), "ap": ("AP", ":")}
"""Heading and line style of the unsplit model, by the role of the worker that ran it."""
MANY_BARS = 30
"""Above this many, labels stand upright and whiskers lose their caps."""

LAYER_WIDTH = 24
GATEWAY_PID, AP_PID = 1, 2
COMPUTE_TID, LINK_TID = 1, 2


def bench_table(result: BenchResult) -> Table:
    """A row per measured cut, then the unsplit model on each worker.

    Times are medians in ms, a column's digits chosen by its largest value; fits into 100 columns.
    """
    table = Table(
        title=f"{headline(result)} (ms)",
        title_style="bold",
        caption=_caption(result),
        caption_justify="left",
        box=rich.box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
    table.add_column("", no_wrap=True)
    table.add_column("cut", justify="right", no_wrap=True)
    table.add_column("layer", no_wrap=True)
    for heading in ("payload", *LABELS.values(), "total", "p95"):
        table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True, vertical="bottom")

    measured = [[*(row.median_s(name) for name in LABELS), row.total_s, row.total_p95_s] for row in result.rows]
    unsplit = [
        [*(None for _ in LABELS), result.local_s[role], percentile(samples, 95)]
        for role, samples in result.local_samples_s.items()
    ]
    columns = [[time for time in column if time is not None] for column in zip(*measured, *unsplit, strict=True)]
    columns[-2:] = [columns[-2] + columns[-1]] * 2  # total and p95 are read together
    decimals = [_decimals(column) for column in columns]

    def cells(times: Sequence[float | None]) -> list[Text]:
        return [Text(_ms(time, places)) for time, places in zip(times, decimals, strict=True)]

    for row, times in zip(result.rows, measured, strict=True):
        best = row is result.best
        marks = ("*" if best else " ") + ("c" if row.clean else "")
        table.add_row(
            marks,
            str(row.cut),
            Text(shorten(row.layer, LAYER_WIDTH)),
            human_bytes(row.payload_bytes),
            *cells(times),
            style="bold" if best else None,
        )
    table.add_section()
    for role, times in zip(result.local_samples_s, unsplit, strict=True):
        table.add_row("", "", f"unsplit, {ROLES[role][0]}", "", *cells(times))
    return table


def draw_bench(result: BenchResult, path: Path, way_out: str = RUNS_WAY_OUT) -> None:
    """One stacked bar per measured cut, written to `path` as PNG, whole or not at all.

    The pieces of a bar are medians of the components; the diamond is the median total, the whisker reaches
    its 95th percentile. Raises SettingsError where the disk refuses.
    """
    count, best = len(result.rows), result.rows.index(result.best)
    width_in = min(3 + 0.5 * min(count, 16) + 0.16 * max(count - 16, 0), 22)
    figure = new_figure(max(width_in, 7.5), 5.6)
    axes = figure.add_subplot()
    tops_ms = _draw_bars(axes, result)
    _draw_totals(axes, result)
    for role, time in result.local_s.items():
        heading, style = ROLES[role]
        label = f"unsplit, {heading}: {_short_ms(time)}"
        axes.axhline(1e3 * time, color="black", linestyle=style, linewidth=1.3, label=label, path_effects=HALO)

    tallest = max([*tops_ms, *(1e3 * time for time in result.local_s.values())])
    axes.set_ylim(0, 1.16 * tallest)
    side = "left" if best < count / 4 else "right" if best >= 3 * count / 4 else "center"
    axes.annotate(
        f"best: cut {result.best.cut}, {_short_ms(result.best.total_s)}",
        xy=(best, tops_ms[best]),
        xytext=(best, 1.09 * tallest),
        ha=side,
        fontweight="bold",
        arrowprops={
            "arrowstyle": "-|>",
            "color": "black",
            "relpos": ({"left": 0.0, "center": 0.5, "right": 1.0}[side], 0.0),
        },
    )
    _label_bars(axes, result, best)
    axes.set_ylabel("milliseconds")
    axes.set_title(headline(result), fontsize=11)
    tidy(axes)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper", frameon=False, fontsize=9)
    save_figure(figure, path, way_out)


def chrome_trace(result: BenchResult) -> dict[str, Any]:
    """Every span of every sample as a Chrome trace (a JSON object), which Perfetto opens; it starts at 0.

    Across hosts the AP's instants are laid so that the middle of its work is the middle of the round trip;
    its spans and the link's then carry `uncertainty_us`, by which they may lie earlier or later.
    """
    events: list[dict[str, Any]] = []
    samples = [(row.layer, sample) for row in result.rows for sample in row.samples]
    begin_ns = min(sample.timeline.start_ns for _, sample in samples)
    for layer, sample in samples:
        args = {
            "cut": sample.cut,
            "layer": layer,
            "repeat": sample.repeat,
            "sent_bytes": sample.sent_bytes,
        }
        for pid, tid, name, from_ns, to_ns, certain in _spans(sample):
            uncertainty = {} if certain else {"uncertainty_us": _uncertainty_us(sample)}
            events.append(
                {
                    "name": name if certain else f"{name} (uncertain)",
                    "cat": "link" if tid == LINK_TID else "compute",
                    "ph": "X",
                    "pid": pid,
                    "tid": tid,
                    "ts": (from_ns - begin_ns) / 1e3,
                    "dur": max(to_ns - from_ns, 0) / 1e3,
                    "args": args | uncertainty,
                }
            )
    events.sort(key=lambda event: float(event["ts"]))
    names = [
        ("process_name", GATEWAY_PID, COMPUTE_TID, "gateway"),
        ("thread_name", GATEWAY_PID, COMPUTE_TID, "compute"),
        ("thread_name", GATEWAY_PID, LINK_TID, "link"),
        ("process_name", AP_PID, COMPUTE_TID, "AP"),
        ("thread_name", AP_PID, COMPUTE_TID, "compute"),
    ]
    metadata = [
        {"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}} for kind, pid, tid, name in names
    ]
    return {
        "traceEvents": metadata + events,
        "displayTimeUnit": "ms",
        "otherData": {"model": result.model, **{name: str(value) for name, value in result.settings.items()}},
    }


def headline(result: BenchResult) -> str:
    """Model, codec, link and batch on one line."""
    settings = result.settings
    parts = [f"{name} {settings[name]}" for name in ("codec", "link", "batch") if name in settings]
    return ", ".join([shorten(result.model, 40), *parts])


def verdict(result: BenchResult) -> str:
    """One line: the best measured cut beside the unsplit model."""
    best = result.best
    where = {0: "all on the AP", result.layers: "all on the gateway"}.get(best.cut, f"after {best.layer}")
    unsplit = ", ".join(
        f"{_short_ms(time)} on the {'AP' if role == 'ap' else role}" for role, time in result.local_s.items()
    )
    return f"best: cut {best.cut} ({where}), {_short_ms(best.total_s)}; unsplit: {unsplit}"


def _caption(result: BenchResult) -> str:
    repeats = sorted({len(row.samples) for row in result.rows})
    times = f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"
    lines = [
        "total: one span on the gateway's clock, from input to whole output in its memory.",
        f"Medians of {times} inferences; p95 is the total's. * least total; c clean, one tensor crosses.",
    ]
    if any(row.median_s("return_s") is None for row in result.rows):
        lines.append("Two hosts, two clocks: link is the way up and the return together.")
    worst = max(result.rows, key=lambda row: (not row.bitwise_equal, row.max_error))
    if worst.bitwise_equal:
        lines.append("Every output equals the unsplit model's, bit for bit.")
    else:
        lines.append(f"Largest error against the unsplit model: {worst.max_error:.2g} (cut {worst.cut}).")
    return "\n".join(lines)


def _draw_bars(axes: Axes, result: BenchResult) -> list[float]:
    """The stacked components; returns how far up each bar and its whisker reach, in ms."""
    tops_ms = [0.0] * len(result.rows)
    across_hosts = any(row.median_s("return_s") is None for row in result.rows)
    for name in COMPONENTS:
        times_ms = [1e3 * (row.median_s(name) or 0.0) for row in result.rows]
        if any(times_ms):
            label = "link, up and return" if name == "link_s" and across_hosts else LABELS[name]
            axes.bar(range(len(tops_ms)), times_ms, 0.78, bottom=tops_ms, color=COLOURS[name], label=label)
            tops_ms = [top + time for top, time in zip(tops_ms, times_ms, strict=True)]
    return [max(top, 1e3 * row.total_p95_s) for top, row in zip(tops_ms, result.rows, strict=True)]


def _draw_totals(axes: Axes, result: BenchResult) -> None:
    few = len(result.rows) <= MANY_BARS
    totals_ms = [1e3 * row.total_s for row in result.rows]
    above_ms = [1e3 * (row.total_p95_s - row.total_s) for row in result.rows]
    axes.errorbar(
        range(len(totals_ms)),
        totals_ms,
        yerr=[[0.0] * len(totals_ms), above_ms],
        fmt="D",
        color="black",
        markersize=3 if few else 1.5,
        capsize=3 if few else 0,
        elinewidth=0.9,
        label="total, up to p95",
    )


def _label_bars(axes: Axes, result: BenchResult, best: int) -> None:
    """Cut and layer under the bars; where there are too many, under every k-th and the best."""
    count = len(result.rows)
    few, stride = count <= MANY_BARS, -(-count // 80)
    shown = [at for at in range(count) if at == best or (at % stride == 0 and abs(at - best) >= stride)]
    labels = [f"{result.rows[at].cut}: {shorten(result.rows[at].layer, 26)}" for at in shown]
    axes.set_xticks(shown, labels, rotation=45 if few else 90, fontsize=9 if few else 7)
    for at, tick in zip(shown, axes.get_xticklabels(), strict=True):
        if few:
            tick.set(ha="right", rotation_mode="anchor")
        if at == best:
            tick.set_fontweight("bold")
    axes.set_xlim(-0.6, count - 0.4)
    axes.set_xlabel("cut: last layer on the gateway")


def _spans(sample: Sample) -> list[tuple[int, int, str, int, int, bool]]:
    """(process, track, name, from, to, certain) of each span, on the gateway's clock, in ns."""
    line, gateway = sample.timeline, (GATEWAY_PID, COMPUTE_TID)
    own = [
        (*gateway, "bottom", line.start_ns, line.computed_ns, True),
        (*gateway, "encode", line.computed_ns, line.encoded_ns, True),
        (*gateway, "AP and return", line.encoded_ns, line.received_ns, True),
        (*gateway, "decode", line.received_ns, line.end_ns, True),
    ]
    if line.ap is None:
        return [span for span in own if span[4] > span[3]]
    ap, certain = line.ap, line.shared_clock
    if not certain:
        ap = _shifted(ap, (line.encoded_ns + line.received_ns - ap.received_ns - ap.encoded_ns) // 2)
    link, there = (GATEWAY_PID, LINK_TID), (AP_PID, COMPUTE_TID)
    return [
        *own,
        (*link, "up", line.encoded_ns, ap.received_ns, certain),
        (*link, "return", ap.encoded_ns, line.received_ns, certain),
        (*there, "queue", ap.received_ns, ap.dequeued_ns, certain),
        (*there, "decode", ap.dequeued_ns, ap.decoded_ns, certain),
        (*there, "top", ap.decoded_ns, ap.computed_ns, certain),
        (*there, "encode", ap.computed_ns, ap.encoded_ns, certain),
    ]


def _shifted(ap: ApInstants, by_ns: int) -> ApInstants:
    return ApInstants(
        ap.received_ns + by_ns,
        ap.dequeued_ns + by_ns,
        ap.decoded_ns + by_ns,
        ap.computed_ns + by_ns,
        ap.encoded_ns + by_ns,
    )


def _uncertainty_us(sample: Sample) -> float:
    """Half of what the round trip took beyond the AP's work: the way up took between none and all of that."""
    line = sample.timeline
    busy_ns = line.ap.encoded_ns - line.ap.received_ns if line.ap else 0
    return max(line.received_ns - line.encoded_ns - busy_ns, 0) / 2e3


def _decimals(times: Sequence[float]) -> int:
    """Digits after the point, in ms, that keep the largest of a column within four digits."""
    largest_ms = 1e3 * max(times, default=0.0)
    return 3 if largest_ms < 1 else 2 if largest_ms < 100 else 1 if largest_ms < 1000 else 0


def _ms(time: float | None, decimals: int) -> str:
    return "-" if time is None else f"{1e3 * time:.{decimals}f}"


def _short_ms(time: float) -> str:
    return f"{_ms(time, _decimals([time]))} ms"

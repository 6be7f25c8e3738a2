"""A probed link for people: a table, one line, and a picture of time against bytes.

Decides how figures are rounded and named. Computes no statistics: they come from `splitnet.probing`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rich.box
from rich.table import Table

from splitnet.controller.link_model import LinkModel
from splitnet.probing import LinkProbe
from splitnet.report.drawing import human_bytes, new_figure, save_figure, tidy

_RATES = (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3), ("bit/s", 1.0))


def link_table(probe: LinkProbe) -> Table:
    """A row per size; times are medians in ms."""
    rows = probe.rows()
    both = any(row.return_s is None for row in rows)
    form = "a table of the medians" if probe.model().up else "delay + bytes 8 / rate"
    caption = [
        f"Medians of {len(probe.samples) // len(rows)} probes. predicted: {form}, of what the first column says.",
        "left out: the error for this size of a model that was fitted without it.",
    ]
    if both:
        caption.append("Two hosts, two clocks: up and back can only be timed together.")
    table = Table(
        title=f"link {probe.settings.get('link', '')} (ms)",
        title_style="bold",
        caption="\n".join(caption),
        caption_justify="left",
        box=rich.box.SIMPLE_HEAD,
        show_edge=False,
    )
    for heading in ("bytes", "up and back" if both else "up", "return", "predicted", "error", "left out"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            human_bytes(row.sent_bytes),
            _ms(row.up_s),
            _ms(row.return_s),
            _ms(row.predicted_s),
            _percent(row.error),
            _percent(row.left_out_error),
        )
    return table


def link_line(model: LinkModel) -> str:
    """Rate, delay and cost per message on one line."""
    return (
        f"rate {_rate(model.rate_bps)}, delay {_ms(model.delay_s)} ms one way, "
        f"{_ms(model.message_s)} ms per message at its ends"
    )


def draw_link(probe: LinkProbe, path: Path, way_out: str) -> None:
    """Every probe and the fit, time against bytes on logarithmic axes, as PNG, whole or not at all."""
    model, rows = probe.model(), probe.rows()
    both = any(row.return_s is None for row in rows)
    figure = new_figure(7.5, 5.0)
    axes = figure.add_subplot()
    axes.scatter(
        [sample.sent_bytes for sample in probe.samples],
        [1e3 * sample.timeline.link_s for sample in probe.samples],
        s=12,
        color="#56B4E9",
        label="up and back, each probe" if both else "up, each probe",
    )
    medians_ms = [1e3 * row.up_s for row in rows]
    axes.plot([row.sent_bytes for row in rows], medians_ms, "D", color="black", markersize=4, label="median")
    sizes = np.geomspace(rows[0].sent_bytes, rows[-1].sent_bytes, 200)
    answer_bytes = probe.samples[0].answer_bytes
    back_s = model.return_s(answer_bytes) if both else 0.0
    fitted_ms = [1e3 * (model.upload_s(float(size)) + back_s) for size in sizes]
    axes.plot(sizes, fitted_ms, color="#D55E00", linewidth=1.5, label="fit")
    axes.set(xscale="log", yscale="log", xlabel="bytes sent", ylabel="milliseconds on the link")
    axes.set_title(f"link {probe.settings.get('link', '')}: {link_line(model)}", fontsize=10)
    axes.legend(frameon=False)
    tidy(axes)
    save_figure(figure, path, way_out)


def _rate(rate_bps: float) -> str:
    unit, size = next((unit, size) for unit, size in _RATES if rate_bps >= size or size == 1)
    return f"{rate_bps / size:.3g} {unit}"


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    value = 1e3 * seconds
    return f"{value:.{3 if value < 1 else 2 if value < 100 else 1}f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.1f} %"

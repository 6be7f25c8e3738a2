"""What all tables and pictures share: how sizes and names are shortened, how a figure looks and is saved."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from splitnet.files import replacing

HALO = [withStroke(linewidth=3, foreground="white")]
"""A white rim that keeps lines and text readable above bars."""


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure that needs no display."""
    figure = Figure(figsize=(width_in, height_in), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes) -> None:
    """A light grid behind the data, and no box around it."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def save_figure(figure: Figure, path: Path, way_out: str) -> None:
    """Write a PNG, whole or not at all; SettingsError, with `way_out`, where the disk refuses."""
    with replacing(path, way_out) as temporary:
        figure.savefig(temporary, format="png")


def shorten(name: str, width: int) -> str:
    """At most `width` characters, left out in the middle: both ends of a dotted name tell something."""
    if len(name) <= width:
        return name
    head = (width - 1) // 2
    return f"{name[:head]}…{name[head + 1 - width :]}"


def human_bytes(count: int) -> str:
    """Three digits and a unit (1 kB = 1000 bytes)."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5 or unit == "GB":
            break
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"


def human_count(count: float) -> str:
    """Three digits and k, M or G."""
    value, unit = float(count), ""
    for unit in ("", "k", "M", "G", "T"):  # noqa: B007 - the unit at which it stops
        if value < 999.5:
            break
        value /= 1000
    return f"{value:.{0 if not unit else 2 if value < 9.995 else 1 if value < 99.95 else 0}f}{unit and ' ' + unit}"

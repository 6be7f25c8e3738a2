"""What one measured inference is: timestamps first, every duration derived from them.

A `Timeline` holds the instants of one split inference on at most two clocks; the components of its latency are
differences of instants **on one clock each**, and they add up to `total_s` exactly. Raw samples are kept;
medians and percentiles are computed when they are read.

What is warm: weights are resident, halves are built, the connection is open, buffers have been used before.
What is inside `total_s`: from the input lying in the gateway's memory on its device to the whole output lying
there. What is not: building halves, making or loading the input, comparing the output with the unsplit model's.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

COMPONENTS = ("gateway_s", "encode_s", "link_s", "queue_s", "decode_s", "ap_s", "return_s")
"""The components of `total_s`, in the order in which they first happen."""


@dataclass(frozen=True, slots=True)
class ApInstants:
    """Instants on the AP's monotonic clock, in ns."""

    received_ns: int
    """The last byte of the activation has been read."""
    dequeued_ns: int
    """The AP's compute lane is ours: no other gateway's work is before us."""
    decoded_ns: int
    """The live values lie on the AP's device."""
    computed_ns: int
    """The top has run (and the device is synchronised)."""
    encoded_ns: int
    """The result's bytes are ready; sending begins."""

    def __post_init__(self) -> None:
        order = (self.received_ns, self.dequeued_ns, self.decoded_ns, self.computed_ns, self.encoded_ns)
        if list(order) != sorted(order):
            raise ValueError(f"instants of the AP do not follow one another: {order}")


@dataclass(frozen=True, slots=True)
class Timeline:
    """Instants of one split inference on the gateway's monotonic clock, in ns, and those of the AP.

    `ap` is None at the last cut, where nothing leaves the gateway. `shared_clock` says that both clocks are one
    (same host), so that the way up and the way back can be told apart.
    """

    start_ns: int
    computed_ns: int
    """The bottom has run (and the device is synchronised)."""
    encoded_ns: int
    """The activation's bytes are ready; sending begins."""
    received_ns: int
    """The last byte of the result has been read."""
    end_ns: int
    """The output lies on the gateway's device."""
    ap: ApInstants | None
    shared_clock: bool

    def __post_init__(self) -> None:
        order = (self.start_ns, self.computed_ns, self.encoded_ns, self.received_ns, self.end_ns)
        if list(order) != sorted(order):
            raise ValueError(f"instants of the gateway do not follow one another: {order}")
        if self.ap is None and self.received_ns != self.encoded_ns:
            raise ValueError("nothing was sent, so nothing can have taken time between sending and receiving")

    @property
    def total_s(self) -> float:
        """One span on the gateway's clock."""
        return (self.end_ns - self.start_ns) * 1e-9

    @property
    def gateway_s(self) -> float:
        """The bottom's forward pass."""
        return (self.computed_ns - self.start_ns) * 1e-9

    @property
    def ap_s(self) -> float:
        """The top's forward pass."""
        return (self.ap.computed_ns - self.ap.decoded_ns) * 1e-9 if self.ap else 0.0

    @property
    def encode_s(self) -> float:
        """Encoding, of the activation at the gateway and of the result at the AP."""
        ap = (self.ap.encoded_ns - self.ap.computed_ns) if self.ap else 0
        return (self.encoded_ns - self.computed_ns + ap) * 1e-9

    @property
    def decode_s(self) -> float:
        """Decoding, of the activation at the AP and of the result at the gateway."""
        ap = (self.ap.decoded_ns - self.ap.dequeued_ns) if self.ap else 0
        return (self.end_ns - self.received_ns + ap) * 1e-9

    @property
    def queue_s(self) -> float:
        """Waiting at the AP for other gateways' work."""
        return (self.ap.dequeued_ns - self.ap.received_ns) * 1e-9 if self.ap else 0.0

    @property
    def link_s(self) -> float:
        """The way up on one host; across hosts the way up and the way back together."""
        if self.ap is None:
            return 0.0
        if self.shared_clock:
            return (self.ap.received_ns - self.encoded_ns) * 1e-9
        at_ap_ns = self.ap.encoded_ns - self.ap.received_ns
        return (self.received_ns - self.encoded_ns - at_ap_ns) * 1e-9

    @property
    def return_s(self) -> float | None:
        """The way back on one host; None across hosts, where `link_s` holds both ways."""
        if self.ap is None:
            return 0.0
        return (self.received_ns - self.ap.encoded_ns) * 1e-9 if self.shared_clock else None

    @property
    def overhead_s(self) -> float:
        """All that is neither half's forward pass."""
        return self.total_s - self.gateway_s - self.ap_s


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured inference."""

    cut: int
    repeat: int
    timeline: Timeline
    sent_bytes: int
    """Bytes of encoded activation that went up (headers and padding not counted)."""
    bitwise_equal: bool
    """Every bit of the output equals the unsplit model's on the gateway."""
    max_error: float
    """Largest absolute difference from that output."""


@dataclass(frozen=True, slots=True)
class CutRow:
    """All samples of one cut."""

    cut: int
    layer: str
    """Name of the last layer of the bottom; `input` for cut 0."""
    clean: bool
    payload_bytes: int
    """Bytes of encoded activation that cross the link."""
    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError(f"cut {self.cut} has no samples")

    def median_s(self, component: str) -> float | None:
        """Median over the samples of a component (a name in `COMPONENTS`, `total_s` or `overhead_s`), in s."""
        values = [getattr(sample.timeline, component) for sample in self.samples]
        return None if any(value is None for value in values) else statistics.median(values)

    @property
    def total_s(self) -> float:
        return statistics.median(sample.timeline.total_s for sample in self.samples)

    @property
    def total_p95_s(self) -> float:
        return percentile([sample.timeline.total_s for sample in self.samples], 95)

    @property
    def bitwise_equal(self) -> bool:
        return all(sample.bitwise_equal for sample in self.samples)

    @property
    def max_error(self) -> float:
        return max(sample.max_error for sample in self.samples)

    def to_dict(self) -> dict[str, Any]:
        """One row of `splitnet bench --json`; times are medians in seconds."""
        return {
            "cut": self.cut,
            "layer": self.layer,
            "clean": self.clean,
            "payload_bytes": self.payload_bytes,
            **{component: self.median_s(component) for component in COMPONENTS},
            "total_s": self.total_s,
            "total_p95_s": self.total_p95_s,
            "overhead_s": self.median_s("overhead_s"),
            "bitwise_equal": self.bitwise_equal,
            "max_error": self.max_error,
        }


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What `splitnet bench` found: a row per cut, and the unsplit model on each worker in the same run."""

    model: str
    layers: int
    rows: tuple[CutRow, ...]
    local_samples_s: dict[str, tuple[float, ...]]
    """Seconds of the unsplit model, by role: `gateway`, `ap`."""
    settings: dict[str, Any]
    """Codec, link, devices, threads, batch, repeats, seed, … as they stand in the manifest."""
    run_dir: str | None

    @property
    def local_s(self) -> dict[str, float]:
        """Median seconds of the unsplit model, by role."""
        return {role: statistics.median(samples) for role, samples in self.local_samples_s.items()}

    @property
    def best(self) -> CutRow:
        """The measured cut of least median total."""
        return min(self.rows, key=lambda row: row.total_s)

    def to_dict(self) -> dict[str, Any]:
        """The object that `splitnet bench --json` prints."""
        return {
            "model": self.model,
            "layers": self.layers,
            "rows": [row.to_dict() for row in self.rows],
            "local_s": self.local_s,
            "best_cut": self.best.cut,
            "settings": self.settings,
            "run_dir": self.run_dir,
        }

    def to_records(self) -> list[dict[str, Any]]:
        """One flat record per sample (seconds): `pandas.DataFrame(result.to_records())`."""
        layers = {row.cut: row.layer for row in self.rows}
        return [
            {
                "model": self.model,
                "cut": sample.cut,
                "layer": layers[sample.cut],
                "repeat": sample.repeat,
                "sent_bytes": sample.sent_bytes,
                **{name: getattr(sample.timeline, name) for name in (*COMPONENTS, "total_s", "overhead_s")},
                "bitwise_equal": sample.bitwise_equal,
                "max_error": sample.max_error,
            }
            for row in self.rows
            for sample in row.samples
        ]


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half: as deaf to outliers as a median, but it does not jump.

    A shared machine has two speeds or more; the median of samples of both is one or the other, by chance.
    """
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return statistics.fmean(ordered[quarter : len(ordered) - quarter])


def percentile(values: Sequence[float], percent: float) -> float:
    """Percentile by linear interpolation between order statistics."""
    return float(np.percentile(np.asarray(values), percent))

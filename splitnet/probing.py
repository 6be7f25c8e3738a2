"""What the link between two workers is like: probes of several sizes, kept raw, and the model that fits them.

A probe is an exchange as in an inference, with no model in it (`SplitSession.probe`). Sizes are interleaved in
rounds, each in a new seeded order, after a warm-up of each, so that a drift of the link meets all sizes alike.

Decides sizes and how long to go on. What the figures mean stands in `controller/link_model.py`.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from splitnet.benching import Progress
from splitnet.controller.link_model import LinkModel, ProbePoint, fit_link
from splitnet.errors import SettingsError
from splitnet.files import read_sealed, write_sealed
from splitnet.measurement import Timeline
from splitnet.runtime.probe_values import STIR_S
from splitnet.session import SplitSession

KIND = "probe of a link"
FORMAT = 1
"""Version of the file; a reader refuses others."""
AGAIN = "probe again: splitnet probe-link -o FILE"
DEFAULT_REPEATS = 10
SMALLEST_BYTES = 1000
LARGEST_BYTES = 12_800_000
"""About the most that a cut of the known networks sends for one picture (VGG's first layers)."""
SIZES, FEWEST_SIZES = 9, 4
LONGEST_S = 0.3
"""That a message's bytes may take, by the estimate of the first probes."""
ROUND_S = 0.9
"""That one round of all sizes may take: fewer sizes where it would take longer."""


@dataclass(frozen=True, slots=True)
class ProbeSample:
    """One probe. `payload_bytes` before the codec, `sent_bytes` after it."""

    payload_bytes: int
    answer_bytes: int
    sent_bytes: int
    timeline: Timeline

    def point(self) -> ProbePoint:
        line = self.timeline
        return ProbePoint(
            self.sent_bytes,
            self.answer_bytes,
            line.link_s,
            line.return_s,
            line.encode_s + line.queue_s + line.decode_s,
        )


@dataclass(frozen=True, slots=True)
class SizeRow:
    """All probes of one size: medians beside what the model says, in s.

    Across hosts `return_s` is None, and `up_s` and `predicted_s` are up and back together.
    """

    sent_bytes: int
    up_s: float
    return_s: float | None
    predicted_s: float
    left_out_s: float | None
    """What a model says that was fitted without this size; None where too few are left."""

    @property
    def error(self) -> float:
        """Of the prediction, as a share of the measured median."""
        return self.predicted_s / self.up_s - 1

    @property
    def left_out_error(self) -> float | None:
        return None if self.left_out_s is None else self.left_out_s / self.up_s - 1


@dataclass(frozen=True, slots=True)
class LinkProbe:
    """Raw probes of one link in the order in which they were taken; all else is computed from them."""

    samples: tuple[ProbeSample, ...]
    settings: dict[str, Any]
    """Link, codec, checksum, shared clock, seed."""
    workers: dict[str, Any]
    """Device, threads and machine of each worker."""

    def __post_init__(self) -> None:
        if len({sample.sent_bytes for sample in self.samples}) < 2:
            raise SettingsError("a link is fitted to probes of at least 2 sizes; probe it with more")

    def model(self, without_bytes: int | None = None) -> LinkModel:
        """The model that fits the probes best, those of one size left out if asked."""
        return fit_link(sample.point() for sample in self.samples if sample.sent_bytes != without_bytes)

    def rows(self) -> list[SizeRow]:
        """A row per size, ascending."""
        model = self.model()
        sizes = sorted({sample.sent_bytes for sample in self.samples})
        rows = []
        for sent_bytes in sizes:
            points = [sample.point() for sample in self.samples if sample.sent_bytes == sent_bytes]
            back_s = [point.return_s for point in points if point.return_s is not None]
            both = len(back_s) < len(points)
            answer_bytes = points[0].answer_bytes

            def way_s(model: LinkModel, up: int = sent_bytes, back: float = answer_bytes, both: bool = both) -> float:
                return model.upload_s(up) + (model.return_s(back) if both else 0.0)

            rows.append(
                SizeRow(
                    sent_bytes,
                    statistics.median(point.up_s for point in points),
                    None if both else statistics.median(back_s),
                    way_s(model),
                    way_s(self.model(without_bytes=sent_bytes)) if len(sizes) > 2 else None,
                )
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """As `probe-link --json` prints it: the model, a row per size, and all that they were computed from."""
        return {
            "model": self.model().to_dict(),
            "rows": [
                {**msgspec.to_builtins(row), "error": row.error, "left_out_error": row.left_out_error}
                for row in self.rows()
            ],
            "settings": self.settings,
            "workers": self.workers,
            "samples": msgspec.to_builtins(self.samples),
        }


def probe_link(
    split: SplitSession,
    sizes: Sequence[int] | None = None,
    repeats: int = DEFAULT_REPEATS,
    progress: Progress | None = None,
    *,
    answer_bytes: int = 4000,
    codec: str = "none",
    seed: int = 0,
) -> LinkProbe:
    """Probe the link of a session.

    Args:
        sizes: payload bytes, multiples of 4; by default from 1 kB to 12.8 MB in 9 steps, or less on a slow
            link, so that all takes some 10 s.
        repeats: measured probes per size.

    Raises:
        SettingsError: too few sizes or repeats.
        WorkerError: a size that a worker refuses, or a worker that is gone.
    """
    progress = progress or Progress()
    if repeats < 1:
        raise SettingsError(f"--repeats {repeats} is below 1")
    if sizes is not None and len(set(sizes)) < 2:
        raise SettingsError(f"{len(set(sizes))} sizes to probe, a link takes at least 2; give more")

    def probe(payload_bytes: int) -> ProbeSample:
        probed = split.probe(payload_bytes, answer_bytes=answer_bytes, codec=codec)
        return ProbeSample(payload_bytes, answer_bytes, probed.sent_bytes, probed.timeline)

    if sizes is None:
        progress.say("looking how fast the link is")
        probe(SMALLEST_BYTES)
        scouts = [probe(SMALLEST_BYTES), probe(4 * SMALLEST_BYTES)]
        while (larger := 4 * scouts[-1].payload_bytes) <= LARGEST_BYTES:
            if fit_link(scout.point() for scout in scouts).upload_s(larger) > LONGEST_S:
                break
            scouts.append(probe(larger))
        sizes = suitable_sizes(fit_link(scout.point() for scout in scouts), answer_bytes)
    order = random.Random(seed)
    samples: list[ProbeSample] = []
    done = 0
    for number in range(repeats + 1):
        for size in order.sample(list(sizes), len(sizes)):
            text = f"round {number} of {repeats}" if number else "warming up"
            progress.step(done, (repeats + 1) * len(sizes), text)
            sample = probe(size)
            done += 1
            if number:
                samples.append(sample)
    progress.step(done, done, "done")
    settings = {
        "link": str(split.placement.link),
        "codec": codec,
        "checksum": split.checksum,
        "shared_clock": split.connected.shared_clock,
        "repeats": repeats,
        "order_seed": seed,
    }
    return LinkProbe(tuple(samples), settings, split.workers)


def suitable_sizes(estimate: LinkModel, answer_bytes: int) -> list[int]:
    """Sizes in equal ratios that an estimated link carries in the time that a round may take."""
    largest = min(max(LONGEST_S * estimate.rate_bps / 8, 4 * SMALLEST_BYTES), LARGEST_BYTES)
    for count in range(SIZES, FEWEST_SIZES - 1, -1):
        sizes = [int(size) // 4 * 4 for size in np.geomspace(SMALLEST_BYTES, largest, count)]
        if sum(estimate.round_trip_s(size, answer_bytes) + 2 * STIR_S for size in sizes) <= ROUND_S:
            break
    return sizes


def save_probe(path: Path, probe: LinkProbe, way_out: str) -> None:
    """Write a probe with its fit: all of it, or nothing and SettingsError."""
    write_sealed(path, KIND, FORMAT, probe.to_dict(), way_out)


def load_probe(path: Path) -> LinkProbe:
    """A probe that `save_probe` wrote; its model is fitted again from the samples.

    Raises:
        SettingsError: no such file, another version, or not a whole probe.
    """
    content = read_sealed(path, KIND, FORMAT, AGAIN)
    try:
        return msgspec.convert(content, LinkProbe)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{path}: {error}; {AGAIN}") from error

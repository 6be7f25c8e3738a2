"""How long a message takes on a link: rate, delay and a fixed cost per message, named by a user or fitted to probes.

Decides what the three mean and how they are found. Knows no sockets and no clocks: probes come as plain numbers.

Where the lines are drawn. Timings alone cannot tell a link's delay from what its ends do for a message at every
size; instants can. What lies between the sender's first byte and the receiver's last is the way on the link, and its
part that does not grow with the bytes is `delay_s`, the waking of the receiver and the frame's header included (some
0.1 to 0.4 ms). What lies before and behind is the ends': encoding, queueing and decoding, `message_s` each way.
Across hosts only both ways together can be timed; there `delay_s` is half of what does not grow with the bytes.

What it does not know: a rate of the way back other than that of the way up, unless answers were probed with several
sizes; and other traffic.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import msgspec
import numpy as np

from splitnet.errors import SettingsError

VERSION = 1
FASTEST_BPS = 1e13
"""Beyond any memory's rate: what stands for a link on which bytes cost nothing that can be measured."""
CLOCK_S = 1e-9
REPEATABLE = 0.005
"""No median is trusted closer than this share, however alike its probes: the next run's will differ by as much."""

Table = tuple[tuple[float, float], ...]
"""(bytes, seconds), both ascending."""
Row = tuple[float, float, float, float]
"""c, n, t, noise: c x + n y = t, with t known to within the noise."""


@dataclass(frozen=True, slots=True)
class ProbePoint:
    """One probe of a link, in bytes and seconds.

    Attributes:
        sent_bytes, answer_bytes: up, after the codec, and back.
        up_s: on the link: up; where `return_s` is None, up and back together.
        return_s: on the link, back.
        ends_s: encoding, queueing and decoding, of both messages.
    """

    sent_bytes: float
    answer_bytes: float
    up_s: float
    return_s: float | None
    ends_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LinkModel:
    """Seconds that messages take on a link and at its ends, from their bytes.

    Upload time is MODEL.md row 4 [A], bits over rate; delay and the cost per message are ours [C]. A cut that
    sends nothing uses no link: do not ask for 0 bytes then.

    Attributes:
        rate_bps: bit/s, of both directions.
        delay_s: one way, what does not grow with the bytes.
        message_s: what one message costs at its ends whatever its size: encoding, queueing, decoding.
        end_byte_s: what each byte that goes up costs at the ends (copies from a device, lossy codecs).
        up, back: where bits over rate is too coarse, (bytes, seconds) on the link: the times are interpolated,
            and go on beyond the last with the last slope, below the first with the rate. Empty otherwise.
    """

    rate_bps: float
    delay_s: float = 0.0
    message_s: float = 0.0
    end_byte_s: float = 0.0
    up: Table = ()
    back: Table = ()

    def __post_init__(self) -> None:
        if not 1 <= self.rate_bps <= FASTEST_BPS:
            raise SettingsError(
                f"a link's rate_bps of {self.rate_bps:g} is outside 1..{FASTEST_BPS:g}; give bit/s, or probe the link"
            )
        for name in ("delay_s", "message_s", "end_byte_s"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise SettingsError(f"a link's {name} of {value:g} is no time; give seconds, 0 or more")
        for name in ("up", "back"):
            table = getattr(self, name)
            values = [number for row in table for number in row]
            if not all(0 <= value < math.inf for value in values) or any(
                not (here[0] < after[0] and here[1] <= after[1]) for here, after in itertools.pairwise(table)
            ):
                raise SettingsError(f"a link's table {name!r} does not ascend in bytes and seconds; probe the link")

    @staticmethod
    def of(rate_bps: float, delay_s: float = 0.0) -> LinkModel:
        """A link that a user names, with ends that cost nothing.

        Raises:
            SettingsError: a rate or a delay out of range.
        """
        return LinkModel(rate_bps, delay_s)

    def scaled(self, rate_bps: float) -> LinkModel:
        """The same ends and the same delay at another rate, such as a slot's (MODEL.md row 3)."""
        return replace(self, rate_bps=rate_bps, up=(), back=())

    def upload_s(self, sent_bytes: float) -> float:
        """The way up on the link (`Timeline.link_s` on one host)."""
        return self._way_s(sent_bytes, self.up)

    def return_s(self, answer_bytes: float) -> float:
        """The way back on the link (`Timeline.return_s`)."""
        return self._way_s(answer_bytes, self.back)

    def ends_s(self, sent_bytes: float) -> float:
        """Encoding, queueing and decoding of both messages, with the codec and devices that were probed."""
        return 2 * self.message_s + self.end_byte_s * sent_bytes

    def round_trip_s(self, sent_bytes: float, answer_bytes: float) -> float:
        """All that a split inference takes beside its two forward passes (`Timeline.overhead_s`)."""
        return self.upload_s(sent_bytes) + self.return_s(answer_bytes) + self.ends_s(sent_bytes)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; `from_dict` takes it back."""
        return {"version": VERSION, **asdict(self)}

    @staticmethod
    def from_dict(obj: object) -> LinkModel:
        """What `to_dict` gave.

        Raises:
            SettingsError: of another version, not a link model, or numbers out of range.
        """
        way_out = "probe the link again: splitnet probe-link -o FILE"
        if not isinstance(obj, Mapping):
            raise SettingsError(f"a link model is a JSON object, not {type(obj).__name__}; {way_out}")
        values = dict(obj)
        version = values.pop("version", None)
        if version != VERSION:
            raise SettingsError(f"a link model of version {version!r}; this splitnet reads {VERSION}; {way_out}")
        unknown = sorted(map(str, set(values) - {field.name for field in fields(LinkModel)}))
        if unknown:
            raise SettingsError(f"a link model has no field {unknown[0]!r}; {way_out}")
        try:
            return msgspec.convert(values, LinkModel)
        except msgspec.ValidationError as error:
            raise SettingsError(f"not a link model: {error}; {way_out}") from error

    def _way_s(self, nbytes: float, table: Table) -> float:
        if nbytes < 0:
            raise ValueError(f"a message of {nbytes} bytes")
        byte_s = 8 / self.rate_bps
        return _interpolated(table, nbytes, byte_s) if table else self.delay_s + nbytes * byte_s


def fit_link(points: Iterable[ProbePoint]) -> LinkModel:
    """The link model that fits probes best: weighted least squares over the medians of each size.

    Medians, so that a probe that met other work counts for little; weights by relative error, so that small
    messages count like large ones, or by the noise of the median where that is greater. No parameter comes out
    negative. Rate and delay are those of the way up. A way on which delay + bytes 8 / rate misses some size by
    more than twice what its median is known to gets a table of the medians beside it.

    Raises:
        SettingsError: fewer than two sizes went up.
    """
    sizes: dict[tuple[float, float], list[ProbePoint]] = {}
    for point in points:
        sizes.setdefault((point.sent_bytes, point.answer_bytes), []).append(point)
    if len({sent_bytes for sent_bytes, _ in sizes}) < 2:
        raise SettingsError("a link is fitted to probes of at least 2 sizes; probe it with more")
    up: list[Row] = []
    ends: list[Row] = []
    answers: dict[float, list[float]] = {}
    for (sent_bytes, answer_bytes), group in sorted(sizes.items()):
        back_s = [point.return_s for point in group if point.return_s is not None]
        one_way = len(back_s) == len(group)
        if one_way:
            answers.setdefault(answer_bytes, []).extend(back_s)
        way = (1.0, sent_bytes) if one_way else (2.0, sent_bytes + answer_bytes)
        up.append((*way, *_median([point.up_s for point in group])))
        ends.append((2.0, sent_bytes, *_median([point.ends_s for point in group])))
    back: list[Row] = [(1.0, nbytes, *_median(times)) for nbytes, times in sorted(answers.items())]
    delay_s, byte_s = _fit_affine(up, least_slope=8 / FASTEST_BPS)
    message_s, end_byte_s = _fit_affine(ends)
    affine = LinkModel(8 / byte_s, delay_s, message_s, end_byte_s)
    # across hosts a row is both ways: the way up is what the affine way back leaves of it
    one_ways = [
        (nbytes, took) if constant == 1 else (sent, took - affine.return_s(nbytes - sent))
        for (constant, nbytes, took, _), (sent, _) in zip(up, sorted(sizes), strict=True)
    ]
    return replace(
        affine,
        up=_ascending(one_ways) if _misses(up, delay_s, byte_s) else (),
        back=_ascending([row[1:3] for row in back]) if _misses(back, delay_s, byte_s) else (),
    )


def _misses(rows: Sequence[Row], x: float, y: float) -> bool:
    return any(abs(constant * x + n * y - took) > 2 * _known_to(took, noise) for constant, n, took, noise in rows)


def _known_to(took: float, noise: float) -> float:
    """To how many seconds a median is known."""
    return math.hypot(REPEATABLE * took, noise, CLOCK_S)


def _median(times: Sequence[float]) -> tuple[float, float]:
    """The median, and its standard error by the median absolute deviation (0 for a single time)."""
    middle = statistics.median(times)
    deviation = statistics.median(abs(time - middle) for time in times)
    return middle, 1.2533 * 1.4826 * deviation / math.sqrt(len(times))


def _fit_affine(rows: Sequence[Row], least_slope: float = 0.0) -> tuple[float, float]:
    """x >= 0 and y >= `least_slope` that fit the rows best, each weighted by what it is known to."""
    constant, nbytes, took, _ = np.asarray(rows, dtype=float).T
    known = np.array([_known_to(row[2], row[3]) for row in rows])
    largest = max(float(nbytes.max()), 1.0)  # unknowns of like size, else the solver takes the slope for 0
    matrix, wanted = np.stack([constant, nbytes / largest], axis=1) / known[:, None], took / known
    least = np.array([0.0, least_slope * largest])
    candidates = [np.linalg.lstsq(matrix, wanted, rcond=None)[0]]
    for fixed, free in ((0, 1), (1, 0)):  # the optimum is inside, or on one of the two edges
        column, rest = matrix[:, free], wanted - matrix[:, fixed] * least[fixed]
        edge = least.copy()
        edge[free] = max(least[free], column @ rest / (column @ column))
        candidates.append(edge)
    feasible = [candidate for candidate in candidates if (candidate >= least).all()]
    best = min(feasible, key=lambda candidate: float(np.square(matrix @ candidate - wanted).sum()))
    return float(best[0]), float(best[1] / largest)


def _ascending(pairs: Sequence[tuple[float, float]]) -> Table:
    """One time for each size, none below that of a smaller size: what descends is replaced by its mean."""
    groups: dict[float, list[float]] = {}
    for nbytes, seconds in pairs:
        groups.setdefault(nbytes, []).append(max(seconds, 0.0))
    levels: list[tuple[float, int]] = []
    for nbytes in sorted(groups):
        level, count = statistics.median(groups[nbytes]), 1
        while levels and levels[-1][0] > level:
            above, more = levels.pop()
            level, count = (level * count + above * more) / (count + more), count + more
        levels.append((level, count))
    return tuple(zip(sorted(groups), (level for level, count in levels for _ in range(count)), strict=True))


def _interpolated(table: Table, nbytes: float, byte_s: float) -> float:
    """Piecewise linear; beyond the last with its last slope, below the first `byte_s`, which noise bends less."""
    right = next((index for index, row in enumerate(table) if row[0] >= nbytes), len(table) - 1)
    (at, seconds), slope = table[0], byte_s
    if right:
        (at, seconds), (to, later) = table[right - 1 : right + 1]
        slope = (later - seconds) / (to - at)
    return max(seconds + slope * (nbytes - at), 0.0)

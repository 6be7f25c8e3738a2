"""Parts of a run's result: predicted against measured, achieved against asked, and how far repeats lie apart.

Pure: records of slots go in, figures come out. Decides what is left out of each figure, and counts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from splitnet.controller.simulation import half_width
from splitnet.controller.slot import Vector
from splitnet.runtime.speed import Use, achieved_over_asked
from splitnet.runtime.transfers import Transfer
from splitnet.slot_record import SlotRecord

SHORTEST_S = 5e-3
"""Of what is measured: waking up takes some 0.1 ms, which is 2% of this and more of anything shorter."""
LEAST_REPEATS = 4
"""Of one case: a line is laid through the others, which needs three."""


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the latency, predicted against measured.

    Attributes:
        count: pairs that count.
        left_out: those that were measured shorter than `SHORTEST_S`.
        predicted_s, measured_s: means over those that count; None where none does.
        mape: mean of |predicted - measured| / measured; None too for what is random.
        ratio: mean measured over mean predicted.
        ci95: half of the ratio's 95% confidence interval.
    """

    count: int
    left_out: int
    predicted_s: float | None
    measured_s: float | None
    mape: float | None
    ratio: float | None
    ci95: float | None


def component(
    predicted_s: Sequence[float], measured_s: Sequence[float], *, shortest_s: float = SHORTEST_S, random: bool = False
) -> Component:
    """Of pairs, in order.

    Args:
        shortest_s: measured pairs below this are left out, and so are those of 0 in any case.
        random: measured ones are drawn around the predicted: there is no error of a single one.
    """
    predicted, measured = np.array(predicted_s, dtype=float), np.array(measured_s, dtype=float)
    counts = (measured >= shortest_s) & (measured > 0)
    predicted, measured = predicted[counts], measured[counts]
    left_out = len(counts) - len(measured)
    if not len(measured):
        return Component(0, left_out, None, None, None, None, None)
    mean = float(predicted.mean())
    ratio = float(measured.mean()) / mean if mean > 0 else None
    width = None if ratio is None else half_width((measured - ratio * predicted) / mean)
    return Component(
        count=len(measured),
        left_out=left_out,
        predicted_s=mean,
        measured_s=float(measured.mean()),
        mape=None if random else float(np.mean(np.abs(predicted - measured) / measured)),
        ratio=ratio,
        ci95=width,
    )


def components(records: Sequence[SlotRecord]) -> dict[str, Component]:
    """`gateway`, `link` and `ap` of every gateway in every slot, `barrier` and `block` of every slot."""

    def gateways(name: str) -> Component:
        of = [(getattr(one.predicted, name), getattr(one.measured, name)) for one in records]
        return component([s for predicted, _ in of for s in predicted], [s for _, measured in of for s in measured])

    def slots(name: str, random: bool) -> Component:
        pairs = [(getattr(one.predicted, name), getattr(one.measured, name)) for one in records]
        return component([pair[0] for pair in pairs], [pair[1] for pair in pairs], shortest_s=0.0, random=random)

    return {
        "gateway": gateways("gateway_s"),
        "link": gateways("link_s"),
        "ap": gateways("ap_s"),
        "barrier": slots("barrier_s", False),
        "block": slots("block_s", True),
    }


# --- repeats


def noise_floor(records: Sequence[SlotRecord], gateway_of: Sequence[int], ap_of: Sequence[int]) -> float | None:
    """How far passes of the same half differ in CPU time on this machine in this run.

    A case is a gateway's bottoms, or its tops at its AP, at the same cuts; slots repeat it with other numbers of data
    points. CPU seconds of each are told from those of the other slots by a straight line over the work, which is the
    profile's CPU seconds; the figure is the mean of |told - measured| / measured. So what a line over the whole run
    cannot tell counts as noise, a drift too, and a factor by which a prediction is off does not. Halves that took
    less than `SHORTEST_S` are left out.

    Args:
        gateway_of: of each DT.
        ap_of: of each gateway.

    Returns:
        None where no case was played `LEAST_REPEATS` times.
    """
    cases: dict[tuple[str, int, tuple[int, ...]], list[tuple[float, float]]] = {}
    for record in records:
        of_aps = record.slowness[len(ap_of) :]
        for half, uses, predicted_s, slowness in (
            ("bottom", record.bottoms, record.predicted.gateway_s, record.slowness),
            ("top", record.tops, record.predicted.ap_s, [of_aps[ap] for ap in ap_of]),
        ):
            for gateway, use in enumerate(uses):
                if use is not None and use.wall_s >= SHORTEST_S and predicted_s[gateway] > 0:
                    works = [one.cut if one.data_points else -1 for one in record.twins]
                    cuts = tuple(cut for cut, of in zip(works, gateway_of, strict=True) if of == gateway)
                    work = predicted_s[gateway] * use.asked / slowness[gateway]
                    cases.setdefault((half, gateway, cuts), []).append((work, use.cpu_s))
    errors = [left_out_errors(np.array(pairs)) for pairs in cases.values() if len(pairs) >= LEAST_REPEATS]
    return float(np.mean(np.concatenate(errors))) if errors else None


def left_out_errors(pairs: Vector) -> Vector:
    """Of each pair (work, taken), how far the line through the others misses what was taken, as a share of it.

    Args:
        pairs: [repeats, 2], three at least.
    """
    work, taken = pairs.T
    centred = work - work.mean()
    spread = float(centred @ centred)
    slope = float(centred @ taken) / spread if spread > 0 else 0.0
    missed = taken - taken.mean() - slope * centred
    leverage = 1 / len(work) + (centred**2 / spread if spread > 0 else np.zeros(len(work)))
    known = leverage < 1 - 1e-9  # else the line through the others does not tell this one
    return np.asarray(np.abs(missed[known] / (1 - leverage[known])) / taken[known])


# --- energy


@dataclass(frozen=True, slots=True)
class Metered:
    """Joules of the host by a meter.

    Attributes:
        meter: its name; None where the device has none.
        slots: in which it moved.
        mean_j: over those; None where there is none.
    """

    device: str
    meter: str | None
    slots: int
    mean_j: float | None


@dataclass(frozen=True, slots=True)
class Energy:
    """Mean joules of a slot.

    Attributes:
        modelled_gateway_j: [gateways] by the analytic model.
        modelled_inference_j, modelled_mining_j: [APs] by the analytic model, each at the time it took.
        metered: of the whole host, by device; for an emulated machine there is no meter.
    """

    modelled_gateway_j: list[float]
    modelled_inference_j: list[float]
    modelled_mining_j: list[float]
    metered: list[Metered]


def energy(records: Sequence[SlotRecord]) -> Energy:
    """Of slots that were played."""
    readings: dict[tuple[str, str | None], list[float]] = {}
    for record in records:
        for reading in record.energy.metered:
            told = readings.setdefault((reading.device, reading.meter), [])
            told += [] if reading.used_j is None else [reading.used_j]

    def mean(name: str) -> list[float]:
        return np.mean([getattr(one.energy, name) for one in records], axis=0).tolist()  # type: ignore[no-any-return]

    return Energy(
        mean("gateway_j"),
        mean("inference_j"),
        mean("mining_j"),
        [
            Metered(device, meter, len(told), float(np.mean(told)) if told else None)
            for (device, meter), told in readings.items()
        ],
    )


# --- asked and achieved


@dataclass(frozen=True, slots=True)
class Achieved:
    """What one worker or link did of what it was asked.

    Attributes:
        name: of it.
        ratio: achieved over asked, weighted by time; None where nothing counts.
        count: pieces that count.
        left_out: pieces that were too short to tell.
        total_s: how long those that count took.
    """

    name: str
    ratio: float | None
    count: int
    left_out: int
    total_s: float


def links_achieved(records: Sequence[SlotRecord]) -> list[Achieved]:
    """[gateways] of uploads; those that are short or that a burst lets pass say little of a link and are left out."""
    found = []
    for gateway in range(len(records[0].uploads)):
        pairs = [(record.uploads[gateway], record.asked_bps[gateway]) for record in records]
        sent = [_asked(one, asked_bps) for one, asked_bps in pairs if one is not None]
        told = [one for one in sent if not one.is_small and not one.is_free]
        weighted = wall = 0.0
        for one in told:
            assert one.asked_bps is not None, "_asked has set it"
            taken_s = (one.ended_ns - one.started_ns) * 1e-9
            weighted += taken_s * one.achieved_bps / one.asked_bps
            wall += taken_s
        ratio = weighted / wall if wall else None
        found.append(Achieved(f"link of gateway {gateway}", ratio, len(told), len(sent) - len(told), wall))
    return found


def _asked(transfer: Transfer, asked_bps: float) -> Transfer:
    """Where the kernel keeps the rate, the sender does not know it."""
    return transfer if transfer.asked_bps is not None else replace(transfer, asked_bps=asked_bps)


def speeds_achieved(records: Sequence[SlotRecord], ap_of: Sequence[int]) -> list[Achieved]:
    """Of every gateway, then of every lane at an AP."""
    gateways = range(len(ap_of))
    bottoms = [_used(f"gateway {number}", (one.bottoms[number] for one in records)) for number in gateways]
    tops = [
        _used(f"AP {ap_of[number]}, lane of gateway {number}", (one.tops[number] for one in records))
        for number in gateways
    ]
    return bottoms + tops


def _used(name: str, uses: Iterable[Use | None]) -> Achieved:
    worked = [use for use in uses if use is not None]
    return Achieved(name, achieved_over_asked(worked), len(worked), 0, sum(use.wall_s for use in worked))


def hash_rates_achieved(records: Sequence[SlotRecord]) -> list[Achieved]:
    """[APs]"""
    found = []
    for number in range(len(records[0].mined)):
        mined = [record.mined[number] for record in records]
        told = [one for one in mined if one.asked_hash_rate > 0 and one.mining_s >= SHORTEST_S]
        wall = sum(one.mining_s for one in told)
        ratio = sum(one.hashes / one.asked_hash_rate for one in told) / wall if wall else None
        found.append(Achieved(f"mining of AP {number}", ratio, len(told), len(mined) - len(told), wall))
    return found

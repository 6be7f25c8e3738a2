"""How far predictions lie from measurements: errors, ranks, and what following a prediction costs (MODEL.md, 5).

Decides the figures by which a latency model is judged. Knows nothing of the models, nor of which cases were used
to fit them: "fit on one part, judge on another" is the caller's duty. Every error, share, regret and noise floor
is a fraction: 0.05 is 5 %. A case is one cut of one model over one link, its time in seconds the interquartile mean
of its repeats; a half is every second one of those repeats, interleaved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

RESAMPLES = 10_000
"""Of one interval: another seed moves its ends by about a hundredth of its width."""
CONFIDENCE = 0.95

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Errors:
    """Relative errors e = (predicted - measured) / measured over some cases, as fractions."""

    cases: int
    """Cases that were judged; those that are zero by definition are not among them."""
    mape: float
    """Mean of |e|."""
    rmspe: float
    """Root of the mean of e^2."""
    bias: float
    """Mean of e: above 0, the prediction is too slow."""
    within_5: float
    """Share of the cases with |e| of at most 0.05."""
    within_10: float
    within_15: float

    def __post_init__(self) -> None:
        if self.cases < 1:
            raise ValueError(f"errors need at least one case, not {self.cases}")
        if not 0 <= self.within_5 <= self.within_10 <= self.within_15 <= 1:
            raise ValueError(f"shares {self.within_5}, {self.within_10}, {self.within_15} do not grow within 0..1")
        slack = 1 + _ROUNDING
        if not abs(self.bias) <= self.mape * slack or not self.mape <= self.rmspe * slack < math.inf:
            raise ValueError(f"|bias {self.bias}| <= mape {self.mape} <= rmspe {self.rmspe} does not hold")


def errors(predicted: Sequence[float] | Vector, measured: Sequence[float] | Vector) -> Errors:
    """The errors of predictions, case by case (MODEL.md, section 5, row 3).

    A component that does not exist in a case, such as the AP's time at the last cut, is 0 in both by definition:
    that case is left out, since its relative error has no meaning.

    Args:
        predicted, measured: [cases], in one unit.

    Raises:
        ValueError: they differ in length or hold something else than finite numbers; a measured value is below 0,
            or 0 where the prediction is not; no case is left.
    """
    said, seen = _pair(predicted, measured)
    impossible = (seen < 0) | ((seen == 0) & (said != 0))
    if impossible.any():
        place = int(np.argmax(impossible))
        raise ValueError(
            f"case {place} was measured as {seen[place]} and predicted as {said[place]}: no relative error"
        )
    there = seen > 0
    if not there.any():
        raise ValueError("no case is left: every one is zero by definition")
    relative = (said[there] - seen[there]) / seen[there]
    size = np.abs(relative)
    return Errors(
        cases=len(relative),
        mape=float(size.mean()),
        rmspe=float(np.sqrt(np.square(relative).mean())),
        bias=float(relative.mean()),
        within_5=float((size <= 0.05).mean()),
        within_10=float((size <= 0.10).mean()),
        within_15=float((size <= 0.15).mean()),
    )


def spearman(predicted: Sequence[float] | Vector, measured: Sequence[float] | Vector) -> float | None:
    """Spearman's rank correlation over cuts, -1..1: Pearson's of the ranks, ties sharing the mean of their ranks.

    None where either side has fewer than two distinct values and so ranks nothing.

    Raises:
        ValueError: they differ in length or hold something else than finite numbers.
    """
    said, seen = (_ranks(values) - (len(values) + 1) / 2 for values in _pair(predicted, measured))
    spread = math.sqrt(float(said @ said) * float(seen @ seen))
    return min(1.0, max(-1.0, float(said @ seen) / spread)) if spread > 0 else None


def top1(
    predicted_totals: Sequence[float] | Vector,
    first_half_s: Sequence[float] | Vector,
    second_half_s: Sequence[float] | Vector | None = None,
) -> bool:
    """Whether the cut that the prediction calls best was measured as the best; the hit rate is the mean of these.

    Only which cut is best is asked, not by how much, so both halves are used where both are given: their mean. Of
    cuts that are predicted equal the first one counts; of cuts that were measured equal any is the best.

    Args:
        predicted_totals, first_half_s, second_half_s: [cuts], the same cuts in the same order.

    Raises:
        ValueError: they differ in length, are empty, or hold something else than finite numbers above 0.
    """
    predicted, first = _pair(predicted_totals, first_half_s)
    measured = _times(first)
    if second_half_s is not None:
        measured = (measured + _times(_pair(first, second_half_s)[1])) / 2
    return bool(measured[_best(predicted)] == measured.min())


@dataclass(frozen=True, slots=True)
class Regret:
    """What following one prediction cost beyond the best cut, with the interval that noise leaves; fractions.

    Report `counted` beside `raw` and `resolution`: a run that can resolve nothing counts 0 whatever it was paid.
    """

    raw: float
    """Time of the predicted best cut / measured best - 1; below 0 where the predicted one turned out faster."""
    low: float
    """Lower end of the 95 % interval of `raw`."""
    high: float
    same_cut: bool
    """The predicted best is the measured best, so that nothing was compared and all three are 0."""

    def __post_init__(self) -> None:
        if not -1 <= self.low <= self.high < math.inf or not -1 <= self.raw < math.inf:
            raise ValueError(f"regret {self.raw} with an interval from {self.low} to {self.high} cannot be")
        if self.same_cut and (self.raw, self.low, self.high) != (0, 0, 0):
            raise ValueError(f"a cut does not differ from itself by {self.raw}, {self.low} to {self.high}")

    @property
    def counted(self) -> float:
        """The regret if its interval lies above 0, else 0: noise alone may have made it."""
        return max(0.0, self.raw) if self.low > 0 else 0.0

    @property
    def resolution(self) -> float | None:
        """Half the interval's width: about the least regret that could be shown. None where nothing was compared."""
        return None if self.same_cut else (self.high - self.low) / 2


def regret(
    predicted_totals: Sequence[float] | Vector,
    first_half_s: Sequence[Sequence[float]] | Vector,
    second_half_s: Sequence[Sequence[float]] | Vector,
    generator: np.random.Generator,
) -> Regret:
    """What is paid for following the prediction: time of the predicted best cut / measured best - 1.

    The measured best is found on the first half of the repeats; both times are taken on the second, independent
    half. (On one and the same half the smallest of many noisy times is too small: a winner's curse.) Of equals the
    first cut is taken.

    "Differences within the noise floor count as 0" (MODEL.md, section 5, row 4): within the noise of this very
    difference, by a paired percentile bootstrap. Repeat i of all cuts was measured in one round, close in time, so
    the same repeats are drawn for both cuts, and a speed that both share cancels. With n repeats in a half all of
    them lie on one side by chance once in 2^n, so that fewer than six are too few for an interval of 95 %.

    Args:
        predicted_totals: [cuts].
        first_half_s, second_half_s: [cuts, repeats], the same cuts in the same order; column i of a half is a round.
        generator: draws the repeats; the same seed gives the same interval.

    Raises:
        ValueError: they differ in cuts, are empty, or hold something else than finite numbers; a time is not above
            0; the second half has fewer than two repeats.
    """
    first, second = (_repeats(half) for half in (first_half_s, second_half_s))
    predicted, chosen_by = _pair(predicted_totals, _centres(first))
    if len(second) != len(predicted):
        raise ValueError(f"two lists of one length are compared, not {len(predicted)} cuts and {len(second)}")
    rounds = second.shape[1]
    if rounds < 2:
        raise ValueError(f"an interval needs at least two repeats in the second half, not {rounds}")
    said, best = _best(predicted), _best(chosen_by)
    if said == best:
        return Regret(0.0, 0.0, 0.0, same_cut=True)
    drawn = generator.integers(rounds, size=(RESAMPLES, rounds))
    ratios = _centres(second[said][drawn]) / _centres(second[best][drawn])
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    raw = _centres(second[said]) / _centres(second[best])
    return Regret(float(raw) - 1, float(low) - 1, float(high) - 1, same_cut=False)


def noise_floor(first: Sequence[float] | Vector, second: Sequence[float] | Vector) -> float:
    """How far two measurements of one case lie apart: the mean of |a - b| / ((a + b) / 2), a fraction.

    No prediction can be shown to be better than this.

    Args:
        first, second: [cases], from two interleaved halves of each case's repeats.

    Raises:
        ValueError: they differ in length, are empty, or hold something else than finite numbers above 0.
    """
    one, other = (_times(values) for values in _pair(first, second))
    if not len(one):
        raise ValueError("a noise floor needs at least one case")
    return float((2 * np.abs(one - other) / (one + other)).mean())


def _pair(one: Sequence[float] | Vector, other: Sequence[float] | Vector) -> tuple[Vector, Vector]:
    left, right = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if left.ndim != 1 or left.shape != right.shape:
        raise ValueError(f"two lists of one length are compared, not shapes {left.shape} and {right.shape}")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise ValueError("a value to compare is not a finite number")
    return left, right


def _repeats(half_s: Sequence[Sequence[float]] | Vector) -> Vector:
    """Times above 0, [cuts, repeats]."""
    times = np.asarray(half_s, dtype=np.float64)
    if times.ndim != 2 or not times.size:
        raise ValueError(f"a half is [cuts, repeats] with at least one of each, not of shape {times.shape}")
    if not np.isfinite(times).all():
        raise ValueError("a value to compare is not a finite number")
    return _times(times)


def _centres(times: Vector) -> Vector:
    """Interquartile means along the last axis, each as `splitnet.measurement.interquartile_mean` has it."""
    ordered = np.sort(times, axis=-1)
    count = ordered.shape[-1]
    centres: Vector = ordered[..., count // 4 : count - count // 4].mean(axis=-1)
    return centres


def _times(values: Vector) -> Vector:
    if (values <= 0).any():
        raise ValueError(f"a measured time must be above 0, not {values.min()}")
    return values


def _best(totals: Vector) -> int:
    if not len(totals):
        raise ValueError("there is no cut to choose from")
    return int(np.argmin(totals))


def _ranks(values: Vector) -> Vector:
    """Ranks from 1; equal values share the mean of the ranks that they take up."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    shared: Vector = (last - (sizes - 1) / 2)[group]
    return shared

"""The best cut of one model between one gateway and one AP, and how it changes with the link's rate.

With everything else given, the time of a cut is a line in 1/rate: seconds that do not depend on the link, plus bits
over rate (MODEL.md rows 1, 4, 6). So the best cut over all rates is the lower envelope of some lines, and the rates
at which one cut takes over from another are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from splitnet.controller.latency import CutTable
from splitnet.errors import SettingsError
from splitnet.profiling.facts import ModelFacts
from splitnet.profiling.profile import Profile, affine_s

SLOWEST_BPS, FASTEST_BPS = 1e5, 1e10


@dataclass(frozen=True, slots=True)
class Option:
    """One cut with one codec.

    Attributes:
        gateway_s, ap_s: the halves.
        codec_s: encoding and decoding.
        fixed_s: what the link takes whatever its rate: delays, cost per message.
        bits: that cross the link, up and back.
    """

    cut: int
    layer: str
    codec: str
    gateway_s: float
    ap_s: float
    codec_s: float
    fixed_s: float
    bits: int

    @property
    def without_link_s(self) -> float:
        """Seconds at an infinite rate."""
        return self.gateway_s + self.codec_s + self.fixed_s + self.ap_s

    def total_s(self, rate_bps: float) -> float:
        """Seconds end to end."""
        return self.without_link_s + self.bits / rate_bps


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rates over which one option is the best."""

    from_bps: float
    to_bps: float
    option: Option


@dataclass(frozen=True, slots=True)
class CodecCost:
    """Seconds as base + slope x bytes before encoding, from a profile's timings."""

    base_s: float = 0.0
    byte_s: float = 0.0

    def of(self, raw_bytes: int) -> float:
        return self.base_s + self.byte_s * raw_bytes


def codec_costs(profile: Profile, codec: str) -> tuple[CodecCost, CodecCost]:
    """What encoding and decoding cost on the profile's device.

    Raises:
        SettingsError: the profile did not time this codec.
    """
    timings = [timing for timing in profile.codec_timings if timing.codec == codec]
    if not timings:
        raise SettingsError(
            f"codec {codec!r} was not timed in the profile of {profile.facts.identity.name}; "
            f"name another codec, or profile the model again"
        )
    return (
        CodecCost(*affine_s([(timing.raw_bytes, _median_s(timing.encode_ns)) for timing in timings])),
        CodecCost(*affine_s([(timing.raw_bytes, _median_s(timing.decode_ns)) for timing in timings])),
    )


def options(
    facts: ModelFacts,
    tables: Mapping[str, CutTable],
    costs: Mapping[str, tuple[CodecCost, CodecCost]],
    *,
    delay_s: float = 0.0,
    message_s: float = 0.0,
) -> list[Option]:
    """Every cut that is not refused, with every codec of `tables`; the last cut, which sends nothing, once.

    Args:
        tables: by codec.
        costs: by codec, encoding at the gateway and decoding at the AP.
        delay_s: one way.
        message_s: what one message costs at its ends; there are two.
    """
    found = []
    last = len(facts.layers)
    for number, (codec, table) in enumerate(tables.items()):
        encode, decode = costs[codec]
        for cut in facts.cuts:
            alone = cut.cut == last
            if cut.refused or (alone and number):
                continue
            raw_bytes = cut.payload_bytes["none"]
            found.append(
                Option(
                    cut=cut.cut,
                    layer=cut.layer,
                    codec="none" if alone else codec,
                    gateway_s=float(table.gateway_s[cut.cut]),
                    ap_s=float(table.ap_s[cut.cut]),
                    codec_s=0.0 if alone else encode.of(raw_bytes) + decode.of(raw_bytes),
                    fixed_s=0.0 if alone else 2 * (delay_s + message_s),
                    bits=0 if alone else int(table.payload_bits[cut.cut]) + 8 * facts.result_bytes,
                )
            )
    return found


def best_option(found: Sequence[Option], rate_bps: float) -> Option:
    """The least total; of equals the one that sends least."""
    return min(found, key=lambda option: (option.total_s(rate_bps), option.bits, option.cut))


def best_by_rate(
    found: Sequence[Option], slowest_bps: float = SLOWEST_BPS, fastest_bps: float = FASTEST_BPS
) -> list[Stretch]:
    """The best option over all rates from slow to fast, with the exact rates at which it changes.

    Raises:
        ValueError: no option, or rates that are not in order.
    """
    if not found:
        raise ValueError("no cut to choose from")
    if not 0 < slowest_bps < fastest_bps:
        raise ValueError(f"rates {slowest_bps}..{fastest_bps} are not in order")
    rate_bps = slowest_bps
    stretches: list[Stretch] = []
    current = best_option(found, rate_bps)
    while True:
        # Whoever is faster without the link takes over where its line meets the current one. A meeting below the
        # rate is one at the rate: both are equal there, and only rounding or a tie made the other one the best.
        later = [
            (max((other.bits - current.bits) / (current.without_link_s - other.without_link_s), rate_bps), other)
            for other in found
            if other.without_link_s < current.without_link_s
        ]
        until_bps = min((meeting_bps for meeting_bps, _ in later), default=fastest_bps)
        if until_bps >= fastest_bps:
            return [*stretches, Stretch(rate_bps, fastest_bps, current)]
        if until_bps > rate_bps:
            stretches.append(Stretch(rate_bps, until_bps, current))
        # of those that meet there, the one that is fastest without the link is the best beyond
        successors = [other for meeting_bps, other in later if meeting_bps <= until_bps * (1 + 1e-12)]
        current = min(successors, key=lambda option: (option.without_link_s, option.bits))
        rate_bps = until_bps


def _median_s(samples_ns: Sequence[int]) -> float:
    ordered = sorted(samples_ns)
    middle = len(ordered) // 2
    return (ordered[middle] + ordered[~middle]) / 2 * 1e-9

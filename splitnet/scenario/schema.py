"""The sections and keys of a scenario's file, with the allowed range of each.

Decides what may be written; pydantic refuses all else. What concerns several sections at once is in `contradictions`.
Symbols in brackets are those of MODEL.md section 1. Numbers of devices, gateways and APs start at 0.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict

from splitnet.scenario.values import Between, Choice, Links, Names, Numbers, Spread, Text
from splitnet.wire.codecs import CODECS

MOST_DEVICES = 50_000
MOST_CUTS = 10_000
LARGEST_SEED = 2**63 - 1

Name = Annotated[str, Text(100)]
Hertz = Annotated[Spread, Between(1, 1e15)]
FlopsPerCycle = Annotated[Spread, Between(0, 1e9, above=True)]
Kappa = Annotated[Spread, Between(1e-40, 1)]
ProfiledHertz = Annotated[float, Between(1, 1e15)]
Counts = Annotated[tuple[int, ...], Numbers(Between(0, 1e14, whole=True), MOST_CUTS)]
Seconds = Annotated[tuple[float, ...], Numbers(Between(0, 1e6), MOST_CUTS)]
CutNumbers = Numbers(Between(0, MOST_CUTS, whole=True), MOST_CUTS)


class Section(BaseModel):
    """Keys that are not listed are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Head(Section):
    """`[scenario]`. `seed` is of what is drawn once (distances, frequencies); slots have seeds of their own."""

    name: Name
    about: Annotated[str, Text(500, empty=True)] = ""
    slots: Annotated[int, Between(1, 100_000_000)]
    v: Annotated[float, Between(0, 1e12, above=True)]
    seed: Annotated[int, Between(0, LARGEST_SEED)] = 0


class Dnn(Section):
    """`[dnn.NAME]`: a network's table over its cuts, from profiles or written out.

    `model` is one that was profiled; profiles are files, relative to the scenario's, or shipped, by model name.
    Written out, every list has an entry for each layer or cut 1..L, per data point: `layer_flops` (chi),
    `payload_bits` (o, 0 at L), and for `measured` the seconds `gateway_s` of the bottom and `ap_s` of the top.
    `flops` takes chi / (phi f) for time (rows 1 and 6), `measured` the profiles' times. Of all cuts, `stages` keeps L
    and those at which one tensor crosses, before a convolution or a linear layer; cut 0, the labelled extension
    "AP only", is there only where a list of cuts names it.
    """

    model: Name | None = None
    gateway_profile: Annotated[str, Text(4000)] | None = None
    ap_profile: Annotated[str, Text(4000)] | None = None
    layer_flops: Counts | None = None
    payload_bits: Counts | None = None
    gateway_s: Seconds | None = None
    ap_s: Seconds | None = None
    latency: Annotated[str, Choice(("flops", "measured"))] = "flops"
    codec: Annotated[str, Choice(CODECS)] = "none"
    cuts: Annotated[str | tuple[int, ...], Choice(("all", "stages"), CutNumbers)] = "all"


class Devices(Section):
    """`[devices]`: N, D_n(t) anew each slot, the gateway of each (a), and the DNNs, in turn if there are several."""

    count: Annotated[int, Between(1, MOST_DEVICES)]
    points: Annotated[Spread, Between(0, 1_000_000, whole=True)]
    dnn: Annotated[tuple[str, ...], Names(MOST_DEVICES)]
    gateway: Annotated[str | tuple[int, ...], Links("device", "gateway")] = "round robin"


class Gateways(Section):
    """`[gateways]`: M, f^G, phi^G, kappa^G, P, E^G(t) anew each slot, and the AP of each (b).

    Measured times hold at `frequency_hz`, or at `profiled_hz` where that is given.
    """

    count: Annotated[int, Between(1, 10_000)]
    frequency_hz: Hertz
    flops_per_cycle: FlopsPerCycle | None = None
    profiled_hz: ProfiledHertz | None = None
    kappa: Kappa
    send_w: Annotated[Spread, Between(1e-9, 1e6)]
    energy_j: Annotated[Spread, Between(0, 1e12)]
    ap: Annotated[str | tuple[int, ...], Links("gateway", "AP")] = "round robin"


class Aps(Section):
    """`[aps]`: J, f^max, phi^A, kappa^A, E^A(t) anew each slot.

    Measured times hold at `max_hz`, or at `profiled_hz` where that is given.
    """

    count: Annotated[int, Between(1, 1_000)]
    max_hz: Hertz
    flops_per_cycle: FlopsPerCycle | None = None
    profiled_hz: ProfiledHertz | None = None
    kappa: Kappa
    energy_j: Annotated[Spread, Between(1e-9, 1e12)]


class Link(Section):
    """`[link]`: the uplinks, as radio channels (row 3), or simply `rate_bps`, anew each slot.

    Path loss is `path_loss_db` + `path_loss_slope_db` log10(d in km).
    """

    rate_bps: Annotated[Spread, Between(1, 1e15)] | None = None
    bandwidth_hz: Annotated[Spread, Between(1, 1e15)] | None = None
    distance_m: Annotated[Spread, Between(1, 100_000)] | None = None
    noise_dbm_per_hz: Annotated[float, Between(-400, 100)] = -174.0
    path_loss_db: Annotated[float, Between(0, 400)] = 128.1
    path_loss_slope_db: Annotated[float, Between(0, 400)] = 37.6
    fading: Annotated[str, Choice(("rayleigh", "none"))] = "rayleigh"


class Mining(Section):
    """`[mining]`: H, c_h, alpha, beta, tau^prop, and the block time: expected, or its quantile (row 11)."""

    cycles_per_block: Annotated[float, Between(1, 1e30)]
    cycles_per_hash: Annotated[float, Between(1, 1e15)]
    alpha: Annotated[float, Between(0, 100)] = 2.0
    beta: Annotated[float, Between(-100, 100)] = 0.0
    propagation_s: Annotated[float, Between(0, 1e6)] = 0.0
    quantile: Annotated[float, Between(0.001, 0.999999)] | None = None


class ReputationSection(Section):
    """`[reputation]`: g (row 8). Knots are U at rising O / O^ref from 0, with straight lines between."""

    reference_flops: Annotated[float, Between(1, 1e30)]
    shape: Annotated[str, Choice(("linear", "log", "knots"))] = "linear"
    knots: Annotated[tuple[float, ...], Numbers(Between(0, 1e12), 10_000)] | None = None
    values: Annotated[tuple[float, ...], Numbers(Between(0, 1e6), 10_000)] | None = None


class C6(Section):
    """`[c6]`: the ends of every AP's mean reputation."""

    u_min: Annotated[float, Between(0, 1e6)]
    u_max: Annotated[float, Between(0, 1e6, above=True)]


class Testbed(Section):
    """`[testbed]`: how `splitnet run` plays the scenario on one host.

    Speeds are fractions of one core of it, of the gateway and of the AP with the highest frequency; the others are
    slower as their frequencies are. `block_share` is the part of a slot's latency that a block shall take.
    """

    gateway_speed: Annotated[float, Between(0.001, 1)] = 0.2
    ap_speed: Annotated[float, Between(0.001, 1)] = 0.3
    block_share: Annotated[float, Between(0.01, 0.9)] = 0.25


class ScenarioFile(Section):
    """A whole scenario."""

    scenario: Head
    dnn: dict[str, Dnn]
    devices: Devices
    gateways: Gateways
    aps: Aps
    link: Link
    mining: Mining
    reputation: ReputationSection
    c6: C6
    testbed: Testbed = Testbed()

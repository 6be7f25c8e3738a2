"""A DNN's costs at its cuts, before it is known on which gateway and AP it runs: from profiles, or written out.

Decides which cuts are offered and what one data point costs there. Does not know frequencies: `network.py` does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from splitnet.controller.latency import CutTable, FlopsLatency, MeasuredLatency, cut_table
from splitnet.controller.slot import TwinTable
from splitnet.errors import SettingsError
from splitnet.profiling.facts import ModelFacts
from splitnet.profiling.profile import Profile, load_profile
from splitnet.scenario.schema import Dnn

ONE_FLOP_A_SECOND = FlopsLatency(1.0)


@dataclass(frozen=True, slots=True, eq=False)
class DnnCosts:
    """What each cut 0..L costs one inference of a batch.

    Attributes:
        base: its seconds are measured ones; for `flops` they are those at one FLOP a second, so FLOPs.
        cuts: those that are offered.
        batch: data points in one inference.
        measured: the seconds are.
    """

    base: CutTable
    cuts: tuple[int, ...]
    batch: int
    measured: bool

    @property
    def flops(self) -> float:
        """Of the whole network, per data point."""
        return float(self.base.top_flops[0]) / self.batch

    def table(self, gateway_speed: float, gateway_w: float, ap_speed: float, ap_max_hz: float) -> TwinTable:
        """On one gateway and one AP.

        Args:
            gateway_speed, ap_speed: the base's seconds are divided by these; FLOP/s for `flops`.
            gateway_w: power of the gateway while it computes.
        """
        run = replace(self.base, gateway_s=self.base.gateway_s / gateway_speed, ap_s=self.base.ap_s / ap_speed)
        whole = TwinTable.of(run, gateway_w, ap_max_hz, least_cut=0, batch=self.batch)
        kept = list(self.cuts)
        return TwinTable(
            cuts=self.cuts,
            gateway_s=whole.gateway_s[kept],
            gateway_j=whole.gateway_j[kept],
            payload_bits=whole.payload_bits[kept],
            ap_cycles=whole.ap_cycles[kept],
            top_flops=whole.top_flops[kept],
        )

    def digest(self) -> str:
        """Of all its numbers."""
        digest = hashlib.sha256(repr((self.cuts, self.batch, self.measured)).encode())
        for column in (self.base.gateway_s, self.base.payload_bits, self.base.ap_s, self.base.top_flops):
            digest.update(np.ascontiguousarray(column, dtype="<f8").tobytes())
        return digest.hexdigest()


def dnn_costs(dnn: Dnn, where: str, folder: Path) -> DnnCosts:
    """The costs of a section `[dnn.NAME]`.

    Args:
        where: the scenario and the section, for messages.
        folder: in which its profiles' files are looked for.

    Raises:
        SettingsError: a profile that cannot be read, or that does not fit.
    """
    if dnn.model is None:
        return _written_out(dnn)
    gateway = _profile(dnn, "gateway_profile", where, folder)
    facts = gateway.facts
    if dnn.latency == "flops":
        base = cut_table(facts, ONE_FLOP_A_SECOND, ONE_FLOP_A_SECOND, dnn.codec)
    else:
        ap = _profile(dnn, "ap_profile", where, folder)
        try:
            base = cut_table(facts, MeasuredLatency(gateway), MeasuredLatency(ap), dnn.codec)
        except ValueError as error:
            raise SettingsError(f"{where}.ap_profile does not fit gateway_profile: {error}; profile alike") from error
    return DnnCosts(base, _kept(facts, dnn, where), facts.identity.batch, dnn.latency == "measured")


def _profile(dnn: Dnn, key: str, where: str, folder: Path) -> Profile:
    given: str | None = getattr(dnn, key)
    model = str(dnn.model)
    try:
        profile = load_profile(model if given is None else folder / given)
        profile.check_model(model)
    except SettingsError as error:
        raise SettingsError(f"{where}.{'model' if given is None else key}: {error}") from error
    return profile


def _kept(facts: ModelFacts, dnn: Dnn, where: str) -> tuple[int, ...]:
    depth = len(facts.layers)
    if dnn.cuts == "all":
        return tuple(cut for cut in range(1, depth + 1) if facts.cuts[cut].refused is None)
    if dnn.cuts == "stages":
        return tuple(stages(facts))
    for cut in chosen(dnn):
        if cut > depth:
            raise SettingsError(f"{where}.cuts holds {cut}; {facts.identity.name} has cuts from 0 to {depth}")
        if facts.cuts[cut].refused is not None:
            raise SettingsError(f"{where}.cuts holds {cut}, which gives wrong results: {facts.cuts[cut].refused}")
    return tuple(chosen(dnn))


def stages(facts: ModelFacts) -> list[int]:
    """L, and the cuts at which one tensor crosses and the next layer is a convolution or a linear one."""
    weighted = [index for index, layer in enumerate(facts.layers) if {"in", "out"} <= layer.config.keys()]
    ends = [cut for cut in weighted if cut > 0 and facts.cuts[cut].clean and facts.cuts[cut].refused is None]
    return [*ends, len(facts.layers)]


def chosen(dnn: Dnn) -> list[int]:
    """The cuts that a section lists, each once, in order."""
    return sorted({cut for cut in dnn.cuts if isinstance(cut, int)})


def _written_out(dnn: Dnn) -> DnnCosts:
    flops = np.array(dnn.layer_flops, dtype=np.int64)
    bottom, depth = np.append(0, flops.cumsum()), len(flops)
    top = bottom[-1] - bottom
    measured = dnn.latency == "measured"
    assert dnn.payload_bits is not None
    base = CutTable(
        gateway_s=np.array([0.0, *(dnn.gateway_s or ())]) if measured else bottom.astype(float),
        payload_bits=np.array([0, *dnn.payload_bits], dtype=np.int64),
        ap_s=np.array([0.0, *(dnn.ap_s or ())]) if measured else top.astype(float),
        top_flops=top,
    )
    cuts = range(1, depth + 1) if dnn.cuts == "all" else chosen(dnn)
    return DnnCosts(base, tuple(cuts), 1, measured)

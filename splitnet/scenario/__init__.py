"""Scenarios: which devices, gateways, APs, networks and laws a simulation or a run is about, as a TOML file.

    values.py          what may stand behind a key
    schema.py          the sections and keys
    contradictions.py  what two keys must not say together
    loading.py         from a name or a file to checked sections, with errors of one line
    dnn.py             a DNN's costs at its cuts, from profiles or written out
    network.py         from sections to the controller's network and world

The shipped ones are in `splitnet/scenarios/`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from splitnet.controller.policy import Setting
from splitnet.controller.slot import Network
from splitnet.controller.world import World
from splitnet.errors import SettingsError
from splitnet.scenario.dnn import DnnCosts, dnn_costs
from splitnet.scenario.loading import check, find, parse, read, shipped_names
from splitnet.scenario.network import build_network, build_world
from splitnet.scenario.schema import ScenarioFile
from splitnet.scenario.values import Between

__all__ = ["Scenario", "load_scenario", "scenario_from", "scenario_from_text", "shipped_names"]

LAWS = 1
"""Rises when the same file comes to mean another network or another world."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """A checked scenario.

    Attributes:
        file: its sections.
        dnns: the costs of each DNN, by name.
        where: the file or the name it came from, for messages.
        folder: in which the files of profiles are looked for.
    """

    file: ScenarioFile
    dnns: Mapping[str, DnnCosts]
    where: str
    folder: Path

    @property
    def name(self) -> str:
        return self.file.scenario.name

    @property
    def slots(self) -> int:
        """T."""
        return self.file.scenario.slots

    @property
    def v(self) -> float:
        """V, the weight of latency against the queues."""
        return self.file.scenario.v

    @cached_property
    def network(self) -> Network:
        return build_network(self.file, self.dnns, self.where)

    @cached_property
    def world(self) -> World:
        return build_world(self.file)

    def setting(self, v: float | None = None, g: Callable[[float], float] | None = None) -> Setting:
        """What a policy is asked to do.

        Args:
            v: in place of the scenario's V.
            g: in place of the scenario's reputation: U of O/O^ref. In simulation only: a chain knows g by name.

        Raises:
            SettingsError: a V out of its range, or a `g` that is negative, not finite, or falls.
        """
        limits: Between = next(part for part in type(self.file.scenario).model_fields["v"].metadata)
        if v is not None and not limits.allows(v):
            raise SettingsError(f"V {v} is out of range; it must be {limits}")
        return Setting(
            network=self.network if g is None else build_network(self.file, self.dnns, self.where, g),
            u_min=self.file.c6.u_min,
            u_max=self.file.c6.u_max,
            v=self.v if v is None else float(v),
            hash_cycles=self.file.mining.cycles_per_hash,
        )

    def content(self) -> dict[str, Any]:
        """All keys with their values, defaults too, as in a file; JSON can hold it."""
        return self.file.model_dump(mode="json", exclude_none=True)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content and of every number that came from a profile."""
        tables = {name: costs.digest() for name, costs in self.dnns.items()}
        whole = {"laws": LAWS, "content": self.content(), "tables": tables}
        return hashlib.sha256(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def with_devices(self, count: int) -> Scenario:
        """The same with another number of devices.

        Raises:
            SettingsError: out of range, or devices are written one by one.
        """
        content = self.content()
        content["devices"]["count"] = count
        return scenario_from(content, f"{self.where} with {count} devices", self.folder)

    def describe(self) -> str:
        """A few lines for humans."""
        file = self.file
        link = file.link
        uplink = (
            f"{link.rate_bps} bit/s"
            if link.rate_bps is not None
            else f"{link.bandwidth_hz} Hz, {link.distance_m} m, fading {link.fading}"
        )
        lines = [
            f"{self.name}: {file.scenario.about}" if file.scenario.about else self.name,
            f"{file.devices.count} devices, {file.gateways.count} gateways, {file.aps.count} APs; "
            f"{self.slots} slots, V = {self.v:g}",
            *(
                f"{name}: {len(costs.cuts)} cuts, {costs.flops / 1e9:.3g} G multiply-adds a data point, "
                f"times {'measured' if costs.measured else 'by FLOPs'}"
                for name, costs in self.dnns.items()
            ),
            f"a slot: {file.devices.points} data points a device, {file.gateways.energy_j} J a gateway, "
            f"{file.aps.energy_j} J an AP; uplinks {uplink}",
            f"C6: mean reputation from {file.c6.u_min:g} to {file.c6.u_max:g}, g {file.reputation.shape}, "
            f"O^ref = {file.reputation.reference_flops:g} FLOPs",
        ]
        return "\n".join(lines)


def load_scenario(name_or_path: str | Path) -> Scenario:
    """A shipped scenario by name, or one from a file.

    Raises:
        SettingsError: there is none, or something in it is wrong: one line with the key, its value and its limits.
    """
    path = find(name_or_path)
    return _scenario(read(path), str(name_or_path), path.parent)


def scenario_from_text(text: str, where: str, folder: Path = Path()) -> Scenario:
    """A scenario from TOML. Raises SettingsError."""
    return _scenario(parse(text.encode(errors="surrogatepass"), where), where, folder)


def scenario_from(content: Mapping[str, Any], where: str, folder: Path = Path()) -> Scenario:
    """A scenario from what `Scenario.content` gave. Raises SettingsError."""
    return _scenario(check(content, where), where, folder)


def _scenario(file: ScenarioFile, where: str, folder: Path) -> Scenario:
    dnns = {name: dnn_costs(dnn, f"{where}: dnn.{name}", folder) for name, dnn in file.dnn.items()}
    scenario = Scenario(file, dnns, where, folder)
    scenario.network  # noqa: B018 - what only the whole network shows is refused here, not later
    return scenario

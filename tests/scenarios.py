"""A tiny scenario that is written out, changes to it, and what is said when they are wrong."""

from __future__ import annotations

import pytest

from splitnet.errors import SettingsError
from splitnet.scenario import Scenario, scenario_from_text
from splitnet.scenario.loading import SHIPPED

DEFAULT = (SHIPPED / "default.toml").read_text()

TINY = """
[scenario]
name = "tiny"
slots = 10
v = 4

[dnn.three]
layer_flops = [100, 60, 40]
payload_bits = [800, 80, 0]

[devices]
count = 3
points = [1, 2]
dnn = "three"

[gateways]
count = 2
frequency_hz = { each = [10, 20] }
flops_per_cycle = 2
kappa = 1e-6
send_w = 0.5
energy_j = 100

[aps]
count = 1
max_hz = 50
flops_per_cycle = 4
kappa = 1e-6
energy_j = [40, 50]

[link]
rate_bps = 1000

[mining]
cycles_per_block = 100
cycles_per_hash = 10

[reputation]
reference_flops = 500

[c6]
u_min = 0.1
u_max = 0.5
"""


def tiny(*changes: tuple[str, str]) -> Scenario:
    return scenario_from_text(changed(TINY, *changes), "tiny.toml")


def changed(text: str, *changes: tuple[str, str]) -> str:
    for before, after in changes:
        assert text.count(before) >= 1, before
        text = text.replace(before, after, 1)
    return text


def refused(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        scenario_from_text(text, "my.toml")
    message = str(caught.value)
    assert "\n" not in message
    return message

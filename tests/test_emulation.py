"""A scenario as a host can play it: speeds, hash rates and H_0 against what the model's rows say by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from splitnet.controller.policies import make_policy
from splitnet.controller.simulation import simulate
from splitnet.emulation import Emulation, check_models, emulate, usual_batch
from splitnet.errors import SettingsError
from splitnet.profiling.profile import load_profile
from splitnet.scenario import load_scenario, scenario_from

PROFILE = Path(__file__).parents[1] / "profiling" / "reference" / "vgg11_cifar.json"
CORE_HASH_RATE = 2e6


def played(**testbed: float) -> Emulation:
    content = load_scenario("small").content()
    content["testbed"] |= testbed
    return emulate(scenario_from(content, "small"), {"vgg11": PROFILE}, CORE_HASH_RATE)


def test_machines_are_as_fast_as_their_frequencies_say() -> None:
    found = played(gateway_speed=0.5, ap_speed=0.25)
    plain = load_scenario("small")
    assert found.gateway_speed.max() == pytest.approx(0.5)
    assert found.ap_speed == pytest.approx(0.25 * plain.network.max_hz / plain.network.max_hz.max())


def test_tables_are_the_profile_over_the_speed() -> None:
    found, profile = played(gateway_speed=0.5, ap_speed=0.25), load_profile(PROFILE)
    batch = profile.facts.identity.batch
    for table, gateway in zip(found.network.tables, found.network.gateway_of, strict=True):
        ap = found.network.ap_of[gateway]
        for option, cut in enumerate(table.cuts):
            prefix_s, suffix_s = profile.prefix_s[cut] / batch, profile.suffix_s[cut] / batch
            assert table.gateway_s[option] == pytest.approx(prefix_s / found.gateway_speed[gateway])
            ap_s = table.ap_cycles[option] / found.network.max_hz[ap]
            if cut < len(profile.facts.layers):
                assert ap_s == pytest.approx(suffix_s / found.ap_speed[ap])


def test_an_ap_at_full_speed_mines_at_its_share_of_a_core() -> None:
    found = played(ap_speed=0.3)
    assert found.hash_rates(found.network.max_hz) == pytest.approx(CORE_HASH_RATE * found.ap_speed)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_block_takes_its_share_of_a_slot(share: float) -> None:
    """H_0 is set for an average slot of the latency-only plan; 200 slots of it come near that share."""
    found = played(block_share=share)
    setting = found.setting()
    assert setting.hashes_alone == pytest.approx(found.hashes)
    trace = simulate(make_policy("latency-only", setting), found.scenario.world.observations(3, 200))
    assert np.mean(trace.block_s) / np.mean(trace.latency_s) == pytest.approx(share, rel=0.35)


def test_calibration_slows_bottoms_energy_and_tops() -> None:
    found = played()
    slower = found.calibrated(np.array([2.0, 1.0]), np.array([1.0, 3.0]))
    for before, after, gateway in zip(
        found.network.tables, slower.network.tables, found.network.gateway_of, strict=True
    ):
        by = (2.0, 1.0)[gateway]
        assert after.gateway_s == pytest.approx(by * before.gateway_s)
        assert after.gateway_j == pytest.approx(by * before.gateway_j)
        assert after.ap_cycles == pytest.approx((1.0, 3.0)[found.network.ap_of[gateway]] * before.ap_cycles)
        assert after.top_flops == pytest.approx(before.top_flops)
    assert found.setting().network is found.network
    assert slower.setting(7.0).v == 7.0


def test_the_usual_batch_is_the_middle_of_what_arrives() -> None:
    assert usual_batch(load_scenario("small")) == 10


def test_a_table_of_numbers_cannot_be_run() -> None:
    content = load_scenario("small").content()
    content["dnn"]["vgg11"] = {"layer_flops": [1, 2], "payload_bits": [8, 0]}
    with pytest.raises(SettingsError, match=r"dnn\.vgg11 is a table of numbers, which cannot be run"):
        check_models(scenario_from(content, "small"))


def test_gateways_too_slow_for_their_energy_are_refused_by_the_key_that_mends_it() -> None:
    content = load_scenario("small").content()
    content["gateways"]["energy_j"] = 0.05
    for speed, mended in ((0.01, False), (1.0, True)):
        content["testbed"]["gateway_speed"] = speed
        scenario = scenario_from(content, "small")
        if mended:
            assert emulate(scenario, {"vgg11": PROFILE}, CORE_HASH_RATE).hashes > 1
        else:
            with pytest.raises(SettingsError, match=r"^small: as .*afford.* raise testbed\.gateway_speed \(0\.01\)"):
                emulate(scenario, {"vgg11": PROFILE}, CORE_HASH_RATE)

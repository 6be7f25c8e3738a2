"""Scenarios: what is written becomes what is computed, by hand and from the profiles."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from splitnet.controller.reputation import Shape
from splitnet.controller.slot import SlotProblem
from splitnet.controller.world import Channel
from splitnet.errors import SettingsError
from splitnet.profiling.profile import SHIPPED as PROFILES
from splitnet.profiling.profile import load_profile
from splitnet.scenario import load_scenario, scenario_from, scenario_from_text, shipped_names
from tests.profiles import a_layer, a_profile, some_facts
from tests.scenarios import DEFAULT, TINY, changed, tiny

# --- the shipped ones


def test_the_shipped_scenarios() -> None:
    assert set(shipped_names()) == {"default", "small", "zoo", "floor", "large"}


SIZES = {"default": (12, 6, 3), "small": (4, 2, 2), "zoo": (8, 4, 2), "floor": (12, 6, 3), "large": (1000, 50, 10)}


@pytest.mark.parametrize("name", SIZES)
def test_a_shipped_scenario_has_its_sizes_and_a_feasible_first_slot(name: str) -> None:
    scenario = load_scenario(name)
    network = scenario.network
    devices, gateways, aps = SIZES[name]
    assert scenario.name == name
    assert (len(network.tables), len(network.ap_of), len(network.max_hz)) == (devices, gateways, aps)
    assert set(network.ap_of.tolist()) == set(range(aps))
    assert set(network.gateway_of.tolist()) == set(range(gateways))
    seen = next(iter(scenario.world.observations(0, 1)))
    SlotProblem(network, seen, np.zeros(aps), scenario.v).check()


def test_default_is_model_section_4() -> None:
    scenario = load_scenario("default")
    network, world, setting = scenario.network, scenario.world, scenario.setting()
    assert (len(network.tables), len(network.ap_of), len(network.max_hz)) == (12, 6, 3)
    assert (world.points.low == 5).all()
    assert (world.points.high == 15).all()
    channel = world.rate_bps
    assert isinstance(channel, Channel)
    assert (channel.bandwidth_hz == 1.5e6).all()
    assert (channel.send_w == 0.2).all()
    assert 10 * math.log10(channel.noise_w_per_hz * 1000) == pytest.approx(-174)
    kilometres = 10 ** ((-10 * np.log10(channel.gain) - 128.1) / 37.6)
    assert kilometres.min() >= 0.020
    assert kilometres.max() <= 0.150
    assert (network.send_w == 0.2).all()
    assert network.max_hz.min() >= 3e9
    assert network.max_hz.max() <= 5e9
    assert (network.kappa == 1e-28).all()
    for law, low, high in ((world.gateway_energy_j, 0.7, 1.2), (world.ap_energy_j, 1.8, 4.9)):
        assert (law.low == low).all()
        assert (law.high == high).all()
    assert (network.cycles_per_block, network.alpha, network.beta, network.blocks) == (8e9, 2, 0, 1)
    assert (setting.v, scenario.slots) == (16, 2000)
    assert network.reputation.shape == Shape.LINEAR
    assert setting.u_max == pytest.approx(2 * setting.u_min)


def test_default_tables_are_vgg_11_by_hand() -> None:
    """Stages counted from the network's definition; seconds by rows 1 and 6, joules by row 2."""
    network = load_scenario("default").network
    stages = np.array(
        [1769472, 18874368, 18874368, 37748736, 18874368, 37748736, 9437184, 9437184, 262144, 262144, 5120]
    )
    numbers = np.array([64 * 256, 128 * 64, 256 * 64, 256 * 16, 512 * 16, 512 * 4, 512 * 4, 512, 512, 512, 0])
    total = stages.sum()
    for device, table in enumerate(network.tables):
        assert len(table.cuts) == 11
        assert table.top_flops.tolist() == (total - stages.cumsum()).tolist()
        assert table.payload_bits.tolist() == (32 * numbers).tolist()
        assert table.ap_cycles == pytest.approx((total - stages.cumsum()) / 8)
        frequency_hz = stages.cumsum() / 4 / table.gateway_s
        assert frequency_hz == pytest.approx(np.full(11, frequency_hz[0]))
        assert 0.8e9 <= frequency_hz[0] <= 1.4e9
        assert table.gateway_j == pytest.approx(1e-28 * frequency_hz**2 * stages.cumsum() / 4)
        assert network.gateway_of[device] == device % 6


def test_the_zoo_takes_measured_times() -> None:
    scenario = load_scenario("zoo")
    network = scenario.network
    assert {len(table.cuts) for table in network.tables} == {10, 16, 18, 29}
    gateway_hz = scenario.file.gateways.profiled_hz
    assert gateway_hz is not None
    for device, name in enumerate(scenario.file.devices.dnn * 2):
        profile, table = load_profile(name), network.tables[device]
        speed = np.array(profile.prefix_s)[list(table.cuts)] / table.gateway_s
        assert speed == pytest.approx(np.full(len(table.cuts), speed[0]))
        suffix = np.array(profile.suffix_s)[list(table.cuts)]
        suffix[-1] = 0
        assert scenario.file.aps.profiled_hz is not None
        assert table.ap_cycles == pytest.approx(suffix * scenario.file.aps.profiled_hz)
        payload = [profile.facts.cuts[cut].payload_bytes["int8"] * 8 for cut in table.cuts[:-1]]
        assert table.payload_bits.tolist() == [*payload, 0]


# --- what is written becomes what is computed


def test_a_table_written_out_by_hand() -> None:
    table = tiny().network.tables[1]  # round robin: gateway 1, 20 Hz x 2 FLOPs a cycle
    assert table.cuts == (1, 2, 3)
    assert table.gateway_s == pytest.approx([2.5, 4.0, 5.0])
    assert table.gateway_j == pytest.approx([1e-6 * 20**2 * cycles for cycles in (50, 80, 100)])
    assert table.payload_bits.tolist() == [800, 80, 0]
    assert table.ap_cycles == pytest.approx([25, 10, 0])
    assert table.top_flops.tolist() == [100, 40, 0]


def test_measured_seconds_written_out() -> None:
    scenario = tiny(
        (
            "payload_bits",
            'latency = "measured"\ngateway_s = [1, 2, 3]\nap_s = [0.5, 0.25, 0]\ncuts = [1, 3]\npayload_bits',
        ),
        ("max_hz = 50", "max_hz = 50\nprofiled_hz = 200"),
    )
    table = scenario.network.tables[0]
    assert table.cuts == (1, 3)
    assert table.gateway_s.tolist() == [1, 3]  # as they are, without gateways.profiled_hz
    assert table.gateway_j == pytest.approx([1e-6 * 10**3 * 1, 1e-6 * 10**3 * 3])
    assert table.ap_cycles == pytest.approx([0.5 * 200, 0])
    as_profiled = tiny(
        ("payload_bits", 'latency = "measured"\ngateway_s = [1, 2, 3]\nap_s = [0.5, 0.25, 0]\npayload_bits'),
        ("count = 2", "count = 2\nprofiled_hz = 40"),
    )
    assert as_profiled.network.tables[0].gateway_s == pytest.approx([4, 8, 12])
    assert as_profiled.network.tables[0].ap_cycles == pytest.approx([0.5 * 50, 0.25 * 50, 0])


def test_connections() -> None:
    assert tiny().network.gateway_of.tolist() == [0, 1, 0]
    assert tiny(('dnn = "three"', 'dnn = "three"\ngateway = "contiguous"')).network.gateway_of.tolist() == [0, 0, 1]
    assert tiny(('dnn = "three"', 'dnn = "three"\ngateway = [1, 1, 0]')).network.gateway_of.tolist() == [1, 1, 0]
    assert tiny(
        ("count = 1", "count = 2"), ("energy_j = 100", "energy_j = 100\nap = [1, 1]")
    ).network.ap_of.tolist() == [1, 1]


def test_dnns_in_turn() -> None:
    two = ("[devices]", "[dnn.one]\nlayer_flops = [7]\npayload_bits = [0]\n[devices]")
    scenario = tiny(two, ('dnn = "three"', 'dnn = ["one", "three"]'))
    assert [len(table.cuts) for table in scenario.network.tables] == [1, 3, 1]


def test_reputation_shapes() -> None:
    place = "reference_flops = 500"
    assert tiny().network.reputation(250.0) == 0.5
    assert tiny((place, f'{place}\nshape = "log"')).network.reputation(500.0) == pytest.approx(math.log(2))
    knots = tiny((place, f'{place}\nshape = "knots"\nknots = [0, 1, 3]\nvalues = [0, 0.5, 0.6]'))
    assert knots.network.reputation(1000.0) == pytest.approx(0.55)


def test_a_users_reputation_in_simulation() -> None:
    scenario = tiny()
    network = scenario.setting(g=lambda share: share**2).network
    assert network.reputation(250.0) == pytest.approx(0.25, abs=1e-4)
    assert network.reputation(500.0) == pytest.approx(1, abs=1e-4)
    with pytest.raises(SettingsError, match=r"reputation function is refused: .* must not fall"):
        scenario.setting(g=lambda share: 1 - share)


def test_the_quantile_of_the_block_time() -> None:
    """The time within which a share p of exponential races ends is -ln(1 - p) means (row 11)."""
    assert tiny().network.blocks == 1
    assert tiny(("cycles_per_hash", "quantile = 0.9\ncycles_per_hash")).network.blocks == pytest.approx(math.log(10))


def test_hashes_and_limits_reach_the_setting() -> None:
    setting = tiny().setting(v=2)
    assert (setting.u_min, setting.u_max, setting.v, setting.hashes_alone) == (0.1, 0.5, 2, 10)


def test_drawn_once_is_drawn_by_key_and_seed() -> None:
    """More gateways keep the first ones; another seed draws others; APs do not notice."""
    one = load_scenario("default")
    more = scenario_from_text(changed(DEFAULT, ("count = 6", "count = 9")), "more.toml")
    other = scenario_from_text(changed(DEFAULT, ("v = 16", "v = 16\nseed = 1")), "other.toml")
    channels = [scenario.world.rate_bps for scenario in (one, more, other)]
    gain = [channel.gain for channel in channels if isinstance(channel, Channel)]
    assert gain[0].tolist() == gain[1][:6].tolist()
    assert not np.isin(gain[2], gain[0]).any()
    assert one.network.max_hz.tolist() == more.network.max_hz.tolist()
    assert len(set(one.network.max_hz.tolist())) == 3


def test_keys_of_one_name_in_two_sections_are_drawn_apart() -> None:
    scenario = tiny(
        ("count = 1", "count = 2"), ("kappa = 1e-6", "kappa = [1e-7, 1e-6]"), ("kappa = 1e-6", "kappa = [1e-7, 1e-6]")
    )
    of_gateways = [
        table.gateway_j[0] / table.gateway_s[0] / hz**3
        for table, hz in zip(scenario.network.tables, (10, 20), strict=False)
    ]
    assert all(1e-7 <= kappa <= 1e-6 for kappa in (*of_gateways, *scenario.network.kappa))
    assert of_gateways != pytest.approx(scenario.network.kappa.tolist(), rel=1e-6)


def test_another_number_of_devices() -> None:
    more = load_scenario("default").with_devices(30)
    assert len(more.network.tables) == len(next(iter(more.world.observations(0, 1))).points) == 30
    assert more.digest != load_scenario("default").digest
    with pytest.raises(SettingsError, match=r"devices\.count = 0 must be a whole number from 1"):
        more.with_devices(0)
    with pytest.raises(SettingsError, match=r"devices\.points must have an entry for each of 4 devices"):
        tiny(("[1, 2]", "{ each = [1, 2, [0, 9]] }")).with_devices(4)


def test_own_profiles_are_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    shutil.copy(PROFILES / "resnet18.json", tmp_path / "mine" / "board.json")
    changes = (
        ('model = "vgg11_cifar"', 'model = "resnet18"\ngateway_profile = "mine/board.json"'),
        ('latency = "flops"', 'latency = "measured"'),
    )
    (tmp_path / "own.toml").write_text(changed(DEFAULT, *changes))
    scenario = load_scenario(tmp_path / "own.toml")
    assert len(scenario.network.tables[0].cuts) == 10
    (tmp_path / "mine" / "board.json").unlink()
    with pytest.raises(SettingsError, match=r"dnn\.vgg11\.gateway_profile: cannot read .*board\.json"):
        load_scenario(tmp_path / "own.toml")


def test_the_digest_tells_scenarios_apart_and_nothing_else(tmp_path: Path) -> None:
    assert tiny().digest == tiny(("v = 4", "v = 4.0  # the same")).digest == tiny(("v = 4", "seed = 0\nv = 4")).digest
    assert tiny().digest != tiny(("v = 4", "v = 5")).digest
    assert tiny().digest != tiny(("layer_flops = [100", "layer_flops = [101")).digest


def test_the_digest_knows_what_stands_in_the_profiles(tmp_path: Path) -> None:
    section = '[dnn.three]\nmodel = "net"\nlatency = "measured"\ngateway_profile = "p.json"\nap_profile = "p.json"\n'
    text = TINY[: TINY.index("[dnn.three]")] + section + TINY[TINY.index("[devices]") :]
    facts = some_facts([a_layer("one", flops=5), a_layer("two", flops=7)])
    digests = []
    for second_s in (0.2, 0.2, 0.3):
        a_profile(facts, (0.1, second_s)).save(tmp_path / "p.json")
        digests.append(scenario_from_text(text, "profiled.toml", tmp_path).digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("name", SIZES)
def test_content_comes_back_through_json(name: str) -> None:
    scenario = load_scenario(name)
    again = scenario_from(json.loads(json.dumps(scenario.content())), "again")
    assert again.content() == scenario.content()
    assert again.digest == scenario.digest


def test_it_can_be_told_in_a_few_lines() -> None:
    lines = load_scenario("default").describe().splitlines()
    assert 3 <= len(lines) <= 8
    assert lines[1] == "12 devices, 6 gateways, 3 APs; 2000 slots, V = 16"
    assert "11 cuts, 0.153 G multiply-adds" in lines[2]

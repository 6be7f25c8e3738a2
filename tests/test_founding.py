"""Networks from scenarios: whole numbers that are what was written, keys that sign, folders whole or untouched."""

from __future__ import annotations

import json
import math
import os
import shutil
import stat
from pathlib import Path

import pytest

from splitnet.consensus.difficulty import reputation_of
from splitnet.consensus.errors import GenesisError
from splitnet.consensus.genesis import Audit, Rules
from splitnet.consensus.identity import public_bytes, read_key
from splitnet.consensus.receipt import Arrival, Receipt, countersign, sign_arrival, sign_as_ap, validate_receipt
from splitnet.consensus.store import Store
from splitnet.errors import SettingsError
from splitnet.founding import GENESIS, KEYS, REGISTRY, found_network, key_file, load_network
from splitnet.scenario import Scenario, load_scenario, scenario_from, shipped_names
from tests.limits import files_up_to

STARTED_MS = 1_700_000_000_000
SMALL = load_scenario("small")
VGG11 = json.loads((Path(__file__).parents[1] / "profiling" / "reference" / "vgg11_cifar.json").read_text())


def changed(section: str, **changes: object) -> Scenario:
    """`small` with other values in a section; None takes a key away."""
    content = SMALL.content()
    content[section] = {key: value for key, value in (content[section] | changes).items() if value is not None}
    return scenario_from(content, "mine.toml", SMALL.folder)


def found(tmp_path: Path, scenario: Scenario = SMALL, **how: object) -> Rules:
    return found_network(scenario, tmp_path / "network", STARTED_MS, **how)  # type: ignore[arg-type]


def layer_flops() -> list[int]:
    """Of the shipped profile, read without code of ours."""
    (layers,) = [value for value in find_lists(VGG11, "layers") if value and "flops" in value[0]]
    return [layer["flops"] for layer in layers]


def find_lists(value: object, name: str) -> list[list[dict[str, int]]]:
    if isinstance(value, dict):
        own = [value[name]] if isinstance(value.get(name), list) else []
        return own + [hit for inner in value.values() for hit in find_lists(inner, name)]
    return []


def model_of(scenario: Scenario, name: str) -> tuple[str, str]:
    """Fingerprints of graph and weights in the profile that a scenario names."""
    dnn = scenario.file.dnn[name]
    shipped = Path(__file__).parents[1] / "profiling" / "reference" / f"{dnn.model}.json"
    profile = shipped if dnn.gateway_profile is None else scenario.folder / dnn.gateway_profile
    model = json.loads(profile.read_text())["model"]
    return model["graph"], model["weights_digest"]


def test_a_network_says_what_its_scenario_says(tmp_path: Path) -> None:
    rules = found(tmp_path)
    genesis, mining = rules.genesis, rules.genesis.mining
    assert (genesis.controller.name, genesis.started_ms) == ("controller", STARTED_MS)
    for role, members, count in (
        ("gateway", genesis.gateways, 2),
        ("ap", genesis.aps, 2),
        ("device", genesis.devices, 4),
    ):
        assert [member.name for member in members] == [f"{role}-{number}" for number in range(count)]
    assert (genesis.gateway_of, genesis.ap_of) == ((0, 1, 0, 1), (0, 1))  # round robin
    assert genesis.most_data_points == (15, 15, 15, 15)
    assert (mining.alpha_micro, mining.beta_micro, mining.reputation) == (2_000_000, 0, "linear")
    assert mining.hashes == 8_000_000  # H / c_h = 8e9 / 1000
    assert mining.reference_flops == 4_520_000_000
    whole = sum(layer_flops())
    assert 1.5e8 < whole < 1.6e8  # 0.153 G multiply-adds
    assert mining.most_micro == math.floor(2 * 15 * whole * 10**6 / 4.52e9)  # two devices of an AP, 15 points each
    assert [list(model.flops) for model in rules.registry.models] == [layer_flops()]
    assert genesis.audit == Audit()
    assert genesis.most_receipts == 4096


def test_what_was_founded_is_loaded(tmp_path: Path) -> None:
    rules = found(tmp_path)
    assert load_network(tmp_path / "network").network == rules.network
    Store.create(tmp_path / "ap-0", load_network(tmp_path / "network")).close()
    with Store.open(tmp_path / "ap-0", rules.network) as store:
        assert store.rules.genesis == rules.genesis
    names = {path.name for path in (tmp_path / "network").iterdir()}
    assert names == {KEYS, GENESIS, REGISTRY}


def test_keys_are_the_members_and_their_owners_alone(tmp_path: Path) -> None:
    rules, folder = found(tmp_path), tmp_path / "network"
    members = {member.name: member.public_key for member in rules.genesis.members}
    assert {path.stem for path in (folder / KEYS).glob("*.key")} == set(members)
    for name, public in members.items():
        assert public_bytes(read_key(key_file(folder, name))) == public
        assert stat.S_IMODE(key_file(folder, name).stat().st_mode) == 0o600
        assert (folder / KEYS / f"{name}.pub").read_text() == public.hex() + "\n"
    assert stat.S_IMODE((folder / KEYS).stat().st_mode) == 0o700


def test_members_of_a_founded_network_sign_valid_receipts(tmp_path: Path) -> None:
    rules, folder = found(tmp_path), tmp_path / "network"
    device, gateway, ap = (read_key(key_file(folder, name)) for name in ("device-3", "gateway-1", "ap-1"))
    model = rules.models[3]
    arrival = Arrival(7, 3, 15, bytes(32))
    receipt = Receipt(arrival, 1, 1, model.graph, model.weights, 4, bytes(32), bytes(32))
    by_device = sign_arrival(rules, device, arrival)
    by_ap = sign_as_ap(rules, ap, receipt, by_device)
    validate_receipt(rules, countersign(rules, gateway, receipt, by_device, by_ap))


def test_two_networks_of_one_scenario_are_two(tmp_path: Path) -> None:
    one = found_network(SMALL, tmp_path / "one", STARTED_MS)
    two = found_network(SMALL, tmp_path / "two", STARTED_MS)
    assert one.network != two.network


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_scenario_can_be_founded(tmp_path: Path, name: str) -> None:
    scenario = load_scenario(name)
    rules = found(tmp_path, scenario)
    file = scenario.file
    assert len(rules.genesis.devices) == file.devices.count
    assert rules.genesis.mining.reference_flops == file.reputation.reference_flops
    assert len(rules.registry.models) == len(file.dnn)
    by_name = {name: model_of(scenario, name) for name in file.dnn}
    for device, model in enumerate(rules.models):
        assert (model.graph.hex(), model.weights.hex()) == by_name[file.devices.dnn[device % len(file.devices.dnn)]]
    for points, device in zip(
        file.devices.points.high(file.devices.count), rules.genesis.most_data_points, strict=True
    ):
        assert device == points


def test_options(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    rules = found(tmp_path, hashes=123, audit=Audit(share_millionths=5), step=lambda *step: told.append(step))
    assert rules.genesis.mining.hashes == 123
    assert rules.genesis.audit.share_millionths == 5
    assert [step[:2] for step in told] == [(number, 9) for number in range(1, 10)]


def test_floats_become_what_was_written(tmp_path: Path) -> None:
    """0.1 is 100,000 millionths, though no float is 0.1; ln is capped as ln."""
    rules = found(tmp_path, changed("mining", alpha=0.1, beta=0.700001))
    assert (rules.genesis.mining.alpha_micro, rules.genesis.mining.beta_micro) == (100_000, 700_001)
    rules = found_network(changed("reputation", shape="log"), tmp_path / "log", STARTED_MS)
    mining = rules.genesis.mining
    most = 2 * 15 * sum(layer_flops())
    assert mining.reputation == "log"
    assert mining.most_micro == math.floor(math.log1p(most / 4.52e9) * 1e6)
    assert reputation_of(mining, most) == mining.most_micro


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("mining", {"alpha": 2.0000001}, "mine.toml: mining.alpha = 2.0000001 is no whole number of millionths"),
        ("mining", {"beta": 1e-7}, "mining.beta = 1e-07 is no whole number of millionths"),
        ("mining", {"beta": -1.0}, "mining.beta = -1 is below 0, the least on a chain"),
        ("mining", {"cycles_per_hash": 7.0}, "mining.cycles_per_hash = 1142857142.857.* is no whole number"),
        ("mining", {"cycles_per_hash": 1e12}, "mining.cycles_per_hash = 0.008.* give H_0 by --hashes"),
        ("mining", {"cycles_per_block": 1e30}, "is no whole number from 1 to 4611686018427387904"),
        ("mining", {"alpha": 30.0}, "mine.toml: at the cap of U = 1.01744 gamma is at most 1e-09; lower"),
        ("reputation", {"reference_flops": 4.5e9 + 0.5}, "reference_flops = 4500000000.5 is no whole number"),
        ("reputation", {"reference_flops": 1e19}, "reference_flops = 1e.19 is no whole number from 1 to"),
        (
            "reputation",
            {"shape": "knots", "knots": [0, 1], "values": [0, 1]},
            "reputation.shape = 'knots' cannot stand on a chain",
        ),
        ("devices", {"points": 0}, "devices.points gives device 0 at most 0; a chain wants at least 1"),
    ],
)
def test_what_cannot_stand_on_a_chain_is_said(
    tmp_path: Path, section: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        found(tmp_path, changed(section, **changes))
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_more_members_than_a_chain_may_have_are_refused(tmp_path: Path) -> None:
    """Before a key is made."""
    content = changed("mining", alpha=0).content()
    content["devices"]["count"] = 10_001
    with pytest.raises(SettingsError, match=r"devices\.count = 10001 is over the 10000 of a chain; take"):
        found(tmp_path, scenario_from(content, "mine.toml", SMALL.folder))
    assert list(tmp_path.iterdir()) == []


def test_a_dnn_without_a_graph_is_refused(tmp_path: Path) -> None:
    written = {"latency": "flops", "layer_flops": [10, 20], "payload_bits": [8, 0]}
    content = SMALL.content() | {"dnn": {"vgg11": written}}
    with pytest.raises(SettingsError, match=r"dnn.vgg11 is written out.*name a model that was profiled"):
        found(tmp_path, scenario_from(content, "mine.toml"))


@pytest.mark.parametrize("hashes", [0, -1, 2**62 + 1])
def test_hashes_are_bounded(tmp_path: Path, hashes: int) -> None:
    with pytest.raises(SettingsError, match=f"--hashes {hashes} is outside 1"):
        found(tmp_path, hashes=hashes)


def test_a_folder_that_holds_something_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    found(tmp_path)  # empty will do
    before = {path: path.read_bytes() for path in (tmp_path / "network").rglob("*") if path.is_file()}
    with pytest.raises(SettingsError, match="network is not empty; choose another folder"):
        found(tmp_path)
    assert {path: path.read_bytes() for path in (tmp_path / "network").rglob("*") if path.is_file()} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SettingsError, match=r"file: .*; choose another folder"):
        found_network(SMALL, tmp_path / "file", STARTED_MS)


def test_a_network_that_cannot_be_finished_is_taken_away(tmp_path: Path) -> None:
    with files_up_to(200), pytest.raises(SettingsError, match="File too large; choose another folder"):
        found(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "network").mkdir()
    with files_up_to(200), pytest.raises(SettingsError):
        found(tmp_path)
    assert list((tmp_path / "network").iterdir()) == []
    found(tmp_path)


def test_damaged_networks_are_refused(tmp_path: Path) -> None:
    found(tmp_path)
    folder = tmp_path / "network"
    found_network(SMALL, tmp_path / "other", STARTED_MS)
    found_network(load_scenario("zoo"), tmp_path / "zoo", STARTED_MS)
    for name in (GENESIS, REGISTRY):
        whole = (folder / name).read_bytes()
        for content in (b"", whole[:-1], whole + b"\0", bytes(1 << 20)):
            (folder / name).write_bytes(content)
            with pytest.raises(GenesisError, match=f"{name} is damaged") as refused:
                load_network(folder)
            assert "\n" not in str(refused.value)
        (folder / name).unlink()
        with pytest.raises(GenesisError, match=r"cannot read .*: No such file.*splitnet chain new"):
            load_network(folder)
        (folder / name).mkdir()
        with pytest.raises(GenesisError, match=name):
            load_network(folder)
        (folder / name).rmdir()
        os.mkfifo(folder / name)
        with pytest.raises(GenesisError, match=f"{name} is no file"):
            load_network(folder)
        (folder / name).unlink()
        (folder / name).write_bytes(whole)
    shutil.copy(tmp_path / "zoo" / REGISTRY, folder / REGISTRY)
    with pytest.raises(GenesisError, match="is damaged: the FLOPs registry is not the one"):
        load_network(folder)
    with pytest.raises(GenesisError, match="cannot read"):
        load_network(tmp_path / "nowhere")

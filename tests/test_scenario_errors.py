"""What is wrong in a scenario is said in one line: the key, its value, its limits."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from splitnet.errors import SettingsError
from splitnet.scenario import load_scenario, scenario_from, scenario_from_text
from splitnet.scenario.loading import MAX_BYTES
from tests.scenarios import DEFAULT, TINY, changed, refused, tiny


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("count = 3", "cuont = 3")], "line 12: devices.cuont is no key; did you mean count?"),
        ([("[mining]", "[minnig]")], "minnig is no key; did you mean mining?"),
        ([("u_max = 0.5", "")], "line 41: c6.u_max is missing"),
        ([("[c6]\nu_min = 0.1\nu_max = 0.5", "")], "my.toml: c6 is missing"),
        ([("v = 4", "v = 0")], "line 5: scenario.v = 0 must be a number above 0"),
        ([("v = 4", "v = nan")], "line 5: scenario.v = nan must be a number above 0"),
        ([("v = 4", "v = true")], "scenario.v = true must be a number"),
        ([("v = 4", "v = 0x" + "f" * 5000)], "scenario.v = … must be a number"),
        ([("slots = 10", "slots = 0")], "line 4: scenario.slots = 0 must be a whole number from 1 to 1e+08"),
        ([("slots = 10", "slots = 1.5")], "scenario.slots = 1.5 must be a whole number"),
        ([("count = 3", "count = 0")], "line 12: devices.count = 0 must be a whole number from 1 to 50000"),
        (
            [("[1, 2]", "[1, -2]")],
            "devices.points = [1, -2] must be a whole number from 0 to 1000000, or [low, high]",
        ),
        ([("[1, 2]", "[2, 1]")], "line 13: devices.points = [2, 1] must rise from low to high, 2 is above 1"),
        ([("[1, 2]", "[1, 2, 3]")], "devices.points = [1, 2, 3] must be"),
        ([("[1, 2]", "1.5")], "devices.points = 1.5 must be a whole number"),
        ([("[1, 2]", "{ each = [1, 2] }")], "devices.points must have an entry for each of 3 devices, it has 2"),
        ([("[10, 20]", "[10, nan]")], "gateways.frequency_hz entry 1 must be a number from 1"),
        ([("{ each = [10, 20] }", "{ all = [10, 20] }")], "gateways.frequency_hz must be a number from 1"),
        ([("energy_j = 100", "energy_j = -1")], "gateways.energy_j = -1 must be a number from 0"),
        ([("energy_j = [40, 50]", "energy_j = [0, 50]")], "aps.energy_j = [0, 50] must be a number from 1e-09"),
        ([("energy_j = [40, 50]", "energy_j = inf")], "aps.energy_j = inf must be a number"),
        ([("max_hz = 50", "max_hz = 0")], "aps.max_hz = 0 must be a number from 1"),
        ([("u_min = 0.1", "u_min = 0.6")], "line 42: c6.u_min = 0.6 must be at most c6.u_max, which is 0.5"),
        (
            [("energy_j = 100", "energy_j = 100\nap = [0]")],
            "gateways.ap = [0] must name one AP for each of the 2 gateways: gateway 1 has none",
        ),
        (
            [("energy_j = 100", "energy_j = 100\nap = [0, []]")],
            "must name one AP for each gateway: gateway 1 has no AP",
        ),
        (
            [("energy_j = 100", "energy_j = 100\nap = [0, 1]")],
            "must hold numbers of APs from 0 to 0: that of gateway 1 is 1",
        ),
        ([("count = 1", "count = 0")], "aps.count = 0 must be a whole number from 1"),
        (
            [('dnn = "three"', 'dnn = "three"\ngateway = [0, [0, 1], 1]')],
            "must name one gateway for each device: device 1 has 2 gateways",
        ),
        ([('dnn = "three"', 'dnn = "three"\ngateway = [0, 1, 1, 0]')], "for each of the 3 devices, it names 4"),
        (
            [('dnn = "three"', 'dnn = "three"\ngateway = [0, -1, 1]')],
            "must hold numbers of gateways from 0: that of device 1 is not one",
        ),
        ([('dnn = "three"', 'dnn = "three"\ngateway = "randomly"')], 'must be "round robin" or "contiguous"'),
        (
            [('dnn = "three"', 'dnn = "tree"')],
            "devices.dnn = 'tree' must name sections [dnn.NAME]: no 'tree' is there; did you mean three?",
        ),
        ([('dnn = "three"', "dnn = 3")], "devices.dnn = 3 must be a name in quotes"),
        ([("layer_flops", 'codec = "fp8"\nlayer_flops')], 'dnn.three.codec = \'fp8\' must be one of "none", "fp16"'),
        ([("layer_flops", 'model = "resnet18"\nlayer_flops')], "must not stand beside `model`"),
        ([("[800, 80, 0]", "[800, 0]")], "must have an entry for each of the 3 layers in layer_flops, it has 2"),
        ([("[800, 80, 0]", "[800, 80, 8]")], "must end with 0"),
        (
            [("[800, 80, 0]", "[800, -80, 0]")],
            "dnn.three.payload_bits = [800, -80, 0] entry 1 must be a whole number",
        ),
        ([("payload_bits = [800, 80, 0]", "")], "dnn.three.payload_bits is missing"),
        ([("payload_bits", 'latency = "measured"\npayload_bits')], "dnn.three.gateway_s is missing"),
        ([("payload_bits", "gateway_s = [1, 2, 3]\npayload_bits")], 'needs latency = "measured"'),
        ([("payload_bits", "cuts = [0, 1]\npayload_bits")], "must hold numbers from 1 to 3"),
        ([("payload_bits", 'cuts = "stages"\npayload_bits')], "needs a `model`"),
        ([("flops_per_cycle = 4", "")], 'aps.flops_per_cycle is missing: [dnn.three] has latency "flops"'),
        (
            [("rate_bps = 1000", "rate_bps = 1000\ndistance_m = 5")],
            "link.distance_m = 5 must not stand beside link.rate_bps",
        ),
        ([("rate_bps = 1000", "bandwidth_hz = 1e6")], "link.distance_m is missing"),
        ([("= 500", '= 500\nshape = "knots"')], "reputation.knots is missing"),
        ([("= 500", "= 500\nknots = [0, 1]")], 'reputation.knots = [0, 1] needs shape = "knots"'),
        ([("= 500", '= 500\nshape = "knots"\nknots = [0, 1]\nvalues = [1, 0]')], "must not fall"),
        ([("= 500", '= 500\nshape = "knots"\nknots = [1, 2]\nvalues = [0, 1]')], "must rise from 0"),
        ([("= 500", '= 500\nshape = "knots"\nknots = [0, 1]\nvalues = [0, 1, 2]')], "there are 2 knots and 3 values"),
        (
            [("= 500", "= 1"), ("cycles_per_hash", "alpha = 100\ncycles_per_hash")],
            "mining.alpha = 100 with reputations up to 1.2e+03",
        ),
        ([("[aps]", "[[aps]]")], "must be a section"),
        ([("[dnn.three]", '[dnn."a\\nb"]')], "dnn.'a\\nb'"),
        ([("[c6]", "[c6")], "my.toml is no TOML"),
        ([('name = "tiny"', 'name = "two\\nlines"')], "scenario.name = 'two\\nlines' must be 1 to 100 printable"),
        ([("[c6]", ".".join(["[a"] + ["a"] * 5000) + "]\n[c6]")], "a key of more than 100 parts (at line 41)"),
        ([("v = 4", "v = " + "[" * 5000)], "my.toml is no TOML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(changes: list[tuple[str, str]], message: str) -> None:
    assert message in refused(changed(TINY, *changes))


def test_the_line_is_that_of_the_key_not_of_its_name_elsewhere() -> None:
    text = '# count = 1\nabout = """\n[devices]\ncount = 2\n"""\n' + TINY
    assert "is no key" in refused(text)  # about stands outside a section
    text = changed(TINY, ("slots", '# devices.count\nabout = "count"\nslots'), ("count = 3", "\n\ncount = 0 # count"))
    assert refused(text).startswith("my.toml line 16: devices.count = 0 ")
    assert text.splitlines()[15].startswith("count = 0")
    inline = changed(TINY, ("[link]\nrate_bps = 1000", ""), ("[scenario]", "link = {\\\n rate_bps = 0 }\n[scenario]"))
    assert "no TOML" in refused(inline)
    inline = changed(TINY, ("[link]\nrate_bps = 1000", ""), ("[scenario]", "link = { rate_bps = 0 }\n[scenario]"))
    assert refused(inline).startswith("my.toml line 2: link.rate_bps = 0 ")


def test_names_that_are_none() -> None:
    for asked in ("defalt", "nowhere/x.toml", "x\0y", "a" * 5000, ""):
        with pytest.raises(SettingsError) as caught:
            load_scenario(asked)
        assert "\n" not in str(caught.value)
    with pytest.raises(SettingsError, match=r"did you mean default\?"):
        load_scenario("defalt")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is no file"):
        load_scenario(tmp_path)
    (tmp_path / "large.toml").write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(SettingsError, match=f"at most {MAX_BYTES}"):
        load_scenario(tmp_path / "large.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is no TOML"):
        load_scenario(tmp_path / "bytes.toml")


def test_a_shipped_name_wins_over_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    assert load_scenario("small").name == "small"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"stages"', "[3, 28]"), r"dnn\.vgg11\.cuts holds 28; vgg11_cifar has cuts from 0 to 27"),
        (('"vgg11_cifar"', '"vgg11_cifra"'), r"dnn\.vgg11\.model: vgg11_cifra is neither"),
        (
            ('"vgg11_cifar"', '"vgg11_cifar"\nap_profile = "x"'),
            r'dnn\.vgg11\.ap_profile = \'x\' needs latency = "measured"',
        ),
    ],
)
def test_profiles_that_do_not_fit(change: tuple[str, str], message: str) -> None:
    assert re.search(message, refused(changed(DEFAULT, change)))


def test_too_many_options_are_refused() -> None:
    text = changed(
        DEFAULT, ("count = 12", "count = 50000"), ('"vgg11_cifar"', '"mobilenet_v3_large"'), ('"stages"', '"all"')
    )
    assert "are 9350000 options, over 5000000" in refused(text)


def test_a_v_out_of_range() -> None:
    for v in (0, -1, math.nan, math.inf, True):
        with pytest.raises(SettingsError, match="must be a number above 0"):
            tiny().setting(v=v)


NUMERIC = [
    (name, key)
    for name, section in scenario_from_text(TINY, "tiny.toml").content().items()
    for key, value in section.items()
    if isinstance(value, int | float) or key in ("points", "energy_j", "frequency_hz")
]


@pytest.mark.parametrize(("section", "key"), NUMERIC)
def test_nan_is_refused_everywhere_with_the_range(section: str, key: str) -> None:
    content = tiny().content()
    content[section][key] = math.nan
    with pytest.raises(SettingsError, match=rf"{section}\.{key} = nan must be a (whole )?number (from|above) "):
        scenario_from(content, "my.toml")

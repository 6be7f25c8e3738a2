"""`splitnet plan` on profiles whose costs were planted: table, JSON, picture, and one line for bad input."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest

from splitnet.cli import main
from splitnet.profiling.facts import ModelFacts
from splitnet.report import plan as report
from tests.profiles import SHARES, a_layer, a_profile, some_facts

LAYERS = [
    a_layer("stem", flops=10**6),
    a_layer("act", "ReLU"),
    a_layer("pool", "MaxPool2d"),
    a_layer("head", "Linear", flops=10**6),
]
PAYLOADS = [600_000, 800_000, 800_000, 50_000, 4000]
GATEWAY_S = [20e-3, 1e-3, 1e-3, 78e-3]
AP_S = [2e-3, 1e-4, 1e-4, 7.8e-3]
BASE_S, BYTE_S = 1e-4, 1e-9


def the_facts(**changes: Any) -> ModelFacts:
    return some_facts(LAYERS, payload_bytes=PAYLOADS, result_bytes=4000, **changes)


@dataclass(frozen=True, slots=True)
class Ended:
    status: int
    out: str
    err: str


Plan = Callable[..., Ended]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profiles")
    costs = dict.fromkeys(SHARES, (BASE_S, BYTE_S))
    unused = dict.fromkeys(SHARES, (7.0, 0.0))  # a gateway does not decode what it sends, nor an AP encode it
    for name, facts, layer_s in (
        ("gateway", the_facts(), GATEWAY_S),
        ("ap", the_facts(), AP_S),
        ("other_name", the_facts(name="other"), AP_S),
        ("other_graph", the_facts(graph="f" * 64), AP_S),
        ("other_batch", the_facts(batch=4), AP_S),
        ("other_side", the_facts(side=16), AP_S),
    ):
        encode, decode = (costs, unused) if name == "gateway" else (unused, costs)
        a_profile(facts, layer_s, encode=encode, decode=decode).save(folder / f"{name}.json")
    untimed = replace(a_profile(the_facts(), AP_S), codec_timings=())
    untimed.save(folder / "untimed.json")
    (folder / "edited.json").write_text((folder / "ap.json").read_text().replace("Abacus", "Curta"))
    return folder


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str], files: Path) -> Plan:
    def command(*arguments: object, model: str = "net", gateway: str = "gateway", ap: str = "ap") -> Ended:
        where = ["--gateway-profile", f"{files / gateway}.json", "--ap-profile", f"{files / ap}.json"]
        with pytest.raises(SystemExit) as ended:
            main(["plan", model, *where, *map(str, arguments)])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, out, err)

    return command


def told(ended: Ended) -> Any:
    assert (ended.status, ended.err) == (0, "")
    return json.loads(ended.out)


def by_hand(cut: int, rate_bps: float, *, share: int = 1, rho: float = 1.0, delay_s: float = 0.0) -> float:
    """Seconds of one cut: halves, codec at both ends, both ways on the link."""
    if cut == 4:
        return sum(GATEWAY_S)
    halves_s = sum(GATEWAY_S[:cut]) + sum(AP_S[cut:]) / rho
    codec_s = 2 * (BASE_S + BYTE_S * PAYLOADS[cut])
    return halves_s + codec_s + 2 * delay_s + 8 * (PAYLOADS[cut] // share + 4000) / rate_bps


# --- what it says


@pytest.mark.parametrize("rate", ["1mbit", "20mbit", "1gbit"])
def test_the_json_is_what_was_worked_out_by_hand(plan: Plan, rate: str) -> None:
    rate_bps = {"1mbit": 1e6, "20mbit": 2e7, "1gbit": 1e9}[rate]
    found = told(plan("--rate", rate, "--delay", "2ms", "--codec", "none", "--rho", "0.5", "--json"))
    assert (found["model"], found["rate_bps"], found["delay_s"]) == ("net", rate_bps, 2e-3)
    totals = [by_hand(cut, rate_bps, rho=0.5, delay_s=2e-3) for cut in range(5)]
    assert [row["total_s"] for row in found["cuts"]] == pytest.approx(totals, rel=1e-4)
    assert [row["layer"] for row in found["cuts"]] == ["input", "stem", "act", "pool", "head"]
    assert found["best"]["cut"] == int(np.argmin(totals))
    for row in found["cuts"]:
        parts = ("gateway_s", "codec_s", "link_s", "ap_s")
        assert sum(row[part] for part in parts) == pytest.approx(row["total_s"], rel=1e-9)


def test_the_best_of_every_rate_is_what_brute_force_finds(plan: Plan) -> None:
    found = told(plan("--rate", "20mbit", "--json"))
    stretches = found["by_rate"]
    assert (stretches[0]["from_bps"], stretches[-1]["to_bps"]) == (1e5, 1e10)
    assert len({stretch["cut"] for stretch in stretches}) == 3
    for rate in np.geomspace(1e5, 0.999e10, 300):
        best_s = min(by_hand(cut, rate, share=share) for cut in range(5) for share in SHARES.values())
        [stretch] = [one for one in stretches if one["from_bps"] <= rate < one["to_bps"]]
        assert by_hand(stretch["cut"], rate, share=SHARES[stretch["codec"]]) == pytest.approx(best_s, rel=1e-3)


def test_with_one_codec_all_on_the_gateway_is_still_a_choice(plan: Plan) -> None:
    found = told(plan("--rate", "150kbit", "--codec", "int8", "--json"))
    assert [row["cut"] for row in found["cuts"]] == [0, 1, 2, 3, 4]
    assert (found["best"]["cut"], found["best"]["bits"]) == (4, 0)
    assert found["best"]["total_s"] == pytest.approx(0.1)


def test_the_table(plan: Plan) -> None:
    ended = plan("--rate", "20mbit")
    assert (ended.status, ended.err) == (0, "")
    for word in (
        "net at 20 Mbit/s",
        "input",
        "pool",
        "head",
        "the best cut at every rate",
        "100 kbit/s",
        "10 Gbit/s",
    ):
        assert word in ended.out
    assert ended.out.count("Abacus 9000") == 2
    assert "shipped" not in ended.out


def test_the_picture(plan: Plan, tmp_path: Path) -> None:
    picture = tmp_path / "plan.png"
    ended = plan("--rate", "20mbit", "--figure", picture)
    assert (ended.status, ended.err) == (0, "")
    assert str(picture) in ended.out.replace("\n", "")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_lower_panel_steps_through_the_best_cuts(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[matplotlib.figure.Figure] = []
    monkeypatch.setattr(report, "save_figure", lambda figure, path, way_out: drawn.append(figure))
    found = told(plan("--rate", "20mbit", "--figure", tmp_path / "plan.png", "--json"))
    upper, lower = drawn[0].axes
    assert upper.get_shared_x_axes().joined(upper, lower)
    assert upper.get_xscale() == lower.get_xscale() == "log"
    step = lower.lines[0]
    assert step.get_drawstyle() == "steps-post"
    rates, cuts = (np.asarray(values) for values in step.get_data())
    stretches = found["by_rate"]
    assert rates == pytest.approx([*(one["from_bps"] / 1e6 for one in stretches), 1e4])
    assert cuts.tolist() == [*(one["cut"] for one in stretches), stretches[-1]["cut"]]
    legend = upper.get_legend()
    assert legend is not None
    named = {text.get_text() for text in legend.get_texts()}
    assert {"all on the AP", "all on the gateway"} <= {name.split(",")[0] for name in named}


# --- what a user can mend

BAD: list[tuple[str, dict[str, str], Sequence[str], tuple[str, ...]]] = [
    ("rate of zero", {}, ["--rate", "0mbit"], ("rate of zero", "50mbit")),
    ("rate with no unit", {}, ["--rate", "20"], ("'20'", "is no rate", "50mbit")),
    ("rate that is none", {}, ["--rate", "loopback"], ("--rate 'loopback'", "20mbit")),
    ("rate below zero", {}, ["--rate=-5mbit"], ("'-5mbit'",)),
    ("no rate", {}, [], ("--rate",)),
    ("delay with no unit", {}, ["--rate", "20mbit", "--delay", "5"], ("'5'", "is no delay")),
    ("unknown codec", {}, ["--rate", "20mbit", "--codec", "zip"], ("'zip'", "int8+lz4")),
    ("rho of zero", {}, ["--rate", "20mbit", "--rho", "0"], ("--rho 0", "(0, 1]")),
    ("rho above one", {}, ["--rate", "20mbit", "--rho", "1.5"], ("--rho 1.5", "(0, 1]")),
    ("rho that is no number", {}, ["--rate", "20mbit", "--rho", "nan"], ("--rho nan", "(0, 1]")),
    ("another model", {"model": "nett"}, ["--rate", "20mbit"], ("--gateway-profile", "of net, not of nett")),
    ("another AP model", {"ap": "other_name"}, ["--rate", "20mbit"], ("--ap-profile", "of other, not of net")),
    (
        "another graph",
        {"ap": "other_graph"},
        ["--rate", "20mbit"],
        ("--ap-profile", "ffffffffffff"),
    ),
    ("another batch", {"ap": "other_batch"}, ["--rate", "20mbit"], ("batch 4", "batch 1", "--batch")),
    ("another input size", {"ap": "other_side"}, ["--rate", "20mbit"], ("1x3x16x16", "1x3x8x8", "--input-size")),
    ("no codec timed", {"ap": "untimed"}, ["--rate", "20mbit"], ("'none' was not timed", "net")),
    ("missing file", {"ap": "missing"}, ["--rate", "20mbit"], ("missing.json", "splitnet profile")),
    ("edited file", {"ap": "edited"}, ["--rate", "20mbit"], ("edited.json", "digest")),
    ("no probe", {}, ["--rate", "20mbit", "--probe", "none.json"], ("none.json", "probe")),
    ("no folder", {}, ["--rate", "20mbit", "--figure", "/no/such/plan.png"], ("/no/such/plan.png", "--figure FILE")),
]


@pytest.mark.parametrize(("given", "arguments", "named"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_one_line_that_names_it(
    plan: Plan, given: dict[str, str], arguments: Sequence[str], named: tuple[str, ...]
) -> None:
    ended = plan(*arguments, **given)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("splitnet: ")
    assert ended.err.count("\n") == 1
    assert "Traceback" not in ended.err
    for word in named:
        assert word in ended.err

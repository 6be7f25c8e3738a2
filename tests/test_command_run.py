"""`splitnet run` with bad input: one line each, and nothing is left of it. No machine is started here."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitnet.running.preparing import core_plan, read_scenario
from tests.commands import Run
from tests.running import TINY
from tests.scenarios import changed

MANY = (("count = 2\nfrequency_hz", "count = 40\nfrequency_hz"), ("count = 3", "count = 40"))
"""Changes of the scenario after which its gateways are 40."""
FAST = ("gateway_speed = 0.1", "gateway_speed = 1.0")


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPLITNET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "toys.toml"
    path.write_text(TINY)
    return path


def refused(run: Run, *arguments: object) -> str:
    ended = run("run", *arguments)
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith("splitnet: ")
    assert list(Path().iterdir()) == [] or [path.name for path in Path().rglob("*")] == ["runs"]
    return ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policy", "drpa"), "no policy is called 'drpa'"),
        (("--slots", "0"), "--slots 0 is outside 1..100000"),
        (("--V", "0"), "--V 0 must be above 0 and at most 1e+12"),
        (("--V", "1e13"), "--V 1e+13 must be above 0 and at most 1e+12"),
        (("--seed", "-3"), "--seed -3 is outside 0..2^63-1"),
        (("--link-backend", "radio"), "--link-backend radio is unknown; give user or kernel"),
        (("--actuator", "magic"), "--actuator magic: actuator 'magic' is unknown: give pacing"),
        (("--actuator", "nvml"), "--actuator nvml: nvml"),
        (("--audit", "2"), "--audit 2 is outside 0..1"),
        (("--fair-gamma", "0.5"), "--fair-gamma is for wtcm-fair and wtcm-fair-c6; dpra takes none"),
        (("--resume", "nowhere"), "nowhere"),
        (("-o", "a", "--resume", "b"), "-o a begins a run and --resume b goes on with one; give one of them"),
        (("--images", "nowhere"), "--images nowhere: no such file or folder"),
        (("--rate-trace", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(
    run: Run, toys: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused(run, toys, *arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('model = "toy_chain"', 'model = "toy_chian"'), "toys.toml: dnn.toy: no model 'toy_chian'"),
        (
            ('model = "toy_chain"', 'model = "toy_multi"'),
            "dnn.toy: toy_multi takes torch.float32, torch.float32, and a",
        ),
        (
            (
                'model = "toy_chain"',
                "layer_flops = [9, 9, 9]\npayload_bits = [8, 8, 0]\ngateway_s = [1, 2, 3]\nap_s = [2, 1, 0]",
            ),
            "dnn.toy is a table of numbers, which cannot be run; name a model",
        ),
        (("u_min = 0.01", "u_min = 0.01\nu_mid = 0.3"), "c6.u_mid is no key"),
    ],
)
def test_scenarios_that_cannot_be_played_are_one_line(
    run: Run, toys: Path, change: tuple[str, str], message: str
) -> None:
    toys.write_text(changed(TINY, change))
    assert message in refused(run, toys)


def test_a_quota_cannot_hold_two_lanes_of_an_ap(run: Run, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitnet.running.preparing.why_not", lambda name: None)
    toys.write_text(changed(TINY, ("count = 2\nfrequency_hz", "count = 3\nfrequency_hz")))
    said = refused(run, toys, "--actuator", "cgroup")
    assert "AP 0 has 2 gateways, each with its own share; use --actuator pacing" in said


def test_more_cores_than_there_are_are_refused_where_asked(run: Run, toys: Path) -> None:
    toys.write_text(changed(TINY, *MANY, FAST))
    said = refused(run, toys, "--strict")
    assert "emulated machines run at once, which need" in said
    assert "multiply all speeds by" in said


def test_speeds_are_as_the_frequencies_are(toys: Path) -> None:
    toys.write_text(
        changed(
            TINY,
            ("frequency_hz = [0.8e9, 1.4e9]", "frequency_hz = { each = [1e9, 2e9] }"),
            ("max_hz = [3e9, 5e9]", "max_hz = 4e9"),
        )
    )
    plan = core_plan(read_scenario(toys))
    inference, mining = plan.phases
    assert inference.load == pytest.approx(0.05 + 0.1 + 2 * 0.1)
    assert mining.load == pytest.approx(2 * 0.1)
    assert inference.machines == ("gateway 0", "gateway 1", "AP 0", "AP 1")
    assert plan.complaint is None


def test_help_names_policies_and_options(run: Run) -> None:
    from splitnet.controller.policies import POLICIES

    said = " ".join(run("run", "--help").out.replace("│", " ").split())
    for name in (*POLICIES, "--resume", "--strict", "--link-backend", "--audit", "--json", "Examples:"):
        assert name in said

"""What a validation says of predictors whose errors were planted."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.model_error import main, read_run
from splitnet.errors import SettingsError
from splitnet.report.validation import draw_cuts, draw_scatter, summary, validation_tables
from splitnet.runtime.link import Link
from splitnet.terminal import Terminal
from splitnet.validating import ValidateSettings
from splitnet.validation import COMPONENTS, Case, Judgement, Parts, Validation

FIGURES = {"cases", "mape", "rmspe", "bias", "within_5", "within_10", "within_15"}
JUDGED = ("end_to_end", "gateway", "link", "ap")
REGRETS = {
    "choices",
    "choices_apart",
    "regret_median",
    "regret_p95",
    "regret_raw_median",
    "regret_raw_p95",
    "regret_resolution",
    "regret_resolution_p95",
}


def scaled(parts: Parts, factor: float) -> Parts:
    return Parts(parts.gateway_s * factor, parts.link_s * factor, parts.ap_s * factor)


def a_case(
    cut: int, truth: Parts, noise: Sequence[float] = (1.0,) * 4, *, link: str = "loopback", **predicted: Parts
) -> Case:
    """A case whose samples are the truth times each of `noise`, in this order."""
    return Case(
        model="net",
        batch=1,
        link=link,
        codec="none",
        cut=cut,
        layer=f"layer{cut}",
        sent_bytes=1000,
        samples=tuple(scaled(truth, factor) for factor in noise),
        predicted=predicted,
    )


def paid(found: Judgement) -> tuple[float, ...]:
    return tuple(one.counted for one in found.regrets)


def validation(*cases: Case) -> Validation:
    return Validation(cases, {"warnings": []}, {"net, batch 1, gateway": 1.1})


TRUTHS = [Parts(0.0, 0.020, 0.050), Parts(0.010, 0.015, 0.030), Parts(0.030, 0.005, 0.001), Parts(0.060, 0.0, 0.0)]


def predicted_by(factor: float) -> Validation:
    return validation(*(a_case(cut, truth, flops=scaled(truth, factor)) for cut, truth in enumerate(TRUTHS)))


# --- planted errors


def test_a_perfect_predictor() -> None:
    found = predicted_by(1.0).judge("flops")
    for name in JUDGED:
        errors = found.components[name]
        assert errors is not None
        assert (errors.mape, errors.rmspe, errors.bias) == (0.0, 0.0, 0.0)
        assert (errors.within_5, errors.within_10, errors.within_15) == (1.0, 1.0, 1.0)
    assert (found.spearman, found.top1, paid(found)) == (1.0, 1.0, (0.0,))


@pytest.mark.parametrize(("factor", "bias"), [(1.1, 0.1), (0.9, -0.1)])
def test_one_that_is_a_tenth_off(factor: float, bias: float) -> None:
    found = predicted_by(factor).judge("flops")
    for name in JUDGED:
        errors = found.components[name]
        assert errors is not None
        assert (errors.mape, errors.rmspe, errors.bias) == pytest.approx((0.1, 0.1, bias))
        assert (errors.within_5, errors.within_15) == (0.0, 1.0)
    assert (found.spearman, found.top1, paid(found)) == (1.0, 1.0, (0.0,))  # the order is right


def test_components_are_judged_where_they_are_a_hundredth_of_the_whole() -> None:
    """A gateway of 0.99 % and an AP of 1 % of the whole, both predicted ten times too slow."""
    truth = Parts(0.0099, 0.9801, 0.0100)
    said = Parts(0.0990, 0.9801, 0.1000)
    found = validation(a_case(0, truth, flops=said)).judge("flops")
    assert found.components["gateway"] is None
    ap, whole = found.components["ap"], found.components["end_to_end"]
    assert ap is not None
    assert whole is not None
    assert ap.cases == 1
    assert ap.mape == pytest.approx(9.0)
    assert whole.mape == pytest.approx(0.0891 + 0.09)
    assert validation(a_case(0, truth, flops=said)).noise_floor("gateway_s") is None


def test_only_cases_with_the_component_count_for_it() -> None:
    judged = predicted_by(1.1).judge("flops").components
    counts = {name: errors.cases for name, errors in judged.items() if errors is not None}
    assert counts == {"end_to_end": 4, "gateway": 3, "link": 3, "ap": 3}


def test_errors_are_of_the_middle_and_the_noise_floor_of_halves() -> None:
    """Even samples at 0.9 and odd ones at 1.1: halves lie 0.2 / 1 apart, the middle of all is the truth."""
    noisy = validation(
        *(a_case(cut, truth, (0.9, 1.1) * 3, flops=truth) for cut, truth in enumerate(TRUTHS) if truth.ap_s)
    )
    errors = noisy.judge("flops").components["end_to_end"]
    assert errors is not None
    assert errors.mape == pytest.approx(0, abs=1e-12)
    for name in (*COMPONENTS, "total_s"):
        assert noisy.noise_floor(name) == pytest.approx(0.2)


# --- following the prediction


def test_regret_is_paid_on_the_second_half() -> None:
    """Cut 1 wins the first half by luck; on the second it is the slower one, and the prediction was right."""
    lucky = [
        a_case(0, Parts(0.1, 0.0, 0.0), (1.00, 1.00, 1.00, 1.00), good=Parts(0.1, 0, 0), bad=Parts(0.3, 0, 0)),
        a_case(1, Parts(0.1, 0.0, 0.0), (0.99, 1.01, 0.99, 1.01), good=Parts(0.2, 0, 0), bad=Parts(0.2, 0, 0)),
        a_case(2, Parts(0.2, 0.0, 0.0), (1.00, 1.00, 1.00, 1.00), good=Parts(0.3, 0, 0), bad=Parts(0.1, 0, 0)),
    ]
    found = validation(*lucky)
    assert paid(found.judge("good")) == (0.0,)
    assert paid(found.judge("bad")) == pytest.approx((0.2 / 0.101 - 1,))  # of cut 2 over cut 1's second half
    assert (found.judge("good").top1, found.judge("bad").top1) == (1.0, 0.0)
    assert found.judge("bad").spearman == pytest.approx(-np.sqrt(3) / 2)  # the first two cuts are measured equal


def test_a_difference_within_its_own_noise_is_no_regret() -> None:
    """Cuts 3 % apart; the second half of one of them varies by 10 % or not at all, the other's never."""
    noises = {False: (1.0,) * 20, True: (1.0, 0.9, 1.0, 1.1, 1.0, 1.0) * 3 + (1.0, 1.0)}
    for noise, counts in ((False, True), (True, False)):
        found = validation(
            a_case(0, Parts(0.100, 0, 0), noises[False], flops=Parts(0.2, 0, 0)),
            a_case(1, Parts(0.103, 0, 0), noises[noise], flops=Parts(0.1, 0, 0)),
        ).judge("flops")
        [one] = found.regrets
        assert one.raw == pytest.approx(0.03)
        assert paid(found) == pytest.approx((0.03 if counts else 0.0,))
        figures = found.regret_figures
        assert (figures["choices"], figures["choices_apart"]) == (1, 1)
        assert figures["regret_raw_median"] == figures["regret_raw_p95"] == one.raw
        assert figures["regret_resolution"] == figures["regret_resolution_p95"] == one.resolution
        assert (0.03 < (one.resolution or 0) < 0.1) == noise


def test_rounds_that_were_slow_for_every_cut_hide_no_regret() -> None:
    """A machine of two speeds: all that was measured in some rounds took 1.5 times as long."""
    drift = (1.0, 1.0, 1.5, 1.5, 1.0) * 4
    cases = [
        a_case(0, Parts(0.100, 0, 0), drift, flops=Parts(0.2, 0, 0)),
        a_case(1, Parts(0.105, 0, 0), drift, flops=Parts(0.1, 0, 0)),
    ]
    assert paid(validation(*cases).judge("flops")) == pytest.approx((0.05,))
    elsewhen = [cases[0], replace(cases[1], samples=cases[1].samples[2:] + cases[1].samples[:2])]
    assert paid(validation(*elsewhen).judge("flops")) == (0.0,)


def test_what_a_user_chooses_among_is_one_model_on_one_link() -> None:
    """A predictor that is right on one link and the wrong way round on the other."""
    right = [a_case(cut, truth, flops=truth) for cut, truth in enumerate(TRUTHS)]
    wrong = [
        a_case(cut, truth, link="50mbit", flops=scaled(truth, truth.total_s**-2)) for cut, truth in enumerate(TRUTHS)
    ]
    both = validation(*itertools.chain.from_iterable(zip(wrong, right, strict=True)))
    assert {key[2]: [case.cut for case in group] for key, group in both.groups().items()} == {
        "50mbit": [0, 1, 2, 3],
        "loopback": [0, 1, 2, 3],
    }
    found = both.judge("flops")
    assert found.spearman == pytest.approx(0.0)
    assert found.top1 == 0.5
    assert sorted(paid(found)) == [0.0, pytest.approx(0.070 / 0.036 - 1)]
    told = found.to_dict()
    assert told["regret_median"] == pytest.approx((0.070 / 0.036 - 1) / 2)
    assert told["regret_p95"] == pytest.approx(0.95 * (0.070 / 0.036 - 1))
    assert (told["choices"], told["choices_apart"], told["regret_resolution"]) == (2, 1, 0.0)
    right_one = both.judge("flops", only=lambda case: case.link == "loopback")
    assert paid(right_one) == (0.0,)
    assert right_one.regret_figures["regret_resolution"] is None  # nothing was compared
    with pytest.raises(ValueError, match="no case to judge"):
        both.judge("flops", only=lambda case: case.link == "1gbit")


def test_one_cut_ranks_nothing() -> None:
    found = validation(a_case(1, TRUTHS[1], flops=TRUTHS[1])).judge("flops")
    assert (found.spearman, found.top1, paid(found)) == (None, 1.0, (0.0,))


parts = st.builds(Parts, *(st.floats(1e-5, 10.0) for _ in COMPONENTS))


@given(st.lists(st.tuples(parts, parts), min_size=1, max_size=8), st.lists(st.floats(0.5, 2), min_size=4, max_size=9))
def test_whatever_was_measured_can_be_told(pairs: list[tuple[Parts, Parts]], noise: list[float]) -> None:
    found = validation(*(a_case(cut, truth, noise, flops=said) for cut, (truth, said) in enumerate(pairs)))
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    judged = told["predictors"]["flops"]
    assert 0 <= judged["regret_median"] <= judged["regret_p95"] <= max(0, judged["regret_raw_p95"])
    assert 0 <= judged["top1"] <= 1
    relative = [case["predicted"]["flops"]["total_s"] / case["measured"]["total_s"] - 1 for case in told["cases"]]
    assert judged["end_to_end"]["mape"] == pytest.approx(np.mean(np.abs(relative)), rel=1e-9, abs=1e-12)
    assert judged["end_to_end"]["bias"] == pytest.approx(np.mean(relative), rel=1e-9, abs=1e-9)


# --- how it is told


def test_the_json() -> None:
    said = {"flops": TRUTHS[1], "per-layer": TRUTHS[1], "measured": TRUTHS[1]}
    told = validation(replace(a_case(1, TRUTHS[1], (1.0, 1.5, 1.5, 2.0)), predicted=said)).to_dict()
    assert told.keys() == {"predictors", "noise_floor", "drift", "settings", "cases"}
    assert list(told["predictors"]) == ["flops", "per-layer", "measured"]
    for judged in told["predictors"].values():
        assert judged.keys() == {*JUDGED, *REGRETS, "spearman", "top1"}
        assert all(judged[name].keys() == FIGURES for name in JUDGED)
    assert told["noise_floor"].keys() == set(JUDGED)
    [case] = told["cases"]
    assert {name: case[name] for name in ("model", "batch", "link", "codec", "cut", "layer", "sent_bytes")} == {
        "model": "net",
        "batch": 1,
        "link": "loopback",
        "codec": "none",
        "cut": 1,
        "layer": "layer1",
        "sent_bytes": 1000,
    }
    assert case["measured"]["gateway_s"] == pytest.approx(0.015)  # the middle, 1.5 times the truth
    assert case["measured"]["total_s"] == pytest.approx(0.0825)
    assert case["predicted"]["measured"] == pytest.approx(
        {"gateway_s": 0.010, "link_s": 0.015, "ap_s": 0.030, "total_s": 0.055}
    )
    assert [sample["ap_s"] for sample in case["samples"]] == pytest.approx([0.030, 0.045, 0.045, 0.060])


def test_the_tables_and_the_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = predicted_by(1.1)
    for table in validation_tables(found):
        Terminal().print(table)
    out = capsys.readouterr().out
    for word in ("flops: predicted against measured", "end to end", "gateway", "link", "ap", "+10.0%", "noise floor"):
        assert word in out
    assert "every choice was the first half's best cut" in " ".join(out.split())
    assert "4 cases of 4 inferences" in summary(found)
    assert "4 inferences are too few for regrets: below 12" in summary(found)
    assert "net, batch 1, gateway x1.10" in summary(found)
    for draw, name in ((draw_scatter, "scatter.png"), (draw_cuts, "cuts.png")):
        draw(found, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        with pytest.raises(SettingsError, match="--runs DIR"):
            draw(found, tmp_path / "none" / name)


def test_no_regret_is_told_without_what_the_run_could_resolve(capsys: pytest.CaptureFixture[str]) -> None:
    noise = (1.0, 0.9, 1.0, 1.1, 1.0, 1.0) * 3
    found = validation(
        a_case(0, Parts(0.100, 0, 0), (1.0,) * 18, flops=Parts(0.2, 0, 0)),
        a_case(1, Parts(0.103, 0, 0), noise, flops=Parts(0.1, 0, 0)),
    )
    for table in validation_tables(found):
        Terminal().print(table)
    out = " ".join(capsys.readouterr().out.split())
    resolution = f"{found.judge('flops').regret_figures['regret_resolution']:.1%}"
    assert "regret median 0.0%, 95% at most 0.0% (noise included: 3.0%, 3.0%); 1 choices were not" in out
    assert f"a regret below some {resolution} (95%: {resolution}) cannot be told from 0" in out
    assert "too few" not in summary(found)


def test_a_component_that_is_never_large_enough_has_a_row_without_figures(capsys: pytest.CaptureFixture[str]) -> None:
    [table] = validation_tables(validation(a_case(3, TRUTHS[3], flops=TRUTHS[3])))
    Terminal().print(table)
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.split()}
    assert rows["link"] == rows["ap"] == ["0", *["-"] * 7]


# --- a recorded run, judged again


def test_a_recorded_run_is_judged_again_from_its_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = predicted_by(1.1)
    file = tmp_path / "run.json"
    recorded = {"machine": {"cpu_model": "Abacus 9000"}, "by_model": {}, **found.to_dict(), "predictors": {}}
    file.write_text(json.dumps(recorded))
    assert read_run(json.loads(file.read_text())) == found
    monkeypatch.setattr(sys, "argv", ["model_error", "--judge-again", str(file), "--output", str(file)])
    main()
    assert "flops: MAPE 10.00%" in capsys.readouterr().out
    again = json.loads(file.read_text())
    assert again["predictors"] == json.loads(json.dumps(found.to_dict()))["predictors"]
    assert again["by_model"]["net"] == again["predictors"]
    for name in ("machine", "cases", "settings", "drift"):
        assert again[name] == json.loads(json.dumps(recorded))[name]
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


# --- what cannot be


def test_too_little_to_judge_by() -> None:
    with pytest.raises(ValueError, match="at least one case"):
        validation()
    with pytest.raises(ValueError, match="at least four samples, cut 5 has 3"):
        a_case(5, TRUTHS[0], (1.0,) * 3, flops=TRUTHS[0])
    with pytest.raises(ValueError, match=r"round by round, but have \[4, 5\] samples"):
        validation(*(a_case(cut, TRUTHS[1], (1.0,) * (4 + cut), flops=TRUTHS[1]) for cut in (0, 1)))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"repeats": 3}, "--repeats 3 is below 4"),
        ({"blocks": 0}, "--blocks 0 is outside 1..20"),
        ({"blocks": 21}, "--blocks 21 is outside 1..20"),
        ({"codecs": ("zip",)}, "codec 'zip' is unknown"),
        ({"codecs": ()}, "no link or no codec"),
        ({"links": ()}, "no link or no codec"),
        ({"links": (Link(), Link())}, "link loopback is named twice"),
        ({"links": (Link.parse("50mbit"), Link.parse("0.05gbit"))}, "link 50mbit is named twice"),
        ({"codecs": ("int8", "none", "int8")}, "codec int8 is named twice"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        replace(ValidateSettings(), **changes)  # type: ignore[arg-type]
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)

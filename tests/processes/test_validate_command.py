"""Validation with real workers on a toy net: what is measured, what is predicted from what, and who is refused."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from splitnet.cli import main
from splitnet.controller.layer_latency import fit_layers
from splitnet.errors import CutError, SettingsError
from splitnet.models.reference import ModelRef
from splitnet.profiling.corpus import Corpus
from splitnet.profiling.profile import Profile
from splitnet.profiling.profiler import ProfileSettings, profile_model
from splitnet.runtime.link import Link
from splitnet.session import Placement, SplitSession
from splitnet.validating import AT_ONCE, Sources, ValidateSettings, validate
from splitnet.validation import COMPONENTS, Validation

if TYPE_CHECKING:
    from tests.processes.conftest import Standalone

NAME, LAST = "toy_residual", 8
REF = ModelRef(NAME)
LIVE_BYTES = (768, 1024, 2048, 2048, 2048, 1024, 16, 16, 0)
"""By hand, in models/toy.py; at the last cut nothing is sent."""
ROLES = ("gateway", "ap")
QUICK = ValidateSettings(cuts="3", links=(Link(),), repeats=4, blocks=1)


@pytest.fixture(scope="module", autouse=True)
def few_probes() -> Iterator[None]:
    """Few small messages: what probing finds is tested elsewhere, and here seconds count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("splitnet.probing.LARGEST_BYTES", 64_000)
        patch.setattr("splitnet.probing.SIZES", 4)
        yield


def profile_of(name: str, batch: int = 1) -> Profile:
    settings = ProfileSettings(repeats=5, warmup=1, anchors=3)
    return profile_model(ModelRef(name, batch=batch), torch.device("cpu"), 1, settings)


@pytest.fixture(scope="module")
def profile() -> Profile:
    """Of the net on this machine, as the workers see it."""
    return profile_of(NAME)


@pytest.fixture(scope="module")
def others() -> tuple[Profile, ...]:
    return profile_of("toy_branch"), profile_of("toy_dense")


@pytest.fixture(scope="module")
def workers(shared: tuple[Standalone, Standalone]) -> Placement:
    return Placement(gateway=shared[0].address, ap=shared[1].address)


def slower(profile: Profile, factor: int) -> Profile:
    return replace(profile, layers_ns=tuple(tuple(factor * ns for ns in row) for row in profile.layers_ns))


def elsewhere(profile: Profile) -> Profile:
    return replace(profile, machine=profile.machine | {"cpu_model": "Abacus 9000"})


# --- a run


@dataclass(frozen=True, slots=True)
class Watched:
    """A run, and what it asked of the workers in this order: (`layers_ns` | `probe` | `measure`, cut)."""

    validation: Validation
    asked: list[tuple[str, int]]


@pytest.fixture(scope="module")
def watched(workers: Placement, profile: Profile, others: tuple[Profile, ...]) -> Watched:
    """Two links in two blocks, with a corpus in which the net itself has absurd times."""
    asked: list[tuple[str, int]] = []
    whole, probe, measure = (getattr(SplitSession, name) for name in ("layers_ns", "probe", "measure"))
    with pytest.MonkeyPatch.context() as patch:
        for name, ask, cut_of in (
            ("layers_ns", whole, lambda role: -1),
            ("probe", probe, lambda size, **_: -1),
            ("measure", measure, lambda cut, **_: cut),
        ):

            def noted(
                self: SplitSession,
                *given: object,
                name: str = name,
                ask: Callable[..., object] = ask,
                cut_of: Callable[..., int] = cut_of,
                **more: object,
            ) -> object:
                asked.append((name, cut_of(*given, **more)))
                return ask(self, *given, **more)

            patch.setattr(SplitSession, name, noted)
        corpus = Corpus((*others, slower(profile, 1000)))
        settings = ValidateSettings(cuts="3", links=(Link(), Link.parse("200mbit")), repeats=4, blocks=2)
        found = validate([REF], settings, workers, Sources(corpora=dict.fromkeys(ROLES, corpus)))
    return Watched(found, asked)


def test_every_case_has_its_repeats(watched: Watched) -> None:
    cases = watched.validation.cases
    judged = [case.cut for case in cases if case.link == "loopback"]
    assert [(case.link, case.cut) for case in cases] == [
        (link, cut) for link in ("loopback", "200mbit") for cut in judged
    ]
    assert len(judged) == 3
    assert (judged[0], judged[-1]) == (0, LAST)
    for case in cases:
        assert (case.model, case.batch, case.codec, case.sent_bytes) == (NAME, 1, "none", LIVE_BYTES[case.cut])
        assert len(case.samples) == 4
        for sample in case.samples:
            assert min(sample.gateway_s, sample.link_s, sample.ap_s) >= 0
            assert sample.total_s > 0
            if case.link == "200mbit" and case.cut < LAST:
                assert sample.link_s >= 8 * case.sent_bytes / 200e6
            if case.cut == LAST:
                assert sample.link_s == sample.ap_s == 0


def test_anchors_are_never_judged(watched: Watched) -> None:
    judged = {case.cut for case in watched.validation.cases}
    run = [cut for what, cut in watched.asked if what == "measure"]
    others = set(range(LAST + 1)) - judged
    cheap = statistics.median_high([LIVE_BYTES[cut] for cut in others])
    assert set(run) - judged == {cut for cut in others if LIVE_BYTES[cut] <= cheap}
    assert all(run.count(cut) == 1 + 4 * 2 for cut in judged)  # once to warm up, then its repeats on two links


def test_every_inference_is_predicted_from_passes_just_before_it(watched: Watched) -> None:
    judged = {case.cut for case in watched.validation.cases}
    first_probe = watched.asked.index(("probe", -1))
    passes = since = 0
    measured = []
    for what, cut in watched.asked[first_probe:]:
        if what == "layers_ns":
            passes, since = (passes + 1 if since == 0 else 1), 0
        elif what == "measure" and cut in judged:
            since += 1
            assert passes >= 2  # one of each worker
            assert since <= AT_ONCE
            measured.append(cut)
    rounds = [tuple(measured[start : start + 3]) for start in range(0, len(measured), 3)]
    assert len(rounds) == 2 * 4
    assert all(len(set(one)) == 3 for one in rounds)
    assert len(set(rounds)) > 1


def test_every_case_was_predicted_by_every_model(
    watched: Watched, profile: Profile, others: tuple[Profile, ...]
) -> None:
    validation = watched.validation
    assert set(validation.predictors) == {"flops", "per-layer", "measured"}
    fitted = fit_layers(others)  # the net's own absurd profile is left out
    speeds = validation.settings["flops_per_s"]
    flops = [0, 6912, 16128, 16128, 17152, 17152, 17152, 17152, 17172]
    for case in validation.cases:
        assert set(case.predicted) == set(validation.predictors)
        assert len({said.link_s for said in case.predicted.values()}) == 1
        for said in case.predicted.values():
            assert min(said.gateway_s, said.link_s, said.ap_s) >= 0
            assert (said.link_s > 0) == (case.cut < LAST)
            assert case.cut < LAST or said.ap_s == 0
        by_flops, by_layer = case.predicted["flops"], case.predicted["per-layer"]
        assert by_flops.gateway_s == pytest.approx(flops[case.cut] / speeds["gateway"])
        assert by_flops.ap_s == pytest.approx((flops[-1] - flops[case.cut]) / speeds["ap"])
        assert by_layer.gateway_s == pytest.approx(fitted.bottom_s(profile.facts)[case.cut])
        assert by_layer.ap_s == pytest.approx(fitted.top_s(profile.facts)[case.cut])


def test_the_run_says_what_it_was(watched: Watched) -> None:
    told = json.loads(json.dumps(watched.validation.to_dict(), allow_nan=False))
    assert told["settings"]["links"] == ["loopback", "200mbit"]
    assert told["settings"]["warnings"] == []  # the corpus was made here
    assert told["settings"]["workers"].keys() == set(ROLES)
    assert told["drift"].keys() == {f"{NAME}, batch 1, {role}" for role in ROLES}
    assert all(ratio > 0 for ratio in told["drift"].values())
    assert len(told["cases"]) == 6
    for judged in told["predictors"].values():
        assert judged["end_to_end"]["cases"] == 6
        assert judged["regret_median"] >= 0


# --- saved profiles


def test_a_saved_profile_speaks_for_itself_and_one_from_elsewhere_is_warned_of(
    workers: Placement, profile: Profile
) -> None:
    """The gateway's was made here. The AP's names another CPU, and has times that nobody measured."""
    strange = elsewhere(slower(replace(profile, anchors=()), 1000))
    found = validate([REF], QUICK, workers, Sources({(NAME, "gateway"): profile, (NAME, "ap"): strange}))
    [warning] = found.settings["warnings"]
    assert warning.startswith(f"the ap's profile of {NAME} was made elsewhere: cpu_model Abacus 9000 there, ")
    assert f"{str(profile.machine['cpu_model'])[:50]}" in warning
    assert set(found.predictors) == {"flops", "measured"}
    for case in found.cases:
        said = case.predicted["measured"]
        assert said.gateway_s == pytest.approx(profile.prefix_s[case.cut])
        assert said.ap_s == pytest.approx(strange.suffix_s[case.cut] if case.cut < LAST else 0.0)
        assert case.predicted["flops"].ap_s < 1  # fitted to this run


@pytest.mark.parametrize("role", ROLES)
def test_strict_refuses_what_was_made_elsewhere(
    role: str, workers: Placement, profile: Profile, others: tuple[Profile, ...]
) -> None:
    strange = elsewhere(profile)
    for what, sources in (
        (f"profile of {NAME}", Sources({(NAME, role): strange})),
        ("calibration", Sources(corpora={role: Corpus((strange, *others))})),
    ):
        with pytest.raises(SettingsError) as caught:
            validate([REF], replace(QUICK, strict=True), workers, sources)
        said = str(caught.value)
        assert said.startswith(f"the {role}'s {what} was made elsewhere: cpu_model Abacus 9000 there, ")
        assert " here; make it again here, or leave --strict away" in said
        assert "\n" not in said


def test_profiles_of_something_else(workers: Placement, profile: Profile, others: tuple[Profile, ...]) -> None:
    identity = profile.facts.identity
    grown = replace(profile, facts=replace(profile.facts, identity=replace(identity, graph="0" * 64)))
    for sources, words in (
        (Sources({(NAME, "ap"): others[0]}), ("the ap's profile", "toy_branch", f"not of {NAME}")),
        (Sources({(NAME, "gateway"): grown}), ("the gateway's profile", "000000000000", "profile it again")),
        (Sources({(NAME, "gateway"): profile_of(NAME, 2)}), ("2x3x8x8", "1x3x8x8", "--batch")),
        (Sources(corpora={"ap": Corpus((profile,))}), ("the ap's calibration", NAME, "other models")),
    ):
        with pytest.raises(SettingsError) as caught:
            validate([REF], QUICK, workers, sources)
        assert all(word in str(caught.value) for word in words)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("models", "changes", "words"),
    [
        ([], {}, "no model to validate"),
        ([REF, REF], {}, "toy_residual with batch 1 is named twice"),
        ([REF], {"cuts": "0"}, "--cuts 0"),
        ([REF], {"cuts": "at:9"}, "cut 9 is out of range"),
    ],
)
def test_nothing_to_validate(
    models: Sequence[ModelRef], changes: dict[str, str], words: str, workers: Placement
) -> None:
    with pytest.raises((SettingsError, CutError), match=words):
        validate(models, replace(QUICK, **changes), workers)  # type: ignore[arg-type]


# --- the command

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Exit status, standard output and standard error of `validate`; runs go to `runs`."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["validate", "--runs", str(tmp_path / "runs"), "--no-per-layer", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


def at(workers: Placement) -> list[str]:
    return ["--gateway", str(workers.gateway), "--ap", str(workers.ap)]


ASKED = ("--cuts", "3", "--links", "loopback", "--repeats", "4", "--blocks", "1")


def test_the_json_of_the_command(command: Command, workers: Placement, tmp_path: Path) -> None:
    status, out, err = command("toy_chain", *ASKED, *at(workers), "--batches", "1,2", "--json")
    assert (status, err) == (0, "")
    told = json.loads(out)
    assert set(told["predictors"]) == {"flops", "measured"}
    for judged in told["predictors"].values():
        assert judged["end_to_end"].keys() >= {"mape", "rmspe", "bias", "within_5", "within_10", "within_15"}
        assert judged.keys() >= {"gateway", "link", "ap", "regret_median", "regret_p95", "spearman", "top1"}
    assert [(case["batch"], case["cut"]) for case in told["cases"]] == [
        (batch, cut) for batch in (1, 2) for cut in (0, 4, 5)
    ]
    sent = {(case["batch"], case["cut"]): case["sent_bytes"] for case in told["cases"]}
    assert sent[2, 0] == 2 * sent[1, 0] == 2 * 768
    folder = Path(told["run_dir"])
    assert folder.parent == tmp_path / "runs"
    assert sorted(path.name for path in folder.iterdir()) == ["cuts.png", "scatter.png", "validation.json"]
    assert json.loads((folder / "validation.json").read_text()) == told
    for case in told["cases"]:
        for name in (*COMPONENTS, "total_s"):
            assert case["predicted"]["measured"][name] >= 0
            assert case["measured"][name] >= 0


def test_the_table_of_the_command_and_its_warning(
    command: Command, workers: Placement, profile: Profile, tmp_path: Path
) -> None:
    file = tmp_path / "elsewhere.json"
    elsewhere(profile).save(file)
    status, out, err = command(NAME, *ASKED, *at(workers), "--ap-profile", file)
    assert (status, err) == (0, "")
    for word in ("flops: predicted", "measured: predicted", "end to end", "noise floor", "3 cases of 4 inferences"):
        assert word in out
    assert f"warning: the ap's profile of {NAME} was made elsewhere: cpu_model" in out
    assert "Abacus 9000" in out
    assert "per-layer" not in out

    status, out, err = command(NAME, *ASKED, *at(workers), "--ap-profile", file, "--strict")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "Abacus 9000" in err
    assert len(list((tmp_path / "runs").iterdir())) == 1  # of the first call


BAD: list[tuple[Sequence[str], tuple[str, ...]]] = [
    ([NAME, "--repeats", "2"], ("--repeats 2", "4")),
    ([NAME, "--repeats", "4", "--blocks", "5"], ("--blocks 5", "1..4")),
    ([NAME, "--codecs", "none,zip"], ("'zip'", "int8+lz4")),
    ([NAME, "--codecs", "none,none"], ("codec none", "twice")),
    ([NAME, "--links", "50"], ("'50'", "50mbit")),
    ([NAME, "--links", "loopback,0mbit"], ("'0mbit'", "rate of zero")),
    ([NAME, "--links", ""], ("''", "loopback")),
    ([NAME, "--batches", "x"], ("--batches 'x'", "1,4")),
    ([NAME, "--batches", "0"], ("batch 0",)),
    ([NAME, "--batches", "1,1"], ("batch 1", "twice")),
    ([NAME, "--threads", "0"], ("--threads 0",)),
    ([NAME, "--gateway-profile", "{bad}/none.json"], ("none.json", "splitnet profile")),
    ([NAME, "--ap-profile", "{bad}/garbage.json"], ("garbage.json", "no JSON")),
    ([NAME, "--ap-profile", "{bad}/branch.json"], ("--ap-profile", "toy_branch", "not validated")),
    ([NAME, "--per-layer", "--ap-calibration", "{bad}/none.json", "--gateway", "127.0.0.1:1"], ("none.json",)),
    ([NAME, "--ap", "127.0.0.1:1", "--gateway", "127.0.0.1:1"], ("127.0.0.1:1", "splitnet worker")),
    (["toy_residul"], ("'toy_residul'", "near names: toy_residual")),
    (["toy_residul", "--per-layer"], ("'toy_residul'", "near names: toy_residual")),
    ([NAME, "--runs", "{bad}/garbage.json"], ("garbage.json", "--runs DIR")),
    ([], ("MODEL",)),
]


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=[" ".join(arguments) or "no model" for arguments, _ in BAD])
def test_bad_input_is_one_line_and_leaves_no_run(
    arguments: Sequence[str],
    named: tuple[str, ...],
    command: Command,
    others: tuple[Profile, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPLITNET_CACHE", str(tmp_path / "cache"))  # no calibration is there
    (tmp_path / "garbage.json").write_text("{")
    others[0].save(tmp_path / "branch.json")
    status, out, err = command(*(part.format(bad=tmp_path) for part in arguments))
    assert (status, out) == (2, "")
    assert err.startswith("splitnet: ")
    assert err.count("\n") == 1
    for word in named:
        assert word in err
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "cache").exists()

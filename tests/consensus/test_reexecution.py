"""Tops run again with real models: honest results pass to the bit, each lie is proved, nobody is accused falsely."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from splitnet.auditing import Reexecutor, model_key
from splitnet.consensus.audit import Evidence, Reexecute, examine, judge
from splitnet.consensus.audit_records import FraudProof, prove_fraud
from splitnet.consensus.chain import Chain
from splitnet.consensus.errors import (
    ActivationError,
    EvidenceError,
    EvidenceMissingError,
    FraudProofError,
    ReexecutionError,
)
from splitnet.consensus.receipt import validate_receipt, value_digest
from splitnet.consensus.values import value_bytes, values_from
from splitnet.models.reference import BuiltModel, ModelRef
from splitnet.resident import ResidentModel
from tests.consensus.audited import Audited, Inference, held, split
from tests.consortium import NOW_MS, Contents, a_key

TOYS = ("toy_chain", "toy_residual", "toy_dense", "toy_branch", "toy_shared", "toy_tuple", "toy_multi")


@pytest.fixture(scope="module")
def vgg() -> Audited:
    return Audited(held("vgg11_cifar"), held("vgg11_cifar", seed=1), aps=3, gateways=3)


@pytest.fixture(scope="module")
def resnet() -> Audited:
    return Audited(held("resnet18", input_size=64), aps=3, gateways=3)


# --- honest results


@pytest.mark.parametrize("name", TOYS)
def test_honest_results_of_every_cut_pass_to_the_bit(name: str) -> None:
    audited = Audited(held(name))
    for cut in audited.model.graph.cuts:
        for data_points in (1, 4):
            inference = audited.infer(cut=cut.index, data_points=data_points)
            validate_receipt(audited.rules, inference.signed)
            assert examine(inference.signed, inference.evidence, audited.reexecutor.run) == 0.0


@pytest.mark.parametrize("codec", ["none", "fp16", "int8", "int8+lz4"])
@pytest.mark.parametrize("cut", [3, 14, 27])
def test_honest_results_pass_to_the_bit_through_every_codec(vgg: Audited, cut: int, codec: str) -> None:
    """The evidence is what the top was really given, after decoding."""
    inference = vgg.infer(cut=cut, codec=codec)
    assert examine(inference.signed, inference.evidence, vgg.reexecutor.run) == 0.0


@pytest.mark.parametrize("cut", [0, 4, 35, 69])
def test_honest_results_of_a_net_with_skips_pass_to_the_bit(resnet: Audited, cut: int) -> None:
    """At cut 69 the top only arranges the result."""
    inference = resnet.infer(cut=cut, data_points=2)
    assert examine(inference.signed, inference.evidence, resnet.reexecutor.run) == 0.0


def test_another_number_of_threads_stays_within_the_tolerance(resnet: Audited) -> None:
    """Other kernels, other last bits: what the tolerance is for."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        inference = resnet.infer(cut=4, data_points=4)
    finally:
        torch.set_num_threads(before)
    assert examine(inference.signed, inference.evidence, resnet.reexecutor.run) * 1_000_000 < 100
    assert not judge(resnet.rules, inference.signed, inference.evidence, resnet.reexecutor.run)


# --- lies


def another_class(leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    """Each data point's logits, moved on by one class."""
    return [leaves[0].roll(1, dims=-1)]


def of_another_data_point(leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    return [leaves[0].roll(1, dims=0)]


def one_number(micro: int) -> Callable[[list[torch.Tensor]], list[torch.Tensor]]:
    """One number changed by so many millionths of the largest."""

    def change(leaves: list[torch.Tensor]) -> list[torch.Tensor]:
        leaves[0][1, 2] += leaves[0].abs().max() * micro / 1_000_000
        return leaves

    return change


def not_a_number(leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    leaves[0][0, 0] = math.nan
    return leaves


LIES: dict[str, Callable[[list[torch.Tensor]], list[Any]]] = {
    "another class": another_class,
    "another data point's": of_another_data_point,
    "one number beyond twice": one_number(2100),
    "one number beyond once": one_number(1100),
    "nothing computed": lambda leaves: [torch.zeros_like(leaves[0])],
    "not a number": not_a_number,
    "fewer data points": lambda leaves: [leaves[0][:2]],
    "another precision": lambda leaves: [leaves[0].double()],
    "one more": lambda leaves: [*leaves, leaves[0]],
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("network", ["vgg", "resnet"])
def test_a_lie_is_proved_and_another_judge_accepts_it(network: str, lie: str, request: pytest.FixtureRequest) -> None:
    audited: Audited = request.getfixturevalue(network)
    inference = audited.infer(cut=27, change=LIES[lie])
    validate_receipt(audited.rules, inference.signed)
    assert judge(audited.rules, inference.signed, inference.evidence, Reexecutor([audited.model]).run)


@pytest.mark.parametrize("micro", [0, 100, 900])
def test_a_difference_below_the_tolerance_passes(vgg: Audited, micro: int) -> None:
    inference = vgg.infer(cut=20, change=one_number(micro))
    found = examine(inference.signed, inference.evidence, vgg.reexecutor.run)
    assert found * 1_000_000 == pytest.approx(micro, rel=0.05, abs=0.01)
    assert not judge(vgg.rules, inference.signed, inference.evidence, vgg.reexecutor.run)


def test_the_results_of_another_model_are_proved(vgg: Audited) -> None:
    """Its own weights, and a cheaper net's numbers under the signed net's name."""
    inference = vgg.infer(cut=20, by=held("vgg11_cifar", seed=1))
    assert judge(vgg.rules, inference.signed, inference.evidence, vgg.reexecutor.run)
    cheap = split(held("toy_chain"), 1, 3)[1]
    inference = vgg.infer(cut=20, change=lambda leaves: [cheap[0][:, :1].expand(3, 10).contiguous()])
    assert judge(vgg.rules, inference.signed, inference.evidence, vgg.reexecutor.run)


def test_the_result_of_another_cut_is_right_all_the_same(vgg: Audited) -> None:
    """What counts is the result; but the activation must be the signed cut's."""
    inference = vgg.infer(cut=20)
    moved = vgg.consortium.signed(msgspec.structs.replace(inference.signed.receipt, cut=9))
    assert examine(moved, inference.evidence, vgg.reexecutor.run) == math.inf


def test_fewer_data_points_than_were_signed_are_a_lie(vgg: Audited) -> None:
    """Else D_n could be had for the work of one data point."""
    inference = vgg.infer(cut=20, data_points=9, run=3)
    with pytest.raises(
        ActivationError, match=r"has the sizes \(3, 512, 2, 2\); 9 data points at cut 20 give \(9, 512"
    ):
        vgg.reexecutor.check_activation(inference.signed.receipt, values_from(inference.evidence.activation or b""))
    assert judge(vgg.rules, inference.signed, inference.evidence, vgg.reexecutor.run)


@pytest.mark.parametrize("kind", ["result", "activation"])
def test_signed_bytes_that_are_no_values_are_a_lie(vgg: Audited, kind: str) -> None:
    rubbish = b"rubbish"
    inference = vgg.infer(cut=20)
    receipt = msgspec.structs.replace(inference.signed.receipt, **{kind: value_digest(rubbish)})
    signed, evidence = vgg.consortium.signed(receipt), replace(inference.evidence, **{kind: rubbish})
    assert judge(vgg.rules, signed, evidence, vgg.reexecutor.run)


@pytest.mark.parametrize(
    "change",
    [
        lambda live: [live[0].double()],
        lambda live: [live[0], live[0]],
        lambda live: [live[0][:, :511]],
        lambda live: [live[0].flatten(2)],
        lambda live: [[live[0]]],
        lambda live: [1.0],
    ],
)
def test_what_does_not_cross_that_cut_is_a_lie(vgg: Audited, change: Callable[[list[Any]], list[Any]]) -> None:
    inference = vgg.infer(cut=20)
    activation = value_bytes(change(values_from(inference.evidence.activation or b"")))
    receipt = msgspec.structs.replace(inference.signed.receipt, activation=value_digest(activation))
    evidence = replace(inference.evidence, activation=activation)
    assert judge(vgg.rules, vgg.consortium.signed(receipt), evidence, vgg.reexecutor.run)


# --- evidence and machines that show nothing


@pytest.mark.parametrize(("kinds", "count"), [(("activation",), 1), (("result",), 1), (("activation", "result"), 2)])
def test_missing_evidence_is_named(vgg: Audited, kinds: tuple[str, ...], count: int) -> None:
    inference = vgg.infer(cut=20, change=another_class)
    evidence = replace(inference.evidence, **dict.fromkeys(kinds))
    with pytest.raises(EvidenceMissingError, match="fetch it") as caught:
        judge(vgg.rules, inference.signed, evidence, vgg.reexecutor.run)
    assert caught.value.missing == tuple(getattr(inference.signed.receipt, kind) for kind in kinds)
    assert len(caught.value.missing) == count


@pytest.mark.parametrize("kind", ["activation", "result"])
@pytest.mark.parametrize(
    "tamper", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"", bytes.swapcase]
)
def test_tampered_evidence_says_nothing(vgg: Audited, kind: str, tamper: Callable[[bytes], bytes]) -> None:
    """Neither is an honest AP accused with it, nor a liar cleared."""
    for change in (another_class, lambda leaves: leaves):
        inference = vgg.infer(cut=20, change=change)
        evidence = replace(inference.evidence, **{kind: tamper(getattr(inference.evidence, kind))})
        with pytest.raises(EvidenceError, match=f"the {kind} of"):
            judge(vgg.rules, inference.signed, evidence, vgg.reexecutor.run)


def test_the_evidence_of_another_receipt_says_nothing(vgg: Audited) -> None:
    honest, other = vgg.infer(cut=20), vgg.infer(cut=20, seed=5)
    mixed = Evidence(honest.evidence.activation, other.evidence.result)
    with pytest.raises(EvidenceError):
        judge(vgg.rules, honest.signed, mixed, vgg.reexecutor.run)


def test_a_model_that_is_not_held_is_named(vgg: Audited) -> None:
    inference = vgg.infer(cut=20, change=another_class, weights=bytes(32))
    with pytest.raises(ReexecutionError, match="weights 000000000000 is not held here"):
        judge(vgg.rules, inference.signed, inference.evidence, vgg.reexecutor.run)


def test_a_top_that_fails_accuses_nobody(vgg: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where memory runs out on the judge's machine."""
    inference = vgg.infer(cut=20, change=another_class)
    top = vgg.model.top(20)

    def fails(live: Any) -> Any:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(top, "run", fails)
    with pytest.raises(ReexecutionError, match="the top after cut 20 does not run here: no memory"):
        judge(vgg.rules, inference.signed, inference.evidence, vgg.reexecutor.run)


def test_a_cut_that_is_refused_cannot_be_run_again() -> None:
    audited = Audited(held("toy_inplace_skip"))
    refused = next(cut.index for cut in audited.model.graph.cuts if cut.refused)
    inference = audited.infer(cut=refused + 1)
    moved = audited.consortium.signed(msgspec.structs.replace(inference.signed.receipt, cut=refused))
    with pytest.raises(ReexecutionError, match="refused"):
        judge(audited.rules, moved, inference.evidence, audited.reexecutor.run)


def test_models_are_told_apart_by_graph_and_weights() -> None:
    one, other = held("vgg11_cifar"), held("vgg11_cifar", seed=1)
    assert model_key(one)[0] == model_key(other)[0]
    assert model_key(one)[1] != model_key(other)[1]


# --- in a chain


def evidence_of(*inferences: Inference) -> dict[bytes, Evidence]:
    return {inference.signed.receipt.result: inference.evidence for inference in inferences}


def a_chain(audited: Audited, known: dict[bytes, Evidence], reexecute: Reexecute) -> Chain:
    """A chain of a node that knows some evidence."""

    def judged(fraud: FraudProof) -> bool:
        evidence = known.get(fraud.signed.receipt.result, Evidence(None, None))
        return judge(audited.rules, fraud.signed, evidence, reexecute)

    return Chain(audited.rules, judged)


def test_a_chain_takes_a_proof_only_after_it_ran_it_again(vgg: Audited) -> None:
    lie, honest = vgg.infer(0, 0, cut=27, change=another_class), vgg.infer(0, 3, cut=27)
    known: dict[bytes, Evidence] = {}
    chain = a_chain(vgg, known, Reexecutor([vgg.model]).run)
    body = Contents(receipts=(lie.signed, honest.signed))
    chain.add(vgg.consortium.on(chain, 0, 0, body), NOW_MS)
    proof, accusation = (prove_fraud(vgg.rules, a_key("ap", 1), 1, found.signed) for found in (lie, honest))
    good = vgg.consortium.on(chain, 1, 1, Contents(frauds=(proof,)))
    with pytest.raises(EvidenceMissingError):
        chain.add(good, NOW_MS)
    assert len(chain) == 1
    known.update(evidence_of(lie, honest))
    bad = vgg.consortium.on(chain, 1, 1, Contents(frauds=(accusation,)))
    with pytest.raises(FraudProofError, match="re-execution does not show that AP 0 lied in slot 0 about device 3"):
        chain.add(bad, NOW_MS)
    chain.add(good, NOW_MS)
    assert [standing.suspended_to for standing in chain.head.standings] == [1 + 3, -1, -1]


def test_the_same_receipt_of_two_devices_needs_no_new_model(vgg: Audited) -> None:
    """Shapes are learnt once a cut, whatever D_n comes next."""
    reexecutor = Reexecutor([vgg.model])
    for data_points in (1, 2, 7, 15):
        inference = vgg.infer(cut=24, data_points=data_points)
        assert examine(inference.signed, inference.evidence, reexecutor.run) == 0.0


class Squares(nn.Module):
    """Every data point with every other: sizes 1, 4, 9."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.two = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [B, 4]
        y = self.one(x)
        out: torch.Tensor = self.two((y @ y.t()).flatten())  # [B * B]
        return out


def test_a_model_whose_sizes_do_not_grow_evenly_is_refused() -> None:
    built = BuiltModel(ModelRef("squares"), Squares().eval().requires_grad_(False), (torch.randn(1, 4),), {})
    audited = Audited(ResidentModel(built, torch.device("cpu")))
    inference = audited.infer(cut=3)
    with pytest.raises(ReexecutionError, match="does not grow evenly with the data points"):
        audited.reexecutor.check_activation(inference.signed.receipt, [])

"""A gateway and an AP, two processes: the unsplit model's bits at every cut, and nothing wrong goes unsaid."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from splitnet.benching import BenchSettings, bench
from splitnet.errors import CutError, SplitnetError, WorkerError
from splitnet.inference import bitwise_equal, exact_inference
from splitnet.measurement import COMPONENTS, Sample
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.runtime.client import Client
from splitnet.runtime.link import Link
from splitnet.runtime.messages import Connect, Connected, Loaded, Measure, Measured
from splitnet.session import Placement, SplitSession

if TYPE_CHECKING:
    from tests.processes.conftest import Standalone


def unsplit(model: str, seed: int = 0) -> Any:
    built = build_model(ModelRef(model, seed=seed))
    with exact_inference():
        return built.module(*built.args, **built.kwargs)


def connect_to(client: Client, ap: Standalone) -> Connected:
    return client.ask(Connect(ap.address.host, ap.address.port), Connected).message


def check_sample(sample: Sample, split: SplitSession) -> None:
    cut = split.cuts[sample.cut]
    last = sample.cut == len(split.cuts) - 1
    assert sample.bitwise_equal
    assert sample.max_error == 0
    assert sample.sent_bytes == (0 if last else cut.payload_bytes)
    line = sample.timeline
    assert (line.ap is None) == last
    parts = [getattr(line, name) for name in COMPONENTS]
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(line.total_s, abs=1e-9)
    assert line.overhead_s == pytest.approx(line.total_s - line.gateway_s - line.ap_s, abs=1e-9)


@pytest.mark.parametrize("model", ["toy_residual", "toy_multi"])
def test_every_cut_gives_the_bits_of_the_unsplit_model(model: str, placement: Placement) -> None:
    expected = unsplit(model)
    with SplitSession(model, placement) as split:
        assert split.connected.shared_clock
        for cut in split.cuts:
            check_sample(split.measure(cut.index), split)
            output = split.infer(cut=cut.index)
            assert bitwise_equal(output, expected)
            assert type(output) is type(expected)


def test_a_refused_cut_is_refused_by_name_on_every_side(placement: Placement) -> None:
    with SplitSession("toy_inplace_skip", placement) as split:
        assert [cut.index for cut in split.cuts if cut.refused] == [1]
        for cut in (1, "conv1"):
            with pytest.raises(CutError, match=r"cut 1 of toy_inplace_skip \(after conv1\) is refused: \S"):
                split.measure(cut)
        check_sample(split.measure(2), split)
    assert placement.gateway is not None
    with Client.connect(placement.gateway, role="gateway") as client:
        client.load(ModelRef("toy_inplace_skip"))
        with pytest.raises(WorkerError, match=r"conv1.* is refused"):
            client.ask(Measure(1), Measured)


def test_model_and_cut_change_while_the_workers_run(gateway: Standalone, ap: Standalone) -> None:
    with Client.connect(gateway.address, role="gateway") as client:
        client.load(ModelRef("toy_chain"))
        with pytest.raises(WorkerError, match="connected to none"):
            client.ask(Measure(2), Measured)
        connect_to(client, ap)
        for model, cuts in (("toy_chain", (0, 3, 5)), ("toy_multi", (2, 6, 1)), ("toy_chain", (4, 0))):
            assert client.load(ModelRef(model)).cuts[0].layer == "input"
            for cut in cuts:
                assert client.ask(Measure(cut), Measured).message.bitwise_equal


def test_a_model_that_cannot_be_had_does_not_leave_the_one_before_in_its_place(
    gateway: Standalone, ap: Standalone, own_code: Path
) -> None:
    with Client.connect(gateway.address, role="gateway") as client:
        client.load(ModelRef("toy_chain"))
        connect_to(client, ap)
        for wrong, reason in (("toy_chian", "near names: toy_chain"), (f"{own_code}:weights", "weights")):
            with pytest.raises(WorkerError, match=reason):
                client.load(ModelRef(wrong))
            with pytest.raises(WorkerError, match="no model is loaded"):
                client.ask(Measure(0), Measured)
        client.load(ModelRef("toy_chain"))
        assert client.ask(Measure(0), Measured).message.bitwise_equal


def test_one_ap_serves_several_gateways_at_once(placement: Placement) -> None:
    def one(seed: int) -> list[Sample]:
        expected = unsplit("toy_residual", seed)
        with SplitSession(ModelRef("toy_residual", seed=seed), placement) as split:
            samples = [split.measure(cut.index) for _ in range(5) for cut in split.cuts]
            assert bitwise_equal(split.infer(cut=3), expected)
            for sample in samples:
                check_sample(sample, split)
        return samples

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(one, range(4)))
    assert [len(run) for run in runs] == [45] * 4
    served = [(run[0].timeline.start_ns, run[-1].timeline.end_ns) for run in runs]
    assert max(start for start, _ in served) < min(end for _, end in served), "they did not run at the same time"


def test_int8_is_near_and_says_that_it_is_not_equal(placement: Placement) -> None:
    with SplitSession("toy_residual", placement) as split:
        exact = unsplit("toy_residual")
        plain, coded = split.measure(4), split.measure(4, codec="int8")
        assert not coded.bitwise_equal
        assert 0 < coded.max_error < 0.05 * exact.abs().max()
        assert coded.sent_bytes == plain.sent_bytes // 4
        output = split.infer(cut=4, codec="int8")
        assert (output - exact).abs().max() == pytest.approx(coded.max_error)


def test_checksum_and_pacing_change_no_bit(placement: Placement) -> None:
    paced = replace(placement, checksum=True, link=Link.parse("1mbit+2ms"))
    with SplitSession("toy_residual", paced) as split:
        assert split.checksum
        for cut in split.cuts:
            sample = split.measure(cut.index)
            check_sample(sample, split)
            if sample.sent_bytes:
                assert sample.timeline.link_s >= sample.sent_bytes * 8 / 1e6 + 2e-3 - 1e-6
                assert sample.timeline.return_s is not None
                assert sample.timeline.return_s >= 2e-3 - 1e-6


def test_own_inputs_and_other_batch_sizes(placement: Placement) -> None:
    built = build_model(ModelRef("toy_chain"))
    image = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    with exact_inference():
        expected = built.module(image)
    with SplitSession("toy_chain", placement) as split:
        for cut in split.cuts:
            assert bitwise_equal(split.infer(image, cut=cut.index), expected)
        with pytest.raises(WorkerError, match=r"input image is torch\.float64"):
            split.infer(image.double(), cut=1)
        with pytest.raises(WorkerError, match="toy_chain"):
            split.infer(torch.randn(1, 3, 9, 99), cut=1)
        assert split.measure(2).bitwise_equal


def test_own_factory_is_measured_on_workers_that_were_started_with_it(placement: Placement, own_code: Path) -> None:
    result = bench(f"{own_code}:make", BenchSettings("all", repeats=2, warmup=1), placement, runs=None)
    assert [row.cut for row in result.rows] == [0, 1, 2, 3]
    assert [row.layer for row in result.rows] == ["input", "first", "relu", "last"]
    assert all(row.bitwise_equal for row in result.rows)


def test_code_is_found_by_its_file_name_and_is_always_the_workers_own(ap: Standalone, own_code: Path) -> None:
    with Client.connect(ap.address, role="ap") as client:
        here = client.load(ModelRef(f"{own_code}:make"))
        assert client.load(ModelRef("/no/such/folder/own.py:make")).weights == here.weights


@pytest.mark.parametrize("name", ["other.py:make", "own.py:other", "program.pt2", "os.path:join"])
def test_code_that_a_worker_was_not_started_with_is_refused(
    name: str, gateway: Standalone, ap: Standalone, tmp_path: Path
) -> None:
    trace = tmp_path / "ran"
    (tmp_path / "other.py").write_text(f"open({str(trace)!r}, 'w')\n")
    model = name if name.startswith("os.") else str(tmp_path / name)
    for worker in (gateway, ap):
        with (
            Client.connect(worker.address, role=worker.role) as client,
            pytest.raises(WorkerError, match=r"was not started with; start it with --model \S+$") as caught,
        ):
            client.load(ModelRef(model))
        assert model in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not trace.exists()


@pytest.mark.parametrize("what", ["weights", "graph"])
def test_a_model_that_differs_between_the_two_is_refused(what: str, placement: Placement, own_code: Path) -> None:
    with pytest.raises(WorkerError, match=f"the {what} of .*own.py:{what} differ here") as caught:
        SplitSession(f"{own_code}:{what}", placement)
    assert str(placement.ap) in str(caught.value)


def test_a_stated_fingerprint_is_insisted_on(ap: Standalone) -> None:
    with Client.connect(ap.address, role="ap") as client:
        loaded: Loaded = client.load(ModelRef("toy_chain"))
        client.load(ModelRef("toy_chain"), graph=loaded.graph, weights=loaded.weights)
        with pytest.raises(WorkerError, match="the weights of toy_chain differ"):
            client.load(ModelRef("toy_chain", seed=1), graph=loaded.graph, weights=loaded.weights)


def test_roles_that_were_mixed_up_are_named(gateway: Standalone, ap: Standalone) -> None:
    mixed = Placement(gateway=ap.address, ap=gateway.address)
    with pytest.raises(WorkerError, match=f"{ap.address} is a"):
        SplitSession("toy_chain", mixed)


def test_workers_forget_no_session_of_another(placement: Placement) -> None:
    """A session that fails or ends takes nothing from one that goes on."""
    with SplitSession("toy_chain", placement) as steady:
        for model in ("toy_multi", "no_such_model", "toy_residual"):
            try:
                with SplitSession(model, placement) as other:
                    assert other.measure(1).bitwise_equal
            except SplitnetError:
                assert model == "no_such_model"
            assert steady.measure(2).bitwise_equal

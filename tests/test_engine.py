"""What a worker holds, and whose code it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from splitnet.errors import ModelError, SettingsError
from splitnet.models.reference import ModelRef
from splitnet.resident import ModelInputs, parse_device
from splitnet.runtime.connection import Received
from splitnet.runtime.engine import MODELS_KEPT, Engine
from splitnet.runtime.gateway import GatewaySession
from splitnet.runtime.messages import Load, Measure, Measured

FACTORY = "from torch import nn, ones\ndef make():\n    return nn.Sequential(nn.Linear(3, 2)), ones(1, 3)\n"


def engine(*own_code: str) -> Engine:
    return Engine(torch.device("cpu"), threads=1, own_code=own_code)


def test_a_peer_cannot_fill_the_memory_and_what_was_kept_stays() -> None:
    worker = engine()
    kept = worker.keep(ModelRef("toy_chain"))
    first = worker.load(ModelRef("toy_chain", seed=1))
    for seed in range(2, 2 + MODELS_KEPT):
        worker.load(ModelRef("toy_chain", seed=seed))
    assert worker.load(ModelRef("toy_chain")) is kept
    assert worker.load(ModelRef("toy_chain", seed=1 + MODELS_KEPT)) is not first
    assert worker.load(ModelRef("toy_chain", seed=1)) is not first


def test_halves_are_built_once() -> None:
    model = engine().load(ModelRef("toy_chain"))
    assert model.top(2) is model.top(2)
    assert model.bottom(2) is model.bottom(2)


def test_code_is_run_only_where_it_was_named(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    own = tmp_path / "here" / "net.py"
    own.write_text(FACTORY)
    ref = ModelRef(f"{tmp_path}/there/net.py:make")
    with pytest.raises(ModelError, match="not started with"):
        engine().load(ref)
    found = engine(f"{own}:make").load(ref)  # another host's path of the same file name
    assert found.built.ref.name == f"{own}:make"


def test_inputs_must_be_like_the_models_own() -> None:
    model = engine().load(ModelRef("toy_chain"))
    for values, why in (
        ([], "0 input values"),
        ([torch.zeros(1, 3, 8)], "4 dimensions"),
        ([torch.zeros(1, 3, 8, 8, dtype=torch.int64)], "int64"),
        ([3], "must be a tensor"),
    ):
        with pytest.raises(ModelError, match=why):
            ModelInputs(model, values)
    with pytest.raises(ModelError, match=r"\(1, 3, 20, 20\)"):
        ModelInputs(model, [torch.zeros(1, 3, 20, 20)]).run_unsplit()


ODD_OUTPUT = """
from torch import nn, ones
class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3, 2), nn.Linear(2, 2)
    def forward(self, x):
        early = self.one(x)
        late = self.two(early)
        return {"late": late, "n": 3, "early": early, "again": late, "rows": x.shape[0]}
def make():
    return Odd(), ones(1, 3)
"""


def test_the_last_cut_gives_the_output_in_its_own_order(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD_OUTPUT)
    name = f"{tmp_path}/odd.py:make"
    session = GatewaySession(engine(name), boot="")
    nothing = torch.empty(0, dtype=torch.uint8)
    session.handle(Received(Load(ModelRef(name)), nothing, 0))
    last = session.model.graph.last_cut
    with torch.inference_mode():
        answer = session.handle(Received(Measure(last, want_output=True), nothing, 0)).message
    assert isinstance(answer, Measured)
    assert answer.bitwise_equal
    assert answer.timeline.total_s == answer.timeline.gateway_s > 0


@pytest.mark.parametrize("text", ["cuda:99", "gpu", "mps", "cpu:x", ""])
def test_a_device_that_is_not_here_is_named(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_device(text)
    assert repr(text) in str(caught.value)
    assert "cpu" in str(caught.value)

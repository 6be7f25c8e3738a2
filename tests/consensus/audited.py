"""Real inferences with signed receipts and their evidence, for tests of audits; what is signed may be a lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import torch

from splitnet.auditing import Reexecutor, data_points_of, model_key
from splitnet.consensus.audit import Evidence
from splitnet.consensus.genesis import Audit, Rules
from splitnet.consensus.receipt import SignedReceipt, value_digest
from splitnet.consensus.registry import Registry
from splitnet.consensus.values import value_bytes, values_from
from splitnet.inference import exact_inference
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.profiling.facts import model_facts
from splitnet.resident import ModelInputs, ResidentModel
from splitnet.wire.decoding import decode_values
from splitnet.wire.encoding import encode_values
from splitnet.wire.frames import allocate_body
from tests.consortium import Consortium, a_genesis

CPU = torch.device("cpu")
Change = Callable[[list[Any]], list[Any]]


@lru_cache(maxsize=8)
def held(name: str, seed: int = 0, input_size: int | None = None) -> ResidentModel:
    return ResidentModel(build_model(ModelRef(name, seed=seed, input_size=input_size)), CPU)


@lru_cache(maxsize=8)
def registry_of(*models: ResidentModel) -> Registry:
    return Registry.of([model_facts(model, ModelInputs(model)) for model in models])


@dataclass(frozen=True)
class Inference:
    """What the members know of one inference."""

    signed: SignedReceipt
    evidence: Evidence
    leaves: list[Any]
    """What the top really gave."""


class Audited:
    """A network whose models are real."""

    def __init__(self, *models: ResidentModel, audit: Audit | None = None, **changes: Any) -> None:
        registry = registry_of(*models)
        audit = audit or Audit(share_millionths=1_000_000, tolerance_micro=1000, suspended_slots=3)
        number = registry.number(*model_key(models[0]))
        genesis = a_genesis(registry=registry.digest(), audit=audit, **changes)
        genesis = msgspec.structs.replace(genesis, models=(number,) * len(genesis.devices))
        self.rules = Rules(genesis, registry)
        self.consortium = Consortium(self.rules)
        self.reexecutor = Reexecutor(models)
        self.model = models[0]

    def infer(
        self,
        slot: int = 0,
        twin: int = 0,
        *,
        cut: int = 2,
        data_points: int = 3,
        codec: str = "none",
        run: int | None = None,
        seed: int = 0,
        change: Change = lambda leaves: leaves,
        by: ResidentModel | None = None,
        **changes: Any,
    ) -> Inference:
        """One inference by the first model.

        Args:
            run: data points that are really run; all of them by default.
            change: what is done to the result before it is signed.
            by: the model that really makes the result.
        """
        live, leaves = split(self.model, cut, run or data_points, codec, seed)
        given = split(by, cut, run or data_points, codec, seed)[1] if by else leaves
        activation, result = value_bytes(live), value_bytes(change([leaf.clone() for leaf in given]))
        graph, weights = model_key(self.model)
        named: dict[str, Any] = {"graph": graph, "weights": weights, "activation": value_digest(activation)}
        signed = self.consortium.receipt(
            slot, twin, cut=cut, data_points=data_points, result=result, **(named | changes)
        )
        return Inference(signed, Evidence(activation, result), leaves)


def split(
    model: ResidentModel, cut: int, data_points: int, codec: str = "none", seed: int = 0
) -> tuple[list[Any], list[Any]]:
    """The live values as an AP decodes them, and what its top makes of them."""
    chance = torch.Generator().manual_seed(seed)
    inputs = [
        torch.randn(value.shape, generator=chance) if isinstance(value, torch.Tensor) else value
        for value in data_points_of(model, [value for _, value in model.example()], data_points)
    ]
    with exact_inference():
        encoded = encode_values(model.bottom(cut).run(inputs), codec)
        body = allocate_body(sum(map(len, encoded.buffers)))
        body.numpy().data[:] = b"".join(encoded.buffers)
        live = decode_values(encoded.specs, body, CPU, max_bytes=1 << 28)
        kept = values_from(value_bytes(live))  # the top may change what it is given
        return kept, list(model.top(cut).run(live))

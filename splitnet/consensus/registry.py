"""The FLOPs registry: what each layer of each known model costs, agreed on by all members.

FLOPs of a receipt are never taken on trust: every verifier derives them from its device's model, which the genesis
block names, the cut and D_n.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import msgspec

from splitnet.consensus.canonical import Digest, Number, Record, digest_of, encode
from splitnet.consensus.errors import GenesisError

if TYPE_CHECKING:
    from splitnet.profiling.facts import ModelFacts, ModelIdentity

MOST_REGISTRY_BYTES = 1 << 24
"""Of its file, encoded."""
MOST_MODELS = 10_000
"""In one registry."""
MOST_LAYERS = 1 << 16
"""Of one model."""


class ModelFlops(Record, frozen=True):
    """One model.

    Attributes:
        graph, weights: fingerprints, as receipts name them.
        flops: chi, of each layer for one data point (one multiply-add = 1, as fvcore counts).
    """

    graph: Digest
    weights: Digest
    flops: Annotated[tuple[Number, ...], msgspec.Meta(max_length=MOST_LAYERS)]

    @property
    def key(self) -> tuple[bytes, bytes]:
        """Fingerprints of graph and weights."""
        return self.graph, self.weights

    @property
    def last_cut(self) -> int:
        """With which all layers are on the gateway."""
        return len(self.flops)

    def top(self, cut: int, data_points: int) -> int:
        """FLOPs of layers cut+1..L for so many data points (MODEL.md row 5)."""
        return data_points * sum(self.flops[cut:])


class Registry(Record, frozen=True):
    """Known models by rising fingerprints."""

    models: Annotated[tuple[ModelFlops, ...], msgspec.Meta(max_length=MOST_MODELS)]

    @classmethod
    def of(cls, facts: Iterable[ModelFacts]) -> Registry:
        """The registry of profiled models, each once."""
        found: dict[tuple[bytes, bytes], ModelFlops] = {}
        for model in facts:
            one = ModelFlops(
                *model_key(model.identity),
                tuple(layer.flops for layer in model.layers),
            )
            found[one.key] = one
        return cls(tuple(found[key] for key in sorted(found)))

    def digest(self) -> bytes:
        """[32] what the genesis block commits to."""
        return digest_of("registry", b"", encode(self))

    def number(self, graph: bytes, weights: bytes) -> int:
        """Of a model in this registry, as the genesis block names it. Raises ValueError: it is not there."""
        return [model.key for model in self.models].index((graph, weights))

    def check(self) -> None:
        """Raises GenesisError: a model twice, out of order, or without layers."""
        keys = [model.key for model in self.models]
        if keys != sorted(set(keys)):
            raise GenesisError("the FLOPs registry lists a model twice or out of order")
        for model in self.models:
            if not model.flops:
                raise GenesisError(f"the FLOPs registry has no layers for the graph {model.graph.hex()[:12]}")


def model_key(identity: ModelIdentity) -> tuple[bytes, bytes]:
    """Fingerprints of graph and weights, as receipts name them."""
    return bytes.fromhex(identity.graph), bytes.fromhex(identity.weights_digest)

"""The FLOPs registry: what each layer of each known model costs, agreed on by all members.

FLOPs of a receipt are never taken on trust: every verifier derives them from the graph's fingerprint, the cut and
D_n.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from splitnet.consensus.canonical import Digest, Number, Record, digest_of, encode
from splitnet.consensus.errors import GenesisError

if TYPE_CHECKING:
    from splitnet.profiling.facts import ModelFacts

MOST_REGISTRY_BYTES = 1 << 24


class ModelFlops(Record, frozen=True):
    """One model's layers.

    Attributes:
        graph: fingerprint of the graph.
        flops: chi, of each layer for one data point (one multiply-add = 1, as fvcore counts).
    """

    graph: Digest
    flops: tuple[Number, ...]

    def top(self, cut: int, data_points: int) -> int:
        """FLOPs of layers cut+1..L for so many data points (MODEL.md row 5)."""
        return data_points * sum(self.flops[cut:])


class Registry(Record, frozen=True):
    """Known models by rising fingerprint."""

    models: tuple[ModelFlops, ...]

    @classmethod
    def of(cls, facts: Iterable[ModelFacts]) -> Registry:
        """The registry of profiled models, each graph once."""
        found = {
            model.identity.graph: ModelFlops(
                bytes.fromhex(model.identity.graph), tuple(layer.flops for layer in model.layers)
            )
            for model in facts
        }
        return cls(tuple(found[graph] for graph in sorted(found)))

    def digest(self) -> bytes:
        """[32] what the genesis block commits to."""
        return digest_of("registry", b"", encode(self))

    def by_graph(self) -> dict[bytes, ModelFlops]:
        """Models by fingerprint.

        Raises:
            GenesisError: one twice, out of order, or without layers.
        """
        graphs = [model.graph for model in self.models]
        if graphs != sorted(set(graphs)):
            raise GenesisError("the FLOPs registry lists a graph twice or out of order")
        for model in self.models:
            if not model.flops:
                raise GenesisError(f"the FLOPs registry has no layers for the graph {model.graph.hex()[:12]}")
        return dict(zip(graphs, self.models, strict=True))

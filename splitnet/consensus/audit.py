"""Audits: which receipts an AP runs again, and what is proved when the result differs.

Nobody believes a verifier. Each node that is to accept a fraud proof takes the activation and the result that the
receipt's digests name, runs the top itself and compares. Honest machines differ in the last bits, so two bounds stand
between them: a verifier publishes beyond twice the genesis tolerance, everybody accepts beyond once. As long as two
honest machines differ by no more than the tolerance, they never disagree about a proof that an honest one published.

What proves fraud: a result beyond the tolerance; bytes under the signed digest of a result that are no values; an
activation that does not have the receipt's number of data points, or is not what crosses that cut. The AP signed each
of these. What proves nothing: evidence that is missing or was changed on the way, a model that is not held here, a
re-execution that fails.

Does not know: whether the activation came from the batch (its bottom is not run again), and outputs that jump: labels
or sorted boxes may differ between honest machines by more than any tolerance. Sign logits instead. A device and a
gateway that search for an activation whose sums cancel, or overflow half way, can make machines of different kinds
differ by more than the tolerance, and so blame an honest AP; machines of one kind agree to the bit.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from splitnet.consensus.errors import (
    ActivationError,
    EncodingError,
    EvidenceError,
    EvidenceMissingError,
)
from splitnet.consensus.genesis import MILLION, Audit, Rules
from splitnet.consensus.receipt import Receipt, SignedReceipt, value_digest
from splitnet.consensus.values import values_from

PUBLISH_BEYOND = 2
"""Tolerances beyond which a verifier accuses; others accept beyond 1."""
NEAR_OVERFLOW = 1 / 16
"""Of a dtype's largest number: no result of a trained net is beyond that by itself."""

Reexecute: TypeAlias = Callable[[Receipt, list[Any]], Sequence[Any]]
"""The output leaves of a receipt's top for the activation's values.

Raises ActivationError where these cannot be the receipt's, ReexecutionError where the top cannot be run here.
"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Canonical bytes of what a receipt names by digest; None for what is not here."""

    activation: bytes | None
    result: bytes | None


def is_drawn(audit: Audit, chance: random.Random) -> bool:
    """Whether this AP audits a receipt.

    Args:
        chance: this AP's own, that nobody else can foresee: `secrets.SystemRandom()`.
    """
    return chance.randrange(MILLION) < audit.share_millionths


def judge(rules: Rules, signed: SignedReceipt, evidence: Evidence, reexecute: Reexecute) -> bool:
    """Whether re-execution shows that the AP lied; what `chain.Judge` asks of a fraud proof's receipt.

    Signatures are checked elsewhere.

    Raises:
        EvidenceMissingError, EvidenceError, ReexecutionError: nothing is shown, either way.
    """
    return exceeds(rules.genesis.audit, examine(signed, evidence, reexecute))


def exceeds(audit: Audit, deviation: float, tolerances: int = 1) -> bool:
    """Whether a deviation is beyond so many tolerances."""
    return deviation * MILLION > tolerances * audit.tolerance_micro


def examine(signed: SignedReceipt, evidence: Evidence, reexecute: Reexecute) -> float:
    """How far the signed result is from re-execution; infinite for what no honest AP signs.

    Raises:
        EvidenceMissingError, EvidenceError, ReexecutionError: nothing is shown, either way.
    """
    receipt = signed.receipt
    activation, result = validated(receipt, evidence)
    try:
        disclosed = values_from(result)
        again = reexecute(receipt, values_from(activation))
    except (ActivationError, EncodingError):
        return math.inf
    return deviation(disclosed, again)


def validated(receipt: Receipt, evidence: Evidence) -> tuple[bytes, bytes]:
    """Activation and result, the ones that were signed.

    Raises:
        EvidenceMissingError, EvidenceError
    """
    where = f"slot {receipt.arrival.slot}, device {receipt.arrival.twin}"
    named = (
        ("activation", evidence.activation, receipt.activation),
        ("result", evidence.result, receipt.result),
    )
    missing = [(what, digest) for what, data, digest in named if data is None]
    if missing:
        names = " and ".join(f"{what} {digest.hex()[:12]}" for what, digest in missing)
        raise EvidenceMissingError(f"{where}: {names} is not here; fetch it", tuple(digest for _, digest in missing))
    for what, data, digest in named:
        if value_digest(data or b"") != digest:
            raise EvidenceError(f"{where}: the {what} of {len(data or b'')} bytes is not the one that was signed")
    return evidence.activation or b"", evidence.result or b""


def deviation(disclosed: Sequence[Any], again: Sequence[Any]) -> float:
    """Largest difference of two results, tensor by tensor relative to the largest absolute value of the second.

    Numbers that are not finite must be the same at the same places, unless the second comes near to overflow: then it
    is the order of a sum that decides, and such places show nothing. Infinite where kinds, shapes, dtypes or plain
    values differ, or any number that is not floating.
    """
    if len(disclosed) != len(again):
        return math.inf
    return max((_leaf_deviation(one, other) for one, other in zip(disclosed, again, strict=True)), default=0.0)


def _leaf_deviation(one: Any, other: Any) -> float:
    if isinstance(one, float) and isinstance(other, float):
        one, other = (torch.tensor(value, dtype=torch.float64) for value in (one, other))
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return _plain_deviation(one, other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return math.inf
    theirs, ours = _real(one), _real(other)
    odd = ~ours.isfinite()
    if not torch.equal(odd, ~theirs.isfinite()) or not _same_odd(theirs[odd], ours[odd]):
        if not _overflows(other, ours):
            return math.inf
        odd |= ~theirs.isfinite()
    return _relative(theirs[~odd], ours[~odd], exact=not (one.is_floating_point() or one.is_complex()))


def _real(tensor: torch.Tensor) -> torch.Tensor:
    """Its numbers in float64, or as they are where they are whole."""
    tensor = tensor.detach().cpu().reshape(-1)
    if tensor.is_complex():
        return torch.view_as_real(tensor.to(torch.complex128).resolve_conj())
    return tensor.to(torch.float64) if tensor.is_floating_point() else tensor


def _overflows(tensor: torch.Tensor, numbers: torch.Tensor) -> bool:
    """Whether its numbers are so large, or not finite, that rounding decides which of them are."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    return not bool((numbers.abs() <= torch.finfo(tensor.dtype).max * NEAR_OVERFLOW).all())


def _same_odd(theirs: torch.Tensor, ours: torch.Tensor) -> bool:
    """The same of NaN, inf and -inf at the same places."""
    return torch.equal(theirs.isnan(), ours.isnan()) and torch.equal(theirs.nan_to_num(), ours.nan_to_num())


def _relative(theirs: torch.Tensor, ours: torch.Tensor, exact: bool) -> float:
    if torch.equal(theirs, ours):
        return 0.0
    largest = 0.0 if exact else ours.abs().max().item()
    return (theirs - ours).abs().max().item() / largest if largest > 0 else math.inf


def _plain_deviation(one: Any, other: Any) -> float:
    """Of values that are no tensors, at any depth."""
    if isinstance(one, (tuple, list)) and type(one) is type(other):
        return deviation(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return deviation(list(one.values()), list(other.values())) if list(one) == list(other) else math.inf
    return 0.0 if type(one) is type(other) and one == other else math.inf

"""From FLOPs to a target, the same to the bit on every machine (MODEL.md section 6).

    U_j     in integer micro-units, capped                       letter, eq. (2); MODEL.md row 8
    gamma_j = exp(-alpha U_j - beta), in integer units of 1e-18  letter, eq. (3); MODEL.md row 9
    target  = min(2^256 - 1, floor(2^256 / (H_0 gamma_j)))       MODEL.md section 6

Integers throughout; exp and ln come from `decimal`, which rounds them correctly at a fixed precision wherever it
runs. Floats never enter, nor the C library's exp.
"""

from __future__ import annotations

import decimal
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from splitnet.consensus.canonical import Number, Positive, Record
from splitnet.consensus.errors import GenesisError
from splitnet.consensus.proof_of_work import HASHES

MICRO = 10**6
"""Units of reputation, alpha and beta in 1."""
GAMMA_UNITS = 10**18
"""Units of gamma in 1."""
LEAST_GAMMA = 10**9
"""In units: nine digits are left for rounding."""
MOST_TARGET = HASHES - 1
"""It fits 32 bytes."""

_context = decimal.Context(prec=50, rounding=decimal.ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999)


class Mining(Record, frozen=True):
    """What turns work into a target; part of the genesis block.

    Attributes:
        alpha_micro, beta_micro: alpha and beta of letter eq. (3), in micro-units; beta is not negative here.
        hashes: H_0, expected hashes of a block at gamma = 1.
        reputation: g by name: `linear` O/O^ref, `log` ln(1 + O/O^ref).
        reference_flops: O^ref.
        most_micro: cap on U in micro-units.
    """

    alpha_micro: Number
    beta_micro: Number
    hashes: Positive
    reputation: Literal["linear", "log"]
    reference_flops: Positive
    most_micro: Number

    def check(self) -> None:
        """Raises GenesisError where the most reputed AP would mine at next to no difficulty."""
        if difficulty_of(self, self.most_micro) <= LEAST_GAMMA:
            raise GenesisError(
                f"at the cap of U = {self.most_micro / MICRO:g} gamma is at most {LEAST_GAMMA / GAMMA_UNITS:g}; "
                f"lower the cap, alpha or beta"
            )


@lru_cache(maxsize=1 << 14)
def reputation_of(mining: Mining, flops: int) -> int:
    """U_j in micro-units, rounded down, of the top-layer FLOPs O_j that an AP's receipts of a slot prove."""
    if flops < 0:
        raise ValueError(f"{flops} FLOPs are below 0")
    if mining.reputation == "linear":
        earned = flops * MICRO // mining.reference_flops
    else:
        share = _context.divide(Decimal(flops), Decimal(mining.reference_flops))
        logarithm = _context.ln(_context.add(Decimal(1), share))
        earned = int(_context.multiply(logarithm, Decimal(MICRO)).to_integral_value(decimal.ROUND_FLOOR))
    return min(earned, mining.most_micro)


@lru_cache(maxsize=1 << 14)
def difficulty_of(mining: Mining, reputation_micro: int) -> int:
    """gamma_j in units of 1e-18, at least 1."""
    exponent = Decimal(-mining.alpha_micro * reputation_micro - mining.beta_micro * MICRO).scaleb(-12, _context)
    units = _context.multiply(_context.exp(exponent), Decimal(GAMMA_UNITS))
    return max(1, int(units.to_integral_value(decimal.ROUND_HALF_EVEN)))


def target_of(mining: Mining, difficulty: int) -> int:
    """A block's hash, as a number, must be below this."""
    return min(MOST_TARGET, HASHES * GAMMA_UNITS // (mining.hashes * difficulty))


def expected_hashes(target: int) -> float:
    """Mean number of hashes until one is below the target, for reports."""
    return HASHES / target

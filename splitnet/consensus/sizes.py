"""How large blocks may be, and how large the largest is that a genesis block allows.

Numbers take up to 9 bytes, millionths 5, digests 34, signatures 66, heads of long lists 5.
"""

from __future__ import annotations

MOST_BLOCK_BYTES = 1 << 24
"""Of a block, encoded; a genesis block whose blocks could be larger is refused."""
MOST_VALUE_BYTES = 1 << 27
"""Of a batch, an activation or a result: 15 data points of 64 x 112 x 112 take 48 MB. What may be signed may be
stored and sent."""
MOST_AUDIT_ENTRIES = 256
"""Fraud proofs, and likewise voids, in one block."""

NUMBER, MILLIONTH, DIGEST, NONCE, SIGNATURE, LIST, LONG_LIST = 9, 5, 34, 18, 66, 1, 5
"""Bytes of each kind of value at most, in the canonical encoding (MessagePack), and of the head of a list."""
LARGEST_HEADER = LIST + 5 * DIGEST + 6 * NUMBER
LARGEST_SEALED = LIST + LARGEST_HEADER + NONCE + SIGNATURE
LARGEST_ARRIVAL = LIST + 3 * NUMBER + DIGEST
LARGEST_RECEIPT = LIST + LARGEST_ARRIVAL + 3 * NUMBER + 4 * DIGEST
LARGEST_SIGNED_RECEIPT = LIST + LARGEST_RECEIPT + 3 * SIGNATURE
LARGEST_FRAUD = LIST + LARGEST_SIGNED_RECEIPT + NUMBER + SIGNATURE
LARGEST_VOTE = LIST + NUMBER + SIGNATURE
"""Bytes of the largest of each record: the sum of its fields', in their order."""
MOST_RECEIPTS = MOST_BLOCK_BYTES // LARGEST_SIGNED_RECEIPT
"""In any block of any network."""


def largest_plan(devices: int, gateways: int, aps: int) -> int:
    """Bytes of a signed plan for so many members."""
    shares = 2 * LONG_LIST + MILLIONTH * (gateways + aps)
    return LIST + LIST + NUMBER + LONG_LIST + NUMBER * devices + shares + SIGNATURE


def largest_block(devices: int, gateways: int, aps: int, receipts: int, audited: bool) -> int:
    """Bytes of a block with so many receipts and, where there are audits, as many proofs and voids as it may hold."""
    void = LIST + LARGEST_SIGNED_RECEIPT + LONG_LIST + LARGEST_VOTE * (aps - 1)
    audits = MOST_AUDIT_ENTRIES * (LARGEST_FRAUD + void) if audited else 0
    body = LIST + largest_plan(devices, gateways, aps) + 3 * LONG_LIST + LARGEST_SIGNED_RECEIPT * receipts + audits
    return LIST + LARGEST_SEALED + body

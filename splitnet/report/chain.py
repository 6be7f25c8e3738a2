"""What `splitnet chain` shows: verdicts, lists of blocks, one block with its receipts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from splitnet.chains import Agreement, Listed, Outcome
from splitnet.consensus.block import Block, hash_of
from splitnet.consensus.difficulty import GAMMA_UNITS, MICRO, expected_hashes
from splitnet.consensus.genesis import Rules
from splitnet.consensus.receipt import top_flops

SHOWN_DIGITS = 12
"""Of a hash in hexadecimal."""


def short(digest: bytes) -> str:
    """The beginning of a hash."""
    return digest.hex()[:SHOWN_DIGITS]


def verdict(outcome: Outcome) -> str:
    """One line for one store."""
    found = outcome.verified
    if found is None:
        return f"{outcome.store}: BROKEN, rule {outcome.error.rule if outcome.error else '?'}: {outcome.error}"
    judged = f", {found.not_reexecuted} fraud proofs not re-executed" if found.not_reexecuted else ""
    return f"{outcome.store}: clean to height {found.height}, head {short(found.head)}{judged}"


def verified_table(outcomes: Sequence[Outcome], agreed: Agreement | None) -> Table | None:
    """The clean stores, one a row; None where there is none."""
    found = [(outcome.store, outcome.verified) for outcome in outcomes if outcome.verified]
    if not found:
        return None
    networks = sorted({one.network.hex() for _, one in found})
    table = _table(
        ("store", "height", "slot", "head", "blocks", "receipts", "frauds", "voids", "results", "mined"),
        caption="; ".join(
            [f"network {', '.join(networks)}", *([str(agreed)] if agreed is not None and len(found) > 1 else [])]
        ),
    )
    for name, one in found:
        mined = ", ".join(f"{miner} {count}" for miner, count in one.mined.items())
        counts = (one.blocks, one.receipts, one.frauds, one.voids, one.values)
        table.add_row(name, str(one.height), str(one.slot), short(one.head), *map(str, counts), mined)
    return table


def listed_dict(name: str, rules: Rules, chain: Sequence[Listed]) -> dict[str, Any]:
    """A chain as JSON."""
    return {
        "store": name,
        "network": rules.network.hex(),
        "height": len(chain),
        "blocks": [
            {
                "height": one.header.height,
                "slot": one.header.slot,
                "miner": one.header.miner,
                "miner_name": _ap(rules, one.header.miner),
                "reputation": one.header.reputation_micro / MICRO,
                "difficulty": one.header.difficulty / GAMMA_UNITS,
                "receipts": one.receipts,
                "hash": one.hash.hex(),
                "time_ms": one.header.time_ms,
            }
            for one in chain
        ],
    }


def chain_table(name: str, rules: Rules, chain: Sequence[Listed]) -> Table:
    """A chain, newest last."""
    table = _table(
        ("height", "slot", "miner", "U", "gamma", "receipts", "hash", "time (UTC)"),
        caption=f"{name}: network {rules.network.hex()}; not verified here: splitnet chain verify does that",
    )
    for one in chain:
        header = one.header
        table.add_row(
            str(header.height),
            str(header.slot),
            _ap(rules, header.miner),
            f"{header.reputation_micro / MICRO:.6f}",
            f"{header.difficulty / GAMMA_UNITS:.6f}",
            str(one.receipts),
            short(one.hash),
            _time(header.time_ms),
        )
    return table


def block_lines(rules: Rules, block: Block, stores: Sequence[str]) -> list[str]:
    """What a block, which is valid by itself, says."""
    header, body = block.header, block.body
    return [
        f"block {header.height}, hash {hash_of(rules, block.sealed).hex()}",
        f"after {header.previous.hex()}",
        f"slot {header.slot}, mined by {_ap(rules, header.miner)} at {_time(header.time_ms)} UTC",
        f"U {header.reputation_micro / MICRO:.6f}, gamma {header.difficulty / GAMMA_UNITS:.9f}, "
        f"{expected_hashes(int.from_bytes(header.target)):.6g} hashes expected",
        *(f"fraud proof of slot {one.key[0]}, device {one.key[1]}, by AP {one.verifier}" for one in body.frauds),
        *(f"void of slot {one.key[0]}, device {one.key[1]}, {len(one.votes)} votes" for one in body.voids),
        f"in {', '.join(stores)}",
    ]


def receipts_table(rules: Rules, block: Block) -> Table:
    """The receipts of a block that is valid by itself; those that count for its difficulty are marked."""
    header, genesis = block.header, rules.genesis
    table = _table(
        ("slot", "device", "gateway", "AP", "D", "cut", "top FLOPs", "counts", "result"),
        caption=f"{len(block.body.receipts)} receipts",
    )
    for signed in block.body.receipts:
        receipt, arrival = signed.receipt, signed.receipt.arrival
        table.add_row(
            str(arrival.slot),
            genesis.devices[arrival.twin].name,
            genesis.gateways[receipt.gateway].name,
            genesis.aps[receipt.ap].name,
            str(arrival.data_points),
            str(receipt.cut),
            str(top_flops(rules, receipt)),
            "yes" if (arrival.slot, receipt.ap) == (header.slot, header.miner) else "",
            short(receipt.result),
        )
    return table


def _ap(rules: Rules, number: int) -> str:
    aps = rules.genesis.aps
    return aps[number].name if number < len(aps) else f"no AP ({number})"


def _time(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(" ", "milliseconds").removesuffix("+00:00")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def _table(head: Sequence[str], caption: str) -> Table:
    table = Table(caption=caption, caption_justify="left", box=None, pad_edge=False)
    for name in head:
        table.add_column(name, overflow="fold")
    return table

"""What `audit` found: its tables and picture. Means, medians and intervals are made here, from raw figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from benchmarks.command_line import WAY_OUT
from splitnet.consensus.audit import PUBLISH_BEYOND
from splitnet.report.drawing import human_bytes, new_figure, save_figure, tidy

Row = dict[str, Any]


def expected_share(share: float, others: int, receipts: int = 1) -> float:
    """Chance that at least one of the other APs draws at least one of the receipts."""
    return float(1 - (1 - share) ** (others * receipts))


def expected_reputation(share: float, others: int, receipts: int, suspended: int) -> float:
    """Mean U of a lone liar over an honest AP's: 1/q slots until it is found, one until recorded, K at zero."""
    until = 1 / expected_share(share, others, receipts)
    return (until + 1) / (until + 1 + suspended)


def show(results: dict[str, Any]) -> None:
    """Print every section that was measured."""
    console = Console(width=118, highlight=False)
    for name, shown in _SHOWN.items():
        if name in results:
            for part in shown(results[name], results):
                console.print(part)


def draw_found(rows: list[Row], path: Path) -> None:
    """Share of lies found against p, with 95% intervals and theory; SettingsError where the disk refuses."""
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    others = rows[0]["others"]
    fine = np.concatenate(([0.0], np.geomspace(0.005, 1.0, 200)))
    axes.plot(fine, [expected_share(p, others) for p in fine], color="C0", label=f"1 - (1 - p)^{others}")
    shares = [row["share"] for row in rows]
    found = np.array([row["found"] / row["lies"] for row in rows])
    bounds = np.array([_interval(row["found"], row["lies"]) for row in rows]).T
    axes.errorbar(
        shares,
        found,
        yerr=np.abs(bounds - found),
        fmt="o",
        color="C1",
        markersize=4,
        capsize=3,
        label=f"found of {rows[0]['lies']} lies, 95% interval",
    )
    axes.set_xscale("symlog", linthresh=0.01)
    axes.set_xticks(shares, [f"{share:.0%}" for share in shares])
    axes.set_xlabel(f"p, the share that each of {others} other APs audits")
    axes.set_ylabel("share of lies found")
    tidy(axes)
    axes.legend(frameon=False)
    save_figure(figure, path, WAY_OUT)


def _interval(successes: int, trials: int) -> tuple[float, float]:
    """Exact 95% interval of a binomial share."""
    interval = binomtest(successes, trials).proportion_ci(0.95, "exact")
    return float(interval.low), float(interval.high)


def _found(rows: list[Row], results: dict[str, Any]) -> list[Any]:
    table = _table(
        f"lies found by {rows[0]['others']} other APs, each auditing a share p",
        *("p", "lies", "expected", "found", "95% interval", "p-value", "accepted", "audits a lie", "honest accused"),
    )
    for row in rows:
        low, high = _interval(row["found"], row["lies"])
        expected = expected_share(row["share"], row["others"])
        table.add_row(
            f"{row['share']:.0%}",
            str(row["lies"]),
            f"{expected:.3f}",
            f"{row['found'] / row['lies']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{binomtest(row['found'], row['lies'], expected).pvalue:.2f}",
            f"{row['accepted']} of {row['found']}",
            f"{row['audits'] / row['lies']:.2f}",
            f"{row['accused']} of {row['honest']}",
        )
    last = rows[-1]["kinds"]
    kinds = "; ".join(f"{name} {caught} of {tried}" for name, (caught, tried) in sorted(last.items()))
    return [table, f"by kind of lie at p = {rows[-1]['share']:.0%}: {kinds}"]


def _cost(rows: list[Row], results: dict[str, Any]) -> list[Any]:
    table = _table(
        "one audit beside the top that it runs again: medians",
        *("cut", "activation", "top, ms", "audit, ms", "audit / top", "all 3 auditors / top, p = 5%"),
    )
    for row in rows:
        top, audit = float(np.median(row["top_s"])), float(np.median(row["audit_s"]))
        ratio = float(np.median(np.array(row["audit_s"]) / np.array(row["top_s"])))
        table.add_row(
            str(row["cut"]),
            human_bytes(row["activation_bytes"]),
            f"{top * 1e3:.2f}",
            f"{audit * 1e3:.2f}",
            f"{ratio:.2f}",
            f"{0.05 * 3 * ratio:.1%}",
        )
    return [table, "re-executed FLOPs of all auditors together: p (J-1) of the tops' own, exactly that on average"]


def _gain(rows: list[Row], results: dict[str, Any]) -> list[Any]:
    table = _table(
        f"a liar alone, n = {rows[0]['receipts']} receipts a slot, K = {rows[0]['suspended']}; honest: U = 1",
        *("p", "slots", "times found", "slots until found", "expected", "mean U", "expected", "slots without work"),
    )
    for row in rows:
        until = np.array(row["until_found"])
        half = 1.96 * until.std(ddof=1) / len(until) ** 0.5 if len(until) > 1 else float("nan")
        q = expected_share(row["share"], row["others"], row["receipts"])
        table.add_row(
            f"{row['share']:.0%}",
            str(row["slots"]),
            str(len(until)),
            f"{until.mean():.2f} ± {half:.2f}" if len(until) else "never",
            f"{1 / q:.2f}",
            f"{row['sum_u'] / row['slots'] / row['honest_u']:.3f}",
            f"{expected_reputation(row['share'], row['others'], row['receipts'], row['suspended']):.3f}",
            f"{row['lying'] / row['slots']:.1%}",
        )
    return [table, "until it is found, a liar gains its whole U in each slot for no work"]


def _tricks(rows: list[Row], results: dict[str, Any]) -> list[Any]:
    table = _table(
        "what AP and gateway may sign together, every receipt audited",
        *("trick", "receipts", "refused as invalid", "proved by audit", "let pass"),
    )
    for row in rows:
        passed = row["count"] - row["refused"] - row["found"]
        table.add_row(row["trick"], *(str(value) for value in (row["count"], row["refused"], row["found"], passed)))
    return [table]


def _inflation(found: Row, results: dict[str, Any]) -> list[Any]:
    table = _table(
        "claimed work over planned work: what a block with the controller's plan in it does not count",
        *("planned cut", "claims cut 1", "claims cut 0"),
    )
    for cut, (first, second) in found["by_cut"].items():
        table.add_row(cut, f"{second:.2f}", f"{first:.2f}")
    return [table, f"with the device's key D_n may be its cap: {found['by_data_points']:.2f} times the mean"]


def _withholding(rows: list[Row], results: dict[str, Any]) -> list[Any]:
    table = _table(
        "AP and gateway lie about everything and withhold what is asked for; honest: U = 1",
        *("p", "receipts", "voided", "expected", "mean U", "expected", "suspended"),
    )
    for row in rows:
        expected = expected_share(row["share"], row["others"])
        table.add_row(
            f"{row['share']:.0%}",
            str(row["receipts"]),
            f"{row['voids'] / row['receipts']:.3f}",
            f"{expected:.3f}",
            f"{np.mean(row['u']) / row['honest_u']:.3f}",
            f"{1 - expected:.3f}",
            "never" if row["suspended_to"] < 0 else f"to slot {row['suspended_to']}",
        )
    voters = ", ".join(f"J = {aps}: {max(2, (aps - 1) // 2 + 1)}" for aps in range(3, 7))
    return [table, f"as many lying voters void the receipts of an honest AP: {voters}; with J = 2 nobody can"]


def _below(rows: list[Row], results: dict[str, Any]) -> list[Any]:
    bound = PUBLISH_BEYOND * results["tolerance"]
    parts: list[Any] = []
    for name in ("bfloat16", "float16"):
        found = np.array([row[name] for row in rows])
        parts.append(
            f"a top computed in {name} is {np.median(found):.1e} off ({found.min():.1e} to {found.max():.1e}): "
            f"{(found <= bound).mean():.0%} are within two tolerances ({bound:g}), so not accused"
        )
    margins = np.concatenate([row["margins"] for row in rows])
    flipped = float((margins < 2 * bound).mean())
    parts.append(
        f"the best class can be changed below two tolerances for {flipped:.1%} of {len(margins)} data points"
    )
    return parts


def _table(title: str, *heads: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number == 0 else "right")
    return table


_SHOWN: dict[str, Callable[[Any, Row], list[Any]]] = {
    "found": _found,
    "cost": _cost,
    "gain": _gain,
    "tricks": _tricks,
    "inflation": _inflation,
    "withholding": _withholding,
    "below": _below,
}

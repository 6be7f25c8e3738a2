"""A run for people, in the terminal: predicted against measured, what was achieved, reputation, chains; and live.

Decides how figures are rounded and named. Computes no statistics of its own: they come from
`splitnet.running.result`.
"""

from __future__ import annotations

from collections.abc import Sequence

import rich.box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from splitnet.report.chain import verdict
from splitnet.report.drawing import human_count
from splitnet.report.simulation import short
from splitnet.running.components import SHORTEST_S, Achieved, Component, Energy
from splitnet.running.result import RunResult
from splitnet.slot_record import SlotRecord

MEANING = {
    "gateway": "gateway: bottoms",
    "link": "link: upload",
    "ap": "AP: tops",
    "barrier": "barrier: slowest gateway",
    "block": "block",
}
FEW_WORKERS = 12
"""Up to this many of a kind have a row each; of more, the worst ones."""
RECENT_SLOTS = 8


def run_lines(found: RunResult) -> list[RenderableType]:
    """All that is shown of a run, in order."""
    lines: list[RenderableType] = [latency_table(found), *_inference_lines(found), achieved_table(found)]
    lines += [
        *_reputation_lines(found),
        *_energy_lines(found.energy),
        *_result_lines(found),
        *map(verdict, found.chains),
    ]
    if found.agreement is not None and len(found.chains) > 1:
        lines.append(str(found.agreement))
    return lines


def latency_table(found: RunResult) -> Table:
    """Predicted against measured, a row for each component."""
    table = _table(
        ("", "predicted ms", "measured ms", "measured / predicted", "MAPE", "of"),
        title=f"{found.scenario}: {found.policy}, {found.slots} slots on real processes",
        caption=f"gateways, links and APs: those measured at {1e3 * SHORTEST_S:g} ms or more; ±: half of 95%\n"
        "a block's time is random: its ratio of means shall have 1 in its interval",
    )
    for name, one in found.components.items():
        table.add_row(MEANING[name], *_component_cells(name, one), style="bold" if name == "barrier" else None)
    table.add_section()
    latency = (found.predicted_latency_s, found.mean_latency_s)
    interval = "" if found.ci95 is None else f" ±{_ms(found.ci95)}"
    ratio = f"{latency[1] / latency[0]:.3f}" if latency[0] else "-"
    table.add_row("latency", _ms(latency[0]), f"{_ms(latency[1])}{interval}", ratio, "", f"{found.slots} slots")
    return table


def _component_cells(name: str, one: Component) -> list[str]:
    left_out = f" (+{one.left_out} short)" if one.left_out else ""
    of = f"{one.count} {'slots' if name in ('barrier', 'block') else 'gateway-slots'}{left_out}"
    if one.predicted_s is None or one.measured_s is None:
        return ["-", "-", "-", "-", of]
    ratio = "-" if one.ratio is None else f"{one.ratio:.3f}"
    if one.ci95 is not None:
        ratio += f" ±{one.ci95:.3f}"
    return [_ms(one.predicted_s), _ms(one.measured_s), ratio, _percent(one.mape), of]


def _inference_lines(found: RunResult) -> list[str]:
    floor = (
        "no half was repeated often enough for a noise floor"
        if found.noise_floor is None
        else f"noise floor {_percent(found.noise_floor)} (CPU time of a half at the same cuts, from slot to slot)"
    )
    lines = [f"inference part: MAPE {_percent(found.mape)}; {floor}"]
    lines.append(
        f"a slot took {found.mean_slot_s:.3f} s with what the model leaves out; receipts "
        f"{_ms(found.mean_exchange_s)} ms of it; DTs were {_age(found.mean_age_s)} behind their devices, at most "
        f"{_age(found.max_age_s)}"
    )
    if found.infeasible_slots:
        lines.append(f"no feasible plan in {found.infeasible_slots} of {found.slots} slots")
    if found.lost_slots:
        lines.append(f"{found.lost_slots} slots were lost: they were broken off behind their block")
    if found.slots + found.lost_slots < found.asked_slots:
        missing = found.asked_slots - found.slots - found.lost_slots
        lines.append(f"broken off: {missing} of {found.asked_slots} slots are left")
    return lines


def achieved_table(found: RunResult) -> Table:
    """Achieved over asked, a row for each worker, or for the worst of many."""
    table = _table(
        ("", "achieved / asked", "of", "for s", "too short"),
        title="what was achieved of what was asked",
        caption="weighted by time",
    )
    for kind in (found.links, found.speeds, found.hash_rates):
        for one in worst(kind):
            table.add_row(one.name, _ratio(one.ratio), str(one.count), f"{one.total_s:.2f}", str(one.left_out or ""))
        if len(kind) > FEW_WORKERS:
            table.add_row(f"… the {len(kind) - FEW_WORKERS} others lie nearer to 1", "", "", "", "")
        table.add_section()
    return table


def worst(workers: Sequence[Achieved]) -> list[Achieved]:
    """All in order; of many, those farthest from 1."""
    if len(workers) <= FEW_WORKERS:
        return list(workers)
    return sorted(workers, key=lambda one: -abs((one.ratio or 1.0) - 1))[:FEW_WORKERS]


def _reputation_lines(found: RunResult) -> list[str]:
    lines = [
        f"mean reputation U {_numbers(found.mean_reputation)}; C6 asks for {found.u_min:g}..{found.u_max:g}: "
        f"{f'broken by {short(found.c6_violation)}' if found.c6_violation else 'kept'}; mean queue "
        f"{short(found.mean_queue)}",
        f"hashes per block {human_count(found.hashes_per_block)}, predicted "
        f"{human_count(found.predicted_hashes_per_block)}",
    ]
    if found.gamma is not None:
        lines.append(f"consensus without reputation: gamma_0 = {found.gamma:.6g}")
    return lines


def _energy_lines(energy: Energy) -> list[str]:
    """The model's figures under their own name, and what meters there are."""
    lines = [
        f"modelled energy of a slot, J: gateways {_joules(energy.modelled_gateway_j)}; APs "
        f"{_joules(energy.modelled_inference_j)} for inference, {_joules(energy.modelled_mining_j)} for mining"
    ]
    for one in energy.metered:
        if one.meter is None:
            lines.append(f"metered energy: {one.device} of this host has no meter that can be read")
        elif one.mean_j is None:
            lines.append(f"metered energy: {one.meter} of {one.device} did not move in any slot")
        else:
            lines.append(
                f"metered energy of a slot: {one.mean_j:.3g} J by {one.meter} of {one.device}, all that the host did "
                f"({one.slots} slots)"
            )
    return lines


def _result_lines(found: RunResult) -> list[str]:
    lines = [f"results: {found.equal} of {found.results} have the unsplit model's bits"]
    if found.equal < found.results:
        lines[0] += f"; largest difference {found.max_error:.3g}"
    lines += [f"dropped {peer}: {reason}" for peer, reason in found.dropped]
    return lines


# --- while it runs


def live_view(
    title: str, phase: str, slots: int, limits: tuple[float, float], recent: Sequence[SlotRecord], before: int
) -> RenderableType:
    """The state of a run.

    Args:
        phase: of the slot that is played.
        slots: T.
        limits: of C6.
        recent: slots that were played in this sitting.
        before: slots that were played in earlier ones.
    """
    done = recent[-1].slot + 1 if recent else before
    head = Text(f"{title}: slot {min(done, slots - 1)} of {slots}, {phase}", style="bold")
    if not recent:
        return head
    last = recent[-1]
    mean = [sum(column) / len(recent) for column in zip(*(one.reputation for one in recent), strict=True)]
    mined = last.mined[0]
    lines = [
        Text(f"plan  {last.plan}", overflow="ellipsis", no_wrap=True),
        Text(f"U     {_numbers(last.reputation)}; mean {_numbers(mean)}, C6 {limits[0]:g}..{limits[1]:g}"),
        Text(f"chain height {mined.height}, head {mined.hash[:12]} by AP {mined.miner}"),
    ]
    table = _table(("slot", "gateway ms", "link ms", "AP ms", "barrier ms", "block ms", "miner"))
    for one in recent[-RECENT_SLOTS:]:
        predicted, measured = one.predicted, one.measured
        cells = [
            f"{_ms(max(getattr(predicted, name)))} / {_ms(max(getattr(measured, name)))}"
            for name in ("gateway_s", "link_s", "ap_s")
        ]
        cells += [
            f"{_ms(getattr(predicted, name))} / {_ms(getattr(measured, name))}" for name in ("barrier_s", "block_s")
        ]
        table.add_row(str(one.slot), *cells, f"AP {one.mined[0].miner}")
    table.caption = "predicted / measured, of the slowest gateway"
    return Group(head, *lines, table)


# --- numbers


def _table(heads: Sequence[str], title: str = "", caption: str = "") -> Table:
    table = Table(
        title=title or None,
        title_style="bold",
        title_justify="left",
        caption=caption or None,
        caption_justify="left",
        box=rich.box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for head in heads:
        table.add_column(head, justify="right" if head else "left")
    return table


def _ms(seconds: float) -> str:
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3f}"


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else f"{_ms(seconds)} ms"


def _joules(values: Sequence[float]) -> str:
    if len(values) > FEW_WORKERS:
        return f"{min(values):.3g}..{max(values):.3g}"
    return " ".join(f"{value:.3g}" for value in values)


def _numbers(values: Sequence[float]) -> str:
    if len(values) > FEW_WORKERS:
        return f"{min(values):.3f}..{max(values):.3f}"
    return " ".join(f"{value:.3f}" for value in values)

"""`run`: a scenario on real processes, slot by slot, and predicted latency against measured."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splitnet.commands.options import Json, print_json
from splitnet.errors import SettingsError, SplitnetError
from splitnet.terminal import Terminal

if TYPE_CHECKING:
    from splitnet.running.folder import RunFolder
    from splitnet.running.result import RunResult
    from splitnet.running.settings import RunSettings
    from splitnet.scenario import Scenario

app = typer.Typer()

DEFAULT_POLICY = "dpra"


@app.command(
    epilog="Examples: splitnet run small --slots 50 | splitnet run small --policy wtcm-fair --seed 1 -o wtcm "
    "| splitnet run small --resume wtcm | splitnet run floor.toml --strict --link-backend kernel "
    "| splitnet run my.toml --images pictures --audit 0.1 --json"
)
def run(
    scenario: Annotated[
        str, typer.Argument(metavar="SCENARIO", help="small, default, zoo, floor, large, or a .toml file.")
    ],
    policy: Annotated[
        str | None,
        typer.Option(
            help="dpra, wdpo, wdpo-best, wtcm, wtcm-c6, wtcm-fair, wtcm-fair-c6, gateway-only, least-gateway, "
            f"neurosurgeon, dads, ao, random, latency-only or oracle. By default {DEFAULT_POLICY}."
        ),
    ] = None,
    slots: Annotated[int | None, typer.Option(help="T; the scenario's by default.")] = None,
    v: Annotated[float | None, typer.Option("--V", help="Weight of latency; the scenario's by default.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the world, what devices see and what a policy draws; 0 by default.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The run's folder, new or empty; under runs/ by default.", metavar="DIR"),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with this run; what is not said here is as it was there.", metavar="DIR"),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse machines that need more cores than there are.")
    ] = False,
    link_backend: Annotated[
        str | None,
        typer.Option(help="user: senders keep the rate (default); kernel: namespaces and tc, for root on Linux."),
    ] = None,
    actuator: Annotated[
        str | None,
        typer.Option(help="pacing (default), cgroup, cpufreq or nvml: what keeps machines at their speed."),
    ] = None,
    rate_trace: Annotated[
        Path | None,
        typer.Option(
            help="A CSV of time_s,rate_bps that all links follow; else the scenario's rates.", metavar="FILE"
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Pictures that the devices see; seeded noise by default.", metavar="FOLDER")
    ] = None,
    audit: Annotated[
        float | None, typer.Option(help="Share of receipts that APs re-execute; 0 by default.", metavar="P")
    ] = None,
    fair_gamma: Annotated[
        float | None,
        typer.Option(help="gamma_0 of wtcm-fair and wtcm-fair-c6; by default from simulating dpra.", metavar="GAMMA"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Play a scenario with real processes, links and blocks; predicted slot latency against measured."""
    from splitnet.running.folder import read_settings
    from splitnet.running.preparing import core_plan, read_scenario
    from splitnet.running.run import open_run
    from splitnet.running.settings import RunSettings, millionths

    if output is not None and resume is not None:
        raise SettingsError(f"-o {output} begins a run and --resume {resume} goes on with one; give one of them")
    loaded = read_scenario(scenario)
    before = None if resume is None else read_settings(resume)
    given = {
        "policy": policy,
        "slots": slots,
        "v": v,
        "seed": seed,
        "actuator": actuator,
        "link_backend": link_backend,
        "rate_trace": None if rate_trace is None else str(rate_trace),
        "images": None if images is None else str(images),
        "audit_millionths": None if audit is None else millionths("--audit", audit),
        "fair_gamma": fair_gamma,
    }
    settings = RunSettings.given(before or RunSettings(DEFAULT_POLICY, loaded.slots, loaded.v), given)
    complaint = core_plan(loaded, strict).complaint
    if complaint is not None:
        print(f"warning: {complaint}", file=sys.stderr)
    with open_run(loaded, settings, path=output, resume=resume) as folder:
        try:
            found = _play(loaded, settings, folder, strict, Terminal(quiet=as_json))
        except (KeyboardInterrupt, SplitnetError):
            if folder.manifest is not None:
                again = f"splitnet run {shlex.quote(scenario)} --resume {shlex.quote(str(folder.path))}"
                print(f"played slots are kept; go on with: {again}", file=sys.stderr)
            raise
        _show(found, folder.path, as_json)


def _play(
    scenario: Scenario, settings: RunSettings, folder: RunFolder, strict: bool, terminal: Terminal
) -> RunResult:
    from splitnet.report.run import live_view
    from splitnet.running.run import play_run, prepare_run
    from splitnet.slot_record import SlotRecord

    with terminal.progress(f"preparing {scenario.name}") as step:
        prepared = prepare_run(scenario, settings, folder, strict=strict, step=step)
    recent: list[SlotRecord] = []
    limits = scenario.file.c6.u_min, scenario.file.c6.u_max
    title = f"{scenario.name}, {settings.policy}"
    with terminal.live() as show:

        def tell(phase: str) -> None:
            show(live_view(title, phase, settings.slots, limits, recent, prepared.first_slot))

        return play_run(prepared, folder, tell=tell, on_slot=recent.append)


def _show(found: RunResult, folder: Path, as_json: bool) -> None:
    """The figures, and all else that is left in the end."""
    from splitnet.report.run import run_lines
    from splitnet.report.run_figures import draw_run
    from splitnet.running.folder import read_records

    drawn = draw_run(found, read_records(folder), folder)
    if as_json:
        print_json(found.to_dict())
    else:
        terminal = Terminal()
        for line in run_lines(found):
            terminal.print(line)
        terminal.print(f"slots.jsonl, run.json and figures ({', '.join(drawn)}; PNG and SVG): {folder}")
    if found.chains and not found.verified:
        raise typer.Exit(1)

"""`simulate`: policies in the same simulated worlds, slot by slot."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from splitnet.commands.options import Json, print_json
from splitnet.errors import SettingsError
from splitnet.terminal import Terminal

if TYPE_CHECKING:
    from splitnet.scenario import Scenario
    from splitnet.simulating.jobs import SimulateSettings

app = typer.Typer()

DEFAULT_POLICIES = "dpra,wdpo,wtcm"
Value = TypeVar("Value", int, float)


@app.command(
    epilog="Examples: splitnet simulate default | splitnet simulate small --slots 200 --policy dpra,wtcm-fair,oracle "
    "| splitnet simulate default --V 1,4,16,64,256 --seeds 5 -o sweep | splitnet simulate default --resume sweep "
    "| splitnet simulate default --devices 4,8,16,24 | splitnet simulate my.toml --json"
)
def simulate(
    scenario: Annotated[
        str, typer.Argument(metavar="SCENARIO", help="default, small, zoo, floor, large, or a .toml file.")
    ],
    policy: Annotated[
        str | None,
        typer.Option(
            help="Separated by commas: dpra, wdpo, wdpo-best, wtcm, wtcm-c6, wtcm-fair, wtcm-fair-c6, gateway-only, "
            f"least-gateway, neurosurgeon, dads, ao, random, latency-only, oracle. By default {DEFAULT_POLICIES}."
        ),
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Of each run; the scenario's by default.")] = None,
    v: Annotated[
        str | None, typer.Option("--V", help="Weights of latency, as 1,4,16; the scenario's by default.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Worlds in which each policy is run; 3 by default.")] = None,
    devices: Annotated[
        str | None, typer.Option(help="Further numbers of DTs, as 4,8,16, at the scenario's (or the first) V.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The run's folder, new or empty; under runs/ by default.", metavar="DIR"),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with this run; what is not said here is as it was there.", metavar="DIR"),
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes; all usable cores by default.")] = None,
    as_json: Json = False,
) -> None:
    """Simulate DPRA and its baselines in the same worlds: latency, reputation, queues, and the figures of a paper."""
    from splitnet.files import write_json_atomic
    from splitnet.owned_folder import WAY_OUT
    from splitnet.report.simulation import infeasible_lines, simulation_table
    from splitnet.report.simulation_figures import draw_simulation
    from splitnet.scenario import load_scenario
    from splitnet.simulating.run import open_folder
    from splitnet.simulating.run import simulate as run_simulation

    if jobs is not None and jobs < 1:
        raise SettingsError(f"--jobs {jobs} is below 1")
    if output is not None and resume is not None:
        raise SettingsError(f"-o {output} begins a run and --resume {resume} goes on with one; give one of them")
    loaded = load_scenario(scenario)
    settings = _settings(loaded, policy, slots, v, seeds, devices, resume)
    terminal = Terminal(quiet=as_json)
    with open_folder(loaded, settings, path=output, resume=resume) as folder:
        try:
            with terminal.progress(f"simulating {loaded.name}") as step:
                found = run_simulation(loaded, settings, folder, workers=jobs, step=step)
        except KeyboardInterrupt:
            again = f"splitnet simulate {shlex.quote(scenario)} --resume {shlex.quote(str(folder.path))}"
            print(f"finished jobs are kept; go on with: {again}", file=sys.stderr)
            raise
        told = found.to_dict()
        write_json_atomic(folder.path / "simulation.json", told, WAY_OUT)
        drawn = draw_simulation(found, folder.path)
    if as_json:
        print_json(told)
        return
    terminal.print(simulation_table(found))
    for line in infeasible_lines(found):
        terminal.print(line)
    terminal.print(f"traces, simulation.json and figures ({', '.join(drawn)}; PNG and SVG): {folder.path}")


def _settings(
    scenario: Scenario,
    policy: str | None,
    slots: int | None,
    v: str | None,
    seeds: int | None,
    devices: str | None,
    resume: Path | None,
) -> SimulateSettings:
    """What was asked for; the rest is the scenario's, or that of the run that is gone on with."""
    from splitnet.simulating.folder import read_settings
    from splitnet.simulating.jobs import DEFAULT_SEEDS, SimulateSettings

    before = None if resume is None else read_settings(resume)
    policies = DEFAULT_POLICIES if policy is None else policy
    return SimulateSettings(
        policies=before.policies
        if before and policy is None
        else tuple(part.strip() for part in policies.split(",")),
        slots=slots if slots is not None else before.slots if before else scenario.slots,
        v=_numbers("--V", v, float) if v is not None else before.v if before else (scenario.v,),
        seeds=seeds if seeds is not None else before.seeds if before else DEFAULT_SEEDS,
        devices=_numbers("--devices", devices, int) if devices is not None else before.devices if before else (),
    )


def _numbers(option: str, text: str, kind: Callable[[str], Value]) -> tuple[Value, ...]:
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"{option} {text!r} are no numbers; give some such as 1,4,16") from None

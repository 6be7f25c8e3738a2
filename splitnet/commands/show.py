"""`show`: an earlier run again, of `bench` or of `run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitnet.commands.options import Json, print_json
from splitnet.errors import SettingsError
from splitnet.terminal import Terminal

app = typer.Typer()


@app.command(epilog="Examples: splitnet show runs/<folder> | splitnet show runs/<folder> --trace trace.json")
def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder of `bench` or of `run`.")],
    trace: Annotated[
        Path | None, typer.Option(help="Write a Chrome trace of every span; of `bench` only.", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show an earlier run again: its tables, its pictures; one of `run` also where it was broken off."""
    from splitnet.running.folder import is_run

    if not is_run(run):
        _show_bench(run, trace, as_json)
    elif trace is None:
        _show_run(run, as_json)
    else:
        raise SettingsError(f"--trace is for runs of `bench`, and {run} is one of `run`; leave it out")


def _show_bench(run: Path, trace: Path | None, as_json: bool) -> None:
    from splitnet.files import write_json_atomic
    from splitnet.report.bench import bench_table, chrome_trace, draw_bench, verdict
    from splitnet.rundir import load_result

    result = load_result(run)
    if trace is not None:
        write_json_atomic(trace, chrome_trace(result), "choose another file with --trace FILE")
    if as_json:
        print_json(result.to_dict())
        return
    draw_bench(result, run / "bench.png")
    terminal = Terminal()
    terminal.print(bench_table(result))
    terminal.print(verdict(result))


def _show_run(run: Path, as_json: bool) -> None:
    from splitnet.report.run import run_lines
    from splitnet.report.run_figures import draw_run
    from splitnet.running.folder import read_records
    from splitnet.running.run import read_run

    found = read_run(run)
    if as_json:
        print_json(found.to_dict())
        return
    drawn = draw_run(found, read_records(run), run)
    terminal = Terminal()
    for line in run_lines(found):
        terminal.print(line)
    terminal.print(f"figures ({', '.join(drawn)}; PNG and SVG): {run}")

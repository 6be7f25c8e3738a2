"""`probe-link`: how long messages take between a gateway and an AP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitnet.commands.options import Json, at_least_one, print_json
from splitnet.errors import SettingsError
from splitnet.terminal import Terminal

app = typer.Typer()

WAY_OUT = "choose another file with -o FILE"
MODEL = "toy_chain"
"""Workers hold a model; a probe runs none, so the smallest will do."""


@app.command(
    "probe-link",
    epilog="Examples: splitnet probe-link --link 50mbit+5ms | "
    "splitnet probe-link --gateway 10.0.0.2:7000 --ap 10.0.0.3:7000 -o link.json",
)
def probe_link(
    link: Annotated[
        str, typer.Option(help="loopback, a rate such as 50mbit, or with a delay 50mbit+5ms.")
    ] = "loopback",
    gateway: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A running gateway; else one is started.")
    ] = None,
    ap: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="A running AP; else one is started.")] = None,
    repeats: Annotated[int, typer.Option(help="Measured probes per size.")] = 10,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Keep the probes and the fit here, and a picture beside.", metavar="FILE"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure the link between two workers and fit its rate, its delay and its cost per message."""
    from splitnet.benching import Progress
    from splitnet.probing import probe_link as run_probe
    from splitnet.probing import save_probe
    from splitnet.report.link import draw_link, link_line, link_table
    from splitnet.runtime.address import Address
    from splitnet.runtime.link import Link
    from splitnet.session import Placement, SplitSession

    if output is not None:
        _check_output(output)
    at_least_one("--repeats", repeats)
    placement = Placement(
        gateway=Address.parse(gateway) if gateway else None,
        ap=Address.parse(ap) if ap else None,
        link=Link.parse(link),
    )
    terminal = Terminal(quiet=as_json)
    with terminal.progress("starting workers") as step:
        progress = Progress(say=lambda text: step(0, 0, text), step=step)
        with SplitSession(MODEL, placement, progress.say) as split:
            probe = run_probe(split, repeats=repeats, progress=progress)
    if output is not None:
        save_probe(output, probe, WAY_OUT)
        draw_link(probe, output.with_suffix(".png"), WAY_OUT)
    if as_json:
        print_json(probe.to_dict())
        return
    terminal.print(link_table(probe))
    terminal.print(link_line(probe.model()))
    if output is not None:
        terminal.print(f"raw probes: {output}, picture: {output.with_suffix('.png')}")


def _check_output(output: Path) -> None:
    """What would fail after the probe fails before it."""
    if output.suffix.lower() == ".png":
        raise SettingsError(f"-o {output} is the picture's place; give a file such as {output.with_suffix('.json')}")
    if output.is_dir():
        raise SettingsError(f"-o {output} is a folder; give a file in it, such as {output / 'link.json'}")
    if not output.absolute().parent.is_dir():
        raise SettingsError(f"-o {output}: the folder {output.parent} does not exist; make it or {WAY_OUT}")

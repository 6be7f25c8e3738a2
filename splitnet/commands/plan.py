"""`plan`: where to cut, predicted from profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splitnet.commands.options import Json, print_json, shape
from splitnet.errors import SettingsError
from splitnet.terminal import Terminal

if TYPE_CHECKING:
    from splitnet.profiling.profile import Profile

app = typer.Typer()


@app.command(
    epilog="Example: splitnet plan resnet18 --gateway-profile board.json --ap-profile server.json --rate 20mbit"
)
def plan(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The profiles' model.")],
    rate: Annotated[str, typer.Option(help="Of the link, with its unit: 20mbit, 1gbit.")],
    gateway_profile: Annotated[
        str | None, typer.Option(metavar="FILE", help="From `profile`; MODEL's shipped one by default.")
    ] = None,
    ap_profile: Annotated[
        str | None, typer.Option(metavar="FILE", help="From `profile`; MODEL's shipped one by default.")
    ] = None,
    delay: Annotated[str, typer.Option(help="One way: 5ms, 200us.")] = "0ms",
    codec: Annotated[str, typer.Option(help="none, fp16, int8, int8+lz4, or auto: the fastest.")] = "auto",
    rho: Annotated[float, typer.Option(help="The AP's speed, as a fraction of its full speed.")] = 1.0,
    probe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="From `probe-link -o`: what a message costs at its ends.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the best cut against the rate here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict every cut from two profiles: the best one, and how it changes with the link's rate."""
    from splitnet.controller.best_cut import best_by_rate, codec_costs, options
    from splitnet.controller.latency import MeasuredLatency, cut_table
    from splitnet.profiling.profile import load_profile
    from splitnet.report.plan import Plan, crossover_table, draw_plan, plan_table
    from splitnet.runtime.link import Link
    from splitnet.wire.codecs import CODECS, check_codec

    try:
        link = Link.parse(f"{rate}+{delay}")
    except SettingsError as error:
        raise SettingsError(f"--rate {rate} with --delay {delay}: {error}") from error
    if link.rate_bps is None:
        raise SettingsError(f"--rate {rate!r} is no rate; give one with its unit, such as 20mbit")
    if not 0 < rho <= 1:
        raise SettingsError(f"--rho {rho:g} is outside (0, 1]; 1 is the AP's full speed")
    codecs = list(CODECS) if codec == "auto" else [check_codec(codec)]
    at_gateway, at_ap = (load_profile(given or model) for given in (gateway_profile, ap_profile))
    facts = at_gateway.facts
    at_gateway.check_model(model, path=f"--gateway-profile {gateway_profile or model}")
    at_ap.check_model(model, facts.identity.graph, path=f"--ap-profile {ap_profile or model}")
    if at_ap.facts.identity.batch != facts.identity.batch:
        raise SettingsError(
            f"--ap-profile is of batch {at_ap.facts.identity.batch}, --gateway-profile of batch "
            f"{facts.identity.batch}; profile both with one --batch"
        )
    if at_ap.facts.identity.input_shapes != facts.identity.input_shapes:
        raise SettingsError(
            f"--ap-profile is of inputs {_shapes(at_ap)}, --gateway-profile of inputs {_shapes(at_gateway)}; "
            f"profile both with one --input-size"
        )
    message_s = 0.0
    if probe is not None:
        from splitnet.probing import load_probe

        message_s = load_probe(probe).model().message_s
    latencies = MeasuredLatency(at_gateway), MeasuredLatency(at_ap)
    found = options(
        facts,
        {name: cut_table(facts, *latencies, name).at_speed(rho) for name in codecs},
        {name: (codec_costs(at_gateway, name)[0], codec_costs(at_ap, name)[1]) for name in codecs},
        delay_s=link.delay_s,
        message_s=message_s,
    )
    planned = Plan(model, len(facts.layers), link.rate_bps, link.delay_s, tuple(found), tuple(best_by_rate(found)))
    if figure is not None:
        draw_plan(planned, figure)
    if as_json:
        print_json(planned.to_dict())
        return
    terminal = Terminal()
    terminal.print(plan_table(planned))
    terminal.print(crossover_table(planned))
    for role, profile, given in (("gateway", at_gateway, gateway_profile), ("AP", at_ap, ap_profile)):
        cpu = profile.machine.get("cpu_model") or "unknown CPU"
        shipped = "" if given else ", shipped with splitnet: profile your own"
        terminal.print(f"{role}: {profile.device}, {profile.threads} threads, {cpu}{shipped}")
    if figure is not None:
        terminal.print(f"picture: {figure}")


def _shapes(profile: Profile) -> str:
    return ", ".join(shape(sizes) for sizes in profile.facts.identity.input_shapes)

"""`worker`: one side of a split, by hand."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from splitnet.commands.options import (
    Batch,
    InputShape,
    InputSize,
    Seed,
    Threads,
    Weights,
    at_least_one,
    reference,
)
from splitnet.errors import SettingsError

app = typer.Typer()


@app.command(
    epilog="Example: splitnet worker ap --listen 0.0.0.0:7000 --insecure --device cuda:0 --model net.py:make"
)
def worker(
    role: Annotated[str, typer.Argument(metavar="gateway|ap", help="What this worker is.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Port 0 takes a free one.")] = "127.0.0.1:0",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:k.")] = "cpu",
    threads: Threads = 1,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Held from the start; code runs only if named here."),
    ] = None,
    weights: Weights = None,
    seed: Seed = 0,
    batch: Batch = 1,
    input_size: InputSize = None,
    input_shape: InputShape = None,
    cores: Annotated[str | None, typer.Option(help="Pin this worker to CPU cores, such as 0,1.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow an address off loopback, in the clear and for anyone.")
    ] = False,
    follow_stdin: Annotated[bool, typer.Option("--follow-stdin", help="End when standard input closes.")] = False,
) -> None:
    """Run a gateway or an AP until it is interrupted; prints one JSON line once it listens."""
    from splitnet.resident import parse_device
    from splitnet.runtime.address import Address
    from splitnet.runtime.ap import ApSession
    from splitnet.runtime.engine import Engine
    from splitnet.runtime.gateway import GatewaySession
    from splitnet.runtime.worker import serve

    sessions = {"gateway": GatewaySession, "ap": ApSession}
    if role not in sessions:
        raise SettingsError(f"role {role!r} is unknown: give gateway or ap")
    names = model or []
    _pin(cores)
    engine = Engine(parse_device(device), at_least_one("--threads", threads), own_code=names)

    def preload(into: Engine) -> None:
        for name in names:
            into.keep(reference(name, weights, seed, batch, input_size, input_shape))

    serve(
        role,
        sessions[role],
        address=Address.parse(listen),
        engine=engine,
        preload=preload,
        insecure=insecure,
        follow_stdin=follow_stdin,
    )


def _pin(cores: str | None) -> None:
    if cores is None:
        return
    try:
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    except (ValueError, OSError, AttributeError) as error:
        usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "not told by this system"
        raise SettingsError(f"--cores {cores!r} cannot be had ({error}); usable cores: {usable}") from None

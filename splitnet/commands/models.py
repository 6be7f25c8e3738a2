"""What can be sliced and where: `models`, `layers`, `check`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from splitnet.commands.options import (
    Batch,
    InputShape,
    InputSize,
    Json,
    Model,
    Seed,
    Threads,
    Weights,
    at_least_one,
    print_json,
    reference,
    shape,
)
from splitnet.errors import SettingsError
from splitnet.terminal import Terminal

app = typer.Typer()


@app.command(epilog="Example: splitnet models --family segmentation")
def models(
    family: Annotated[
        str | None, typer.Option(help="classification, segmentation, video, quantization or toy.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the models that can be asked for by name."""
    from splitnet.models.catalogue import catalogue

    entries = catalogue()
    families = sorted({entry.family for entry in entries})
    if family is not None and family not in families:
        raise SettingsError(f"--family {family} is unknown: give one of {', '.join(families)}")
    chosen = [entry for entry in entries if family in (None, entry.family)]
    if as_json:
        print_json([dataclasses.asdict(entry) for entry in chosen])
        return
    terminal = Terminal()
    terminal.table(
        ("model", "family", "input", "published weights"),
        [
            (entry.name, entry.family, " ".join(map(shape, entry.input_shapes)), ", ".join(entry.weights))
            for entry in chosen
        ],
        caption=f"{len(chosen)} models; your own: path/to/file.py:factory, package.module:factory, program.pt2",
    )


@app.command(epilog="Example: splitnet layers resnet18")
def layers(
    model: Model,
    weights: Weights = None,
    seed: Seed = 0,
    batch: Batch = 1,
    input_size: InputSize = None,
    input_shape: InputShape = None,
    as_json: Json = False,
) -> None:
    """Show a model's layers: where it can be cut, and what would cross each cut."""
    from splitnet.graph import layer_graph
    from splitnet.models.build import build_model

    ref = reference(model, weights, seed, batch, input_size, input_shape)
    terminal = Terminal(quiet=as_json)
    with terminal.waiting(f"tracing {model}"):
        built = build_model(ref)
        graph = layer_graph(built.module, built.args, built.kwargs, name=model, exported=built.exported)
    records = graph.to_records()
    if as_json:
        print_json({"model": model, "frontend": graph.trace.frontend, "layers": graph.last_cut, "cuts": records})
        return
    from splitnet.report.drawing import human_bytes

    terminal.table(
        ("cut", "layer", "kind", "clean", "tensors", "payload", "shapes"),
        [
            (
                str(record["cut"]),
                record["layer"],
                record["kind"],
                "clean" if record["clean"] else "",
                str(len(record["shapes"])),
                human_bytes(record["payload_bytes"]),
                (record["refused"] and f"refused: {record['refused']}") or " ".join(map(shape, record["shapes"])),
            )
            for record in records
        ],
        caption=f"{graph.last_cut} layers, traced by torch.{graph.trace.frontend}"
        + (f" because {graph.trace.fallback_reason}" if graph.trace.fallback_reason else ""),
    )


@app.command(epilog="Example: splitnet check resnet18 --cuts 20")
def check(
    model: Model,
    cuts: Annotated[str, typer.Option(help="all, a count, at:k1,k2,… or a layer's name.")] = "all",
    weights: Weights = None,
    seed: Seed = 0,
    batch: Batch = 1,
    input_size: InputSize = None,
    input_shape: InputShape = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Prove on this machine that cuts give the unsplit model's bits; exit status 1 if any differs."""
    import torch

    from splitnet.checking import check as check_model

    ref = reference(model, weights, seed, batch, input_size, input_shape)
    torch.set_num_threads(at_least_one("--threads", threads))
    terminal = Terminal(quiet=as_json)
    with terminal.progress(f"checking {model}") as step:
        result = check_model(ref, cuts, step)
    if as_json:
        print_json(result.to_dict())
    else:
        for cut in result.different:
            terminal.print(f"cut {cut.cut} (after {cut.layer}) differs by {cut.max_error:.3g}")
        for index, reason in result.refused.items():
            terminal.print(f"cut {index} is refused: {reason}")
        if not result.varies:
            terminal.print("the output does not depend on the input, so equality proves nothing")
        equal = len(result.checked) - len(result.different)
        terminal.print(
            f"{model}: {equal} of {len(result.checked)} cuts tested are bitwise equal to the unsplit model "
            f"({result.cuts} cuts, {len(result.refused)} refused, traced by torch.{result.frontend})"
        )
    if not result.passed:
        raise typer.Exit(1)

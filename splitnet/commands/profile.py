"""`profile`: what a model costs on this machine's device, saved and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

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
)
from splitnet.errors import SettingsError
from splitnet.terminal import Terminal

FIGURE_WAY_OUT = "choose another file with --figure FILE"


class _ModelOrShow(TyperGroup):
    """`profile MODEL` measures; `profile show FILE` shows. What is no subcommand is a MODEL."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args:
            raise SettingsError("profile needs a MODEL, or `show FILE`; see `splitnet profile --help`")
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["measure", *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


app = typer.Typer()
group = typer.Typer(
    cls=_ModelOrShow,
    help="Profile a model on this machine: `profile MODEL`, options as for `profile measure`. "
    "`profile show FILE` shows one again.",
    epilog="Examples: splitnet profile resnet18 -o resnet18.json | splitnet profile show resnet18.json",
    rich_markup_mode=None,
)
app.add_typer(group, name="profile")


@group.command(epilog="Example: splitnet profile resnet18 -o resnet18.json")
def measure(
    model: Model,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Keep the profile here.", metavar="FILE")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:k.")] = "cpu",
    threads: Threads = 1,
    repeats: Annotated[int, typer.Option(help="Measured rounds.")] = 20,
    anchors: Annotated[int, typer.Option(help="Cuts whose halves are timed alone.")] = 12,
    weights: Weights = None,
    seed: Seed = 0,
    batch: Batch = 1,
    input_size: InputSize = None,
    input_shape: InputShape = None,
    as_json: Json = False,
) -> None:
    """Measure FLOPs, sizes and times of every layer, and of the halves at every cut."""
    from splitnet.profiling.profiler import ProfileSettings, profile_model
    from splitnet.report.profile import profile_table
    from splitnet.resident import parse_device

    ref = reference(model, weights, seed, batch, input_size, input_shape)
    settings = ProfileSettings(repeats=repeats, anchors=anchors)
    where = parse_device(device)
    if output is not None:
        _check_place(output)
    terminal = Terminal(quiet=as_json)
    with terminal.progress(f"profiling {model}") as step:
        profile = profile_model(ref, where, at_least_one("--threads", threads), settings, step)
    if output is not None:
        profile.save(output)
    if as_json:
        print_json(profile.to_file())
        return
    terminal.print(profile_table(profile))
    terminal.print(f"profile: {output}" if output else "not kept; -o FILE keeps it")


@group.command(epilog="Example: splitnet profile show resnet18.json --figure resnet18.png")
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A profile, or a model whose profile is shipped.")],
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The picture; beside the profile by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a profile's table and draw FLOPs, payload and time along the layers."""
    from splitnet.profiling.profile import load_profile
    from splitnet.report.profile import draw_profile, profile_table

    profile = load_profile(file)
    if as_json:
        print_json(profile.to_file())
        return
    beside = file if file.exists() else Path(file.name)  # a shipped one is drawn where the user is
    picture = figure or beside.with_suffix(".png")
    if file.exists() and picture.resolve() == file.resolve():
        raise SettingsError(f"the picture would take the place of the profile {file}; {FIGURE_WAY_OUT}")
    draw_profile(profile, picture)
    terminal = Terminal()
    terminal.print(profile_table(profile))
    terminal.print(f"picture: {picture}")


def _check_place(output: Path) -> None:
    """Before minutes of measuring: a profile can be written there."""
    try:
        if not output.absolute().parent.is_dir():
            raise SettingsError(f"-o {output}: the folder {output.parent} does not exist; make it or choose another")
        if output.exists() and not output.is_file():
            raise SettingsError(f"-o {output} is no file; name one, such as profile.json")
    except OSError as error:
        raise SettingsError(f"-o {output}: {error.strerror}; choose another file") from error

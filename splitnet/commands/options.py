"""Arguments that several commands take, and what they become."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splitnet.errors import SettingsError

if TYPE_CHECKING:
    from splitnet.models.reference import ModelRef

MODEL_HELP = "A name (`splitnet models`), path/to/file.py:factory, package.module:factory, or program.pt2."

Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
Weights = Annotated[
    str | None, typer.Option(help="Published weights, such as DEFAULT; without it a seeded random start.")
]
Seed = Annotated[int, typer.Option(help="Seeds the random start and the example input.")]
Batch = Annotated[int, typer.Option(help="Data points in one inference.")]
InputSize = Annotated[
    int | None, typer.Option(help="Side of the square input in pixels; the model's own by default.")
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(help="For a factory that returns a bare module: 3,224,224, without the batch; once per input."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Threads = Annotated[int, typer.Option(help="Compute threads of each worker.")]


def reference(
    model: str,
    weights: str | None,
    seed: int,
    batch: int,
    input_size: int | None,
    input_shape: list[str] | None,
) -> ModelRef:
    from splitnet.models.reference import ModelRef

    shapes = tuple(parse_shape(text) for text in input_shape) if input_shape else None
    return ModelRef(model, weights, seed, batch, input_size, shapes)


def parse_shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise SettingsError(f"--input-shape {text!r} is no shape; give sizes such as 3,224,224") from None


def at_least_one(option: str, value: int) -> int:
    if value < 1:
        raise SettingsError(f"{option} {value} is below 1")
    return value


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


def shape(sizes: Any) -> str:
    return "x".join(map(str, sizes)) or "scalar"

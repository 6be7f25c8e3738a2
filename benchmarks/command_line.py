"""What the benchmarks' command lines share: options, refused before anything is measured, and how results are kept.

A benchmark takes minutes, so a place that cannot be written and a section that does not exist are found first.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from splitnet.files import refusals, write_json_atomic

RESULTS = Path(__file__).parent / "results"
WAY_OUT = "choose another --output"


def parser_of(
    about: str | None, name: str, *, quick: str | None = None, sections: Iterable[str] = ()
) -> argparse.ArgumentParser:
    """`--output`, which is `results/NAME.json` unless given; `--quick` and `--only`, where there are such.

    `about` is the module's docstring, whose first line the help shows; `options.only` is a tuple of sections.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0] if about else None)
    if quick:
        parser.add_argument("--quick", action="store_true", help=quick)
    known = tuple(sections)
    if known:
        parser.add_argument(
            "--only",
            type=partial(_sections, known),
            default=known,
            metavar="SECTIONS",
            help=f"of {','.join(known)}; separated by commas",
        )
    parser.add_argument(
        "--output", type=_output, default=RESULTS / f"{name}.json", help="a .json file; pictures go beside it"
    )
    return parser


def keep(results: Mapping[str, Any], output: Path) -> None:
    """Write them whole, in a folder that is made. Raises SettingsError where that cannot be."""
    with refusals(output, WAY_OUT):
        output.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomic(output, results, WAY_OUT)


def _sections(known: tuple[str, ...], text: str) -> tuple[str, ...]:
    asked = tuple(text.split(","))
    for name in asked:
        if name not in known:
            raise argparse.ArgumentTypeError(f"no section is called {name!r}; there are {', '.join(known)}")
    return asked


def _output(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".json" or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no .json file; {WAY_OUT}")
    if any(above.exists() and not above.is_dir() for above in path.parents):
        raise argparse.ArgumentTypeError(f"{text} lies below a file; {WAY_OUT}")
    return path

"""The `splitnet` command: a thin shell over the Python API.

What a user can mend is one line on standard error and exit status 2. With `--json` standard output holds one
JSON object and nothing else; progress goes to standard error.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from splitnet.commands import bench, chain, keys, link, models, plan, profile, run, show, simulate, validate, worker
from splitnet.errors import ModelError, SplitnetError

app = typer.Typer(
    name="splitnet",
    help="Slice any PyTorch model at any layer and measure the split between two real workers.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of writing to a descriptor whose file has no name here: standard output."""


@app.callback()
def _root(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; anywhere on the line.")
    ] = False,
) -> None:
    pass  # main() takes --debug from the line before it is parsed


for part in (models, bench, show, profile, plan, link, validate, simulate, run, worker, keys, chain):
    app.add_typer(part.app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ends the process with its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"] or ["--help"]
    try:
        if "--help" not in arguments:
            _require_torch_pair()
        status = typer.main.get_command(app).main(arguments, prog_name="splitnet", standalone_mode=False)
        if status == 130:  # the parser's own handling of Ctrl-C
            raise KeyboardInterrupt
        sys.stdout.flush()  # what cannot be written is told below, and not when the interpreter has gone
    except (KeyboardInterrupt, typer.Abort):
        _end("interrupted", 130)
    except SplitnetError as error:
        if debug:
            raise
        _end(str(error), 2)
    except BrokenPipeError:  # `| head`
        _drop_output()
        sys.exit(1)
    except OSError as error:
        if debug or error.filename is not None or error.errno not in NOT_WRITTEN:
            raise
        _drop_output()
        _end(f"cannot write to standard output: {error.strerror}; send it elsewhere, or make room", 2)
    except Exception as error:
        problem = getattr(error, "format_message", None)  # the parser's own errors
        if problem is None or debug:
            raise
        command = getattr(getattr(error, "ctx", None), "command_path", "splitnet")
        _end(f"{problem().rstrip('.')}; see `{command} --help`", 2)
    sys.exit(status if isinstance(status, int) else 0)


def _drop_output() -> None:
    """What is left in the buffer goes nowhere, else the interpreter would complain of it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(message: str, status: int) -> None:
    print(f"splitnet: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


def _require_torch_pair() -> None:
    """torchvision is built for one torch; beside another it fails in ways that a user cannot read."""
    try:
        import torch  # noqa: F401
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        from importlib import metadata

        found = []
        for name in ("torch", "torchvision"):
            try:
                found.append(f"{name} {metadata.version(name)}")
            except metadata.PackageNotFoundError:
                found.append(f"no {name}")
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{' and '.join(found)} do not fit together ({reason}); "
            f"install both in one step: pip install --upgrade torch torchvision"
        ) from error

"""The `splitnet` command: a thin shell over the Python API.

What a user can mend is one line on standard error and exit status 2. With `--json` standard output holds one
JSON object and nothing else; progress goes to standard error.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splitnet.errors import ModelError, SettingsError, SplitnetError
from splitnet.terminal import Terminal

if TYPE_CHECKING:
    from splitnet.models.reference import ModelRef

app = typer.Typer(
    name="splitnet",
    help="Slice any PyTorch model at any layer and measure the split between two real workers.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

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


@app.callback()
def _root(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; anywhere on the line.")
    ] = False,
) -> None:
    pass  # main() takes --debug from the line before it is parsed


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
        _print_json([dataclasses.asdict(entry) for entry in chosen])
        return
    terminal = Terminal()
    terminal.table(
        ("model", "family", "input", "published weights"),
        [
            (entry.name, entry.family, " ".join(map(_shape, entry.input_shapes)), ", ".join(entry.weights))
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

    ref = _reference(model, weights, seed, batch, input_size, input_shape)
    terminal = Terminal(quiet=as_json)
    with terminal.waiting(f"tracing {model}"):
        built = build_model(ref)
        graph = layer_graph(built.module, built.args, built.kwargs, name=model, exported=built.exported)
    records = graph.to_records()
    if as_json:
        _print_json({"model": model, "frontend": graph.trace.frontend, "layers": graph.last_cut, "cuts": records})
        return
    from splitnet.report import human_bytes

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
                (record["refused"] and f"refused: {record['refused']}") or " ".join(map(_shape, record["shapes"])),
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

    ref = _reference(model, weights, seed, batch, input_size, input_shape)
    torch.set_num_threads(_at_least_one("--threads", threads))
    terminal = Terminal(quiet=as_json)
    with terminal.progress(f"checking {model}") as step:
        result = check_model(ref, cuts, step)
    if as_json:
        _print_json(result.to_dict())
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


@app.command(
    epilog="Examples: splitnet bench resnet18 | splitnet bench vgg16 --link 50mbit --codec int8 | "
    "splitnet bench net.py:make --gateway 10.0.0.2:7000 --ap 10.0.0.3:7000"
)
def bench(
    model: Model,
    cuts: Annotated[
        str, typer.Option(help="all, a count (both ends included), at:k1,k2,… or a layer's name.")
    ] = "12",
    codec: Annotated[str, typer.Option(help="none, fp16, int8 or int8+lz4, for activations.")] = "none",
    link: Annotated[
        str, typer.Option(help="loopback, a rate such as 50mbit, or with a delay 50mbit+5ms.")
    ] = "loopback",
    repeats: Annotated[int, typer.Option(help="Measured inferences per cut.")] = 20,
    warmup: Annotated[int, typer.Option(help="Inferences per cut before those.")] = 3,
    weights: Weights = None,
    seed: Seed = 0,
    batch: Batch = 1,
    input_size: InputSize = None,
    input_shape: InputShape = None,
    input_path: Annotated[
        Path | None,
        typer.Option("--input", help="A picture or a folder of pictures.", metavar="IMAGE|FOLDER"),
    ] = None,
    gateway: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A running gateway; else one is started.")
    ] = None,
    ap: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="A running AP; else one is started.")] = None,
    gateway_device: Annotated[str, typer.Option(help="cpu, cuda or cuda:k, for a gateway that is started.")] = "cpu",
    ap_device: Annotated[str, typer.Option(help="cpu, cuda or cuda:k, for an AP that is started.")] = "cpu",
    threads: Threads = 1,
    checksum: Annotated[
        bool | None, typer.Option(help="A checksum on every body; on off loopback by default.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="Write a Chrome trace of every span; it opens in Perfetto.", metavar="FILE"),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where the run's folder is made.", metavar="DIR")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """Measure a model split at several cuts, beside the unsplit model in the same run."""
    from splitnet.benching import BenchSettings, Progress
    from splitnet.benching import bench as run_bench
    from splitnet.report import bench_table, chrome_trace, draw_bench, verdict
    from splitnet.rundir import write_json_atomic
    from splitnet.runtime.address import Address
    from splitnet.runtime.link import Link
    from splitnet.session import Placement

    ref = _reference(model, weights, seed, batch, input_size, input_shape)
    settings = BenchSettings(cuts=cuts, codec=codec, repeats=repeats, warmup=warmup, seed=seed, images=input_path)
    placement = Placement(
        gateway=Address.parse(gateway) if gateway else None,
        ap=Address.parse(ap) if ap else None,
        gateway_device=gateway_device,
        ap_device=ap_device,
        threads=_at_least_one("--threads", threads),
        link=Link.parse(link),
        checksum=checksum,
    )
    if trace is not None and not trace.absolute().parent.is_dir():
        raise SettingsError(f"--trace {trace}: the folder {trace.parent} does not exist; make it or choose another")
    terminal = Terminal(quiet=as_json)
    with terminal.progress(f"starting workers for {model}") as step:
        result = run_bench(
            ref,
            settings,
            placement,
            runs=runs,
            progress=Progress(say=lambda text: step(0, 0, text), step=step),
        )
    assert result.run_dir is not None
    draw_bench(result, Path(result.run_dir) / "bench.png")
    if trace is not None:
        write_json_atomic(trace, chrome_trace(result), "choose another file with --trace FILE")
    if as_json:
        _print_json(result.to_dict())
        return
    terminal.print(bench_table(result))
    terminal.print(verdict(result))
    terminal.print(f"raw samples and bench.png: {result.run_dir}")
    if trace is not None:
        terminal.print(f"trace (open in ui.perfetto.dev): {trace}")


@app.command(epilog="Example: splitnet show runs/<folder> --trace trace.json")
def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    trace: Annotated[Path | None, typer.Option(help="Write a Chrome trace of every span.", metavar="FILE")] = None,
    as_json: Json = False,
) -> None:
    """Show an earlier run again: its table, its picture, its trace."""
    from splitnet.report import bench_table, chrome_trace, draw_bench, verdict
    from splitnet.rundir import load_result, write_json_atomic

    result = load_result(run)
    if trace is not None:
        write_json_atomic(trace, chrome_trace(result), "choose another file with --trace FILE")
    if as_json:
        _print_json(result.to_dict())
        return
    draw_bench(result, run / "bench.png")
    terminal = Terminal()
    terminal.print(bench_table(result))
    terminal.print(verdict(result))


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
    from splitnet.runtime.address import Address
    from splitnet.runtime.ap import ApSession
    from splitnet.runtime.engine import Engine, parse_device
    from splitnet.runtime.gateway import GatewaySession
    from splitnet.runtime.worker import serve

    sessions = {"gateway": GatewaySession, "ap": ApSession}
    if role not in sessions:
        raise SettingsError(f"role {role!r} is unknown: give gateway or ap")
    names = model or []
    _pin(cores)
    engine = Engine(parse_device(device), _at_least_one("--threads", threads), own_code=names)

    def preload(into: Engine) -> None:
        for name in names:
            into.keep(_reference(name, weights, seed, batch, input_size, input_shape))

    serve(
        role,
        sessions[role],
        address=Address.parse(listen),
        engine=engine,
        preload=preload,
        insecure=insecure,
        follow_stdin=follow_stdin,
    )


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
    except (KeyboardInterrupt, typer.Abort):
        _end("interrupted", 130)
    except SplitnetError as error:
        if debug:
            raise
        _end(str(error), 2)
    except Exception as error:
        problem = getattr(error, "format_message", None)  # the parser's own errors
        if problem is None or debug:
            raise
        _end(f"{problem().rstrip('.')}; see `splitnet --help`", 2)
    sys.exit(status if isinstance(status, int) else 0)


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


def _reference(
    model: str,
    weights: str | None,
    seed: int,
    batch: int,
    input_size: int | None,
    input_shape: list[str] | None,
) -> ModelRef:
    from splitnet.models.reference import ModelRef

    shapes = tuple(_parse_shape(text) for text in input_shape) if input_shape else None
    return ModelRef(model, weights, seed, batch, input_size, shapes)


def _parse_shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise SettingsError(f"--input-shape {text!r} is no shape; give sizes such as 3,224,224") from None


def _at_least_one(option: str, value: int) -> int:
    if value < 1:
        raise SettingsError(f"{option} {value} is below 1")
    return value


def _pin(cores: str | None) -> None:
    if cores is None:
        return
    try:
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    except (ValueError, OSError, AttributeError) as error:
        usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "not told by this system"
        raise SettingsError(f"--cores {cores!r} cannot be had ({error}); usable cores: {usable}") from None


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


def _shape(sizes: Any) -> str:
    return "x".join(map(str, sizes)) or "scalar"

"""The main job: `bench`."""

from __future__ import annotations

from pathlib import Path
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
)
from splitnet.errors import SettingsError
from splitnet.terminal import Terminal

app = typer.Typer()


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
    from splitnet.files import write_json_atomic
    from splitnet.report.bench import bench_table, chrome_trace, draw_bench, verdict
    from splitnet.runtime.address import Address
    from splitnet.runtime.link import Link
    from splitnet.session import Placement

    ref = reference(model, weights, seed, batch, input_size, input_shape)
    settings = BenchSettings(cuts=cuts, codec=codec, repeats=repeats, warmup=warmup, seed=seed, images=input_path)
    placement = Placement(
        gateway=Address.parse(gateway) if gateway else None,
        ap=Address.parse(ap) if ap else None,
        gateway_device=gateway_device,
        ap_device=ap_device,
        threads=at_least_one("--threads", threads),
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
        print_json(result.to_dict())
        return
    terminal.print(bench_table(result))
    terminal.print(verdict(result))
    terminal.print(f"raw samples and bench.png: {result.run_dir}")
    if trace is not None:
        terminal.print(f"trace (open in ui.perfetto.dev): {trace}")

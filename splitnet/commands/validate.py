"""Latency models against real workers: `calibrate`, `validate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from splitnet.commands.options import Json, Seed, Threads, Weights, at_least_one, print_json
from splitnet.errors import SettingsError
from splitnet.files import refusals
from splitnet.terminal import Terminal

if TYPE_CHECKING:
    import torch

    from splitnet.models.reference import ModelRef
    from splitnet.profiling.corpus import Corpus
    from splitnet.profiling.profile import Profile
    from splitnet.profiling.profiler import Step

app = typer.Typer()


@app.command(epilog="Examples: splitnet calibrate | splitnet calibrate --device cuda -o gpu.json")
def calibrate(
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:k.")] = "cpu",
    threads: Threads = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Keep it here, not in the cache.", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Profile a fixed set of models on one device, for predictions of models never profiled; some minutes."""
    from splitnet.controller.layer_latency import held_out_errors
    from splitnet.resident import parse_device

    where = parse_device(device)
    terminal = Terminal(quiet=as_json)
    with terminal.progress(f"calibrating {device}") as step:
        corpus, path = _collect(where, at_least_one("--threads", threads), output, step)
    found = held_out_errors(corpus.profiles)
    if as_json:
        print_json({"file": str(path), "device": corpus.device, "threads": corpus.threads, "held_out": found})
        return
    terminal.table(
        ("model", "passes ms", "predicted from the others", "error"),
        [
            (name, f"{1e3 * row['measured_s']:.2f}", f"{1e3 * row['predicted_s']:.2f}", f"{row['error']:+.1%}")
            for name, row in found.items()
        ],
        caption=f"calibration: {path}",
    )


@app.command(
    epilog="Examples: splitnet validate resnet18 | splitnet validate resnet18 vgg11 --links loopback,50mbit+5ms "
    "--codecs none,int8 | splitnet validate resnet18 --gateway-profile r18.json --ap-profile r18.json --strict"
)
def validate(
    models: Annotated[list[str], typer.Argument(metavar="MODEL…", help="Names, as for `bench`.")],
    links: Annotated[str, typer.Option(help="Separated by commas, each as for `bench --link`.")] = "loopback,50mbit",
    codecs: Annotated[str, typer.Option(help="Separated by commas: none, fp16, int8, int8+lz4.")] = "none",
    batches: Annotated[str, typer.Option(help="Batch sizes, separated by commas.")] = "1",
    cuts: Annotated[str, typer.Option(help="all, a count (both ends included), at:k1,k2,… or a name.")] = "12",
    clean: Annotated[bool, typer.Option("--clean", help="Choose among cuts where one tensor crosses.")] = False,
    repeats: Annotated[int, typer.Option(help="Measured inferences of every case.")] = 20,
    blocks: Annotated[int, typer.Option(help="How often calibration is repeated in the run.")] = 4,
    weights: Weights = None,
    seed: Seed = 0,
    gateway: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="A running gateway.")] = None,
    ap: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="A running AP.")] = None,
    gateway_device: Annotated[str, typer.Option(help="For a gateway that is started.")] = "cpu",
    ap_device: Annotated[str, typer.Option(help="For an AP that is started.")] = "cpu",
    threads: Threads = 1,
    gateway_profile: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Predict from it, not from this run; once per model.")
    ] = None,
    ap_profile: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="The same for the AP.")] = None,
    gateway_calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="From `calibrate`; this device's own by default.")
    ] = None,
    ap_calibration: Annotated[Path | None, typer.Option(metavar="FILE", help="The same for the AP.")] = None,
    per_layer: Annotated[
        bool, typer.Option(help="Judge the per-layer model too; calibrates first where there is no calibration.")
    ] = True,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse profiles and calibrations of other machines.")
    ] = False,
    runs: Annotated[Path, typer.Option(help="Where the run's folder is made.", metavar="DIR")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """Predict first, then measure with real workers, and say how wrong each latency model was."""
    from splitnet.benching import Progress
    from splitnet.files import write_json_atomic
    from splitnet.models.reference import ModelRef
    from splitnet.report.validation import WAY_OUT, draw_cuts, draw_scatter, summary, validation_tables
    from splitnet.resident import parse_device
    from splitnet.rundir import create_run_dir
    from splitnet.runtime.address import Address
    from splitnet.runtime.link import Link
    from splitnet.session import Placement
    from splitnet.validating import Sources, ValidateSettings
    from splitnet.validating import validate as run_validation

    refs = [ModelRef(model, weights, seed, batch) for model in models for batch in _batches(batches)]
    settings = ValidateSettings(
        cuts=cuts,
        clean=clean,
        links=tuple(Link.parse(link) for link in links.split(",")),
        codecs=tuple(codecs.split(",")),
        repeats=repeats,
        blocks=blocks,
        seed=seed,
        strict=strict,
    )
    placement = Placement(
        gateway=Address.parse(gateway) if gateway else None,
        ap=Address.parse(ap) if ap else None,
        gateway_device=gateway_device,
        ap_device=ap_device,
        threads=at_least_one("--threads", threads),
    )
    profiles = _profiles(models, {"gateway": gateway_profile or [], "ap": ap_profile or []})
    terminal = Terminal(quiet=as_json)
    corpora: dict[str, Corpus] = {}
    if runs.exists() and not runs.is_dir():  # said now, not after a long run
        raise SettingsError(f"cannot write {runs}: Not a directory; {WAY_OUT}")
    with terminal.progress(f"starting workers for {', '.join(models)}") as step:
        for role, address, device, file in (
            ("gateway", gateway, gateway_device, gateway_calibration),
            ("ap", ap, ap_device, ap_calibration),
        ):
            if per_layer and (file is not None or address is None):
                corpora[role] = _corpus(file, parse_device(device), threads, refs, step)
        sources = Sources(profiles, corpora)
        result = run_validation(
            refs, settings, placement, sources, Progress(say=lambda text: step(0, 0, text), step=step)
        )
    folder = create_run_dir(runs, f"validate-{models[0]}")
    found = {**result.to_dict(), "run_dir": str(folder)}
    write_json_atomic(folder / "validation.json", found, WAY_OUT)
    draw_scatter(result, folder / "scatter.png")
    draw_cuts(result, folder / "cuts.png")
    if as_json:
        print_json(found)
        return
    for table in validation_tables(result):
        terminal.print(table)
    terminal.print(summary(result))
    if per_layer and "per-layer" not in result.predictors:
        terminal.print("per-layer was left out: a worker elsewhere needs its own --…-calibration FILE")
    for warning in result.settings["warnings"]:
        terminal.print(f"warning: {warning}")
    terminal.print(f"cases with raw samples, scatter.png and cuts.png: {folder}")


def _batches(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise SettingsError(f"--batches {text!r} are no numbers; give sizes such as 1,4") from None


def _profiles(models: list[str], files: dict[str, list[Path]]) -> dict[tuple[str, str], Profile]:
    """By model and role; a profile of a model that is not asked for is an error."""
    from splitnet.profiling.profile import load_profile

    found = {}
    for role, paths in files.items():
        for path in paths:
            profile = load_profile(path)
            name = profile.facts.identity.name
            if name not in models:
                raise SettingsError(f"--{role}-profile {path} is of {name}, which is not validated; name its model")
            found[name, role] = profile
    return found


def _corpus(file: Path | None, device: torch.device, threads: int, refs: list[ModelRef], step: Step) -> Corpus:
    """A calibration from a file, or this machine's from the cache, made now if it is not there."""
    from splitnet.cache import calibration_path
    from splitnet.models.build import build_model
    from splitnet.profiling.corpus import load_corpus
    from splitnet.profiling.machine import machine_fingerprint

    if file is not None:
        return load_corpus(file)
    path = calibration_path(machine_fingerprint(), str(device), threads)
    if path.exists():
        return load_corpus(path)
    for ref in refs:  # a misspelt one is found before the minutes that calibrating takes
        build_model(ref)
    return _collect(device, threads, None, step)[0]


def _collect(device: torch.device, threads: int, output: Path | None, step: Step) -> tuple[Corpus, Path]:
    from splitnet.cache import calibration_path
    from splitnet.profiling.corpus import collect
    from splitnet.profiling.machine import machine_fingerprint

    path = output or calibration_path(machine_fingerprint(), str(device), threads)
    if output is None:
        with refusals(path.parent, "set SPLITNET_CACHE to another folder, or give -o FILE"):
            path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.absolute().parent.is_dir():
        raise SettingsError(f"-o {path}: the folder {path.parent} does not exist; make it or choose another")
    corpus = collect(device, threads, step)
    corpus.save(path)
    return corpus, path

"""How wrong the latency models are: predicted against measured, over models of different families, cuts and links.

    .venv/bin/python -m benchmarks.model_error                       some 35 minutes on an idle machine
    .venv/bin/python -m benchmarks.model_error --judge-again FILE    the samples of an earlier run, nothing measured

The calibration that `per-layer` rests on is made first, in two minutes. For each model up to 16 clean cuts are judged
on three links with 20 repeats each, between two real workers pinned to a core each. Nothing is fitted to what it is
judged on: the measured predictor corrects its passes at other cuts, links are fitted to probes, `per-layer` is fitted
to other models, and `flops` has one speed for each device. `validating.py` says how calibration and measurement take
turns.

It does not know other machines, GPUs, more than one gateway at a time, or links with other traffic.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.command_line import keep, parser_of
from splitnet.benching import Progress
from splitnet.models.reference import ModelRef
from splitnet.profiling.corpus import collect, load_corpus
from splitnet.profiling.machine import machine_fingerprint
from splitnet.report.validation import draw_cuts, draw_scatter, regret_line, summary, validation_tables
from splitnet.runtime.link import Link
from splitnet.terminal import Terminal
from splitnet.validating import Sources, ValidateSettings, validate
from splitnet.validation import COMPONENTS, Case, Parts, Validation

FAMILIES = {
    "resnet18": "residual",
    "vgg11": "plain",
    "mobilenet_v2": "inverted residual",
    "densenet121": "dense",
    "googlenet": "inception",
    "vit_b_32": "attention",
}
LINKS = ("loopback", "200mbit", "50mbit+5ms")
MOST_MAPE, MOST_NOISE_RATIO, LEAST_WITHIN_10, MOST_REGRET_P95 = 0.03, 1.5, 0.99, 0.02
MOST_LAYER_MAPE = 0.10


def main() -> None:
    parser = parser_of(__doc__, "model_error")
    parser.add_argument("--models", default=",".join(FAMILIES), help="separated by commas")
    parser.add_argument("--links", default=",".join(LINKS), help="separated by commas")
    parser.add_argument("--cuts", type=int, default=16, help="clean cuts of each model")
    parser.add_argument("--repeats", type=int, default=20, help="measured inferences of each case")
    parser.add_argument("--blocks", type=int, default=5, help="calibrations of each model and link")
    parser.add_argument("--calibration", type=Path, help="from `splitnet calibrate`; made now by default")
    parser.add_argument("--judge-again", type=Path, metavar="FILE", help="an earlier --output, whose machine stays")
    options = parser.parse_args()
    if options.judge_again:
        recorded = json.loads(options.judge_again.read_text())
        result, machine = read_run(recorded), recorded["machine"]
    else:
        result, machine = measure(options), machine_fingerprint()
    families = by_family(result)
    found = {"machine": machine, "by_model": families, **result.to_dict()}
    keep(found, options.output)
    if not options.judge_again:
        draw_scatter(result, options.output.with_name(options.output.stem + "_scatter.png"))
        draw_cuts(result, options.output.with_name(options.output.stem + "_cuts.png"))
    show(result, families)


def measure(options: argparse.Namespace) -> Validation:
    """Calibrate, predict and measure."""
    with Terminal().progress("calibrating") as step:
        corpus = load_corpus(options.calibration) if options.calibration else collect(torch.device("cpu"), 1, step)
        return validate(
            [ModelRef(name) for name in options.models.split(",")],
            ValidateSettings(
                cuts=str(options.cuts),
                clean=True,
                links=tuple(Link.parse(link) for link in options.links.split(",")),
                repeats=options.repeats,
                blocks=options.blocks,
            ),
            sources=Sources(corpora={"gateway": corpus, "ap": corpus}),
            progress=Progress(say=lambda text: step(0, 0, text), step=step),
        )


def read_run(recorded: dict[str, Any]) -> Validation:
    """The cases of a run that was written here, with every sample and prediction."""
    names = ("model", "batch", "link", "codec", "cut", "layer", "sent_bytes")
    cases = tuple(
        Case(
            **{name: case[name] for name in names},
            samples=tuple(Parts(**sample) for sample in case["samples"]),
            predicted={name: Parts(*(said[part] for part in COMPONENTS)) for name, said in case["predicted"].items()},
        )
        for case in recorded["cases"]
    )
    return Validation(cases, recorded["settings"], recorded["drift"])


def by_family(result: Validation) -> dict[str, dict[str, Any]]:
    """End-to-end and compute errors of each predictor, by model."""
    found: dict[str, dict[str, Any]] = {}
    for model in dict.fromkeys(case.model for case in result.cases):
        found[model] = {
            name: result.judge(name, lambda case, model=model: case.model == model).to_dict()  # type: ignore[misc]
            for name in result.predictors
        }
    return found


def show(result: Validation, families: dict[str, dict[str, Any]]) -> None:
    """Print the tables, the errors by family, and what the limits say."""
    console = Console(width=118, highlight=False)
    for table in validation_tables(result):
        console.print(table)
    table = Table(title="mean absolute percentage error by model: end to end, and gateway's compute alone")
    for head in ("model", "family", *(f"{name}{part}" for name in result.predictors for part in ("", ", gateway"))):
        table.add_column(head, justify="left" if head in ("model", "family") else "right")
    for model, judged in families.items():
        cells = []
        for name in result.predictors:
            for part in ("end_to_end", "gateway"):
                errors = judged[name][part]
                cells.append("-" if errors is None else f"{errors['mape']:.1%} ({errors['bias']:+.1%})")
        table.add_row(model, FAMILIES.get(model, "-"), *cells)
    console.print(table)
    console.print(summary(result))
    for line in verdict(result):
        console.print(line)


def verdict(result: Validation) -> list[str]:
    """Each limit with what was found."""
    noise = result.noise_floor() or 0.0
    lines = []
    for name in result.predictors:
        judged = result.judge(name)
        whole = judged.components["end_to_end"]
        assert whole is not None
        limits = {
            "measured": f"limits {max(MOST_MAPE, MOST_NOISE_RATIO * noise):.1%}, {LEAST_WITHIN_10:.0%}, 0%, "
            f"{MOST_REGRET_P95:.0%}",
            "per-layer": f"limit {MOST_LAYER_MAPE:.0%}, on models it was not fitted to",
        }.get(name, "a finding, no limit")
        lines.append(
            f"{name}: MAPE {whole.mape:.2%}, within 10% {whole.within_10:.1%}, {regret_line(judged)} "
            f"({limits}; noise floor {noise:.2%})"
        )
    return lines


if __name__ == "__main__":
    main()

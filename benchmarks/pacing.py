"""How exactly an emulated machine keeps the speed that it was asked to have.

    .venv/bin/python -m benchmarks.pacing              some 4 minutes on an idle machine
    .venv/bin/python -m benchmarks.pacing --quick      some 40 s

*alone*: whole networks, layer by layer, at fractions from 0.1 to 1 of one core, under `pacing` and under a cgroup
quota; models, fractions and actuators alternate. *together*: two lanes of one process at once, each in its thread, as
an AP serves two gateways (pacing only: a quota is of a whole process).

A use is one forward pass, from before the first layer to after the last pause; what counts over a run is the time
that all uses should have taken over the time that they took. A thread that waits for a core because others have it is
late for no fault of the actuator: that wait, as the kernel counts it (`schedstat`), stands beside each use, and a
second figure is over the *undisturbed* uses, which waited for less than a hundredth of their time. (Not for a quota:
to the kernel, who is held by one waits for a core.)

It does not know what a hypervisor takes away, nor whether the CPU time itself is what it would be without pauses: its
ratio to the CPU time at full speed in the same run is shown.
"""

from __future__ import annotations

import random
import statistics
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.command_line import keep, parser_of
from splitnet.inference import exact_inference
from splitnet.models.build import build_model
from splitnet.models.reference import ModelRef
from splitnet.profiling.machine import machine_fingerprint
from splitnet.resident import ResidentModel
from splitnet.runtime.actuators import make_actuator, why_not
from splitnet.runtime.paced import PacedHalf
from splitnet.runtime.speed import Actuator, Pause, Use, achieved_over_asked
from splitnet.terminal import Terminal

MODELS = (ModelRef("toy_chain"), ModelRef("vgg11_cifar"), ModelRef("resnet18", input_size=64))
FRACTIONS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
PAIRS = ((0.1, 0.7), (0.3, 0.5), (0.4, 0.4), (0.5, 0.2))
"""Of two lanes at once: less than one core together, as the lanes of one AP."""
PASSES = 3
"""Forward passes in a row under one setting, the first of which comes after another setting's."""
LIMIT = 0.05
UNDISTURBED = 0.01
SCHEDULED = Path("/proc/thread-self/schedstat")
DEADLINE_S = 120.0
KEY, COLUMNS = ("model", "actuator", "asked"), ("cpu_s", "wall_s", "waited_s")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """Rounds of all settings: alone, and together."""

    alone: int
    together: int


FULL, QUICK = Counts(30, 30), Counts(5, 5)


class Whole:
    """A network from its input to its output, with a boundary after each layer."""

    def __init__(self, ref: ModelRef) -> None:
        self.name = ref.name
        model = ResidentModel(build_model(ref), torch.device("cpu"))
        with exact_inference():
            self._live = model.bottom(0).run([value for _, value in model.example()])
        self._half = PacedHalf(model.top(0))

    def use(self, actuator: Actuator, lane: str) -> Row:
        """One forward pass; with it, how long its thread waited for a core."""

        def work(pause: Pause) -> None:
            self._half.run(self._live, pause)

        with exact_inference():
            waited_ns = waited_for_a_core_ns()
            _, use = actuator.run(lane, work)
            after_ns = waited_for_a_core_ns()
        waited_s = None if waited_ns is None or after_ns is None else (after_ns - waited_ns) * 1e-9
        return {"model": self.name, "actuator": actuator.name, **asdict(use), "waited_s": waited_s}


def waited_for_a_core_ns() -> int | None:
    """Of this thread so far: ready to run and not running."""
    try:
        return int(SCHEDULED.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None


def alone(counts: Counts, models: Sequence[Whole], actuators: Sequence[str]) -> list[Row]:
    """Every model at every fraction under every actuator, in a new order each round."""
    order = random.Random(0)
    settings = [(model, name, fraction) for model in models for name in actuators for fraction in FRACTIONS]
    rows = []
    for number in range(-1, counts.alone):
        for model, name, fraction in order.sample(settings, len(settings)):
            actuator = make_actuator(name)
            try:
                actuator.set("alone", fraction)
                found = [model.use(actuator, "alone") for _ in range(PASSES)]
            finally:
                actuator.close()
            if number >= 0:  # the first is for warming
                rows += found
    return rows


def together(counts: Counts, models: Sequence[Whole], actuators: Sequence[str]) -> list[Row]:
    """Two lanes of one process, until the slower one has made its passes; both work all the while."""
    order = random.Random(1)
    settings = [(model, pair) for model in models for pair in PAIRS]
    rows = []
    for number in range(-1, counts.together):
        for model, pair in order.sample(settings, len(settings)):
            found = two_lanes(model, pair)
            if number >= 0:
                rows += found
    return rows


def two_lanes(model: Whole, pair: tuple[float, float]) -> list[Row]:
    """Uses that lie within the time in which both lanes worked."""
    pacing = make_actuator("pacing")
    found: dict[str, list[Row]] = {}
    ready = threading.Barrier(len(pair))
    stop = threading.Event()

    def lane(name: str, fraction: float) -> None:
        pacing.set(name, fraction)
        ready.wait(DEADLINE_S)
        rows = found.setdefault(name, [])
        try:
            while not stop.is_set():
                row = model.use(pacing, name)
                if not stop.is_set():
                    rows.append(row)
                if fraction == min(pair) and len(rows) >= PASSES:
                    break
        finally:
            stop.set()

    threads = [
        threading.Thread(target=lane, args=(f"lane {place}", fraction), daemon=True)
        for place, fraction in enumerate(pair)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    if any(thread.is_alive() for thread in threads):
        raise RuntimeError(f"two lanes of {model.name} at {pair} did not end within {DEADLINE_S:g} s")
    return [row for rows in found.values() for row in rows]


SECTIONS: dict[str, Callable[[Counts, Sequence[Whole], Sequence[str]], list[Row]]] = {
    "alone": alone,
    "together": together,
}


def measure(counts: Counts, sections: Iterable[str]) -> Row:
    """Raw uses of each section, by case."""
    torch.set_num_threads(1)
    refused = why_not("cgroup")
    found: Row = {"machine": machine_fingerprint(), "cgroup": refused}
    actuators = ("pacing",) if refused else ("pacing", "cgroup")
    models = [Whole(ref) for ref in MODELS]
    for name in sections:
        with Terminal().waiting(name):
            found[name] = by_case(SECTIONS[name](counts, models, actuators))
    return found


def by_case(rows: Iterable[Row]) -> list[Row]:
    """The same by model, actuator and fraction, in columns; what was achieved is cpu_s / wall_s."""
    cases: dict[tuple[str, str, float], Row] = {}
    for row in rows:
        key = (row["model"], row["actuator"], row["asked"])
        case = cases.setdefault(key, {**dict(zip(KEY, key, strict=True)), **{name: [] for name in COLUMNS}})
        for name in COLUMNS:
            case[name].append(None if row[name] is None else round(row[name], 8))
    return [cases[key] for key in sorted(cases)]


# --- what came of it


@dataclass(frozen=True, slots=True)
class Kept:
    """How a speed was kept over some uses.

    Attributes:
        run: time that all should have taken over the time that they took, less 1; -0.05 is 5% too slow.
        median, quarter: of achieved / asked - 1 use by use, and half the distance of its quartiles: the noise.
        undisturbed: as `run`, over the uses that hardly waited for a core; None if there are none, or nobody tells.
        share: how many those are, of all.
    """

    run: float
    median: float
    quarter: float
    undisturbed: float | None
    share: float


def kept(cases: Sequence[Row]) -> Kept:
    """Of all uses of these cases, at least two."""
    uses, calm = [], []
    for case in cases:
        for cpu_s, wall_s, waited_s in zip(*(case[name] for name in COLUMNS), strict=True):
            uses.append(Use("", case["asked"], cpu_s / wall_s, cpu_s, wall_s))
            if case["actuator"] != "cgroup" and waited_s is not None and waited_s < UNDISTURBED * wall_s:
                calm.append(uses[-1])
    low, median, high = statistics.quantiles((use.achieved / use.asked - 1 for use in uses), n=4)
    whole, undisturbed = achieved_over_asked(uses), achieved_over_asked(calm)
    assert whole is not None
    return Kept(
        run=whole - 1,
        median=median,
        quarter=(high - low) / 2,
        undisturbed=None if undisturbed is None else undisturbed - 1,
        share=len(calm) / len(uses),
    )


def show(results: Row) -> None:
    """Tables, and whether the limit is met."""
    terminal = Terminal()
    for section in SECTIONS:
        cases = results.get(section)
        if not cases:
            continue
        at_full = [case for case in cases if case["asked"] == 1]
        full_s = {(case["model"], case["actuator"]): statistics.median(case["cpu_s"]) for case in at_full}
        terminal.table(
            ("model", "actuator", "asked", "run", "median ± noise", "undisturbed", "CPU time"),
            [line(case, full_s.get((case["model"], case["actuator"]))) for case in cases],
            f"{section}: achieved over asked, less 1",
        )
        for actuator in sorted({case["actuator"] for case in cases}):
            found = kept([case for case in cases if case["actuator"] == actuator])
            verdict = "met" if abs(found.run) <= LIMIT else "not met"
            terminal.print(
                f"{section}, {actuator}, over the run: {found.run:+.2%} of {LIMIT:.0%} ({verdict}), "
                f"undisturbed {calmly(found)}"
            )
    if results["cgroup"]:
        terminal.print(results["cgroup"])


def line(case: Row, full_s: float | None) -> tuple[str, ...]:
    """`full_s`: CPU time at full speed, if that was measured."""
    found = kept([case])
    cpu_s = statistics.median(case["cpu_s"])
    return (
        case["model"],
        case["actuator"],
        f"{case['asked']:g}",
        f"{found.run:+.2%}",
        f"{found.median:+.2%} ± {found.quarter:.2%}",
        calmly(found),
        f"{cpu_s * 1e3:.3f} ms" + (f" x{cpu_s / full_s:.2f}" if full_s else ""),
    )


def calmly(found: Kept) -> str:
    return "-" if found.undisturbed is None else f"{found.undisturbed:+.2%} ({found.share:.0%})"


def main() -> None:
    parser = parser_of(__doc__, "pacing", quick="a sixth of the rounds", sections=SECTIONS)
    options = parser.parse_args()
    results = measure(QUICK if options.quick else FULL, options.only)
    keep(results, options.output)
    show(results)


if __name__ == "__main__":
    main()

"""Summaries of results.json, and results.md made from them: medians, ratios, and whether each target is met."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
from peers import PEERS

from digits.core import formatting

GIB = 2**30
WHOLE_FROM = 100  # numbers from here on are shown without decimal places
MAX_ROWS = 10  # of a table of sizes; a longer one shows only EPOCHS_SHOWN
EPOCHS_SHOWN = (1, 2, 5, 10, 15, 20, 25, 30)
TEMPLATE = "results.md.j2"

EPOCH_RATIOS = {"keras": 12.0, "pytorch": 3.0, "sklearn": 3.0, "jax": 1.0}  # targets, minimum
ACCURACIES = {"cnn": 99.3, "cnn-large": 99.6}  # targets, minimum, in percent of the test images


@dataclass(frozen=True)
class Spread:
    """The median and the extremes of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


@dataclass(frozen=True)
class Check:
    """A target and its measurement.

    Attributes:
        quantity: the name of the quantity.
        sense: whether the bound is a minimum or a maximum.
        bound: the target.
        measured: the measurements, whose median is compared with the bound.
        unit: "x" for a ratio, "s", "GiB" or "%".
        note: a remark on the number, e.g. that it is a lower bound.
        complete: False if the measurement ended too early to meet the target.
    """

    quantity: str
    sense: Literal["at least", "at most"]
    bound: float
    measured: Spread
    unit: str
    note: str = ""
    complete: bool = True

    @property
    def met(self) -> bool:
        """Whether the median, unrounded, is within the bound."""
        median = self.measured.median
        return self.complete and (median >= self.bound if self.sense == "at least" else median <= self.bound)


@dataclass(frozen=True)
class Line:
    """Seconds against a size, with the least-squares line.

    Attributes:
        title: of the panel.
        unit: of the sizes.
        quantity: what the seconds measure.
        sizes: the sizes.
        seconds: measured at each size.
        slope: seconds per unit.
        intercept: seconds at size 0.
    """

    title: str
    unit: str
    quantity: str
    sizes: list[int]
    seconds: list[float]
    slope: float
    intercept: float

    @classmethod
    def fit(cls, title: str, unit: str, quantity: str, sizes: list[int], seconds: list[float]) -> "Line":
        slope, intercept = statistics.linear_regression(sizes, seconds)
        return cls(title, unit, quantity, sizes, seconds, slope, intercept)

    def value(self, size: float) -> float:
        """Return the seconds on the line at a size."""
        return self.intercept + self.slope * size

    @property
    def max_residual(self) -> float:
        """The largest distance of a measurement from the line, as a share of the longest time."""
        pairs = zip(self.sizes, self.seconds, strict=True)
        return max(abs(seconds - self.value(size)) for size, seconds in pairs) / max(self.seconds)

    @property
    def rows(self) -> list[tuple[int, float, float]]:
        """The size, the measured seconds and the seconds on the line, of the sizes to show."""
        pairs = zip(self.sizes, self.seconds, strict=True)
        is_short = len(self.sizes) <= MAX_ROWS
        return [(size, seconds, self.value(size)) for size, seconds in pairs if is_short or size in EPOCHS_SHOWN]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The summary of a section, with its targets."""

    checks: Sequence[Check] = ()


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Return the spread of the ratios of two measurements, computed per round."""
    return Spread.of(above / below for above, below in zip(numerators, denominators, strict=True))


@dataclass(frozen=True)
class PeerRow:
    """An implementation's epochs.

    Attributes:
        name: of the implementation.
        seconds: of an epoch.
        ratio: of its seconds to those of this repository.
        warm_up: additional seconds of the first epoch.
        training_accuracy: of the last epoch; None if it does not learn.
        test_accuracy: after the last epoch; None if it does not learn.
    """

    name: str
    seconds: Spread
    ratio: Spread
    warm_up: float
    training_accuracy: float | None
    test_accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class EpochSummary(Summary):
    """Section epoch: `epochs` counts the warm-up, `rounds` does not."""

    rows: list[PeerRow]
    rounds: int
    epochs: int


def epoch(section: dict[str, Any]) -> EpochSummary:
    """Summarize section epoch."""
    rounds = section["rounds"]
    seconds = {name: [answers[name]["seconds"] for answers in rounds] for name in section["test"]}
    rows = [
        PeerRow(
            name=PEERS[name],
            seconds=Spread.of(values),
            ratio=ratios(values, seconds["digits"]),
            warm_up=max(0.0, section["warm_up"][name]["seconds"] - statistics.median(values)),
            training_accuracy=rounds[-1][name]["accuracy"],
            test_accuracy=section["test"][name],
        )
        for name, values in seconds.items()
    ]
    checks = [
        Check(
            f"{PEERS[name]}: epoch time relative to {PEERS['digits']}",
            "at least",
            bound,
            ratios(seconds[name], seconds["digits"]),
            "x",
        )
        for name, bound in EPOCH_RATIOS.items()
    ]
    to_products = ratios(seconds["digits"], seconds["numpy"])
    checks.append(
        Check(f"{PEERS['digits']}: epoch time relative to {PEERS['numpy']}", "at most", 1.6, to_products, "x")
    )
    return EpochSummary(rows=rows, rounds=len(rounds), epochs=len(rounds) + 1, checks=checks)


@dataclass(frozen=True, kw_only=True)
class CheckpointsSummary(Summary):
    """Section checkpoints.

    Attributes:
        epochs: of the longest run.
        total_epochs: of all runs of `fit` together.
        measured_epochs: of the runs of `fit` that were measured.
        one_run: seconds of the one run of this repository.
        fit_epoch: seconds of an epoch of `fit`.
        fit_overhead: seconds of a run of `fit` beyond its epochs.
        fit_runs: seconds of all runs of `fit`, extrapolated.
    """

    epochs: int
    total_epochs: int
    measured_epochs: list[int]
    one_run: Spread
    fit_epoch: Spread
    fit_overhead: Spread
    fit_runs: Spread


def checkpoints(section: dict[str, Any]) -> CheckpointsSummary:
    """Summarize section checkpoints; a line through the measured runs of `fit` extrapolates to all runs."""
    epochs = section["epochs"]
    total = epochs * (epochs + 1) // 2
    one_run = [each["digits"] for each in section["rounds"]]
    lines = [
        statistics.linear_regression(
            [fit["epochs"] for fit in each["keras"]], [fit["seconds"] for fit in each["keras"]]
        )
        for each in section["rounds"]
    ]
    fit_runs = [epochs * line.intercept + total * line.slope for line in lines]
    check = Check(
        f"{epochs} runs of `fit`: time relative to one run of {PEERS['digits']}",
        "at least",
        150.0,
        ratios(fit_runs, one_run),
        "x",
    )
    return CheckpointsSummary(
        epochs=epochs,
        total_epochs=total,
        measured_epochs=[fit["epochs"] for fit in section["rounds"][0]["keras"]],
        one_run=Spread.of(one_run),
        fit_epoch=Spread.of(line.slope for line in lines),
        fit_overhead=Spread.of(line.intercept for line in lines),
        fit_runs=Spread.of(fit_runs),
        checks=[check],
    )


@dataclass(frozen=True)
class Attempt:
    """A run towards a target accuracy.

    Attributes:
        seconds: of training until the target, or of the whole run if it missed the target.
        epochs: until the target; None if the run missed it.
        trained: the epochs of the run.
        best: the best test accuracy.
    """

    seconds: float
    epochs: int | None
    trained: int
    best: float

    @classmethod
    def of(cls, curve: dict[str, list[float]], accuracy: float) -> "Attempt":
        pairs = zip(curve["seconds"], curve["accuracies"], strict=True)
        reached = [(seconds, number) for number, (seconds, value) in enumerate(pairs, 1) if value >= accuracy]
        seconds, epochs = reached[0] if reached else (curve["seconds"][-1], None)
        return cls(seconds, epochs, len(curve["seconds"]), max(curve["accuracies"]))


@dataclass(frozen=True)
class SeedRow:
    """The attempts with one seed; Keras's example runs with some of the seeds only."""

    seed: int
    digits: Attempt
    keras: Attempt | None


@dataclass(frozen=True, kw_only=True)
class TimeToAccuracySummary(Summary):
    """Section time_to_accuracy; the spreads are over the seeds, in seconds."""

    accuracy: float
    max_epochs: int
    rows: list[SeedRow]
    digits: Spread
    keras: Spread


def time_to_accuracy(section: dict[str, Any]) -> TimeToAccuracySummary:
    """Summarize section time_to_accuracy."""
    accuracy = section["accuracy"]
    rows = [
        SeedRow(
            run["seed"],
            Attempt.of(run["digits"], accuracy),
            Attempt.of(run["keras"], accuracy) if "keras" in run else None,
        )
        for run in section["runs"]
    ]
    digits, keras = [row.digits for row in rows], [row.keras for row in rows if row.keras]
    all_reached = all(attempt.epochs is not None for attempt in digits)
    missed = "" if all_reached else "`cnn` missed the target with at least one seed"
    # A run of Keras that misses the target would take longer than it was measured, and the ratio would be larger.
    lower_bound = (
        ""
        if all(attempt.epochs is not None for attempt in keras)
        else "a lower bound, because Keras's example missed the target with at least one seed"
    )
    seconds = Spread.of(attempt.seconds for attempt in digits)
    # The runs with Keras come first.
    ratio = ratios([each.seconds for each in keras], [each.seconds for each in digits[: len(keras)]])
    goal = formatting.percent(accuracy, trim=True)
    return TimeToAccuracySummary(
        accuracy=accuracy,
        max_epochs=section["max_epochs"],
        rows=rows,
        digits=seconds,
        keras=Spread.of(attempt.seconds for attempt in keras),
        checks=[
            Check(f"`cnn`: training time to {goal} test accuracy", "at most", 8.0, seconds, "s", missed, all_reached),
            Check(
                f"Keras's example: training time to {goal} test accuracy, relative to `cnn`",
                "at least",
                12.0,
                ratio,
                "x",
                missed or lower_bound,
                all_reached,
            ),
        ],
    )


@dataclass(frozen=True)
class VariantRow:
    """The runs of a convolutional variant; `standard_deviation` is None for a single seed."""

    variant: str
    parameters: int
    epochs: int
    accuracies: list[float]
    mean: float
    standard_deviation: float | None
    seconds: Spread


@dataclass(frozen=True, kw_only=True)
class AccuracySummary(Summary):
    """Section accuracy."""

    rows: list[VariantRow]


def accuracy(section: dict[str, Any]) -> AccuracySummary:
    """Summarize section accuracy."""
    rows, checks = [], []
    for variant, bound in ACCURACIES.items():
        runs = [run for run in section["runs"] if run["variant"] == variant]
        last = [run["accuracies"][-1] for run in runs]
        row = VariantRow(
            variant=variant,
            parameters=runs[0]["parameters"],
            epochs=len(runs[0]["seconds"]),
            accuracies=last,
            mean=statistics.mean(last),
            standard_deviation=statistics.stdev(last) if len(last) > 1 else None,
            seconds=Spread.of(run["seconds"][-1] for run in runs),
        )
        rows.append(row)
        quantity = f"`{variant}`: mean test accuracy over {len(runs)} seeds"
        checks.append(Check(quantity, "at least", bound, Spread.of([100 * row.mean]), "%"))
    checks.append(Check("`cnn-large`: training time", "at most", 600.0, rows[-1].seconds, "s"))
    return AccuracySummary(rows=rows, checks=checks)


@dataclass(frozen=True)
class SideBySideRow:
    """Seconds of training a variant with all seeds, side by side and one after another.

    Attributes:
        ratio: of the second to the first.
    """

    name: str
    side_by_side: float
    one_by_one: float

    @property
    def ratio(self) -> float:
        return self.one_by_one / self.side_by_side


@dataclass(frozen=True, kw_only=True)
class SeedsSummary(Summary):
    """Section seeds; side by side, `workers` runs train at a time, with `threads` threads each."""

    rows: list[SideBySideRow]
    total: SideBySideRow
    seeds: int
    epochs: int
    workers: int
    threads: int


def seeds(section: dict[str, Any]) -> SeedsSummary:
    """Summarize section seeds."""
    rows = [
        SideBySideRow(f"`{variant}`", run["side_by_side"], sum(run["one_by_one"]))
        for variant, run in section["variants"].items()
    ]
    total = SideBySideRow("all variants", sum(row.side_by_side for row in rows), sum(row.one_by_one for row in rows))
    numbers = {key: section[key] for key in ("seeds", "epochs", "workers", "threads")}
    return SeedsSummary(rows=rows, total=total, **numbers)


@dataclass(frozen=True)
class RooflineRow:
    """A variant's training step.

    Attributes:
        variant: the name of the variant.
        batch: the batch size.
        operations: floating-point operations, in millions.
        megabytes: of memory traffic.
        compute: milliseconds of the operations at the machine's limit.
        memory: milliseconds of the memory traffic at the machine's limit.
        measured: milliseconds.
        share: of the larger of the two limits in the measured time.
    """

    variant: str
    batch: int
    operations: float
    megabytes: float
    compute: float
    memory: float
    measured: Spread
    share: float


@dataclass(frozen=True, kw_only=True)
class RooflineSummary(Summary):
    """Section roofline; the limits are in 10⁹ operations and 10⁹ bytes per second."""

    rows: list[RooflineRow]
    operations: float
    bytes: float


def roofline(section: dict[str, Any]) -> RooflineSummary:
    """Summarize section roofline.

    Source: S. Williams, A. Waterman, D. Patterson, Roofline, Communications of the ACM 52 (2009), p. 65.
    """
    limits = section["limits"]
    rows = []
    for variant, step in section["steps"].items():
        compute, memory = (1000 * step[key] / limits[key] for key in ("operations", "bytes"))
        measured = Spread.of(1000 * seconds for seconds in step["seconds"][1:])  # the first epoch compiles
        rows.append(
            RooflineRow(
                variant=variant,
                batch=step["batch"],
                operations=step["operations"] / 1e6,
                megabytes=step["bytes"] / 1e6,
                compute=compute,
                memory=memory,
                measured=measured,
                share=max(compute, memory) / measured.median,
            )
        )
    return RooflineSummary(rows=rows, operations=limits["operations"] / 1e9, bytes=limits["bytes"] / 1e9)


@dataclass(frozen=True)
class StageRow:
    """Seconds of a stage's process, or of several, and its peak memory in GiB.

    Attributes:
        stage: the name.
        startup: the interpreter and the imports.
        compiling: the compilation of TensorFlow functions.
        work: the rest.
        seconds: all of it.
        training: from the first epoch to the last validation, including compilation.
        peak: GiB.
        cpu: the share of the cores that were busy during `training`; None if it was not measured.
    """

    stage: str
    startup: float
    compiling: float
    work: float
    seconds: float
    training: float
    peak: float
    cpu: float | None = None

    @classmethod
    def of(cls, stage: dict[str, Any]) -> "StageRow":
        work = stage["seconds"] - stage["startup"] - stage["compiling"]
        return cls(work=work, **stage | {"peak": stage["peak"] / GIB})

    @classmethod
    def total(cls, rows: Sequence["StageRow"]) -> "StageRow":
        keys = ("startup", "compiling", "work", "seconds", "training")
        sums = {key: sum(getattr(row, key) for row in rows) for key in keys}
        trained = [(row.training, row.cpu) for row in rows if row.cpu is not None]
        busy = sum(training * cpu for training, cpu in trained) / sums["training"] if trained else None
        return cls(stage="all stages", peak=max((row.peak for row in rows), default=0.0), cpu=busy, **sums)


@dataclass(frozen=True)
class CommandSummary:
    """A DVC command: its stages, their total, and the seconds of DVC itself, outside the stages."""

    command: str
    seconds: float
    rows: list[StageRow]
    total: StageRow
    dvc: float

    @classmethod
    def of(cls, run: dict[str, Any]) -> "CommandSummary":
        rows = [StageRow.of(stage) for stage in run["stages"]]
        total = StageRow.total(rows)
        return cls(run["command"], run["seconds"], rows, total, run["seconds"] - total.seconds)

    @property
    def beyond_training(self) -> float:
        return self.seconds - self.total.training


@dataclass(frozen=True, kw_only=True)
class PipelineSummary(Summary):
    """Section pipeline: a run in a fresh clone, and an experiment after it."""

    full: CommandSummary
    experiment: CommandSummary


def pipeline(section: dict[str, Any]) -> PipelineSummary:
    """Summarize section pipeline."""
    full, experiment = CommandSummary.of(section["full"]), CommandSummary.of(section["experiment"])
    idle = Spread.of(run["seconds"] for run in section["idle"])

    def at_most(quantity: str, bound: float, value: float, unit: str = "s") -> Check:
        return Check(quantity, "at most", bound, Spread.of([value]), unit)

    return PipelineSummary(
        full=full,
        experiment=experiment,
        checks=[
            at_most(f"`{full.command}` in a fresh clone: time", 240.0, full.seconds),
            at_most(f"`{full.command}` in a fresh clone: beyond training", 35.0, full.beyond_training),
            at_most(f"`{experiment.command}`: time", 60.0, experiment.seconds),
            at_most(f"`{experiment.command}`: beyond training", 25.0, experiment.beyond_training),
            Check("`dvc repro` with nothing to do: time", "at most", 1.3, idle, "s"),
            at_most("any stage: peak memory", 2.0, full.total.peak, "GiB"),
        ],
    )


@dataclass(frozen=True, kw_only=True)
class ScalingSummary(Summary):
    """Section scaling.

    Attributes:
        lines: seconds against epochs, training images and hidden units.
        peaks: GiB of memory at each number of images.
        bytes_per_image: slope of the memory's least-squares line.
        fixed: its intercept, in GiB.
        memory: of the machine, in GiB.
        max_images: the images that fill the machine's memory.
    """

    lines: list[Line]
    peaks: list[float]
    bytes_per_image: float
    fixed: float
    memory: float
    max_images: float


def scaling(section: dict[str, Any]) -> ScalingSummary:
    """Summarize section scaling."""
    sizes, peaks = zip(*((run["images"], run["peak"]) for run in section["images"]), strict=True)
    slope, intercept = statistics.linear_regression(sizes, peaks)
    memory = section["provenance"]["machine"]["memory"]
    return ScalingSummary(
        lines=scaling_lines(section),
        peaks=[peak / GIB for peak in peaks],
        bytes_per_image=slope,
        fixed=intercept / GIB,
        memory=memory / GIB,
        max_images=(memory - intercept) / slope,
    )


def scaling_lines(section: dict[str, Any]) -> list[Line]:
    """Return seconds against epochs, against training images and against hidden units."""
    run = section["epochs"]["seconds"]
    elapsed = [sum(run[: number + 1]) for number in range(len(run))]
    lines = [Line.fit("Epochs", "epochs", "seconds since the start", list(range(1, len(run) + 1)), elapsed)]
    for key, title, unit in (("images", "Training images", "images"), ("units", "Hidden units", "hidden units")):
        sizes = [each[key] for each in section[key]]
        seconds = [statistics.median(each["seconds"][1:]) for each in section[key]]  # the first epoch compiles
        lines.append(Line.fit(title, unit, "seconds per epoch", sizes, seconds))
    return lines


SUMMARIES: dict[str, Callable[[dict[str, Any]], Summary]] = {
    "epoch": epoch,
    "checkpoints": checkpoints,
    "time_to_accuracy": time_to_accuracy,
    "accuracy": accuracy,
    "seeds": seeds,
    "roofline": roofline,
    "pipeline": pipeline,
    "scaling": scaling,
}


@dataclass(frozen=True)
class Environment:
    """A machine with its package versions, and the sections that were measured on it."""

    machine: dict[str, Any]
    versions: dict[str, str]
    sections: list[str]


def environments(results: dict[str, Any]) -> list[Environment]:
    """Return the distinct machines and versions in results.json."""
    found: list[Environment] = []
    for name, section in results.items():
        machine, versions = section["provenance"]["machine"], section["provenance"]["versions"]
        for known in found:
            if (known.machine, known.versions) == (machine, versions):
                known.sections.append(name)
                break
        else:
            found.append(Environment(machine, versions, [name]))
    return found


def render(results: dict[str, Any], folder: Path) -> str:
    """Return the text of results.md.

    Args:
        results: the measurements by section. `provenance` in each names the machine, the versions, the commit and the
            date, and whether it was a short run.
        folder: of the templates.
    """
    jinja = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # Markdown
    )
    jinja.filters |= {"number": number, "spread": spread, "bound": bound, "percent": percent}
    summaries = {name: SUMMARIES[name](section) for name, section in results.items()}
    return jinja.get_template(TEMPLATE).render(
        environments=environments(results),
        provenance={name: section["provenance"] for name, section in results.items()},
        checks=[check for summary in summaries.values() for check in summary.checks],
        gib=GIB,
        **dict.fromkeys(SUMMARIES) | summaries,
    )


def number(value: float) -> str:
    """Return a number with three significant digits, or as a whole number if it has more digits before the point."""
    if abs(value) >= WHOLE_FROM:
        return f"{value:,.0f}"
    return f"{value:#.3g}".removesuffix(".")


def spread(value: Spread, unit: str = "") -> str:
    """Return the median and, if there are several measurements, the minimum and the maximum."""
    text = f"{value.median:.2f} %" if unit == "%" else number(value.median) + _suffix(unit)
    return text if value.low == value.high else f"{text} ({number(value.low)} to {number(value.high)})"


def bound(check: Check) -> str:
    """Return the target of a check, e.g. "at least 12×"."""
    return f"{check.sense} {check.bound:g}{_suffix(check.unit)}"


def percent(share: float | None) -> str:
    """Return a share as a percentage with two decimal places, or a dash for None."""
    return "–" if share is None else formatting.percent(share)


def _suffix(unit: str) -> str:
    return "×" if unit == "x" else f" {unit}" if unit else ""

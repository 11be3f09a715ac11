"""The numbers and claims that the reports published, compared with those of this run and of the experiments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from digits.core.artifacts import read_json
from digits.core.config import Section
from digits.core.errors import UserError
from digits.core.params import FileSpec
from digits.evaluation.statistics import mean_interval, prediction_interval, spread

NOT_APPLICABLE = "the reports' numbers do not apply to the files in download.files, which are not MNIST's"
Curves = Mapping[tuple[str, str], pd.DataFrame]  # by variant and split; see evaluation/curves.py
ReadMetrics = Callable[[str], Any | None]  # returns the content of a metrics file; None if this run wrote no such file
ReportName = Literal["A", "B"]
Epoch = int | Literal["first", "last", "highest", "lowest loss"]


class Point(Section):
    """A value of a learning curve."""

    variant: str
    split: Literal["train", "validation", "test", "gap", "scikit-learn"]  # the last: scikit-learn's digits
    column: str
    epoch: Epoch


class Metric(Section):
    """A value, or a sum of values, from a metrics file."""

    file: str
    sum_of: Annotated[list[str], Field(min_length=1)]  # dotted keys
    times: float = 1.0


class Number(Section):
    """A published number, and the `curve` or the `metric` that measures it here."""

    report: ReportName
    section: str
    quantity: str
    published: float
    rounding: Annotated[float, Field(ge=0)]  # half a unit of the last printed digit
    images: Annotated[int, Field(ge=1)] | None = None  # of a proportion that was measured on images other than ours
    curve: Point | None = None
    metric: Metric | None = None


class Claim(Section):
    """A published statement about a curve: from `start` to `end`, it rises, falls or stays."""

    report: ReportName
    section: str
    claim: str
    change: Literal["rises", "falls", "stays"]
    within: Annotated[float, Field(gt=0)] | None = None  # of `stays`: the largest change that counts as none
    start: Point
    end: Point

    @model_validator(mode="after")
    def _within(self) -> Self:
        if (self.change == "stays") != (self.within is not None):
            raise ValueError(": within belongs to a claim that a curve stays, and to no other")
        return self


class Report(Section):
    """A published report."""

    title: str
    author: str
    date: date
    protocol: str


class Published(Section):
    """The content of data/published.yaml."""

    data: dict[str, str]  # the SHA-256 of each file of the data set that the reports used
    reports: dict[ReportName, Report]
    numbers: list[Number]
    claims: list[Claim]

    def applies_to(self, files: Mapping[str, FileSpec]) -> bool:
        """Return whether files, by name, are the data set that the reports used."""
        return self.data == {name: spec.sha256 for name, spec in files.items()}


@dataclass(frozen=True)
class Measurement:
    """A published number measured here.

    Attributes:
        mean: Over the seeds.
        std: The sample standard deviation over the seeds; None for a single value.
        values: One for each seed; a single one for a number that does not depend on the seed.
        interval: The 95 % prediction interval for one more run; None for a single value.
        reproduced: Whether the published number, give or take its rounding, lies in the interval, or is the value that
            does not depend on the seed; None if a single seed shows no spread.
    """

    mean: float
    std: float | None
    values: list[float]
    interval: tuple[float, float] | None
    reproduced: bool | None


@dataclass(frozen=True)
class ExperimentNumber:
    """A published number measured by an experiment, at `epoch` if data/published.yaml names another one."""

    report: ReportName
    quantity: str
    epoch: int | None
    published: float
    measured: Measurement


@dataclass(frozen=True)
class ExperimentResult:
    """An experiment and the published numbers that it measures."""

    description: str
    set: list[str]
    seeds: list[int]
    numbers: list[ExperimentNumber]


ExperimentResults = Mapping[str, ExperimentResult]  # by name


@dataclass(frozen=True)
class NumberComparison:
    """A published number beside that of this run.

    Attributes:
        measured: None if this run does not measure it.
        variant: The variant whose curve contains the number.
        experiments: Whether the experiments that measure it reproduce it, by name.
    """

    report: ReportName
    section: str
    quantity: str
    published: float
    measured: Measurement | None
    variant: str | None
    experiments: dict[str, bool | None]


@dataclass(frozen=True)
class ClaimComparison:
    """A claim, the means at its two points and whether it holds.

    Attributes:
        start: None if this run does not measure it; so are the others.
        end: Likewise.
        interval: The 95 % confidence interval of the mean change over the seeds; None for a single seed.
        holds: Whether the interval lies above 0, below 0 or within the change that counts as none.
    """

    claim: Claim
    start: float | None
    end: float | None
    interval: tuple[float, float] | None
    holds: bool | None


def read_experiments(path: Path) -> dict[str, ExperimentResult]:
    """Return the results of the experiments, by name.

    Args:
        path: metrics/experiments.json.

    Raises:
        UserError: the file is missing, damaged, or has other keys.
    """
    content = read_json(path)
    try:
        return TypeAdapter(dict[str, ExperimentResult]).validate_python(content)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise UserError(f"{path}: unexpected content at '{key}': type `make experiments`") from None


def measure(number: Number, values: Sequence[float]) -> Measurement:
    """Return a measured number and whether it reproduces the published one.

    Args:
        number: the published number.
        values: one for each seed, or the only one of a number that does not depend on the seed.
    """
    measured = spread(values)
    margin = number.rounding + 1e-9  # for binary fractions: 0.955 - 0.95 is slightly more than 0.005
    interval, reproduced = None, None
    if number.metric is not None:
        reproduced = abs(measured.mean - number.published) <= margin
    elif interval := prediction_interval(values, number.images):
        reproduced = interval[0] - margin <= number.published <= interval[1] + margin
    return Measurement(measured.mean, measured.std, measured.values, interval, reproduced)


def compare_number(
    number: Number, curves: Curves, read: ReadMetrics, experiments: ExperimentResults
) -> NumberComparison:
    """Compare a published number with that of this run, and look up the experiments that measure it."""
    if number.curve:
        values = values_of(number.curve, curves)
    else:
        value = _sum(number.metric, read)
        values = [] if value is None else [value]
    return NumberComparison(
        report=number.report,
        section=number.section,
        quantity=number.quantity,
        published=number.published,
        measured=measure(number, values) if values else None,
        variant=number.curve.variant if number.curve else None,
        experiments={
            name: row.measured.reproduced
            for name, result in experiments.items()
            for row in result.numbers
            if (row.report, row.quantity) == (number.report, number.quantity)
        },
    )


def check_claim(claim: Claim, curves: Curves) -> ClaimComparison:
    """Check a claim against the curves of this run."""
    starts, ends = values_of(claim.start, curves), values_of(claim.end, curves)
    if not (starts and ends):
        return ClaimComparison(claim, None, None, None, None)
    interval = mean_interval([end - start for start, end in zip(starts, ends, strict=True)])
    holds = None
    if interval is not None:
        match claim.change:
            case "rises":
                holds = interval[0] > 0
            case "falls":
                holds = interval[1] < 0
            case "stays":
                holds = max(abs(change) for change in interval) <= (claim.within or 0)
    return ClaimComparison(claim, spread(starts).mean, spread(ends).mean, interval, holds)


def values_of(point: Point, curves: Curves) -> list[float]:
    """Return the value at a point of the curves for each seed; empty if there is no such variant, split or epoch.

    Raises:
        UserError: the curve has no such column.
    """
    curve = curves.get((point.variant, point.split))
    if curve is None:
        return []
    if point.column not in curve:
        columns = ", ".join(curve.columns)
        raise UserError(
            f"data/published.yaml: split {point.split} has no column '{point.column}': the columns are {columns}"
        )
    seeds = [_value_of(point, rows) for _, rows in curve.dropna(subset=[point.column]).groupby("seed", sort=False)]
    values = [value for value in seeds if value is not None]
    return values if len(values) == len(seeds) else []


def _value_of(point: Point, curve: pd.DataFrame) -> float | None:
    """Return the value at a point of the curve of one seed."""
    values = curve.set_index("epoch", drop=False)[point.column]
    match point.epoch:
        case "first":
            return float(values.iloc[0])
        case "last":
            return float(values.iloc[-1])
        case "highest":
            return float(values.max())
        case "lowest loss":
            return float(values.iloc[int(curve["loss"].argmin())])
        case epoch:
            return float(values[epoch]) if epoch in values.index else None


def _sum(metric: Metric | None, read: ReadMetrics) -> float | None:
    content = read(metric.file) if metric else None
    if metric is None or content is None:
        return None
    return metric.times * sum(_value(content, key.split("."), metric.file) for key in metric.sum_of)


def _value(content: Any, keys: Sequence[str], file: str) -> float:
    """Return the number under nested keys of a metrics file."""
    value = content
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            raise UserError(f"data/published.yaml: {file} has no key {'.'.join(keys)}")
        value = value[key]
    return float(value)

"""The numbers and claims that the reports published, compared with those of this run and of the experiments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError

from digits.core.artifacts import read_json
from digits.core.config import Section
from digits.core.errors import UserError

Curves = Mapping[tuple[str, str], pd.DataFrame]  # by variant and split; see evaluation/curves.py
ReadMetrics = Callable[
    [str], Any | None
]  # returns the content of a metrics file, or None if this run wrote no such file
ReportName = Literal["A", "B"]
Epoch = int | Literal["first", "last", "highest", "lowest loss"]


class Point(Section):
    """A value of a learning curve."""

    variant: str
    split: Literal["train", "validation", "test", "gap"]
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
    tolerance: Annotated[float, Field(ge=0)]
    curve: Point | None = None
    metric: Metric | None = None

    def is_reproduced_by(self, measured: float) -> bool:
        """Return whether a measured value is within the tolerance."""
        # The margin is for binary fractions: 0.955 - 0.95 is slightly more than 0.005.
        return abs(measured - self.published) <= self.tolerance + 1e-9


class Claim(Section):
    """A published statement about a curve: from `start` to `end`, it rises or falls by more than `by`, or stays."""

    report: ReportName
    section: str
    claim: str
    change: Literal["rises", "falls", "stays"]
    by: Annotated[float, Field(ge=0)]
    start: Point
    end: Point


class Report(Section):
    """A published report."""

    title: str
    author: str
    date: date
    protocol: str


class Published(Section):
    """The content of data/published.yaml."""

    reports: dict[ReportName, Report]
    numbers: list[Number]
    claims: list[Claim]


@dataclass(frozen=True)
class ExperimentNumber:
    """A published number beside its mean and sample standard deviation over the seeds of an experiment.

    Attributes:
        epoch: The epoch at which the experiment measures it, if data/published.yaml names another one.
        standard_deviation: None if the experiment has a single seed.
        values: One for each seed.
    """

    report: ReportName
    quantity: str
    epoch: int | None
    published: float
    mean: float
    standard_deviation: float | None
    values: list[float]
    tolerance: float
    reproduced: bool


@dataclass(frozen=True)
class ExperimentResult:
    """An experiment and the published numbers that it measures."""

    description: str
    set: list[str]
    seeds: list[int]
    numbers: list[ExperimentNumber]


ExperimentResults = Mapping[str, ExperimentResult]  # by name


@dataclass(frozen=True)
class ExperimentMean:
    """The part of an `ExperimentNumber` that metrics/published.json repeats."""

    epoch: int | None
    mean: float
    standard_deviation: float | None
    reproduced: bool


@dataclass(frozen=True)
class NumberComparison:
    """A published number beside that of this run.

    Attributes:
        measured: None if this run does not measure it; so are `difference` and `reproduced`.
        variant: The variant whose curve contains the number.
        experiments: The results of the experiments that measure it, by name.
    """

    report: ReportName
    section: str
    quantity: str
    published: float
    measured: float | None
    difference: float | None
    tolerance: float
    reproduced: bool | None
    variant: str | None
    experiments: dict[str, ExperimentMean]


@dataclass(frozen=True)
class ClaimComparison:
    """A claim, the values at its two points and whether it holds; None if this run does not measure them."""

    claim: Claim
    start: float | None
    end: float | None
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


def compare_number(
    number: Number, curves: Curves, read: ReadMetrics, experiments: ExperimentResults
) -> NumberComparison:
    """Compare a published number with that of this run, and look up the experiments that measure it."""
    measured = value_of(number.curve, curves) if number.curve else _sum(number.metric, read)
    return NumberComparison(
        report=number.report,
        section=number.section,
        quantity=number.quantity,
        published=number.published,
        measured=measured,
        difference=None if measured is None else measured - number.published,
        tolerance=number.tolerance,
        reproduced=None if measured is None else number.is_reproduced_by(measured),
        variant=number.curve.variant if number.curve else None,
        experiments={
            name: ExperimentMean(row.epoch, row.mean, row.standard_deviation, row.reproduced)
            for name, result in experiments.items()
            for row in result.numbers
            if (row.report, row.quantity) == (number.report, number.quantity)
        },
    )


def check_claim(claim: Claim, curves: Curves) -> ClaimComparison:
    """Check a claim against the curves of this run."""
    start, end = value_of(claim.start, curves), value_of(claim.end, curves)
    if start is None or end is None:
        return ClaimComparison(claim, start, end, None)
    match claim.change:
        case "rises":
            holds = end - start > claim.by
        case "falls":
            holds = start - end > claim.by
        case "stays":
            holds = abs(end - start) <= claim.by
    return ClaimComparison(claim, start, end, holds)


def value_of(point: Point, curves: Curves) -> float | None:
    """Return the value at a point of the curves, or None if this run has no such variant, split or epoch.

    Raises:
        UserError: the curve has no such column.
    """
    curve = curves.get((point.variant, point.split))
    if curve is None:
        return None
    if point.column not in curve:
        columns = ", ".join(curve.columns)
        raise UserError(
            f"data/published.yaml: split {point.split} has no column '{point.column}': the columns are {columns}"
        )
    values = curve[point.column].dropna()
    if values.empty:
        return None
    match point.epoch:
        case "first":
            return float(values.iloc[0])
        case "last":
            return float(values.iloc[-1])
        case "highest":
            return float(values.max())
        case "lowest loss":
            return _at(values, curve.index[int(curve["loss"].argmin())])
        case epoch:
            return _at(values, epoch)


def _at(values: "pd.Series[float]", epoch: int) -> float | None:
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

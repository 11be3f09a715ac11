"""Published numbers and claims against those of this run."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from digits.curves import Curve
from digits.errors import UserError
from digits.params import Section

Curves = Mapping[tuple[str, str], Curve]  # by variant and split
ReportName = Literal["A", "B"]


Epoch = int | Literal["first", "last", "highest", "lowest loss"]


class Point(Section):
    """A value of a learning curve."""

    variant: str
    split: Literal["train", "validation", "test", "gap"]
    column: str
    epoch: Epoch


class Metric(Section):
    """A value, or a sum of values, of a metrics file."""

    file: str
    sum_of: Annotated[list[str], Field(min_length=1)]  # dotted keys
    times: float = 1.0


class Number(Section):
    """A number that a report prints."""

    report: ReportName
    section: str
    quantity: str
    published: float
    tolerance: Annotated[float, Field(ge=0)]
    curve: Point | None = None
    metric: Metric | None = None

    def is_reproduced_by(self, measured: float) -> bool:
        """Tell whether a measured value is within the tolerance."""
        # The slack is for binary fractions alone: 0.955 - 0.95 is a little over 0.005.
        return abs(measured - self.published) <= self.tolerance + 1e-9


class Claim(Section):
    """What a report says of a curve."""

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
    date: Any
    protocol: str


class Published(Section):
    """The whole of data/published.yaml."""

    reports: dict[ReportName, Report]
    numbers: list[Number]
    claims: list[Claim]


def value_of(point: Point, curves: Curves) -> float | None:
    """Return a point of the curves, None where this run has no such variant, split or epoch.

    Raises:
        UserError: the curve has no such column.
    """
    curve = curves.get((point.variant, point.split))
    if not curve:
        return None
    if point.column not in curve:
        raise UserError(f"published column '{point.column}' is none of {', '.join(curve)} of split {point.split}")
    column = curve[point.column]
    epochs = sorted(column)
    match point.epoch:
        case "first":
            epoch = epochs[0]
        case "last":
            epoch = epochs[-1]
        case "highest":
            epoch = max(epochs, key=lambda each: column[each])
        case "lowest loss":
            epoch = min(epochs, key=lambda each: curve["loss"][each])
        case int(epoch):
            pass
    return column.get(epoch)


def compare_number(
    number: Number, curves: Curves, read: Callable[[str], Any | None], experiments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a published number beside this run's, and beside those of the experiments that other protocols were.

    Args:
        number: the number; just one of its `curve` and `metric` says where to find this run's.
        curves: this run's.
        read: gives the content of a metrics file by its path, None where this run wrote none.
        experiments: the content of metrics/experiments.json.
    """
    measured = value_of(number.curve, curves) if number.curve else _sum(number.metric, read)
    return {
        "report": number.report,
        "section": number.section,
        "quantity": number.quantity,
        "published": number.published,
        "measured": measured,
        "difference": None if measured is None else measured - number.published,
        "tolerance": number.tolerance,
        "reproduced": None if measured is None else number.is_reproduced_by(measured),
        "variant": number.curve.variant if number.curve else None,
        "experiments": {
            name: {key: row[key] for key in ("epoch", "mean", "standard_deviation", "reproduced")}
            for name, experiment in experiments.items()
            for row in experiment["numbers"]
            if (row["report"], row["quantity"]) == (number.report, number.quantity)
        },
    }


def compare_claim(claim: Claim, curves: Curves) -> dict[str, Any]:
    """Return a claim with the two values that it is about, and whether it holds, None where this run can't tell."""
    start, end = value_of(claim.start, curves), value_of(claim.end, curves)
    holds = None
    if start is not None and end is not None:
        change = end - start
        holds = {"rises": change > claim.by, "falls": -change > claim.by, "stays": abs(change) <= claim.by}[
            claim.change
        ]
    return {
        "report": claim.report,
        "section": claim.section,
        "claim": claim.claim,
        "from": start,
        "to": end,
        "by": claim.by,
        "change": claim.change,
        "holds": holds,
        "variant": claim.start.variant,
    }


def _sum(metric: Metric | None, read: Callable[[str], Any | None]) -> float | None:
    content = read(metric.file) if metric else None
    if metric is None or content is None:
        return None
    total = 0.0
    for key in metric.sum_of:
        value = content
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise UserError(f"{metric.file} has no key {key}, which data/published.yaml asks for")
            value = value[part]
        total += value
    return total * metric.times

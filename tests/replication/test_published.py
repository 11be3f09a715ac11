from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import ROOT, committed_params

from digits.core import config, params
from digits.core.errors import UserError
from digits.replication import published
from digits.replication.protocols import describe
from digits.replication.published import Claim, ExperimentNumber, ExperimentResult, Metric, Number, Point

CURVES: published.Curves = {
    ("mlp64", "test"): pd.DataFrame(
        {"epoch": [1, 2, 3], "accuracy": [0.90, 0.96, 0.95], "loss": [0.5, 0.2, 0.3], "confidence_wrong": float("nan")},
        index=[1, 2, 3],
    )
}


def number(published_value: float = 0.95, tolerance: float = 0.005, **where: Any) -> Number:
    return Number(report="A", section="7", quantity="accuracy", published=published_value, tolerance=tolerance, **where)


def point(epoch: int | str, column: str = "accuracy", **other: str) -> Point:
    return Point.model_validate({"variant": "mlp64", "split": "test", "column": column, "epoch": epoch} | other)


def read(file: str) -> Any:
    return {"metrics/a.json": {"test": {"images": 3}, "train": {"images": 4}}}.get(file)


def compare(given: Number) -> published.NumberComparison:
    return published.compare_number(given, CURVES, read, {})


@pytest.mark.parametrize(
    ("epoch", "value"),
    [(2, 0.96), ("first", 0.90), ("last", 0.95), ("highest", 0.96), ("lowest loss", 0.96), (9, None)],
)
def test_a_point_names_a_value_of_a_curve(epoch: int | str, value: float | None) -> None:
    assert published.value_of(point(epoch), CURVES) == value


def test_the_epoch_is_a_column_of_the_curve() -> None:
    assert published.value_of(point("lowest loss", "epoch"), CURVES) == 2


def test_a_column_without_a_value_has_none_at_any_point() -> None:
    assert published.value_of(point("last", "confidence_wrong"), CURVES) is None


def test_a_variant_that_was_not_run_has_no_value() -> None:
    result = compare(number(curve=point("last", variant="cnn")))
    assert (result.measured, result.difference, result.reproduced) == (None, None, None)


def test_a_metrics_file_that_was_not_written_has_no_value() -> None:
    result = compare(number(metric=Metric(file="metrics/b.json", sum_of=["images"])))
    assert (result.measured, result.difference, result.reproduced) == (None, None, None)


def test_an_unknown_column_is_an_error_of_one_line() -> None:
    with pytest.raises(UserError, match="no column 'precision': the columns are epoch, accuracy, loss"):
        published.value_of(point("last", "precision"), CURVES)


@pytest.mark.parametrize(("value", "reproduced"), [(0.955, True), (0.945, True), (0.9551, False), (0.9449, False)])
def test_a_number_within_the_tolerance_is_reproduced(value: float, reproduced: bool) -> None:
    assert compare(number(value, curve=point("last"))).reproduced is reproduced


def in_experiment(quantity: str) -> ExperimentNumber:
    return ExperimentNumber(
        report="A",
        quantity=quantity,
        epoch=21,
        published=0.95,
        mean=0.95,
        standard_deviation=0.01,
        values=[0.94, 0.96],
        tolerance=0.01,
        reproduced=True,
    )


def test_a_number_comes_with_the_experiments_that_measure_it() -> None:
    numbers = [in_experiment("loss"), in_experiment("accuracy")]
    experiments = {
        "refit": ExperimentResult("refitted", [], [0, 1], numbers),
        "other": ExperimentResult("other", [], [0, 1], numbers[:1]),
    }
    result = published.compare_number(number(curve=point("last")), CURVES, read, experiments)
    row = {"epoch": 21, "mean": 0.95, "standard_deviation": 0.01, "reproduced": True}
    assert asdict(result)["experiments"] == {"refit": row}


def test_a_number_may_be_a_sum_of_metrics() -> None:
    metric = Metric(file="metrics/a.json", sum_of=["test.images", "train.images"], times=0.5)
    assert compare(number(3.5, 0.0, metric=metric)).reproduced is True
    with pytest.raises(UserError, match=r"metrics/a.json has no key test.labels"):
        compare(number(metric=Metric(file="metrics/a.json", sum_of=["test.labels"])))


@pytest.mark.parametrize(
    ("change", "by", "holds"),
    [
        ("rises", 0.05, True),
        ("rises", 0.15, False),
        ("falls", 0.0, False),
        ("stays", 0.05, False),
        ("stays", 0.2, True),
    ],
)
def test_a_claim_holds_by_sign_and_size(change: str, by: float, holds: bool) -> None:
    claim = Claim.model_validate(
        {
            "report": "A",
            "section": "7",
            "claim": "it changes",
            "change": change,
            "by": by,
            "start": point(2, "loss").model_dump(),
            "end": point("last", "loss").model_dump(),
        }
    )
    result = published.check_claim(claim, CURVES)
    assert (result.start, result.end) == (0.2, 0.3)
    assert result.holds is holds
    assert published.check_claim(claim, {}) == published.ClaimComparison(claim, None, None, None)


@pytest.mark.parametrize("content", ['{"refit": {"says": "refitted"}}', "[]"])
def test_unexpected_experiment_results_are_an_error_of_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "experiments.json"
    path.write_text(content, "utf-8")
    with pytest.raises(
        UserError, match=r"^\S+/experiments\.json: unexpected content at '[a-z.]*': type `make exp[^\n]*$"
    ):
        published.read_experiments(path)


def test_the_committed_file_is_valid_and_each_number_has_one_source() -> None:
    source = config.read(ROOT / "data/published.yaml", published.Published)
    assert all((number.curve is None) != (number.metric is None) for number in source.numbers)
    assert {number.report for number in source.numbers} == {"A", "B"}


def test_a_protocol_is_described_in_words() -> None:
    settings = committed_params()
    layer = params.Convolution(filters=8, kernel=5, pool=2)
    model = settings.models["cnn-large"].model_copy(update={"convolutions": [layer]})
    described = describe(settings.model_copy(update={"models": {"pooled": model}}), "pooled")
    assert described == (
        "convolution 5x5 stride 1 to 8, pool 2, dropout 0.4, dense 256 ReLU, softmax; pixels from 0 to 1; "
        "adam 0.003 times 0.9 each epoch, batch 128, weights averaged with momentum 0.998; "
        "all training images trained on; each training image shifted by at most 1 pixels; "
        "rotated by at most 10 degrees, zoomed by 10%, sheared by 0.1; "
        "one run of 30 epochs from scratch, seed 0, measured after each epoch"
    )

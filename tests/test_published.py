from typing import Any

import pytest
from conftest import ROOT

from digits import params, published
from digits.errors import UserError
from digits.published import Claim, Metric, Number, Point
from digits.stages import compare

CURVES: published.Curves = {
    ("mlp64", "test"): {
        "epoch": {1: 1, 2: 2, 3: 3},
        "accuracy": {1: 0.90, 2: 0.96, 3: 0.95},
        "loss": {1: 0.5, 2: 0.2, 3: 0.3},
    }
}


def number(published_value: float = 0.95, tolerance: float = 0.005, **where: Any) -> Number:
    return Number(report="A", section="7", quantity="accuracy", published=published_value, tolerance=tolerance, **where)


def point(epoch: int | str, column: str = "accuracy", **other: str) -> Point:
    return Point.model_validate({"variant": "mlp64", "split": "test", "column": column, "epoch": epoch} | other)


def read(file: str) -> Any:
    return {"metrics/a.json": {"test": {"images": 3}, "train": {"images": 4}}}.get(file)


@pytest.mark.parametrize(
    ("epoch", "value"),
    [(2, 0.96), ("first", 0.90), ("last", 0.95), ("highest", 0.96), ("lowest loss", 0.96), (9, None)],
)
def test_a_point_of_a_curve(epoch: int | str, value: float | None) -> None:
    assert published.value_of(point(epoch), CURVES) == value


def test_the_epoch_itself_is_a_column() -> None:
    assert published.value_of(point("lowest loss", "epoch"), CURVES) == 2


def test_a_variant_that_was_not_run_has_no_value() -> None:
    result = published.compare_number(number(curve=point("last", variant="cnn")), CURVES, read, {})
    assert (result["measured"], result["difference"], result["reproduced"]) == (None, None, None)


def test_a_column_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UserError, match="'precision' is none of epoch, accuracy, loss"):
        published.value_of(point("last", "precision"), CURVES)


@pytest.mark.parametrize(("value", "reproduced"), [(0.955, True), (0.945, True), (0.9551, False), (0.9449, False)])
def test_reproduced_is_within_the_tolerance(value: float, reproduced: bool) -> None:
    assert published.compare_number(number(value, curve=point("last")), CURVES, read, {})["reproduced"] is reproduced


def test_a_number_stands_beside_the_experiments_that_sought_it() -> None:
    row = {"epoch": 21, "mean": 0.95, "standard_deviation": 0.01, "reproduced": True}
    other = row | {"report": "A", "quantity": "loss"}
    experiments = {"refit": {"numbers": [other, row | {"report": "A", "quantity": "accuracy", "values": [0.95]}]}}
    result = published.compare_number(number(curve=point("last")), CURVES, read, experiments)
    assert result["experiments"] == {"refit": row}


def test_a_sum_of_metrics() -> None:
    metric = Metric(file="metrics/a.json", sum_of=["test.images", "train.images"], times=0.5)
    assert published.compare_number(number(3.5, 0.0, metric=metric), CURVES, read, {})["reproduced"] is True
    with pytest.raises(UserError, match=r"metrics/a.json has no key test.labels"):
        published.compare_number(number(metric=Metric(file="metrics/a.json", sum_of=["test.labels"])), CURVES, read, {})


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
    result = published.compare_claim(claim, CURVES)
    assert (result["from"], result["to"]) == (0.2, 0.3)
    assert result["holds"] is holds


def test_the_committed_file_is_allowed_and_asks_for_one_thing_a_number() -> None:
    source = params.read(ROOT / "data/published.yaml", published.Published)
    assert all((number.curve is None) != (number.metric is None) for number in source.numbers)
    assert {number.report for number in source.numbers} == {"A", "B"}


def test_a_protocol_is_told_in_words() -> None:
    settings = params.load(ROOT / "params.yaml")
    layer = params.Convolution(filters=8, kernel=5, pool=2)
    model = settings.models["cnn-large"].model_copy(update={"convolutions": [layer]})
    told = compare._protocol(settings.model_copy(update={"models": {"pooled": model}}), "pooled")
    assert told == (
        "convolution 5x5 stride 1 to 8, pool 2, dropout 0.4, dense 256 ReLU, softmax; pixels from 0 to 1; "
        "adam 0.003 times 0.9 each epoch, batch 128, weights averaged with momentum 0.998; "
        "all training images trained on; each training image shifted by at most 1 pixels; "
        "rotated by at most 10 degrees, zoomed by 10%, sheared by 0.1; "
        "one run of 30 epochs from scratch, seed 0, measured after each epoch"
    )

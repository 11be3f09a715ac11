from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import ROOT, committed_params

from digits.core import config, params
from digits.core.errors import UserError
from digits.replication import published
from digits.replication.protocols import describe
from digits.replication.published import (
    Claim,
    ClaimComparison,
    Curves,
    ExperimentNumber,
    ExperimentResult,
    Measurement,
    Metric,
    Number,
    Point,
)

SEEDS = {  # accuracy and loss after each of three epochs
    0: [(0.90, 0.5), (0.96, 0.2), (0.95, 0.3)],
    1: [(0.89, 0.6), (0.93, 0.4), (0.94, 0.3)],
    2: [(0.91, 0.5), (0.97, 0.3), (0.96, 0.5)],
}


def curves(*seeds: int) -> Curves:
    rows = [
        {"epoch": epoch, "seed": seed, "accuracy": accuracy, "loss": loss, "confidence_wrong": None}
        for seed in seeds
        for epoch, (accuracy, loss) in enumerate(SEEDS[seed], 1)
    ]
    return {("mlp64", "test"): pd.DataFrame(rows)}


CURVES = curves(0, 1, 2)


def number(published_value: float = 0.95, rounding: float = 0.005, **where: Any) -> Number:
    return Number(report="A", section="7", quantity="accuracy", published=published_value, rounding=rounding, **where)


def point(epoch: int | str, column: str = "accuracy", **other: str) -> Point:
    return Point.model_validate({"variant": "mlp64", "split": "test", "column": column, "epoch": epoch} | other)


def read(file: str) -> Any:
    return {"metrics/a.json": {"test": {"images": 3}, "train": {"images": 4}}}.get(file)


def compare(given: Number) -> published.NumberComparison:
    return published.compare_number(given, CURVES, read, {})


@pytest.mark.parametrize(
    ("epoch", "values"),
    [
        (2, [0.96, 0.93, 0.97]),
        ("first", [0.90, 0.89, 0.91]),
        ("last", [0.95, 0.94, 0.96]),
        ("highest", [0.96, 0.94, 0.97]),
        ("lowest loss", [0.96, 0.94, 0.97]),
        (9, []),
    ],
)
def test_a_point_names_a_value_of_each_seed(epoch: int | str, values: list[float]) -> None:
    assert published.values_of(point(epoch), CURVES) == values


def test_the_epoch_is_a_column_of_the_curve() -> None:
    assert published.values_of(point("lowest loss", "epoch"), CURVES) == [2, 3, 2]


def test_a_column_without_a_value_has_none_at_any_point() -> None:
    assert published.values_of(point("last", "confidence_wrong"), CURVES) == []


def test_a_point_that_one_seed_lacks_has_no_values() -> None:
    whole = CURVES["mlp64", "test"]
    shorter = {("mlp64", "test"): whole[(whole["seed"] != 1) | (whole["epoch"] != 3)]}
    assert published.values_of(point(2), shorter) == [0.96, 0.93, 0.97]
    assert published.values_of(point(3), shorter) == []


def test_a_variant_that_was_not_run_has_no_value() -> None:
    result = compare(number(curve=point("last", variant="cnn")))
    assert (result.measured, result.variant) == (None, "cnn")


def test_a_metrics_file_that_was_not_written_has_no_value() -> None:
    assert compare(number(metric=Metric(file="metrics/b.json", sum_of=["images"]))).measured is None


def test_an_unknown_column_is_an_error_of_one_line() -> None:
    with pytest.raises(UserError, match="no column 'precision': the columns are epoch, seed, accuracy, loss"):
        published.values_of(point("last", "precision"), CURVES)


# Of 0.95, 0.94 and 0.96, the standard deviation is 0.01. The 95 % prediction interval for one more run extends over
# 4.3027 (of t with 2 degrees of freedom) times 0.01 times the root of 1 + 1 / 3, on both sides of the mean.
HALF = 4.3027 * 0.01 * (4 / 3) ** 0.5


def test_a_measurement_has_the_mean_the_spread_the_values_and_the_prediction_interval() -> None:
    measured = compare(number(curve=point("last"))).measured
    assert measured
    assert measured.mean == pytest.approx(0.95)
    assert measured.std == pytest.approx(0.01)
    assert measured.values == [0.95, 0.94, 0.96]
    assert measured.interval == pytest.approx((0.95 - HALF, 0.95 + HALF), abs=1e-6)
    assert measured.reproduced is True


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("rounding", [0.0, 0.005])
def test_a_number_in_the_prediction_interval_give_or_take_its_rounding_is_reproduced(
    sign: int, rounding: float
) -> None:
    for distance, reproduced in ((-1e-4, True), (1e-4, False)):
        value = 0.95 + sign * (HALF + rounding + distance)
        measured = compare(number(value, rounding, curve=point("last"))).measured
        assert measured
        assert measured.reproduced is reproduced


def test_a_single_seed_neither_reproduces_nor_misses_a_number() -> None:
    measured = published.measure(number(curve=point("last")), [0.95])
    assert measured == Measurement(0.95, None, [0.95], None, None)


def test_a_proportion_of_other_images_has_a_wider_interval() -> None:
    values = [0.9501, 0.95, 0.9499]
    same = published.measure(number(0.96, 0.0, curve=point("last")), values)
    other = published.measure(number(0.96, 0.0, curve=point("last"), images=1000), values)
    assert same.interval
    assert other.interval
    assert same.interval[1] - same.interval[0] < 0.001
    # The seeds hardly differ: what remains is twice the binomial variance of a proportion of 1000 images.
    half = 1.96 * (2 * 0.95 * 0.05 / 1000) ** 0.5
    assert other.interval == pytest.approx((0.95 - half, 0.95 + half), rel=1e-3)
    assert (same.reproduced, other.reproduced) == (False, True)


def in_experiment(quantity: str, reproduced: bool | None) -> ExperimentNumber:
    measured = Measurement(0.95, 0.01, [0.94, 0.96], (0.8, 1.1), reproduced)
    return ExperimentNumber(report="A", quantity=quantity, epoch=21, published=0.95, measured=measured)


def test_a_number_comes_with_the_experiments_that_measure_it() -> None:
    loss, accuracy, unknown = (
        in_experiment("loss", reproduced=False),
        in_experiment("accuracy", reproduced=True),
        in_experiment("accuracy", reproduced=None),
    )
    experiments = {
        "refit": ExperimentResult("refitted", [], [0, 1], [loss, accuracy]),
        "one-seed": ExperimentResult("with one seed", [], [0], [loss, unknown]),
        "other": ExperimentResult("other", [], [0, 1], [loss]),
    }
    result = published.compare_number(number(curve=point("last")), CURVES, read, experiments)
    assert result.experiments == {"refit": True, "one-seed": None}


@pytest.mark.parametrize(
    ("value", "rounding", "reproduced"),
    [(3.5, 0, True), (3.505, 0.005, True), (3.506, 0.005, False), (3.494, 0.005, False)],
)
def test_a_metric_is_reproduced_if_it_is_the_same_after_rounding(
    value: float, rounding: float, reproduced: bool
) -> None:
    metric = Metric(file="metrics/a.json", sum_of=["test.images", "train.images"], times=0.5)
    result = compare(number(value, rounding, metric=metric))
    assert result.measured == Measurement(3.5, None, [3.5], None, reproduced)
    assert result.variant is None


def test_a_metric_that_the_file_does_not_have_is_an_error_of_one_line() -> None:
    with pytest.raises(UserError, match=r"metrics/a.json has no key test.labels$"):
        compare(number(metric=Metric(file="metrics/a.json", sum_of=["test.labels"])))


def claim(change: str, start: int, end: int, within: float | None = None) -> Claim:
    points = {"start": point(start).model_dump(), "end": point(end).model_dump()}
    text = {"report": "A", "section": "7", "claim": "it changes"}
    return Claim.model_validate(text | points | {"change": change, "within": within})


# From epoch 1 to 2, the accuracy of the seeds changes by 0.06, 0.04 and 0.06, and the 95 % interval of the mean is
# 0.0533 ± 0.0287. From 2 to 3, it changes by -0.01, 0.01 and -0.01: -0.0033 ± 0.0287.
@pytest.mark.parametrize(
    ("change", "start", "end", "within", "holds"),
    [
        ("rises", 1, 2, None, True),
        ("rises", 2, 1, None, False),
        ("rises", 2, 3, None, False),
        ("rises", 3, 2, None, False),
        ("falls", 2, 1, None, True),
        ("falls", 1, 2, None, False),
        ("falls", 2, 3, None, False),
        ("stays", 2, 3, 0.0321, True),
        ("stays", 3, 2, 0.0321, True),
        ("stays", 2, 3, 0.0320, False),
        ("stays", 1, 2, 0.06, False),
    ],
)
def test_a_claim_holds_by_the_interval_of_the_mean_change(
    change: str, start: int, end: int, within: float | None, holds: bool
) -> None:
    result = published.check_claim(claim(change, start, end, within), CURVES)
    means = {1: 0.90, 2: 0.86 / 3 + 2 / 3, 3: 0.95}
    assert (result.start, result.end) == pytest.approx((means[start], means[end]))
    assert result.interval
    assert sum(result.interval) / 2 == pytest.approx(means[end] - means[start])
    assert result.interval[1] - result.interval[0] == pytest.approx(2 * 0.02868, rel=1e-3)
    assert result.holds is holds


@pytest.mark.parametrize("change", ["rises", "falls", "stays"])
def test_a_claim_neither_holds_nor_fails_by_a_single_seed(change: str) -> None:
    given = claim(change, 1, 2, 0.5 if change == "stays" else None)
    assert published.check_claim(given, curves(1)) == ClaimComparison(given, 0.89, 0.93, None, None)


def test_a_claim_about_a_variant_that_was_not_run_is_not_checked() -> None:
    given = claim("rises", 1, 2)
    assert published.check_claim(given, {}) == ClaimComparison(given, None, None, None, None)


@pytest.mark.parametrize(
    ("before", "after"), [(", within: 0.01,", ","), ("change: falls,", "change: falls, within: 1,")]
)
def test_within_without_a_claim_that_a_curve_stays_and_the_reverse_are_errors_of_one_line(
    tmp_path: Path, before: str, after: str
) -> None:
    path = tmp_path / "published.yaml"
    text = (ROOT / "data/published.yaml").read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), "utf-8")
    with pytest.raises(
        UserError, match=r"^\S+/published\.yaml: .*within belongs to a claim that a curve stays, and to no other$"
    ):
        config.read(path, published.Published)


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
    layer = params.ConvolutionSettings(filters=8, kernel=5, pool=2)
    model = settings.models["cnn-large"].model_copy(update={"convolutions": [layer]})
    described = describe(settings.model_copy(update={"models": {"pooled": model}}), "pooled")
    assert described == (
        "convolution 5x5 stride 1 to 8, pool 2, dropout 0.4, dense 256 ReLU, softmax; pixels from 0 to 1; "
        "adam 0.003 times 0.9 each epoch, batch 128, weights averaged with momentum 0.998; "
        "all training images trained on; each training image shifted by at most 1 pixels; "
        "rotated by at most 10 degrees, zoomed by 10%, sheared by 0.1; "
        "runs of 30 epochs from scratch, seeds 0, 1, 2, 3, 4, measured after each epoch"
    )


def test_the_protocol_of_a_single_seed_names_it() -> None:
    settings = committed_params()
    one = settings.model_copy(update={"train": settings.train.model_copy(update={"seeds": [7]})})
    assert describe(one, "softmax").endswith("; runs of 30 epochs from scratch, seed 7, measured after each epoch")


def test_the_numbers_apply_to_mnist_alone() -> None:
    source = config.read(ROOT / "data/published.yaml", published.Published)
    files = committed_params().download.files.by_name()
    assert source.applies_to(files)
    name, spec = next(iter(files.items()))
    assert not source.applies_to(files | {name: spec.model_copy(update={"sha256": "0" * 64})})

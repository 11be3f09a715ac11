from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError
from support import ROOT, committed_params

from digits.core import config, params
from digits.core.errors import UserError
from digits.replication import published
from digits.replication.protocols import describe
from digits.replication.published import Claim, ClaimComparison, Curves, Measurement, Metric, Number, Point

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
    ("epoch", "column", "values"),
    [
        (2, "accuracy", [0.96, 0.93, 0.97]),
        ("first", "accuracy", [0.90, 0.89, 0.91]),
        ("last", "accuracy", [0.95, 0.94, 0.96]),
        ("highest", "accuracy", [0.96, 0.94, 0.97]),
        ("lowest loss", "accuracy", [0.96, 0.94, 0.97]),
        ("lowest loss", "epoch", [2, 3, 2]),
        (9, "accuracy", []),
        ("last", "confidence_wrong", []),
    ],
)
def test_a_point_names_a_value_of_each_seed(epoch: int | str, column: str, values: list[float]) -> None:
    assert published.values_of(point(epoch, column), CURVES) == values


def test_a_point_that_one_seed_lacks_has_no_values() -> None:
    whole = CURVES["mlp64", "test"]
    shorter = {("mlp64", "test"): whole[(whole["seed"] != 1) | (whole["epoch"] != 3)]}
    assert published.values_of(point(2), shorter) == [0.96, 0.93, 0.97]
    assert published.values_of(point(3), shorter) == []


def test_what_was_not_run_or_not_written_has_no_value() -> None:
    result = compare(number(curve=point("last", variant="cnn")))
    assert (result.measured, result.variant) == (None, "cnn")
    assert compare(number(metric=Metric(file="metrics/b.json", sum_of=["images"]))).measured is None


def test_an_unknown_column_is_an_error_of_one_line() -> None:
    with pytest.raises(UserError, match="no column 'precision': the columns are epoch, seed, accuracy, loss"):
        published.values_of(point("last", "precision"), CURVES)


# Of 0.95, 0.94 and 0.96, the standard deviation is 0.01. The 95 % prediction interval for one more run extends over
# 4.3027 (of t with 2 degrees of freedom) times 0.01 times the root of 1 + 1 / 3, on both sides of the mean.
HALF = 4.3027 * 0.01 * (4 / 3) ** 0.5


def test_a_measurement_has_the_mean_the_spread_the_values_and_the_prediction_interval() -> None:
    measured = published.measure(number(curve=point("last")), [0.95, 0.94, 0.96])
    assert (measured.mean, measured.std) == pytest.approx((0.95, 0.01))
    assert measured.values == [0.95, 0.94, 0.96]
    assert measured.interval == pytest.approx((0.95 - HALF, 0.95 + HALF), abs=1e-6)


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


def test_a_number_comes_with_the_experiments_that_measure_it() -> None:
    def experiment(reproduced: bool | None, quantity: str = "accuracy") -> published.ExperimentResult:
        measured = Measurement(0.95, 0.01, [0.94, 0.96], (0.8, 1.1), reproduced)
        rows = [published.ExperimentNumber("A", name, 21, 0.95, measured) for name in ("loss", quantity)]
        return published.ExperimentResult("another protocol", [], [0, 1], rows)

    experiments = {"refit": experiment(True), "one-seed": experiment(None), "other": experiment(True, "recall")}
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
        ("falls", 2, 1, None, True),
        ("falls", 1, 2, None, False),
        ("falls", 2, 3, None, False),
        ("stays", 2, 3, 0.0321, True),
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


def test_a_claim_neither_holds_nor_fails_by_a_single_seed_or_without_a_run() -> None:
    given = claim("rises", 1, 2)
    assert published.check_claim(given, curves(1)) == ClaimComparison(given, 0.89, 0.93, None, None)
    assert published.check_claim(given, {}) == ClaimComparison(given, None, None, None, None)


@pytest.mark.parametrize(("change", "within"), [("stays", None), ("falls", 1.0)])
def test_within_without_a_claim_that_a_curve_stays_and_the_reverse_are_refused(
    change: str, within: float | None
) -> None:
    with pytest.raises(ValidationError, match=r": within belongs to a claim that a curve stays, and to no other"):
        claim(change, 1, 2, within)


@pytest.mark.parametrize("content", ['{"refit": {"says": "refitted"}}', "[]"])
def test_unexpected_experiment_results_are_an_error_of_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "experiments.json"
    path.write_text(content, "utf-8")
    with pytest.raises(
        UserError, match=r"^\S+/experiments\.json: unexpected content at '[a-z.]*': type `make exp[^\n]*$"
    ):
        published.read_experiments(path)


def test_a_protocol_is_described_in_words() -> None:
    settings = committed_params()
    layer = params.ConvolutionSettings(filters=8, kernel=5, pool=2)
    model = settings.models["cnn-large"].model_copy(update={"convolutions": [layer]})
    pooled = settings.model_copy(update={"models": {"pooled": model}})
    assert describe(pooled, "pooled") == (
        "convolution 5x5 stride 1 to 8, pool 2, dropout 0.4, dense 256 ReLU, softmax; pixels from 0 to 1; "
        "adam 0.003 times 0.9 each epoch, batch 128, weights averaged with momentum 0.998; "
        "all training images trained on; each training image shifted by at most 1 pixels; "
        "rotated by at most 10 degrees, zoomed by 10%, sheared by 0.1; "
        "runs of 30 epochs from scratch, seeds 0, 1, 2, 3, 4, measured after each epoch"
    )
    one = pooled.model_copy(update={"train": settings.train.model_copy(update={"seeds": [7]})})
    assert describe(one, "pooled").endswith("; runs of 30 epochs from scratch, seed 7, measured after each epoch")


def test_the_committed_numbers_have_one_source_each_and_apply_to_mnist_alone() -> None:
    source = config.read(ROOT / "data/published.yaml", published.Published)
    assert all((number.curve is None) != (number.metric is None) for number in source.numbers)
    files = committed_params().download.files.by_name()
    assert source.applies_to(files)
    name, spec = next(iter(files.items()))
    assert not source.applies_to(files | {name: spec.model_copy(update={"sha256": "0" * 64})})

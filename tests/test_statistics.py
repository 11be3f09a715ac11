import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from digits import statistics

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 10, 500)
LOGITS = (RNG.normal(size=(500, 10)) * 3).astype(np.float32)
PROBABILITIES = np.exp(statistics.log_softmax(LOGITS))


def test_cross_entropy_and_accuracy_are_those_of_scikit_learn() -> None:
    assert statistics.cross_entropy(LOGITS, LABELS) == pytest.approx(metrics.log_loss(LABELS, PROBABILITIES))
    assert statistics.accuracy(LOGITS, LABELS) == metrics.accuracy_score(LABELS, LOGITS.argmax(axis=1))


def test_a_confident_mistake_is_not_clipped() -> None:
    assert statistics.cross_entropy(np.array([[1000.0, 0.0]]), np.array([1])) == 1000


def test_rows_of_unlike_size_do_not_underflow() -> None:
    logits = np.array([[2000.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(statistics.log_softmax(logits), np.array([[0, -2000], [-math.log(2)] * 2]))


@given(st.integers(1, 10_000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_wilson_is_that_of_statsmodels(counts: tuple[int, int]) -> None:
    lower, upper = statistics.wilson(*counts)
    assert 0 <= lower <= counts[0] / counts[1] <= upper <= 1
    assert (lower, upper) == pytest.approx(proportion_confint(*counts, method="wilson"), abs=1e-12)


@settings(max_examples=10)  # statsmodels takes 40 ms each
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    assert statistics.holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_calibration_of_a_case_worked_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.45, 0.55], [0.4, 0.6]])
    result = statistics.calibration(probabilities, np.array([0, 1, 1, 1]), bins=2)
    # All four confidences, mean 0.7125, lie in (0.5, 1], and three of four are right.
    assert result.expected_error == pytest.approx(abs(0.75 - 0.7125))
    assert [row.count for row in result.bins] == [0, 4]
    assert result.bins[0].accuracy is None
    finer = statistics.calibration(probabilities, np.array([0, 1, 1, 1]), bins=10)
    # (0.5, 0.6]: both right at 0.575; (0.7, 0.8]: wrong at 0.8; (0.8, 0.9]: right at 0.9.
    assert finer.expected_error == pytest.approx((2 * 0.425 + 0.8 + 0.1) / 4)


def test_calibration_bins_are_open_below_and_closed_above() -> None:
    # The last row is what rounding to float32 makes of certainty.
    probabilities = np.array([[0.4, 0.3, 0.3], [0.25, 0.5, 0.25], [0.75, 0.25, 0], [1.0000001, 0, 0]], np.float32)
    low, high = statistics.calibration(probabilities, np.array([0, 0, 0, 0]), bins=2).bins
    assert (low.lower, low.upper, low.count, low.accuracy) == (0, 0.5, 2, 0.5)
    assert (high.lower, high.upper, high.count, high.accuracy) == (0.5, 1, 2, 1)
    assert (low.confidence, high.confidence) == pytest.approx((0.45, 0.875))


def test_calibration_of_certainty() -> None:
    certain = np.eye(10)[LABELS]
    assert statistics.calibration(certain, LABELS, 15).expected_error == 0
    assert statistics.calibration(certain, (LABELS + 1) % 10, 15).expected_error == 1


def test_confusion_and_class_figures_are_those_of_scikit_learn() -> None:
    predicted = LOGITS.argmax(axis=1)
    table = statistics.confusion(LABELS, predicted, 10)
    np.testing.assert_array_equal(table, metrics.confusion_matrix(LABELS, predicted))
    expected = metrics.precision_recall_fscore_support(LABELS, predicted)
    for index, figures in enumerate(statistics.per_class(table)):
        mine = (figures.precision, figures.recall, figures.f1, figures.support)
        assert mine == pytest.approx([values[index] for values in expected])


def test_a_confusion_table_has_a_row_and_a_column_for_classes_that_do_not_occur() -> None:
    table = statistics.confusion(np.array([0, 1]), np.array([1, 0]), 3)
    np.testing.assert_array_equal(table, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])


def test_a_class_never_seen_nor_predicted_has_figures_of_zero() -> None:
    figures = statistics.per_class(np.array([[3, 0], [0, 0]]))[1]
    assert (figures.precision, figures.recall, figures.f1, figures.support) == (0, 0, 0, 0)
    assert not math.isnan(figures.f1)

import numpy as np
import pytest

from digits.evaluation import metrics
from digits.evaluation.metrics import ClassMetrics

LABELS = np.array([0, 0, 0, 1, 1, 9])
PREDICTED = np.array([0, 0, 1, 1, 0, 4])


def test_the_confusion_matrix_has_a_row_for_each_label_and_a_column_for_each_prediction() -> None:
    expected = np.zeros((10, 10), int)
    expected[0, 0], expected[0, 1], expected[1, 1], expected[1, 0], expected[9, 4] = 2, 1, 1, 1, 1
    np.testing.assert_array_equal(metrics.confusion(LABELS, PREDICTED), expected)


def test_precision_recall_and_f1_of_a_case_worked_by_hand_are_zero_where_undefined() -> None:
    found = metrics.per_class(LABELS, PREDICTED)
    assert (found[0].precision, found[0].recall, found[0].f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (found[0].support, type(found[0].support)) == (3, int)
    assert found[1] == ClassMetrics(precision=0.5, recall=0.5, f1=0.5, support=2)
    nothing = ClassMetrics(precision=0, recall=0, f1=0, support=0)
    assert [found[digit] for digit in (2, 3, 4, 5, 6, 7, 8)] == [nothing] * 7
    assert found[9] == ClassMetrics(precision=0, recall=0, f1=0, support=1)


def test_the_calibration_error_of_a_case_worked_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.45, 0.55], [0.4, 0.6]])
    result = metrics.calibration(probabilities, np.array([0, 1, 1, 1]), bins=2)
    # All four confidences, mean 0.7125, lie in (0.5, 1], and three of four are right.
    assert result.expected_error == pytest.approx(abs(0.75 - 0.7125))
    assert [row.count for row in result.bins] == [0, 4]
    assert result.bins[0].accuracy is None
    finer = metrics.calibration(probabilities, np.array([0, 1, 1, 1]), bins=10)
    # (0.5, 0.6]: both right at 0.575; (0.7, 0.8]: wrong at 0.8; (0.8, 0.9]: right at 0.9.
    assert finer.expected_error == pytest.approx((2 * 0.425 + 0.8 + 0.1) / 4)


def test_calibration_bins_are_open_below_and_closed_above() -> None:
    # In float32, rounding can make a certain prediction slightly more than 1, as in the last row.
    probabilities = np.array([[0.4, 0.3, 0.3], [0.25, 0.5, 0.25], [0.75, 0.25, 0], [1.0000001, 0, 0]], np.float32)
    low, high = metrics.calibration(probabilities, np.array([0, 0, 0, 0]), bins=2).bins
    assert (low.lower, low.upper, low.count, low.accuracy) == (0, 0.5, 2, 0.5)
    assert (high.lower, high.upper, high.count, high.accuracy) == (0.5, 1, 2, 1)
    assert (low.confidence, high.confidence) == pytest.approx((0.45, 0.875))

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from digits.evaluation import error_analysis
from digits.evaluation.error_analysis import Distances, NearestImages

LABELS = np.array([0, 1, 2, 3, 4, 5])
WRONG = np.array([True, True, True, False, False, False])


def squared_distances(nearest: list[int], own: list[int]) -> np.ndarray:
    """Return distances to each digit, such that `nearest` is the nearest and `own` the distance to the image's own."""
    squares = np.full((len(LABELS), 10), 10**6)
    squares[np.arange(len(LABELS)), LABELS] = own
    for row, digit in enumerate(nearest):
        squares[row, digit] = min(squares[row, digit], own[row] - 1 if digit != LABELS[row] else own[row])
    return squares


def test_resemblance_counts_the_nearest_images_that_show_another_digit() -> None:
    predicted = np.array([6, 9, 2, 3, 4, 5])
    squares = squared_distances(nearest=[6, 7, 2, 3, 9, 5], own=[100] * 6)
    result = error_analysis.resemblance(WRONG, LABELS, predicted, squares)
    assert result.wrong == NearestImages(3, 2, 2 / 3)
    assert result.right == NearestImages(3, 1, 1 / 3)
    assert result.nearest_is_the_prediction_share_of_wrong == 2 / 3  # images 0 and 2
    assert result.odds_ratio == pytest.approx(4)
    assert result.p_value == pytest.approx(1.0)


def test_an_absent_digit_is_never_the_nearest() -> None:
    squares = squared_distances(nearest=[0, 1, 2, 3, 4, 5], own=[100] * 6)
    squares[:, 9] = -1
    assert error_analysis.resemblance(WRONG, LABELS, LABELS, squares).wrong == NearestImages(3, 0, 0.0)


def test_without_mistakes_there_are_no_shares_and_no_tests() -> None:
    none = np.zeros(6, bool)
    squares = squared_distances(nearest=[0, 1, 2, 3, 4, 5], own=[100] * 6)
    result = error_analysis.resemblance(none, LABELS, LABELS, squares)
    assert result.wrong.share is None
    assert result.odds_ratio is None
    rare = error_analysis.rare_style(none, LABELS, squares)
    assert rare.wrong == Distances(0, None)
    assert rare.area_under_curve is None
    assert rare.p_value is None
    pairs = error_analysis.overlap(none, LABELS, LABELS)
    assert (pairs.share_of_errors, pairs.pairs_above_chance) == (0, 0)


def test_rare_style_is_the_area_under_the_roc_curve_of_the_distances() -> None:
    own = [400, 900, 1600, 100, 400, 100]
    result = error_analysis.rare_style(WRONG, LABELS, squared_distances([0, 1, 2, 3, 4, 5], own))
    assert result.area_under_curve == pytest.approx(roc_auc_score(WRONG, own))
    assert result.wrong.distance_quartiles is not None
    assert result.wrong.distance_quartiles[1] == pytest.approx(30 / 255)


def test_overlap_finds_the_pair_that_is_confused_more_often_than_by_chance() -> None:
    table = np.full((10, 10), 1) + np.diag([90] * 10)
    table[4, 9] += 20
    table[9, 4] += 10
    labels, predicted = (np.repeat(axis.ravel(), table.ravel()) for axis in np.indices((10, 10)))
    result = error_analysis.overlap(labels != predicted, labels, predicted)
    first = result.pairs[0]
    assert first.digits == [4, 9]
    assert first.observed == 32
    assert first.expected == pytest.approx((29 + 19) / 9)
    assert first.ratio == pytest.approx(32 / (48 / 9))
    single = binomtest(32, 48, 1 / 9, alternative="greater").pvalue
    assert first.p_value == pytest.approx(45 * single)
    assert result.pairs_above_chance == 1
    assert result.share_of_errors == pytest.approx(32 / 120)
    assert len(result.pairs) == 45
    assert sum(pair.observed for pair in result.pairs) == 120

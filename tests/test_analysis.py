import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from digits import analysis


def squares_of(nearest: list[int], own: list[int], labels: list[int]) -> np.ndarray:
    """Distances such that `nearest` is each image's nearest digit and `own` the distance to its own."""
    squares = np.full((len(labels), 10), 10**6)
    squares[np.arange(len(labels)), labels] = own
    for row, digit in enumerate(nearest):
        squares[row, digit] = min(squares[row, digit], own[row] - 1 if digit != labels[row] else own[row])
    return squares


LABELS = [0, 1, 2, 3, 4, 5]
WRONG = np.array([True, True, True, False, False, False])


def test_resemblance_counts_nearest_images_of_another_digit() -> None:
    predicted = np.array([6, 9, 2, 3, 4, 5])
    squares = squares_of(nearest=[6, 7, 2, 3, 9, 5], own=[100] * 6, labels=LABELS)
    result = analysis.resemblance(WRONG, np.array(LABELS), predicted, squares)
    assert result["wrong"] == {"images": 3, "nearest_is_another_digit": 2, "share": 2 / 3}
    assert result["right"] == {"images": 3, "nearest_is_another_digit": 1, "share": 1 / 3}
    assert result["nearest_is_the_prediction_share_of_wrong"] == 2 / 3  # 6 as predicted, and 2 as predicted
    assert result["odds_ratio"] == pytest.approx(4)
    assert result["p_value"] == pytest.approx(1.0)


def test_no_mistakes_leave_nothing_to_divide_by() -> None:
    none = np.zeros(6, bool)
    squares = squares_of(nearest=LABELS, own=[100] * 6, labels=LABELS)
    result = analysis.resemblance(none, np.array(LABELS), np.array(LABELS), squares)
    assert result["wrong"]["share"] is None
    assert result["odds_ratio"] is None
    rare = analysis.rare_style(none, np.array(LABELS), squares)
    assert rare["wrong"] == {"images": 0, "distance_quartiles": None}
    assert rare["area_under_curve"] is None
    assert analysis.overlap(np.diag([5] * 10))["share_of_errors"] == 0


def test_rare_style_is_the_area_under_the_curve_of_distances() -> None:
    own = [400, 900, 1600, 100, 400, 100]
    result = analysis.rare_style(WRONG, np.array(LABELS), squares_of(LABELS, own, LABELS))
    assert result["area_under_curve"] == pytest.approx(roc_auc_score(WRONG, own))
    assert result["wrong"]["distance_quartiles"][1] == pytest.approx(30 / 255)


def test_overlap_finds_the_pair_confused_above_chance() -> None:
    table = np.full((10, 10), 1) + np.diag([90] * 10)
    table[4, 9] += 20
    table[9, 4] += 10
    result = analysis.overlap(table)
    first = result["pairs"][0]
    assert first["digits"] == [4, 9]
    assert first["observed"] == 32
    assert first["expected"] == pytest.approx((29 + 19) / 9)
    assert first["ratio"] == pytest.approx(32 / (48 / 9))
    single = binomtest(32, 48, 1 / 9, alternative="greater").pvalue
    assert first["p_value"] == pytest.approx(45 * single)
    assert result["pairs_above_chance"] == 1
    assert result["share_of_errors"] == pytest.approx(32 / 120)
    assert len(result["pairs"]) == 45
    assert sum(pair["observed"] for pair in result["pairs"]) == 120

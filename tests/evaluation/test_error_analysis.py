import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from digits.evaluation import error_analysis
from digits.evaluation.error_analysis import Distances, NearestImages

LABELS = np.array([0, 1, 2, 3, 4, 5])
# Of four seeds, all misclassify the first image, some the next two, and none the others.
RATES = np.array([1, 0.5, 0.25, 0, 0, 0])
WRONG = RATES > 0


def squared_distances(nearest: list[int], own: list[int]) -> np.ndarray:
    """Return distances to each digit, such that `nearest` is the nearest and `own` the distance to the image's own."""
    squares = np.full((len(LABELS), 10), 10**6)
    squares[np.arange(len(LABELS)), LABELS] = own
    for row, digit in enumerate(nearest):
        squares[row, digit] = min(squares[row, digit], own[row] - 1 if digit != LABELS[row] else own[row])
    return squares


def test_images_are_grouped_by_whether_all_some_or_none_of_the_seeds_misclassify_them() -> None:
    groups = error_analysis.group_images(RATES)
    assert list(groups) == ["all", "some", "none"]
    assert [np.flatnonzero(group).tolist() for group in groups.values()] == [[0], [1, 2], [3, 4, 5]]
    groups = error_analysis.group_images(np.array([1.0, 0.0, 1.0]))  # with one seed
    assert [np.flatnonzero(group).tolist() for group in groups.values()] == [[0, 2], [], [1]]


def test_resemblance_counts_the_nearest_images_that_show_another_digit() -> None:
    answers = np.array([6, 9, 4, 3, 4, 5])
    squares = squared_distances(nearest=[6, 7, 2, 3, 9, 5], own=[100] * 6)
    result = error_analysis.resemblance(RATES, LABELS, answers, squares)
    assert result.groups == {
        "all": NearestImages(1, 1, 1.0),
        "some": NearestImages(2, 1, 0.5),
        "none": NearestImages(3, 1, 1 / 3),
    }
    assert result.nearest_is_the_answer_share_of_wrong == 1 / 3  # image 0
    # Of the images that any seed misclassifies, two of three; of the others, one of three.
    assert result.odds_ratio == pytest.approx(4)
    assert result.p_value == pytest.approx(1.0)


def test_an_absent_digit_is_never_the_nearest() -> None:
    squares = squared_distances(nearest=[0, 1, 2, 3, 4, 5], own=[100] * 6)
    squares[:, 9] = -1
    groups = error_analysis.resemblance(RATES, LABELS, LABELS, squares).groups
    assert [group.nearest_is_another_digit for group in groups.values()] == [0, 0, 0]


def test_without_mistakes_there_are_no_shares_and_no_tests() -> None:
    squares = squared_distances(nearest=[0, 1, 2, 3, 4, 5], own=[100] * 6)
    result = error_analysis.resemblance(np.zeros(6), LABELS, LABELS, squares)
    assert result.groups["all"] == result.groups["some"] == NearestImages(0, 0, None)
    assert result.groups["none"].images == 6
    assert result.nearest_is_the_answer_share_of_wrong is None
    assert result.odds_ratio is None
    rare = error_analysis.rare_style(np.zeros(6), LABELS, squares)
    assert rare.groups["all"] == rare.groups["some"] == Distances(0, None)
    assert rare.area_under_curve is None
    assert rare.p_value is None
    pairs = error_analysis.overlap(np.zeros(6, bool), LABELS, LABELS)
    assert (pairs.share_of_errors, pairs.pairs_above_chance) == (0, 0)


def test_rare_style_is_the_area_under_the_roc_curve_of_the_distances() -> None:
    own = [400, 900, 1600, 100, 400, 100]
    result = error_analysis.rare_style(RATES, LABELS, squared_distances([0, 1, 2, 3, 4, 5], own))
    assert result.area_under_curve == pytest.approx(roc_auc_score(WRONG, own))
    medians = {"all": 20 / 255, "some": 35 / 255, "none": 10 / 255}
    for name, group in result.groups.items():
        assert group.distance_quartiles is not None
        assert group.distance_quartiles[1] == pytest.approx(medians[name])
    assert [group.images for group in result.groups.values()] == [1, 2, 3]


def test_an_image_without_a_training_image_of_its_digit_has_no_distance() -> None:
    squares = squared_distances([0, 1, 2, 3, 4, 5], [400, 900, 1600, 100, 400, 100])
    squares[2, 2] = -1
    result = error_analysis.rare_style(RATES, LABELS, squares)
    assert [group.images for group in result.groups.values()] == [1, 1, 3]


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
    assert len(result.pairs) == error_analysis.MAX_PAIRS
    assert [pair.observed for pair in result.pairs[1:]] == [2] * (error_analysis.MAX_PAIRS - 1)

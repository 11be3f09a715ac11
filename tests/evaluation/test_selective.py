import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from digits.evaluation import selective
from digits.evaluation.selective import Answers


def test_a_confidence_is_rounded_down_to_what_a_file_holds() -> None:
    probabilities = np.array([[0.25, 0.75], [0.1234567, 0.8765433]])
    assert selective.confidences(probabilities).tolist() == [0.75, 0.876543]


def test_the_threshold_leaves_out_the_images_that_miss_the_target() -> None:
    confidence = np.repeat([0.99, 0.9, 0.6], [5000, 2000, 500])
    right = np.concatenate([np.ones(5000, bool), np.ones(2000, bool), np.zeros(500, bool)])
    assert selective.choose_threshold(confidence, right, 0.999) == 0.9
    assert selective.choose_threshold(confidence, right, 0.93) == 0.9  # 7,000 of 7,500 are right


def test_equal_confidences_are_answered_together_or_not_at_all() -> None:
    confidence = np.repeat([0.9, 0.8], [4000, 1000])
    right = np.arange(5000) < 4500  # the first half of the second level would reach the target
    assert selective.choose_threshold(confidence, right, 0.99) == 0.9


@pytest.mark.parametrize(("count", "enough"), [(298, False), (299, True)])
def test_few_right_answers_are_not_enough(count: int, enough: bool) -> None:
    # 299 right answers of 299: 0.99 ** 299 < 0.05
    threshold = selective.choose_threshold(np.full(count, 0.9), np.ones(count, bool), 0.99)
    assert (threshold is not None) == enough


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=300), st.sampled_from([0.5, 0.8, 0.9])
)
def test_the_threshold_is_the_lowest_that_keeps_the_limit(rows: list[tuple[int, bool]], accuracy: float) -> None:
    confidence, right = np.array([level / 20 for level, _ in rows]), np.array([hit for _, hit in rows])

    def is_enough(threshold: float) -> bool:
        hits = right[confidence >= threshold]
        return bool(hits.sum() and beta.ppf(0.05, hits.sum(), (~hits).sum() + 1) >= accuracy)

    enough = [level for level in set(confidence.tolist()) if is_enough(level)]
    assert selective.choose_threshold(confidence, right, accuracy) == (min(enough) if enough else None)


def test_answers_count_what_is_at_or_above_the_threshold() -> None:
    confidence, right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, True])
    assert selective.answers(confidence, right, 0.8, 0.99) == Answers(0.8, 0.5, 0.5, False)
    assert selective.answers(confidence, right, 0.9, 0.99) == Answers(0.9, 0.25, 1.0, True)
    assert selective.answers(confidence, right, None, 0.99) == Answers(None, 0.0, None, None)
    assert selective.answers(confidence, right, 0.95, 0.99) == Answers(0.95, 0.0, None, None)


def test_targets_are_for_the_mean_of_the_seeds_and_for_each_seed() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(10, size=4000)
    sure, unsure = np.eye(10)[labels], np.full((4000, 10), 0.1)
    sides = np.stack([sure, unsure]), labels
    (*_, strictest) = selective.at_targets(sides, sides)
    assert strictest.target_accuracy == selective.STRICTEST_TARGET == 0.999
    assert strictest.ensemble == Answers(0.55, 1.0, 1.0, True)
    assert strictest.seeds == [Answers(1.0, 1.0, 1.0, True), Answers(None, 0.0, None, None)]


def test_the_curve_begins_with_the_most_confident_answers() -> None:
    confidence, right = np.linspace(1, 0.5, 200), np.arange(200) < 150
    coverage, risk = selective.risk_coverage(confidence, right)
    assert coverage[0] == 0.01
    assert coverage[-1] == 1
    assert risk[74] == 0
    assert risk[-1] == 0.25
    assert risk[79] == pytest.approx(10 / 160)

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from digits.modeling import losses

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 10, 500)
LOGITS = (RNG.normal(size=(500, 10)) * 3).astype(np.float32)


def test_the_cross_entropy_and_the_accuracy_are_those_of_scikit_learn() -> None:
    probabilities = softmax(LOGITS.astype(np.float64), axis=1)
    assert losses.cross_entropy(LOGITS, LABELS) == pytest.approx(metrics.log_loss(LABELS, probabilities))
    assert losses.accuracy(LOGITS, LABELS) == metrics.accuracy_score(LABELS, LOGITS.argmax(axis=1))


def test_the_loss_of_a_confident_mistake_is_neither_clipped_nor_rounded_to_float32() -> None:
    assert losses.cross_entropy(np.array([[1000.0, 0.0]]), np.array([1])) == 1000
    logits = np.array([[2000.0, 0.0], [0.0, 0.0]])
    assert losses.cross_entropy(logits, np.array([1, 0])) == pytest.approx((2000 + np.log(2)) / 2)
    small = losses.cross_entropy(np.array([[16.0, 0.0]], np.float32), np.array([0]))
    assert small == pytest.approx(np.log1p(np.exp(-16.0)), rel=1e-9)

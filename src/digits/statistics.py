"""Figures of merit of a classifier, and how sure one can be of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Counts = NDArray[np.integer]


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Return the logarithm of the probabilities that logits (n, classes) stand for, likewise shaped."""
    shifted: NDArray[np.float64] = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    normalizer: NDArray[np.float64] = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted - normalizer


def cross_entropy(logits: Floats, labels: Counts) -> float:
    """Return the mean negative log-likelihood, in nats, of labels (n,) under logits (n, classes)."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def accuracy(scores: Floats, labels: Counts) -> float:
    """Return the share of labels (n,) that have the highest of the scores (n, classes), logits or probabilities."""
    return float((scores.argmax(axis=1) == labels).mean())


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a binomial share, between 0 and 1.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927), 209-212.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    half = z * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    # The interval holds the share itself, which rounding may deny it where none or all are successes.
    return max(0.0, min(share, float((centre - half) / scale))), min(1.0, max(share, float((centre + half) / scale)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the same order, so that each may be held against the level alone.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979), 65-70.
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


@dataclass(frozen=True)
class Bin:
    """Predictions whose confidence lies in (lower, upper]; the means are None where there are none."""

    lower: float
    upper: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """How far a classifier's confidence is from its accuracy."""

    expected_error: float
    bins: list[Bin]


def calibration(probabilities: Floats, labels: Counts, bins: int) -> Calibration:
    """Return the expected calibration error of the predicted classes, over bins of equal width.

    Source: C. Guo et al., On calibration of modern neural networks, ICML 2017, equation 3.

    Args:
        probabilities: (n, classes).
        labels: (n,).
        bins: how many.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    where = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    table = []
    error = 0.0
    for index in range(bins):
        inside = where == index
        count = int(inside.sum())
        mean = float(confidence[inside].mean()) if count else None
        share = float(right[inside].mean()) if count else None
        if mean is not None and share is not None:
            error += count / len(labels) * abs(share - mean)
        table.append(Bin(float(edges[index]), float(edges[index + 1]), count, mean, share))
    return Calibration(error, table)


def confusion(labels: Counts, predicted: Counts, classes: int) -> NDArray[np.int64]:
    """Return how often each label (row) got each prediction (column), (classes, classes)."""
    pairs = labels.astype(np.int64) * classes + predicted
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


@dataclass(frozen=True)
class ClassFigures:
    """Precision, recall and F1 of one class, 0 where they have no denominator, and how often the class occurs."""

    precision: float
    recall: float
    f1: float
    support: int


def per_class(table: Counts) -> list[ClassFigures]:
    """Return each class's figures from a confusion table, labels in rows, predictions in columns."""
    figures = []
    for index in range(len(table)):
        hits, support, claims = int(table[index, index]), int(table[index].sum()), int(table[:, index].sum())
        figures.append(
            ClassFigures(
                precision=hits / claims if claims else 0.0,
                recall=hits / support if support else 0.0,
                f1=2 * hits / (claims + support) if claims + support else 0.0,
                support=support,
            )
        )
    return figures

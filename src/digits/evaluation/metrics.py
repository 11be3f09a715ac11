"""Metrics of a classifier on labelled images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from digits.core.images import CLASSES

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]


def confusion(labels: Integers, predicted: Integers) -> NDArray[np.int64]:
    """Return how often each label (row) was given each prediction (column), (10, 10)."""
    table: NDArray[np.int64] = confusion_matrix(labels, predicted, labels=np.arange(CLASSES))
    return table


@dataclass(frozen=True)
class ClassMetrics:
    """Precision, recall and F1 of one class, 0 if undefined, and the number of images of the class."""

    precision: float
    recall: float
    f1: float
    support: int


def per_class(labels: Integers, predicted: Integers) -> list[ClassMetrics]:
    """Return the metrics of each class, for labels (n,) and predictions (n,)."""
    columns = precision_recall_fscore_support(labels, predicted, labels=np.arange(CLASSES), zero_division=0.0)
    return [ClassMetrics(*(value.item() for value in row)) for row in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Bin:
    """Predictions with a confidence in (lower, upper]; the means are None if there are no predictions."""

    lower: float
    upper: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """The difference between the confidence and the accuracy of a classifier."""

    expected_error: float
    bins: list[Bin]


def calibration(probabilities: Floats, labels: Integers, bins: int) -> Calibration:
    """Return the expected calibration error of the predicted classes, with bins of equal width.

    Source: C. Guo et al., On calibration of modern neural networks, ICML 2017, equation 3.

    Args:
        probabilities: (n, classes).
        labels: (n,).
        bins: the number of bins.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    table = []
    error = 0.0
    for index in range(bins):
        inside = bin_of == index
        count = int(inside.sum())
        mean = float(confidence[inside].mean()) if count else None
        share = float(correct[inside].mean()) if count else None
        if mean is not None and share is not None:
            error += count / len(labels) * abs(share - mean)
        table.append(Bin(float(edges[index]), float(edges[index + 1]), count, mean, share))
    return Calibration(error, table)

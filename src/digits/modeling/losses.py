"""The loss and the accuracy of logits, in NumPy."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax


def cross_entropy(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the mean negative log-likelihood, in nats, of labels (n,) under logits (n, classes)."""
    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def accuracy(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return the share of labels (n,) whose class has the highest score; scores (n, classes), e.g. logits."""
    return float((scores.argmax(axis=1) == labels).mean())

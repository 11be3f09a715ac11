"""Intervals and tests of hypotheses."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

LEVEL = 0.05  # of significance


def accuracy_interval(correct: int, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a binomial proportion, between 0 and 1.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927), 209-212.
    """
    interval = binomtest(correct, images).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(newly_wrong: int, newly_right: int) -> float:
    """Return the two-sided p-value of McNemar's exact test on the images that only one side classifies correctly.

    Source: Q. McNemar, Note on the sampling error of the difference between correlated proportions or percentages,
    Psychometrika 12 (1947), 153-157; exact, as a binomial test of the discordant pairs against one half.
    """
    discordant = newly_wrong + newly_right
    return float(binomtest(newly_wrong, discordant).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the same order, each to be compared with the level alone.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979), 65-70.
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted

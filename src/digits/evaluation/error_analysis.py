"""Evidence for the three reasons that report B suggests for misclassified images.

Each function compares the misclassified images with the correctly classified ones: a property that is as frequent
among the latter explains nothing.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, fisher_exact, mannwhitneyu

from digits.core.images import CLASSES, MAX_PIXEL
from digits.evaluation.statistics import LEVEL, holm

OTHER_CLASSES = CLASSES - 1  # the digits for which an image of a given digit can be mistaken
MAX_PAIRS = 10  # listed
GROUPS = ("all", "some", "none")  # images that all, some or none of the seeds misclassify

Bools = NDArray[np.bool_]
Integers = NDArray[np.integer]


@dataclass(frozen=True)
class NearestImages:
    """How often the nearest training image of a group of test images shows another digit."""

    images: int
    nearest_is_another_digit: int
    share: float | None  # None for an empty group


@dataclass(frozen=True)
class Resemblance:
    """Reason 1: the image resembles another digit.

    Attributes:
        groups: By how many seeds misclassify the images; see `GROUPS`.
        nearest_is_the_answer_share_of_wrong: Of the images that any seed misclassifies.
        odds_ratio: Of these images to the others; None if infinite.
        p_value: Of Fisher's exact test of the same.
    """

    groups: dict[str, NearestImages]
    nearest_is_the_answer_share_of_wrong: float | None
    odds_ratio: float | None
    p_value: float


@dataclass(frozen=True)
class Distances:
    """Distances of a group of test images to the nearest training image of the same digit."""

    images: int
    distance_quartiles: list[float] | None  # Euclidean, for pixels from 0 to 1; None for an empty group


@dataclass(frozen=True)
class RareStyle:
    """Reason 2: the image is far from all training images of its digit.

    Attributes:
        groups: By how many seeds misclassify the images; see `GROUPS`.
        area_under_curve: The probability that an image that any seed misclassifies is further away than another.
        p_value: Of the Mann-Whitney test of the same.
    """

    groups: dict[str, Distances]
    area_under_curve: float | None
    p_value: float | None


@dataclass(frozen=True)
class PairConfusion:
    """How often two digits are mistaken for each other."""

    digits: list[int]
    observed: int
    expected: float  # if mistakes were equally frequent among the nine other digits
    p_value: float  # binomial test, adjusted for the number of pairs after Holm
    ratio: float | None


@dataclass(frozen=True)
class Overlap:
    """Reason 3: some pairs of digits overlap."""

    pairs_above_chance: int
    share_of_errors: float  # in those pairs
    pairs: list[PairConfusion]  # the most frequent first, at most `MAX_PAIRS`


def group_images(rates: NDArray[np.floating]) -> dict[str, Bools]:
    """Return whether each image is one that all, some or none of the seeds misclassify, each bool (n,).

    Args:
        rates: (n,), the share of the seeds that misclassify each image.
    """
    return dict(zip(GROUPS, (rates == 1, (rates > 0) & (rates < 1), rates == 0), strict=True))


def resemblance(
    rates: NDArray[np.floating], labels: Integers, answers: Integers, squared_distances: Integers
) -> Resemblance:
    """Test reason 1, digits that resemble another class: does the nearest training image show another digit?

    Args:
        rates: (n,), the share of the seeds that misclassify each test image.
        labels: (n,), the digit of each.
        answers: (n,), the most frequent wrong answer for each image that any seed misclassifies.
        squared_distances: (n, 10), to the nearest training image of each digit; -1 if there is none.
    """
    wrong = rates > 0
    nearest = np.where(squared_distances < 0, np.iinfo(np.int64).max, squared_distances).argmin(axis=1)
    other = nearest != labels
    table = [[int((group & other).sum()), int((group & ~other).sum())] for group in (wrong, ~wrong)]
    test = fisher_exact(table)
    return Resemblance(
        groups={
            name: NearestImages(
                int(group.sum()), int((group & other).sum()), _share(int((group & other).sum()), int(group.sum()))
            )
            for name, group in group_images(rates).items()
        },
        nearest_is_the_answer_share_of_wrong=_share(int((nearest[wrong] == answers[wrong]).sum()), int(wrong.sum())),
        odds_ratio=float(test.statistic) if np.isfinite(test.statistic) else None,
        p_value=float(test.pvalue),
    )


def rare_style(rates: NDArray[np.floating], labels: Integers, squared_distances: Integers) -> RareStyle:
    """Test reason 2, rare styles: is the nearest training image of the same digit further away?

    Args:
        rates: (n,), the share of the seeds that misclassify each test image.
        labels: (n,), the digit of each.
        squared_distances: (n, 10), to the nearest training image of each digit; -1 if there is none.
    """
    own = squared_distances[np.arange(len(labels)), labels]
    known = own >= 0
    distances = np.sqrt(np.maximum(own, 0)) / MAX_PIXEL
    groups = {
        name: Distances(int((group & known).sum()), _quartiles(distances[group & known]))
        for name, group in group_images(rates).items()
    }
    far, near = distances[(rates > 0) & known], distances[(rates == 0) & known]
    if not (len(far) and len(near)):
        return RareStyle(groups, None, None)
    test = mannwhitneyu(far, near)
    return RareStyle(groups, float(test.statistic) / (len(far) * len(near)), float(test.pvalue))


def overlap(wrong: Bools, labels: Integers, answers: Integers) -> Overlap:
    """Test reason 3, overlapping classes: which pairs of digits are mistaken for each other more often than by chance?

    By chance, a misclassified image would be taken for each of the nine other digits equally often. Pairs count as
    above chance at the level of 5 % over all pairs.

    Args:
        wrong: (n,), whether any seed misclassifies each test image.
        labels: (n,), the digit of each.
        answers: (n,), the most frequent wrong answer for each of these images.
    """
    errors = np.bincount(labels[wrong], minlength=CLASSES)
    mistaken = Counter(zip(labels[wrong].tolist(), answers[wrong].tolist(), strict=True))
    pairs = list(combinations(range(CLASSES), 2))
    observed = [mistaken[one, two] + mistaken[two, one] for one, two in pairs]
    trials = [int(errors[one] + errors[two]) for one, two in pairs]
    p_values = holm(
        [float(binom.sf(hits - 1, of, 1 / OTHER_CLASSES)) for hits, of in zip(observed, trials, strict=True)]
    )
    rows = [
        PairConfusion(list(pair), hits, of / OTHER_CLASSES, p_value, hits / (of / OTHER_CLASSES) if of else None)
        for pair, hits, of, p_value in zip(pairs, observed, trials, p_values, strict=True)
    ]
    rows.sort(key=lambda row: (-row.observed, row.digits))
    above = [row for row in rows if row.p_value < LEVEL]
    return Overlap(
        pairs_above_chance=len(above),
        share_of_errors=_share(sum(row.observed for row in above), int(errors.sum())) or 0.0,
        pairs=rows[:MAX_PAIRS],
    )


def _share(count: int, total: int) -> float | None:
    return count / total if total else None


def _quartiles(values: NDArray[np.float64]) -> list[float] | None:
    return [float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))] if len(values) else None

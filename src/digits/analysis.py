"""Evidence for the three reasons that report B suggests for a misclassified image.

Each function sets the wrongly classified images against the rightly classified ones: what is as frequent among the
latter explains nothing.
"""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, fisher_exact, mannwhitneyu

from digits.idx import WHITE
from digits.statistics import holm

OTHERS = 9  # digits that an image of a given digit can be taken for
LEVEL = 0.05

Bools = NDArray[np.bool_]
Integers = NDArray[np.integer]


def resemblance(wrong: Bools, labels: Integers, predicted: Integers, squares: Integers) -> dict[str, Any]:
    """Reason 1, digits that resemble another class: is the nearest training image one of another digit?

    Args:
        wrong: (n,), whether each test image is misclassified.
        labels: (n,), the digit of each.
        predicted: (n,), the model's answer.
        squares: (n, 10), squared distance to the nearest training image of each digit; -1 where there is none.

    Returns:
        Counts and shares among wrong and right, the odds ratio between them (None where infinite) and the p-value of
        Fisher's exact test.
    """
    nearest = np.where(squares < 0, np.iinfo(np.int64).max, squares).argmin(axis=1)
    other = nearest != labels
    groups = {"wrong": wrong, "right": ~wrong}
    table = [[int((group & other).sum()), int((group & ~other).sum())] for group in groups.values()]
    test = fisher_exact(table)
    return {
        name: {"images": int(group.sum()), "nearest_is_another_digit": counts[0], "share": share(counts[0], group)}
        for (name, group), counts in zip(groups.items(), table, strict=True)
    } | {
        "nearest_is_the_prediction_share_of_wrong": share(int((nearest[wrong] == predicted[wrong]).sum()), wrong),
        "odds_ratio": float(test.statistic) if np.isfinite(test.statistic) else None,
        "p_value": float(test.pvalue),
    }


def rare_style(wrong: Bools, labels: Integers, squares: Integers) -> dict[str, Any]:
    """Reason 2, rare styles: is the nearest training image of the same digit further away?

    Args:
        wrong: (n,), whether each test image is misclassified.
        labels: (n,), the digit of each.
        squares: (n, 10), squared distance to the nearest training image of each digit; -1 where there is none.

    Returns:
        Quartiles of the Euclidean distance, with pixels from 0 to 1, among wrong and right; the probability that a
        wrong one is further than a right one (the area under the ROC curve), and the p-value of the Mann-Whitney test.
    """
    own = squares[np.arange(len(labels)), labels]
    known = own >= 0
    distances = np.sqrt(np.maximum(own, 0)) / WHITE
    groups = {"wrong": distances[wrong & known], "right": distances[~wrong & known]}
    summary: dict[str, Any] = {
        name: {"images": len(values), "distance_quartiles": quartiles(values)} for name, values in groups.items()
    }
    if not all(len(values) for values in groups.values()):
        return summary | {"area_under_curve": None, "p_value": None}
    test = mannwhitneyu(groups["wrong"], groups["right"])
    pairs = len(groups["wrong"]) * len(groups["right"])
    return summary | {"area_under_curve": float(test.statistic) / pairs, "p_value": float(test.pvalue)}


def overlap(table: Integers) -> dict[str, Any]:
    """Reason 3, overlapping classes: which pairs of digits are taken for each other more often than by chance?

    By chance, a misclassified image would be taken for each of the nine other digits equally often.

    Args:
        table: (10, 10), labels in rows, predictions in columns.

    Returns:
        Every pair, the most confused first: how often observed, how often expected, their ratio, and the p-value of the
        binomial test, adjusted for the number of pairs after Holm; and what share of all errors falls on the pairs that
        are confused more often than chance at the level of 5 %.
    """
    errors = table.sum(axis=1) - np.diag(table)
    rows: list[dict[str, Any]] = []
    for one, two in combinations(range(len(table)), 2):
        observed, trials = int(table[one, two] + table[two, one]), int(errors[one] + errors[two])
        p_value = float(binom.sf(observed - 1, trials, 1 / OTHERS))
        rows.append({"digits": [one, two], "observed": observed, "expected": trials / OTHERS, "p_value": p_value})
    for row, p_value in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["ratio"] = row["observed"] / row["expected"] if row["expected"] else None
        row["p_value"] = p_value
    rows.sort(key=lambda row: (-row["observed"], row["digits"]))
    above = [row for row in rows if row["p_value"] < LEVEL]
    total = int(errors.sum())
    return {
        "pairs_above_chance": len(above),
        "share_of_errors": sum(row["observed"] for row in above) / total if total else 0.0,
        "pairs": rows,
    }


def share(count: int, group: Bools) -> float | None:
    """Return a count as a share of a group, None of an empty one."""
    size = int(group.sum())
    return count / size if size else None


def quartiles(values: NDArray[np.float64]) -> list[float] | None:
    """Return the lower quartile, the median and the upper quartile, None of nothing."""
    return [float(value) for value in np.quantile(values, (0.25, 0.5, 0.75))] if len(values) else None

"""Selective classification: a classifier that answers only where it is confident enough."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

TARGET_ACCURACIES = (0.99, 0.995, 0.999)  # of the answers above a threshold
CERTAINTY = 0.95  # that the accuracy of these answers is at least the target
STRICTEST_TARGET = TARGET_ACCURACIES[-1]  # the one that programs use
CURVE_POINTS = 100
PLACES = 1e6  # a confidence counts in steps of 1e-6, so that it can be written down without a change

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """What a classifier does that answers from a threshold of confidence on.

    Attributes:
        threshold: None if no confidence is enough: it never answers.
        coverage: The share of the images that it answers.
        accuracy: The share of its answers that are right; None without an answer.
        reached: Whether that is at least the target accuracy; None without an answer.
    """

    threshold: float | None
    coverage: float
    accuracy: float | None
    reached: bool | None


@dataclass(frozen=True)
class TargetResult:
    """What the ensemble and each seed do for a target accuracy.

    Attributes:
        target_accuracy: The share of the answers that must be right.
        ensemble: Of the mean of the seeds' probabilities.
        seeds: Of each seed, with its own threshold.
    """

    target_accuracy: float
    ensemble: Answers
    seeds: list[Answers]


def at_targets(chosen_on: tuple[Floats, Integers], tested_on: tuple[Floats, Integers]) -> list[TargetResult]:
    """Return thresholds for each of `TARGET_ACCURACIES`, and what they give on other images.

    Args:
        chosen_on: probabilities, (seeds, n, 10), and labels, (n,), of the images that choose the thresholds.
        tested_on: the same of the other images.
    """
    chosen, tested = _sides(*chosen_on), _sides(*tested_on)
    rows = []
    for target in TARGET_ACCURACIES:
        thresholds = [choose_threshold(*side, target) for side in chosen]
        ensemble, *seeds = (
            answers(*side, threshold, target) for side, threshold in zip(tested, thresholds, strict=True)
        )
        rows.append(TargetResult(target, ensemble, seeds))
    return rows


def strictest(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the ensemble does for `STRICTEST_TARGET`, from the section `selective` of a metrics file."""
    rows = (row for row in content["targets"] if row["target_accuracy"] == STRICTEST_TARGET)
    found: dict[str, Any] = next(rows)["ensemble"]
    return found


def _sides(probabilities: Floats, labels: Integers) -> list[tuple[NDArray[np.float64], Bools]]:
    """Return confidences and whether the answers are right, of the ensemble and of each seed."""
    everyone = [probabilities.mean(axis=0, dtype=np.float64), *probabilities]
    return [(confidences(each), each.argmax(axis=1) == labels) for each in everyone]


def confidences(probabilities: Floats) -> NDArray[np.float64]:
    """Return the probability of each answer, (n,), for probabilities (n, 10)."""
    largest: NDArray[np.float64] = np.floor(probabilities.max(axis=1).astype(np.float64) * PLACES) / PLACES
    return largest


def choose_threshold(confidence: Floats, right: Bools, target: float) -> float | None:
    """Return the lowest confidence from which on answers are right often enough; None if there is none.

    The lower limit of the one-sided 95 % interval for the accuracy of these answers (C. J. Clopper and E. S. Pearson,
    Biometrika 26 (1934), 404-413) must be at least `target`: a few right answers prove little. The method is that of
    Y. Geifman and R. El-Yaniv, Selective classification for deep neural networks, NIPS 2017, but makes no allowance for
    the choice among thresholds.

    Args:
        confidence: (n,), of the answers to images that the model was not trained on.
        right: (n,), whether each answer is right.
        target: the accuracy that answers must reach.
    """
    levels, level = np.unique(-confidence, return_inverse=True)  # the highest confidence first
    answered = np.bincount(level).cumsum()
    correct = np.bincount(level, right).cumsum()
    lowest = betaincinv(correct, answered - correct + 1, 1 - CERTAINTY)
    enough = np.flatnonzero(np.nan_to_num(lowest) >= target)
    return float(-levels[enough[-1]]) if len(enough) else None


def answers(confidence: Floats, right: Bools, threshold: float | None, target: float) -> Answers:
    """Return what a classifier does on images that its threshold was not chosen on.

    Args:
        confidence: (n,), of its answers.
        right: (n,), whether each answer is right.
        threshold: as `choose_threshold` returns it.
        target: the accuracy for which the threshold was chosen.
    """
    answered = np.zeros(len(right), bool) if threshold is None else confidence >= threshold
    if not answered.any():
        return Answers(threshold, 0.0, None, None)
    measured = float(right[answered].mean())
    return Answers(threshold, float(answered.mean()), measured, measured >= target)


def risk_coverage(confidence: Floats, right: Bools) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the share of wrong answers against the share of images answered, both (100,).

    Source: R. El-Yaniv and Y. Wiener, On the foundations of noise-free selective classification, JMLR 11 (2010).

    Args:
        confidence: (n,), of the answers.
        right: (n,), whether each answer is right.
    """
    wrong = np.cumsum(~right[np.argsort(-confidence, kind="stable")])
    coverage = np.arange(1, CURVE_POINTS + 1) / CURVE_POINTS
    answered = np.ceil(coverage * len(right)).astype(np.int64)
    return coverage, wrong[answered - 1] / answered

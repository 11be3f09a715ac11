"""Whether one classifier is better than another on the same images, or merely lucky."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from scipy.stats import binomtest

from digits.statistics import holm, wilson

LEVEL = 0.05


@dataclass(frozen=True)
class Mistake:
    """A row of `errors.csv`."""

    index: int  # in the test set
    label: int
    predicted: int
    probability_predicted: float
    probability_label: float


class Word(StrEnum):
    """What the evidence says, at the level of 5 % over all variants together."""

    BETTER = "better"
    WORSE = "worse"
    NO_EVIDENCE = "no evidence of a difference"


@dataclass(frozen=True)
class Side:
    """One revision's result."""

    accuracy: float
    interval: tuple[float, float]  # 95 %, after Wilson
    errors: int


@dataclass(frozen=True)
class Verdict:
    """Two revisions' results on the same images, and whether they differ by more than chance."""

    images: int
    base: Side
    head: Side
    newly_wrong: list[int]  # indices in the test set, ascending
    newly_right: list[int]
    p_value: float  # McNemar's exact test, of this variant alone
    adjusted: float  # the same, after Holm, for the number of variants
    word: Word


def read_mistakes(text: str) -> dict[int, Mistake]:
    """Return the rows of an `errors.csv` by the index of the image."""
    rows = csv.DictReader(text.splitlines())
    mistakes = [
        Mistake(
            int(row["index"]),
            int(row["label"]),
            int(row["predicted"]),
            float(row["probability_predicted"]),
            float(row["probability_label"]),
        )
        for row in rows
    ]
    return {mistake.index: mistake for mistake in mistakes}


def mcnemar(newly_wrong: int, newly_right: int) -> float:
    """Return the two-sided p-value of McNemar's exact test on the images that only one side gets right.

    Source: Q. McNemar, Note on the sampling error of the difference between correlated proportions or percentages,
    Psychometrika 12 (1947), 153-157; exact, as a binomial test of the discordant pairs against one half.
    """
    discordant = newly_wrong + newly_right
    return float(binomtest(newly_wrong, discordant).pvalue) if discordant else 1.0


def judge(sides: Mapping[str, tuple[Mapping[int, Mistake], Mapping[int, Mistake]]], images: int) -> dict[str, Verdict]:
    """Return a verdict for each variant.

    Args:
        sides: for each variant, the mistakes of the base and of the head, by index, on the same test images.
        images: how many test images there are.
    """
    wrong = {name: sorted(head.keys() - base.keys()) for name, (base, head) in sides.items()}
    right = {name: sorted(base.keys() - head.keys()) for name, (base, head) in sides.items()}
    p_values = {name: mcnemar(len(wrong[name]), len(right[name])) for name in sides}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    verdicts = {}
    for name, (base, head) in sides.items():
        word = Word.NO_EVIDENCE
        if adjusted[name] < LEVEL:
            word = Word.BETTER if len(right[name]) > len(wrong[name]) else Word.WORSE
        verdicts[name] = Verdict(
            images,
            _side(len(base), images),
            _side(len(head), images),
            wrong[name],
            right[name],
            p_values[name],
            adjusted[name],
            word,
        )
    return verdicts


def _side(errors: int, images: int) -> Side:
    return Side(1 - errors / images, wilson(images - errors, images), errors)

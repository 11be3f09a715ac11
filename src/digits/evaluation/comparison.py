"""The comparison of two sides: is one classifier better than another on the same images, or merely lucky?"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from digits.evaluation.statistics import LEVEL, accuracy_interval, holm, mcnemar


@dataclass(frozen=True)
class Mistake:
    """A row of `errors.csv`."""

    index: int  # in the test set
    label: int
    predicted: int
    probability_predicted: float
    probability_label: float


class Outcome(StrEnum):
    """The conclusion from the evidence, at the level of 5 % over all variants together."""

    BETTER = "better"
    WORSE = "worse"
    NO_EVIDENCE = "no evidence of a difference"


@dataclass(frozen=True)
class Side:
    """The result of one revision."""

    accuracy: float
    interval: tuple[float, float]  # 95 %, Wilson
    errors: int


@dataclass(frozen=True)
class Verdict:
    """The results of two revisions on the same images, and whether they differ by more than chance."""

    images: int
    base: Side
    head: Side
    newly_wrong: list[int]  # indices in the test set, ascending
    newly_right: list[int]
    p_value: float  # McNemar's exact test, for this variant alone
    adjusted: float  # the same, adjusted for the number of variants after Holm
    outcome: Outcome


def read_mistakes(text: str) -> dict[int, Mistake]:
    """Return the rows of an `errors.csv` by the index of the image."""
    table = pd.read_csv(io.StringIO(text), float_precision="round_trip")
    mistakes = [Mistake(*row) for row in table.itertuples(index=False, name=None)]
    return {mistake.index: mistake for mistake in mistakes}


def compare(
    sides: Mapping[str, tuple[Mapping[int, Mistake], Mapping[int, Mistake]]], images: int
) -> dict[str, Verdict]:
    """Return a verdict for each variant.

    Args:
        sides: for each variant, the mistakes of the base and of the head, by index, on the same test images.
        images: the number of test images.
    """
    wrong = {name: sorted(head.keys() - base.keys()) for name, (base, head) in sides.items()}
    right = {name: sorted(base.keys() - head.keys()) for name, (base, head) in sides.items()}
    p_values = {name: mcnemar(len(wrong[name]), len(right[name])) for name in sides}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    verdicts = {}
    for name, (base, head) in sides.items():
        outcome = Outcome.NO_EVIDENCE
        if adjusted[name] < LEVEL:
            outcome = Outcome.BETTER if len(right[name]) > len(wrong[name]) else Outcome.WORSE
        verdicts[name] = Verdict(
            images,
            _side(len(base), images),
            _side(len(head), images),
            wrong[name],
            right[name],
            p_values[name],
            adjusted[name],
            outcome,
        )
    return verdicts


def _side(errors: int, images: int) -> Side:
    return Side(1 - errors / images, accuracy_interval(images - errors, images), errors)

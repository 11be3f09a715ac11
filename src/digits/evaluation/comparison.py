"""The comparison of two sides: is a recipe better than another on digits by new writers, or merely lucky?

A side is one variant, trained with several seeds and tested on the same images as the other side. docs/evidence.md
explains the method and how it was calibrated.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from digits.core.params import ReviewSettings
from digits.evaluation import statistics
from digits.evaluation.statistics import CONFIDENCE, LEVEL, Component, Spread

# By how much images by the same writers raise the variance of a difference of two variants, and of an accuracy. By
# QMNIST's table, 297 people wrote the 10,000 test images; docs/evidence.md has what was measured.
DIFFERENCE_DESIGN_EFFECT = 2.5
ACCURACY_DESIGN_EFFECT = 4.0
POWER = 0.8  # of the smallest difference that a comparison could have found
MARGIN = ReviewSettings().margin  # points, unless params.yaml has another one

Integers = NDArray[np.integer]


@dataclass(frozen=True)
class Mistake:
    """A row of `errors.csv`, which lists the worst of the test images that any seed misclassifies.

    Attributes:
        index: In the test set.
        seeds_wrong: How many seeds misclassify it.
        answer: The most frequent answer of those seeds.
        probability_answer: The mean over all seeds of the probability of that answer.
        probability_label: The same for the label.
    """

    index: int
    label: int
    seeds_wrong: int
    answer: int
    probability_answer: float
    probability_label: float


def read_mistakes(text: str) -> dict[int, Mistake]:
    """Return the rows of an `errors.csv` by the index of the image."""
    columns = [field.name for field in fields(Mistake)]
    table = pd.read_csv(io.StringIO(text), float_precision="round_trip", usecols=columns)[columns]
    mistakes = [Mistake(*row) for row in table.itertuples(index=False, name=None)]
    return {mistake.index: mistake for mistake in mistakes}


@dataclass(frozen=True)
class Result:
    """The errors of a variant on images.

    Attributes:
        errors: How many images each seed misclassifies.
        wrong: How many seeds misclassify each image, (images,).
    """

    errors: list[int]
    wrong: Integers

    @property
    def rates(self) -> NDArray[np.float64]:
        """The share of the seeds that misclassify each image, (images,)."""
        return self.wrong / len(self.errors)

    @property
    def accuracy(self) -> Spread:
        """The accuracy over the seeds."""
        return statistics.spread([1 - errors / len(self.wrong) for errors in self.errors])


def result(errors: list[int], seeds_wrong: Mapping[int, int], images: int) -> Result:
    """Return the result of a variant.

    Args:
        errors: how many images each seed misclassifies.
        seeds_wrong: by image, how many seeds misclassify it; an image that is missing is right with every seed.
        images: the number of images.

    Raises:
        ValueError: the numbers contradict each other.
    """
    wrong = np.zeros(images, np.int64)
    for index, count in seeds_wrong.items():
        if not (0 <= index < images and 0 < count <= len(errors)):
            raise ValueError(f"image {index} of {images} is misclassified by {count} of {len(errors)} seeds")
        wrong[index] = count
    if wrong.sum() != sum(errors):
        raise ValueError(f"the seeds make {sum(errors)} errors, but the images have {wrong.sum()}")
    return Result(errors, wrong)


class Outcome(StrEnum):
    """The conclusion from the evidence, at the level of 5 % over all variants together."""

    SAME = "same results"
    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal"  # within the margin
    NO_EVIDENCE = "no evidence of a difference"


@dataclass(frozen=True)
class ImageChange:
    """A test image and the shares of the seeds that misclassify it."""

    index: int
    base: float
    head: float


@dataclass(frozen=True)
class Verdict:
    """The results of two sides on the same images, and whether they differ by more than chance.

    Attributes:
        base: The accuracy of one side over its seeds.
        head: The accuracy of the other.
        difference: The mean accuracy of the head minus that of the base.
        interval: The 95 % interval of the difference.
        detectable: The smallest difference that this comparison finds four times in five; 0 for the same results.
        p_value: Of this variant alone.
        adjusted: The same, adjusted for the number of variants whose results differ, after Holm.
        margin: In points: differences up to it count as equal.
        images_only: Whether a side has a single seed, so that the images alone are accounted for.
        changed: The images whose error rate changed, the most changed first.
    """

    base: Spread
    head: Spread
    difference: float
    interval: tuple[float, float]
    detectable: float
    p_value: float
    adjusted: float
    margin: float
    images_only: bool
    outcome: Outcome
    changed: list[ImageChange]

    def __str__(self) -> str:
        text = f"equal within {self.margin:g} points" if self.outcome is Outcome.EQUAL else str(self.outcome)
        return f"{text} (one seed: by the images alone)" if self.images_only else text


def compare(
    sides: Mapping[str, tuple[Result, Result]],
    *,
    margin: float = MARGIN,
    writers: Integers | None = None,
    same_images: bool = True,
) -> dict[str, Verdict]:
    """Return a verdict for each variant.

    The variance of a difference of mean accuracies is that between the seeds of each side, plus that between images.
    A t interval has the degrees of freedom of all parts after Satterthwaite.

    Args:
        sides: for each variant, the results of the base and of the head on the same images.
        margin: in points; if the interval lies within it, the sides are equal.
        writers: (images,), who wrote each image; None for a fixed design effect.
        same_images: whether the sides were tested on the same images; otherwise each counts with its own variance, and
            no image changes.
    """
    differing = {name: pair for name, pair in sides.items() if not (same_images and _same(*pair))}
    variances = {
        name: _variance(*pair, writers) if same_images else statistics.combine([*_parts(pair[0]), *_parts(pair[1])])
        for name, pair in differing.items()
    }
    differences = {name: head.accuracy.mean - base.accuracy.mean for name, (base, head) in sides.items()}
    p_values = {name: _p_value(differences[name], variance) for name, variance in variances.items()}
    adjusted = dict(zip(p_values, statistics.holm(list(p_values.values())), strict=True))
    verdicts = {}
    for name, (base, head) in sides.items():
        variance = variances.get(name, Component(0, np.inf))
        error = float(np.sqrt(variance.variance))
        half = statistics.quantile((1 + CONFIDENCE) / 2, variance.degrees) * error
        # Holm's first step: the largest difference of several variants must pass this level.
        level = LEVEL / max(1, len(differing))
        needed = statistics.quantile(1 - level / 2, variance.degrees) + statistics.quantile(POWER, variance.degrees)
        interval = differences[name] - half, differences[name] + half
        outcome = Outcome.SAME if name not in differing else _outcome(interval, adjusted[name], margin / 100)
        verdicts[name] = Verdict(
            base=base.accuracy,
            head=head.accuracy,
            difference=differences[name],
            interval=interval,
            detectable=needed * error,
            p_value=p_values.get(name, 1.0),
            adjusted=adjusted.get(name, 1.0),
            margin=margin,
            images_only=name in differing and min(len(base.errors), len(head.errors)) == 1,
            outcome=outcome,
            changed=_changed(base, head) if same_images else [],
        )
    return verdicts


def accuracy_interval(result: Result, writers: Integers | None = None) -> tuple[float, float]:
    """Return the 95 % interval for the accuracy of a recipe on digits by new writers.

    It accounts for seeds, images and writers; with a single seed, for images and writers only.

    Args:
        result: the errors of the recipe's seeds.
        writers: (images,), who wrote each image; None for a fixed design effect.
    """
    variance = statistics.combine(_parts(result, writers))
    return statistics.proportion_interval(result.accuracy.mean, variance, len(result.wrong), ACCURACY_DESIGN_EFFECT)


def _same(base: Result, head: Result) -> bool:
    return base.errors == head.errors and np.array_equal(base.wrong, head.wrong)


def _variance(base: Result, head: Result, writers: Integers | None) -> Component:
    """Return the variance of the difference of two mean accuracies."""
    parts = [_seeds_part(side) for side in (base, head)]
    seeds = [component for _, component in parts]
    flips = sum(flips for flips, _ in parts)
    if None in seeds:  # the flips of the other seeds are not known: they stay in the part of the images
        seeds, flips = [], 0.0
    images = statistics.variance_between_images(head.rates - base.rates, flips, DIFFERENCE_DESIGN_EFFECT, writers)
    return statistics.combine([images, *(component for component in seeds if component)])


def _parts(side: Result, writers: Integers | None = None) -> list[Component]:
    """Return the parts of the variance of a mean accuracy: the images and, of several seeds, the seeds."""
    flips, seeds = _seeds_part(side)
    images = statistics.variance_between_images(side.rates, flips, ACCURACY_DESIGN_EFFECT, writers)
    return [images, seeds] if seeds else [images]


def _seeds_part(side: Result) -> tuple[float, Component | None]:
    """Return the variance of an image's rate that comes from seeds that disagree, and that of the mean rate."""
    flips = statistics.flips(side.rates, len(side.errors))
    rates = [errors / len(side.wrong) for errors in side.errors]
    return flips, statistics.variance_between_seeds(rates, flips, len(side.wrong))


def _p_value(difference: float, variance: Component) -> float:
    if not variance.variance:
        return 1.0  # no image differs more often than another: nothing is known
    return statistics.p_value(difference / np.sqrt(variance.variance), variance.degrees)


def _outcome(interval: tuple[float, float], adjusted: float, margin: float) -> Outcome:
    if max(abs(end) for end in interval) <= margin:
        return Outcome.EQUAL
    if adjusted >= LEVEL:
        return Outcome.NO_EVIDENCE
    return Outcome.BETTER if sum(interval) > 0 else Outcome.WORSE


def _changed(base: Result, head: Result) -> list[ImageChange]:
    before, after = base.rates, head.rates
    change = after - before
    order = np.argsort(-np.abs(change), kind="stable")[: np.count_nonzero(change)]
    return [ImageChange(int(index), float(before[index]), float(after[index])) for index in order]

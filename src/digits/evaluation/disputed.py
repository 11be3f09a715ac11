"""Test images of MNIST whose label people dispute."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from digits.core.config import Section
from digits.core.images import CLASSES
from digits.evaluation.statistics import Spread, spread

Integers = NDArray[np.integer]
Digit = Annotated[int, Field(ge=0, lt=CLASSES)]


class DisputedImage(Section):
    """A test image, its label, and the digit that most people see, if they agree on one."""

    index: Annotated[int, Field(ge=0)]
    label: Digit
    people: Digit | None


class DisputedLabels(Section):
    """The content of data/disputed.yaml."""

    source: str
    images: list[DisputedImage]

    def of(self, labels: Integers) -> list[DisputedImage]:
        """Return the disputed images, or an empty list if these are not the labels, (n,), of MNIST's test images."""
        matches = [image.index < len(labels) and labels[image.index] == image.label for image in self.images]
        return self.images if all(matches) else []


@dataclass(frozen=True)
class DisputedErrors:
    """How disputed labels affect a variant.

    Attributes:
        images: The number of disputed images.
        errors: How many of them each seed misclassifies, on average.
        people_agree: How many of these answers, on average, are what most people see.
        accuracy: On all images.
        accuracy_without: On all but the disputed ones.
    """

    images: int
    errors: float
    people_agree: float
    accuracy: Spread
    accuracy_without: Spread


def disputed_errors(predicted: Integers, labels: Integers, images: Sequence[DisputedImage]) -> DisputedErrors:
    """Return how disputed labels affect a variant.

    Args:
        predicted: (seeds, n).
        labels: (n,).
        images: the disputed ones.
    """
    index = np.array([image.index for image in images], np.int64)
    people = np.array([-1 if image.people is None else image.people for image in images], np.int64)
    right = predicted == labels
    undisputed = np.ones(len(labels), bool)
    undisputed[index] = False
    seeds = len(predicted)
    return DisputedErrors(
        images=len(index),
        errors=int((~right[:, index]).sum()) / seeds,
        people_agree=int((predicted[:, index] == people).sum()) / seeds,
        accuracy=spread(right.mean(axis=1).tolist()),
        accuracy_without=spread(right[:, undisputed].mean(axis=1).tolist()),
    )

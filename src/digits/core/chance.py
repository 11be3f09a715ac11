"""Whether a network has learned anything at all."""

from collections.abc import Sequence
from math import sqrt


def is_chance(accuracy: float, counts: Sequence[int]) -> bool:
    """Return whether an accuracy is that of a constant answer, up to three standard errors.

    Args:
        accuracy: the share of images answered correctly.
        counts: the number of images of each digit; the constant answer is the most frequent one.
    """
    images = sum(counts)
    share = max(counts) / images
    return accuracy <= share + 3 * sqrt(share * (1 - share) / images)

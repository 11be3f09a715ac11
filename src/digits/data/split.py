"""The split of the published training images into training and validation images."""

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from digits.core.errors import UserError


def stratified_split(
    labels: NDArray[np.uint8], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the training images and of the validation images, both ascending.

    The share of validation images is the same for each digit, up to rounding.

    Args:
        labels: (n,).
        fraction: the share of validation images, between 0 and 1.
        seed: of the random choice.

    Raises:
        UserError: a digit has only one image, or a part would have fewer images than there are digits.
    """
    try:
        train, validation = train_test_split(
            np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=seed
        )
    except ValueError:
        digits, counts = np.unique(labels, return_counts=True)
        rarest = counts.argmin()
        raise UserError(
            f"preprocess.validation_fraction is {fraction}: too few images to split each digit "
            f"({len(labels)} images, {counts[rarest]} of the digit {digits[rarest]})"
        ) from None
    return np.sort(train), np.sort(validation)

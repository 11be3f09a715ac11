"""The split of the published training images into those to train on and those to choose by."""

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from digits.errors import UserError


def stratified(labels: NDArray[np.uint8], fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the training and of the validation images, each ascending.

    Every digit is split by the same share, as nearly as whole images allow.

    Args:
        labels: (n,).
        fraction: of the images that go to validation, over 0 and under 1.
        seed: of the random choice.

    Raises:
        UserError: there are too few images for each digit to be in both splits.
    """
    try:
        train, validation = train_test_split(
            np.arange(len(labels)), test_size=fraction, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise UserError(f"preprocess.validation_fraction is {fraction}, and {len(labels)} images: {error}") from None
    return np.sort(train), np.sort(validation)

"""A few images to train on."""

import pytest
from support import IMAGES


@pytest.fixture(scope="session")
def data(digits: tuple[IMAGES, IMAGES]) -> tuple[IMAGES, IMAGES]:
    """335 images and their labels: not a multiple of any batch size, so that the last batch is smaller."""
    return digits[0][:335], digits[1][:335]

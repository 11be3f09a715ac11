"""The form in which MNIST presents a digit."""

import numpy as np
from numpy.typing import NDArray

from digits.core.images import MAX_PIXEL, SIDE

BOX = 20  # pixels: the larger side of a digit
TIE = 1e-9  # pixels: a centre of mass between two pixels goes to the first, whatever the rounding of the sums
CENTRE = SIDE // 2  # the row and the column of the centre of mass, give or take half a pixel, in MNIST's own images


def to_mnist_form(ink: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return a digit as MNIST's publishers present it.

    The box around the ink is scaled to fit 20x20 pixels, with its proportions and its grey levels kept, and moved by
    whole pixels so that its centre of mass is that of 28x28 pixels. Part of the box may lie outside of the 20x20 pixels
    in the middle, but none outside of the image.

    Source: Y. LeCun, C. Cortes and C. J. C. Burges, The MNIST database of handwritten digits, 1998.

    Args:
        ink: (height, width), from 0 for paper to 1 for ink; what is not exactly 0 belongs to the digit.

    Returns:
        (28, 28), from 0 for paper to 255 for ink; all 0 if there is no ink.
    """
    image = np.zeros((SIDE, SIDE), np.uint8)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(rows):
        return image
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float64)
    scale = BOX / max(box.shape)
    height, width = (max(1, int(np.floor(side * scale + 0.5))) for side in box.shape)
    small = _means(box.shape[0], height) @ box @ _means(box.shape[1], width).T
    top, left = _place(small.sum(axis=1)), _place(small.sum(axis=0))
    image[top : top + height, left : left + width] = np.floor(small * MAX_PIXEL + 0.5)
    return image


def _means(source: int, target: int) -> NDArray[np.float64]:
    """Return the weights, (target, source), by which pixels along one axis are resampled.

    Each new pixel is the mean over its own extent, or over that of one old pixel if that is larger. The latter is
    linear interpolation.
    """
    extent = source / target
    middles = (np.arange(target)[:, np.newaxis] + 0.5) * extent
    half = max(extent, 1.0) / 2
    edges = np.arange(source)
    overlap = np.minimum(middles + half, edges + 1) - np.maximum(middles - half, edges)
    weights: NDArray[np.float64] = np.maximum(overlap, 0.0) / (2 * half)
    return weights


def _place(mass: NDArray[np.float64]) -> int:
    """Return the first row or column of a digit, by the mass of each of its rows or columns."""
    mean = float(mass @ np.arange(len(mass)) / mass.sum())
    return int(np.clip(np.ceil(CENTRE - mean - 0.5 - TIE), 0, SIDE - len(mass)))

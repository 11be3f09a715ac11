"""Random shifts and distortions of the training images, which depend on the seed and the epoch alone."""

import numpy as np
from numpy.typing import NDArray

from digits.core.images import SIDE
from digits.core.params import DistortionSettings


def shifted_copies(images: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    """Return padded images at each horizontal shift; a vertical shift of one then selects 28 of its rows.

    Args:
        images: (n, 28, 28).
        margin: the largest shift, in pixels.

    Returns:
        (2 * margin + 1, n, 28 + 2 * margin, 28), by the shift to the right as `random_shifts` counts it.
    """
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, SIDE, axis=2)
    return np.moveaxis(windows[:, :, ::-1], 2, 0)


def random_shifts(seed: int, epoch: int, count: int, margin: int) -> NDArray[np.int32]:
    """Return the shift of each image of an epoch, down and to the right, (count, 2).

    Values are from 0 to 2 * `margin`; `margin` itself stands for no shift.
    """
    return np.random.default_rng([seed, epoch, 1]).integers(0, 2 * margin + 1, (count, 2), np.int32)


def random_transforms(seed: int, epoch: int, count: int, distortion: DistortionSettings) -> NDArray[np.float32]:
    """Return a random rotation, shear and zoom about the centre for each image of an epoch, float32 (count, 8).

    Each row is a projective transform (a0, a1, a2, b0, b1, b2, 0, 0) in the form of TensorFlow's
    ImageProjectiveTransformV3: the output pixel in column x and row y is the input pixel in column
    a0 x + a1 y + a2 and row b0 x + b1 y + b2.
    """
    random = np.random.default_rng([seed, epoch, 2])
    angle = np.radians(random.uniform(-distortion.rotate, distortion.rotate, count))
    shear = random.uniform(-distortion.shear, distortion.shear, count)
    zoom_x, zoom_y = random.uniform(1 - distortion.zoom, 1 + distortion.zoom, (2, count))
    cosine, sine = np.cos(angle), np.sin(angle)
    a0, a1 = cosine * zoom_x, (cosine * shear - sine) * zoom_y
    b0, b1 = sine * zoom_x, (sine * shear + cosine) * zoom_y
    centre, zero = (SIDE - 1) / 2, np.zeros(count)
    a2, b2 = centre * (1 - a0 - a1), centre * (1 - b0 - b1)
    return np.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1).astype(np.float32)

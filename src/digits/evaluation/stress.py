"""MNIST's test images with mild corruptions, as in MNIST-C (N. Mu and J. Gilmer, 2019, arXiv 1906.02337)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from digits.core.images import MAX_PIXEL, SIDE

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]

SHIFTED = "scikit-learn"  # the name of the evaluation set under a distribution shift
NOISE = 50  # grey levels: the standard deviation


@dataclass(frozen=True)
class EvaluationSet:
    """Images to test on.

    Attributes:
        name: For files.
        title: For figures and tables.
        images: (n, 28, 28).
        labels: (n,).
    """

    name: str
    title: str
    images: Images
    labels: Labels


def corrupted(images: Images, labels: Labels) -> Iterator[EvaluationSet]:
    """Yield the images with one corruption after another; the same images give the same result.

    Args:
        images: (n, 28, 28).
        labels: (n,).
    """
    for name, (title, corrupt) in CORRUPTIONS.items():
        yield EvaluationSet(name, title, corrupt(images, np.random.default_rng(0)), labels)


def _moved(distance: int) -> Callable[[Images, np.random.Generator], Images]:
    """Return a corruption that moves each image up, down, left or right; what leaves the image is lost."""

    def move(images: Images, random: np.random.Generator) -> Images:
        direction = random.integers(4, size=len(images))
        padded = np.pad(images, ((0, 0), (distance, distance), (distance, distance)))
        moved = np.empty_like(images)
        corners = [(0, distance), (2 * distance, distance), (distance, 0), (distance, 2 * distance)]
        for each, (top, left) in enumerate(corners):
            moved[direction == each] = padded[direction == each, top : top + SIDE, left : left + SIDE]
        return moved

    return move


def _turned(degrees: float) -> Callable[[Images, np.random.Generator], Images]:
    """Return a corruption that turns each image to the left or to the right about its centre."""

    def turn(images: Images, random: np.random.Generator) -> Images:
        left = random.integers(2, size=len(images)) == 1
        turned = np.empty_like(images)
        for group, angle in ((left, degrees), (~left, -degrees)):
            turned[group] = _rounded(
                ndimage.rotate(images[group].astype(np.float32), angle, axes=(2, 1), reshape=False, order=1)
            )
        return turned

    return turn


def _thinner(images: Images, _: np.random.Generator) -> Images:
    return np.asarray(ndimage.grey_erosion(images, (1, 2, 2)), np.uint8)


def _thicker(images: Images, _: np.random.Generator) -> Images:
    return np.asarray(ndimage.grey_dilation(images, (1, 2, 2)), np.uint8)


def _blurred(images: Images, _: np.random.Generator) -> Images:
    return _rounded(ndimage.gaussian_filter(images.astype(np.float32), (0, 1, 1)))


def _noisy(images: Images, random: np.random.Generator) -> Images:
    return _rounded(images + NOISE * random.standard_normal(images.shape, np.float32))


def _half_contrast(images: Images, _: np.random.Generator) -> Images:
    return images // 2


def _inverted(images: Images, _: np.random.Generator) -> Images:
    return np.uint8(MAX_PIXEL) - images


def _crossed(images: Images, random: np.random.Generator) -> Images:
    """Draw a line of one to two pixels, at any angle, within four pixels of the centre of each image."""
    angle = random.uniform(0, np.pi, (len(images), 1, 1)).astype(np.float32)
    offset = random.uniform(-4, 4, (len(images), 1, 1)).astype(np.float32)
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32) - np.float32((SIDE - 1) / 2)
    distance = np.abs(rows * np.cos(angle) + columns * np.sin(angle) - offset)
    return np.maximum(images, _rounded(MAX_PIXEL * (1.25 - distance)))


def _rounded(pixels: NDArray[np.floating]) -> Images:
    rounded: Images = np.clip(np.rint(pixels), 0, MAX_PIXEL).astype(np.uint8)
    return rounded


CORRUPTIONS: dict[str, tuple[str, Callable[[Images, np.random.Generator], Images]]] = {
    "moved-2": ("moved 2 pixels", _moved(2)),
    "moved-4": ("moved 4 pixels", _moved(4)),
    "turned-15": ("turned 15°", _turned(15)),
    "turned-30": ("turned 30°", _turned(30)),
    "thinner": ("thinner", _thinner),
    "thicker": ("thicker", _thicker),
    "blurred": ("blurred", _blurred),
    "noisy": ("noisy", _noisy),
    "half-contrast": ("half the contrast", _half_contrast),
    "inverted": ("inverted", _inverted),
    "crossed": ("a line through it", _crossed),
}

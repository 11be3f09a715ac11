"""Find the digits in a picture.

The paper's brightness is estimated at each place, so that uneven light does not matter, and ink is the share of it that
is missing. Connected parts of ink are joined to digits, and digits to lines. All sizes that decide depend on the height
of a typical digit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold, threshold_otsu
from skimage.measure import label

from digits.core.errors import UserError
from digits.core.images import MAX_PIXEL

WORK = 2_000_000  # pixels: larger pictures are made smaller first
MAX_DIGITS = 200
MIN_HEIGHT = 8  # pixels of a digit; less cannot be told from noise
SMALL = 256  # pixels: the longer side of the copy on which the paper's brightness is estimated
UNBROKEN = 0.85  # the share of its length that a ruled line is seen at
WINDOW = 1 / 4  # of the longer side: what is darker than its surroundings and narrower than this is not paper
FAINT = 0.12  # the ink that is always taken for noise or the grain of the paper
MAX_SLOPE = 0.18  # of a line: ten degrees
TURNED = 0.05  # the slope from which digits are turned upright: three degrees, within which people differ
SLOPING = 3  # digits that show the slope of a line
SAME_LINE = 0.3  # the share of a digit's height beside the digits before it

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels; right and bottom are the first column and row behind it."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def centre(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def __or__(self, other: Self) -> "Box":
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )

    def surrounds(self, other: Self) -> bool:
        """Return whether this is a frame around another box, which is not much lower."""
        return (
            self.left < other.left
            and self.top < other.top
            and self.right > other.right
            and self.bottom > other.bottom
            and other.height > 0.4 * self.height
        )

    def gap(self, other: Self) -> int:
        """Return the columns between two boxes, or minus the columns that they share."""
        return max(self.left, other.left) - min(self.right, other.right)


@dataclass(frozen=True)
class Found:
    """A digit in a picture.

    Attributes:
        box: Around the digit, in pixels of the picture.
        ink: (height, width), from 0 for paper to 1 for ink, without what surrounds the digit.
    """

    box: Box
    ink: Floats


@dataclass(frozen=True)
class _Part:
    """One or more connected parts of ink."""

    box: Box
    labels: tuple[int, ...]

    def __or__(self, other: Self) -> "_Part":
        return _Part(self.box | other.box, self.labels + other.labels)


def find_digits(grey: NDArray[np.uint8]) -> list[list[Found]]:
    """Return the digits of each line of writing, from top to bottom and from left to right.

    The writing may be dark on light or light on dark, on ruled or squared paper, and tilted by up to 10 degrees.

    Args:
        grey: (height, width).

    Raises:
        UserError: there is no digit, or more than `MAX_DIGITS`.
    """
    scale = max(1.0, (grey.size / WORK) ** 0.5)
    ink = _ink(_resized(grey, scale))
    faint, strong = _thresholds(ink)
    ink[_ruling(ink, faint) | _ruling(ink.T, faint).T] = 0
    labels = label(apply_hysteresis_threshold(ink, faint, strong), connectivity=2)
    parts, height = _parts(labels)
    digits = _joined(parts, height)
    if not digits:
        raise UserError("no digit found: write larger, leave a margin, or take the picture from closer")
    if len(digits) > MAX_DIGITS:
        raise _too_many(len(digits))
    lines, slope = _lines([digit.box for digit in digits])
    keep = np.zeros(labels.max() + 1, np.int32)  # the number of the digit, from 1, to which each label belongs
    for number, digit in enumerate(digits, start=1):
        keep[list(digit.labels)] = number
    owners = keep[labels]
    return [[_cut(ink, owners, number, digits[number].box, height, slope, scale) for number in line] for line in lines]


def _too_many(signs: int) -> UserError:
    return UserError(f"{signs} signs found, but at most {MAX_DIGITS} digits are read: cut out the part with the digits")


def _resized(grey: NDArray[np.uint8], scale: float) -> Floats:
    """Return a picture made smaller by a factor, from 0 to 1."""
    height, width = (max(1, round(side / scale)) for side in grey.shape)
    image = Image.fromarray(grey).resize((width, height), Image.Resampling.BOX)
    return np.asarray(image, np.float32) / np.float32(MAX_PIXEL)


def _ink(grey: Floats) -> Floats:
    """Return the ink at each pixel, from 0 for paper to 1 for black on white or white on black."""
    scale = max(1.0, max(grey.shape) / SMALL)
    height, width = (max(1, round(side / scale)) for side in grey.shape)
    small = np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BOX))
    # Strokes differ from the mean of their surroundings in one direction; the edges of a sheet or shadow, in both.
    window = max(small.shape) * WINDOW
    if ((small - ndimage.gaussian_filter(small, window / 3)) ** 3).sum() > 0:
        grey, small = 1 - grey, 1 - small
    paper = ndimage.gaussian_filter(ndimage.grey_closing(small, size=2 * round(window / 2) + 1), 1)
    brightness = np.asarray(Image.fromarray(paper).resize(grey.shape[::-1], Image.Resampling.BILINEAR))
    ink: Floats = np.clip(1 - grey / np.maximum(brightness, 1 / MAX_PIXEL), 0, 1)
    return ink


def _thresholds(ink: Floats) -> tuple[float, float]:
    """Return the ink from which a pixel can belong to a stroke, and the one from which it does."""
    low, middle = np.percentile(ink.ravel()[::61], (10, 50))  # of the paper; a sample is enough
    least = max(FAINT, middle + 3 * (middle - low))
    significant = ink[ink > least]
    # Otsu's threshold parts strokes from their grey edges and from ruling. Faint parts of strokes are below it.
    strong = float(threshold_otsu(significant)) if len(significant) else 1.0
    return max(least, 0.3 * strong), strong


def _ruling(ink: Floats, faint: float) -> Mask:
    """Return the pixels of thin lines across most of the picture, without the strokes that cross them.

    Such a line is made of long horizontal runs, if each pixel also counts for those above and below it, because a
    tilted or curved line goes by steps.
    """
    mask = ink > faint
    found = np.zeros_like(mask)
    rows, columns = map(int, mask.shape)
    length = max(columns // 30, 3 * MIN_HEIGHT)
    smooth = ndimage.uniform_filter1d(ink, 7, axis=1) > 0.7 * faint  # without gaps by noise
    runs = ndimage.maximum_filter1d(smooth.view(np.uint8), 2 * round(length * MAX_SLOPE / 2) + 1, axis=0)
    runs = ndimage.minimum_filter1d(runs, length, axis=1)
    if columns < length or not runs.any():
        return found
    labels = label(ndimage.maximum_filter1d(runs, 2 * length, axis=1), connectivity=2)
    labels[~smooth] = 0
    thicknesses, everywhere = [], np.arange(columns)
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is None or place[1].stop - place[1].start < 0.6 * columns:
            continue
        line = labels[place] == number
        tops = line & ~np.pad(line, ((1, 0), (0, 0)))[:-1]  # the upper edge, or edges: a digit can connect two lines
        thickness = round(line.sum() / tops.sum())
        if np.mean(line.any(axis=0)) < UNBROKEN or thickness > 4 + columns / 200:
            continue  # digits side by side, or a broad band
        thicknesses.append(thickness)
        found[place] |= line
        if tops.sum() > 1.5 * line.any(axis=0).sum():
            continue
        # Where the line is faint, it goes on in pieces.
        y, x = np.nonzero(line)
        curve = np.polynomial.Polynomial.fit(x + place[1].start, y + place[0].start, 2)
        for offset in range(-thickness, thickness + 1):
            found[np.clip(np.rint(curve(everywhere)).astype(int) + offset, 0, rows - 1), everywhere] = True
    if not thicknesses:
        return found
    size = round(1.5 * float(np.median(thicknesses))) + 1  # what is higher is a stroke
    strokes = ndimage.minimum_filter1d(mask.view(np.uint8), size, axis=0)
    ruling: Mask = found & (ndimage.maximum_filter1d(strokes, size, axis=0) == 0)
    return ruling


def _parts(labels: NDArray[np.int64]) -> tuple[list[_Part], float]:
    """Return the connected parts that can belong to digits, and the height of a typical digit.

    That is the median height of the parts, each of which counts by its ink.

    Raises:
        UserError: there are far too many.
    """
    areas = np.bincount(labels.ravel())
    rows, columns = map(int, labels.shape)
    least = max(MIN_HEIGHT, max(labels.shape) / 120)
    parts = [
        _Part(Box(right.start, down.start, right.stop, down.stop), (number,))
        for number, (down, right) in enumerate(ndimage.find_objects(labels), start=1)
        if areas[number] >= least / 2
    ]

    def is_inside(box: Box) -> bool:
        return box.left > 0 and box.top > 0 and box.right < columns and box.bottom < rows

    upright = [
        part for part in parts if least <= part.box.height < rows and part.box.width < min(3 * part.box.height, columns)
    ]
    if len(upright) > 3 * MAX_DIGITS:  # the comparison of each with each would take long
        raise _too_many(len(upright))
    frames = {part for part in upright if any(part.box.surrounds(other.box) for other in upright)}
    upright = [part for part in upright if part not in frames]
    typical = [part for part in upright if is_inside(part.box)] or upright
    if not typical:
        return [], 0.0
    heights, weights = zip(*[(part.box.height, areas[part.labels[0]]) for part in typical], strict=True)
    height = float(np.quantile(heights, 0.5, weights=weights, method="inverted_cdf"))

    def is_possible(box: Box) -> bool:
        if is_inside(box):
            return height / 8 < max(box.width, box.height) and box.height < 3 * height and box.width < 3 * height
        # The edge of a table or of a shadow touches the border of the picture; so does a digit that is cut close.
        most = 1.5 * height
        return height / 2 < box.height < min(most, rows) and box.width < min(most, columns)

    return [part for part in parts if is_possible(part.box) and part not in frames], height


def _joined(parts: Iterable[_Part], height: float) -> list[_Part]:
    """Return the digits, each of which has one part or several."""
    digits: list[_Part] = []
    for part in sorted(parts, key=lambda part: -part.box.height):
        near = [index for index, digit in enumerate(digits) if _belongs(part.box, digit.box, height)]
        if near:
            index = min(near, key=lambda index: digits[index].box.gap(part.box))
            digits[index] |= part
        else:
            digits.append(part)
    return [digit for digit in digits if digit.box.height > 0.4 * height]


def _belongs(part: Box, digit: Box, height: float) -> bool:
    """Return whether a part belongs to a digit that is at least as high.

    The higher the part, the more columns it must share with the digit, because it can be a digit itself.
    """
    if part.height < 0.45 * height:
        gap, reach = height / 8, 1.7
    elif part.height < 0.7 * height:
        gap, reach = 0.0, 1.4
    else:
        gap, reach = -min(part.width, digit.width) / 2, 1.4
    return digit.gap(part) <= gap and (digit | part).height <= reach * max(height, digit.height)


def _lines(boxes: Sequence[Box]) -> tuple[list[list[int]], float]:
    """Return the indices of the digits of each line, and the slope of the lines."""
    slope = 0.0
    for _ in range(2):  # the second time with the slope of the lines that the first time finds
        lines: list[list[int]] = []
        for index in sorted(range(len(boxes)), key=lambda index: boxes[index].centre[0]):
            overlaps = [_overlap(boxes[index], [boxes[other] for other in line[-3:]], slope) for line in lines]
            best = max(range(len(lines)), key=overlaps.__getitem__, default=-1)
            if lines and overlaps[best] > SAME_LINE:
                lines[best].append(index)
            else:
                lines.append([index])
        centres = [np.array([boxes[index].centre for index in line]) for line in lines if len(line) >= SLOPING]
        if centres:
            x, y = np.concatenate([line - line.mean(axis=0) for line in centres]).T
            slope = float(np.clip(x @ y / (x @ x), -MAX_SLOPE, MAX_SLOPE))
    lines.sort(key=lambda line: np.mean([boxes[index].centre[1] - slope * boxes[index].centre[0] for index in line]))
    return lines, slope


def _overlap(box: Box, others: Sequence[Box], slope: float) -> float:
    """Return the share of a box's height, or of the highest other's if that is less, at which there are others.

    The others are those before it on a line with a slope.
    """
    shifts = [slope * (box.centre[0] - other.centre[0]) for other in others]
    top = min(other.top + shift for other, shift in zip(others, shifts, strict=True))
    bottom = max(other.bottom + shift for other, shift in zip(others, shifts, strict=True))
    shared = min(box.bottom, bottom) - max(box.top, top)
    return shared / min(box.height, max(other.height for other in others))


def _cut(
    ink: Floats, owners: NDArray[np.int32], number: int, box: Box, height: float, slope: float, scale: float
) -> Found:
    """Return a digit with the grey pixels around its edge."""
    margin = 1 + round(height / 16)
    place = (
        slice(max(0, box.top - margin), box.bottom + margin),
        slice(max(0, box.left - margin), box.right + margin),
    )
    own, size = owners[place] == number + 1, 2 * margin + 1
    others = ndimage.maximum_filter((owners[place] > 0) & ~own, size)
    cut = np.where(own | (ndimage.maximum_filter(own, size) & ~others), ink[place], 0)
    full = np.percentile(cut[own], 80)
    cut = np.where(cut > 0.3 * full, np.minimum(cut / full, 1), 0)
    if abs(slope) > TURNED:
        cut = ndimage.rotate(cut, np.degrees(np.arctan(slope)), order=1)
    edges = (round(edge * scale) for edge in (box.left, box.top, box.right, box.bottom))
    return Found(Box(*edges), cut)

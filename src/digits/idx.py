"""IDX files, the format in which MNIST is published.

Format: http://yann.lecun.com/exdb/mnist/, "the IDX file format": two zero bytes, one byte for the type of the values,
one for the number of dimensions, each dimension as a big-endian uint32, then the values in row-major order.
"""

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from digits.errors import UserError

UINT8 = 0x08
SIDE = 28  # pixels: the edge of an image
CLASSES = 10
WHITE = 255.0  # the value of a pixel that is fully on


def read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the values of an IDX file of unsigned bytes.

    Args:
        path: an uncompressed IDX file.
        dimensions: how many dimensions it must have.

    Returns:
        A read-only array of shape (size of dimension 1, size of dimension 2, ...).

    Raises:
        UserError: it is missing, is not IDX, holds another type or number of dimensions, or is longer or shorter than
            its header says.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path, dimensions)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): run `dvc repro preprocess`") from None


def _read(file: BinaryIO, path: Path, dimensions: int) -> NDArray[np.uint8]:
    size, header = os.fstat(file.fileno()).st_size, 4 + 4 * dimensions
    start = file.read(header)
    if len(start) < header:
        raise UserError(f"{path}: {len(start)} bytes, where the IDX header alone takes {header}")
    zeros, kind, count = struct.unpack(">HBB", start[:4])
    if zeros != 0:
        raise UserError(f"{path}: starts with the bytes {start[:2].hex()}, where an IDX file starts with 0000")
    if kind != UINT8:
        raise UserError(f"{path}: holds values of type 0x{kind:02x}, where unsigned bytes (0x08) are wanted")
    if count != dimensions:
        raise UserError(f"{path}: has {count} dimensions, where {dimensions} are wanted")
    shape = struct.unpack(f">{dimensions}I", start[4:])
    if 0 in shape:
        raise UserError(f"{path}: its header {shape} makes no values at all")
    expected = header + math.prod(shape)
    if size != expected:  # before the rest is read: a file of the wrong length may be of any length
        raise UserError(f"{path}: {size} bytes, where its header {shape} makes {expected}")
    return np.frombuffer(file.read(), np.uint8).reshape(shape)


def read_images(path: Path) -> NDArray[np.uint8]:
    """Return images, (n, 28, 28), 0 black to 255 white; raise UserError as `read` does, and for another size."""
    images = read(path, 3)
    if images.shape[1:] != (SIDE, SIDE):
        raise UserError(f"{path}: images of {images.shape[1]}x{images.shape[2]} pixels, where {SIDE}x{SIDE} are wanted")
    return images


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Return labels, (n,), 0 to 9; raise UserError as `read` does, and for a label over 9."""
    labels = read(path, 1)
    wrong = np.flatnonzero(labels >= CLASSES)
    if wrong.size:
        raise UserError(f"{path}: label {labels[wrong[0]]} at index {wrong[0]}, where 0 to 9 are allowed")
    return labels


def read_pair(images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images (n, 28, 28) and their labels (n,); raise UserError as both readers do, and for unequal counts."""
    pictures, digits = read_images(images), read_labels(labels)
    if len(pictures) != len(digits):
        raise UserError(f"{images} has {len(pictures)} images, {labels} {len(digits)} labels: they must be as many")
    return pictures, digits

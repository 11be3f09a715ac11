"""Reader of IDX files, the format of MNIST.

An IDX file consists of two zero bytes, one byte for the type of the values, one byte for the number of dimensions, the
size of each dimension as a big-endian uint32, and the values in row-major order. See "the IDX file format" at
http://yann.lecun.com/exdb/mnist/.
"""

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from digits.core.errors import UserError
from digits.core.images import CLASSES, SIDE

UINT8 = 0x08


def read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the values of an IDX file of unsigned bytes.

    Args:
        path: an uncompressed IDX file.
        dimensions: the expected number of dimensions.

    Returns:
        A read-only array of shape (size of dimension 1, size of dimension 2, ...).

    Raises:
        UserError: the file is missing, is not an IDX file, has another type or number of dimensions, or is longer or
            shorter than its header requires.
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
        raise UserError(f"{path}: has {len(start)} bytes; the IDX header alone has {header}")
    zeros, kind, count = struct.unpack(">HBB", start[:4])
    if zeros != 0:
        raise UserError(f"{path}: starts with the bytes {start[:2].hex()}; an IDX file starts with 0000")
    if kind != UINT8:
        raise UserError(f"{path}: has values of type 0x{kind:02x}; expected unsigned bytes (0x08)")
    if count != dimensions:
        raise UserError(f"{path}: has {count} dimensions; expected {dimensions}")
    shape = struct.unpack(f">{dimensions}I", start[4:])
    if 0 in shape:
        raise UserError(f"{path}: its header {shape} describes an empty array")
    expected = header + math.prod(shape)
    if size != expected:  # checked before the rest is read, because the file may be of any length
        raise UserError(f"{path}: has {size} bytes; its header {shape} requires {expected}")
    return np.frombuffer(file.read(), np.uint8).reshape(shape)


def read_images(path: Path) -> NDArray[np.uint8]:
    """Read images of shape (n, 28, 28), from 0 (background) to 255 (ink).

    Raises:
        UserError: as for `read`, or the images have another size.
    """
    images = read(path, 3)
    if images.shape[1:] != (SIDE, SIDE):
        raise UserError(f"{path}: has images of {images.shape[1]}x{images.shape[2]} pixels; expected {SIDE}x{SIDE}")
    return images


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Read labels of shape (n,), from 0 to 9.

    Raises:
        UserError: as for `read`, or a label is greater than 9.
    """
    labels = read(path, 1)
    wrong = np.flatnonzero(labels >= CLASSES)
    if wrong.size:
        raise UserError(f"{path}: has the label {labels[wrong[0]]} at index {wrong[0]}; labels are 0 to {CLASSES - 1}")
    return labels


def read_pair(images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read images of shape (n, 28, 28) and their labels of shape (n,).

    Raises:
        UserError: as for `read_images` and `read_labels`, or the numbers of images and labels differ.
    """
    pictures, digits = read_images(images), read_labels(labels)
    if len(pictures) != len(digits):
        raise UserError(f"{images} has {len(pictures)} images, but {labels} has {len(digits)} labels")
    return pictures, digits

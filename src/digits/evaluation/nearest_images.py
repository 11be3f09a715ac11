"""The nearest training image of each digit."""

import numpy as np
from numpy.typing import NDArray

from digits.core.images import CLASSES

BLOCK = 2000  # images compared with all references of a digit at a time: 50 MB of distances


def nearest_of_each_class(
    images: NDArray[np.uint8], references: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find, for each image and each digit, the nearest reference image of that digit by Euclidean distance.

    The search multiplies matrices of float32, which is fast but rounded; the distance to the image found is exact.

    Args:
        images: (n, height, width), 0 to 255.
        references: (m, height, width), 0 to 255.
        labels: (m,), the digit of each reference.

    Returns:
        Indices into `references` and squared distances in grey levels, each int64 (n, 10); both are -1 for a digit
        without references.
    """
    # A pixel that is blank in all images of one side adds nothing to a product: 118 of the 784 in MNIST are.
    queries, pool = (pixels.reshape(len(pixels), -1) for pixels in (images, references))
    inked = queries.any(axis=0) & pool.any(axis=0)
    indices = np.full((len(images), CLASSES), -1, np.int64)
    squared_distances = np.full((len(images), CLASSES), -1, np.int64)
    for digit in range(CLASSES):
        members = np.flatnonzero(labels == digit)
        if not members.size:
            continue
        candidates = pool[members].astype(np.float32)
        # |q - c|^2 = |q|^2 - 2 q.c + |c|^2, and |q|^2 does not change which c is nearest.
        half_norms = np.einsum("ij,ij->i", candidates, candidates) / 2
        candidates = candidates[:, inked]
        for start in range(0, len(queries), BLOCK):
            block = slice(start, start + BLOCK)
            scores = queries[block][:, inked].astype(np.float32) @ candidates.T
            scores -= half_norms
            found = members[scores.argmax(axis=1)]
            difference = queries[block].astype(np.int32) - pool[found]
            indices[block, digit] = found
            squared_distances[block, digit] = np.einsum("ij,ij->i", difference, difference)
    return indices, squared_distances

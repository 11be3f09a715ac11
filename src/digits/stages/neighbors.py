"""Stage neighbors: the nearest training image of each digit to each test image, for the error analysis."""

import numpy as np

from digits.core import paths
from digits.core.artifacts import read_arrays, write_arrays
from digits.evaluation import nearest_images


def run() -> None:
    """Find the nearest training images, and write their indices and distances."""
    test = read_arrays(paths.TEST)
    known = [read_arrays(path) for path in (paths.TRAIN, paths.VALIDATION)]
    images, labels = (np.concatenate([part[key] for part in known]) for key in ("images", "labels"))
    indices, squared_distances = nearest_images.nearest_of_each_class(test["images"], images, labels)
    write_arrays(paths.NEIGHBORS, indices=indices, squared_distances=squared_distances)

"""Stage neighbors: the training image of each digit nearest to each test image, for every variant's analysis."""

import numpy as np

from digits import neighbors, paths
from digits.files import read_arrays, write_arrays


def run() -> None:
    test = read_arrays(paths.TEST)
    known = [read_arrays(path) for path in (paths.TRAIN, paths.VALIDATION)]
    images, labels = (np.concatenate([part[key] for part in known]) for key in ("images", "labels"))
    indices, squares = neighbors.nearest_of_each_class(test["images"], images, labels)
    write_arrays(paths.NEIGHBORS, indices=indices, squared_distances=squares)

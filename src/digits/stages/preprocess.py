"""Stage preprocess: IDX files to arrays, split into training, validation and test images."""

import numpy as np

from digits import plots
from digits.core import params, paths
from digits.core.artifacts import write_arrays, write_json
from digits.core.images import CLASSES
from digits.data import idx
from digits.data.split import stratified_split

COLUMNS = 12  # of the figure with samples


def run() -> None:
    """Read and split the images, and write the arrays, their counts and figures of the data."""
    parameters = params.load(paths.PARAMS)
    section = parameters.preprocess
    train_images, train_labels, test_images, test_labels = (
        paths.RAW / name for name in parameters.download.files.by_name()
    )
    images, labels = idx.read_pair(train_images, train_labels)
    train, validation = stratified_split(labels, section.validation_fraction, section.seed)
    splits = {
        paths.TRAIN: (images[train], labels[train]),
        paths.VALIDATION: (images[validation], labels[validation]),
        paths.TEST: idx.read_pair(test_images, test_labels),
    }
    counts = {}
    for path, (split_images, split_labels) in splits.items():
        write_arrays(path, images=split_images, labels=split_labels)
        per_class = np.bincount(split_labels, minlength=CLASSES).tolist()
        counts[path.stem] = {"images": len(split_labels), "per_class": per_class}
    write_json(paths.DATASET_METRICS, counts)
    plots.sample_grid(*splits[paths.TRAIN], COLUMNS, paths.DATASET_PLOTS / "samples.png")
    plots.normalization(images[0], int(labels[0]), paths.DATASET_PLOTS / "normalization.png")

"""Stage preprocess: IDX files to arrays, split into training, validation and test images."""

import numpy as np

from digits import figures, idx, params, paths, splits
from digits.files import write_arrays, write_json

COLUMNS = 12  # of the sample grid


def run() -> None:
    settings = params.load(paths.PARAMS)
    section = settings.preprocess
    train_images, train_labels, test_images, test_labels = (
        paths.RAW / name for name in settings.download.files.by_name()
    )
    images, labels = idx.read_pair(train_images, train_labels)
    train, validation = splits.stratified(labels, section.validation_fraction, section.seed)
    parts = {
        paths.TRAIN: (images[train], labels[train]),
        paths.VALIDATION: (images[validation], labels[validation]),
        paths.TEST: idx.read_pair(test_images, test_labels),
    }
    for path, (pictures, digits) in parts.items():
        write_arrays(path, images=pictures, labels=digits)
    counts = {path.stem: np.bincount(digits, minlength=idx.CLASSES).tolist() for path, (_, digits) in parts.items()}
    write_json(
        paths.DATASET_METRICS,
        {split: {"images": sum(of_digit), "per_class": of_digit} for split, of_digit in counts.items()},
    )
    figures.sample_grid(*parts[paths.TRAIN], COLUMNS, paths.DATASET_PLOTS / "samples.png")
    figures.normalization(images[0], int(labels[0]), paths.DATASET_PLOTS / "normalization.png")

"""Stage analyze: which test images a variant gets wrong, and evidence for why."""

import numpy as np

from digits import analysis, figures, params, paths, statistics
from digits.files import read_arrays, write_csv, write_json
from digits.idx import CLASSES

HEADER = ("index", "label", "predicted", "probability_predicted", "probability_label")


def run(variant: str) -> None:
    settings = params.load(paths.PARAMS)
    settings.model(variant)  # a name without an entry may be no name, but a path
    out = paths.Variant(variant)
    test = read_arrays(paths.TEST)
    images, labels = test["images"], test["labels"]
    squares = read_arrays(paths.NEIGHBORS)["squared_distances"]
    probabilities = read_arrays(out.predictions)["probabilities"]
    predicted = probabilities.argmax(axis=1)
    wrong = predicted != labels

    rows = [
        (int(i), int(labels[i]), int(predicted[i]), probabilities[i, predicted[i]], probabilities[i, labels[i]])
        for i in np.flatnonzero(wrong)
    ]
    write_csv(out.errors, HEADER, rows)
    # A stable sort, so that mistakes of equal confidence stay in the order of the test set.
    confident = sorted(rows, key=lambda row: -row[3])[: settings.analyze.images]
    figures.mistakes(
        [(images[index], label, guess, float(probability)) for index, label, guess, probability, _ in confident],
        f"{variant}: the {len(confident)} most confident of {len(rows)} mistakes on {len(labels):,} test images",
        out.errors_figure,
    )
    write_json(
        out.error_metrics,
        {
            "errors": len(rows),
            "resemblance": analysis.resemblance(wrong, labels, predicted, squares),
            "rare_style": analysis.rare_style(wrong, labels, squares),
            "overlap": analysis.overlap(statistics.confusion(labels, predicted, CLASSES)),
        },
    )

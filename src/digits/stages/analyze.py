"""Stage analyze: the test images that a variant misclassifies, and evidence for the reasons."""

from dataclasses import asdict

import numpy as np
import pandas as pd

from digits import plots
from digits.core import params, paths
from digits.core.artifacts import read_arrays, write_csv, write_json
from digits.evaluation import error_analysis


def run(variant: str) -> None:
    """Analyse the errors of a variant, and write their list, their figure and the evidence."""
    parameters = params.load(paths.PARAMS)
    parameters.model(variant)  # a name without an entry may be a path instead of a name
    files = paths.VariantFiles(variant)
    test = read_arrays(paths.TEST)
    images, labels = test["images"], test["labels"]
    squared_distances = read_arrays(paths.NEIGHBORS)["squared_distances"]
    probabilities = read_arrays(files.predictions)["probabilities"]
    predicted = probabilities.argmax(axis=1)
    wrong = predicted != labels

    index = np.flatnonzero(wrong)
    mistakes = pd.DataFrame(
        {
            "index": index,
            "label": labels[index],
            "predicted": predicted[index],
            "probability_predicted": probabilities[index, predicted[index]],
            "probability_label": probabilities[index, labels[index]],
        }
    )
    write_csv(files.errors, mistakes)
    # A stable sort keeps mistakes of equal confidence in the order of the test set.
    confident = mistakes.sort_values("probability_predicted", ascending=False, kind="stable").head(
        parameters.analyze.images
    )
    plots.mistakes(
        images[confident["index"]],
        confident,
        f"{variant}: the {len(confident)} most confident of {len(mistakes)} mistakes on {len(labels):,} test images",
        files.errors_figure,
    )
    write_json(
        files.error_metrics,
        {
            "errors": len(mistakes),
            "resemblance": asdict(error_analysis.resemblance(wrong, labels, predicted, squared_distances)),
            "rare_style": asdict(error_analysis.rare_style(wrong, labels, squared_distances)),
            "overlap": asdict(error_analysis.overlap(wrong, labels, predicted)),
        },
    )

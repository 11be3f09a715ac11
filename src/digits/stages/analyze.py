"""Stage analyze: the test images that the seeds of a variant misclassify, and evidence for the reasons."""

from dataclasses import asdict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from digits import plots
from digits.core import config, params, paths, seeds_wrong
from digits.core.artifacts import read_arrays, write_csv, write_json
from digits.core.images import CLASSES
from digits.evaluation import error_analysis
from digits.evaluation.disputed import DisputedLabels, disputed_errors

PLACES = 3  # decimal places of a probability in errors.csv, which Git holds
LISTED = 1000  # rows of errors.csv at most, for the same reason


def run(variant: str) -> None:
    """Analyse the errors of a variant, and write their list, their figure and the evidence."""
    parameters = params.load(paths.PARAMS)
    parameters.model(variant)  # a name without an entry may be a path instead of a name
    files = paths.VariantFiles(variant)
    test = read_arrays(paths.TEST)
    images, labels = test["images"], test["labels"]
    squared_distances = read_arrays(paths.NEIGHBORS)["squared_distances"]
    probabilities = read_arrays(files.predictions)["probabilities"]
    predicted = probabilities.argmax(axis=2)
    seeds, wrong = len(predicted), (predicted != labels).sum(axis=0)
    answers = most_frequent_mistakes(predicted, labels)
    means = probabilities.mean(axis=0, dtype=np.float64)

    disputed = config.read(paths.DISPUTED, DisputedLabels).of(labels)

    index = np.flatnonzero(wrong)
    mistakes = pd.DataFrame(
        {
            "index": index,
            "label": labels[index],
            "seeds_wrong": wrong[index],
            "answer": answers[index],
            "probability_answer": means[index, answers[index]].round(PLACES),
            "probability_label": means[index, labels[index]].round(PLACES),
            "disputed": np.isin(index, [image.index for image in disputed]).astype(int),
        }
    )
    # A stable sort keeps equal mistakes in the order of the test set.
    ranked = mistakes.sort_values(["seeds_wrong", "probability_answer"], ascending=False, kind="stable")
    seeds_wrong.write(files.test_errors, wrong)
    write_csv(files.errors, ranked.head(LISTED).sort_index())
    write_csv(files.all_errors, mistakes)
    if len(mistakes) > LISTED:
        print(
            f"{variant}: {files.errors} has the {LISTED:,} worst of {len(mistakes):,} misclassified images; "
            f"{files.all_errors}, which is in the DVC cache, has all"
        )
    worst = ranked.head(parameters.analyze.images)
    every = int((wrong == seeds).sum())
    title = _title(variant, len(worst), len(index), every, seeds)
    if worst["disputed"].any():
        title += ";\n* people dispute the label"
    plots.mistakes(images[worst["index"]], worst, seeds, title, files.errors_figure)
    rates = wrong / seeds
    write_json(
        files.error_metrics,
        {
            "images": {name: int(group.sum()) for name, group in error_analysis.group_images(rates).items()},
            "resemblance": asdict(error_analysis.resemblance(rates, labels, answers, squared_distances)),
            "rare_style": asdict(error_analysis.rare_style(rates, labels, squared_distances)),
            "overlap": asdict(error_analysis.overlap(rates > 0, labels, answers)),
            "disputed": asdict(disputed_errors(predicted, labels, disputed)),
        },
    )


def most_frequent_mistakes(predicted: NDArray[np.integer], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the most frequent wrong answer for each image, the smallest of equals; 0 or 1 if all seeds are right.

    Args:
        predicted: (seeds, images).
        labels: (images,).
    """
    counts = (predicted[:, :, np.newaxis] == np.arange(CLASSES)).sum(axis=0)
    counts[np.arange(len(labels)), labels] = -1
    most: NDArray[np.int64] = counts.argmax(axis=1)
    return most


def _title(variant: str, shown: int, wrong: int, every: int, seeds: int) -> str:
    if seeds == 1:
        return f"{variant}: {shown:,} of {wrong:,} misclassified test images,\nwith the probability of the answer"
    return (
        f"{variant}: {shown:,} of {wrong:,} test images that any of {seeds} seeds misclassifies;\n"
        f"all seeds misclassify {every:,}, some of them {wrong - every:,}.\n"
        f"By how many seeds, and the mean probability of the answer"
    )

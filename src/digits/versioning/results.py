"""The results of a variant at a revision, from what Git holds."""

import json
from dataclasses import dataclass
from pathlib import Path

from digits.core import paths, seeds_wrong
from digits.evaluation import comparison
from digits.evaluation.comparison import Mistake, Result
from digits.versioning.revisions import Revision


@dataclass(frozen=True)
class VariantResults:
    """The errors of a variant on the test images, and the answers to the worst of those that any seed misclassifies.

    Attributes:
        result: The errors.
        mistakes: The answers, by the index of the image.
    """

    result: Result
    mistakes: dict[int, Mistake]


def result_files(side: Revision, variant: str) -> list[Path]:
    """Return the files that `read_results` reads.

    Earlier versions of this project wrote no `test_errors.csv`: their `errors.csv` has every misclassified image.
    """
    files = paths.VariantFiles(variant)
    read = [files.metrics, files.errors]
    return read if side.read(files.test_errors) is None else [*read, files.test_errors]


def read_results(side: Revision, variant: str, images: int) -> VariantResults | None:
    """Return the results of a variant on the test images.

    Args:
        side: the revision.
        variant: the variant.
        images: the number of test images.

    Returns:
        The results, or None if a file is missing, was written by another version of this project, or contradicts
        another one.
    """
    files = paths.VariantFiles(variant)
    try:
        metrics, errors, counts = (side.text(path) for path in (files.metrics, files.errors, files.test_errors))
        if metrics is None or errors is None:
            return None
        mistakes = comparison.read_mistakes(errors)
        listed = {index: mistake.seeds_wrong for index, mistake in mistakes.items()}
        wrong = listed if counts is None else seeds_wrong.read(counts)
        if not listed.items() <= wrong.items():
            return None
        by_seed = [int(value) for value in json.loads(metrics)["test"]["errors"]["values"]]
        return VariantResults(comparison.result(by_seed, wrong, images), mistakes)
    except (KeyError, TypeError, ValueError):
        return None


def test_images(side: Revision) -> int | None:
    """Return the number of test images of a revision, or None if it has no readable metrics/dataset.json."""
    try:
        return int(side.mapping(paths.DATASET_METRICS, json.loads)["test"]["images"])
    except (KeyError, TypeError, ValueError):
        return None

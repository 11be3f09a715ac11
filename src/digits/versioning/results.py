"""The results of a variant at a revision, from what Git holds."""

import json
from dataclasses import dataclass

from digits.core import paths
from digits.evaluation import comparison
from digits.evaluation.comparison import Mistake, Result
from digits.versioning.revisions import Revision


@dataclass(frozen=True)
class VariantResults:
    """The errors of a variant on the test images, and the images that any seed misclassifies, by index."""

    result: Result
    mistakes: dict[int, Mistake]


def read_results(side: Revision, variant: str, images: int) -> VariantResults | None:
    """Return the results of a variant on the test images.

    Args:
        side: the revision.
        variant: the variant.
        images: the number of test images.

    Returns:
        The results, or None if a file is missing, was written by another version of this project, or contradicts the
        other one.
    """
    files = paths.VariantFiles(variant)
    try:
        metrics, mistakes = side.text(files.metrics), side.text(files.errors)
        if metrics is None or mistakes is None:
            return None
        rows = comparison.read_mistakes(mistakes)
        errors = [int(value) for value in json.loads(metrics)["test"]["errors"]["values"]]
        counts = {index: mistake.seeds_wrong for index, mistake in rows.items()}
        return VariantResults(comparison.result(errors, counts, images), rows)
    except (KeyError, TypeError, ValueError):
        return None


def test_images(side: Revision) -> int | None:
    """Return the number of test images of a revision, or None if it has no readable metrics/dataset.json."""
    try:
        return int(json.loads(side.text(paths.DATASET_METRICS) or "")["test"]["images"])
    except (KeyError, TypeError, ValueError):
        return None

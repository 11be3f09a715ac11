"""The results of a trial, read from the commit of its experiment."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from digits.core import paths, seeds_wrong
from digits.core.config import parse_fast
from digits.core.errors import UserError
from digits.evaluation import comparison
from digits.evaluation.comparison import Result
from digits.evaluation.statistics import Spread
from digits.evaluation.validation import held_out
from digits.versioning.repository import LOCK
from digits.versioning.results import read_results
from digits.versioning.revisions import Revision

Split = Literal["validation", "test"]
# The stage that reads the images of a split, and their file.
SOURCES: dict[Split, tuple[str, Path]] = {"validation": ("train", paths.VALIDATION), "test": ("evaluate", paths.TEST)}


@dataclass(frozen=True)
class Score:
    """The results of a variant at its last epoch.

    Attributes:
        ranked_by: The split that ranks the variant: test if no images were held out.
        images_md5: The MD5 of the file of that split, whose results are comparable only on the same images.
        result: The errors on that split. It has one byte an image, because workers send scores to the client.
        test_accuracy: The mean over the seeds.
        test_loss: Likewise.
    """

    ranked_by: Split
    images_md5: str
    result: Result
    test_accuracy: float
    test_loss: float

    @property
    def accuracy(self) -> Spread:
        """The accuracy on the split that ranks the variant, over the seeds."""
        return self.result.accuracy


def read_scores(root: Path, commit: str) -> dict[str, Score]:
    """Return the results of an experiment by variant.

    Args:
        root: the folder of dvc.yaml.
        commit: the experiment's commit or reference.

    Raises:
        UserError: a file of the results is missing, was written by another version of this project, or contradicts
            another one.
    """
    revision = Revision(root, commit, commit)
    summary = json.loads(revision.text(paths.SUMMARY) or "{}")
    dataset = json.loads(revision.text(paths.DATASET_METRICS) or "{}")
    stages = (parse_fast(revision.text(LOCK) or "") or {}).get("stages", {})
    scores = {}
    for variant, metrics in summary.items():
        try:
            scores[variant] = _score(revision, variant, metrics, dataset, stages)
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{commit} has no results of {variant} that this version of digits can read") from None
    return scores


def _score(
    revision: Revision,
    variant: str,
    metrics: Mapping[str, float],
    dataset: Mapping[str, Any],
    stages: Mapping[str, Any],
) -> Score:
    """Return the results of a variant, from its values in metrics/summary.json, metrics/dataset.json and dvc.lock.

    Raises:
        KeyError, TypeError or ValueError: a file is missing, or is not what this version writes.
    """
    result = _validation_result(revision, variant, dataset)
    split: Split = "test" if result is None else "validation"
    if result is None:
        read = read_results(revision, variant, dataset["test"]["images"])
        if read is None:
            raise ValueError
        result = read.result
    stage, file = SOURCES[split]
    md5 = {dep["path"]: dep["md5"] for dep in stages[f"{stage}@{variant}"]["deps"] if "md5" in dep}
    small = Result(result.errors, result.wrong.astype(np.uint8))  # params.yaml allows 100 seeds at most
    return Score(split, md5[file.as_posix()], small, metrics["accuracy"], metrics["loss"])


def _validation_result(revision: Revision, variant: str, dataset: Mapping[str, Any]) -> Result | None:
    """Return the errors on the validation images, or None if no images were held out."""
    files = paths.VariantFiles(variant)
    metrics = json.loads(revision.text(files.metrics) or "")
    if not held_out(metrics):
        return None
    accuracies = metrics["validation"]["accuracy"]["values"]
    images = int(dataset["validation"]["images"])
    counts = seeds_wrong.read(revision.text(files.validation_errors) or "")
    return comparison.result([round((1 - accuracy) * images) for accuracy in accuracies], counts, images)

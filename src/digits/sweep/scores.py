"""The results of a trial, read from the commit of its experiment."""

import json
from dataclasses import dataclass
from pathlib import Path

from digits.core import paths
from digits.evaluation import curves
from digits.versioning.revisions import Revision


@dataclass(frozen=True)
class Score:
    """The results of a variant at its last epoch."""

    validation_accuracy: float | None  # None: no images were held out
    accuracy: float  # on the test images
    loss: float  # on the test images

    @property
    def ranked_by(self) -> str:
        """The split that variants are ranked by."""
        return "test" if self.validation_accuracy is None else "validation"

    @property
    def ranked_accuracy(self) -> float:
        """The accuracy on that split."""
        return self.accuracy if self.validation_accuracy is None else self.validation_accuracy


def read_scores(root: Path, commit: str) -> dict[str, Score]:
    """Return the results of an experiment by variant.

    Args:
        root: the folder of dvc.yaml.
        commit: the experiment's commit or reference.
    """
    revision = Revision(root, commit, commit)
    summary = json.loads(revision.text(paths.SUMMARY) or "{}")
    scores = {}
    for variant, metrics in summary.items():
        training = revision.text(paths.VariantFiles(variant).training)
        validation = {} if training is None else curves.read_table(training)["val_accuracy"].dropna().to_dict()
        scores[variant] = Score(validation.get(metrics["epochs"]), metrics["accuracy"], metrics["loss"])
    return scores

"""The trained variants of a repository, ready to answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digits.core import params, paths
from digits.core.artifacts import read_json
from digits.core.errors import UserError
from digits.evaluation import selective
from digits.evaluation.validation import held_out
from digits.inference import ensemble
from digits.inference.ensemble import Ensemble


@dataclass(frozen=True)
class Trained:
    """A trained variant.

    Attributes:
        ensemble: The models of its seeds.
        threshold: The confidence from which the ensemble's answers are right 99.9 % of the time; None if no confidence
            is enough.
        metrics: The content of `metrics/variants/<variant>.json`.
    """

    ensemble: Ensemble
    threshold: float | None
    metrics: dict[str, Any]

    def is_sure(self, confidence: float) -> bool:
        """Return whether the ensemble answers at a confidence, or would rather not say."""
        return self.threshold is not None and confidence >= self.threshold


def load(root: Path, variant: str | None = None) -> Trained:
    """Return a trained variant of a repository, by default the one with the highest validation accuracy.

    Raises:
        UserError: there is no such variant, it has not been trained, or a file is damaged.
    """
    parameters = params.load(root / paths.PARAMS)
    if variant is None:
        variant = _best(root, parameters)
    files = files_of(root, parameters, variant)
    metrics = read_json(root / files.metrics)
    found = ensemble.load(variant, root / files.model, root / files.weights)
    return Trained(found, selective.strictest(metrics["selective"])["threshold"], metrics)


def files_of(root: Path, parameters: params.Params, variant: str) -> paths.VariantFiles:
    """Return the files of a trained variant; raise UserError if there is no such variant, or it is not trained."""
    parameters.model(variant)
    files = paths.VariantFiles(variant)
    if not _is_trained(root, files):
        raise UserError(f"'{variant}' has no trained model in {files.models}: type `make repro`")
    return files


def _is_trained(root: Path, files: paths.VariantFiles) -> bool:
    return (root / files.weights).exists() and (root / files.metrics).exists()


def validation_accuracy(metrics: dict[str, Any]) -> float:
    """Return the validation accuracy of an ensemble, by its metrics; 0 if it was trained on the validation images."""
    return metrics["validation"]["ensemble"]["accuracy"] if held_out(metrics) else 0.0


def _best(root: Path, parameters: params.Params) -> str:
    """Return the trained variant whose ensemble has the highest validation accuracy."""
    scores: dict[str, float] = {}
    for name in parameters.variants:
        files = paths.VariantFiles(name)
        if _is_trained(root, files):
            scores[name] = validation_accuracy(read_json(root / files.metrics))
    if not scores:
        raise UserError("there is no trained model yet: type `make repro`")
    return max(scores, key=lambda name: scores[name])

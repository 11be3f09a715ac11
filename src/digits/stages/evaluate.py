"""Stage evaluate: the results of a variant on the test images, at every checkpoint."""

from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from digits.core import params, paths
from digits.core.artifacts import read_arrays, write_arrays, write_csv, write_json
from digits.core.images import CLASSES
from digits.evaluation import curves, metrics
from digits.evaluation.statistics import accuracy_interval
from digits.modeling import losses, networks
from digits.modeling.backend import pin_threads


def run(variant: str) -> None:
    """Evaluate a variant, and write its metrics, its test curve, its confusion matrix and its predictions."""
    parameters = params.load(paths.PARAMS)
    files, bins = paths.VariantFiles(variant), parameters.evaluate.calibration_bins
    parameters.model(variant)  # a name without an entry may be a path instead of a name
    pin_threads(parameters.train.threads)

    test = read_arrays(paths.TEST)
    images, labels = test["images"], test["labels"]
    weights = read_arrays(files.weights)
    epochs = [int(epoch) for epoch in weights.pop("epochs")]
    model = networks.load(files.model)
    predict = networks.compile_logits(model)

    rows: list[EpochMetrics] = []
    for index, epoch in enumerate(epochs):
        networks.set_weights(model, {path: values[index] for path, values in weights.items()})
        logits = predict(images)
        probabilities = np.exp(log_softmax(logits.astype(np.float64), axis=1)).astype(np.float32)
        rows.append(_epoch_metrics(epoch, logits, probabilities, labels, bins))
    last, predicted = rows[-1], probabilities.argmax(axis=1)

    write_csv(files.epochs, pd.DataFrame(rows))
    counts = metrics.confusion(labels, predicted).ravel()
    pairs = pd.DataFrame(product(range(CLASSES), repeat=2), columns=["actual", "predicted"])
    write_csv(files.confusion, pairs.assign(count=counts))
    write_arrays(files.predictions, probabilities=probabilities)

    selected_on, best = _best_epoch(files, rows)
    correct = int((predicted == labels).sum())
    write_json(
        files.metrics,
        {
            "epochs": last.epoch,
            "parameters": model.count_params(),
            "layers": {layer.name: layer.count_params() for layer in model.layers if layer.count_params()},
            "optimizer_parameters": sum(int(np.prod(variable.shape)) for variable in model.optimizer.variables),
            "test": {
                "accuracy": last.accuracy,
                "loss": last.loss,
                "errors": len(labels) - correct,
                "accuracy_interval": accuracy_interval(correct, len(labels)),
            },
            "best": {"epoch": best.epoch, "accuracy": best.accuracy, "loss": best.loss, "selected_on": selected_on},
            "per_class": {
                str(digit): asdict(values) for digit, values in enumerate(metrics.per_class(labels, predicted))
            },
            "calibration": asdict(metrics.calibration(probabilities, labels, bins)),
        },
    )


@dataclass(frozen=True)
class EpochMetrics:
    """A row of `epochs.csv`; a mean confidence is None if there are no such images."""

    epoch: int
    loss: float
    accuracy: float
    confidence_right: float | None
    confidence_wrong: float | None
    calibration_error: float


def _epoch_metrics(
    epoch: int, logits: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, bins: int
) -> EpochMetrics:
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    return EpochMetrics(
        epoch=epoch,
        loss=losses.cross_entropy(logits, labels),
        accuracy=float(correct.mean()),
        confidence_right=_mean(confidence[correct]),
        confidence_wrong=_mean(confidence[~correct]),
        calibration_error=metrics.calibration(probabilities, labels, bins).expected_error,
    )


def _best_epoch(files: paths.VariantFiles, rows: list[EpochMetrics]) -> tuple[str, EpochMetrics]:
    """Return the split on which the best epoch was selected, and that epoch, the earliest of equals."""
    validation = curves.read_table(files.training.read_text(encoding="utf-8"))["val_accuracy"].dropna()
    if validation.empty:  # a variant that trains on all images has only the test images to select by, as report A had
        return "test", max(rows, key=lambda row: row.accuracy)
    return "validation", max(rows, key=lambda row: validation[row.epoch])


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None

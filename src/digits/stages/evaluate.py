"""Stage evaluate: the results of a variant on the test images, for each seed at every checkpoint."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from queue import SimpleQueue
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax

from digits.core import params, paths
from digits.core.artifacts import read_arrays, write_arrays, write_csv, write_json
from digits.core.errors import UserError
from digits.core.images import CLASSES
from digits.data.writers import read_writers
from digits.evaluation import comparison, curves, metrics, selective
from digits.evaluation.statistics import spread
from digits.modeling import losses, networks
from digits.modeling.backend import available_workers, keras, pin_threads

Arrays = NDArray[Any]


def run(variant: str) -> None:
    """Evaluate a variant, and write its metrics, its test curves, its confusion matrix and its predictions."""
    parameters = params.load(paths.PARAMS)
    files, section = paths.VariantFiles(variant), parameters.evaluate
    parameters.model(variant)  # a name without an entry may be a path instead of a name
    workers = available_workers(parameters.train.threads)
    pin_threads(parameters.train.threads, workers)

    test = read_arrays(paths.TEST)
    images, labels = test["images"], test["labels"]
    weights = read_arrays(files.weights)
    seeds, epochs = (weights.pop(key).tolist() for key in ("seeds", "epochs"))
    models = [networks.load(files.model) for _ in range(min(workers, len(seeds)))]
    training = curves.read_table(files.training.read_text(encoding="utf-8"))
    held_out = bool(training["val_accuracy"].notna().any())
    validation = read_arrays(paths.VALIDATION) if held_out else {"images": images[:0], "labels": labels[:0]}
    rows, probabilities, validated = _evaluate(
        variant, models, weights, seeds, epochs, images, labels, section.calibration_bins, validation["images"]
    )
    table = pd.DataFrame(rows)
    write_csv(files.epochs, table)
    write_arrays(files.predictions, seeds=np.array(seeds, np.int64), probabilities=probabilities)

    predicted = probabilities.argmax(axis=2)
    counts = np.mean([metrics.confusion(labels, each) for each in predicted], axis=0).ravel()
    pairs = pd.DataFrame(product(range(CLASSES), repeat=2), columns=["actual", "predicted"])
    write_csv(files.confusion, pairs.assign(count=counts))

    mean = probabilities.mean(axis=0, dtype=np.float64)
    curve = selective.risk_coverage(selective.confidences(mean), mean.argmax(axis=1) == labels)
    write_csv(files.risk_coverage, pd.DataFrame(dict(zip(("coverage", "risk"), curve, strict=True))))

    wrong = predicted != labels
    result = comparison.Result(wrong.sum(axis=1).tolist(), wrong.sum(axis=0))
    writers = None if section.writers is None else read_writers(section.writers, paths.WRITERS, len(labels))
    last = table[table["epoch"] == epochs[-1]]
    # A variant that trains on all images has only the test images to choose by, as report A had.
    chosen_on = (validated, validation["labels"]) if held_out else (probabilities, labels)
    everything = probabilities.reshape(-1, CLASSES), np.tile(labels, len(seeds))
    model = models[0]
    write_json(
        files.metrics,
        {
            "seeds": seeds,
            "epochs": epochs[-1],
            "weights": _digest(weights),
            "parameters": model.count_params(),
            "layers": {layer.name: layer.count_params() for layer in model.layers if layer.count_params()},
            "optimizer_parameters": sum(int(np.prod(variable.shape)) for variable in model.optimizer.variables),
            "test": {
                "accuracy": _spread(last["accuracy"]),
                "accuracy_interval": comparison.accuracy_interval(result, writers),
                "loss": _spread(last["loss"]),
                "errors": asdict(spread(result.errors)) | {"values": result.errors},
                "ensemble": _ensemble(mean, labels, section.calibration_bins),
            },
            "validation": _validation(validated, validation["labels"]) if held_out else None,
            "selective": {
                "chosen_on": "validation" if held_out else "test",
                "promises": [asdict(promise) for promise in selective.promises(chosen_on, (probabilities, labels))],
            },
            "best": _best_epoch(training, table, held_out=held_out),
            "per_class": _per_class(labels, predicted),
            "calibration": {
                "expected_error": _spread(last["calibration_error"]),
                "bins": [asdict(each) for each in metrics.calibration(*everything, section.calibration_bins).bins],
            },
        },
    )


@dataclass(frozen=True)
class EpochMetrics:
    """A row of `epochs.csv`; a mean confidence is None if there are no such images."""

    epoch: int
    seed: int
    loss: float
    accuracy: float
    confidence_right: float | None
    confidence_wrong: float | None
    calibration_error: float


def _evaluate(
    variant: str,
    models: Sequence[keras.Model],
    weights: dict[str, Arrays],
    seeds: Sequence[int],
    epochs: Sequence[int],
    images: Arrays,
    labels: Arrays,
    bins: int,
    validation: Arrays,
) -> tuple[list[EpochMetrics], Arrays, Arrays]:
    """Evaluate every seed at every checkpoint, with a model for each thread.

    Returns:
        The rows of `epochs.csv`, and the probabilities after the last epoch, float32 (seeds, images, 10), of the test
        images and of the validation images.
    """
    idle: SimpleQueue[tuple[keras.Model, Callable[[Arrays], Arrays]]] = SimpleQueue()
    for model in models:
        idle.put((model, networks.compile_logits(model)))
    last, validated = (np.empty((len(seeds), len(part), CLASSES), np.float32) for part in (images, validation))

    def evaluate(place: tuple[int, int]) -> EpochMetrics:
        epoch, seed = place
        model, predict = idle.get()
        try:
            networks.set_weights(model, {path: values[seed, epoch] for path, values in weights.items()})
            logits = predict(images)
            if not np.isfinite(logits).all():
                raise UserError(
                    f"{variant} diverges: after epoch {epochs[epoch]} of seed {seeds[seed]}, its weights are so large "
                    f"that logits of test images are not finite; set a lower models.{variant}.optimizer.learning_rate"
                )
            probabilities = _probabilities(logits)
            if epoch == len(epochs) - 1:
                last[seed] = probabilities
                if len(validation):
                    validated[seed] = _probabilities(predict(validation))
        finally:
            idle.put((model, predict))  # after an error, too: another thread may wait for it
        return _epoch_metrics(epochs[epoch], seeds[seed], logits, probabilities, labels, bins)

    with ThreadPoolExecutor(len(models)) as pool:
        rows = list(pool.map(evaluate, product(range(len(epochs)), range(len(seeds)))))
    return rows, last, validated


def _probabilities(logits: Arrays) -> Arrays:
    probabilities: Arrays = np.exp(log_softmax(logits.astype(np.float64), axis=1)).astype(np.float32)
    return probabilities


def _epoch_metrics(
    epoch: int, seed: int, logits: Arrays, probabilities: Arrays, labels: Arrays, bins: int
) -> EpochMetrics:
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    return EpochMetrics(
        epoch=epoch,
        seed=seed,
        loss=losses.cross_entropy(logits, labels),
        accuracy=float(correct.mean()),
        confidence_right=_mean(confidence[correct]),
        confidence_wrong=_mean(confidence[~correct]),
        calibration_error=metrics.calibration(probabilities, labels, bins).expected_error,
    )


def _ensemble(mean: Arrays, labels: Arrays, bins: int) -> dict[str, float]:
    """Return the results of the mean of the seeds' probabilities, (n, 10)."""
    correct = mean.argmax(axis=1) == labels
    smallest = np.finfo(np.float32).tiny  # a probability of 0 is one that float32 cannot express
    return {
        "accuracy": float(correct.mean()),
        "loss": float(-np.log(np.maximum(mean[np.arange(len(labels)), labels], smallest)).mean()),
        "errors": int((~correct).sum()),
        "calibration_error": metrics.calibration(mean, labels, bins).expected_error,
    }


def _per_class(labels: Arrays, predicted: Arrays) -> dict[str, dict[str, float]]:
    """Return the metrics of each digit, means over the seeds."""
    seeds = [[asdict(values) for values in metrics.per_class(labels, each)] for each in predicted]
    return {
        str(digit): {name: float(np.mean([each[digit][name] for each in seeds])) for name in seeds[0][digit]}
        | {"support": seeds[0][digit]["support"]}
        for digit in range(CLASSES)
    }


def _digest(weights: dict[str, Arrays]) -> str:
    """Return a checksum of all weights, so that what is computed from a model can depend on this small file."""
    digest = hashlib.sha256()
    for path in sorted(weights):
        digest.update(path.encode())
        digest.update(weights[path].tobytes())
    return digest.hexdigest()


def _validation(probabilities: Arrays, labels: Arrays) -> dict[str, Any]:
    """Return the accuracies on the validation images after the last epoch, which choose the best variant."""
    return {
        "accuracy": _spread(pd.Series((probabilities.argmax(axis=2) == labels).mean(axis=1))),
        "ensemble": {"accuracy": float((probabilities.mean(axis=0, dtype=np.float64).argmax(axis=1) == labels).mean())},
    }


def _best_epoch(training: pd.DataFrame, table: pd.DataFrame, *, held_out: bool) -> dict[str, Any]:
    """Return the best epoch by its mean over the seeds, the earliest of equals, and the split it is selected on."""
    test = table.groupby("epoch")["accuracy"].mean()
    selected_on, means = "test", test
    if held_out:
        selected_on, means = "validation", training.groupby("epoch")["val_accuracy"].mean()[test.index]
    best = means.idxmax()
    rows = table[table["epoch"] == best]
    return {
        "epoch": int(str(best)),
        "selected_on": selected_on,
        "accuracy": _spread(rows["accuracy"]),
        "loss": _spread(rows["loss"]),
    }


def _spread(values: "pd.Series[float]") -> dict[str, Any]:
    return asdict(spread(values.tolist()))


def _mean(values: Arrays) -> float | None:
    return float(values.mean()) if len(values) else None

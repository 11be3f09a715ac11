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
from digits.core.params import EvaluateSettings
from digits.data.writers import read_writers
from digits.evaluation import comparison, curves, metrics, selective
from digits.evaluation.statistics import spread
from digits.modeling import losses, networks
from digits.modeling.backend import available_workers, keras, pin_threads

Arrays = NDArray[Any]


@dataclass(frozen=True)
class Checkpoints:
    """What stage train has saved: `weights` by path, (seeds, epochs, …)."""

    variant: str
    seeds: list[int]
    epochs: list[int]
    weights: dict[str, Arrays]

    def of(self, seed: int, epoch: int) -> dict[str, Arrays]:
        """Return the weights of a seed after an epoch, both by index."""
        return {path: values[seed, epoch] for path, values in self.weights.items()}


@dataclass(frozen=True)
class Answers:
    """What the models of a variant answer.

    Attributes:
        epochs: The rows of `epochs.csv`.
        test: Probabilities after the last epoch, float32 (seeds, images, 10).
        validation: Likewise; of no images if the variant holds none out.
    """

    epochs: pd.DataFrame
    test: Arrays
    validation: Arrays


def run(variant: str) -> None:
    """Evaluate a variant, and write its metrics, its test curves, its confusion matrix and its predictions."""
    parameters = params.load(paths.PARAMS)
    settings, section, files = parameters.model(variant), parameters.evaluate, paths.VariantFiles(variant)
    workers = available_workers(parameters.train.threads)
    pin_threads(parameters.train.threads, workers)

    test, validation = read_arrays(paths.TEST), read_arrays(paths.VALIDATION)
    if not settings.validation:
        validation = {key: values[:0] for key, values in validation.items()}
    weights = read_arrays(files.weights)
    seeds, epochs = (weights.pop(key).tolist() for key in ("seeds", "epochs"))
    checkpoints = Checkpoints(variant, seeds, epochs, weights)
    models = [networks.load(files.model) for _ in range(min(workers, len(seeds)))]

    answers = _answer(checkpoints, models, test, validation["images"], section.calibration_bins)
    _write_tables(files, seeds, answers, test["labels"])
    training = curves.read_table(files.training.read_text(encoding="utf-8"))
    write_json(
        files.metrics,
        {
            "seeds": seeds,
            "epochs": epochs[-1],
            "weights": _digest(weights),
            **_sizes(models[0]),
            "test": _test(answers, test["labels"], section),
            "validation": _validation(answers.validation, validation["labels"]) if settings.validation else None,
            "selective": _selective(answers, test["labels"], validation["labels"]),
            "best": _best_epoch(training, answers.epochs, held_out=settings.validation),
            "per_class": _per_class(test["labels"], answers.test.argmax(axis=2)),
            "calibration": _calibration(answers, test["labels"], section.calibration_bins),
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


def _answer(
    checkpoints: Checkpoints, models: Sequence[keras.Model], test: dict[str, Arrays], validation: Arrays, bins: int
) -> Answers:
    """Evaluate every seed at every checkpoint, with a model for each thread.

    Args:
        checkpoints: the weights.
        models: of the same network.
        test: the test images, (n, 28, 28), and labels, (n,).
        validation: images, (m, 28, 28), that the variant was not trained on.
        bins: of the calibration error.

    Raises:
        UserError: a logit is not finite.
    """
    idle: SimpleQueue[tuple[keras.Model, Callable[[Arrays], Arrays]]] = SimpleQueue()
    for model in models:
        idle.put((model, networks.compile_logits(model)))
    seeds, epochs = checkpoints.seeds, checkpoints.epochs
    last, validated = (np.empty((len(seeds), len(part), CLASSES), np.float32) for part in (test["images"], validation))

    def evaluate(place: tuple[int, int]) -> EpochMetrics:
        epoch, seed = place
        model, predict = idle.get()
        try:
            networks.set_weights(model, checkpoints.of(seed, epoch))
            logits = predict(test["images"])
            if not np.isfinite(logits).all():
                raise UserError(
                    f"{checkpoints.variant} diverges: after epoch {epochs[epoch]} of seed {seeds[seed]}, its weights "
                    "are so large that logits of test images are not finite; set a lower "
                    f"models.{checkpoints.variant}.optimizer.learning_rate"
                )
            probabilities = _probabilities(logits)
            if epoch == len(epochs) - 1:
                last[seed] = probabilities
                if len(validation):
                    validated[seed] = _probabilities(predict(validation))
        finally:
            idle.put((model, predict))  # after an error, too: another thread may wait for it
        return _epoch_metrics(epochs[epoch], seeds[seed], logits, probabilities, test["labels"], bins)

    with ThreadPoolExecutor(len(models)) as pool:
        rows = list(pool.map(evaluate, product(range(len(epochs)), range(len(seeds)))))
    return Answers(pd.DataFrame(rows), last, validated)


def _write_tables(files: paths.VariantFiles, seeds: Sequence[int], answers: Answers, labels: Arrays) -> None:
    """Write the test curves, the predictions, the confusion matrix and the risk-coverage curve."""
    write_csv(files.epochs, answers.epochs)
    write_arrays(files.predictions, seeds=np.array(seeds, np.int64), probabilities=answers.test)

    counts = np.mean([metrics.confusion(labels, each) for each in answers.test.argmax(axis=2)], axis=0).ravel()
    pairs = pd.DataFrame(product(range(CLASSES), repeat=2), columns=["actual", "predicted"])
    write_csv(files.confusion, pairs.assign(count=counts))

    mean = _ensemble(answers.test)
    coverage, risk = selective.risk_coverage(selective.confidences(mean), mean.argmax(axis=1) == labels)
    write_csv(files.risk_coverage, pd.DataFrame({"coverage": coverage, "risk": risk}))


def _sizes(model: keras.Model) -> dict[str, Any]:
    """Return the numbers of parameters of a network, of its layers and of its optimizer."""
    return {
        "parameters": model.count_params(),
        "layers": {layer.name: layer.count_params() for layer in model.layers if layer.count_params()},
        "optimizer_parameters": sum(int(np.prod(variable.shape)) for variable in model.optimizer.variables),
    }


def _test(answers: Answers, labels: Arrays, section: EvaluateSettings) -> dict[str, Any]:
    """Return the results on the test images after the last epoch."""
    wrong = answers.test.argmax(axis=2) != labels
    result = comparison.Result(wrong.sum(axis=1).tolist(), wrong.sum(axis=0))
    writers = None if section.writers is None else read_writers(section.writers, paths.WRITERS, len(labels))
    last = _last(answers.epochs)
    mean = _ensemble(answers.test)
    correct = mean.argmax(axis=1) == labels
    smallest = np.finfo(np.float32).tiny  # a probability of 0 is one that float32 cannot express
    return {
        "accuracy": _spread(last["accuracy"]),
        "accuracy_interval": comparison.accuracy_interval(result, writers),
        "loss": _spread(last["loss"]),
        "errors": asdict(spread(result.errors)) | {"values": result.errors},
        "ensemble": {
            "accuracy": float(correct.mean()),
            "loss": float(-np.log(np.maximum(mean[np.arange(len(labels)), labels], smallest)).mean()),
            "errors": int((~correct).sum()),
            "calibration_error": metrics.calibration(mean, labels, section.calibration_bins).expected_error,
        },
    }


def _selective(answers: Answers, test_labels: Arrays, validation_labels: Arrays) -> dict[str, Any]:
    """Return the thresholds of confidence, and what they give on the test images.

    A variant that trains on all images has only the test images to choose by, as report A had.
    """
    tested = answers.test, test_labels
    chosen_on = (answers.validation, validation_labels) if len(validation_labels) else tested
    return {
        "chosen_on": "validation" if len(validation_labels) else "test",
        "targets": [asdict(each) for each in selective.at_targets(chosen_on, tested)],
    }


def _calibration(answers: Answers, labels: Arrays, bins: int) -> dict[str, Any]:
    everything = answers.test.reshape(-1, CLASSES), np.tile(labels, len(answers.test))
    return {
        "expected_error": _spread(_last(answers.epochs)["calibration_error"]),
        "bins": [asdict(each) for each in metrics.calibration(*everything, bins).bins],
    }


def _last(epochs: pd.DataFrame) -> pd.DataFrame:
    last: pd.DataFrame = epochs[epochs["epoch"] == epochs["epoch"].max()]
    return last


def _ensemble(probabilities: Arrays) -> Arrays:
    """Return the mean of the seeds' probabilities, (n, 10)."""
    mean: Arrays = probabilities.mean(axis=0, dtype=np.float64)
    return mean


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
        "ensemble": {"accuracy": float((_ensemble(probabilities).argmax(axis=1) == labels).mean())},
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

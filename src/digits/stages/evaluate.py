"""Stage evaluate: test results at every epoch of a variant's grid."""

from dataclasses import asdict
from itertools import product

import numpy as np

from digits import curves, models, params, paths, statistics
from digits.backend import pin_threads
from digits.files import read_arrays, write_arrays, write_csv, write_json
from digits.idx import CLASSES

HEADER = ("epoch", "loss", "accuracy", "confidence_right", "confidence_wrong", "calibration_error")


def run(variant: str) -> None:
    settings = params.load(paths.PARAMS)
    out, bins = paths.Variant(variant), settings.evaluate.calibration_bins
    settings.model(variant)  # a name without an entry may be no name, but a path
    pin_threads(settings.train.threads)

    test = read_arrays(paths.TEST)
    labels = test["labels"]
    weights = read_arrays(out.weights)
    grid = [int(epoch) for epoch in weights.pop("epochs")]
    model = models.load(out.model)
    predict = models.compile_logits(model)

    rows = []
    for index, epoch in enumerate(grid):
        models.set_weights(model, {path: values[index] for path, values in weights.items()})
        logits = predict(test["images"])
        probabilities = np.exp(statistics.log_softmax(logits)).astype(np.float32)  # as they are kept, for analyze
        confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
        right = predicted == labels
        calibration = statistics.calibration(probabilities, labels, bins)
        loss, accuracy = statistics.cross_entropy(logits, labels), float(right.mean())
        rows.append(
            (epoch, loss, accuracy, _mean(confidence[right]), _mean(confidence[~right]), calibration.expected_error)
        )

    # What follows is of the last epoch, at which the loop above has left `right` and the rest.
    table = statistics.confusion(labels, predicted, CLASSES)
    selected_on, best = _best(out, {row[0]: row[2] for row in rows})
    best_row = rows[grid.index(best)]
    write_csv(out.epochs, HEADER, rows)
    write_csv(
        out.confusion,
        ("actual", "predicted", "count"),
        [(actual, guess, table[actual, guess]) for actual, guess in product(range(CLASSES), repeat=2)],
    )
    write_arrays(out.predictions, probabilities=probabilities)
    write_json(
        out.metrics,
        {
            "epochs": grid[-1],
            "parameters": model.count_params(),
            "layers": {layer.name: layer.count_params() for layer in model.layers if layer.count_params()},
            "optimizer_parameters": sum(int(np.prod(variable.shape)) for variable in model.optimizer.variables),
            "test": {
                "accuracy": accuracy,
                "loss": loss,
                "errors": int((~right).sum()),
                "accuracy_interval": statistics.wilson(int(right.sum()), len(labels)),
            },
            "best": {"epoch": best, "accuracy": best_row[2], "loss": best_row[1], "selected_on": selected_on},
            "per_class": {str(digit): asdict(figures) for digit, figures in enumerate(statistics.per_class(table))},
            "calibration": asdict(calibration),
        },
    )


def _best(out: paths.Variant, test_accuracy: dict[int, float]) -> tuple[str, int]:
    """Return on which split the best epoch of the grid was chosen, and that epoch, the earliest of equals."""
    validation = curves.columns(out.training.read_text(encoding="utf-8"))["val_accuracy"]
    scores = {epoch: validation[epoch] for epoch in test_accuracy if epoch in validation}
    # A variant that trains on all images has none to choose by but the test images, as report A had.
    selected_on, scores = ("validation", scores) if scores else ("test", test_accuracy)
    return selected_on, max(scores, key=lambda epoch: scores[epoch])


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None

"""This repository: training as the train stage calls it, `training.train`."""

import math
import time
from collections.abc import Iterator
from typing import Any

from common import SETTINGS, THREADS, load, load_many, serve, timed
from memory import peak_bytes

from digits import models, statistics, training
from digits.backend import pin_threads

pin_threads(THREADS)
ENDLESS = 10_000  # epochs: more than are ever asked for


class Epochs:
    """One run of mlp128 on the 60,000 training images; each call is its next epoch."""

    def __init__(self) -> None:
        self._model: Any = None
        self._run: Iterator[training.Result] | None = None

    def epoch(self) -> dict[str, float]:
        if self._run is None:
            spec = SETTINGS.model("mlp128")
            self._model = models.build(spec, seed=0)
            self._run = training.train(
                self._model, spec, load("train", "validation"), None, epochs=ENDLESS, seed=SETTINGS.train.seed
            )
        seconds, result = timed(self._run.__next__)
        return {"seconds": seconds, "accuracy": result.accuracy}

    def test(self) -> float:
        images, labels = load("test")
        return statistics.accuracy(models.compile_logits(self._model)(images), labels)


def grid(epochs: int) -> float:
    """Return the seconds of one run of mlp128, compiling included, with the test metrics at each epoch."""
    data, (images, labels) = load("train", "validation"), load("test")
    spec = SETTINGS.model("mlp128")

    def run() -> None:
        model = models.build(spec, seed=0)
        predict = models.compile_logits(model)
        for _ in training.train(model, spec, data, None, epochs=epochs, seed=0):
            logits = predict(images)
            statistics.cross_entropy(logits, labels)
            statistics.accuracy(logits, labels)

    return timed(run)[0]


def target(seed: int, accuracy: float, cap: int, variant: str = "cnn") -> dict[str, Any]:
    """Train a variant until its test accuracy reaches `accuracy`, for at most `cap` epochs.

    Returns:
        By epoch: the seconds of training so far, compiling included and testing not, and the test accuracy; and the
        number of the variant's parameters.
    """
    spec = SETTINGS.model(variant)
    data = load("train") if spec.validation else load("train", "validation")
    held_out = load("validation") if spec.validation else None
    images, labels = load("test")

    seconds, accuracies, spent = [], [], 0.0
    start = time.perf_counter()
    model = models.build(spec, seed)
    for _ in training.train(model, spec, data, held_out, epochs=cap, seed=seed):
        spent += time.perf_counter() - start
        seconds.append(spent)
        accuracies.append(statistics.accuracy(models.compile_logits(model)(images), labels))
        if accuracies[-1] >= accuracy:
            break
        start = time.perf_counter()
    return {"seconds": seconds, "accuracies": accuracies, "parameters": model.count_params()}


def grow(images: int, units: int, epochs: int) -> dict[str, Any]:
    """Return the seconds of each epoch of mlp128 with so many training images and hidden units, and the peak in bytes.

    The first epoch includes building and compiling.
    """
    spec = SETTINGS.model("mlp128").model_copy(update={"units": [units]})
    data, seconds = load_many(images), []
    start = time.perf_counter()
    model = models.build(spec, seed=0)
    for _ in training.train(model, spec, data, None, epochs=epochs, seed=0):
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
    return {"seconds": seconds, "peak": peak_bytes()}


def step(variant: str, epochs: int) -> dict[str, Any]:
    """Return what a step of a variant takes, and what it cannot do without.

    Returns:
        `seconds`: of a step, by epoch, the first epoch compiling. `operations`: two for each weight that each image
        meets forward, and as many again for the weights' gradient and for the inputs', which the first layer does
        not need. `bytes`: the weights, their averages and the optimizer's moments read and written once, the
        gradients written and read once, in float32.
    """
    spec = SETTINGS.model(variant)
    images, labels = load("train") if spec.validation else load("train", "validation")
    model = models.build(spec, seed=0)
    results = training.train(model, spec, (images, labels), None, epochs=epochs, seed=0)
    steps = -(-len(labels) // spec.batch_size)
    seconds = [timed(results.__next__)[0] / steps for _ in range(epochs)]

    layers = [layer for layer in model.layers if layer.weights]
    products = [layer.kernel.numpy().size * math.prod(layer.output.shape[1:-1]) for layer in layers]
    floats = sum(variable.numpy().size for variable in model.optimizer.variables)
    weights = model.count_params()
    return {
        "seconds": seconds,
        "batch": spec.batch_size,
        "operations": 2 * spec.batch_size * (3 * sum(products) - products[0]),
        "bytes": 4 * (2 * (weights + floats) + 2 * weights),
    }


if __name__ == "__main__":
    epochs = Epochs()
    serve({"epoch": epochs.epoch, "test": epochs.test, "grid": grid, "target": target, "step": step, "grow": grow})

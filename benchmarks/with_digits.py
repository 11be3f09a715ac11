"""This repository: `modeling.training.train`, called as stage train calls it."""

import math
import time
from collections.abc import Iterator
from typing import Any

from common import PARAMS, THREADS, load, load_enlarged, serve, timed
from memory import peak_bytes

from digits.modeling import losses, networks, training
from digits.modeling.backend import pin_threads

pin_threads(THREADS)
ENDLESS = 10_000  # epochs: more than any measurement asks for


class Epochs:
    """A run of mlp128 on the 60,000 training images; each call trains one more epoch."""

    def __init__(self) -> None:
        self._model: Any = None
        self._run: Iterator[training.EpochResult] | None = None

    def epoch(self) -> dict[str, float]:
        if self._run is None:
            settings = PARAMS.model("mlp128")
            data = load("train", "validation")
            self._model = networks.build(settings, seed=0)
            self._run = training.train(self._model, settings, data, None, epochs=ENDLESS, seed=PARAMS.train.seed)
        seconds, result = timed(self._run.__next__)
        return {"seconds": seconds, "accuracy": result.accuracy}

    def test(self) -> float:
        images, labels = load("test")
        return losses.accuracy(networks.compile_logits(self._model)(images), labels)


def checkpoints(epochs: int) -> float:
    """Return the seconds of one run of mlp128 with test loss and accuracy at each epoch, including compilation."""
    data, (images, labels) = load("train", "validation"), load("test")
    settings = PARAMS.model("mlp128")

    def run() -> None:
        model = networks.build(settings, seed=0)
        predict = networks.compile_logits(model)
        for _ in training.train(model, settings, data, None, epochs=epochs, seed=0):
            logits = predict(images)
            losses.cross_entropy(logits, labels)
            losses.accuracy(logits, labels)

    return timed(run)[0]


def train_to(accuracy: float, max_epochs: int, seed: int, variant: str = "cnn") -> dict[str, Any]:
    """Train a variant until its test accuracy reaches `accuracy`, or for `max_epochs` epochs.

    Returns:
        By epoch: `seconds` of training so far, which include compilation and exclude testing, and `accuracies` on the
        test images. `parameters` is the number of the variant's parameters.
    """
    settings = PARAMS.model(variant)
    data = load("train") if settings.validation else load("train", "validation")
    held_out = load("validation") if settings.validation else None
    images, labels = load("test")

    seconds, accuracies, spent = [], [], 0.0
    start = time.perf_counter()
    model = networks.build(settings, seed)
    for _ in training.train(model, settings, data, held_out, epochs=max_epochs, seed=seed):
        spent += time.perf_counter() - start
        seconds.append(spent)
        accuracies.append(losses.accuracy(networks.compile_logits(model)(images), labels))
        if accuracies[-1] >= accuracy:
            break
        start = time.perf_counter()
    return {"seconds": seconds, "accuracies": accuracies, "parameters": model.count_params()}


def scale(images: int, units: int, epochs: int) -> dict[str, Any]:
    """Train mlp128 with another number of training images and hidden units.

    Returns:
        `seconds` of each epoch, the first of which includes building and compiling, and `peak` memory in bytes.
    """
    settings = PARAMS.model("mlp128").model_copy(update={"units": [units]})
    data, seconds = load_enlarged(images), []
    start = time.perf_counter()
    model = networks.build(settings, seed=0)
    for _ in training.train(model, settings, data, None, epochs=epochs, seed=0):
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
    return {"seconds": seconds, "peak": peak_bytes()}


def step(variant: str, epochs: int) -> dict[str, Any]:
    """Return the duration of a training step of a variant, and the minimum of work in it.

    Returns:
        `seconds` of a step, by epoch; the first epoch includes compilation. `batch`: the batch size. `operations`: in
        the forward pass, a multiplication and an addition for each weight at each position of each image; the same
        number for the gradients of the weights, and again for those of the inputs, except in the first layer. `bytes`:
        the weights, their averages and the optimizer's moments are read and written once, the gradients are written
        and read once, in float32.
    """
    settings = PARAMS.model(variant)
    images, labels = load("train") if settings.validation else load("train", "validation")
    model = networks.build(settings, seed=0)
    results = training.train(model, settings, (images, labels), None, epochs=epochs, seed=0)
    steps = -(-len(labels) // settings.batch_size)
    seconds = [timed(results.__next__)[0] / steps for _ in range(epochs)]

    layers = [layer for layer in model.layers if layer.weights]
    products = [layer.kernel.numpy().size * math.prod(layer.output.shape[1:-1]) for layer in layers]
    optimizer_floats = sum(variable.numpy().size for variable in model.optimizer.variables)
    weights = model.count_params()
    return {
        "seconds": seconds,
        "batch": settings.batch_size,
        "operations": 2 * settings.batch_size * (3 * sum(products) - products[0]),
        "bytes": 4 * (2 * (weights + optimizer_floats) + 2 * weights),
    }


if __name__ == "__main__":
    epochs = Epochs()
    serve(
        {
            "epoch": epochs.epoch,
            "test": epochs.test,
            "checkpoints": checkpoints,
            "train_to": train_to,
            "step": step,
            "scale": scale,
        }
    )

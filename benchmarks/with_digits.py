"""This repository: `modeling.training.train`, called as stage train calls it, mostly with one seed."""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

from common import PARAMS, THREADS, load, load_enlarged, serve, timed
from memory import peak_bytes

from digits.core.params import ModelSettings
from digits.modeling import losses, networks, training
from digits.modeling.backend import available_workers, pin_threads

pin_threads(THREADS)


class Epochs:
    """A run of mlp128 on the 60,000 training images; each call trains one more epoch.

    It calls the compiled function itself: `training.train` would go on training while other libraries are measured.
    """

    def __init__(self) -> None:
        self._settings = PARAMS.model("mlp128")
        self._data = load("train", "validation")
        self._count = len(self._data[1])
        self._model: Any = None
        self._run: Any = None
        self._epoch = 0

    def epoch(self) -> dict[str, float]:
        seconds, accuracy = timed(self._train)
        return {"seconds": seconds, "accuracy": accuracy}

    def _train(self) -> float:
        if self._run is None:
            self._model = networks.build(self._settings, seed=0)
            optimizer = training.make_optimizer(self._settings, -(-self._count // self._settings.batch_size))
            optimizer.build(self._model.trainable_variables)
            dataset = training.Dataset(self._settings, *self._data)
            self._run = training.compile_epoch(networks.to_logits(self._model), optimizer, self._settings, dataset)
        self._epoch += 1
        _, accuracy = self._run(*training.epoch_inputs(self._settings, 0, self._epoch, self._count))
        return float(accuracy)  # waits for the result

    def test(self) -> float:
        images, labels = load("test")
        return losses.accuracy(networks.compile_logits(self._model)(images), labels)


def run(
    settings: ModelSettings, data: Any, validation: Any, *, epochs: int, seed: int
) -> Iterator[tuple[float, training.EpochResult]]:
    """Train with one seed, and yield the seconds since the start and the result after each epoch.

    Training goes on meanwhile: whatever the caller computes between two epochs takes time from it.
    """
    start = time.perf_counter()
    for result in training.train(settings, data, validation, epochs=epochs, seeds=[seed], workers=1):
        yield time.perf_counter() - start, result


def load_variant(settings: ModelSettings) -> tuple[Any, Any]:
    """Return the images and labels that a variant is trained on, and those held out, or None."""
    return (load("train"), load("validation")) if settings.validation else (load("train", "validation"), None)


def differences(times: Sequence[float]) -> list[float]:
    """Return the time of each epoch, from the times at which the epochs ended."""
    return [end - start for start, end in zip([0.0, *times], times, strict=False)]


def checkpoints(epochs: int) -> float:
    """Return the seconds of one run of mlp128 with test loss and accuracy at each epoch, including compilation."""
    data, (images, labels) = load("train", "validation"), load("test")
    settings = PARAMS.model("mlp128")

    def train_and_test() -> None:
        model = networks.build(settings, seed=0)
        predict = networks.compile_logits(model)
        for _, result in run(settings, data, None, epochs=epochs, seed=0):
            networks.set_weights(model, result.weights)
            logits = predict(images)
            losses.cross_entropy(logits, labels)
            losses.accuracy(logits, labels)

    return timed(train_and_test)[0]


def train_to(accuracy: float, max_epochs: int, seed: int, variant: str = "cnn") -> dict[str, Any]:
    """Train a variant for `max_epochs` epochs, and return the run until its test accuracy reaches `accuracy`.

    The tests come after the whole run, because they would slow down the training that goes on meanwhile.

    Returns:
        By epoch: `seconds` of training so far, which include compilation and exclude testing, and `accuracies` on the
        test images. `parameters` is the number of the variant's parameters.
    """
    settings = PARAMS.model(variant)
    data, held_out = load_variant(settings)
    epochs = [
        (elapsed, result.weights) for elapsed, result in run(settings, data, held_out, epochs=max_epochs, seed=seed)
    ]
    images, labels = load("test")
    model = networks.build(settings, seed)
    predict = networks.compile_logits(model)
    seconds, accuracies = [], []
    for elapsed, weights in epochs:
        networks.set_weights(model, weights)
        seconds.append(elapsed)
        accuracies.append(losses.accuracy(predict(images), labels))
        if accuracies[-1] >= accuracy:
            break
    return {"seconds": seconds, "accuracies": accuracies, "parameters": model.count_params()}


def train_seeds(variant: str, seeds: list[int], epochs: int, threads: int) -> dict[str, float]:
    """Train a variant with several seeds, as many at a time as the cores have room for.

    A process can be asked for one number of threads only, before it has computed anything.

    Returns:
        `seconds` of training, including compilation and validation, and the number of `workers`.
    """
    workers = min(available_workers(threads), len(seeds))
    pin_threads(threads, workers)
    settings = PARAMS.model(variant)
    data, held_out = load_variant(settings)

    def train() -> None:
        for _ in training.train(settings, data, held_out, epochs=epochs, seeds=seeds, workers=workers):
            pass

    return {"seconds": timed(train)[0], "workers": workers}


def scale(images: int, units: int, epochs: int) -> dict[str, Any]:
    """Train mlp128 with another number of training images and hidden units.

    Returns:
        `seconds` of each epoch, the first of which includes building and compiling, and `peak` memory in bytes.
    """
    settings = PARAMS.model("mlp128").model_copy(update={"units": [units]})
    times = [elapsed for elapsed, _ in run(settings, load_enlarged(images), None, epochs=epochs, seed=0)]
    return {"seconds": differences(times), "peak": peak_bytes()}


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
    data, _ = load_variant(settings)
    times = []
    for elapsed, result in run(settings, data, None, epochs=epochs, seed=0):
        times.append(elapsed)
        optimizer_floats = sum(values.size for values in result.optimizer)
    steps = -(-len(data[1]) // settings.batch_size)

    model = networks.build(settings, seed=0)
    layers = [layer for layer in model.layers if layer.weights]
    products = [layer.kernel.numpy().size * math.prod(layer.output.shape[1:-1]) for layer in layers]
    weights = model.count_params()
    return {
        "seconds": [seconds / steps for seconds in differences(times)],
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
            "train_seeds": train_seeds,
            "step": step,
            "scale": scale,
        }
    )

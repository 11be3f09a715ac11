"""Keras as its documentation teaches it: `model.fit`, on TensorFlow."""

import time
from typing import Any

import numpy as np
from common import SETTINGS, THREADS, load, serve, timed

from digits.backend import keras, pin_threads, tf
from digits.idx import CLASSES, WHITE

pin_threads(THREADS)
tf.config.threading.set_inter_op_parallelism_threads(THREADS)  # `fit` prepares batches beside the training
BATCH = SETTINGS.model("mlp128").batch_size


def mlp128() -> Any:
    """Return report A's model, compiled with Keras's defaults."""
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Epochs:
    """One model; each call fits it for one more epoch."""

    def __init__(self) -> None:
        images, self._labels = load("train", "validation")
        self._images = images.astype(np.float32)
        self._model = mlp128()

    def epoch(self) -> dict[str, float]:
        seconds, history = timed(
            lambda: self._model.fit(self._images, self._labels, batch_size=BATCH, epochs=1, verbose=0).history
        )
        return {"seconds": seconds, "accuracy": history["accuracy"][0]}

    def test(self) -> float:
        images, labels = load("test")
        return float(self._model.evaluate(images.astype(np.float32), labels, verbose=0)[1])

    def grid(self, epochs: int) -> float:
        """Return the seconds of one run of so many epochs from the start, and of testing at its end."""
        images, labels = load("test")
        floats = images.astype(np.float32)

        def run() -> None:
            model = mlp128()
            model.fit(self._images, self._labels, batch_size=BATCH, epochs=epochs, verbose=0)
            model.evaluate(floats, labels, verbose=0)

        return timed(run)[0]


def target(seed: int, accuracy: float, cap: int) -> dict[str, list[float]]:
    """Train the documentation's "Simple MNIST convnet" until its test accuracy reaches `accuracy`.

    Args:
        seed: of the weights, the order and the dropout.
        accuracy: on the test images, 0 to 1.
        cap: the most epochs.

    Returns:
        By epoch: the seconds of training so far, compiling included and testing not, and the test accuracy.
    """
    (images, labels), (test_images, test_labels) = load("train", "validation"), load("test")
    inputs, test_inputs = ((array / WHITE).astype(np.float32)[..., np.newaxis] for array in (images, test_images))
    truth = keras.utils.to_categorical(labels, CLASSES)
    keras.utils.set_random_seed(seed)

    start, spent = time.perf_counter(), 0.0
    seconds, accuracies = [], []
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            keras.layers.MaxPooling2D(pool_size=(2, 2)),
            keras.layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            keras.layers.MaxPooling2D(pool_size=(2, 2)),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    forward = tf.function(lambda batch: model(batch, training=False))

    def test(_epoch: int, _logs: Any) -> None:
        nonlocal start, spent
        spent += time.perf_counter() - start
        seconds.append(spent)
        predicted = np.concatenate([forward(part).numpy() for part in np.split(test_inputs, 10)])
        accuracies.append(float((predicted.argmax(axis=1) == test_labels).mean()))
        model.stop_training = accuracies[-1] >= accuracy
        start = time.perf_counter()

    model.fit(
        inputs,
        truth,
        batch_size=128,
        epochs=cap,
        validation_split=0.1,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=test)],
    )
    return {"seconds": seconds, "accuracies": accuracies}


if __name__ == "__main__":
    epochs = Epochs()
    serve({"epoch": epochs.epoch, "test": epochs.test, "grid": epochs.grid, "target": target})

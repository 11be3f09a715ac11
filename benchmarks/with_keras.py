"""Keras on TensorFlow, as in Keras's documentation: `model.fit`."""

import time
from typing import Any

import numpy as np
from common import PARAMS, THREADS, load, serve, timed
from numpy.typing import NDArray

from digits.core.images import CLASSES, MAX_PIXEL, SIDE
from digits.modeling.backend import keras, pin_threads, tf

pin_threads(THREADS)
tf.config.threading.set_inter_op_parallelism_threads(THREADS)  # `fit` prepares batches in parallel to training
BATCH_SIZE = PARAMS.model("mlp128").batch_size
TEST_PARTS = 10  # of the test images, to limit the memory


def mlp128() -> keras.Model:
    """Return report A's network, compiled with Keras's defaults."""
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE)),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def documentation_convnet() -> keras.Model:
    """Return the network of "Simple MNIST convnet" in Keras's documentation, compiled as there."""
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
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
    return model


class Epochs:
    """A model; each call fits it for one more epoch."""

    def __init__(self) -> None:
        images, self._labels = load("train", "validation")
        self._images = images.astype(np.float32)
        self._model = mlp128()

    def epoch(self) -> dict[str, float]:
        seconds, history = timed(
            lambda: self._model.fit(self._images, self._labels, batch_size=BATCH_SIZE, epochs=1, verbose=0).history
        )
        return {"seconds": seconds, "accuracy": history["accuracy"][0]}

    def test(self) -> float:
        images, labels = load("test")
        return float(self._model.evaluate(images.astype(np.float32), labels, verbose=0)[1])

    def checkpoints(self, epochs: int) -> float:
        """Return the seconds of a new run of `epochs` epochs and of testing at its end."""
        images, labels = load("test")
        floats = images.astype(np.float32)

        def run() -> None:
            model = mlp128()
            model.fit(self._images, self._labels, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
            model.evaluate(floats, labels, verbose=0)

        return timed(run)[0]


class AccuracyTest:
    """Test a model after each epoch, outside the training time, and stop its training at an accuracy."""

    def __init__(
        self,
        model: keras.Model,
        start: float,
        images: NDArray[np.float32],
        labels: NDArray[np.uint8],
        accuracy: float,
    ) -> None:
        """Count the training time from `start`, a value of `time.perf_counter`."""
        self.seconds: list[float] = []
        self.accuracies: list[float] = []
        self._model, self._images, self._labels, self._accuracy = model, images, labels, accuracy
        self._start, self._spent = start, 0.0
        self._forward = tf.function(lambda batch: model(batch, training=False))

    def after_epoch(self, _epoch: int, _logs: Any) -> None:
        self._spent += time.perf_counter() - self._start
        self.seconds.append(self._spent)
        predicted = np.concatenate([self._forward(part).numpy() for part in np.split(self._images, TEST_PARTS)])
        self.accuracies.append(float((predicted.argmax(axis=1) == self._labels).mean()))
        self._model.stop_training = self.accuracies[-1] >= self._accuracy
        self._start = time.perf_counter()


def train_to(accuracy: float, max_epochs: int, seed: int) -> dict[str, list[float]]:
    """Train the convnet of Keras's documentation until its test accuracy reaches `accuracy`.

    Args:
        accuracy: on the test images, 0 to 1.
        max_epochs: the number of epochs after which training ends in any case.
        seed: of the weights, the order and the dropout.

    Returns:
        By epoch: `seconds` of training so far, which include compilation and exclude testing, and `accuracies` on the
        test images.
    """
    (images, labels), (test_images, test_labels) = load("train", "validation"), load("test")
    inputs, test_inputs = ((array / MAX_PIXEL).astype(np.float32)[..., np.newaxis] for array in (images, test_images))
    one_hot = keras.utils.to_categorical(labels, CLASSES)
    keras.utils.set_random_seed(seed)

    start = time.perf_counter()
    model = documentation_convnet()
    test = AccuracyTest(model, start, test_inputs, test_labels, accuracy)
    model.fit(
        inputs,
        one_hot,
        batch_size=128,
        epochs=max_epochs,
        validation_split=0.1,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=test.after_epoch)],
    )
    return {"seconds": test.seconds, "accuracies": test.accuracies}


if __name__ == "__main__":
    epochs = Epochs()
    serve({"epoch": epochs.epoch, "test": epochs.test, "checkpoints": epochs.checkpoints, "train_to": train_to})

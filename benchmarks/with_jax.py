"""JAX: an epoch is one compiled `lax.scan` over its batches, with Adam as in Kingma and Ba (2015)."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import PARAMS, load, serve, timed
from jax import lax

from digits.core.images import CLASSES, SIDE

SETTINGS = PARAMS.model("mlp128")
RATE, BETA1, BETA2, EPSILON = SETTINGS.optimizer.learning_rate, 0.9, 0.999, 1e-7  # Keras's defaults


def initial_weights(sizes: tuple[int, ...]) -> list[tuple[Any, Any]]:
    """Return each layer's weights, (inputs, outputs), and biases, (outputs,): Glorot-uniform and zero, as in Keras."""
    rng = np.random.default_rng(0)
    layers = []
    for inputs, outputs in pairwise(sizes):
        limit = (6 / (inputs + outputs)) ** 0.5
        kernel = rng.uniform(-limit, limit, (inputs, outputs)).astype(np.float32)
        layers.append((jnp.asarray(kernel), jnp.zeros(outputs)))
    return layers


def forward(weights: Any, pixels: Any) -> Any:
    """Return the logits, (n, 10), of pixels, (n, 784), 0 to 255."""
    (kernel1, bias1), (kernel2, bias2) = weights
    return jax.nn.relu(pixels.astype(jnp.float32) @ kernel1 + bias1) @ kernel2 + bias2


def loss_and_correct(weights: Any, pixels: Any, labels: Any) -> tuple[Any, Any]:
    """Return the mean cross-entropy and the number of correct answers."""
    logits = forward(weights, pixels)
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return losses.mean(), (logits.argmax(axis=1) == labels).sum()


def epoch(state: Any, batches: Any, images: Any, labels: Any) -> tuple[Any, Any]:
    """Train one epoch.

    Args:
        state: weights, first and second moments, and the number of steps so far.
        batches: indices of the images of each batch, (batches, batch size).
        images: (n, 784).
        labels: (n,).

    Returns:
        The new state, and the accuracy over all batches, each measured before its step.
    """

    def step(state: Any, indices: Any) -> tuple[Any, Any]:
        weights, first, second, count = state
        (_, correct), gradients = jax.value_and_grad(loss_and_correct, has_aux=True)(
            weights, images[indices], labels[indices]
        )
        count = count + 1
        first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, gradients)
        second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, second, gradients)
        rate = RATE * jnp.sqrt(1 - BETA2**count) / (1 - BETA1**count)
        weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + EPSILON), weights, first, second)
        return (weights, first, second, count), correct

    state, correct = lax.scan(step, state, batches)
    return state, correct.sum() / batches.size


class Epochs:
    """A model; each call trains it for one more epoch."""

    def __init__(self) -> None:
        images, labels = load("train", "validation")
        self._images = jnp.asarray(images.reshape(len(images), -1))
        self._labels = jnp.asarray(labels.astype(np.int32))
        weights = initial_weights((SIDE * SIDE, *SETTINGS.units, CLASSES))
        moments = jax.tree.map(jnp.zeros_like, weights)
        self._state: Any = (weights, moments, jax.tree.map(jnp.zeros_like, weights), jnp.float32(0))
        self._rng = np.random.default_rng(0)
        self._epoch = jax.jit(epoch, donate_argnums=0)

    def epoch(self) -> dict[str, float]:
        seconds, accuracy = timed(self._train)
        return {"seconds": seconds, "accuracy": accuracy}

    def _train(self) -> float:
        count, size = len(self._labels), SETTINGS.batch_size
        # The 60,000 images are a multiple of the batch size: no smaller last batch needs a call of its own.
        batches = self._rng.permutation(count).astype(np.int32)[: count // size * size].reshape(-1, size)
        self._state, accuracy = self._epoch(self._state, batches, self._images, self._labels)
        return float(accuracy)  # waits for the result

    def test(self) -> float:
        images, labels = load("test")
        return float((forward(self._state[0], images.reshape(len(images), -1)).argmax(axis=1) == labels).mean())


if __name__ == "__main__":
    epochs = Epochs()
    serve({"epoch": epochs.epoch, "test": epochs.test})

"""JAX: an epoch as one compiled `lax.scan` over its batches, with Adam as its paper has it."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import SETTINGS, load, serve, timed
from jax import lax

from digits.idx import CLASSES

SPEC = SETTINGS.model("mlp128")
RATE, BETA1, BETA2, EPSILON = SPEC.optimizer.learning_rate, 0.9, 0.999, 1e-7  # as Keras has them


def initial(sizes: tuple[int, ...]) -> list[tuple[Any, Any]]:
    """Return each layer's Glorot-uniform weights, (inputs, outputs), and zero biases, (outputs,), as Keras has them."""
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


def loss_of(weights: Any, pixels: Any, labels: Any) -> tuple[Any, Any]:
    """Return the mean cross-entropy and, beside it, how many are right."""
    logits = forward(weights, pixels)
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return losses.mean(), (logits.argmax(axis=1) == labels).sum()


def epoch(state: Any, batches: Any, images: Any, labels: Any) -> tuple[Any, Any]:
    """Return weights, moments and step count after an epoch, and the share of right answers, each before its step."""

    def step(state: Any, indices: Any) -> tuple[Any, Any]:
        weights, first, second, count = state
        (_, right), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, images[indices], labels[indices])
        count = count + 1
        first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, gradients)
        second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, second, gradients)
        rate = RATE * jnp.sqrt(1 - BETA2**count) / (1 - BETA1**count)
        weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + EPSILON), weights, first, second)
        return (weights, first, second, count), right

    state, right = lax.scan(step, state, batches)
    return state, right.sum() / batches.size


class Epochs:
    """One model; each call trains it for one more epoch."""

    def __init__(self) -> None:
        images, labels = load("train", "validation")
        self._images = jnp.asarray(images.reshape(len(images), -1))
        self._labels = jnp.asarray(labels.astype(np.int32))
        weights = initial((28 * 28, 128, CLASSES))
        zeros = jax.tree.map(jnp.zeros_like, weights)
        self._state: Any = (weights, zeros, jax.tree.map(jnp.zeros_like, weights), jnp.float32(0))
        self._rng = np.random.default_rng(0)
        self._epoch = jax.jit(epoch, donate_argnums=0)

    def epoch(self) -> dict[str, float]:
        seconds, accuracy = timed(self._train)
        return {"seconds": seconds, "accuracy": accuracy}

    def _train(self) -> float:
        count, size = len(self._labels), SPEC.batch_size
        # 60,000 is a multiple of the batch size; a rest would need a call of its own.
        batches = self._rng.permutation(count).astype(np.int32)[: count // size * size].reshape(-1, size)
        self._state, accuracy = self._epoch(self._state, batches, self._images, self._labels)
        return float(accuracy)  # waits for the result

    def test(self) -> float:
        images, labels = load("test")
        return float((forward(self._state[0], images.reshape(len(images), -1)).argmax(axis=1) == labels).mean())


if __name__ == "__main__":
    epochs = Epochs()
    serve({"epoch": epochs.epoch, "test": epochs.test})

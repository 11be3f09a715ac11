"""Measure one implementation in this process, and print the answer as JSON. `run.py` starts one process after another.

    python benchmarks/peers.py epoch pytorch
    python benchmarks/peers.py train_to keras '{"accuracy": 0.99, "max_epochs": 15, "seed": 0}'

Each implementation is a function that makes the network `mlp128`, and returns a function that trains it one more epoch
and a function that answers for images. Each imports its library, which the others do without.
"""

import gc
import json
import sys
import time
import timeit
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from common import PARAMS, THREADS, load
from numpy.typing import NDArray

from digits.core.images import CLASSES, MAX_PIXEL, SIDE

SETTINGS = PARAMS.model("mlp128")
BATCH_SIZE, (UNITS,), RATE = SETTINGS.batch_size, SETTINGS.units, SETTINGS.optimizer.learning_rate

Bytes = NDArray[np.uint8]
# Trains one more epoch; answers (n,) for images (n, 28, 28), or None if the network does not learn.
Implementation = tuple[Callable[[], Any], Callable[[Bytes], Any] | None]


def flat(images: Bytes) -> NDArray[np.float32]:
    """Return images as rows, (n, 784)."""
    return images.reshape(len(images), -1).astype(np.float32)


def by_digits(images: Bytes, labels: Bytes) -> Implementation:
    """This repository: the function that `training.train` compiles for stage train, with one seed."""
    from digits.modeling import networks, training
    from digits.modeling.backend import pin_threads

    pin_threads(THREADS)
    count = len(labels)
    model = networks.build(SETTINGS, seed=0)
    optimizer = training.make_optimizer(SETTINGS, -(-count // BATCH_SIZE))
    optimizer.build(model.trainable_variables)
    dataset = training.Dataset(SETTINGS, images, labels)
    run = training.compile_epoch(networks.to_logits(model), optimizer, SETTINGS, dataset)
    epoch = 0

    def train() -> None:
        nonlocal epoch
        epoch += 1
        _, accuracy = run(*training.epoch_inputs(SETTINGS, 0, epoch, count))
        float(accuracy)  # waits for the result

    return train, lambda images: networks.compile_logits(model)(images).argmax(axis=1)


def by_keras(images: Bytes, labels: Bytes) -> Implementation:
    """Keras's `fit`, with report A's network as in Keras's documentation."""
    keras = import_keras()
    hidden, output = keras.layers.Dense(UNITS, activation="relu"), keras.layers.Dense(CLASSES, activation="softmax")
    model = keras.Sequential([keras.Input((SIDE, SIDE)), keras.layers.Flatten(), hidden, output])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    floats = images.astype(np.float32)

    def train() -> None:
        model.fit(floats, labels, batch_size=BATCH_SIZE, epochs=1, verbose=0)

    return train, lambda images: model.predict(images.astype(np.float32), verbose=0).argmax(axis=1)


def import_keras() -> Any:
    """Return the module, for two threads."""
    from digits.modeling.backend import keras, pin_threads, tf

    pin_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)  # `fit` prepares batches in parallel to training
    return keras


def by_pytorch(images: Bytes, labels: Bytes) -> Implementation:
    """The training loop of PyTorch's quickstart tutorial, on tensors in memory."""
    import torch
    from torch import nn

    torch.set_num_threads(THREADS)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    floats, targets = torch.from_numpy(images).float(), torch.from_numpy(labels).long()
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, UNITS), nn.ReLU(), nn.Linear(UNITS, CLASSES))
    cross_entropy = nn.CrossEntropyLoss()
    # The defaults are slower: Adam with one kernel per variable, and the tutorial's DataLoader, image by image.
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)

    def train() -> None:
        for indices in torch.randperm(len(targets)).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss = cross_entropy(model(floats[indices]), targets[indices])
            loss.backward()
            optimizer.step()

    return train, lambda images: model(torch.from_numpy(images).float()).argmax(1).numpy()


def by_sklearn(images: Bytes, labels: Bytes) -> Implementation:
    """scikit-learn's `MLPClassifier`, without a weight penalty, like the other implementations."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        (UNITS,), solver="adam", batch_size=BATCH_SIZE, learning_rate_init=RATE, alpha=0, random_state=0
    )
    rows, classes = flat(images), np.unique(labels)
    # `partial_fit` trains one epoch and keeps Adam's moments; `fit` with `warm_start` would reset them.
    return lambda: model.partial_fit(rows, labels, classes=classes), lambda images: model.predict(flat(images))


def by_jax(images: Bytes, labels: Bytes) -> Implementation:
    """JAX: an epoch is one compiled `lax.scan` over its batches, with Adam as in Kingma and Ba (2015)."""
    import jax
    import jax.numpy as jnp

    beta1, beta2, epsilon = 0.9, 0.999, 1e-7  # Keras's defaults
    rng = np.random.default_rng(0)
    weights = []  # of each layer: Glorot-uniform, (inputs, outputs), and zero biases, (outputs,), as in Keras
    for shape in pairwise((SIDE * SIDE, UNITS, CLASSES)):
        limit = (6 / sum(shape)) ** 0.5
        weights.append((jnp.asarray(rng.uniform(-limit, limit, shape).astype(np.float32)), jnp.zeros(shape[1])))

    def forward(weights: Any, rows: Any) -> Any:
        (kernel1, bias1), (kernel2, bias2) = weights
        return jax.nn.relu(rows.astype(jnp.float32) @ kernel1 + bias1) @ kernel2 + bias2

    def loss_and_correct(weights: Any, rows: Any, labels: Any) -> tuple[Any, Any]:
        logits = forward(weights, rows)
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
        return losses.mean(), (logits.argmax(axis=1) == labels).sum()

    def epoch(state: Any, batches: Any, rows: Any, labels: Any) -> tuple[Any, Any]:
        """Return the state after the batches (batches, batch size) of indices, and the share of correct answers."""

        def step(state: Any, indices: Any) -> tuple[Any, Any]:
            weights, first, second, count = state
            gradient = jax.value_and_grad(loss_and_correct, has_aux=True)
            (_, correct), gradients = gradient(weights, rows[indices], labels[indices])
            count = count + 1
            first = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, first, gradients)
            second = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, second, gradients)
            rate = RATE * jnp.sqrt(1 - beta2**count) / (1 - beta1**count)
            weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + epsilon), weights, first, second)
            return (weights, first, second, count), correct

        state, correct = jax.lax.scan(step, state, batches)
        return state, correct.sum() / batches.size

    compiled = jax.jit(epoch, donate_argnums=0)
    rows, targets = jnp.asarray(images.reshape(len(images), -1)), jnp.asarray(labels.astype(np.int32))
    state: Any = (weights, *(jax.tree.map(jnp.zeros_like, weights) for _ in range(2)), jnp.float32(0))

    def train() -> None:
        nonlocal state
        # A smaller last batch is left out: it would need a call of its own. The 60,000 images have none.
        order = rng.permutation(len(labels)).astype(np.int32)
        state, correct = compiled(
            state, order[: len(order) // BATCH_SIZE * BATCH_SIZE].reshape(-1, BATCH_SIZE), rows, targets
        )
        float(correct)  # waits for the result

    return train, lambda images: np.asarray(forward(state[0], flat(images)).argmax(axis=1))


def by_numpy(images: Bytes, _labels: Bytes) -> Implementation:
    """Only the matrix products of an epoch in NumPy, as a lower bound for any implementation.

    A batch takes five products, two forward and three backward, into preallocated arrays. There is no shuffling,
    gathering, conversion, activation, loss or optimizer, so the network does not learn.
    """
    rows, rng = flat(images), np.random.default_rng(0)
    shapes = ((SIDE * SIDE, UNITS), (UNITS, CLASSES), (BATCH_SIZE, CLASSES))
    kernel1, kernel2, error = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    gradient1, gradient2, logits = (np.empty_like(array) for array in (kernel1, kernel2, error))
    hidden, hidden_error = np.empty((2, BATCH_SIZE, UNITS), np.float32)

    def train() -> None:
        for start in range(0, len(rows) - BATCH_SIZE + 1, BATCH_SIZE):
            batch = rows[start : start + BATCH_SIZE]
            np.matmul(batch, kernel1, out=hidden)
            np.matmul(hidden, kernel2, out=logits)
            np.matmul(hidden.T, error, out=gradient2)
            np.matmul(error, kernel2.T, out=hidden_error)
            np.matmul(batch.T, hidden_error, out=gradient1)

    return train, None


IMPLEMENTATIONS: dict[str, tuple[str, Callable[[Bytes, Bytes], Implementation]]] = {
    "digits": ("this repository", by_digits),
    "keras": ("Keras `fit`", by_keras),
    "pytorch": ("PyTorch loop", by_pytorch),
    "sklearn": ("scikit-learn `MLPClassifier`", by_sklearn),
    "jax": ("JAX compiled `scan`", by_jax),
    "numpy": ("NumPy matrix products", by_numpy),
}


def epoch(name: str) -> dict[str, Any]:
    """Return the seconds of the second epoch, as the first one compiles, and the test accuracy after it."""
    train, predict = IMPLEMENTATIONS[name][1](*load("train", "validation"))
    seconds = timeit.repeat(train, gc.enable, number=1, repeat=2)  # `timeit` would do without garbage collection
    images, labels = load("test")
    return {"seconds": seconds[-1], "accuracy": predict and float((predict(images) == labels).mean())}


def train_to(name: str, *, accuracy: float, max_epochs: int, seed: int, variant: str = "cnn") -> dict[str, Any]:
    """Train a variant, or the convnet of Keras's documentation, until the test accuracy reaches `accuracy`.

    Returns:
        `seconds` of training, which include compilation and exclude testing, `epochs` of training, and the test
        `accuracy` after them; of a variant, the number of its `parameters`, too.
    """
    if name == "keras":
        return _fit_to(accuracy, max_epochs, seed)
    from digits.modeling import losses, networks, training
    from digits.modeling.backend import pin_threads

    pin_threads(THREADS)
    settings = PARAMS.model(variant)
    held_out = load("validation") if settings.validation else None
    data = load("train") if held_out else load("train", "validation")
    start = time.perf_counter()
    results = training.train(settings, data, held_out, epochs=max_epochs, seeds=[seed], workers=1)
    run = [(time.perf_counter() - start, result) for result in results]

    # The tests come after the whole run, because they would slow down the training that goes on meanwhile.
    images, labels = load("test")
    model = networks.build(settings, seed)
    predict = networks.compile_logits(model)
    for seconds, result in run:  # noqa: B007 - the last ones are returned
        networks.set_weights(model, result.weights)
        reached = losses.accuracy(predict(images), labels)
        if reached >= accuracy:
            break
    return {"seconds": seconds, "epochs": result.epoch, "accuracy": reached, "parameters": model.count_params()}


def _fit_to(accuracy: float, max_epochs: int, seed: int) -> dict[str, Any]:
    """Train the network of "Simple MNIST convnet" in Keras's documentation, as there."""
    keras = import_keras()
    layers = keras.layers
    (images, labels), (test_images, test_labels) = load("train", "validation"), load("test")
    inputs, test_inputs = ((array / MAX_PIXEL).astype(np.float32)[..., np.newaxis] for array in (images, test_images))
    one_hot = keras.utils.to_categorical(labels, CLASSES)
    keras.utils.set_random_seed(seed)
    seconds, accuracies = [], []  # of each epoch

    start = time.perf_counter()
    convolutions = (
        layer
        for filters in (32, 64)
        for layer in (layers.Conv2D(filters, (3, 3), activation="relu"), layers.MaxPooling2D((2, 2)))
    )
    output = layers.Dense(CLASSES, activation="softmax")
    model = keras.Sequential(
        [keras.Input((SIDE, SIDE, 1)), *convolutions, layers.Flatten(), layers.Dropout(0.5), output]
    )
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])

    def after_epoch(_epoch: int, _logs: Any) -> None:
        nonlocal start
        seconds.append(time.perf_counter() - start)
        answers = model.predict(test_inputs, batch_size=1000, verbose=0).argmax(axis=1)
        accuracies.append(float((answers == test_labels).mean()))
        model.stop_training = accuracies[-1] >= accuracy
        start = time.perf_counter()

    test = keras.callbacks.LambdaCallback(on_epoch_end=after_epoch)
    model.fit(inputs, one_hot, batch_size=128, epochs=max_epochs, validation_split=0.1, verbose=0, callbacks=[test])
    return {"seconds": sum(seconds), "epochs": len(seconds), "accuracy": accuracies[-1]}


if __name__ == "__main__":
    call, name, *arguments = sys.argv[1:]
    print(json.dumps(epoch(name) if call == "epoch" else train_to(name, **json.loads(arguments[0]))))

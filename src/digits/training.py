"""Training: a whole epoch as one compiled function, and the loop over epochs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits import models, statistics
from digits.backend import keras, tf
from digits.idx import CLASSES, SIDE
from digits.params import Distortion, Model

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Epoch = Callable[[Any, Any, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class Result:
    """What an epoch came to: training figures are means over the epoch's batches, as Keras's `fit` reports them."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None


def make_optimizer(spec: Model, steps: int) -> keras.optimizers.Optimizer:
    """Return a variant's optimizer; as its rate depends on the step alone, any run is the start of a longer one.

    Where the variant asks for it, it keeps the exponential moving average of the weights, beside the weights.

    Args:
        spec: the variant.
        steps: batches in an epoch.
    """
    rate: Any = spec.optimizer.learning_rate
    if spec.optimizer.decay != 1:
        rate = keras.optimizers.schedules.ExponentialDecay(rate, steps, spec.optimizer.decay)
    kind = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[spec.optimizer.name]
    momentum = spec.optimizer.ema_momentum
    average: dict[str, Any] = {} if momentum is None else {"use_ema": True, "ema_momentum": momentum}
    return kind(rate, name=spec.optimizer.name, **average)  # Keras numbers what has no name of its own


def compile_epoch(
    network: keras.Model, optimizer: keras.optimizers.Optimizer, spec: Model, images: Images, labels: Labels
) -> Epoch:
    """Compile one epoch over all images into one function that never returns to Python between its batches.

    The images stay where they are, as one tensor of bytes, and the loop gathers each batch out of it. Without
    convolutions, XLA compiles the loop. With them it does not: its CPU convolution inside a loop is 20 to 40 times
    slower than TensorFlow's own kernels. Distortions are an operation that it does not have.

    Args:
        network: pixels to logits, as `models.to_logits` gives it; its weights are trained in place.
        optimizer: one whose variables are built here; their state goes on from epoch to epoch.
        spec: the variant: loss, batch size, shift, distortion.
        images: uint8, (n, 28, 28).
        labels: uint8, (n,), 0 to 9.

    Returns:
        A function of what `epoch_inputs` returns. It makes a step a batch, the last batch being smaller where it must,
        and returns the mean loss and the accuracy over all images, each measured before its batch's step.
    """
    pixels = tf.constant(_shifted_rows(images, spec.shift) if spec.shift else images)
    targets = tf.constant(labels.astype(np.int32))
    variables = network.trainable_variables
    optimizer.build(variables)
    count, size, margin = len(labels), spec.batch_size, spec.shift
    whole, height = count // size, SIDE + 2 * margin

    def batch_loss(truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        if spec.loss == "categorical_crossentropy":
            return keras.losses.categorical_crossentropy(tf.one_hot(truth, CLASSES), logits, from_logits=True)
        return keras.losses.sparse_categorical_crossentropy(truth, logits, from_logits=True)

    def batch_of(indices: tf.Tensor, shift: tf.Tensor, transform: tf.Tensor) -> tf.Tensor:
        if margin:
            first = (shift[:, 1] * count + indices) * height + 2 * margin - shift[:, 0]
            batch = tf.gather(pixels, first[:, tf.newaxis] + tf.range(SIDE))
        else:
            batch = tf.gather(pixels, indices)
        if spec.distortion is None:
            return batch
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=batch[..., tf.newaxis],
            transforms=transform,
            output_shape=(SIDE, SIDE),
            fill_value=0.0,
            interpolation="BILINEAR",
        )[..., 0]

    def step(indices: tf.Tensor, shift: tf.Tensor, transform: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch, truth = batch_of(indices, shift, transform), tf.gather(targets, indices)
        with tf.GradientTape() as tape:
            logits = network(batch, training=True)
            losses = batch_loss(truth, logits)
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, variables), variables)
        right = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), truth)
        return tf.reduce_sum(losses), tf.reduce_sum(tf.cast(right, tf.int32))

    def epoch(*inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batches = [tf.reshape(each[: whole * size], (whole, size, *each.shape[1:])) for each in inputs]

        def add(index: tf.Tensor, loss: tf.Tensor, right: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            batch_sum, batch_right = step(*[each[index] for each in batches])
            return index + 1, loss + batch_sum, right + batch_right

        _, loss, right = tf.while_loop(lambda index, *_: index < whole, add, (0, 0.0, 0))
        if count % size:
            batch_sum, batch_right = step(*[each[whole * size :] for each in inputs])
            loss, right = loss + batch_sum, right + batch_right
        return loss / count, right / count

    # Without AutoGraph, which would take 0.4 s to rewrite Keras's code into the same operations.
    compiled: Epoch = tf.function(epoch, jit_compile=not spec.convolutions and spec.distortion is None, autograph=False)
    return compiled


def _shifted_rows(images: Images, margin: int) -> Images:
    """Return the rows of padded images, ((2 * margin + 1) * n * (28 + 2 * margin), 28).

    There is one copy of all images for each shift to the right, one after another; in each, a shift down is no more
    than 28 rows that begin elsewhere. So any shift of any image is a gather of whole rows.
    """
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, SIDE, axis=2)
    return np.moveaxis(windows[:, :, ::-1], 2, 0).reshape(-1, SIDE)


def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int32]:
    """Return the order of the images in an epoch, (count,); it depends on the seed and the epoch's number alone."""
    return np.random.default_rng([seed, epoch, 0]).permutation(count).astype(np.int32)


def epoch_shifts(seed: int, epoch: int, count: int, shift: int) -> NDArray[np.int32]:
    """Return by how much each image of an epoch is moved, (count, 2), 0 to 2 * shift; `shift` is not at all."""
    return np.random.default_rng([seed, epoch, 1]).integers(0, 2 * shift + 1, (count, 2), np.int32)


def epoch_distortions(seed: int, epoch: int, count: int, distortion: Distortion) -> NDArray[np.float32]:
    """Return where each image of an epoch takes its pixels from, float32 (count, 8).

    Each row is a projective transform (a0, a1, a2, b0, b1, b2, 0, 0), in the form that TensorFlow's
    ImageProjectiveTransformV3 takes: the pixel in column x, row y is that of column a0 x + a1 y + a2, row
    b0 x + b1 y + b2. It turns, slants and stretches the image about its middle.
    """
    random = np.random.default_rng([seed, epoch, 2])
    angle = np.radians(random.uniform(-distortion.rotate, distortion.rotate, count))
    slant = random.uniform(-distortion.shear, distortion.shear, count)
    across, down = random.uniform(1 - distortion.zoom, 1 + distortion.zoom, (2, count))
    cosine, sine = np.cos(angle), np.sin(angle)
    a0, a1 = cosine * across, (cosine * slant - sine) * down
    b0, b1 = sine * across, (sine * slant + cosine) * down
    middle, zero = (SIDE - 1) / 2, np.zeros(count)
    a2, b2 = middle * (1 - a0 - a1), middle * (1 - b0 - b1)
    return np.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1).astype(np.float32)


def epoch_inputs(spec: Model, seed: int, epoch: int, count: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return what a compiled epoch takes: the images' order, and the shift and the distortion of each in that order.

    They are `epoch_order`, `epoch_shifts` and `epoch_distortions`, the last of shape (count, 0) for a variant without.
    """
    if spec.distortion is None:
        distortions = np.zeros((count, 0), np.float32)
    else:
        distortions = epoch_distortions(seed, epoch, count, spec.distortion)
    order, shifts = epoch_order(seed, epoch, count), epoch_shifts(seed, epoch, count, spec.shift)
    return tf.constant(order), tf.constant(shifts), tf.constant(distortions)


def train(
    model: keras.Model,
    spec: Model,
    data: tuple[Images, Labels],
    validation: tuple[Images, Labels] | None,
    *,
    epochs: int,
    seed: int,
) -> Iterator[Result]:
    """Train a model in place, and yield after each epoch, when its weights are those of a run of so many epochs.

    Where the variant averages its weights, those are the averages; training goes on from the weights themselves.
    Afterwards the model is compiled with its optimizer, so that it is saved with it.

    Args:
        model: as `models.build` gives it.
        spec: the variant.
        data: training images, uint8 (n, 28, 28), and labels, uint8 (n,).
        validation: likewise, never trained on; None for none.
        epochs: how many.
        seed: of the order of the images, their shifts and distortions.
    """
    images, labels = data
    steps = -(-len(labels) // spec.batch_size)
    optimizer = make_optimizer(spec, steps)
    run_epoch = compile_epoch(models.to_logits(model), optimizer, spec, images, labels)
    model.compile(optimizer, spec.loss, metrics=["accuracy"])
    logits = models.compile_logits(model)
    variables, averaged = model.trainable_variables, spec.optimizer.ema_momentum is not None
    for epoch in range(1, epochs + 1):
        loss, accuracy = run_epoch(*epoch_inputs(spec, seed, epoch, len(labels)))
        if averaged:
            trained = [variable.numpy() for variable in variables]
            optimizer.finalize_variable_values(variables)
        val_loss = val_accuracy = None
        if validation is not None:
            predicted = logits(validation[0])
            val_loss = statistics.cross_entropy(predicted, validation[1])
            val_accuracy = statistics.accuracy(predicted, validation[1])
        yield Result(epoch, float(loss), float(accuracy), val_loss, val_accuracy)
        if averaged and epoch < epochs:
            for variable, values in zip(variables, trained, strict=True):
                variable.assign(values)

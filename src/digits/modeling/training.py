"""Training: a whole epoch as one compiled function, and the loop over the epochs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits.core.images import CLASSES, SIDE
from digits.core.params import ModelSettings
from digits.modeling import losses, networks
from digits.modeling.augmentation import random_shifts, random_transforms, shifted_copies
from digits.modeling.backend import keras, tf

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Epoch = Callable[[Any, Any, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class EpochResult:
    """Losses and accuracies of an epoch; those of training are means over its batches, as Keras's `fit` reports."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None


def train(
    model: keras.Model,
    settings: ModelSettings,
    data: tuple[Images, Labels],
    validation: tuple[Images, Labels] | None,
    *,
    epochs: int,
    seed: int,
) -> Iterator[EpochResult]:
    """Train a model in place, and yield after each epoch k, when its weights are those of a run of k epochs.

    If the variant averages its weights, the model has the averages at that moment; training continues from the weights
    themselves. In the end the model is compiled with its optimizer, so that both are saved together.

    Args:
        model: as `networks.build` returns it.
        settings: the variant.
        data: training images, uint8 (n, 28, 28), and labels, uint8 (n,).
        validation: the same for validation, never trained on; None for no validation.
        epochs: the number of epochs.
        seed: of the order of the images, their shifts and their distortions.
    """
    images, labels = data
    steps = -(-len(labels) // settings.batch_size)
    optimizer = make_optimizer(settings, steps)
    run_epoch = compile_epoch(networks.to_logits(model), optimizer, settings, images, labels)
    model.compile(optimizer, settings.loss, metrics=["accuracy"])
    predict = networks.compile_logits(model)
    variables, averaged = model.trainable_variables, settings.optimizer.ema_momentum is not None
    for epoch in range(1, epochs + 1):
        loss, accuracy = run_epoch(*epoch_inputs(settings, seed, epoch, len(labels)))
        if averaged:
            trained = [variable.numpy() for variable in variables]
            optimizer.finalize_variable_values(variables)
        val_loss = val_accuracy = None
        if validation is not None:
            logits = predict(validation[0])
            val_loss = losses.cross_entropy(logits, validation[1])
            val_accuracy = losses.accuracy(logits, validation[1])
        yield EpochResult(epoch, float(loss), float(accuracy), val_loss, val_accuracy)
        if averaged and epoch < epochs:
            for variable, values in zip(variables, trained, strict=True):
                variable.assign(values)


def make_optimizer(settings: ModelSettings, steps: int) -> keras.optimizers.Optimizer:
    """Return the optimizer of a variant.

    Its learning rate depends on the step alone, so that a run is the start of any longer run.

    Args:
        settings: the variant.
        steps: the number of batches in an epoch.
    """
    rate: Any = settings.optimizer.learning_rate
    if settings.optimizer.decay != 1:
        rate = keras.optimizers.schedules.ExponentialDecay(rate, steps, settings.optimizer.decay)
    kind = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[settings.optimizer.name]
    momentum = settings.optimizer.ema_momentum
    average: dict[str, Any] = {} if momentum is None else {"use_ema": True, "ema_momentum": momentum}
    return kind(rate, name=settings.optimizer.name, **average)  # without a name, Keras would number it


def compile_epoch(
    network: keras.Model, optimizer: keras.optimizers.Optimizer, settings: ModelSettings, images: Images, labels: Labels
) -> Epoch:
    """Compile one epoch over all images into one function that never returns to Python between batches.

    The images stay in memory as one tensor of bytes, from which the loop gathers each batch. XLA compiles the loop,
    except for variants with convolutions, which its CPU backend makes 20 to 40 times slower inside a loop, and for
    variants with distortions, an operation that it does not have.

    Args:
        network: pixels to logits, as `networks.to_logits` returns it; it is trained in place.
        optimizer: its variables are built here; their state carries over from epoch to epoch.
        settings: the variant.
        images: uint8, (n, 28, 28).
        labels: uint8, (n,), 0 to 9.

    Returns:
        A function of the three tensors that `epoch_inputs` returns. It takes one step per batch; the last batch may be
        smaller. It returns the mean loss and the accuracy over all images, both measured before the step of each batch.
    """
    optimizer.build(network.trainable_variables)
    epoch = _Epoch(network, optimizer, settings, images, labels)
    use_xla = not settings.convolutions and settings.distortion is None
    # Without AutoGraph, which would take 0.4 s to rewrite Keras's code into the same operations.
    compiled: Epoch = tf.function(epoch.run, jit_compile=use_xla, autograph=False)
    return compiled


class _Epoch:
    """The operations of an epoch: gather a batch, take a step, loop over the batches."""

    def __init__(
        self,
        network: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        settings: ModelSettings,
        images: Images,
        labels: Labels,
    ) -> None:
        self.network, self.optimizer, self.settings = network, optimizer, settings
        self.variables = network.trainable_variables
        self.pixels = tf.constant(shifted_copies(images, settings.shift) if settings.shift else images)
        self.labels = tf.constant(labels.astype(np.int32))
        self.count, self.batch_size = len(labels), settings.batch_size

    def run(self, *inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        size = self.batch_size
        whole = self.count // size  # batches of full size
        batches = [tf.reshape(each[: whole * size], (whole, size, *each.shape[1:])) for each in inputs]

        def add(index: tf.Tensor, loss: tf.Tensor, correct: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            batch_loss, batch_correct = self.step(*[each[index] for each in batches])
            return index + 1, loss + batch_loss, correct + batch_correct

        _, loss, correct = tf.while_loop(lambda index, *_: index < whole, add, (0, 0.0, 0))
        if self.count % size:
            batch_loss, batch_correct = self.step(*[each[whole * size :] for each in inputs])
            loss, correct = loss + batch_loss, correct + batch_correct
        return loss / self.count, correct / self.count

    def step(self, indices: tf.Tensor, shifts: tf.Tensor, transforms: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Take an optimizer step, and return the summed loss and the number of correct answers before it."""
        batch, labels = self.gather(indices, shifts, transforms), tf.gather(self.labels, indices)
        with tf.GradientTape() as tape:
            logits = self.network(batch, training=True)
            losses_ = self.losses(labels, logits)
            loss = tf.reduce_mean(losses_)
        self.optimizer.apply(tape.gradient(loss, self.variables), self.variables)
        correct = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels)
        return tf.reduce_sum(losses_), tf.reduce_sum(tf.cast(correct, tf.int32))

    def gather(self, indices: tf.Tensor, shifts: tf.Tensor, transforms: tf.Tensor) -> tf.Tensor:
        """Return the images of a batch, shifted and distorted."""
        margin = self.settings.shift
        if margin:
            height = SIDE + 2 * margin
            first = (shifts[:, 1] * self.count + indices) * height + 2 * margin - shifts[:, 0]
            batch = tf.gather(self.pixels, first[:, tf.newaxis] + tf.range(SIDE))
        else:
            batch = tf.gather(self.pixels, indices)
        if self.settings.distortion is None:
            return batch
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=batch[..., tf.newaxis],
            transforms=transforms,
            output_shape=(SIDE, SIDE),
            fill_value=0.0,
            interpolation="BILINEAR",
        )[..., 0]

    def losses(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        if self.settings.loss == "categorical_crossentropy":
            return keras.losses.categorical_crossentropy(tf.one_hot(labels, CLASSES), logits, from_logits=True)
        return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def epoch_inputs(settings: ModelSettings, seed: int, epoch: int, count: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the inputs of a compiled epoch: the order of the images, then a shift and a transform for each.

    Their shapes are (count,), (count, 2) and (count, 8); the last is (count, 0) for a variant without distortion.
    """
    if settings.distortion is None:
        transforms = np.zeros((count, 0), np.float32)
    else:
        transforms = random_transforms(seed, epoch, count, settings.distortion)
    order, shifts = random_order(seed, epoch, count), random_shifts(seed, epoch, count, settings.shift)
    return tf.constant(order), tf.constant(shifts), tf.constant(transforms)


def random_order(seed: int, epoch: int, count: int) -> NDArray[np.int32]:
    """Return the order of the images in an epoch, (count,), which depends on the seed and the epoch alone."""
    return np.random.default_rng([seed, epoch, 0]).permutation(count).astype(np.int32)

"""Training: a whole epoch as one compiled function, and runs with several seeds side by side."""

import queue
import threading
from collections.abc import Callable, Generator, Sequence
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
    """An epoch of a run.

    Attributes:
        loss: The mean over the batches of the epoch, each before its step, as Keras's `fit` reports it.
        accuracy: Likewise.
        val_loss: After the epoch; None without validation images.
        val_accuracy: Likewise.
        val_wrong: Whether each validation image is misclassified, bool (n,); None without validation images.
        weights: After the epoch, as `networks.weights` returns them; averages if the variant averages its weights.
        optimizer: The values of the optimizer's variables.
    """

    seed: int
    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    val_wrong: NDArray[np.bool_] | None
    weights: dict[str, NDArray[np.float32]]
    optimizer: list[NDArray[Any]]

    @property
    def is_finite(self) -> bool:
        """Whether the losses and all weights are finite; once they are not, training never recovers."""
        val_loss = 0 if self.val_loss is None else self.val_loss
        return all(np.isfinite(values).all() for values in (self.loss, val_loss, *self.weights.values()))


@dataclass(frozen=True)
class _State:
    """The values of the variables of a model and of its optimizer, between two epochs of a run."""

    model: list[NDArray[Any]]
    optimizer: list[NDArray[Any]]


def train(
    settings: ModelSettings,
    data: tuple[Images, Labels],
    validation: tuple[Images, Labels] | None,
    *,
    epochs: int,
    seeds: Sequence[int],
    workers: int,
) -> Generator[EpochResult, None, None]:
    """Train a model with each seed, side by side, and yield after each epoch of each run.

    The weights after epoch k are those of a run of k epochs. If the variant averages its weights, they are the
    averages; training continues from the weights themselves. A run depends on its own seed alone, never on the number
    of workers or on the other seeds.

    A worker always takes the run with the fewest epochs, so that the runs end together and no core waits for the last.

    Args:
        settings: the variant.
        data: training images, uint8 (n, 28, 28), and labels, uint8 (n,).
        validation: the same for validation, never trained on; None for no validation.
        epochs: the number of epochs.
        seeds: of the initial weights, and of the order of the images, their shifts and their distortions.
        workers: the number of runs that train at the same time.
    """
    workers = min(workers, len(seeds))
    waiting: queue.PriorityQueue[tuple[int, int]] = queue.PriorityQueue()  # epochs trained, index of the seed
    finished: queue.SimpleQueue[EpochResult | BaseException] = queue.SimpleQueue()
    dataset = Dataset(settings, *data)
    replicas = [_Replica(settings, dataset, validation) for _ in range(workers)]
    states = [_state(*_build(settings, seed, dataset.count)) for seed in seeds]
    for index in range(len(seeds)):
        waiting.put((0, index))
    stopped = threading.Event()

    def work(replica: _Replica) -> None:
        try:
            while not stopped.is_set():
                try:
                    epoch, index = waiting.get_nowait()
                except queue.Empty:
                    return  # the other workers train the remaining runs
                result, states[index] = replica.train(states[index], seeds[index], epoch + 1)
                if epoch + 1 < epochs:
                    waiting.put((epoch + 1, index))
                finished.put(result)
        except BaseException as error:  # raised again in the thread of the caller
            finished.put(error)

    threads = [threading.Thread(target=work, args=[replica], daemon=True) for replica in replicas]
    for thread in threads:
        thread.start()
    try:
        for _ in range(len(seeds) * epochs):
            result = finished.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def restore(settings: ModelSettings, result: EpochResult, count: int) -> keras.Model:
    """Return the model of a run after an epoch, compiled with its optimizer, so that both are saved together.

    Args:
        settings: the variant.
        result: the epoch.
        count: the number of training images.
    """
    model, optimizer = _build(settings, result.seed, count)
    networks.set_weights(model, result.weights)
    _assign(optimizer.variables, result.optimizer)
    model.compile(optimizer, settings.loss, metrics=["accuracy"])
    return model


class _Replica:
    """A model, its optimizer and its compiled epoch, which one worker uses for all runs in turn."""

    def __init__(self, settings: ModelSettings, dataset: "Dataset", validation: tuple[Images, Labels] | None) -> None:
        self.settings, self.validation, self.count = settings, validation, dataset.count
        self.model, self.optimizer = _build(settings, 0, dataset.count)
        self.run_epoch = compile_epoch(networks.to_logits(self.model), self.optimizer, settings, dataset)
        self.predict = networks.compile_logits(self.model)

    def train(self, state: _State, seed: int, epoch: int) -> tuple[EpochResult, _State]:
        """Train an epoch from a state, and return its result and the next state."""
        _assign(self.model.variables, state.model)
        _assign(self.optimizer.variables, state.optimizer)
        loss, accuracy = self.run_epoch(*epoch_inputs(self.settings, seed, epoch, self.count))
        after = _state(self.model, self.optimizer)
        if self.settings.optimizer.ema_momentum is not None:
            self.optimizer.finalize_variable_values(self.model.trainable_variables)
        val_loss = val_accuracy = wrong = None
        if self.validation is not None:
            logits, labels = self.predict(self.validation[0]), self.validation[1]
            val_loss, wrong = losses.cross_entropy(logits, labels), logits.argmax(axis=1) != labels
            val_accuracy = float((~wrong).mean())
        result = EpochResult(
            seed=seed,
            epoch=epoch,
            loss=float(loss),
            accuracy=float(accuracy),
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            val_wrong=wrong,
            weights=networks.weights(self.model),
            optimizer=after.optimizer,
        )
        return result, after


def _build(settings: ModelSettings, seed: int, count: int) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    """Return the network of a variant and its optimizer, both with initial values."""
    model = networks.build(settings, seed)
    optimizer = make_optimizer(settings, -(-count // settings.batch_size))
    optimizer.build(model.trainable_variables)
    return model, optimizer


def _state(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> _State:
    return _State(*([variable.numpy() for variable in each.variables] for each in (model, optimizer)))


def _assign(variables: Sequence[Any], values: Sequence[NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


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


class Dataset:
    """The training images and labels as tensors, which all workers share."""

    def __init__(self, settings: ModelSettings, images: Images, labels: Labels) -> None:
        self.pixels = tf.constant(shifted_copies(images, settings.shift) if settings.shift else images)
        self.labels = tf.constant(labels.astype(np.int32))
        self.count = len(labels)


def compile_epoch(
    network: keras.Model, optimizer: keras.optimizers.Optimizer, settings: ModelSettings, dataset: Dataset
) -> Epoch:
    """Compile one epoch over all images into one function that never returns to Python between batches.

    The images stay in memory as one tensor of bytes, from which the loop gathers each batch. XLA compiles the loop,
    except for variants with convolutions, which its CPU backend makes 20 to 40 times slower inside a loop, and for
    variants with distortions, an operation that it does not have.

    Args:
        network: pixels to logits, as `networks.to_logits` returns it; it is trained in place.
        optimizer: built for the variables of the network; its state carries over from epoch to epoch.
        settings: the variant.
        dataset: the training images.

    Returns:
        A function of the three tensors that `epoch_inputs` returns. It takes one step per batch; the last batch may be
        smaller. It returns the mean loss and the accuracy over all images, both measured before the step of each batch.
    """
    epoch = _Epoch(network, optimizer, settings, dataset)
    use_xla = not settings.convolutions and settings.distortion is None
    # Without AutoGraph, which would take 0.4 s to rewrite Keras's code into the same operations.
    compiled: Epoch = tf.function(epoch.run, jit_compile=use_xla, autograph=False)
    return compiled


class _Epoch:
    """The operations of an epoch: gather a batch, take a step, loop over the batches."""

    def __init__(
        self, network: keras.Model, optimizer: keras.optimizers.Optimizer, settings: ModelSettings, dataset: Dataset
    ) -> None:
        self.network, self.optimizer, self.settings = network, optimizer, settings
        self.variables = network.trainable_variables
        self.pixels, self.labels, self.count = dataset.pixels, dataset.labels, dataset.count
        self.batch_size = min(settings.batch_size, dataset.count)

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
            down, right = shifts[:, 0], shifts[:, 1]
            images = tf.gather_nd(self.pixels, tf.stack([right, indices], axis=1))  # (batch, 28 + 2 * margin, 28)
            rows = (2 * margin - down)[:, tf.newaxis] + tf.range(SIDE)
            batch = tf.gather(images, rows, batch_dims=1)
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

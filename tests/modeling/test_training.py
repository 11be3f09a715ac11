import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import IMAGES, WITH_TENSORFLOW, committed_params, lazily

from digits.core.params import ModelSettings
from digits.modeling import losses

PARAMS = committed_params()
pytestmark = WITH_TENSORFLOW
backend, networks, training = (lazily(f"digits.modeling.{name}") for name in ("backend", "networks", "training"))
Data = tuple[IMAGES, IMAGES]
Epochs = list[Any]  # of EpochResult


def train(
    settings: ModelSettings,
    data: Data,
    *,
    epochs: int = 1,
    seeds: Sequence[int] = (0,),
    workers: int = 1,
    validation: Data | None = None,
) -> dict[int, Epochs]:
    """Return the epochs of each seed."""
    results: dict[int, Epochs] = {seed: [] for seed in seeds}
    for result in training.train(settings, data, validation, epochs=epochs, seeds=seeds, workers=workers):
        results[result.seed].append(result)
    return results


def content(results: Epochs) -> list[dict[str, Any]]:
    """Return every value of some epochs, arrays as bytes."""
    return [
        vars(result)
        | {
            "val_wrong": None if result.val_wrong is None else result.val_wrong.tobytes(),
            "weights": {path: values.tobytes() for path, values in result.weights.items()},
            "optimizer": [values.tobytes() for values in result.optimizer],
        }
        for result in results
    ]


# One that XLA compiles, and one with convolutions, shifts, distortions, dropout and averages.
@pytest.mark.parametrize("variant", ["mlp64", "cnn-large"])
def test_a_run_depends_on_its_own_seed_alone_and_after_epoch_k_is_a_run_of_k_epochs(variant: str, data: Data) -> None:
    settings, held_out = PARAMS.model(variant), (data[0][:50], data[1][:50])
    expected = train(settings, data, epochs=3, seeds=[0, 3, 7], workers=1, validation=held_out)
    assert [[result.epoch for result in run] for run in expected.values()] == [[1, 2, 3]] * 3
    (alone,) = train(settings, data, epochs=2, seeds=[3], workers=2, validation=held_out).values()
    assert content(alone) == content(expected[3])[:2]
    reordered = train(settings, data, epochs=2, seeds=[7, 3, 0], workers=2, validation=held_out)
    for seed, run in expected.items():
        assert content(reordered[seed]) == content(run)[:2], seed
    first, second = expected[0][1].weights, expected[3][1].weights
    assert any((first[path] != second[path]).any() for path in first)
    assert any((first[path] != expected[0][0].weights[path]).any() for path in first)


def test_an_epoch_is_finite_if_its_losses_and_weights_are(data: Data) -> None:
    ((result,),) = train(PARAMS.model("softmax"), data, validation=data).values()
    assert result.is_finite
    assert replace(result, val_loss=None).is_finite
    for value in (float("nan"), float("inf")):
        assert not replace(result, loss=value).is_finite
        assert not replace(result, val_loss=value).is_finite
        assert not replace(result, weights={"a": np.array([0, value], np.float32)}).is_finite


def test_the_runs_proceed_side_by_side(data: Data) -> None:
    settings = PARAMS.model("softmax")
    order = [
        (result.epoch, result.seed)
        for result in training.train(settings, data, None, epochs=3, seeds=[5, 4], workers=1)
    ]
    assert order == [(1, 5), (1, 4), (2, 5), (2, 4), (3, 5), (3, 4)]


# Both losses, both optimizers, with and without XLA.
@pytest.mark.parametrize("variant", ["mlp64", "cnn"])
def test_an_epoch_takes_the_same_steps_as_keras_fit(variant: str, data: Data) -> None:
    settings = PARAMS.model(variant).model_copy(update={"shift": 0, "distortion": None, "dropout": 0.0})
    images, labels = data
    ((result,),) = train(settings, data).values()

    order = training.random_order(0, 1, len(labels))
    theirs = networks.build(settings, seed=0)
    logits = networks.to_logits(theirs)
    one_hot = settings.loss == "categorical_crossentropy"
    loss = getattr(backend.keras.losses, "CategoricalCrossentropy" if one_hot else "SparseCategoricalCrossentropy")
    optimizer = training.make_optimizer(settings, -(-len(labels) // settings.batch_size))
    logits.compile(optimizer, loss(from_logits=True), metrics=["accuracy"])
    targets = backend.keras.utils.to_categorical(labels, 10) if one_hot else labels
    history = logits.fit(images[order], targets[order], batch_size=settings.batch_size, shuffle=False, verbose=0)

    assert result.loss == pytest.approx(history.history["loss"][0], rel=1e-4)
    assert result.accuracy == pytest.approx(history.history["accuracy"][0])
    expected = networks.weights(theirs)
    for path, values in result.weights.items():
        np.testing.assert_allclose(values, expected[path], rtol=1e-3, atol=2e-5, err_msg=path)


def test_validation_images_are_measured_but_not_trained_on(data: Data) -> None:
    settings = PARAMS.model("softmax")
    held_out = (data[0][:50], data[1][:50])
    ((result,),) = train(settings, data, validation=held_out).values()
    ((expected,),) = train(settings, data).values()
    for path, values in result.weights.items():
        np.testing.assert_array_equal(values, expected.weights[path])
    logits = networks.compile_logits(training.restore(settings, result, len(data[1])))(held_out[0])
    assert result.val_loss == losses.cross_entropy(logits, held_out[1])
    assert result.val_accuracy == losses.accuracy(logits, held_out[1])
    assert result.val_wrong is not None
    np.testing.assert_array_equal(result.val_wrong, logits.argmax(axis=1) != held_out[1])
    assert (expected.val_loss, expected.val_accuracy, expected.val_wrong) == (None, None, None)


def test_a_model_is_restored_with_its_optimizer(data: Data) -> None:
    settings = PARAMS.model("cnn")
    _, result = train(settings, data, epochs=2, seeds=[4])[4]
    model = training.restore(settings, result, len(data[1]))
    for path, values in networks.weights(model).items():
        np.testing.assert_array_equal(values, result.weights[path])
    assert int(model.optimizer.iterations) == 2 * 3  # batches of 128 images
    assert model.optimizer.name == "adam"
    for variable, values in zip(model.optimizer.variables, result.optimizer, strict=True):
        np.testing.assert_array_equal(variable, values)
    loss, accuracy = model.evaluate(*data, verbose=0)
    assert (loss, accuracy) == pytest.approx(
        (
            losses.cross_entropy(networks.compile_logits(model)(data[0]), data[1]),
            losses.accuracy(networks.compile_logits(model)(data[0]), data[1]),
        ),
        rel=1e-4,
    )


def test_an_exception_in_a_worker_is_raised_to_the_caller(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(settings: ModelSettings, seed: int, epoch: int, count: int) -> Any:
        if (seed, epoch) == (2, 2):
            raise ZeroDivisionError("in a worker")
        return inputs(settings, seed, epoch, count)

    inputs = training.epoch_inputs
    monkeypatch.setattr(training, "epoch_inputs", fail)
    finished: list[tuple[int, int]] = []
    before = threading.active_count()
    runs = training.train(PARAMS.model("softmax"), data, None, epochs=50, seeds=[1, 2, 3], workers=2)
    with pytest.raises(ZeroDivisionError, match="in a worker"):
        finished.extend((result.seed, result.epoch) for result in runs)
    assert (2, 1) in finished
    assert (2, 2) not in finished
    assert threading.active_count() == before


def test_a_generator_that_is_closed_early_stops_its_threads(data: Data) -> None:
    before = threading.active_count()
    runs = training.train(PARAMS.model("softmax"), data, None, epochs=10_000, seeds=[0, 1, 2], workers=2)
    assert next(runs).epoch == 1
    assert threading.active_count() > before
    runs.close()  # waits for the threads
    assert threading.active_count() == before


def test_the_order_of_the_images_depends_on_the_seed_and_the_epoch_alone() -> None:
    order = training.random_order(0, 1, 100)
    np.testing.assert_array_equal(np.sort(order), np.arange(100))
    np.testing.assert_array_equal(order, training.random_order(0, 1, 100))
    assert (order != training.random_order(0, 2, 100)).any()
    assert (order != training.random_order(1, 1, 100)).any()


def test_the_model_has_the_averaged_weights_and_training_continues_from_the_others(data: Data) -> None:
    momentum = 0.9
    plain = PARAMS.model("mlp64").model_copy(update={"batch_size": len(data[1])})  # one step per epoch
    optimizer = plain.optimizer.model_copy(update={"ema_momentum": momentum})
    # A batch of more images than there are is one of all.
    averaged = plain.model_copy(update={"optimizer": optimizer, "batch_size": 60_000})
    expected: dict[str, np.ndarray] = {}
    for one, other in zip(train(plain, data, epochs=4)[0], train(averaged, data, epochs=4)[0], strict=True):
        for path, values in one.weights.items():
            expected[path] = momentum * expected[path] + (1 - momentum) * values if path in expected else values
            np.testing.assert_allclose(other.weights[path], expected[path], atol=1e-7)


def test_the_learning_rate_decays_with_the_step() -> None:
    optimizer = training.make_optimizer(PARAMS.model("cnn"), steps=10)
    optimizer.build([backend.keras.Variable(0.0)])
    optimizer.iterations.assign(20)
    assert float(optimizer.learning_rate) == pytest.approx(0.004 * 0.9**2)

import numpy as np
import pytest
from support import IMAGES, committed_params

from digits.core import params
from digits.modeling import losses, networks, training
from digits.modeling.backend import keras

PARAMS = committed_params()
pytestmark = pytest.mark.slow(3)
VARIANTS = ["softmax", "mlp64", "mlp128", "cnn", "cnn-large"]


def weights_after(variant: str, data: tuple[IMAGES, IMAGES], epochs: int) -> list[dict[str, np.ndarray]]:
    settings = PARAMS.model(variant)
    model = networks.build(settings, seed=0)
    run = training.train(model, settings, data, None, epochs=epochs, seed=0)
    return [networks.weights(model) for _ in run]


@pytest.mark.parametrize("variant", VARIANTS)
def test_after_epoch_k_the_weights_are_those_of_a_run_of_k_epochs(variant: str, data: tuple[IMAGES, IMAGES]) -> None:
    long, short = weights_after(variant, data, 3), weights_after(variant, data, 2)
    for shorter, longer in zip(short, long, strict=False):
        for path, values in shorter.items():
            np.testing.assert_array_equal(values, longer[path])
    assert any((long[0][path] != long[1][path]).any() for path in long[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_epoch_takes_the_same_steps_as_keras_fit(variant: str, data: tuple[IMAGES, IMAGES]) -> None:
    settings = PARAMS.model(variant).model_copy(update={"shift": 0, "distortion": None, "dropout": 0.0})
    images, labels = data
    ours = networks.build(settings, seed=0)
    (result,) = training.train(ours, settings, data, None, epochs=1, seed=0)

    order = training.random_order(0, 1, len(labels))
    theirs = networks.build(settings, seed=0)
    logits = networks.to_logits(theirs)
    one_hot = settings.loss == "categorical_crossentropy"
    loss = keras.losses.CategoricalCrossentropy if one_hot else keras.losses.SparseCategoricalCrossentropy
    optimizer = training.make_optimizer(settings, -(-len(labels) // settings.batch_size))
    logits.compile(optimizer, loss(from_logits=True), metrics=["accuracy"])
    targets = keras.utils.to_categorical(labels, 10) if one_hot else labels
    history = logits.fit(images[order], targets[order], batch_size=settings.batch_size, shuffle=False, verbose=0)

    assert result.loss == pytest.approx(history.history["loss"][0], rel=1e-4)
    assert result.accuracy == pytest.approx(history.history["accuracy"][0])
    expected = networks.weights(theirs)
    for path, values in networks.weights(ours).items():
        np.testing.assert_allclose(values, expected[path], rtol=1e-3, atol=2e-5, err_msg=path)


def test_validation_images_are_measured_but_not_trained_on(data: tuple[IMAGES, IMAGES]) -> None:
    settings = PARAMS.model("mlp64")
    with_validation = networks.build(settings, seed=0)
    held_out = (data[0][:50], data[1][:50])
    (result,) = training.train(with_validation, settings, data, held_out, epochs=1, seed=0)
    (expected,) = weights_after("mlp64", data, 1)
    for path, values in networks.weights(with_validation).items():
        np.testing.assert_array_equal(values, expected[path])
    logits = networks.compile_logits(with_validation)(held_out[0])
    assert result.val_loss == losses.cross_entropy(logits, held_out[1])
    assert result.val_accuracy == losses.accuracy(logits, held_out[1])


def test_the_order_of_the_images_depends_on_the_seed_and_the_epoch_alone() -> None:
    order = training.random_order(0, 1, 100)
    np.testing.assert_array_equal(np.sort(order), np.arange(100))
    np.testing.assert_array_equal(order, training.random_order(0, 1, 100))
    assert (order != training.random_order(0, 2, 100)).any()
    assert (order != training.random_order(1, 1, 100)).any()


def test_the_model_has_the_averaged_weights_and_training_continues_from_the_others(data: tuple[IMAGES, IMAGES]) -> None:
    momentum = 0.9
    plain = PARAMS.model("mlp64").model_copy(update={"batch_size": len(data[1])})  # one step per epoch
    optimizer = plain.optimizer.model_copy(update={"ema_momentum": momentum})
    averaged = plain.model_copy(update={"optimizer": optimizer})

    def each(settings: params.ModelSettings) -> list[dict[str, np.ndarray]]:
        model = networks.build(settings, seed=0)
        return [networks.weights(model) for _ in training.train(model, settings, data, None, epochs=4, seed=0)]

    expected: dict[str, np.ndarray] = {}
    for weights, found in zip(each(plain), each(averaged), strict=True):
        for path, values in weights.items():
            expected[path] = momentum * expected[path] + (1 - momentum) * values if path in expected else values
            np.testing.assert_allclose(found[path], expected[path], atol=1e-7)


def test_the_learning_rate_decays_with_the_step() -> None:
    optimizer = training.make_optimizer(PARAMS.model("cnn"), steps=10)
    optimizer.build([keras.Variable(0.0)])
    optimizer.iterations.assign(20)
    assert float(optimizer.learning_rate) == pytest.approx(0.004 * 0.9**2)

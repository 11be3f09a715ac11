from pathlib import Path

import numpy as np
import pytest
from conftest import IMAGES, ROOT
from scipy import ndimage

from digits import models, params, statistics, training
from digits.backend import keras, pin_threads, tf
from digits.errors import UserError

PARAMS = params.load(ROOT / "params.yaml")
VARIANTS = ["softmax", "mlp64", "mlp128", "cnn", "cnn-large"]
PARAMETERS = {"softmax": 7_850, "mlp64": 50_890, "mlp128": 101_770, "cnn": 80_202, "cnn-large": 321_226}

pin_threads(2)


@pytest.fixture(scope="module")
def data(digits: tuple[IMAGES, IMAGES]) -> tuple[IMAGES, IMAGES]:
    """335 images: no multiple of a batch size, so that the last batch is a smaller one."""
    return digits[0][:335], digits[1][:335]


def weights_after(variant: str, data: tuple[IMAGES, IMAGES], epochs: int) -> list[dict[str, np.ndarray]]:
    spec = PARAMS.model(variant)
    model = models.build(spec, seed=0)
    run = training.train(model, spec, data, None, epochs=epochs, seed=0)
    return [models.weights(model) for _ in run]


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_are_as_many_as_published(variant: str) -> None:
    model = models.build(PARAMS.model(variant), seed=0)
    assert model.count_params() == PARAMETERS[variant]
    assert f"Total params: {PARAMETERS[variant]:,}" in models.summary(model)


@pytest.mark.parametrize("variant", VARIANTS)
def test_epoch_k_is_a_run_of_k_epochs_weight_for_weight(variant: str, data: tuple[IMAGES, IMAGES]) -> None:
    long = weights_after(variant, data, 3)
    for epochs in (1, 2):
        short = weights_after(variant, data, epochs)[-1]
        for path, values in short.items():
            np.testing.assert_array_equal(values, long[epochs - 1][path])
    assert any((long[0][path] != long[1][path]).any() for path in long[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_epoch_takes_the_steps_of_fit_on_the_same_batches(variant: str, data: tuple[IMAGES, IMAGES]) -> None:
    spec = PARAMS.model(variant).model_copy(update={"shift": 0, "distortion": None, "dropout": 0.0})
    images, labels = data
    mine = models.build(spec, seed=0)
    (result,) = training.train(mine, spec, data, None, epochs=1, seed=0)

    order = training.epoch_order(0, 1, len(labels))
    theirs = models.build(spec, seed=0)
    logits = models.to_logits(theirs)
    one_hot = spec.loss == "categorical_crossentropy"
    loss = keras.losses.CategoricalCrossentropy if one_hot else keras.losses.SparseCategoricalCrossentropy
    optimizer = training.make_optimizer(spec, -(-len(labels) // spec.batch_size))
    logits.compile(optimizer, loss(from_logits=True), metrics=["accuracy"])
    targets = keras.utils.to_categorical(labels, 10) if one_hot else labels
    history = logits.fit(images[order], targets[order], batch_size=spec.batch_size, shuffle=False, verbose=0)

    assert result.loss == pytest.approx(history.history["loss"][0], rel=1e-4)
    assert result.accuracy == pytest.approx(history.history["accuracy"][0])
    expected = models.weights(theirs)
    for path, values in models.weights(mine).items():
        np.testing.assert_allclose(values, expected[path], rtol=1e-3, atol=2e-5, err_msg=path)


def test_validation_images_are_measured_and_never_trained_on(data: tuple[IMAGES, IMAGES]) -> None:
    spec = PARAMS.model("mlp64")
    with_validation = models.build(spec, seed=0)
    held_out = (data[0][:50], data[1][:50])
    (result,) = training.train(with_validation, spec, data, held_out, epochs=1, seed=0)
    (expected,) = weights_after("mlp64", data, 1)
    for path, values in models.weights(with_validation).items():
        np.testing.assert_array_equal(values, expected[path])
    logits = models.compile_logits(with_validation)(held_out[0])
    assert result.val_loss == statistics.cross_entropy(logits, held_out[1])
    assert result.val_accuracy == statistics.accuracy(logits, held_out[1])


def test_orders_and_shifts_depend_on_seed_and_epoch_alone() -> None:
    order = training.epoch_order(0, 1, 100)
    np.testing.assert_array_equal(np.sort(order), np.arange(100))
    np.testing.assert_array_equal(order, training.epoch_order(0, 1, 100))
    assert (order != training.epoch_order(0, 2, 100)).any()
    assert (order != training.epoch_order(1, 1, 100)).any()
    shifts = training.epoch_shifts(0, 1, 500, 2)
    assert shifts.shape == (500, 2)
    assert set(np.unique(shifts)) == {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(shifts, training.epoch_shifts(0, 1, 500, 2))
    assert (shifts != training.epoch_shifts(0, 2, 500, 2)).any()


def test_each_image_is_shifted_down_and_right_on_its_own(data: tuple[IMAGES, IMAGES]) -> None:
    spec = PARAMS.model("softmax").model_copy(update={"shift": 2, "batch_size": 100})  # the last batch has 35
    images, labels = data
    order = training.epoch_order(0, 1, len(labels))
    shifts = training.epoch_shifts(0, 1, len(labels), 2)

    def step(spec: params.Model, images: IMAGES) -> dict[str, np.ndarray]:
        model = models.build(spec, seed=0)
        optimizer = training.make_optimizer(spec, 4)
        epoch = training.compile_epoch(models.to_logits(model), optimizer, spec, images, labels)
        epoch(tf.constant(order), tf.constant(shifts), tf.zeros((len(labels), 0)))
        return models.weights(model)

    moved = np.zeros_like(images)
    for index, (down, right) in zip(order, shifts - 2, strict=True):
        moved[index] = ndimage.shift(images[index], (down, right), order=0)
    assert (moved != images).any(axis=(1, 2)).mean() > 0.9
    expected = step(spec.model_copy(update={"shift": 0}), moved)
    for path, values in step(spec, images).items():
        np.testing.assert_allclose(values, expected[path], atol=1e-7)


def test_a_distortion_takes_each_pixel_from_where_it_says(data: tuple[IMAGES, IMAGES]) -> None:
    distortion = params.Distortion(rotate=30.0, zoom=0.2, shear=0.3)
    spec = PARAMS.model("softmax").model_copy(update={"distortion": distortion, "batch_size": 100})
    images, labels = data
    order, shifts, transforms = training.epoch_inputs(spec, 0, 1, len(labels))

    distorted = np.empty_like(images)
    for index, (a0, a1, a2, b0, b1, b2, *_) in zip(order.numpy(), transforms.numpy(), strict=True):
        # SciPy names rows before columns.
        exact = ndimage.affine_transform(
            images[index].astype(float), [[b1, b0], [a1, a0]], (b2, a2), order=1, mode="constant"
        )
        distorted[index] = exact.astype(np.uint8)
    assert (distorted != images).any(axis=(1, 2)).all()

    plain = spec.model_copy(update={"distortion": None})
    results = []
    for each, pixels, moves in ((plain, distorted, tf.zeros((len(labels), 0))), (spec, images, transforms)):
        model = models.build(each, seed=0)
        optimizer = training.make_optimizer(each, 4)
        training.compile_epoch(models.to_logits(model), optimizer, each, pixels, labels)(order, shifts, moves)
        results.append(models.weights(model))
    for path, values in results[0].items():
        np.testing.assert_allclose(results[1][path], values, atol=2e-5)


def test_distortions_turn_slant_and_stretch_about_the_middle() -> None:
    limits = params.Distortion(rotate=90.0, zoom=0.0, shear=0.0)
    turned = training.epoch_distortions(0, 1, 1000, limits)
    middle = np.array([13.5, 13.5, 1])
    np.testing.assert_allclose(turned[:, :3] @ middle, 13.5, atol=1e-5)
    np.testing.assert_allclose(turned[:, 3:6] @ middle, 13.5, atol=1e-5)
    angles = np.degrees(np.arctan2(turned[:, 3], turned[:, 0]))
    assert (angles.min(), angles.max()) == pytest.approx((-90, 90), abs=1)
    np.testing.assert_allclose(turned[:, 0] ** 2 + turned[:, 3] ** 2, 1, atol=1e-6)
    stretched = training.epoch_distortions(0, 1, 1000, params.Distortion(rotate=0.0, zoom=0.2, shear=0.3))
    assert (stretched[:, 0].min(), stretched[:, 0].max()) == pytest.approx((0.8, 1.2), abs=0.01)
    slants = stretched[:, 1] / stretched[:, 4]
    assert (slants.min(), slants.max()) == pytest.approx((-0.3, 0.3), abs=0.01)
    assert (
        stretched != training.epoch_distortions(0, 2, 1000, params.Distortion(rotate=0.0, zoom=0.2, shear=0.3))
    ).any()


def test_averaged_weights_are_the_model_and_training_goes_on_from_its_own(data: tuple[IMAGES, IMAGES]) -> None:
    momentum = 0.9
    plain = PARAMS.model("mlp64").model_copy(update={"batch_size": len(data[1])})  # a step an epoch
    optimizer = plain.optimizer.model_copy(update={"ema_momentum": momentum})
    averaged = plain.model_copy(update={"optimizer": optimizer})

    def each(spec: params.Model) -> list[dict[str, np.ndarray]]:
        model = models.build(spec, seed=0)
        return [models.weights(model) for _ in training.train(model, spec, data, None, epochs=4, seed=0)]

    expected: dict[str, np.ndarray] = {}
    for weights, found in zip(each(plain), each(averaged), strict=True):
        for path, values in weights.items():
            expected[path] = momentum * expected[path] + (1 - momentum) * values if path in expected else values
            np.testing.assert_allclose(found[path], expected[path], atol=1e-7)


def test_the_learning_rate_decays_by_the_step() -> None:
    optimizer = training.make_optimizer(PARAMS.model("cnn"), steps=10)
    optimizer.build([keras.Variable(0.0)])
    optimizer.iterations.assign(20)
    assert float(optimizer.learning_rate) == pytest.approx(0.004 * 0.9**2)


def test_a_pool_shrinks_what_a_convolution_gives() -> None:
    layer = params.Convolution(filters=3, kernel=5, pool=2)
    model = models.build(PARAMS.models["cnn"].model_copy(update={"convolutions": [layer], "units": []}), seed=0)
    assert model.get_layer("pool1").output.shape == (None, 12, 12, 3)


def test_a_saved_model_takes_raw_pixels_and_gives_probabilities(data: tuple[IMAGES, IMAGES], tmp_path: Path) -> None:
    spec = PARAMS.model("cnn")
    model = models.build(spec, seed=0)
    list(training.train(model, spec, data, None, epochs=1, seed=0))
    first, second = tmp_path / "a.keras", tmp_path / "b.keras"
    models.save(model, first)
    loaded = models.load(first)
    probabilities = loaded.predict(data[0][:20], verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    expected = np.exp(statistics.log_softmax(models.compile_logits(model)(data[0][:20])))
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)

    # Another run of the same: the same bytes, whatever the time and the addresses of objects in memory.
    again = models.build(spec, seed=0)
    list(training.train(again, spec, data, None, epochs=1, seed=0))
    models.save(again, second)
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path not in (first, second)] == []


def test_weights_go_back_where_they_came_from(data: tuple[IMAGES, IMAGES]) -> None:
    model, other = (models.build(PARAMS.model("mlp64"), seed) for seed in (0, 1))
    kept = models.weights(model)
    models.set_weights(other, kept)
    np.testing.assert_array_equal(models.compile_logits(model)(data[0][:5]), models.compile_logits(other)(data[0][:5]))


def test_a_damaged_model_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(b"no model")
    with pytest.raises(UserError, match=r"model.keras cannot be loaded .*: type `digits repair`, then `dvc repro`"):
        models.load(path)


def test_a_model_that_brings_code_of_its_own_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    # Keras saves a lambda as byte-code, which has no names of this module.
    layer = keras.layers.Lambda(lambda pixels: (__import__("os").mkdir(__import__("os").environ["MARK"]), pixels)[1])
    keras.Sequential([keras.layers.Input((1,)), layer]).save(tmp_path / "model.keras")
    (tmp_path / "mark").rmdir()
    with pytest.raises(UserError, match=r"model.keras cannot be loaded"):
        models.load(tmp_path / "model.keras")
    assert not (tmp_path / "mark").exists()
    keras.saving.load_model(tmp_path / "model.keras", safe_mode=False)
    assert (tmp_path / "mark").exists(), "the file's code does nothing, so that its refusal says nothing"

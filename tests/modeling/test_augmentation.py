import numpy as np
import pytest
from scipy import ndimage
from support import IMAGES, WITH_TENSORFLOW, committed_params, lazily

from digits.core import params
from digits.modeling import augmentation

PARAMS = committed_params()
pytestmark = WITH_TENSORFLOW
backend, networks, training = (lazily(f"digits.modeling.{name}") for name in ("backend", "networks", "training"))


def test_shifts_depend_on_the_seed_and_the_epoch_alone() -> None:
    shifts = augmentation.random_shifts(0, 1, 500, 2)
    assert shifts.shape == (500, 2)
    assert set(np.unique(shifts)) == {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(shifts, augmentation.random_shifts(0, 1, 500, 2))
    assert (shifts != augmentation.random_shifts(0, 2, 500, 2)).any()
    assert (shifts != augmentation.random_shifts(1, 1, 500, 2)).any()


def test_each_image_is_shifted_down_and_to_the_right_by_itself(data: tuple[IMAGES, IMAGES]) -> None:
    settings = PARAMS.model("softmax").model_copy(update={"shift": 2, "batch_size": 100})  # the last batch has 35
    images, labels = data
    order = training.random_order(0, 1, len(labels))
    shifts = augmentation.random_shifts(0, 1, len(labels), 2)

    def step(settings: params.ModelSettings, images: IMAGES) -> dict[str, np.ndarray]:
        model = networks.build(settings, seed=0)
        optimizer = training.make_optimizer(settings, 4)
        dataset = training.Dataset(settings, images, labels)
        epoch = training.compile_epoch(networks.to_logits(model), optimizer, settings, dataset)
        epoch(backend.tf.constant(order), backend.tf.constant(shifts), backend.tf.zeros((len(labels), 0)))
        values: dict[str, np.ndarray] = networks.weights(model)
        return values

    moved = np.zeros_like(images)
    for index, (down, right) in zip(order, shifts - 2, strict=True):
        moved[index] = ndimage.shift(images[index], (down, right), order=0)
    assert (moved != images).any(axis=(1, 2)).mean() > 0.9
    expected = step(settings.model_copy(update={"shift": 0}), moved)
    for path, values in step(settings, images).items():
        np.testing.assert_allclose(values, expected[path], atol=1e-7)


def test_a_distortion_takes_each_pixel_from_where_its_transform_points(data: tuple[IMAGES, IMAGES]) -> None:
    distortion = params.DistortionSettings(rotate=30.0, zoom=0.2, shear=0.3)
    settings = PARAMS.model("softmax").model_copy(update={"distortion": distortion, "batch_size": 100})
    images, labels = data
    order, shifts, transforms = training.epoch_inputs(settings, 0, 1, len(labels))

    distorted = np.empty_like(images)
    for index, (a0, a1, a2, b0, b1, b2, *_) in zip(order.numpy(), transforms.numpy(), strict=True):
        # In SciPy, rows come before columns.
        exact = ndimage.affine_transform(
            images[index].astype(float), [[b1, b0], [a1, a0]], (b2, a2), order=1, mode="constant"
        )
        distorted[index] = exact.astype(np.uint8)
    assert (distorted != images).any(axis=(1, 2)).all()

    plain = settings.model_copy(update={"distortion": None})
    results = []
    for each, pixels, moves in ((plain, distorted, backend.tf.zeros((len(labels), 0))), (settings, images, transforms)):
        model = networks.build(each, seed=0)
        optimizer = training.make_optimizer(each, 4)
        dataset = training.Dataset(each, pixels, labels)
        training.compile_epoch(networks.to_logits(model), optimizer, each, dataset)(order, shifts, moves)
        results.append(networks.weights(model))
    for path, values in results[0].items():
        np.testing.assert_allclose(results[1][path], values, atol=2e-5)


def test_transforms_rotate_shear_and_zoom_about_the_centre() -> None:
    rotations = augmentation.random_transforms(0, 1, 1000, params.DistortionSettings(rotate=90.0, zoom=0.0, shear=0.0))
    centre = np.array([13.5, 13.5, 1])
    np.testing.assert_allclose(rotations[:, :3] @ centre, 13.5, atol=1e-5)
    np.testing.assert_allclose(rotations[:, 3:6] @ centre, 13.5, atol=1e-5)
    angles = np.degrees(np.arctan2(rotations[:, 3], rotations[:, 0]))
    assert (angles.min(), angles.max()) == pytest.approx((-90, 90), abs=1)
    np.testing.assert_allclose(rotations[:, 0] ** 2 + rotations[:, 3] ** 2, 1, atol=1e-6)

    limits = params.DistortionSettings(rotate=0.0, zoom=0.2, shear=0.3)
    others = augmentation.random_transforms(0, 1, 1000, limits)
    assert (others[:, 0].min(), others[:, 0].max()) == pytest.approx((0.8, 1.2), abs=0.01)
    shears = others[:, 1] / others[:, 4]
    assert (shears.min(), shears.max()) == pytest.approx((-0.3, 0.3), abs=0.01)
    assert (others != augmentation.random_transforms(0, 2, 1000, limits)).any()

import numpy as np
import pytest
from support import IMAGES

from digits.evaluation import stress


@pytest.fixture(scope="module")
def corrupted(digits: tuple[IMAGES, IMAGES]) -> dict[str, IMAGES]:
    images, labels = (part[:50] for part in digits)
    return {each.name: each.images for each in stress.corrupted(images, labels)}


def mass_centres(images: IMAGES) -> np.ndarray:
    rows, columns = np.mgrid[:28, :28]
    total = images.sum(axis=(1, 2), dtype=np.float64)
    return np.stack([(images * axis).sum(axis=(1, 2)) / total for axis in (rows, columns)], axis=1)


def test_corruptions_are_repeatable_and_keep_shape_and_labels(
    digits: tuple[IMAGES, IMAGES], corrupted: dict[str, IMAGES]
) -> None:
    images, labels = (part[:50] for part in digits)
    again = list(stress.corrupted(images, labels))
    assert [each.name for each in again] == list(corrupted)
    for each in again:
        assert each.images.dtype == np.uint8
        assert each.images.shape == images.shape
        assert np.array_equal(each.images, corrupted[each.name])
        assert np.array_equal(each.labels, labels)
        assert (each.images != images).any(axis=(1, 2)).all(), each.name


@pytest.mark.parametrize("distance", [2, 4])
def test_an_image_moves_along_one_axis(digits: tuple[IMAGES, IMAGES], distance: int) -> None:
    images = np.zeros((40, 28, 28), np.uint8)
    images[:, 10:18, 12:16] = 255
    moved = {each.name: each.images for each in stress.corrupted(images, images[:, 0, 0])}
    steps = mass_centres(moved[f"moved-{distance}"]) - mass_centres(images)
    assert {tuple(step) for step in steps.tolist()} == {(distance, 0), (-distance, 0), (0, distance), (0, -distance)}


@pytest.mark.parametrize("degrees", [15, 30])
def test_an_image_turns_about_its_centre(degrees: int) -> None:
    images = np.zeros((20, 28, 28), np.uint8)
    images[:, 13:15, 4:24] = 255
    turned = {each.name: each.images for each in stress.corrupted(images, images[:, 0, 0])}
    rows, columns = np.mgrid[:28, :28] - 13.5
    for image in turned[f"turned-{degrees}"].astype(float):
        angle = np.degrees(0.5 * np.arctan2(2 * (image * rows * columns).sum(), (image * (columns**2 - rows**2)).sum()))
        assert abs(angle) == pytest.approx(degrees, abs=1)


def test_strokes_grey_levels_and_sharpness_change(digits: tuple[IMAGES, IMAGES], corrupted: dict[str, IMAGES]) -> None:
    images = digits[0][:50].astype(int)
    assert (corrupted["thinner"] <= images).all()
    assert (corrupted["thicker"] >= images).all()
    assert (corrupted["inverted"] == 255 - images).all()
    assert (corrupted["half-contrast"] == images // 2).all()
    assert (corrupted["crossed"] >= images).all()
    assert np.abs(np.diff(corrupted["blurred"].astype(int))).mean() < np.abs(np.diff(images)).mean()
    middle = (images > 100) & (images < 155)
    assert (corrupted["noisy"][middle].astype(int) - images[middle]).std() == pytest.approx(stress.NOISE, rel=0.1)

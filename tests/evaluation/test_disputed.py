import numpy as np
import pytest
from support import ROOT

from digits.core import config
from digits.evaluation.disputed import DisputedImage, DisputedLabels, disputed_errors

LABELS = config.read(ROOT / "data/disputed.yaml", DisputedLabels)
IMAGES = [DisputedImage(index=0, label=8, people=9), DisputedImage(index=2, label=6, people=None)]


def test_the_committed_list_has_fifteen_images_of_which_people_see_another_digit_or_none() -> None:
    assert len({image.index for image in LABELS.images}) == len(LABELS.images) == 15
    assert all(image.people != image.label for image in LABELS.images)
    assert [image.index for image in LABELS.images if image.people is None] == [2654, 3520, 9679]


def test_labels_of_another_data_set_are_not_disputed() -> None:
    labels = np.zeros(10_000, np.uint8)
    labels[[image.index for image in LABELS.images]] = [image.label for image in LABELS.images]
    assert LABELS.of(labels) == LABELS.images
    labels[947] = 3
    assert LABELS.of(labels) == []
    assert LABELS.of(labels[:900]) == []


def test_errors_and_accuracies_are_means_over_the_seeds() -> None:
    labels = np.array([8, 1, 6, 3])
    predicted = np.array([[9, 1, 6, 3], [9, 1, 0, 2]])
    found = disputed_errors(predicted, labels, IMAGES)
    assert (found.images, found.errors, found.people_agree) == (2, 1.5, 1.0)
    assert found.accuracy.values == [0.75, 0.25]
    assert found.accuracy_without.values == [1.0, 0.5]


def test_without_disputed_images_the_accuracies_are_the_same() -> None:
    found = disputed_errors(np.array([[1, 2], [1, 1]]), np.array([1, 1]), [])
    assert (found.images, found.errors) == (0, 0)
    assert found.accuracy == found.accuracy_without
    assert found.accuracy.mean == pytest.approx(0.75)

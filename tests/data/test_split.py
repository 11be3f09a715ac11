import numpy as np
import pytest

from digits.core.errors import UserError
from digits.data.split import stratified_split

LABELS = np.repeat(np.arange(10, dtype=np.uint8), np.arange(40, 240, 20))


def test_the_parts_are_disjoint_and_complete_with_the_given_fraction_of_each_digit() -> None:
    train, validation = stratified_split(LABELS, 0.25, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate((train, validation))), np.arange(len(LABELS)))
    assert len(validation) == len(LABELS) // 4
    np.testing.assert_allclose(np.bincount(LABELS[validation]), np.bincount(LABELS) * 0.25, atol=1)
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()


def test_the_split_depends_on_the_seed_alone() -> None:
    same, again, other = (stratified_split(LABELS, 0.25, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(same, again)
    assert (same != other).any()


def test_too_few_images_of_a_digit_are_reported_in_one_line() -> None:
    with pytest.raises(UserError) as caught:
        stratified_split(np.array([*range(9)] * 2 + [9], np.uint8), 0.25, seed=0)
    counts = "19 images, 1 of the digit 9"
    message = f"preprocess.validation_fraction is 0.25: too few images to split each digit ({counts})"
    assert str(caught.value) == message

import numpy as np
import pytest

from digits.errors import UserError
from digits.splits import stratified

LABELS = np.repeat(np.arange(10, dtype=np.uint8), np.arange(40, 240, 20))


def test_the_parts_are_disjoint_whole_and_of_the_share_asked_for() -> None:
    train, validation = stratified(LABELS, 0.25, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate((train, validation))), np.arange(len(LABELS)))
    assert len(validation) == len(LABELS) // 4
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()


@pytest.mark.parametrize("fraction", [0.1, 0.25])
def test_every_digit_is_split_alike(fraction: float) -> None:
    _, validation = stratified(LABELS, fraction, seed=0)
    counts = np.bincount(LABELS[validation], minlength=10)
    np.testing.assert_allclose(counts, np.bincount(LABELS) * fraction, atol=1)


def test_the_seed_decides() -> None:
    same, again, other = (stratified(LABELS, 0.25, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(same, again)
    assert (same != other).any()


def test_too_few_images_are_one_line() -> None:
    with pytest.raises(UserError, match=r"preprocess.validation_fraction is 0.25, and 10 images"):
        stratified(np.arange(10, dtype=np.uint8), 0.25, seed=0)

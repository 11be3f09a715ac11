import numpy as np
from conftest import IMAGES

from digits.neighbors import nearest_of_each_class


def test_the_nearest_of_each_digit_are_those_of_an_exact_search(digits: tuple[IMAGES, IMAGES]) -> None:
    images, labels = digits
    queries, references, classes = images[:60], images[60:], labels[60:]
    indices, squares = nearest_of_each_class(queries, references, classes)
    differences = queries[:, None].astype(np.int64) - references[None]
    exact = (differences**2).sum(axis=(2, 3))
    for digit in range(10):
        of_digit = np.flatnonzero(classes == digit)
        np.testing.assert_array_equal(squares[:, digit], exact[:, of_digit].min(axis=1))
        assert (classes[indices[:, digit]] == digit).all()
    np.testing.assert_array_equal(exact[np.arange(60)[:, None], indices], squares)


def test_a_digit_without_references_is_marked(digits: tuple[IMAGES, IMAGES]) -> None:
    images, labels = digits
    known = labels != 3
    indices, squares = nearest_of_each_class(images[:5], images[known], labels[known])
    assert (indices[:, 3] == -1).all()
    assert (squares[:, 3] == -1).all()
    assert (np.delete(indices, 3, axis=1) >= 0).all()


def test_opposite_images_are_as_far_as_can_be() -> None:
    black, white = np.zeros((1, 28, 28), np.uint8), np.full((1, 28, 28), 255, np.uint8)
    _, squares = nearest_of_each_class(black, white, np.array([7], np.uint8))
    assert squares[0, 7] == 784 * 255**2

import numpy as np
from support import IMAGES

from digits.evaluation.nearest_images import nearest_of_each_class


def test_the_nearest_images_are_those_of_an_exact_search(digits: tuple[IMAGES, IMAGES]) -> None:
    images, labels = digits
    queries, references, classes = images[:60], images[60:], labels[60:]
    indices, squares = nearest_of_each_class(queries, references, classes)
    exact = np.stack([((query.astype(np.int32) - references) ** 2).sum(axis=(1, 2)) for query in queries])
    for digit in range(10):
        of_digit = np.flatnonzero(classes == digit)
        np.testing.assert_array_equal(squares[:, digit], exact[:, of_digit].min(axis=1))
        assert (classes[indices[:, digit]] == digit).all()
    np.testing.assert_array_equal(exact[np.arange(60)[:, None], indices], squares)


def test_a_digit_without_references_has_index_and_distance_minus_one(digits: tuple[IMAGES, IMAGES]) -> None:
    images, labels = digits
    known = labels != 3
    indices, squares = nearest_of_each_class(images[:5], images[known], labels[known])
    assert (indices[:, 3] == -1).all()
    assert (squares[:, 3] == -1).all()
    assert (np.delete(indices, 3, axis=1) >= 0).all()


def test_the_largest_distance_is_exact() -> None:
    black, white = np.zeros((1, 28, 28), np.uint8), np.full((1, 28, 28), 255, np.uint8)
    _, squares = nearest_of_each_class(black, white, np.array([7], np.uint8))
    assert squares[0, 7] == 784 * 255**2

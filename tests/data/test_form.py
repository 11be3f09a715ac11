"""The form in which MNIST presents a digit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from support import IMAGES

from digits.core.images import MAX_PIXEL, SIDE
from digits.data.form import BOX, CENTRE, to_mnist_form

Ink = NDArray[np.float32]
inks = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=40),
    elements=st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0]),
)


def mean_place(image: IMAGES) -> NDArray[np.float64]:
    """Return the row and the column of the centre of mass."""
    place: NDArray[np.float64] = np.array(np.nonzero(image)) @ image[image > 0] / image.sum()
    return place


def used(image: IMAGES) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows and the columns that have ink."""
    return np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))


@given(inks)
def test_a_digit_fits_the_box(ink: Ink) -> None:
    form = to_mnist_form(ink)
    assert form.shape == (SIDE, SIDE)
    assert all(len(lines) == 0 or lines[-1] - lines[0] < BOX for lines in used(form))


@given(inks, st.tuples(*[st.integers(0, 9)] * 4))
def test_paper_around_a_digit_does_not_matter(ink: Ink, margins: tuple[int, int, int, int]) -> None:
    above, below, left, right = margins
    padded = np.pad(ink, ((above, below), (left, right)))
    assert np.array_equal(to_mnist_form(padded), to_mnist_form(ink))


@given(st.integers(0, 40), st.integers(0, 40))
def test_no_ink_is_an_empty_image(height: int, width: int) -> None:
    assert not to_mnist_form(np.zeros((height, width), np.float32)).any()


@given(
    arrays.arrays(np.uint8, (BOX, 15), elements=st.integers(1, MAX_PIXEL)),
    st.integers(0, SIDE - BOX),
    st.integers(0, SIDE - 15),
)
def test_a_digit_in_that_form_stays_itself(digit: IMAGES, above: int, left: int) -> None:
    image = np.pad(digit, ((above, SIDE - BOX - above), (left, SIDE - 15 - left)))
    form = to_mnist_form(image / MAX_PIXEL)
    rows, columns = used(form)
    assert np.array_equal(form[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], digit)
    assert np.array_equal(to_mnist_form(form / MAX_PIXEL), form)
    is_free = [lines[0] > 0 and lines[-1] < SIDE - 1 for lines in (rows, columns)]  # not moved back inside of the image
    assert np.abs(mean_place(form) - CENTRE)[is_free].max(initial=0) <= 1 / 2 + 1e-6


def test_an_enlarged_digit_is_the_same(digits: tuple[IMAGES, IMAGES]) -> None:
    for image in digits[0][:50]:
        enlarged = np.kron(image, np.ones((3, 3))) / MAX_PIXEL
        difference = to_mnist_form(enlarged).astype(int) - to_mnist_form(image / MAX_PIXEL)
        assert np.abs(difference).max() <= 1  # rounding


def test_a_wide_digit_keeps_its_proportions() -> None:
    form = to_mnist_form(np.ones((30, 60)))
    rows, columns = used(form)
    assert (len(rows), len(columns)) == (10, 20)
    assert set(form[rows][:, columns].ravel()) == {MAX_PIXEL}


def test_a_dot_far_away_keeps_the_digit_inside_of_the_image() -> None:
    ink = np.zeros((100, 100))
    ink[:20, :20] = 1
    ink[99, 99] = 1
    form = to_mnist_form(ink)
    assert form[-1].any() or form[:, -1].any()
    assert form.sum() > 15 * MAX_PIXEL

import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import idx_bytes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from digits import idx
from digits.errors import UserError


@given(
    arrays(np.uint8, st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)),
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(idx_bytes(array))
    read = idx.read(path, array.ndim)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


@given(content=st.binary(max_size=64), dimensions=st.integers(1, 4))
def test_any_bytes_are_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, dimensions: int
) -> None:
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(content)
    try:
        idx.read(path, dimensions)
    except UserError as error:
        assert str(error).startswith(str(path))
        assert "\n" not in str(error)


GOOD = idx_bytes(np.zeros((2, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes, where the IDX header alone takes 16"),
        (b"\x1f\x8b" + GOOD[2:], "starts with the bytes 1f8b, where an IDX file starts with 0000"),
        (GOOD[:2] + b"\xfd" + GOOD[3:], "type 0xfd"),
        (GOOD[:3] + b"\xff" + GOOD[4:], "255 dimensions, where 3"),
        (GOOD[:-1], "1583 bytes, where its header (2, 28, 28) makes 1584"),
        (GOOD + b"\0", "1585 bytes, where its header (2, 28, 28) makes 1584"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 2**31), "makes 9903520314283042199192993808"),
        (idx_bytes(np.zeros((0, 28, 28), np.uint8)), "its header (0, 28, 28) makes no values at all"),
        (idx_bytes(np.zeros((2, 14, 56), np.uint8)), "images of 14x56 pixels, where 28x28"),
    ],
)
def test_images_are_checked(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"images: ") as caught:
        idx.read_images(path)
    assert reason in str(caught.value)


def test_labels_are_digits(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(idx_bytes(np.array([0, 9, 10], np.uint8)))
    with pytest.raises(UserError, match="label 10 at index 2, where 0 to 9 are allowed"):
        idx.read_labels(path)


def test_images_and_labels_are_as_many(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(GOOD)
    labels.write_bytes(idx_bytes(np.zeros(3, np.uint8)))
    with pytest.raises(UserError, match=r"2 images, .* 3 labels"):
        idx.read_pair(images, labels)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read .*dvc repro"):
        idx.read(tmp_path / "none", 1)

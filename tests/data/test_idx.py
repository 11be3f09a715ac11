import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import idx_bytes

from digits.core.errors import UserError
from digits.data import idx


@given(arrays(np.uint8, st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)))
def test_an_array_is_read_back_unchanged(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(idx_bytes(array))
    read = idx.read(path, array.ndim)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


GOOD = idx_bytes(np.zeros((2, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has 0 bytes; the IDX header alone has 16"),
        (b"\x1f\x8b" + GOOD[2:], "starts with the bytes 1f8b; an IDX file starts with 0000"),
        (GOOD[:2] + b"\xfd" + GOOD[3:], "has values of type 0xfd; expected unsigned bytes (0x08)"),
        (GOOD[:3] + b"\xff" + GOOD[4:], "has 255 dimensions; expected 3"),
        (GOOD[:-1], "has 1583 bytes; its header (2, 28, 28) requires 1584"),
        (GOOD + b"\0", "has 1585 bytes; its header (2, 28, 28) requires 1584"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 2**31), "requires 9903520314283042199192993808"),
        (idx_bytes(np.zeros((0, 28, 28), np.uint8)), "its header (0, 28, 28) describes an empty array"),
        (idx_bytes(np.zeros((2, 14, 56), np.uint8)), "has images of 14x56 pixels; expected 28x28"),
    ],
)
def test_a_bad_image_file_is_rejected_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"images: ") as caught:
        idx.read_images(path)
    assert reason in str(caught.value)


def test_a_label_above_nine_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(idx_bytes(np.array([0, 9, 10], np.uint8)))
    with pytest.raises(UserError, match="has the label 10 at index 2; labels are 0 to 9"):
        idx.read_labels(path)


def test_a_pair_is_images_and_as_many_labels(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(GOOD)
    labels.write_bytes(idx_bytes(np.array([3, 9], np.uint8)))
    pictures, digits = idx.read_pair(images, labels)
    assert pictures.shape == (2, 28, 28)
    assert digits.tolist() == [3, 9]
    labels.write_bytes(idx_bytes(np.zeros(3, np.uint8)))
    with pytest.raises(UserError, match=r"has 2 images, but .* has 3 labels"):
        idx.read_pair(images, labels)


def test_a_missing_file_is_reported_with_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read .*dvc repro"):
        idx.read(tmp_path / "none", 1)

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import IMAGES
from matplotlib.image import imread

from digits import figures

CURVE = ([1, 2, 3], [0.9, 0.95, 1.0])

DRAWINGS: dict[str, Callable[[IMAGES, IMAGES, Path], None]] = {
    "samples": lambda images, labels, path: figures.sample_grid(images, labels, 5, path),
    "few samples": lambda images, labels, path: figures.sample_grid(images[:3], labels[:3], 5, path),
    "normalization": lambda images, labels, path: figures.normalization(images[0], int(labels[0]), path),
    "mistakes": lambda images, labels, path: figures.mistakes([(images[0], 0, 6, 0.987)] * 7, "Seven", path),
    "no mistakes": lambda images, labels, path: figures.mistakes([], "None", path),
    "curves": lambda images, labels, path: figures.accuracy_and_loss({"a": CURVE}, {"a": CURVE}, "Curves", path),
    "one epoch": lambda images, labels, path: figures.accuracy_and_loss(
        {"a": ([1], [0.9])}, {"a": ([1], [0.3])}, "Point", path
    ),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_is_opaque_not_blank_and_the_same_bytes_each_time(
    name: str, digits: tuple[IMAGES, IMAGES], tmp_path: Path
) -> None:
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    for path in (first, second):
        DRAWINGS[name](*digits, path)
    assert first.read_bytes() == second.read_bytes()
    pixels = imread(first)
    assert (pixels[..., 3] == 1).all()
    assert np.unique(pixels[..., :3].reshape(-1, 3), axis=0).shape[0] > 10


@pytest.mark.parametrize(("share", "text"), [(0.9, "90 %"), (0.995, "99.5 %"), (0.98765, "98.8 %"), (1, "100 %")])
def test_percent(share: float, text: str) -> None:
    assert figures.percent(share) == text

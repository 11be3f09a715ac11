from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from support import IMAGES

from digits import plots

CURVE = pd.DataFrame(
    {"accuracy": [0.9, 0.95, 1.0], "accuracy_std": [0.02, 0.01, 0], "loss": [0.5, 0.2, 0.1], "loss_std": [0.1, 0.2, 0]},
    index=[1, 2, 3],
)
ONE_SEED = CURVE.assign(accuracy_std=np.nan, loss_std=np.nan)
MISTAKE = {"label": 0, "answer": 6, "seeds_wrong": 4, "probability_answer": 0.987, "disputed": 0}

DRAWINGS: dict[str, Callable[[IMAGES, IMAGES, Path], None]] = {
    "samples": lambda images, labels, path: plots.sample_grid(images, labels, 5, path),
    "few samples": lambda images, labels, path: plots.sample_grid(images[:3], labels[:3], 5, path),
    "normalization": lambda images, labels, path: plots.normalization(images[0], int(labels[0]), path),
    "mistakes": lambda images, labels, path: plots.mistakes(
        images[:7], pd.DataFrame([MISTAKE] * 7), 5, "Seven\nof several seeds", path
    ),
    "no mistakes": lambda images, labels, path: plots.mistakes(
        images[:0], pd.DataFrame([MISTAKE]).head(0), 5, "None", path
    ),
    "disputed mistakes": lambda images, labels, path: plots.mistakes(
        images[:7], pd.DataFrame([MISTAKE | {"disputed": 1}] * 7), 5, "Disputed", path
    ),
    "risk and coverage": lambda images, labels, path: plots.risk_coverage(
        {"a": (np.linspace(0.01, 1, 100), np.linspace(0, 0.1, 100)), "b": (np.array([1.0]), np.array([0.0]))},
        {"a": (0.5, 0.05)},
        "Risk",
        path,
    ),
    "evaluation sets": lambda images, labels, path: plots.evaluation_sets(
        {str(index): images[index] for index in range(7)},
        {str(index): {"a": plots.Bar(0.9, 0.01, 0.95), "b": plots.Bar(1.0, None, None)} for index in range(7)},
        "Evaluation sets",
        path,
    ),
    "curves": lambda images, labels, path: plots.accuracy_and_loss(
        {"a": CURVE, "b": CURVE / 2}, "Curves", path, "test"
    ),
    "curves of one seed": lambda images, labels, path: plots.accuracy_and_loss({"a": ONE_SEED}, "Curve", path),
    "one epoch": lambda images, labels, path: plots.accuracy_and_loss({"a": CURVE.head(1)}, "Point", path),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_plot_is_opaque_and_not_blank(name: str, digits: tuple[IMAGES, IMAGES], tmp_path: Path) -> None:
    DRAWINGS[name](*digits, tmp_path / "a.png")
    pixels = imread(tmp_path / "a.png")
    assert (pixels[..., 3] == 1).all()
    assert np.unique(pixels[..., :3].reshape(-1, 3), axis=0).shape[0] > 10


def test_a_band_shows_the_standard_deviation_over_the_seeds(tmp_path: Path) -> None:
    pixels = []
    for name, curve in (("spread", CURVE), ("one seed", ONE_SEED)):
        plots.accuracy_and_loss({"a": curve}, "Curve", tmp_path / f"{name}.png")
        pixels.append(imread(tmp_path / f"{name}.png")[..., :3])
    # The colour of the line, at 20 % on white.
    light = 1 - 0.2 * (1 - np.array([0x00, 0x72, 0xB2]) / 255)
    shares = [(np.abs(each - light).max(axis=2) < 0.02).mean() for each in pixels]
    assert shares[0] > 0.01
    assert shares[1] < 0.001


@pytest.mark.parametrize(
    ("epochs", "ticks"),
    [
        ([1], ["1"]),
        ([1, 2], ["1", "2"]),
        ([1, 2, 3, 4, 5, 6], ["1", "2", "3", "4", "5", "6"]),
        (list(range(1, 31)), ["1", "5", "10", "15", "20", "25", "30"]),
        ([5, 10, 32], ["5", "10", "15", "20", "25", "32"]),
        ([1, 10_000], ["1", "2,000", "4,000", "6,000", "8,000", "10,000"]),
    ],
)
def test_the_axes_of_epochs_have_ticks_at_the_first_and_the_last_epoch(
    epochs: list[int], ticks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    curve = CURVE.iloc[:1].reindex(epochs, method="nearest")
    plots.accuracy_and_loss({"a": curve}, "Curve", Path())
    for axis in figures[0].axes:
        assert [label.get_text() for label in axis.get_xticklabels()] == ticks
        assert "logarithm" in axis.get_ylabel()

"""Figures: PNG files on a ground of their own, so that they read alike on light and dark pages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from digits.files import replacing
from digits.idx import CLASSES, SIDE

Images = NDArray[np.uint8]

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
ERROR_TICKS = (0.5, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.04, 0.03, 0.02, 0.015, 0.01, 0.007, 0.005, 0.003, 0.002, 0.001)
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib: the same on every machine
    "font.size": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.facecolor": "white",
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "grid.color": "#e5e5e5",
    "image.cmap": "gray_r",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
DOTS = 110  # per inch


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whose bytes depend on the figure and on Matplotlib's version alone."""
    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DOTS, metadata={"Software": None})


def sample_grid(images: Images, labels: NDArray[np.uint8], columns: int, path: Path) -> None:
    """Draw the first images of each digit, a digit a row.

    Args:
        images: (n, 28, 28).
        labels: (n,).
        columns: how many of each digit.
        path: the PNG.
    """
    gap = 2
    rows = [images[labels == digit][:columns] for digit in range(CLASSES)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(columns * 0.62 + 0.9, 7.3))
        axis = figure.add_axes((0.1, 0.02, 0.88, 0.9))
        _tile(axis, rows, columns, gap, gap)
        for digit in range(CLASSES):
            axis.text(-8, digit * (SIDE + gap) + SIDE / 2, str(digit), va="center", ha="right", fontsize=13)
        figure.suptitle(f"The first {columns} training images of each digit")
        save(figure, path)


def _tile(axis: Axes, rows: Sequence[Images], columns: int, right: int, below: int) -> None:
    """Draw rows of images (at most `columns`, 28, 28) as one picture, with as many blank pixels between them.

    One picture of many images is drawn in a tenth of the time of many pictures.
    """
    canvas = np.zeros((len(rows), SIDE + below, columns, SIDE + right), np.uint8)
    for line, row in enumerate(rows):
        canvas[line, :SIDE, : len(row), :SIDE] = row.swapaxes(0, 1)
    height, width = len(rows) * (SIDE + below), columns * (SIDE + right)
    axis.imshow(
        canvas.reshape(height, width)[: height - below, : width - right], vmin=0, vmax=255, interpolation="nearest"
    )
    axis.axis("off")


def normalization(image: Images, label: int, path: Path) -> None:
    """Draw one image (28, 28) before and after its pixels are scaled from 0..255 to 0..1, with its grey levels."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 6.2), layout="constrained")
        grid = figure.subplots(2, 2, height_ratios=(1.7, 1))
        versions: list[tuple[str, NDArray[Any], float]] = [
            ("Before: 0 to 255", image, 255.0),
            ("After: 0 to 1", image / 255.0, 1.0),
        ]
        for column, (title, pixels, white) in enumerate(versions):
            picture, counts = grid[0][column], grid[1][column]
            shown = picture.imshow(pixels, vmin=0, vmax=white)
            picture.set(title=title, xlabel="column (pixels)", ylabel="row (pixels)")
            picture.grid(visible=False)
            figure.colorbar(shown, ax=picture, label="pixel value")
            counts.hist(pixels.ravel(), bins=32, range=(0, white), color=COLORS[0])
            counts.set(yscale="log", xlabel="pixel value", ylabel="pixels")
        figure.suptitle(f"A digit {label} before and after normalization: the same picture on another scale")
        save(figure, path)


def mistakes(rows: Sequence[tuple[Images, int, int, float]], title: str, path: Path) -> None:
    """Draw misclassified images, each as (image (28, 28), label, prediction, probability of the prediction)."""
    columns, right, above = 6, 10, 13  # pixels beside each image, and above it for two lines of text
    lines = max(1, -(-len(rows) // columns))
    images = np.array([image for image, *_ in rows], np.uint8).reshape(-1, SIDE, SIDE)
    width, height = columns * (SIDE + right), lines * (SIDE + above)  # of all, in pixels of the images
    with mpl.rc_context(STYLE):
        size = (8.7, 8.7 * height / width + 0.6)
        figure = Figure(figsize=size)
        axis = figure.add_axes((0.04, 0.02, 0.92, 1 - 0.6 / size[1]))
        _tile(
            axis,
            [images[start : start + columns] for start in range(0, lines * columns, columns)],
            columns,
            right,
            above,
        )
        axis.set(xlim=(-right / 2, width - right / 2), ylim=(height - above, -above))
        for index, (_, label, predicted, probability) in enumerate(rows):
            line, column = divmod(index, columns)
            place = column * (SIDE + right) + SIDE / 2, line * (SIDE + above) - 1.5
            axis.text(
                *place, f"{label} read as {predicted}\nat {percent(probability)}", va="bottom", ha="center", fontsize=9
            )
        figure.suptitle(title)
        save(figure, path)


Series = Mapping[str, tuple[Sequence[int], Sequence[float]]]  # name: epochs, values


def accuracy_and_loss(accuracy: Series, loss: Series, title: str, path: Path, split: str = "") -> None:
    """Draw accuracy beside loss against epochs, a line a series, the same colour in both.

    The accuracy axis is spaced by the logarithm of the error, so that 99.0 % and 99.3 % stand as far apart as 90 % and
    93 %; the loss axis is logarithmic.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for index, name in enumerate(accuracy):
            style = {"color": COLORS[index % len(COLORS)], "label": name}
            epochs, values = accuracy[name]
            marker = "o" if len(epochs) == 1 else None  # a line of one point is invisible
            left.plot(epochs, [max(1 - value, ERROR_TICKS[-1] / 2) for value in values], marker=marker, **style)
            right.plot(*loss[name], marker=marker, **style)
        for axis in (left, right):
            low, high = axis.dataLim.intervaly
            if low == high:  # a single point: an axis without extent has no ticks
                axis.set_ylim(low / 2, high * 2)
        _error_axis(left)
        left.set(title=f"{split} accuracy".strip().capitalize(), xlabel="epochs", ylabel="accuracy")
        right.set(title=f"{split} loss".strip().capitalize(), xlabel="epochs", ylabel="cross-entropy (nats)")
        right.set_yscale("log")
        right.yaxis.set_major_locator(FixedLocator([m * 10.0**e for e in range(-5, 3) for m in (1, 1.5, 2, 3, 5, 7)]))
        right.yaxis.set_minor_locator(NullLocator())
        right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        for axis in (left, right):
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        figure.suptitle(title)
        save(figure, path)


def _error_axis(axis: Axes) -> None:
    """Give an axis that holds error rates the labels of accuracies, the better ones up."""
    axis.set_yscale("log")
    axis.invert_yaxis()
    axis.yaxis.set_major_locator(FixedLocator(ERROR_TICKS))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(1 - value)))


def percent(share: float) -> str:
    """Return a share as a percentage with at most one decimal place, as in "99.5 %" and "90 %"."""
    return f"{round(share * 100, 1):g} %"

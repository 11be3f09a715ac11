"""Figures as PNG files, on a white background, so that they are legible on light and dark pages."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray
from PIL import Image

from digits.core.artifacts import atomic_write
from digits.core.formatting import percent
from digits.core.images import CLASSES, SIDE

if TYPE_CHECKING:
    import pandas as pd

Images = NDArray[np.uint8]

# The palette of Okabe and Ito, whose colours colour-blind readers can distinguish.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
ERROR_TICKS = (0.5, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.04, 0.03, 0.02, 0.015, 0.01, 0.007, 0.005, 0.003, 0.002, 0.001)
STYLE: Any = {
    "font.family": "DejaVu Sans",  # part of Matplotlib, so that it is the same on every machine
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
DPI = 100
PALETTE = 64  # colours of a file


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file whose bytes depend on the figure and the versions of the libraries alone.

    A palette takes a third of the bytes of full colour, which counts because Git keeps every version of a figure.
    """
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI)
    pixels = Image.open(buffer).convert("RGB")
    with atomic_write(path) as temporary:
        pixels.quantize(PALETTE, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(temporary, optimize=True)


def sample_grid(images: Images, labels: NDArray[np.uint8], columns: int, path: Path) -> None:
    """Draw the first images of each digit, one digit per row.

    Args:
        images: (n, 28, 28).
        labels: (n,).
        columns: the number of images of each digit.
        path: the PNG file.
    """
    gap, scale = 2, 2  # pixels between images, and pixels of the file for each pixel of an image
    left, head, margin = 60, 44, 15
    rows = [images[labels == digit][:columns] for digit in range(CLASSES)]
    width, height = (scale * (count * (SIDE + gap) - gap) for count in (columns, CLASSES))
    total = left + width + margin, head + height + margin
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(total[0] / DPI, total[1] / DPI))
        axis = figure.add_axes((left / total[0], margin / total[1], width / total[0], height / total[1]))
        _tile(axis, rows, columns, gap, gap)
        for digit in range(CLASSES):
            axis.text(-8, digit * (SIDE + gap) + SIDE / 2, str(digit), va="center", ha="right", fontsize=13)
        figure.suptitle(f"The first {columns:,} training images of each digit", y=1 - 12 / total[1])
        save(figure, path)


def _tile(axis: Axes, rows: Sequence[Images], columns: int, right: int, below: int) -> None:
    """Draw rows of images (at most `columns`, 28, 28) as one picture, with blank pixels to the right and below each.

    One large picture takes a tenth of the time of many small ones.
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
    """Draw an image (28, 28) and its grey levels before and after its pixels are scaled from 0..255 to 0..1."""
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
            counts.set(yscale="log", xlabel="pixel value", ylabel="pixels (logarithmic)")
        figure.suptitle(f"A digit {label} before and after normalization: the same picture on another scale")
        save(figure, path)


def mistakes(images: Images, table: "pd.DataFrame", seeds: int, title: str, path: Path) -> None:
    """Draw misclassified images.

    Args:
        images: (n, 28, 28).
        table: n rows with the columns label, answer, seeds_wrong, probability_answer and disputed.
        seeds: the number of seeds.
        title: the title.
        path: the PNG file.
    """
    columns, right, above = 6, 12, 13  # pixels to the right of each image, and above it for two lines of text
    lines = max(1, -(-len(images) // columns))
    width, height = columns * (SIDE + right), lines * (SIDE + above)  # of the whole picture, in pixels of the images
    scale, margin = 3, 15  # pixels of the file for each of these; a whole number makes the file half as large
    head = 18 * (title.count("\n") + 1) + 22
    total = scale * width + 2 * margin, scale * height + head + margin
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(total[0] / DPI, total[1] / DPI))
        axis = figure.add_axes(
            (margin / total[0], margin / total[1], scale * width / total[0], scale * height / total[1])
        )
        _tile(
            axis,
            [images[start : start + columns] for start in range(0, lines * columns, columns)],
            columns,
            right,
            above,
        )
        axis.set(xlim=(-right / 2, width - right / 2), ylim=(height - above, -above))
        for index, row in enumerate(table.to_dict("records")):
            line, column = divmod(index, columns)
            probability = percent(row["probability_answer"], 1)
            by = f"at {probability}" if seeds == 1 else f"by {row['seeds_wrong']} of {seeds}, {probability}"
            x, y = column * (SIDE + right) + SIDE / 2, line * (SIDE + above) - 1.5
            label, color = (f"{row['label']}*", COLORS[1]) if row["disputed"] else (row["label"], "black")
            text = f"{label} read as {row['answer']}\n{by}"
            axis.text(x, y, text, va="bottom", ha="center", fontsize=8, color=color)
        figure.suptitle(title, fontsize=10.5, y=1 - 12 / total[1])
        save(figure, path)


def risk_coverage(
    curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    marks: Mapping[str, tuple[float, float]],
    title: str,
    path: Path,
) -> None:
    """Draw the share of wrong answers against the share of images answered, with a line for each variant.

    Args:
        curves: coverage and risk by variant, as `evaluation.selective.risk_coverage` returns them.
        marks: a point of a curve by variant: where the variant stops to answer.
        title: the title.
        path: the PNG file.
    """
    lowest = 1e-4  # zero has no logarithm
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 4.8), layout="constrained")
        axis = figure.subplots()
        for index, (name, (coverage, risk)) in enumerate(curves.items()):
            color = COLORS[index % len(COLORS)]
            axis.plot(coverage, np.maximum(risk, lowest), label=name, color=color)
            if name in marks:
                x, y = marks[name]
                style: Any = {"color": color, "markersize": 9, "markeredgecolor": "white"}
                axis.plot([x], [max(y, lowest)], "o", clip_on=False, zorder=5, **style)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(FixedLocator([lowest, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1]))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value, 2, trim=True)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value, 0)))
        axis.set(xlim=(0, 1), ylim=(lowest, None), xlabel="coverage: share of the images answered")
        axis.set_ylabel("risk: share of the answers that are wrong (logarithmic)")
        axis.legend(loc="upper left")
        figure.suptitle(title)
        save(figure, path)


class Bar(NamedTuple):
    """An accuracy, its standard deviation over the seeds, and the accuracy expected from the validation images."""

    mean: float
    std: float | None
    expected: float | None


def evaluation_sets(
    examples: Mapping[str, Images], accuracies: Mapping[str, Mapping[str, Bar]], title: str, path: Path
) -> None:
    """Draw the accuracy of each variant on several evaluation sets, with an example of each above its bars.

    Args:
        examples: an image (28, 28) by evaluation set.
        accuracies: by evaluation set and variant.
        title: the title.
        path: the PNG file.
    """
    columns = 5
    lines = -(-len(examples) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 2.75 * lines + 0.7), layout="constrained")
        grid = figure.subplots(2 * lines, columns, height_ratios=(1, 1.7) * lines, squeeze=False)
        for axis in grid.ravel():
            axis.axis("off")
        for index, (name, example) in enumerate(examples.items()):
            line, column = divmod(index, columns)
            picture, bars = grid[2 * line][column], grid[2 * line + 1][column]
            picture.imshow(example, vmin=0, vmax=255, interpolation="nearest")
            picture.set_title(name, fontsize=10)
            picture.axis("on")  # a frame, which shows where the digit is
            picture.set(xticks=(), yticks=())
            picture.spines[:].set(visible=True, color="#bbbbbb")
            bars.axis("on")
            bars.grid(visible=False)
            for row, bar in enumerate(accuracies[name].values()):
                bars.barh(row, bar.mean, xerr=bar.std, color=COLORS[row % len(COLORS)], error_kw={"linewidth": 1})
                bars.text(1.04, row, percent(bar.mean, 1), va="center", fontsize=8)
                if bar.expected is not None:
                    bars.plot([bar.expected] * 2, [row - 0.45, row + 0.45], color="black", linewidth=1.2)
            bars.set(xlim=(0, 1), xticks=(0, 0.5, 1), ylim=(len(accuracies[name]) - 0.4, -0.6))
            bars.set_xticklabels(("0", "50 %", "100 %"), fontsize=8)
            bars.set_yticks(range(len(accuracies[name])), list(accuracies[name]), fontsize=8)
        figure.suptitle(title)
        figure.supxlabel("accuracy", fontsize=10)
        save(figure, path)


def accuracy_and_loss(curves: Mapping[str, "pd.DataFrame"], title: str, path: Path, split: str = "") -> None:
    """Draw accuracy beside loss against epochs, with a line for each curve, in the same colour in both.

    A band shows one standard deviation over the seeds on both sides of the mean. The accuracy axis is spaced by the
    logarithm of the error, so that 99.0 % and 99.3 % are as far apart as 90 % and 93 %; the loss axis is logarithmic.

    Args:
        curves: tables by name, as `evaluation.curves.over_seeds` returns them.
        title: the title.
        path: the PNG file.
        split: the split that all curves are of, for the titles of the axes.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for index, (name, curve) in enumerate(curves.items()):
            marker = "o" if len(curve) == 1 else None  # a line with a single point is invisible
            style: Any = {"color": COLORS[index % len(COLORS)], "label": name, "marker": marker}
            _line_with_band(left, curve.index, 1 - curve["accuracy"], curve["accuracy_std"], style)
            _line_with_band(right, curve.index, curve["loss"], curve["loss_std"], style)
        for axis in (left, right):
            low, high = axis.dataLim.intervaly
            if low == high:  # a single point: an axis without extent has no ticks
                axis.set_ylim(low / 2, high * 2)
        _error_axis(left)
        left.set(title=f"{split} accuracy".strip().capitalize(), ylabel="accuracy (scale: logarithm of the error)")
        right.set(title=f"{split} loss".strip().capitalize(), ylabel="cross-entropy (nats, logarithmic)")
        right.set_yscale("log")
        right.yaxis.set_major_locator(FixedLocator([m * 10.0**e for e in range(-5, 3) for m in (1, 1.5, 2, 3, 5, 7)]))
        right.yaxis.set_minor_locator(NullLocator())
        right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        epochs = np.concatenate([curve.index for curve in curves.values()])
        ticks = _epoch_ticks(int(epochs.min()), int(epochs.max()))
        for axis in (left, right):
            axis.set_xlabel("epochs")
            axis.xaxis.set_major_locator(FixedLocator(ticks))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        figure.suptitle(title)
        save(figure, path)


def _epoch_ticks(first: int, last: int) -> list[int]:
    """Return the first and the last epoch, and round numbers between them that are not too close to either."""
    inner = [int(tick) for tick in MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]).tick_values(first, last)]
    near = (inner[1] - inner[0]) / 2
    return sorted({first, last, *(tick for tick in inner if first + near < tick < last - near)})


def _line_with_band(
    axis: Axes, epochs: "pd.Index[int]", mean: "pd.Series[float]", std: "pd.Series[float]", style: Mapping[str, Any]
) -> None:
    """Draw means on a logarithmic axis, with a band of one standard deviation on both sides."""
    lowest = ERROR_TICKS[-1] / 2  # zero has no logarithm
    axis.plot(epochs, np.maximum(mean, lowest), **style)
    low, high = (np.maximum(mean + sign * std, lowest) for sign in (-1, 1))
    axis.fill_between(epochs, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _error_axis(axis: Axes) -> None:
    """Label an axis of error rates with accuracies, the higher ones at the top."""
    axis.set_yscale("log")
    axis.invert_yaxis()
    axis.yaxis.set_major_locator(FixedLocator(ERROR_TICKS))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(1 - value, 1, trim=True)))

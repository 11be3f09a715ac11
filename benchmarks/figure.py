"""The figure of section scaling."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from report import scaling_lines

from digits.plots import COLORS, STYLE, save


def draw_scaling(section: dict[str, Any], path: Path) -> None:
    """Draw seconds against epochs, images and hidden units, each with its least-squares line."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 3.9), layout="constrained")
        for axis, line in zip(figure.subplots(1, 3), scaling_lines(section), strict=True):
            ends = (0, max(line.sizes))
            axis.plot(ends, [line.value(end) for end in ends], color=COLORS[1], label="least-squares line")
            axis.plot(line.sizes, line.seconds, "o", color=COLORS[0], markersize=5, label="measured")
            axis.set(title=line.title, xlabel=line.unit, ylabel=line.quantity)
            axis.set_ylim(bottom=0)
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axis.locator_params(axis="x", nbins=5)
        figure.axes[0].legend(loc="upper left")
        figure.suptitle("mlp128: training time against size")
        save(figure, path)

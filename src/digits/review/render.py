"""A review as an HTML page, as Markdown for a pull request and as text for a terminal."""

import base64
import functools
import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from digits.core import formatting
from digits.core.artifacts import read_arrays, write_text
from digits.core.images import MAX_PIXEL
from digits.evaluation.comparison import Outcome, Verdict
from digits.evaluation.statistics import Spread
from digits.review.report import Chart, Review

REPLACED = "\N{REPLACEMENT CHARACTER}"
MAX_LENGTH = 300  # characters of a value
# Punctuation that means nothing inside a line of Markdown. The rest becomes an HTML entity.
PLAIN = frozenset(" .,:;-+/%()='?!@#^")
# GitHub makes a mention of @name, a link of http://…, www.… and #1, and a picture of :name:, even from an entity.
ACTIVE = re.compile(r"(?=@)|(?<=[@#:])(?=\S)|(?<=www)(?=\.)|(?<=GH)(?=-)", re.IGNORECASE)
UNFOLDED = 12  # of them on the page; the others are folded
MAX_SHOWN = 30  # images of a variant that more seeds misclassify, and that fewer do
Images = NDArray[np.uint8]


@dataclass(frozen=True)
class AccuracyChart:
    """The test accuracy of a variant on both sides, in percent, at the epochs that both have."""

    variant: str
    base: list[float]
    head: list[float]
    epochs: list[int]


def write(review: Review, folder: Path, test: Path) -> None:
    """Write `index.html` and `index.md`.

    Args:
        review: the review.
        folder: the folder for the two files.
        test: the test images, `test.npz`. If the file is missing or is not the one that the models were evaluated on,
            the page lists the images by index only.
    """
    images = None
    if test.is_file() and hashlib.md5(test.read_bytes(), usedforsecurity=False).hexdigest() == review.test_md5:
        images = read_arrays(test)["images"]
    write_text(folder / "index.html", html(review, images))
    write_text(folder / "index.md", markdown(review))


def html(review: Review, images: Images | None) -> str:
    """Return a review as one HTML file that loads nothing from the network.

    Args:
        review: the review.
        images: the test images, (n, 28, 28); None to list them by index only.
    """
    pictures = [(path, sides) for path, sides in review.pictures.items() if any(sides)]
    return _template("review.html").render(
        review=review,
        thumbnails=_thumbnails(review, images),
        max_shown=MAX_SHOWN,
        unfolded=UNFOLDED,
        changed=[(chart, _svg(chart)) for chart in review.charts if chart.changed],
        unchanged=[(chart, _svg(chart)) for chart in review.charts if not chart.changed],
        pictures=[(path, *map(_data_url, sides)) for path, sides in pictures if sides.base != sides.head],
        same_pictures=[(path, _data_url(sides.head)) for path, sides in pictures if sides.base == sides.head],
    )


def markdown(review: Review) -> str:
    """Return a review as Markdown for GitHub: tables and Mermaid charts, no image that would need a host."""
    text = _template("review.md").render(review=review, charts=_accuracy_charts(review), max_shown=MAX_SHOWN)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def clean(value: object) -> str:
    """Return a value as one line of printable characters, shortened if it is long."""
    text = str(value)
    if len(text) > MAX_LENGTH:
        text = f"{text[:MAX_LENGTH]}…"
    kept = "\N{NO-BREAK SPACE}"  # which is not printable for Python
    text = "".join(char if char.isprintable() or char in kept else " " if char.isspace() else REPLACED for char in text)
    return text.strip(" ")


def escape_markdown(value: object) -> Markup:
    """Return a value as Markdown that shows it as it is: no markup, cell border, mention or link begins in it."""
    if isinstance(value, Markup):
        return value
    text = ACTIVE.sub("\N{ZERO WIDTH SPACE}", clean(value))
    return Markup(  # noqa: S704
        "".join(c if c.isalnum() or c in PLAIN or not c.isascii() else f"&#{ord(c)};" for c in text)
    )


def escape_html(value: object) -> Markup:
    """Return a value as HTML that shows it as it is."""
    return value if isinstance(value, Markup) else escape(clean(value))


def summary(review: Review) -> str:
    """Return a review in a few lines for a terminal."""
    lines = [f"{clean(review.head.name)} against {clean(review.base.name)}"]
    for name, verdict in review.verdicts.items():
        before, after = (formatting.percent_spread(side.mean, side.std) for side in (verdict.base, verdict.head))
        lines.append(f"  {clean(name)}: {verdict}; {before} to {after}")
        if verdict.outcome is not Outcome.SAME:
            lines[-1] += (
                f", difference {formatting.points(verdict.difference)} points ({interval(verdict)}), "
                f"{formatting.points(verdict.detectable, sign=False)} points would be found four times in five"
            )
    lines.extend(f"  note ({note.effect}): {clean(note.text)}" for note in review.notes)
    for side, reasons in review.stale.items():
        lines.append(f"  DVC finds in '{clean(side)}':")
        lines.extend(f"    {clean(reason)}" for reason in reasons)
    return "\n".join(lines)


def interval(verdict: Verdict) -> str:
    """Return the interval of a difference, in percentage points."""
    return " to ".join(formatting.points(end) for end in verdict.interval)


def accuracy(side: Spread) -> str:
    """Return a mean accuracy and its standard deviation, which a line break does not split."""
    return formatting.percent_spread(side.mean, side.std).replace(" ", "\N{NO-BREAK SPACE}")


def percent(share: float) -> str:
    """Return a share as a percentage that a line break does not split."""
    return formatting.percent(share).replace(" ", "\N{NO-BREAK SPACE}")


def p_value(value: float) -> str:
    """Return a p-value with two significant digits."""
    return f"{value:.2g}" if value >= 1e-4 else "< 0.0001"  # noqa: PLR2004


def plain(value: Any) -> str:
    """Return a parameter or a metric as text."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"[{', '.join(map(plain, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@functools.cache
def _template(name: str) -> Template:
    """Return a template whose every expression is escaped for its format, unless it is markup of the template."""
    environment = Environment(
        loader=PackageLoader("digits.review"),
        autoescape=True,  # of what macros return, too
        finalize=escape_html if name.endswith(".html") else escape_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        percent=percent, p_value=p_value, plain=plain, accuracy=accuracy, interval=interval, points=formatting.points
    )
    return environment.get_template(f"{name}.j2")


def _thumbnails(review: Review, images: Images | None) -> dict[int, Markup | None]:
    """Return the images that the page shows, dark on light, as data URLs by index."""
    if images is None:
        return {}
    changes = [side(name)[:MAX_SHOWN] for name in review.verdicts for side in (review.more_wrong, review.less_wrong)]
    shown = {change.index for part in changes for change in part}
    return {index: _data_url(_png(MAX_PIXEL - images[index])) for index in sorted(shown)}


def _png(pixels: Images) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _data_url(png: bytes | None) -> Markup | None:
    return None if png is None else Markup("data:image/png;base64,{}").format(base64.b64encode(png).decode("ascii"))


def _svg(chart: Chart) -> Markup:
    return Markup(vl_convert.vegalite_to_svg(chart.specification))  # noqa: S704  # the converter escapes the data


def _accuracy_charts(review: Review) -> list[AccuracyChart]:
    """Return a chart for each variant whose test accuracy differs at any epoch."""
    charts = []
    for chart in review.charts:
        if chart.name != "accuracy":
            continue
        for variant in review.verdicts:
            base, head = (_test_accuracy(chart, side.name, variant) for side in (review.base, review.head))
            epochs = sorted(base.keys() & head.keys())
            if len(epochs) > 1 and base != head:
                charts.append(AccuracyChart(variant, [base[e] for e in epochs], [head[e] for e in epochs], epochs))
    return charts


def _test_accuracy(chart: Chart, revision: str, variant: str) -> dict[int, float]:
    """Return the test accuracies in a chart's data, in percent, by epoch."""
    return {
        int(row["epoch"]): round(100 * float(row["accuracy"]), 2)
        for row in chart.specification["data"]["values"]
        if row["rev"] == revision and row["variant"] == variant and row["split"] == "test"
    }

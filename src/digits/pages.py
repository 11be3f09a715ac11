"""A review as a page for a browser and as text for a pull request."""

import base64
import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from digits.files import read_arrays, replacing
from digits.review import Chart, Review

SHOWN = 30  # images of a kind and variant; the others are named by index
Images = NDArray[np.uint8]


def write(review: Review, folder: Path, test: Path) -> None:
    """Write `index.html` and `index.md`.

    Args:
        review: the review.
        folder: where they go.
        test: the test images, `test.npz`; where it is not there, or not the one that was evaluated, images are named
            by index.
    """
    images = None
    if test.is_file() and hashlib.md5(test.read_bytes(), usedforsecurity=False).hexdigest() == review.test_md5:
        images = read_arrays(test)["images"]
    for name, text in (("index.html", html(review, images)), ("index.md", markdown(review))):
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def html(review: Review, images: Images | None) -> str:
    """Return a review as one HTML file that needs no network.

    Args:
        review: the review.
        images: the test images, (n, 28, 28); None where they are not at hand, when they are named by index.
    """
    changed = [chart for chart in review.charts if chart.changed]
    unchanged = [chart for chart in review.charts if not chart.changed]
    page: str = _template("review.html").render(
        review=review,
        thumbnails=_thumbnails(review, images),
        shown=SHOWN,
        changed=[(chart, _svg(chart)) for chart in changed],
        unchanged=[(chart, _svg(chart)) for chart in unchanged],
        pictures=[(p.path, _png(p.base), _png(p.head)) for p in review.pictures if p.base != p.head],
        same_pictures=[(p.path, _png(p.head)) for p in review.pictures if p.base == p.head and p.head],
    )
    return page


def markdown(review: Review) -> str:
    """Return a review as Markdown that GitHub shows without hosting an image: tables and Mermaid charts."""
    text: str = _template("review.md").render(review=review, charts=_mermaid(review))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def summary(review: Review) -> str:
    """Return a review in a few lines for a terminal."""
    lines = [f"{review.head.name} against {review.base.name}"]
    for name, verdict in review.verdicts.items():
        before, after = percent(verdict.base.accuracy), percent(verdict.head.accuracy)
        counts = f"{len(verdict.newly_right)} newly right, {len(verdict.newly_wrong)} newly wrong"
        lines.append(f"  {name}: {verdict.word}; {before} to {after}, {counts}, p {p_value(verdict.adjusted)}")
    return "\n".join([*lines, *(f"  note: {note}" for note in review.notes)])


def percent(share: float) -> str:
    """Return a share as a percentage with two places, which no line break tears apart."""
    return f"{share * 100:.2f}\N{NO-BREAK SPACE}%"


def p_value(value: float) -> str:
    """Return a p-value with two significant digits."""
    return f"{value:.2g}" if value >= 1e-4 else "< 0.0001"  # noqa: PLR2004


def plain(value: Any) -> str:
    """Return a parameter or a metric as text."""
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _template(name: str) -> Any:
    environment = Environment(
        loader=PackageLoader("digits"),
        autoescape=name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(percent=percent, p_value=p_value, plain=plain)
    return environment.get_template(f"{name}.j2")


def _thumbnails(review: Review, images: Images | None) -> dict[int, str]:
    """Return the images that a page shows, dark on light as in the figures, by index, as data URLs."""
    if images is None:
        return {}
    verdicts = review.verdicts.values()
    wanted = {index for v in verdicts for index in v.newly_wrong[:SHOWN] + v.newly_right[:SHOWN]}
    return {index: _png(_encoded(255 - images[index])) or "" for index in sorted(wanted)}


def _encoded(pixels: Images) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _png(content: bytes | None) -> str | None:
    return None if content is None else f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"


def _svg(chart: Chart) -> Markup:
    svg = vl_convert.vegalite_to_svg(chart.specification)
    return Markup(svg)  # noqa: S704  # made by the converter, which escapes what stands in the data


def _mermaid(review: Review) -> list[tuple[str, list[float], list[float], list[int]]]:
    """Return name, the base's and the head's test accuracies in percent, and epochs, for each variant that changed."""
    charts = []
    for chart in review.charts:
        if chart.name != "accuracy":
            continue
        for variant in review.verdicts:
            base, head = (_curve(chart.specification, side.name, variant) for side in (review.base, review.head))
            epochs = sorted(base.keys() & head.keys())
            if len(epochs) > 1 and base != head:
                charts.append((variant, [base[e] for e in epochs], [head[e] for e in epochs], epochs))
    return charts


def _curve(specification: Mapping[str, Any], revision: str, variant: str) -> dict[int, float]:
    rows = specification["data"]["values"]
    return {
        int(row["epoch"]): round(100 * float(row["accuracy"]), 2)
        for row in rows
        if row["rev"] == revision and row["variant"] == variant and row["split"] == "test"
    }

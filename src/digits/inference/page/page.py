"""A page that reads drawn digits with the trained models, in the browser alone."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from digits.core import params, paths
from digits.core.artifacts import read_arrays, write_text
from digits.core.errors import UserError
from digits.core.formatting import percent, percent_spread
from digits.core.images import CLASSES
from digits.inference import trained
from digits.inference.ensemble import Convolution, Dense, Floats, Layer, Pool, Scale
from digits.inference.page import weights
from digits.inference.trained import Trained

MAX_BYTES = 4_000_000  # of the page
MISSED = 24  # images in the gallery of a variant
SCRIPTS = ("form.js", "network.js", "weights.js", "picture.js", "page.js")  # in the order in which they run

Images = NDArray[np.uint8]
Labels = NDArray[np.integer]


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        html: Its text.
        differences: The largest difference of a probability of any seed from that of the models, for each variant; by
            the rounding of the weights, on the test images.
    """

    html: str
    differences: dict[str, float]

    @property
    def size(self) -> int:
        """The size in bytes."""
        return len(self.html.encode())


def write(root: Path, names: Sequence[str] = ()) -> Page:
    """Write the page of a repository, and return it.

    Args:
        root: the folder of the repository.
        names: the variants; without a name, all that params.yaml lists.

    Raises:
        UserError: a variant has not been trained, a file is damaged, or the page would be too large.
    """
    wanted = dict.fromkeys(names or params.load(root / paths.PARAMS).variants)
    variants = [trained.load(root, name) for name in wanted]
    test = read_arrays(root / paths.TEST)
    page = build(variants, test["images"], test["labels"])
    if page.size > MAX_BYTES:
        raise UserError(
            f"{paths.PAGE} would have {page.size:,} bytes, and {MAX_BYTES:,} are allowed: name fewer variants, "
            f"as in `digits page {variants[0].ensemble.variant}`"
        )
    write_text(root / paths.PAGE, page.html)
    return page


def build(variants: Sequence[Trained], images: Images, labels: Labels) -> Page:
    """Return the page of trained variants.

    Args:
        variants: the variants, in the order of the choice. The one with the highest validation accuracy comes chosen.
        images: the test images, (n, 28, 28).
        labels: the digits on them, (n,).
    """
    described, galleries, blocks, differences = [], {}, {}, {}
    right = np.ones(len(images), bool)
    for variant in variants:
        name, layers = variant.ensemble.variant, [_layer(layer) for layer in variant.ensemble.networks[0]]
        probabilities = variant.ensemble.probabilities(images)
        rounded, differences[name] = weights.round_weights(variant.ensemble, images, probabilities)
        blocks[f"weights-{name}"] = weights.to_text(weights.pack(rounded))
        described.append(
            {"name": name, "threshold": variant.threshold, "seeds": variant.ensemble.seeds, "layers": layers}
        )
        galleries[name] = _missed(probabilities, labels)
        right &= (probabilities.argmax(axis=2) == labels).all(axis=0)
    examples = _examples(right, labels)
    shown = sorted({image["index"] for gallery in (examples, *galleries.values()) for image in gallery})
    blocks["images"] = weights.to_text(images[shown].tobytes())
    content = {"variants": described, "missed": galleries, "examples": examples, "shown": shown}
    return Page(_render(variants, len(images), content, blocks), differences)


def _render(variants: Sequence[Trained], images: int, content: dict[str, Any], blocks: dict[str, str]) -> str:
    """Return the page.

    Args:
        variants: the variants.
        images: the number of test images.
        content: what the script needs to know.
        blocks: the text of further script elements, by their `id`.
    """
    environment = Environment(
        loader=PackageLoader("digits.inference.page", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, spread=percent_spread)
    assets = files("digits.inference.page")
    style = assets.joinpath("page.css").read_text("utf-8")
    script = "".join(assets.joinpath(name).read_text("utf-8") for name in SCRIPTS)
    return environment.get_template("index.html.j2").render(
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        variants=variants,
        first=max(variants, key=lambda variant: trained.validation_accuracy(variant.metrics)).ensemble.variant,
        images=images,
        content=json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"),
        blocks=blocks,
    )


def _layer(layer: Layer) -> dict[str, Any]:
    """Return what the script needs to know of a layer besides its weights."""
    match layer:
        case Scale():
            return {"kind": "scale", "factor": layer.factor}
        case Convolution():
            return {"kind": "convolution", "shape": layer.kernel.shape, "stride": layer.stride}
        case Pool():
            return {"kind": "pool", "size": layer.size}
        case Dense():
            return {"kind": "dense", "shape": layer.kernel.shape, "relu": layer.relu}


def _examples(right: NDArray[np.bool_], labels: Labels) -> list[dict[str, int]]:
    """Return the first test image of each digit that every seed answers right, if there is one."""
    found = [np.flatnonzero(right & (labels == digit))[:1] for digit in range(CLASSES)]
    return [{"index": int(index), "label": int(labels[index])} for indices in found for index in indices]


def _missed(probabilities: Floats, labels: Labels) -> list[dict[str, int]]:
    """Return the test images that most seeds answer wrong, first those whose label gets the lowest probability."""
    wrong = (probabilities.argmax(axis=2) != labels).sum(axis=0)
    probability = probabilities.mean(axis=0)[np.arange(len(labels)), labels]
    order = np.lexsort((probability, -wrong))[:MISSED]
    return [
        {"index": int(index), "label": int(labels[index]), "wrong": int(wrong[index])}
        for index in order
        if wrong[index]
    ]


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"

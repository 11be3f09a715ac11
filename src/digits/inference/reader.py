"""Read the digits in a picture."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from digits.core.formatting import percent
from digits.data.form import to_mnist_form
from digits.inference.segmentation import Box, Found, find_digits
from digits.inference.trained import Trained

SURE, UNSURE = "#1a7f37", "#c2410c"  # colours of the boxes


@dataclass(frozen=True)
class Digit:
    """A digit that was read.

    Attributes:
        box: Around the digit, in pixels of the picture.
        answer: The most probable digit.
        sure: Whether the model answers, or would rather not say.
        probabilities: (10,), the means over the seeds.
        seed_probabilities: (seeds, 10).
    """

    box: Box
    answer: int
    sure: bool
    probabilities: NDArray[np.floating]
    seed_probabilities: NDArray[np.floating]

    @property
    def text(self) -> str:
        """The answer, or "?" if the model would rather not say."""
        return str(self.answer) if self.sure else "?"

    def __str__(self) -> str:
        """Return the answer and its probability, as in "3 at 99.9 %" or "? (3 at 62.1 %)"."""
        answer = f"{self.answer} at {percent(float(self.probabilities[self.answer]), 1)}"
        return answer if self.sure else f"? ({answer})"

    def as_json(self) -> dict[str, Any]:
        """Return the attributes as values for JSON."""
        return {
            "box": asdict(self.box),
            "answer": self.answer,
            "sure": self.sure,
            "probabilities": self.probabilities.tolist(),
            "seed_probabilities": self.seed_probabilities.tolist(),
        }


def read(picture: Image.Image, trained: Trained) -> list[list[Digit]]:
    """Return the digits of each line of writing, from top to bottom and from left to right.

    Args:
        picture: upright, of any mode that Pillow can convert to grey.
        trained: the variant that answers.

    Raises:
        UserError: there is no digit, or there are too many.
    """
    lines = find_digits(np.asarray(picture.convert("L")))
    return [_read_line(line, trained) for line in lines]


def _read_line(line: Sequence[Found], trained: Trained) -> list[Digit]:
    forms = np.stack([to_mnist_form(found.ink) for found in line])
    seeds = trained.ensemble.probabilities(forms).astype(np.float64).swapaxes(0, 1)  # (digits, seeds, 10)
    digits = []
    for found, each in zip(line, seeds, strict=True):
        mean = each.mean(axis=0)
        answer = int(mean.argmax())
        digits.append(Digit(found.box, answer, trained.is_sure(float(mean[answer])), mean, each))
    return digits


def draw(picture: Image.Image, lines: Sequence[Sequence[Digit]]) -> Image.Image:
    """Return a copy of a picture with a box around each digit and the answer above it: orange if not sure."""
    copy = picture.convert("RGB")
    canvas = ImageDraw.Draw(copy)
    width = max(1, max(copy.size) // 500)
    size = max(12, 12 * width)
    font = ImageFont.load_default(size)
    for digit in (digit for line in lines for digit in line):
        color, box = SURE if digit.sure else UNSURE, digit.box
        edges = (box.left - width, box.top - width, box.right + width - 1, box.bottom + width - 1)
        canvas.rectangle(edges, outline=color, width=width)
        corner = (box.left, max(size, edges[1] - width))
        canvas.text(corner, digit.text, color, font, anchor="lb", stroke_width=width, stroke_fill="white")
    return copy

"""Measure how well and how fast `digits read` reads pictures, and write reading.json beside this file.

    python benchmarks/reading.py
    python benchmarks/reading.py --short      # a few pictures, printed and not written

It needs trained models and `data/processed` (`make repro`), and takes a few minutes on two cores. The pictures are made
of the MNIST test images, enlarged smoothly by a random factor, with noise and a gradient of the light:

    digits      each image at a random place of a sheet; its answer is wrong, too, if not exactly one digit is found
    numbers     four to eight images on a line, two pixels or more apart at the scale of MNIST
    seconds     the process `digits read` with one photo of two megapixels, and the time that each further one adds
"""

import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from common import BENCHMARKS, ROOT, command, load
from numpy.typing import NDArray
from PIL import Image

from digits.core.errors import UserError
from digits.core.images import MAX_PIXEL, SIDE
from digits.inference import reader, trained

SHEET = (480, 640)  # pixels, of a picture with one digit
PHOTO = (1224, 1632)  # pixels: two megapixels
NUMBERS, SHORT = 1000, 20  # pictures
ROUNDS = 5  # of a measurement of time, of which the median counts
MORE = 10  # photos

Floats = NDArray[np.floating]


def enlarged(ink: NDArray[np.uint8], factor: float) -> Floats:
    """Return an image enlarged by bicubic interpolation, from 0 for paper to 1 for ink."""
    height, width = (round(side * factor) for side in ink.shape)
    resized = Image.fromarray(ink).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float64) / MAX_PIXEL


def picture(ink: Floats, shape: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """Return a sheet with ink at a random place, in uneven light and with noise."""
    (height, width), (down, right) = ink.shape, random.uniform(-0.1, 0.1, 2)
    top, left = (random.integers(0, side - used + 1) for side, used in zip(shape, ink.shape, strict=True))
    light = 0.85 + np.add.outer(down * np.linspace(-0.5, 0.5, shape[0]), right * np.linspace(-0.5, 0.5, shape[1]))
    light[top : top + height, left : left + width] *= 1 - random.uniform(0.6, 0.95) * ink
    light += random.normal(0, 0.02, shape)
    return Image.fromarray((light.clip(0, 1) * MAX_PIXEL).astype(np.uint8)).convert("RGB")


def number_line(images: Iterable[NDArray[np.uint8]], random: np.random.Generator) -> NDArray[np.uint8]:
    """Return images side by side, at different heights, with 2 to 12 pixels between the boxes around their ink."""
    line = np.zeros((SIDE + 8, 0), np.uint8)
    for image in images:
        columns = np.flatnonzero(image.any(axis=0))
        above, gap = int(random.integers(0, 9)), int(random.integers(2, 13))
        digit = np.pad(image[:, columns[0] : columns[-1] + 1], ((above, 8 - above), (gap, 0)))
        line = np.hstack([line, digit])
    return np.pad(line, ((0, 0), (0, 12)))


@cache
def loaded() -> tuple[trained.Trained, NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the model, and the test images and labels."""
    return trained.load(ROOT), *load("test")


def read(sheet: Image.Image) -> list[reader.Digit]:
    """Return the digits that are read; an empty list if there are none."""
    try:
        return [digit for line in reader.read(sheet, loaded()[0]) for digit in line]
    except UserError:
        return []


def read_digit(index: int) -> int | None:
    """Return what is read on a sheet with one test image, or None if it is not exactly one digit."""
    random = np.random.default_rng([0, index])
    digits = read(picture(enlarged(loaded()[1][index], random.uniform(4, 12)), SHEET, random))
    return digits[0].answer if len(digits) == 1 else None


def read_number(index: int) -> tuple[list[int], list[int], bool]:
    """Return the digits of a number, those that are read, and whether the model is sure of all of them."""
    _, images, labels = loaded()
    random = np.random.default_rng([0, len(images), index])
    chosen = random.choice(len(images), random.integers(4, 9), replace=False)
    ink = enlarged(number_line(images[chosen], random), random.uniform(2, 6))
    height, width = ink.shape
    digits = read(picture(ink, (height + 100, width + 100), random))
    return labels[chosen].tolist(), [digit.answer for digit in digits], all(digit.sure for digit in digits)


def seconds(photos: int, rounds: int) -> float:
    """Return the median time of a process that reads photos of a sheet with twelve digits on two lines."""
    random = np.random.default_rng(0)
    lines = [number_line(loaded()[1][start : start + 6], random) for start in (0, 6)]
    width = max(line.shape[1] for line in lines)
    ink = np.vstack([np.pad(line, ((0, 8), (0, width - line.shape[1]))) for line in lines])
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        picture(enlarged(ink, 6), PHOTO, random).save(photo, quality=90)
        words = [str(Path(sys.executable).parent / "digits"), "read", *[str(photo)] * photos]
        run = partial(subprocess.run, words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return statistics.median(timeit.repeat(run, number=1, repeat=rounds))


def results(*, short: bool) -> dict[str, Any]:
    """Measure everything."""
    model, images, labels = loaded()
    with multiprocessing.get_context("fork").Pool() as pool:  # the processes share the model and the images
        digits = pool.map(read_digit, range(SHORT if short else len(images)), chunksize=100)
        numbers = pool.map(read_number, range(SHORT if short else NUMBERS), chunksize=10)
    answers = model.ensemble.probabilities(images).mean(axis=0).argmax(axis=1)
    whole, sure = np.array([(truth == answer, is_sure) for truth, answer, is_sure in numbers]).T
    one, more = (seconds(photos, 1 if short else ROUNDS) for photos in (1, 1 + MORE))
    return {
        "variant": model.ensemble.variant,
        "digits": {
            "pictures": len(digits),
            "accuracy": float(np.mean([digit == label for digit, label in zip(digits, labels, strict=False)])),
            "accuracy_on_arrays": float(np.mean(answers == labels)),
            "not_one_digit": digits.count(None),
        },
        "numbers": {
            "pictures": len(numbers),
            "whole": float(whole.mean()),
            "whole_and_sure": float((whole & sure).mean()),
            "sure_but_wrong": float((sure & ~whole).mean()),
            "wrong_count": float(np.mean([len(truth) != len(answer) for truth, answer, _ in numbers])),
        },
        "seconds": {"one_photo": one, "each_further_photo": (more - one) / MORE},
    }


if __name__ == "__main__":
    command(__doc__, results, BENCHMARKS / "reading.json")

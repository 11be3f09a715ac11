"""Measure how well and how fast `digits read` reads pictures, and write reading.json beside this file.

    python benchmarks/reading.py

It needs trained models and `data/processed` (`make repro`), and takes a few minutes on two cores. The pictures are made
of the MNIST test images, enlarged smoothly by a random factor, with noise and a gradient of the light:

    digits      each image at a random place of a sheet; its answer is wrong, too, if not exactly one digit is found
    numbers     four to eight images on a line, two pixels or more apart at the scale of MNIST
    seconds     the process `digits read` with one photo of two megapixels, and the time that each further one adds
"""

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT, load
from numpy.typing import NDArray
from PIL import Image
from run import commit, machine, versions

from digits.core.artifacts import write_json
from digits.core.errors import UserError
from digits.core.images import MAX_PIXEL, SIDE
from digits.inference import reader, trained

RESULTS = ROOT / "benchmarks/reading.json"
SHEET = (480, 640)  # pixels, of a picture with one digit
PHOTO = (1224, 1632)  # pixels: two megapixels
NUMBERS = 1000
ROUNDS = 5  # of a measurement of time, of which the median counts

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


def number_line(images: Sequence[NDArray[np.uint8]], random: np.random.Generator) -> NDArray[np.uint8]:
    """Return images side by side, at different heights, with 2 to 12 pixels between the boxes around their ink."""
    line = np.zeros((SIDE + 8, 0), np.uint8)
    for image in images:
        columns = np.flatnonzero(image.any(axis=0))
        above, gap = int(random.integers(0, 9)), int(random.integers(2, 13))
        digit = np.pad(image[:, columns[0] : columns[-1] + 1], ((above, 8 - above), (gap, 0)))
        line = np.hstack([line, digit])
    return np.pad(line, ((0, 0), (0, 12)))


def read_digit(index: int, seed: int) -> int | None:
    """Return what is read on a sheet with one test image, or None if it is not exactly one digit."""
    random = np.random.default_rng([seed, index])
    sheet = picture(enlarged(IMAGES[index], random.uniform(4, 12)), SHEET, random)
    digits = _read(sheet)
    return digits[0].answer if len(digits) == 1 else None


def read_number(index: int, seed: int) -> tuple[list[int], list[int], bool]:
    """Return the digits of a number, those that are read, and whether the model is sure of all of them."""
    random = np.random.default_rng([seed, len(IMAGES), index])
    chosen = random.choice(len(IMAGES), random.integers(4, 9), replace=False)
    ink = enlarged(number_line([IMAGES[each] for each in chosen], random), random.uniform(2, 6))
    height, width = ink.shape
    digits = _read(picture(ink, (height + 100, width + 100), random))
    return LABELS[chosen].tolist(), [digit.answer for digit in digits], all(digit.sure for digit in digits)


def _read(sheet: Image.Image) -> list[reader.Digit]:
    try:
        return [digit for line in reader.read(sheet, MODEL) for digit in line]
    except UserError:
        return []


def seconds(files: int) -> float:
    """Return the median time of a process that reads photos of a sheet with twelve digits on two lines."""
    random = np.random.default_rng(0)
    lines = [number_line([IMAGES[6 * row + column] for column in range(6)], random) for row in range(2)]
    width = max(line.shape[1] for line in lines)
    ink = np.vstack([np.pad(line, ((0, 8), (0, width - line.shape[1]))) for line in lines])
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        picture(enlarged(ink, 6), PHOTO, random).save(photo, quality=90)
        command = [str(Path(sys.executable).parent / "digits"), "read", *[str(photo)] * files]
        return float(np.median([_time(command) for _ in range(ROUNDS)]))


def _time(command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def results(seed: int) -> dict[str, Any]:
    """Measure everything."""
    with multiprocessing.get_context("fork").Pool() as pool:  # the processes share the model and the images
        digits = pool.map(partial(read_digit, seed=seed), range(len(IMAGES)), chunksize=100)
        numbers = pool.map(partial(read_number, seed=seed), range(NUMBERS), chunksize=10)
    answers = MODEL.ensemble.probabilities(IMAGES).mean(axis=0).argmax(axis=1)
    whole = [sure for truth, answer, sure in numbers if truth == answer]
    one = seconds(1)
    return {
        "variant": MODEL.ensemble.variant,
        "seed": seed,
        "digits": {
            "pictures": len(digits),
            "accuracy": float(np.mean([digit == label for digit, label in zip(digits, LABELS, strict=True)])),
            "accuracy_on_arrays": float(np.mean(answers == LABELS)),
            "not_one_digit": digits.count(None),
        },
        "numbers": {
            "pictures": len(numbers),
            "whole": len(whole) / len(numbers),
            "whole_and_sure": sum(whole) / len(numbers),
            "sure_but_wrong": sum(sure and truth != answer for truth, answer, sure in numbers) / len(numbers),
            "wrong_count": sum(len(truth) != len(answer) for truth, answer, _ in numbers) / len(numbers),
        },
        "seconds": {"one_photo": one, "each_further_photo": (seconds(11) - one) / 10},
    }


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the pictures (default: 0)")
    found = results(parser.parse_args().seed)
    found["provenance"] = {"commit": commit(), "machine": machine(), "versions": versions()}
    write_json(RESULTS, found)
    print(found)


if __name__ == "__main__":
    try:
        MODEL = trained.load(ROOT)
        IMAGES, LABELS = load("test")
        main()
    except UserError as error:
        sys.exit(f"reading: {error}")

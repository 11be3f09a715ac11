"""Finding digits: shapes in the place of digits, drawn with a pen."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from digits.core.errors import UserError
from digits.inference.segmentation import MAX_DIGITS, Found, find_digits

Grey = NDArray[np.uint8]
Point = tuple[float, float]

# In a square of side 1, from the top left.
SHAPES: dict[str, list[list[Point]]] = {
    "0": [[(0.1, 0.5), (0.2, 0.1), (0.4, 0), (0.6, 0.1), (0.7, 0.5), (0.6, 0.9), (0.4, 1), (0.2, 0.9), (0.1, 0.5)]],
    "1": [[(0.2, 0), (0.2, 1)]],
    "2": [[(0, 0.1), (0.4, 0), (0.6, 0.2), (0, 1), (0.6, 1)]],
    "4": [[(0.4, 0), (0, 0.6), (0.6, 0.6)], [(0.45, 0.3), (0.45, 1)]],
    "5": [[(0.1, 0.1), (0.1, 0.5), (0.5, 0.5), (0.6, 0.7), (0.4, 1), (0, 0.9)], [(0.22, -0.08), (0.6, -0.1)]],
    "7": [[(0, 0), (0.6, 0), (0.2, 1)]],
    "-": [[(0, 0.5), (0.5, 0.5)]],
    ".": [[(0.02, 1), (0.05, 1)]],
}


class Sheet:
    """Writing on a sheet of paper, light grey from 0 to 255."""

    def __init__(self, height: int = 300, width: int = 600, paper: int = 230) -> None:
        self.paper = paper
        self.image = Image.new("L", (width, height), paper)
        self.canvas = ImageDraw.Draw(self.image)
        self.random = np.random.default_rng(0)

    def line(self, *points: Point, ink: int = 40, pen: int = 6) -> None:
        self.canvas.line(points, ink, pen, joint="curve")

    def write(self, text: str, left: float, top: float, size: float = 60, pen: int = 6, ink: int = 40) -> "Sheet":
        for sign in text:
            for stroke in SHAPES.get(sign, []):
                self.line(*[(left + x * size, top + y * size) for x, y in stroke], ink=ink, pen=pen)
            left += size * (0.5 if sign == "1" else 0.9)
        return self

    def grey(self, angle: float = 0, noise: float = 3) -> Grey:
        """Return the pixels of a photo, tilted anticlockwise by an angle in degrees."""
        turned = self.image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=self.paper)
        values = np.asarray(turned.filter(ImageFilter.GaussianBlur(0.7)), float)
        return (values + self.random.normal(0, noise, values.shape)).clip(0, 255).astype(np.uint8)


def counts(grey: Grey) -> list[int]:
    """Return the number of digits in each line."""
    return [len(line) for line in find_digits(grey)]


def edges(found: Found) -> tuple[int, int, int, int]:
    return found.box.left, found.box.top, found.box.right, found.box.bottom


def test_a_box_is_around_its_digit() -> None:
    sheet = Sheet()
    sheet.canvas.rectangle((100, 80, 119, 139), 40)
    sheet.canvas.rectangle((200, 90, 229, 149), 40)
    ((first, second),) = find_digits(sheet.grey())
    assert np.abs(np.subtract(edges(first), (100, 80, 120, 140))).max() <= 2
    assert np.abs(np.subtract(edges(second), (200, 90, 230, 150))).max() <= 2
    assert abs(np.sum(first.ink > 1 / 2) - 20 * 60) < 60


@pytest.mark.parametrize("ink", [40, 170])
def test_ink_is_scaled_to_one(ink: int) -> None:
    ((found,),) = find_digits(Sheet().write("2", 100, 100, ink=ink).grey())
    assert 0.9 < np.percentile(found.ink[found.ink > 0], 75) <= 1
    assert found.ink.min() == 0


def test_lines_are_read_from_top_to_bottom_and_from_left_to_right() -> None:
    sheet = Sheet().write("27", 300, 40).write("1014", 60, 190)
    lines = find_digits(sheet.grey())
    assert [len(line) for line in lines] == [2, 4]
    for line in lines:
        assert [digit.box.left for digit in line] == sorted(digit.box.left for digit in line)
    assert all(digit.box.bottom < 150 for digit in lines[0])


@pytest.mark.parametrize("angle", [-10, 4])
def test_tilted_lines_are_kept_apart(angle: float) -> None:
    sheet = Sheet(500, 1000).write("2701 420", 200, 150).write("4270 712", 200, 250).write("140", 230, 350)
    assert counts(sheet.grey(angle)) == [7, 7, 3]


def test_a_tilted_digit_is_turned_upright() -> None:
    sheet = Sheet(500, 1000).write("2701420", 200, 200)
    ((*_, tilted, _, _),), ((*_, upright, _, _),) = find_digits(sheet.grey(-9)), find_digits(sheet.grey())
    assert abs(tilted.ink.shape[1] / tilted.ink.shape[0] - 1) < 0.8
    columns = [np.flatnonzero(found.ink.sum(axis=0) > 3) for found in (tilted, upright)]
    assert abs(len(columns[0]) - len(columns[1])) <= 4


def light_on_dark(grey: Grey) -> Grey:
    return 255 - grey


def gradient(grey: Grey) -> Grey:
    light = np.add.outer(np.linspace(1, 0.7, grey.shape[0]), np.linspace(0, -0.4, grey.shape[1]))
    return (grey * light).astype(np.uint8)


def shadow(grey: Grey) -> Grey:
    mask = Image.new("L", grey.shape[::-1], 255)
    ImageDraw.Draw(mask).polygon([(0, 0), (320, 0), (220, 300), (0, 300)], 130)
    return (grey * (np.asarray(mask.filter(ImageFilter.GaussianBlur(5)), float) / 255)).astype(np.uint8)


def specks(grey: Grey) -> Grey:
    grey = grey.copy()
    for row, column in np.random.default_rng(1).integers(0, (297, 597), (40, 2)):
        grey[row : row + 3, column : column + 3] = 60
    return grey


def margins_of_a_table(grey: Grey) -> Grey:
    grey = grey.copy()
    grey[:, :25] = 40
    grey[-20:] = 60
    return grey


def enlarged(grey: Grey) -> Grey:
    return np.asarray(Image.fromarray(grey).resize((3000, 1500), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("change", [light_on_dark, gradient, shadow, specks, margins_of_a_table, enlarged])
def test_the_surroundings_do_not_matter(change: Callable[[Grey], Grey]) -> None:
    grey = Sheet().write("270140", 100, 120).grey()
    plain, changed = find_digits(grey), find_digits(change(grey))
    assert [len(line) for line in plain] == [len(line) for line in changed] == [6]
    factor = 5 if change is enlarged else 1
    for digit, other in zip(plain[0], changed[0], strict=True):
        assert np.abs(np.subtract(edges(digit), np.divide(edges(other), factor))).max() <= 4


@pytest.mark.parametrize(("kind", "angle"), [("faint", 3), ("dark", -8), ("squared", 0)])
def test_ruling_is_no_ink(kind: str, angle: float) -> None:
    sheet, ink = Sheet(600, 900), 190 if kind == "faint" else 110
    for y in range(0, 600, 40):
        sheet.line((-100, y), (999, y), ink=ink, pen=2)
    for x in range(0, 900 if kind == "squared" else 0, 40):
        sheet.line((x, 0), (x, 600), ink=ink, pen=2)
    sheet.write("2704", 250, 205, 70, pen=8).write("142", 250, 325, 70, pen=8)
    assert counts(sheet.grey(angle)) == [4, 3]


def test_a_detached_bar_belongs_to_its_digit() -> None:
    ((first, five, last),) = find_digits(Sheet().write("252", 100, 120).grey())
    assert five.box.top < first.box.top
    assert five.box.top < last.box.top


def boxes(*edges: tuple[float, ...], **style: int) -> Sheet:
    sheet = Sheet().write("2", 100, 220).write("7", 200, 220) if style else Sheet()
    for each in edges:
        sheet.canvas.rectangle(each, **(style or {"fill": 40}))
    return sheet


def many(rows: int) -> Sheet:
    sheet = Sheet(42 * rows + 50, 1000)
    for row in range(rows):
        sheet.write("270140270140270140270140", 30, 30 + 42 * row, 25, pen=3)
    return sheet


COUNTS = {
    "signs are no digits": (Sheet().write("2-7.4", 100, 120), [3]),
    "unequal sizes": (Sheet().write("2", 50, 100, 80).write("0", 140, 95, 40).write("7", 200, 140, 50), [3]),
    "one that is small": (Sheet().write("1", 100, 25, 20, pen=3), [1]),
    "one that is large": (Sheet().write("7", 100, 25, 250, pen=25), [1]),
    "narrow gaps": (boxes(*[(100 + 28 * index, 100, 121 + 28 * index, 160) for index in range(5)]), [5]),
    "frames": (boxes((80, 200, 160, 299), (180, 200, 260, 299), outline=40, width=3), [2]),
    "as many as are read": (many(8), [24] * 8),
}


@pytest.mark.parametrize("name", COUNTS)
def test_digits_are_counted(name: str) -> None:
    sheet, expected = COUNTS[name]
    assert counts(sheet.grey()) == expected


def noise(strength: float) -> Grey:
    return np.random.default_rng(0).normal(128, strength, (600, 800)).clip(0, 255).astype(np.uint8)


def ruled() -> Grey:
    sheet = Sheet(600, 900)
    for y in range(20, 600, 40):
        sheet.line((0, y), (900, y), ink=150, pen=2)
    return sheet.grey(2)


@pytest.mark.parametrize(
    "grey",
    [
        light_on_dark(Sheet().grey()),
        shadow(Sheet().grey()),
        gradient(Sheet().grey()),
        noise(3),
        noise(60),
        ruled(),
        np.zeros((1, 1), np.uint8),
        np.zeros((3, 3000), np.uint8),
    ],
)
def test_an_empty_sheet(grey: Grey) -> None:
    with pytest.raises(UserError, match="no digit found: write larger"):
        find_digits(grey)


def test_a_page_of_text() -> None:
    with pytest.raises(UserError, match=rf"^\d+ signs found, but at most {MAX_DIGITS} digits are read: cut out"):
        find_digits(many(13).grey())

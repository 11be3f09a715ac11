"""Pictures of all kinds, and files that are none."""

import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digits.core.errors import UserError
from digits.inference.pictures import open_picture


@pytest.fixture
def sheet() -> Image.Image:
    """A white sheet of 40x20 pixels with a black corner at the top left."""
    image = Image.new("RGB", (40, 20), "white")
    image.paste("black", (0, 0, 8, 8))
    return image


def is_sheet(image: Image.Image, tolerance: int = 2) -> bool:
    """Return whether a picture is that sheet."""
    pixels = np.asarray(image, int)
    expected = np.full((20, 40, 3), 255)
    expected[:8, :8] = 0
    return image.mode == "RGB" and pixels.shape == expected.shape and bool(abs(pixels - expected).max() <= tolerance)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tiff"])
def test_all_formats(tmp_path: Path, sheet: Image.Image, name: str) -> None:
    sheet.save(tmp_path / name, quality=100)
    assert is_sheet(open_picture(str(tmp_path / name)), tolerance=60)


def test_a_picture_becomes_upright(tmp_path: Path, sheet: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    sheet.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    assert is_sheet(open_picture(str(tmp_path / "a.png")))


def grey16(sheet: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(sheet.convert("L")).astype(np.uint16) * 16)  # twelve bits of the sixteen


def floats(sheet: Image.Image) -> Image.Image:
    values = np.asarray(sheet.convert("L")).astype(np.float32) / 255
    values[0, 0] = np.nan
    return Image.fromarray(values)


def transparent_paper(sheet: Image.Image) -> Image.Image:
    ink = Image.new("RGBA", sheet.size, (0, 0, 0, 0))
    ink.paste("black", (0, 0, 8, 8))
    return ink


def transparent_corner(sheet: Image.Image) -> Image.Image:
    """A sheet whose lower right corner is transparent, and black where nobody sees it."""
    image = sheet.convert("RGBA")
    image.paste((0, 0, 0, 0), (30, 10, 40, 20))
    return image


@pytest.mark.parametrize(
    "change",
    [
        transparent_paper,
        transparent_corner,
        grey16,
        floats,
        lambda sheet: sheet.convert("CMYK"),
    ],
)
def test_all_modes(tmp_path: Path, sheet: Image.Image, change: Callable[[Image.Image], Image.Image]) -> None:
    changed = change(sheet)
    path = tmp_path / ("a.tiff" if changed.mode in ("F", "I", "CMYK") else "a.png")
    changed.save(path)
    assert is_sheet(open_picture(str(path)))


def test_light_ink_on_transparent_paper_is_laid_on_black(tmp_path: Path) -> None:
    ink = Image.new("RGBA", (40, 20), (255, 255, 255, 0))
    ink.paste("white", (0, 0, 8, 8))
    ink.save(tmp_path / "a.png")
    pixels = np.asarray(open_picture(str(tmp_path / "a.png")))
    assert (pixels[:8, :8] == 255).all()
    assert pixels.sum() == 8 * 8 * 3 * 255


def test_standard_input(monkeypatch: pytest.MonkeyPatch, sheet: Image.Image) -> None:
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(buffer.getvalue())))
    assert is_sheet(open_picture("-"))


def png_header(width: int, height: int) -> bytes:
    """Return the start of a PNG file, which says its size and has no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return start + struct.pack(">I", 1000) + b"IDAT"


def jpeg(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 50).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"not a PNG, JPEG, WebP or TIFF picture: convert it to one of these"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"not a PNG"),
        (png_header(20_000, 20_000), r"more than 89 megapixels, which is the limit: make the picture smaller"),
        (png_header(10_000, 10_000), r"more than 89 megapixels"),
        (png_header(100, 100), r"cannot be read \(.+\): check the path, or copy the file again"),
        (jpeg((300, 300))[:9000], r"cannot be read \(image file is truncated"),
    ],
)
def test_a_file_that_is_no_picture(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        open_picture(str(tmp_path / "a.png"))
    assert "\n" not in str(error.value)


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        open_picture(str(tmp_path))
